// describe: everything about one job, for people; one document for programs.
#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/fact_sheet.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/log_text.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string job;
};

constexpr size_t kShownCheckpoints = 5;
constexpr int kBarWidth = 30;

struct Facts {
  v1::Job job;
  std::vector<v1::Checkpoint> checkpoints;  // Newest first.
  std::vector<v1::Event> events;            // Oldest first.
  std::vector<v1::StorageRoot> roots;
};

absl::StatusOr<Facts> Gather(Context& context, const std::string& ref) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  Facts facts;
  P2_ASSIGN_OR_RETURN(facts.job, context.ResolveJob(ref));
  v1::ListCheckpointsRequest checkpoints;
  checkpoints.set_parent(facts.job.name());
  P2_ASSIGN_OR_RETURN(
      Page<v1::Checkpoint> checkpoint_page,
      CollectPages(*client, &Client::ListCheckpoints, &v1::ListCheckpointsResponse::checkpoints, checkpoints));
  facts.checkpoints = std::move(checkpoint_page.items);
  v1::ListEventsRequest events;
  events.set_resource(facts.job.name());
  P2_ASSIGN_OR_RETURN(Page<v1::Event> event_page,
                      CollectPages(*client, &Client::ListEvents, &v1::ListEventsResponse::events, events));
  facts.events = std::move(event_page.items);
  P2_ASSIGN_OR_RETURN(Page<v1::StorageRoot> root_page,
                      CollectPages(*client, &Client::ListRoots, &v1::ListRootsResponse::roots, v1::ListRootsRequest()));
  facts.roots = std::move(root_page.items);
  return facts;
}

std::string PlacementText(const v1::Attempt& attempt) {
  return absl::StrJoin(attempt.ranks(), ", ", [](std::string* out, const v1::RankPlacement& rank) {
    absl::StrAppend(out, rank.rank(), ":", IdOf(rank.worker()), "/", rank.slot());
  });
}

std::string AttemptsText(const v1::Job& job, const TableStyle& style) {
  std::vector<std::vector<TableCell>> rows;
  for (const v1::Attempt& attempt : job.attempts()) {
    const absl::Time end = attempt.has_end_time() ? ToTime(attempt.end_time()) : absl::Now();
    const std::string outcome = v1::Attempt::Outcome_Name(attempt.outcome());
    rows.push_back(
        {{absl::StrCat(attempt.number())},
         {absl::StrCat(attempt.epoch())},
         {outcome, attempt.outcome() == v1::Attempt::FAILED ? "red" : ""},
         {attempt.reason() == v1::STATUS_REASON_UNSPECIFIED ? "" : v1::StatusReason_Name(attempt.reason())},
         {attempt.has_exit_code() ? absl::StrCat(attempt.exit_code()) : ""},
         {FormatLocalTime(attempt.start_time())},
         {attempt.has_start_time() ? FormatShortDuration(end - ToTime(attempt.start_time())) : ""},
         {absl::StrCat(FormatCount(attempt.start_images_seen()), " to ", FormatCount(attempt.end_images_seen()))},
         {IdOf(attempt.resumed_from())},
         {PlacementText(attempt)}});
  }
  return Section("Attempts (ranks as rank:worker/slot)",
                 {{.title = "#", .right = true},
                  {.title = "EPOCH", .right = true, .optional = true},
                  {.title = "OUTCOME"},
                  {.title = "REASON"},
                  {.title = "EXIT", .right = true},
                  {.title = "STARTED", .optional = true},
                  {.title = "TOOK", .right = true},
                  {.title = "IMAGES"},
                  {.title = "RESUMED FROM", .optional = true},
                  {.title = "RANKS", .wrap = true}},
                 rows, style);
}

std::string ErrorsText(const v1::Job& job) {
  std::string text;
  for (int i = 0; i < job.attempts_size(); ++i) {
    const v1::Attempt& attempt = job.attempts(i);
    if (attempt.message().empty() || attempt.outcome() == v1::Attempt::SUCCEEDED ||
        attempt.outcome() == v1::Attempt::LIVE)
      continue;
    const std::pair<absl::string_view, absl::string_view> what =
        absl::StrSplit(attempt.message(), absl::MaxSplits('\n', 1));
    absl::string_view log_tail = what.second;
    // Of the attempt that a job FAILED with the job itself keeps more.
    if (job.state() == v1::Job::FAILED && i + 1 == job.attempts_size()) {
      const std::pair<absl::string_view, absl::string_view> job_what =
          absl::StrSplit(job.message(), absl::MaxSplits('\n', 1));
      if (!job_what.second.empty()) log_tail = job_what.second;
    }
    absl::StrAppend(&text, "\n  attempt ", attempt.number(), ": ", what.first);
    for (const std::string& line : TellingLines(log_tail)) absl::StrAppend(&text, "\n    ", line);
  }
  return text.empty() ? "" : absl::StrCat("\nLast errors:", text, "\n");
}

std::string CheckpointsText(const Facts& facts, const TableStyle& style) {
  std::vector<std::vector<TableCell>> rows;
  for (const v1::Checkpoint& checkpoint : facts.checkpoints) {
    if (rows.size() == kShownCheckpoints) break;
    rows.push_back({{IdOf(checkpoint.name())},
                    {v1::Checkpoint::State_Name(checkpoint.state())},
                    {FormatCount(checkpoint.images_seen())},
                    {FormatBytes(checkpoint.size_bytes())},
                    {checkpoint.pinned() ? "yes" : "no"},
                    {FormatLocalTime(checkpoint.create_time())},
                    {absl::StrCat(checkpoint.root(), ":", checkpoint.path())}});
  }
  return Section(absl::StrCat("Checkpoints (", std::min(kShownCheckpoints, facts.checkpoints.size()), " newest of ",
                              facts.checkpoints.size(), ")"),
                 {{.title = "ID"},
                  {.title = "STATE"},
                  {.title = "IMAGES", .right = true},
                  {.title = "SIZE", .right = true},
                  {.title = "PINNED", .optional = true},
                  {.title = "CREATED", .optional = true},
                  {.title = "WHERE", .wrap = true}},
                 rows, style);
}

// A root that one worker alone sees pins restarts to it.
std::string BoundText(const Facts& facts) {
  const std::string root = !facts.job.spec().checkpoint().root().empty() ? facts.job.spec().checkpoint().root()
                           : !facts.checkpoints.empty()                  ? facts.checkpoints.front().root()
                                                                         : "";
  for (const v1::StorageRoot& seen : facts.roots) {
    if (seen.name() == root && seen.workers_size() == 1) {
      return absl::StrCat("root ", root, " is seen by worker ", IdOf(seen.workers(0)), " alone; restarts happen there");
    }
  }
  return "";
}

std::string SourceText(const v1::JobSource& source) {
  if (source.root().empty()) return "";
  if (source.checkpoint().empty()) return absl::StrCat(source.root(), ":", source.path());
  return absl::StrCat(source.checkpoint(), " (", FormatCount(source.images_seen()), " images)");
}

// "8 cuda", "2 to 8 cuda (elastic), holds 4"; other than the spec says after `resume --devices`.
std::string DevicesText(const v1::Job& job) {
  const v1::ResourceSpec& resources = job.spec().resources();
  const bool elastic = resources.min_devices() > 0;
  return absl::StrCat(elastic ? absl::StrCat(resources.min_devices(), " to ") : "", resources.devices(),
                      resources.kind().empty() ? "" : " ", resources.kind(), elastic ? " (elastic)" : "",
                      job.devices_held() > 0 && (elastic || job.devices_held() != resources.devices())
                          ? absl::StrCat(", holds ", job.devices_held())
                          : "");
}

// "fork of ffhq-abcde at 000000400000-e1".
std::string LineageText(const v1::Lineage& lineage) {
  if (lineage.job().empty()) return "";
  const std::string kind = absl::AsciiStrToLower(v1::Lineage::Kind_Name(lineage.kind()));
  return absl::StrCat(lineage.kind() == v1::Lineage::EXTEND ? "extension" : kind, " of ", IdOf(lineage.job()),
                      lineage.checkpoint().empty() ? "" : absl::StrCat(" at ", IdOf(lineage.checkpoint())));
}

std::string HeadText(const Facts& facts, const TableStyle& style) {
  const v1::Job& job = facts.job;
  const v1::JobProgress& progress = job.progress();
  std::string out;
  const auto line = [&](absl::string_view key, absl::string_view value) {
    absl::StrAppend(&out, FactLine(key, value, style));
  };
  line("Job", IdOf(job.name()));
  line("State", StateText(job));
  if (job.has_not_before() && job.state() == v1::Job::QUEUED) line("Not before", FormatLocalTime(job.not_before()));
  line("Task", TaskText(job));
  line("Starts from", SourceText(job.source()));
  line("Output", job.output());
  const double fraction = progress.images_total() > 0 ? static_cast<double>(progress.images_seen()) /
                                                            static_cast<double>(progress.images_total())
                                                      : 0;
  if (progress.images_total() > 0) {
    line("Progress",
         absl::StrCat("[", Bar(fraction, kBarWidth), "] ", static_cast<int>(100 * fraction), "%  ",
                      FormatCount(progress.images_seen()), " of ", FormatCount(progress.images_total()), " images"));
  }
  if (job.state() == v1::Job::RUNNING && progress.images_total() > 0) {
    line("Rate", absl::StrCat(FormatRate(progress.images_per_second()), " images/s",
                              progress.has_eta_seconds()
                                  ? absl::StrCat(", ETA ", FormatShortDuration(absl::Seconds(progress.eta_seconds())))
                                  : "",
                              progress.phase().empty() ? "" : absl::StrCat(" (", progress.phase(), ")")));
  }
  if (progress.has_loss()) line("Loss", FormatNumber(progress.loss()));
  line("Preset", job.preset());
  if (!job.has_task()) line("Dataset", job.spec().data().dataset());
  line("Devices", DevicesText(job));
  line("Priority", absl::StrCat(job.priority()));
  line("Queue", IdOf(job.queue()));
  line("Project", job.project());
  line("Owner", job.owner().empty() ? "" : absl::StrCat(job.owner(), job.owner_verified() ? "" : " (unverified)"));
  std::map<std::string, std::string> labels(job.labels().begin(), job.labels().end());
  line("Labels", absl::StrJoin(labels, ", ", absl::PairFormatter("=")));
  line("Note", job.note());
  line("Made from", LineageText(job.lineage()));
  line("Created", FormatLocalTime(job.create_time()));
  line("Started", FormatLocalTime(job.start_time()));
  line("Ended", FormatLocalTime(job.end_time()));
  line("Restarts", absl::StrCat(std::min(job.restarts_used(), job.spec().restart().budget()), " of ",
                                job.spec().restart().budget(), " used since the last progress"));
  if (job.preemptions() > 0)
    line("Preempted", absl::StrCat(job.preemptions(), job.preemptions() == 1 ? " time" : " times"));
  line("Checkpoint", IdOf(job.latest_checkpoint()));
  line("Bound", BoundText(facts));
  return out;
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(const Facts facts, Gather(context, options.job));
  if (!context.ForPeople()) {
    Json json;
    json["job"] = ToJson(facts.job);
    json["checkpoints"] = Json::array();
    for (const v1::Checkpoint& checkpoint : facts.checkpoints) json["checkpoints"].push_back(ToJson(checkpoint));
    json["events"] = Json::array();
    for (const v1::Event& event : facts.events) json["events"].push_back(ToJson(event));
    Listing listing({{.name = "id"}, {.name = "state"}});
    listing.Add(std::move(json), IdOf(facts.job.name()),
                {IdOf(facts.job.name()), v1::Job::State_Name(facts.job.state())});
    P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
    return kOk;
  }
  const TableStyle& style = context.style().table;
  context.PrintText(absl::StrCat(HeadText(facts, style), AttemptsText(facts.job, style), CheckpointsText(facts, style),
                                 "\nSpec (sha256 ", facts.job.spec_sha256().substr(0, 12), "):\n",
                                 SpecText(facts.job.spec(), facts.job.spec_origins(), style),
                                 EventsSection(facts.events, style), ErrorsText(facts.job)));
  return kOk;
}

}  // namespace

void AddDescribe(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(app, context, "describe",
              "Everything about a job: progress, attempts, checkpoints, spec with origins, events, errors",
              "  p2ctl describe mnist-demo-abcde\n  p2ctl describe mnist-demo-abcde -o json", options, Run);
  verb->add_option("JOB", options->job, "ID, or a unique prefix")->required();
}

}  // namespace p2::ctl

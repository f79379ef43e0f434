#include "client/p2ctl/job_view.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/errors.h"
#include "client/p2ctl/log_text.h"
#include "client/p2ctl/units.h"
#include "common/spec/scalar_text.h"
#include "common/spec/task_name.h"

namespace p2::ctl {
namespace {

std::string Labels(const google::protobuf::Map<std::string, std::string>& labels) {
  const std::map<std::string, std::string> sorted(labels.begin(), labels.end());
  return absl::StrJoin(sorted, ",", absl::PairFormatter("="));
}

std::string ReasonName(v1::StatusReason reason) {
  return reason == v1::STATUS_REASON_UNSPECIFIED ? "" : v1::StatusReason_Name(reason);
}

void AddLeaves(const Json& json, const std::string& path,
               const google::protobuf::Map<std::string, std::string>& origins,
               std::vector<std::vector<TableCell>>& rows) {
  const bool list_of_objects = json.is_array() && !json.empty() && json.front().is_object();
  if (json.is_object() || list_of_objects) {
    size_t index = 0;
    for (const auto& [key, value] : json.items()) {
      const std::string name = json.is_array() ? absl::StrCat(index++) : key;
      AddLeaves(value, path.empty() ? name : absl::StrCat(path, ".", name), origins, rows);
    }
    return;
  }
  auto origin = origins.find(path);
  if (origin == origins.end()) origin = origins.find(absl::StrCat(path, ".0"));
  if (json == "" && origin == origins.end()) return;
  // What came whole from another job has one origin for all below it.
  for (std::string above = path; origin == origins.end() && absl::StrContains(above, '.');) {
    above.resize(above.rfind('.'));
    origin = origins.find(above);
  }
  std::string text =
      json.is_string() ? json.get<std::string>() : json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (path == "training.microbatch" && json == spec::kAutoMicrobatch) text = spec::kAutoWord;
  rows.push_back({{absl::StrCat("  ", path)}, {text}, {origin != origins.end() ? origin->second : " "}});
}

}  // namespace

bool IsTerminal(v1::Job::State state) {
  return state == v1::Job::SUCCEEDED || state == v1::Job::FAILED || state == v1::Job::CANCELLED;
}

int ExitCodeOfState(v1::Job::State state) {
  if (state == v1::Job::FAILED) return kJobFailed;
  return state == v1::Job::CANCELLED ? kJobCancelled : kOk;
}

std::string ColorOf(v1::Job::State state) {
  switch (state) {
    case v1::Job::RUNNING:
    case v1::Job::SUCCEEDED:
      return "green";
    case v1::Job::FAILED:
      return "red";
    case v1::Job::QUEUED:
    case v1::Job::STARTING:
    case v1::Job::PAUSING:
    case v1::Job::PAUSED:
      return "yellow";
    default:
      return "";
  }
}

Listing JobListing(const std::vector<v1::Job>& jobs) {
  Listing listing({{.name = "id"},
                   {.name = "state"},
                   {.name = "done", .right = true},
                   {.name = "images", .right = true},
                   {.name = "total", .right = true, .wide = true},
                   {.name = "images/s", .right = true},
                   {.name = "loss", .right = true},
                   {.name = "eta", .right = true},
                   {.name = "devices", .right = true, .wide = true},
                   {.name = "priority", .right = true, .wide = true},
                   {.name = "queue", .wide = true},
                   {.name = "project", .wide = true},
                   {.name = "created", .optional = true},
                   {.name = "reason", .truncate = true},
                   {.name = "task", .wide = true},
                   {.name = "preset", .wide = true},
                   {.name = "dataset", .wide = true},
                   {.name = "owner", .wide = true},
                   {.name = "attempt", .right = true, .wide = true},
                   {.name = "restarts", .right = true, .wide = true},
                   {.name = "ended", .wide = true},
                   {.name = "labels", .wide = true},
                   {.name = "message", .wide = true, .truncate = true}});
  for (const v1::Job& job : jobs) {
    const v1::JobProgress& progress = job.progress();
    const std::string state = v1::Job::State_Name(job.state());
    const double fraction = progress.images_total() > 0 ? static_cast<double>(progress.images_seen()) /
                                                              static_cast<double>(progress.images_total())
                                                        : 0;
    const bool live = job.state() == v1::Job::RUNNING;
    listing.Add(ToJson(job), IdOf(job.name()),
                {IdOf(job.name()),
                 Cell(state, state, ColorOf(job.state())),
                 progress.images_total() > 0
                     ? Cell(absl::StrCat(static_cast<int>(std::floor(100 * fraction)), "%"), FormatNumber(fraction))
                     : Cell(""),
                 CountCell(progress.images_seen()),
                 CountCell(progress.images_total()),
                 live && progress.images_per_second() > 0 ? FormatRate(progress.images_per_second()) : "",
                 progress.has_loss() ? FormatNumber(progress.loss()) : "",
                 progress.has_eta_seconds() && live ? Cell(FormatShortDuration(absl::Seconds(progress.eta_seconds())),
                                                           FormatNumber(progress.eta_seconds()))
                                                    : Cell(""),
                 absl::StrCat(job.spec().resources().devices()),
                 absl::StrCat(job.priority()),
                 IdOf(job.queue()),
                 job.project(),
                 TimeCell(job.create_time()),
                 ReasonName(job.reason()),
                 spec::TaskName(job.task()),
                 job.preset(),
                 job.has_task() ? "" : job.spec().data().dataset(),
                 job.owner(),
                 absl::StrCat(job.attempts_size()),
                 absl::StrCat(job.restarts_used()),
                 TimeCell(job.end_time()),
                 Labels(job.labels()),
                 Cell(FirstLine(job.message()), job.message())});
  }
  return listing;
}

Listing CheckpointListing(const std::vector<v1::Checkpoint>& checkpoints) {
  Listing listing({{.name = "id"},
                   {.name = "state"},
                   {.name = "images", .right = true},
                   {.name = "size", .right = true},
                   {.name = "attempt", .right = true},
                   {.name = "pinned"},
                   {.name = "created", .optional = true},
                   {.name = "note", .wide = true},
                   {.name = "metric", .right = true, .wide = true},
                   {.name = "ema", .wide = true},
                   {.name = "root", .wide = true},
                   {.name = "path", .wide = true},
                   {.name = "manifest", .wide = true}});
  for (const v1::Checkpoint& checkpoint : checkpoints) {
    const std::string state = v1::Checkpoint::State_Name(checkpoint.state());
    listing.Add(
        ToJson(checkpoint), IdOf(checkpoint.name()),
        {IdOf(checkpoint.name()), Cell(state, state, checkpoint.state() == v1::Checkpoint::CORRUPT ? "red" : ""),
         CountCell(checkpoint.images_seen()), BytesCell(checkpoint.size_bytes()), absl::StrCat(checkpoint.attempt()),
         checkpoint.pinned() ? "yes" : "no", TimeCell(checkpoint.create_time()), checkpoint.pin_note(),
         checkpoint.has_metric() ? FormatNumber(checkpoint.metric()) : "",
         absl::StrJoin(checkpoint.ema_profiles(), ","), checkpoint.root(), checkpoint.path(),
         checkpoint.manifest_sha256()});
  }
  return listing;
}

std::string TaskText(const v1::Job& job) {
  const v1::TaskSpec& task = job.task();
  const auto weights = [](const std::string& ema, bool raw, absl::string_view otherwise) {
    return raw ? "the weights themselves" : ema.empty() ? std::string(otherwise) : absl::StrCat("EMA ", ema);
  };
  if (task.has_sample()) {
    const v1::SampleTask& sample = task.sample();
    const v1::Reconstruction& reconstruct = sample.reconstruct();
    std::vector<std::string> starts;
    for (const int timestep : reconstruct.timesteps()) starts.push_back(absl::StrCat("timestep ", timestep));
    for (const double snr : reconstruct.snrs()) starts.push_back(absl::StrCat("SNR ", snr));
    return absl::StrCat(
        sample.has_reconstruct() ? "reconstruct " : "draw ", FormatCount(sample.count()), " images",
        starts.empty() ? "" : absl::StrCat(" of ", reconstruct.dataset(), " at ", absl::StrJoin(starts, ", ")),
        " (seed ", sample.seed(), ", from ", sample.first(), ") from ",
        weights(sample.ema(), sample.raw(), "the first EMA"), ", ",
        sample.has_ddim_eta() ? absl::StrCat("DDIM eta ", sample.ddim_eta()) : "ancestral", ", steps ",
        sample.steps().empty() ? "all" : sample.steps(), ", as ",
        absl::AsciiStrToLower(v1::SampleTask::Format_Name(
            sample.format() == v1::SampleTask::FORMAT_UNSPECIFIED ? v1::SampleTask::PNG : sample.format())));
  }
  if (task.has_import()) {
    return absl::StrCat("import the published files",
                        task.import().has_step() ? absl::StrCat(" of save ", task.import().step()) : "",
                        task.import().partial() ? ", what fits" : "");
  }
  if (task.has_export_()) {
    return absl::StrCat("export ", weights(task.export_().ema(), task.export_().raw(), "what the format holds"), " as ",
                        absl::AsciiStrToLower(v1::ExportTask::Format_Name(task.export_().format())));
  }
  if (task.has_average()) {
    return absl::StrCat("make the average of sigma_rel ", task.average().sigma_rel(), " at ",
                        task.average().images_seen() == 0
                            ? "the newest snapshot"
                            : absl::StrCat(FormatCount(task.average().images_seen()), " images"));
  }
  return "";
}

ProgressState ProgressOf(const v1::Job& job, std::vector<double> losses) {
  const v1::JobProgress& progress = job.progress();
  ProgressState state;
  state.label = IdOf(job.name());
  state.phase = v1::Job::State_Name(job.state());
  if (job.state() == v1::Job::RUNNING && !progress.phase().empty() && progress.phase() != "step") {
    absl::StrAppend(&state.phase, " (", progress.phase(), ")");
  } else if (job.state() == v1::Job::QUEUED && job.reason() != v1::STATUS_REASON_UNSPECIFIED) {
    absl::StrAppend(&state.phase, " (", ReasonName(job.reason()), ")");
  }
  state.done = progress.images_seen();
  state.total = progress.images_total();
  if (job.state() == v1::Job::RUNNING) state.per_second = progress.images_per_second();
  if (job.state() == v1::Job::RUNNING && progress.has_eta_seconds()) state.eta = absl::Seconds(progress.eta_seconds());
  state.losses = std::move(losses);
  if (state.losses.empty() && progress.has_loss()) state.losses.push_back(progress.loss());
  return state;
}

std::string StateText(const v1::Job& job) {
  std::string text = v1::Job::State_Name(job.state());
  if (job.reason() != v1::STATUS_REASON_UNSPECIFIED) absl::StrAppend(&text, " (", ReasonName(job.reason()), ")");
  if (!job.message().empty()) absl::StrAppend(&text, ": ", FirstLine(job.message()));
  return text;
}

std::string SpecText(const v1::TrainingSpec& spec, const google::protobuf::Map<std::string, std::string>& origins,
                     const TableStyle& style) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(spec, &text, options).ok()) return "";
  std::vector<std::vector<TableCell>> rows;
  AddLeaves(Json::parse(text), "", origins, rows);
  TableStyle bare = style;
  bare.headers = false;
  return RenderTable({{.title = "FIELD"}, {.title = "VALUE", .wrap = true}, {.title = "ORIGIN"}}, rows, bare);
}

std::string EstimateText(const v1::ResourceEstimate& estimate) {
  return absl::StrCat("Parameters:         ", FormatCount(estimate.parameters()), "\nMemory per device:  about ",
                      FormatBytes(estimate.memory_bytes()),
                      "\nCheckpoint:         ", FormatBytes(estimate.checkpoint_bytes()),
                      estimate.ema_snapshot_bytes() == 0
                          ? ""
                          : absl::StrCat("\nEMA snapshots:      ", FormatBytes(estimate.ema_snapshot_bytes()),
                                         " at the end, apart from checkpoints"),
                      "\nImages per device:  ", absl::StrJoin(estimate.images_per_device(), ", "), " a step",
                      "\nSteps:              ", FormatCount(estimate.steps()), "\n");
}

}  // namespace p2::ctl

// queue list|describe|create|update|delete|move: where jobs wait, and in which order.
#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/explanation_view.h"
#include "client/p2ctl/fact_sheet.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct ListOptions {};
struct NameOptions {
  std::string queue = "default";
};
struct SetOptions {
  std::string queue;
  std::optional<std::string> selector, description;
};
struct MoveOptions {
  std::string job, before, after;
  bool first = false, last = false;
};

std::string SelectorText(const v1::Queue& queue) {
  const std::map<std::string, std::string> labels(queue.node_selector().begin(), queue.node_selector().end());
  return absl::StrJoin(labels, ",", absl::PairFormatter("="));
}

Listing QueueListing(const std::vector<v1::Queue>& queues) {
  Listing listing({{.name = "name"},
                   {.name = "queued", .right = true},
                   {.name = "running", .right = true},
                   {.name = "devices", .right = true},
                   {.name = "free", .right = true},
                   {.name = "selector"},
                   {.name = "created", .optional = true},
                   {.name = "description", .truncate = true}});
  for (const v1::Queue& queue : queues) {
    const std::string id = IdOf(queue.name()), selector = SelectorText(queue);
    listing.Add(
        ToJson(queue), id,
        {id, absl::StrCat(queue.queued_jobs()), absl::StrCat(queue.running_jobs()), absl::StrCat(queue.devices()),
         absl::StrCat(queue.free_devices()), selector, TimeCell(queue.create_time()), queue.description()});
  }
  return listing;
}

absl::StatusOr<int> List(Context& context, const ListOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::ListQueuesResponse response, client->ListQueues());
  P2_RETURN_IF_ERROR(
      context.PrintList(QueueListing({response.queues().begin(), response.queues().end()}), "no queues"));
  return kOk;
}

std::string WaitingText(const v1::QueueDescription& description, const TableStyle& style) {
  std::vector<std::vector<TableCell>> rows;
  const absl::Time now = absl::Now();
  for (const v1::QueueDescription::WaitingJob& job : description.jobs()) {
    const absl::Duration until = ToTime(job.predicted_start()) - now;
    rows.push_back(
        {{absl::StrCat(job.position())},
         {IdOf(job.name())},
         {absl::StrCat(job.priority())},
         {job.owner()},
         {job.project()},
         {absl::StrCat(job.devices())},
         {job.reason() == v1::STATUS_REASON_UNSPECIFIED ? "" : v1::StatusReason_Name(job.reason())},
         {FormatShortDuration(std::max(absl::ZeroDuration(), now - ToTime(job.create_time())))},
         {job.has_predicted_start() ? absl::StrCat("in ", FormatShortDuration(std::max(absl::ZeroDuration(), until)))
          : job.reserved()          ? "when devices come back"
                                    : ""}});
  }
  return Section("Waiting (in the order in which they are offered devices)",
                 {{.title = "#", .right = true},
                  {.title = "JOB"},
                  {.title = "PRIORITY", .right = true},
                  {.title = "OWNER"},
                  {.title = "PROJECT"},
                  {.title = "DEVICES", .right = true},
                  {.title = "REASON"},
                  {.title = "AGE", .right = true},
                  {.title = "STARTS"}},
                 rows, style);
}

absl::StatusOr<int> Describe(Context& context, const NameOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::DescribeQueueRequest request;
  request.set_name(FullName("queues/", options.queue));
  P2_ASSIGN_OR_RETURN(const v1::QueueDescription description, client->DescribeQueue(request));
  const v1::Queue& queue = description.queue();
  if (!context.ForPeople()) {
    Listing listing({{.name = "name"}, {.name = "queued", .right = true}, {.name = "running", .right = true}});
    const std::string id = IdOf(queue.name());
    listing.Add(ToJson(description), id, {id, absl::StrCat(queue.queued_jobs()), absl::StrCat(queue.running_jobs())});
    P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
    return kOk;
  }
  const TableStyle& style = context.style().table;
  const std::string selector = SelectorText(queue);
  const std::string runs_on = selector.empty() ? "all workers" : absl::StrCat("workers with ", selector);
  context.PrintText(absl::StrCat(
      FactLine("Queue", IdOf(queue.name()), style),
      FactLine("Description", queue.description() == runs_on ? "" : queue.description(), style),
      FactLine("Runs on", runs_on, style),
      FactLine("Devices", absl::StrCat(queue.free_devices(), " free of ", queue.devices()), style),
      FactLine("Jobs", absl::StrCat(queue.queued_jobs(), " waiting, ", queue.running_jobs(), " with devices"), style),
      WaitingText(description, style), SharesText(description.shares(), style)));
  return kOk;
}

// `given` over the queue's own selector and description.
absl::Status Lay(const SetOptions& given, v1::Queue& queue) {
  if (given.description.has_value()) queue.set_description(*given.description);
  if (!given.selector.has_value()) return absl::OkStatus();
  queue.clear_node_selector();
  for (absl::string_view term : absl::StrSplit(*given.selector, ',', absl::SkipEmpty())) {
    const size_t equals = term.find('=');
    if (equals == 0 || equals == term.npos) {
      return UsageError(
          absl::StrCat("--selector \"", term, "\": write key=value (`p2ctl node list -o json` shows labels)"));
    }
    (*queue.mutable_node_selector())[std::string(term.substr(0, equals))] = std::string(term.substr(equals + 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Show(Context& context, const absl::StatusOr<v1::Queue>& queue) {
  if (!queue.ok()) return queue.status();
  P2_RETURN_IF_ERROR(context.Print(QueueListing({*queue}).FormatOne(context.style())));
  return kOk;
}

absl::StatusOr<int> Create(Context& context, const SetOptions& options) {
  v1::CreateQueueRequest request;
  request.mutable_queue()->set_name(FullName("queues/", options.queue));
  request.set_request_id(context.flags.request_id);
  P2_RETURN_IF_ERROR(Lay(options, *request.mutable_queue()));
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  return Show(context, client->CreateQueue(request));
}

absl::StatusOr<int> Update(Context& context, const SetOptions& options) {
  if (!options.selector.has_value() && !options.description.has_value())
    return UsageError("nothing to change: give --selector or --description");
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::GetQueueRequest get;
  get.set_name(FullName("queues/", options.queue));
  v1::UpdateQueueRequest request;
  P2_ASSIGN_OR_RETURN(*request.mutable_queue(), client->GetQueue(get));
  request.set_request_id(context.flags.request_id);
  P2_RETURN_IF_ERROR(Lay(options, *request.mutable_queue()));
  return Show(context, client->UpdateQueue(request));
}

absl::StatusOr<int> Delete(Context& context, const NameOptions& options) {
  v1::DeleteQueueRequest request;
  request.set_name(FullName("queues/", options.queue));
  request.set_request_id(context.flags.request_id);
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_RETURN_IF_ERROR(client->DeleteQueue(request).status());
  context.Say(absl::StrCat("deleted queue ", IdOf(request.name())));
  return kOk;
}

absl::StatusOr<int> Move(Context& context, const MoveOptions& options) {
  const std::string& beside = options.before.empty() ? options.after : options.before;
  if (options.first + options.last + !options.before.empty() + !options.after.empty() != 1)
    return UsageError("say where to: one of --first, --last, --before JOB and --after JOB");
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  v1::MoveJobRequest request;
  request.set_name(job.name());
  request.set_request_id(context.flags.request_id);
  request.set_where(options.first            ? v1::MoveJobRequest::FIRST
                    : options.last           ? v1::MoveJobRequest::LAST
                    : options.before.empty() ? v1::MoveJobRequest::AFTER
                                             : v1::MoveJobRequest::BEFORE);
  if (!beside.empty()) {
    P2_ASSIGN_OR_RETURN(const v1::Job other, context.ResolveJob(beside));
    request.set_other(other.name());
  }
  P2_ASSIGN_OR_RETURN(const v1::Job moved, client->MoveJob(request));
  P2_RETURN_IF_ERROR(context.Print(JobListing({moved}).FormatOne(context.style())));
  v1::ExplainJobRequest explain;
  explain.set_name(moved.name());
  const absl::StatusOr<v1::JobExplanation> place = client->ExplainJob(explain);
  if (place.ok() && place->position() > 0) context.Say(absl::StrCat("it is ", PositionText(*place)));
  return kOk;
}

void AddSet(CLI::App& group, Context& context, const std::string& name, const std::string& help,
            const std::string& examples, absl::StatusOr<int> (*run)(Context&, const SetOptions&)) {
  const auto options = std::make_shared<SetOptions>();
  CLI::App* verb = AddVerb(group, context, name, help, examples, options, run);
  verb->add_option("NAME", options->queue, "[a-z]([a-z0-9-]{0,61}[a-z0-9])?")->required();
  verb->add_option("--selector", options->selector, "Labels that its workers have; '': all workers")
      ->type_name("KEY=VALUE,…");
  verb->add_option("--description", options->description, "For people")->type_name("TEXT");
}

}  // namespace

void AddQueue(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("queue", "Queues: where jobs wait, and in which order");
  group->require_subcommand(1);
  AddVerb(*group, context, "list", "List the queues", "  p2ctl queue list", std::make_shared<ListOptions>(), List);
  const auto describe = std::make_shared<NameOptions>(), remove = std::make_shared<NameOptions>();
  AddVerb(*group, context, "describe", "The jobs that wait, in order, and the shares that decide it",
          "  p2ctl queue describe\n  p2ctl queue describe h100 -o json", describe, Describe)
      ->add_option("NAME", describe->queue, "Default: the queue `default`");
  AddSet(*group, context, "create", "Make a queue for some of the workers",
         "  p2ctl queue create h100 --selector kind=h100 --description 'large runs'", Create);
  AddSet(*group, context, "update", "Change a queue's workers or description",
         "  p2ctl queue update h100 --selector kind=h100,zone=a", Update);
  AddVerb(*group, context, "delete", "Delete a queue that no live job is in", "  p2ctl queue delete h100", remove,
          Delete)
      ->add_option("NAME", remove->queue)
      ->required();
  const auto move = std::make_shared<MoveOptions>();
  CLI::App* verb =
      AddVerb(*group, context, "move", "Move a waiting job among its owner's jobs of its project and priority",
              "  p2ctl queue move mnist-demo-abcde --first\n"
              "  p2ctl queue move mnist-demo-abcde --after mnist-demo-fghij\n"
              "Before jobs of others it comes by priority: `p2ctl update JOB --priority N`.",
              move, Move);
  verb->add_option("JOB", move->job, "ID, or a unique prefix")->required();
  verb->add_flag("--first", move->first, "To the front");
  verb->add_flag("--last", move->last, "To the end");
  verb->add_option("--before", move->before, "Before that job")->type_name("JOB");
  verb->add_option("--after", move->after, "Right after that job")->type_name("JOB");
}

}  // namespace p2::ctl

// node list|describe|cordon|uncordon|drain: the workers.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/fact_sheet.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/units.h"
#include "common/error_reason.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct ListOptions {};
struct DescribeOptions {
  std::string node;
};
struct ChangeOptions {
  std::vector<std::string> nodes;
  std::string reason, deadline;
};

std::string StateOf(const v1::Worker& worker) {
  return absl::StrCat(v1::Worker::State_Name(worker.state()), worker.draining()   ? ",DRAINING"
                                                              : worker.cordoned() ? ",CORDONED"
                                                                                  : "");
}

Listing WorkerListing(const std::vector<v1::Worker>& workers) {
  Listing listing({{.name = "name"},
                   {.name = "state"},
                   {.name = "slots", .right = true},
                   {.name = "free", .right = true},
                   {.name = "devices"},
                   {.name = "roots"},
                   {.name = "heartbeat", .optional = true},
                   {.name = "jobs", .wide = true},
                   {.name = "host", .wide = true},
                   {.name = "address", .wide = true},
                   {.name = "version", .wide = true},
                   {.name = "reason", .wide = true}});
  for (const v1::Worker& worker : workers) {
    const auto free = std::count_if(worker.slots().begin(), worker.slots().end(),
                                    [](const v1::Slot& slot) { return slot.job().empty(); });
    std::vector<std::string> devices, jobs;
    for (const v1::Slot& slot : worker.slots()) {
      devices.push_back(slot.device_name().empty() ? slot.kind()
                                                   : absl::StrCat(slot.kind(), " (", slot.device_name(), ")"));
      if (!slot.job().empty()) jobs.push_back(IdOf(slot.job()));
    }
    for (std::vector<std::string>* names : {&devices, &jobs}) {
      std::sort(names->begin(), names->end());
      names->erase(std::unique(names->begin(), names->end()), names->end());
    }
    const std::string roots = absl::StrJoin(
        worker.roots(), ",", [](std::string* out, const v1::StorageRoot& root) { out->append(root.name()); });
    const std::string state = StateOf(worker);
    const bool well = worker.state() == v1::Worker::READY && !worker.cordoned() && !worker.draining();
    listing.Add(
        ToJson(worker), IdOf(worker.name()),
        {IdOf(worker.name()), Cell(state, state, well ? "green" : "yellow"), absl::StrCat(worker.slots_size()),
         absl::StrCat(free), absl::StrJoin(devices, ","), roots, TimeCell(worker.last_heartbeat_time()),
         absl::StrJoin(jobs, ","), worker.host(), worker.data_address(), worker.version(), worker.cordon_reason()});
  }
  return listing;
}

absl::StatusOr<std::vector<v1::Worker>> AllWorkers(Context& context) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(Page<v1::Worker> page, CollectPages(*client, &Client::ListWorkers,
                                                          &v1::ListWorkersResponse::workers, v1::ListWorkersRequest()));
  return std::move(page.items);
}

absl::StatusOr<int> List(Context& context, const ListOptions&) {
  P2_ASSIGN_OR_RETURN(const std::vector<v1::Worker> workers, AllWorkers(context));
  P2_RETURN_IF_ERROR(
      context.PrintList(WorkerListing(workers),
                        "no workers; start one with `p2-worker --coordinator HOST:PORT`, or all with `p2ctl local`"));
  return kOk;
}

absl::StatusOr<v1::Worker> FindWorker(Context& context, const std::string& node) {
  P2_ASSIGN_OR_RETURN(std::vector<v1::Worker> workers, AllWorkers(context));
  std::vector<std::string> names;
  for (v1::Worker& worker : workers) {
    if (worker.name() == FullName("workers/", node)) return std::move(worker);
    names.push_back(IdOf(worker.name()));
  }
  return Error(ErrorReason::kWorkerNotFound,
               absl::StrCat("worker \"", node, "\" not found; there ",
                            names.empty() ? "are none" : absl::StrCat("are ", absl::StrJoin(names, ", "))));
}

std::string SlotsText(const v1::Worker& worker, const TableStyle& style) {
  std::vector<std::vector<TableCell>> rows;
  for (const v1::Slot& slot : worker.slots()) {
    rows.push_back({{slot.id()},
                    {slot.device_name()},
                    {slot.memory_bytes() > 0 ? FormatBytes(slot.memory_bytes()) : ""},
                    {slot.threads() > 0 ? absl::StrCat(slot.threads()) : ""},
                    {slot.job().empty() ? "free" : IdOf(slot.job()), slot.job().empty() ? "green" : ""},
                    {slot.uuid()}});
  }
  return Section("Devices",
                 {{.title = "SLOT"},
                  {.title = "DEVICE", .wrap = true},
                  {.title = "MEMORY", .right = true},
                  {.title = "THREADS", .right = true, .optional = true},
                  {.title = "JOB"},
                  {.title = "UUID", .optional = true}},
                 rows, style);
}

// Enough to see which workers share a root.
constexpr size_t kShownOfRootId = 8;

std::string RootsText(const v1::Worker& worker, const TableStyle& style) {
  std::vector<std::vector<TableCell>> rows;
  for (const v1::StorageRoot& root : worker.roots()) {
    rows.push_back({{root.name()},
                    {FormatBytes(root.free_bytes())},
                    {FormatBytes(root.total_bytes())},
                    {root.path()},
                    {root.id().substr(0, kShownOfRootId)}});
  }
  return Section("Storage roots",
                 {{.title = "NAME"},
                  {.title = "FREE", .right = true},
                  {.title = "OF", .right = true},
                  {.title = "DIRECTORY", .wrap = true},
                  {.title = "ID", .optional = true}},
                 rows, style);
}

absl::StatusOr<int> Describe(Context& context, const DescribeOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Worker worker, FindWorker(context, options.node));
  v1::ListEventsRequest request;
  request.set_resource(worker.name());
  P2_ASSIGN_OR_RETURN(const Page<v1::Event> events,
                      CollectPages(*client, &Client::ListEvents, &v1::ListEventsResponse::events, request));
  if (!context.ForPeople()) {
    Json json;
    json["worker"] = ToJson(worker);
    json["events"] = Json::array();
    for (const v1::Event& event : events.items) json["events"].push_back(ToJson(event));
    Listing listing({{.name = "name"}, {.name = "state"}});
    listing.Add(std::move(json), IdOf(worker.name()), {IdOf(worker.name()), StateOf(worker)});
    P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
    return kOk;
  }
  const TableStyle& style = context.style().table;
  std::string out;
  const auto line = [&](absl::string_view key, absl::string_view value) {
    absl::StrAppend(&out, FactLine(key, value, style));
  };
  const std::map<std::string, std::string> labels(worker.labels().begin(), worker.labels().end());
  line("Node", IdOf(worker.name()));
  line("State", StateOf(worker));
  line("Cordoned", worker.cordon_reason());
  line("Heartbeat", FormatLocalTime(worker.last_heartbeat_time()));
  line("Host", worker.host());
  line("Address", worker.data_address());
  line("Version", absl::StrCat(worker.version(), ", protocol ", worker.protocol_version()));
  line("Labels", absl::StrJoin(labels, ", ", absl::PairFormatter("=")));
  context.PrintText(
      absl::StrCat(out, SlotsText(worker, style), RootsText(worker, style), EventsSection(events.items, style)));
  return kOk;
}

template <typename Request, absl::StatusOr<v1::Worker> (Client::*kMethod)(Request)>
absl::StatusOr<int> Change(Context& context, const ChangeOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  std::vector<v1::Worker> workers;
  absl::Duration deadline, deadline_rest;
  if (!options.deadline.empty()) {
    P2_ASSIGN_OR_RETURN(deadline, ParseDuration(options.deadline));
  }
  for (const std::string& node : options.nodes) {
    Request request;
    request.set_name(FullName("workers/", node));
    request.set_request_id(context.RequestId(request.name(), options.nodes.size()));
    if constexpr (requires { request.set_reason(""); }) request.set_reason(options.reason);
    if constexpr (requires { request.mutable_deadline(); }) {
      if (deadline > absl::ZeroDuration()) {
        request.mutable_deadline()->set_seconds(absl::IDivDuration(deadline, absl::Seconds(1), &deadline_rest));
        request.mutable_deadline()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(deadline_rest)));
      }
    }
    P2_ASSIGN_OR_RETURN(workers.emplace_back(), (client->*kMethod)(std::move(request)));
  }
  const Listing listing = WorkerListing(workers);
  P2_RETURN_IF_ERROR(
      context.Print(workers.size() == 1 ? listing.FormatOne(context.style()) : listing.Format(context.style())));
  return kOk;
}

// `example`: flags behind `p2ctl node NAME w0`.
CLI::App* Add(CLI::App& group, Context& context, const std::string& name, const std::string& help,
              const std::string& example, const std::shared_ptr<ChangeOptions>& options,
              absl::StatusOr<int> (*run)(Context&, const ChangeOptions&)) {
  CLI::App* verb =
      AddVerb(group, context, name, help, absl::StrCat("  p2ctl node ", name, " w0", example), options, run);
  verb->add_option("NODE", options->nodes, "Names (`p2ctl node list`)")->required();
  return verb;
}

void AddReason(CLI::App* verb, const std::shared_ptr<ChangeOptions>& options) {
  verb->add_option("--reason", options->reason, "Shown in the list and among the events");
}

}  // namespace

void AddNode(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("node", "Workers, their devices and roots");
  group->require_subcommand(1);
  AddVerb(*group, context, "list", "List the workers", "  p2ctl node list -o wide", std::make_shared<ListOptions>(),
          List);
  const auto describe = std::make_shared<DescribeOptions>();
  AddVerb(*group, context, "describe", "Everything about a worker: devices and who holds them, roots, labels, events",
          "  p2ctl node describe w0\n  p2ctl node describe w0 -o json", describe, Describe)
      ->add_option("NODE", describe->node, "Name (`p2ctl node list`)")
      ->required();
  const auto cordon = std::make_shared<ChangeOptions>(), uncordon = std::make_shared<ChangeOptions>(),
             drain = std::make_shared<ChangeOptions>();
  AddReason(Add(*group, context, "cordon", "Start nothing new there; what runs goes on", " --reason 'new disk'", cordon,
                Change<v1::CordonWorkerRequest, &Client::CordonWorker>),
            cordon);
  Add(*group, context, "uncordon", "End a cordon or a drain", "", uncordon,
      Change<v1::UncordonWorkerRequest, &Client::UncordonWorker>);
  CLI::App* verb =
      Add(*group, context, "drain", "Cordon, and checkpoint what runs there so that it moves",
          " --deadline 5m --reason 'new disk'", drain, Change<v1::DrainWorkerRequest, &Client::DrainWorker>);
  AddReason(verb, drain);
  verb->add_option("--deadline", drain->deadline, "Kill what still runs there after so long: 5m; default: never")
      ->type_name("DURATION");
}

}  // namespace p2::ctl

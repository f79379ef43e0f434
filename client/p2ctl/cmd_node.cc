// node list|cordon|uncordon|drain: the workers.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct ListOptions {};
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

absl::StatusOr<int> List(Context& context, const ListOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(
      const Page<v1::Worker> page,
      CollectPages(*client, &Client::ListWorkers, &v1::ListWorkersResponse::workers, v1::ListWorkersRequest()));
  P2_RETURN_IF_ERROR(
      context.PrintList(WorkerListing(page.items),
                        "no workers; start one with `p2-worker --coordinator HOST:PORT`, or all with `p2ctl local`"));
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

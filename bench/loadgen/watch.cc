// Watches of all jobs while jobs are submitted.
#include "bench/loadgen/full_cluster.h"
#include "bench/loadgen/scenarios.h"
#include "bench/loadgen/submitter.h"
#include "bench/loadgen/watchers.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr double kSubmitsPerSecond = 50;  // A closed loop would only measure how events are shed.

}  // namespace

absl::StatusOr<nlohmann::ordered_json> RunWatch(const ScenarioOptions& options, ServerUnderTest& server) {
  P2_ASSIGN_OR_RETURN(const auto cluster, FullCluster::Make(server.grpc(), options.load.seed));
  P2_ASSIGN_OR_RETURN(const auto submitter, Submitter::Connect(server.grpc(), options.connections, options.load.seed));
  P2_ASSIGN_OR_RETURN(const auto watchers, Watchers::Start(server.grpc(), options.watchers));
  LoadOptions load = options.load;
  if (load.rate == 0) load.rate = kSubmitsPerSecond;
  load.warm_up = absl::ZeroDuration();
  watchers->Measure(true);
  const absl::Time begin = absl::Now();
  const LoadResult submits =
      RunLoad(load, [&](int64_t index, Done done) { submitter->Submit(index, std::move(done)); });
  p2::v1::CreateJobRequest last = JobRequest(options.load.seed, submits.calls);
  (*last.mutable_labels())[kLastLabel] = "";
  P2_RETURN_IF_ERROR(cluster->client().CreateJob(std::move(last)).status());
  const bool complete = watchers->AwaitLast();
  const absl::Duration taken = absl::Now() - begin;

  const nlohmann::ordered_json watched = watchers->ToJson();
  nlohmann::ordered_json json;
  json["rate_per_s"] = watched.at("watch_events").get<double>() / absl::ToDoubleSeconds(taken);
  json["p50_ms"] = watched.at("watch_lag_p50_ms");
  json["p99_ms"] = watched.at("watch_lag_p99_ms");
  json["errors"] = submits.errors + watchers->errors() + (complete ? 0 : 1);
  json["complete"] = complete;
  json["submits"] = submits.ToJson();
  json.update(watched);
  return json;
}

}  // namespace p2::loadgen

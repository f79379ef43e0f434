#include "bench/loadgen/full_cluster.h"
#include "bench/loadgen/scenarios.h"
#include "bench/loadgen/submitter.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr int kJobs = 100;  // A call.

}  // namespace

absl::StatusOr<nlohmann::ordered_json> RunBatch(const ScenarioOptions& options, ServerUnderTest& server) {
  P2_ASSIGN_OR_RETURN(const auto cluster, FullCluster::Make(server.grpc(), options.load.seed));
  P2_ASSIGN_OR_RETURN(const auto submitter, Submitter::Connect(server.grpc(), options.connections, options.load.seed));
  LoadOptions load = options.load;
  load.rate /= kJobs;
  const LoadResult result =
      RunLoad(load, [&](int64_t index, Done done) { submitter->SubmitBatch(index, kJobs, std::move(done)); });
  nlohmann::ordered_json json = result.ToJson();
  json["rate_per_s"] = result.rate_per_s * kJobs;
  json["jobs_a_call"] = kJobs;
  json["request_bytes"] = submitter->request_bytes();
  json["response_bytes"] = submitter->response_bytes();
  return json;
}

}  // namespace p2::loadgen

// What people ask most often: how a job is. Each GetJob is of another of the jobs that wait.
#include <random>
#include <vector>

#include "bench/loadgen/full_cluster.h"
#include "bench/loadgen/scenarios.h"
#include "bench/loadgen/submitter.h"
#include "bench/loadgen/unary.h"
#include "common/status_macros.h"

namespace p2::loadgen {

absl::StatusOr<nlohmann::ordered_json> RunStatus(const ScenarioOptions& options, ServerUnderTest& server) {
  P2_ASSIGN_OR_RETURN(const auto cluster, FullCluster::Make(server.grpc(), options.load.seed));
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                      CreateJobs(cluster->client(), options.load.seed, 0, static_cast<int>(options.live),
                                 /*paused=*/false));
  P2_ASSIGN_OR_RETURN(const auto stubs, ConnectStubs<p2::v1::JobService>(server.grpc(), options.connections));
  const LoadResult result = RunLoad(options.load, [&](int64_t index, Done done) {
    std::mt19937_64 random(options.load.seed + static_cast<uint64_t>(index));
    p2::v1::GetJobRequest request;
    request.set_name(names[random() % names.size()]);
    CallAsync<p2::v1::GetJobRequest, p2::v1::Job>(
        [stub = stubs[static_cast<size_t>(index) % stubs.size()]->async()](auto... arguments) {
          stub->GetJob(arguments...);
        },
        std::move(request), [done = std::move(done)](const absl::Status& status, const p2::v1::Job&) { done(status); });
  });
  nlohmann::ordered_json json = result.ToJson();
  json["live_jobs"] = names.size();
  return json;
}

}  // namespace p2::loadgen

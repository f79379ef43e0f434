#include "bench/loadgen/background_load.h"
#include "bench/loadgen/full_cluster.h"
#include "bench/loadgen/scenarios.h"
#include "bench/loadgen/submitter.h"
#include "common/status_macros.h"

namespace p2::loadgen {

absl::StatusOr<nlohmann::ordered_json> RunSubmits(const ScenarioOptions& options, ServerUnderTest& server) {
  P2_ASSIGN_OR_RETURN(const auto cluster, FullCluster::Make(server.grpc(), options.load.seed));
  P2_ASSIGN_OR_RETURN(const auto submitter, Submitter::Connect(server.grpc(), options.connections, options.load.seed));
  std::unique_ptr<BackgroundLoad> background;
  if (options.with_load) {
    P2_ASSIGN_OR_RETURN(background, BackgroundLoad::Start({.grpc = server.grpc(), .http = server.http()}));
  }
  const LoadResult result =
      RunLoad(options.load, [&](int64_t index, Done done) { submitter->Submit(index, std::move(done)); });
  nlohmann::ordered_json json = result.ToJson();
  json["request_bytes"] = submitter->request_bytes();
  json["response_bytes"] = submitter->response_bytes();
  if (background != nullptr) json["background"] = background->Stop();
  return json;
}

}  // namespace p2::loadgen

#include <filesystem>
#include <system_error>

#include "bench/loadgen/background_load.h"
#include "bench/loadgen/full_cluster.h"
#include "bench/loadgen/scenarios.h"
#include "bench/loadgen/submitter.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

// Of its files, those below included.
int64_t BytesIn(const std::string& directory) {
  int64_t bytes = 0;
  std::error_code gone;  // A file may go while we look.
  for (auto it = std::filesystem::recursive_directory_iterator(directory, gone);
       it != std::filesystem::recursive_directory_iterator(); it.increment(gone)) {
    if (gone) break;
    if (const auto size = it->is_regular_file(gone) ? it->file_size(gone) : 0; !gone)
      bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> RunSubmits(const ScenarioOptions& options, ServerUnderTest& server) {
  P2_ASSIGN_OR_RETURN(const auto cluster, FullCluster::Make(server.grpc(), options.load.seed));
  P2_ASSIGN_OR_RETURN(const auto submitter, Submitter::Connect(server.grpc(), options.connections, options.load.seed));
  std::unique_ptr<BackgroundLoad> background;
  if (options.with_load) {
    P2_ASSIGN_OR_RETURN(background, BackgroundLoad::Start({.grpc = server.grpc(), .http = server.http()}));
  }
  const int64_t stored_before = server.spawned() ? BytesIn(server.data_directory()) : 0;
  const LoadResult result =
      RunLoad(options.load, [&](int64_t index, Done done) { submitter->Submit(index, std::move(done)); });
  nlohmann::ordered_json json = result.ToJson();
  json["request_bytes"] = submitter->request_bytes();
  json["response_bytes"] = submitter->response_bytes();
  if (server.spawned()) {
    json["stored_bytes_per_job"] =
        static_cast<double>(BytesIn(server.data_directory()) - stored_before) / static_cast<double>(result.calls);
  }
  if (background != nullptr) {
    json["background"] = background->Stop();
    // A watch that was cut off is no load any more.
    json["errors"] = result.errors + json["background"]["scrape_errors"].get<int64_t>() +
                     json["background"]["watch_errors"].get<int64_t>();
  }
  return json;
}

}  // namespace p2::loadgen

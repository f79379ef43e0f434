#include "worker/agent/worker_metrics.h"

#include <set>
#include <utility>

#include "absl/time/clock.h"
#include "common/metric_names.h"

namespace p2::agent {
namespace {

prometheus::Family<prometheus::Gauge>& Gauges(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

prometheus::Family<prometheus::Counter>& Counters(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

}  // namespace

WorkerMetrics::WorkerMetrics(absl::string_view version)
    : registry_(std::make_shared<prometheus::Registry>()),
      devices_(Gauges(*registry_, metric::kDevices, "Device slots by kind and state (free, held, busy).")),
      gpu_seconds_(Counters(*registry_, metric::kGpuSecondsTotal, "Time of this worker's GPUs by use (train, idle).")),
      images_(Counters(*registry_, metric::kImagesTotal, "Images that this worker's ranks have trained on.").Add({})),
      deleted_bytes_(Counters(*registry_, metric::kGcDeletedBytesTotal,
                              "Bytes of files that this worker deleted from its roots at p2d's word.")
                         .Add({})),
      spool_bytes_(
          Gauges(*registry_, metric::kWorkerSpoolBytes, "Bytes the coordinator has not acknowledged.").Add({})),
      connected_(
          Gauges(*registry_, metric::kWorkerConnected, "1 while the coordinator has welcomed this worker.").Add({})) {
  Gauges(*registry_, metric::kBuildInfo, "Constant 1; what this process was built from.")
      .Add({{"version", std::string(version)}})
      .Set(1);
  Gauges(*registry_, metric::kProcessStartTimeSeconds, "Unix time when this process started.")
      .Add({})
      .Set(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
}

void WorkerMetrics::OnDevices(const std::vector<p2::v1::Slot>& slots, const std::vector<std::string>& uses,
                              absl::Duration elapsed) {
  std::map<std::pair<std::string, std::string>, int> counts;
  for (size_t i = 0; i < slots.size(); ++i) {
    for (const char* state : {"free", "held", "busy"}) counts[{slots[i].kind(), state}] += uses[i] == state ? 1 : 0;
    if (slots[i].kind() == "cuda")
      gpu_seconds_.Add({{"use", uses[i] == "busy" ? "train" : "idle"}}).Increment(absl::ToDoubleSeconds(elapsed));
  }
  for (const auto& [key, count] : counts) devices_.Add({{"kind", key.first}, {"state", key.second}}).Set(count);
}

}  // namespace p2::agent

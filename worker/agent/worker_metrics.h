// The worker's series (CLI.md): its devices and what they did, its spool, its connection.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "p2/v1/cluster_service.pb.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace p2::agent {

// Thread-safe: prometheus-cpp's registry locks.
class WorkerMetrics {
 public:
  explicit WorkerMetrics(absl::string_view version);

  // Uses of each slot for the last `elapsed`: `free`, `held` or `busy`, in the order of `slots`.
  void OnDevices(const std::vector<p2::v1::Slot>& slots, const std::vector<std::string>& uses, absl::Duration elapsed);
  void OnImages(double images) { images_.Increment(images); }
  void OnSpool(int64_t unacked_bytes) { spool_bytes_.Set(static_cast<double>(unacked_bytes)); }
  void OnDeleted(int64_t bytes) { deleted_bytes_.Increment(static_cast<double>(bytes)); }
  void OnConnected(bool connected) { connected_.Set(connected ? 1 : 0); }

  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }

 private:
  const std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Family<prometheus::Gauge>& devices_;
  prometheus::Family<prometheus::Counter>& gpu_seconds_;
  prometheus::Counter& images_;
  prometheus::Counter& deleted_bytes_;
  prometheus::Gauge& spool_bytes_;
  prometheus::Gauge& connected_;
};

}  // namespace p2::agent

// Jobs that run on fake workers, for what they report.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "bench/loadgen/fake_worker.h"
#include "bench/loadgen/load.h"
#include "p2/client.h"

namespace p2::loadgen {

struct RunningJobsOptions {
  std::string address;  // p2d's.
  int workers = 1;
  int jobs_per_worker = 1;  // One device each.
  uint64_t seed = 1;
};

// Thread-safe.
class RunningJobs {
 public:
  // All of them run when it returns. REQUIRES: no other worker has free devices.
  static absl::StatusOr<std::unique_ptr<RunningJobs>> Start(const RunningJobsOptions& options, Client& client);
  ~RunningJobs();

  int size() const { return static_cast<int>(jobs_.size()); }
  // `jobs/{job}`.
  std::string name(int job) const;
  // Rank 0 of `job` reports `values` at its next position, which is returned. `done`: p2d has them durably.
  int64_t Report(int job, const std::map<std::string, double>& values, Done done);

 private:
  class Seat;
  struct Running;
  RunningJobs() = default;
  void OnStart(Seat& seat, const p2::v1::Start& start);

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Running>> jobs_;  // Guarded by mutex_ until all run, then constant.
  std::vector<std::unique_ptr<Seat>> seats_;    // Constant after Start. Last: their threads use the rest.
};

// As many values as `count`, named as a trainer's are: loss, mse, …, loss_snr_00, loss_snr_01, …
std::map<std::string, double> ValuesOf(int count);

}  // namespace p2::loadgen

// Jobs to submit, and the calls that submit them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/loadgen/load.h"
#include "p2/client.h"
#include "p2/v1/job_service.grpc.pb.h"

namespace p2::loadgen {

// Makes known to p2d what the jobs need: the dataset, on a root that a worker has shown.
absl::Status RegisterDataset(Client& client);

// Index of a job that stands in the way of those from 0 on.
inline constexpr int64_t kHoldingJob = int64_t{1} << 40;

// As `p2ctl submit mnist-demo --dataset loadgen` would send it. `index` names it: the same one is the same job.
// `overrides`: as of `--set`.
p2::v1::CreateJobRequest JobRequest(uint64_t seed, int64_t index, const std::vector<std::string>& overrides = {});

// Fills the queue with jobs `first` to `first` + `count` - 1, and returns their names.
absl::StatusOr<std::vector<std::string>> CreateJobs(Client& client, uint64_t seed, int64_t first, int count,
                                                    bool paused, const std::vector<std::string>& overrides = {});

// Submits jobs over a set of connections. Thread-safe.
class Submitter {
 public:
  static absl::StatusOr<std::unique_ptr<Submitter>> Connect(const std::string& address, int connections, uint64_t seed);

  // For RunLoad: job `index`, durable when it is done. `created`: gets its name then, before `done` is called.
  void Submit(int64_t index, Done done, std::function<void(const std::string&)> created = nullptr);
  // For RunLoad: jobs size * index to size * (index + 1) - 1 in one call.
  void SubmitBatch(int64_t index, int size, Done done);

  // Of one call, as last seen; 0: of none.
  int64_t request_bytes() const { return request_bytes_; }
  int64_t response_bytes() const { return response_bytes_; }

 private:
  using Stubs = std::vector<std::unique_ptr<p2::v1::JobService::Stub>>;
  Submitter(Stubs stubs, uint64_t seed) : stubs_(std::move(stubs)), seed_(seed) {}

  p2::v1::JobService::Stub& stub(int64_t index) { return *stubs_[static_cast<size_t>(index) % stubs_.size()]; }

  // Constant after construction.
  const Stubs stubs_;
  const uint64_t seed_;

  std::atomic<int64_t> request_bytes_ = 0, response_bytes_ = 0;
};

}  // namespace p2::loadgen

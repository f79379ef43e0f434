#include "bench/loadgen/submitter.h"

#include "absl/strings/str_format.h"
#include "bench/loadgen/fake_worker.h"
#include "bench/loadgen/unary.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr char kDataset[] = "loadgen";
constexpr int kMaxBatch = 500;  // Whose answer fits into gRPC's 4 MiB.

}  // namespace

absl::Status RegisterDataset(Client& client) {
  p2::v1::RegisterDatasetRequest request;
  p2::v1::Dataset& dataset = *request.mutable_dataset();
  dataset.set_name(absl::StrCat("datasets/", kDataset));
  dataset.set_root(kRootName);
  dataset.set_root_id(kRootId);
  dataset.set_path(kDataset);
  dataset.set_resolution(16);
  dataset.set_channels(1);
  dataset.set_image_count(60'000);
  dataset.set_fingerprint(std::string(64, 'a'));
  return client.RegisterDataset(std::move(request)).status();
}

p2::v1::CreateJobRequest JobRequest(uint64_t seed, int64_t index, const std::vector<std::string>& overrides) {
  p2::v1::CreateJobRequest request;
  request.set_preset("mnist-demo");
  p2::v1::FlagOverride& flag = *request.add_flags();
  flag.set_flag("--dataset");
  flag.set_path("data.dataset");
  flag.set_value(kDataset);
  request.mutable_overrides()->Assign(overrides.begin(), overrides.end());
  request.set_owner("loadgen");
  request.set_request_id(absl::StrFormat("%08x-0000-4000-8000-%012x", seed, index));
  return request;
}

absl::StatusOr<std::unique_ptr<Submitter>> Submitter::Connect(const std::string& address, int connections,
                                                              uint64_t seed) {
  P2_ASSIGN_OR_RETURN(Stubs stubs, ConnectStubs<p2::v1::JobService>(address, connections));
  return std::unique_ptr<Submitter>(new Submitter(std::move(stubs), seed));
}

absl::StatusOr<std::vector<std::string>> CreateJobs(Client& client, uint64_t seed, int64_t first, int count,
                                                    bool paused, const std::vector<std::string>& overrides) {
  std::vector<std::string> names;
  for (int made = 0; made < count;) {
    p2::v1::BatchCreateJobsRequest request;
    for (; made < count && request.requests_size() < kMaxBatch; ++made) {
      p2::v1::CreateJobRequest& one = *request.add_requests();
      one = JobRequest(seed, first + made, overrides);
      one.set_paused(paused);
    }
    request.set_request_id(request.requests(0).request_id());
    P2_ASSIGN_OR_RETURN(const p2::v1::BatchCreateJobsResponse created, client.BatchCreateJobs(std::move(request)));
    for (const p2::v1::Job& job : created.jobs()) names.push_back(job.name());
  }
  return names;
}

void Submitter::Submit(int64_t index, Done done, std::function<void(const std::string&)> created) {
  p2::v1::CreateJobRequest request = JobRequest(seed_, index);
  request_bytes_ = static_cast<int64_t>(request.ByteSizeLong());
  CallAsync<p2::v1::CreateJobRequest, p2::v1::CreateJobResponse>(
      [stub = stub(index).async()](auto... arguments) { stub->CreateJob(arguments...); }, std::move(request),
      [this, done = std::move(done), created = std::move(created)](const absl::Status& status,
                                                                   const p2::v1::CreateJobResponse& response) {
        if (status.ok()) response_bytes_ = static_cast<int64_t>(response.ByteSizeLong());
        if (status.ok() && created != nullptr) created(response.job().name());
        done(status);
      });
}

void Submitter::SubmitBatch(int64_t index, int size, Done done) {
  p2::v1::BatchCreateJobsRequest request;
  for (int i = 0; i < size; ++i) *request.add_requests() = JobRequest(seed_, index * size + i);
  request.set_request_id(request.requests(0).request_id());
  request_bytes_ = static_cast<int64_t>(request.ByteSizeLong());
  CallAsync<p2::v1::BatchCreateJobsRequest, p2::v1::BatchCreateJobsResponse>(
      [stub = stub(index).async()](auto... arguments) { stub->BatchCreateJobs(arguments...); }, std::move(request),
      [this, done = std::move(done)](const absl::Status& status, const p2::v1::BatchCreateJobsResponse& response) {
        response_bytes_ = static_cast<int64_t>(response.ByteSizeLong());
        done(status);
      });
}

}  // namespace p2::loadgen

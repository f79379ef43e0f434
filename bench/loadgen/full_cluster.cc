#include "bench/loadgen/full_cluster.h"

#include "bench/loadgen/submitter.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(30);

}  // namespace

absl::StatusOr<std::unique_ptr<FullCluster>> FullCluster::Make(const std::string& address, uint64_t seed) {
  auto cluster = std::make_unique<FullCluster>();
  ClientOptions client;
  client.address = address;
  P2_ASSIGN_OR_RETURN(cluster->client_, Client::Connect(client));
  P2_ASSIGN_OR_RETURN(cluster->worker_,
                      FakeWorker::Connect({.address = address, .name = "loadgen", .slots = 2}, *cluster));
  P2_RETURN_IF_ERROR(RegisterDataset(*cluster->client_));
  P2_RETURN_IF_ERROR(cluster->client_->CreateJob(JobRequest(seed, kHoldingJob)).status());
  if (!cluster->started_.WaitForNotificationWithTimeout(kStartTimeout)) {
    return absl::DeadlineExceededError("the job that is to hold the devices was not started");
  }
  return cluster;
}

void FullCluster::OnStart(FakeWorker& worker, const p2::v1::Start& start) {
  p2::v1::SpoolRecord record = worker.EventOf(start);
  record.mutable_trainer_event()->mutable_started();
  worker.Spool(std::move(record));
  if (!started_.HasBeenNotified()) started_.Notify();
}

}  // namespace p2::loadgen

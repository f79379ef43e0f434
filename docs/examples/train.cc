// Submits a preset and follows it to its end with the C++ client:
//   p2_client_example 127.0.0.1:7250 mnist-demo
#include <iostream>

#include "p2/client.h"

namespace {

int Fail(const absl::Status& status) {
  std::cerr << status << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: p2_client_example HOST:PORT PRESET\n";
    return 2;
  }
  const absl::StatusOr<std::unique_ptr<p2::Client>> client = p2::Client::Connect({.address = argv[1]});
  if (!client.ok()) return Fail(client.status());

  // A retry of this call makes no second job: the client gives it a request_id.
  p2::v1::CreateJobRequest create;
  create.set_preset(argv[2]);
  const absl::StatusOr<p2::v1::CreateJobResponse> created = (*client)->CreateJob(create);
  if (!created.ok()) return Fail(created.status());
  const std::string name = created->job().name();
  std::cout << "submitted " << name << std::endl;

  // The stream outlives restarts of the server: it is taken up where it broke.
  p2::v1::WatchJobsRequest watch;
  watch.add_names(name);
  const auto changes = (*client)->WatchJobs(watch);
  while (true) {
    const absl::StatusOr<std::optional<p2::v1::WatchJobsResponse>> change = changes->Next();
    if (!change.ok()) return Fail(change.status());
    const p2::v1::Job& job = (*change)->job();
    std::cout << p2::v1::Job::State_Name(job.state()) << " after " << job.progress().images_seen() << " images"
              << std::endl;
    if (job.state() == p2::v1::Job::SUCCEEDED) break;
    if (job.state() == p2::v1::Job::FAILED || job.state() == p2::v1::Job::CANCELLED) {
      return Fail(absl::AbortedError(job.message()));
    }
  }

  p2::v1::QueryMetricsRequest query;
  query.set_job(name);
  query.add_metrics("loss");
  const absl::StatusOr<p2::v1::QueryMetricsResponse> metrics = (*client)->QueryMetrics(query);
  if (!metrics.ok()) return Fail(metrics.status());
  for (const p2::v1::MetricSeries& series : metrics->series()) {
    std::cout << series.points_size() << " points of " << series.metric() << std::endl;
  }
  return 0;
}

// A server of every public service with canned behaviour, in this process, on a free port of loopback.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "p2/v1/admin_service.pb.h"
#include "p2/v1/artifact_service.pb.h"
#include "p2/v1/checkpoint_service.pb.h"
#include "p2/v1/cluster_service.pb.h"
#include "p2/v1/dataset_service.pb.h"
#include "p2/v1/event_service.pb.h"
#include "p2/v1/job_service.pb.h"
#include "p2/v1/log_service.pb.h"
#include "p2/v1/metric_service.pb.h"
#include "p2/v1/preset_service.pb.h"
#include "p2/v1/queue_service.pb.h"

namespace p2::testing {

// What the server holds; survives Stop and Start, as a store does. Guarded by FakeServer's mutex.
struct FakeState {
  std::map<std::string, v1::Job> jobs;                   // By resource name.
  std::vector<v1::WatchJobsResponse> changes;            // Revisions 1, 2, …
  int64_t compacted_before = 0;                          // Watches from a lower revision are refused.
  std::map<std::string, v1::CreateJobResponse> created;  // By request_id.
  std::map<std::string, std::vector<v1::LogEntry>> logs;
  std::map<std::string, std::vector<v1::StreamMetricsResponse>> metrics;
  size_t max_metric_bytes = 3'900'000;  // Larger answers of QueryMetrics are thinned.
  int64_t metrics_thinned_to = 0;       // Rows up to this position stand for 16 each, with 1 to both sides of the mean.
  int metric_queries = 0;
  std::map<std::string, std::vector<v1::Checkpoint>> checkpoints;
  std::map<std::string, std::pair<v1::Artifact, std::string>> artifacts;  // With the bytes that are sent.
  std::map<std::string, v1::Dataset> datasets;
  std::vector<v1::Event> events;
  std::vector<v1::Worker> workers;
  std::vector<v1::StorageRoot> roots;
  std::vector<v1::Preset> presets;
  std::map<std::string, v1::Queue> queues;
  std::map<std::string, v1::Quota> quotas;
  v1::QueueDescription description;  // Of every queue.
  std::map<std::string, v1::JobExplanation> explanations;
  v1::JobExplanation forecast;              // Of every dry run.
  v1::CollectCheckpointsResponse verdicts;  // Of every collection.
  v1::Status status;
  v1::Backup backup;
  v1::CheckStoreResponse check;
  absl::Duration admin_patience;  // Until the deadline of the last backup or check.
  v1::CreateJobRequest last_create;
  v1::BatchCreateJobsRequest last_batch;
  std::vector<v1::ControlJobsRequest> controls;
  v1::UpdateJobRequest last_update;
  v1::ResumeJobRequest last_resume;
  v1::MoveJobRequest last_move;
  v1::DrainWorkerRequest last_drain;
  v1::CollectCheckpointsRequest last_collect;
  v1::ListEventsRequest last_list_events;
  std::vector<std::string> request_ids;  // Of every change that came in.
  int calls = 0;                         // Unary calls.
};

// Thread-safe.
class FakeServer {
 public:
  FakeServer();
  ~FakeServer();

  // Again on the same port after Stop.
  void Start();
  // Streams end with UNAVAILABLE, as when a process dies.
  void Stop();
  std::string address() const;

  // Adds or changes a job; watchers see it.
  void SetJob(v1::Job job);
  // Looks at or changes the state.
  void With(const std::function<void(FakeState&)>& use);
  // The next `count` unary calls fail so. `after_doing`: the change is made, the answer is lost.
  void FailNext(int count, const absl::Status& error, bool after_doing = false);

  struct Impl;  // Seen by the fake services alone.

 private:
  const std::unique_ptr<Impl> impl_;
};

// A job as a server gives it: 18,000 images on two CPU slots.
v1::Job MakeJob(const std::string& id, v1::Job::State state, int64_t images_seen = 0);

}  // namespace p2::testing

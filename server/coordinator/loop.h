// The coordinator's loop: everything that touches the cluster's state. See coordinator.h.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/doorbell.h"
#include "p2/v1/worker_service.pb.h"
#include "server/coordinator/coordinator.h"
#include "server/coordinator/job_ids.h"
#include "server/coordinator/read_view.h"
#include "server/coordinator/thinning_thread.h"
#include "server/coordinator/watch_hub.h"
#include "server/coordinator/worker_sessions.h"
#include "server/scheduler/step.h"
#include "server/store/blob_store.h"
#include "server/store/job_store.h"

namespace p2::coordinator {

// Confined to the loop thread but for the members that say Thread-safe.
class Loop {
 public:
  using SessionPtr = std::shared_ptr<WorkerSession>;
  struct Command {
    scheduler::Event event;
    Coordinator::Done done;
  };
  struct Greeting {
    scheduler::WorkerConnected event;
    std::function<void(absl::StatusOr<SessionPtr>)> done;
  };
  struct Message {
    SessionPtr session;
    v1::ConnectRequest message;
  };
  struct Farewell {
    SessionPtr session;
  };
  struct Inquiry {
    std::string job;
    std::function<void(const Coordinator::Inside&)> look;
    std::function<void(const absl::Status&)> done;
  };
  struct Thinned {
    absl::StatusOr<std::vector<store::ThinnedChunk>> chunks;
  };
  using Item = std::variant<Command, Greeting, Message, Farewell, Inquiry, Thinned>;

  // `view` and `hub` must outlive the loop.
  Loop(const Coordinator::Options& options, ReadView& view, WatchHub& hub);

  // Reads the store and steps Recovered. Before the first Run.
  absl::Status Recover();

  // Takes items until Stop. The loop thread's body.
  void Run();

  // Thread-safe. UNAVAILABLE once stopped: the item is left as it is then.
  absl::Status Push(Item&& item);
  // Thread-safe. Run returns after the batch in progress; what waits is answered with UNAVAILABLE, sessions are closed.
  void Stop();

 private:
  // What one round has done that is not yet synced, or not yet told.
  struct Batch {
    std::vector<scheduler::Mutation> mutations;
    std::vector<std::function<void()>> after;           // In order: answers, and messages to workers.
    absl::flat_hash_map<std::string, size_t> requests;  // By ID: which of the mutations puts it.
    std::set<std::string> spools;                       // Workers whose records were taken.
    std::set<std::string> active_jobs;                  // Got bytes.
    std::set<std::string> erased_jobs;
    bool bytes_written = false;
    bool ticked = false;
  };

  absl::Status LoadState();
  void RunBatch(std::vector<Item> items);
  void Take(Batch& batch, Command& command);
  void Take(Batch& batch, Greeting& greeting);
  void Take(Batch& batch, Message& message);
  void Take(Batch& batch, Farewell& farewell);
  void Take(Batch& batch, Inquiry& inquiry);
  void Take(Batch& batch, Thinned& thinned);
  void TakeSpool(Batch& batch, const SessionPtr& session, const v1::SpoolRecord& record);

  // Steps the event and applies what it decided; actions are queued behind the sync. StepResult.answer.
  absl::StatusOr<std::string> Step(Batch& batch, const scheduler::Event& event);
  // Gives away what the events of the batch have freed.
  void Schedule(Batch& batch);
  // Makes a job that is not live visible to Step.
  void Load(const Batch& batch, absl::string_view job);
  // Draws the job's ID, none of `drawn`, and loads what it starts from.
  void PrepareNewJob(const Batch& batch, scheduler::CreateJob& job, std::set<std::string>& drawn);
  absl::Status PrepareCommand(Batch& batch, scheduler::Event& event);
  Coordinator::Answer AnswerOf(const std::string& resources) const;
  void Send(WorkerSession& session, const scheduler::Action& action);
  absl::StatusOr<v1::TrainingSpec> SpecOf(const std::string& sha256);
  // Syncs the batch. False if the store failed: nothing of it may be told.
  bool Commit(Batch& batch);
  // Has a little of what is due prepared; once that is written the next tick goes on. Not while the disk is full.
  void ThinMetrics();
  void LogMove(const scheduler::EventRecord& event) const;
  // Its events are gone then.
  void Publish(Batch& batch);
  void Fail(const absl::Status& status);
  scheduler::Moment Now() const;
  v1::ConnectResponse Welcome(const std::string& worker) const;

  // Constant after construction.
  const Coordinator::Options options_;
  ReadView& view_;
  WatchHub& hub_;

  // Confined to the loop thread.
  scheduler::ClusterState state_;
  std::map<std::string, SessionPtr> sessions_;
  std::map<std::string, v1::TrainingSpec> specs_;  // Parsed ones by hash; a few.
  JobIds ids_;
  int64_t last_session_ = 0;
  bool failed_ = false;
  absl::Duration step_time_;
  absl::Time next_thinning_ = absl::InfinitePast();  // Monotonic.
  bool thinning_ = false;                            // Something is being prepared.
  bool thinning_is_stale_ = false;                   // What CommitThinning requires is not so.

  Doorbell inbox_bell_;  // Rung for each item, and at the end.
  absl::Mutex mutex_;
  std::vector<Item> inbox_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;

  std::unique_ptr<ThinningThread> thinner_;  // Last: it posts to the inbox. Null before it is first needed.
};

}  // namespace p2::coordinator

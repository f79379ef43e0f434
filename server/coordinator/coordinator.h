// p2d's heart: one loop thread that takes every waiting event, steps them one after the other on its own state, writes
// all mutations in one synced batch, and only then answers, sends to workers and publishes. The only writer of the job
// store.
//
// A failed write calls Options::fatal, which must not return in a daemon (exit code 70): nothing unsynced was
// acknowledged.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/clock.h"
#include "p2/v1/worker_service.pb.h"
#include "server/coordinator/read_view.h"
#include "server/coordinator/watch_hub.h"
#include "server/coordinator/worker_sessions.h"
#include "server/scheduler/event.h"
#include "server/scheduler/step.h"
#include "server/scheduler/types.h"

namespace p2::store {
class BlobStore;
class JobStore;
}  // namespace p2::store

namespace p2::coordinator {

// Of p2-worker's stream (Hello.protocol_version).
inline constexpr int kProtocolVersion = 1;

// What the loop tells the metrics. Called on the loop thread; must be quick.
class Observer {
 public:
  virtual ~Observer() = default;
  // After a synced batch. `state` is as it stands after it; `write_time` is zero where nothing had to be written.
  virtual void OnCommit(const scheduler::ClusterState& state, absl::Span<const scheduler::Mutation> mutations,
                        absl::Duration step_time, absl::Duration write_time) {}
  // A worker's report had no effect: a stale epoch, an unknown job.
  virtual void OnRefused(absl::string_view worker, absl::string_view why) {}
};

// Thread-safe.
class Coordinator {
 public:
  struct Options {
    store::JobStore* store = nullptr;  // All of these must outlive the coordinator.
    store::BlobStore* blobs = nullptr;
    Clock* clock = &Clock::Real();
    Observer* observer = nullptr;  // Optional.
    scheduler::StepOptions step;
    WatchHub::Options watch;
    absl::Duration tick_interval = absl::Milliseconds(200);  // Real time.
    // Metric rows that p2d has had for longer, by its wall clock, are thinned, some at each tick (JobStore).
    absl::Duration metrics_raw_for = absl::InfiniteDuration();
    absl::Duration heartbeat_interval = absl::Seconds(2);
    std::string version;   // p2d's, for Welcome.
    uint64_t id_seed = 0;  // Of drawn job IDs; 0: from the system.
    // The store failed: nothing more can be promised. Must end the process.
    std::function<void(const absl::Status&)> fatal;
  };

  // What a command made or changed, as it stood right after it.
  struct Answer {
    scheduler::JobPtr job;                // Null after DeleteJob.
    std::vector<scheduler::JobPtr> jobs;  // Of a command that is about several: those that still exist.
    std::vector<std::string> names;       // `jobs/{job}` … of all that it was about.
    scheduler::WorkerPtr worker;
    scheduler::DatasetPtr dataset;
  };
  using Done = std::function<void(absl::StatusOr<Answer>)>;

  // Reads the state from the store, steps Recovered, starts the loop.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(Options options);
  ~Coordinator();

  // Ends sessions and watches, answers what waits with UNAVAILABLE, joins the loop. Idempotent.
  void Stop();

  // A command of scheduler/event.h (CreateJob … RegisterDataset), DiskState or Tick. `done` is called on the loop
  // thread once its effect is synced. CreateJob::id is the ID's prefix: five random base32 letters are added, seven if
  // taken. CommandInfo::previous is filled in here. Errors: Step's; UNAVAILABLE when stopped.
  void Post(scheduler::Event command, Done done);
  // The same, waiting for the answer.
  absl::StatusOr<Answer> Execute(scheduler::Event command);

  // What the loop decides upon, as it stands after a synced batch. `inquiry` is called on the loop thread and must be
  // quick; UNAVAILABLE when stopped. With `job`: it is there also if it has ended.
  struct Inside {
    const scheduler::ClusterState& state;
    const scheduler::Moment now;
    const scheduler::StepOptions& options;
  };
  absl::Status Inquire(const std::string& job, std::function<void(const Inside&)> inquiry);

  using Session = std::shared_ptr<WorkerSession>;
  // A worker's stream begins: `done` is called, on any thread, with its session, whose first message is the welcome.
  // Errors end it: ALREADY_EXISTS (another instance of that name is connected), FAILED_PRECONDITION (protocol),
  // INVALID_ARGUMENT (a bad name or slot), UNAVAILABLE when stopped.
  void ConnectWorker(const p2::v1::Hello& hello, std::function<void(absl::StatusOr<Session>)> done);
  // One message of a connected worker, after Hello. False: this worker is far ahead of the loop; the next message is
  // not to be read before its session says that there is room. An error ends the stream.
  absl::StatusOr<bool> Receive(const Session& session, p2::v1::ConnectRequest message);
  // The stream has ended.
  void Disconnect(const Session& session);

  // Reads of what is synced. A job that is not live is read from the store. NOT_FOUND.
  absl::StatusOr<scheduler::JobPtr> GetJob(absl::string_view id) const;
  // In no order. List them before the store's finished ones: none is missed.
  std::vector<scheduler::JobPtr> LiveJobs() const;
  WorkerList Workers() const;    // By ID; never null.
  DatasetList Datasets() const;  // The same.
  // Of live and finished jobs, newest first.
  absl::StatusOr<std::vector<scheduler::CheckpointPtr>> Checkpoints(absl::string_view job) const;

  WatchHub& watches();

 private:
  class Impl;
  explicit Coordinator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace p2::coordinator

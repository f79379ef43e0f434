// p2-worker: offers this machine's slots to the coordinator, runs the ranks it is told to, and reports what they say.
// Starts nothing of its own accord; while the coordinator is away what runs goes on, and the spool grows.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/http/http_server.h"
#include "p2/v1/worker_service.pb.h"
#include "worker/agent/attempt.h"
#include "worker/agent/coordinator_session.h"
#include "worker/agent/fault_watch.h"
#include "worker/agent/files.h"
#include "worker/agent/leftovers.h"
#include "worker/agent/loop.h"
#include "worker/agent/options.h"
#include "worker/agent/spool.h"
#include "worker/agent/spool_sender.h"
#include "worker/agent/worker_metrics.h"

namespace p2::agent {

// Of WorkerService; a coordinator that speaks another one refuses Hello.
inline constexpr int32_t kProtocolVersion = 1;

// Confined to the thread that calls Run, but for the two health checks.
class Agent {
 public:
  // Takes the data directory (ALREADY_EXISTS if another agent has it), opens the spool, serves HTTP. What is wrong with
  // the options comes as INVALID_ARGUMENT or FAILED_PRECONDITION, a damaged spool as DATA_LOSS.
  static absl::StatusOr<std::unique_ptr<Agent>> Create(AgentOptions options, const Clock& clock);
  // Trainers that still run are killed: after an error of Run, end the process without this, and they checkpoint.
  ~Agent();

  // Settles what an earlier agent left, then serves until SIGTERM or SIGINT: ranks checkpoint and end, and what is
  // spooled is offered to the coordinator for a moment. A second signal kills the ranks. An error: the spool cannot be
  // trusted any more.
  absl::Status Run();

 private:
  using Key = std::pair<std::string, int64_t>;  // Job, epoch.

  Agent(AgentOptions options, const Clock& clock);
  absl::Status Open();
  absl::Status ServeHttp();
  absl::Status WriteReadyFile() const;

  void OnOpen(uint64_t stream);
  void OnMessage(uint64_t stream, p2::v1::ConnectResponse message);
  void OnClosed(uint64_t stream, const absl::Status& why);
  void OnWelcome(const p2::v1::Welcome& welcome);
  void OnPrepare(const p2::v1::Prepare& prepare);
  void OnStart(const p2::v1::Start& start);
  void OnStop(const p2::v1::StopAttempt& stop);
  void OnDelete(const p2::v1::DeletePath& request);
  void OnSpoolAck(uint64_t sequence);
  void OnSignal();

  void Tick();
  void OnSecond(absl::Duration elapsed);
  void CountImages(const Attempt& attempt);
  void SettleEnded();
  void RemoveAcked();
  // A job without a checkpoint leaves no directory behind: nothing is there to be deleted with it.
  void TidyStorage(const Attempt& attempt);
  void ContinueStop(absl::Time now);
  void Heartbeat();
  void RefreshRoots();
  void WatchFaults();

  // The slots of `prepare`'s ranks, in their order; an error says why they cannot be had.
  absl::StatusOr<std::vector<p2::v1::Slot>> ClaimSlots(const p2::v1::Prepare& prepare);
  void FenceOlder(const p2::v1::Prepare& prepare);
  void Reply(const p2::v1::Prepare& prepare, const absl::Status& status, int32_t master_port);
  void ReportNotStarted(const p2::v1::Start& start, const std::string& why);
  Attempt* Find(const std::string& job, int64_t epoch);
  void FlushSpool();
  void Send(p2::v1::ConnectRequest message);
  // The process must end: its trainers checkpoint, the next one settles.
  void Fail(const absl::Status& status);

  // Constant after Open.
  const AgentOptions options_;
  const Clock& clock_;
  const std::string instance_;
  std::string data_address_;
  std::vector<p2::v1::Slot> slots_;
  UniqueFd lock_;

  // Thread-safe.
  std::atomic<bool> welcomed_ = false;
  std::atomic<int64_t> last_tick_ns_ = 0;
  WorkerMetrics metrics_;
  std::unique_ptr<http::HttpServer> http_;

  // Confined to the loop's thread.
  Loop loop_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<SpoolSender> sender_;
  std::vector<p2::v1::StorageRoot> roots_;
  std::set<std::string> root_problems_;
  bool reading_roots_ = false;
  std::map<std::pair<std::string, int>, p2::v1::DeviceFault> device_faults_;  // By slot and XID.
  std::map<Key, std::unique_ptr<Attempt>> attempts_;
  // Waiting for the coordinator to have their reports.
  std::vector<EndedAttempt> ended_;
  // Per job: highest epoch seen, and highest that ended here.
  std::map<std::string, int64_t> highest_epoch_;
  std::map<std::string, int64_t> ended_epoch_;
  std::map<Key, int64_t> counted_images_;
  uint64_t stream_ = 0;
  absl::Duration heartbeat_interval_;
  absl::Time cut_off_since_ = absl::InfiniteFuture();  // InfiniteFuture: welcomed.
  absl::Time opened_, last_tick_, last_second_, last_heartbeat_, last_roots_, last_logs_;
  bool disk_full_ = false;
  bool stopping_ = false;
  absl::Time give_up_ = absl::InfiniteFuture();
  absl::Status fatal_;
  // Last: their threads post to the loop.
  std::unique_ptr<FaultWatch> fault_watch_;
  std::unique_ptr<CoordinatorSession> session_;
};

}  // namespace p2::agent

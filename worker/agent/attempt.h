// One attempt's ranks on this worker, from Prepare to the report that none is left.
//
//   kChecking -> kPrepared -> kRunning -> kEnding -> kEnded
//       └────────────┴─ released: forgotten without a report, nothing was started
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "p2/v1/worker_service.pb.h"
#include "worker/agent/framing.h"
#include "worker/agent/loop.h"
#include "worker/agent/network.h"
#include "worker/agent/options.h"
#include "worker/agent/rank_relay.h"
#include "worker/agent/storage_roots.h"
#include "worker/agent/trainer_process.h"
#include "worker/agent/watchdog.h"

namespace p2::agent {

// Confined to the loop's thread.
class Attempt {
 public:
  enum class State { kChecking, kPrepared, kRunning, kEnding, kEnded };

  // What an attempt needs of its worker; all outlive it.
  struct Context {
    const AgentOptions& options;
    const std::string& data_address;
    Loop& loop;
    Spool& spool;
    const Clock& clock;
    // Sync the spool now, and send.
    std::function<void()> flush;
  };

  // `slots`: of the ranks in `prepare`, in its order. REQUIRES: as many as ranks.
  Attempt(const Context& context, p2::v1::Prepare prepare, std::vector<p2::v1::Slot> slots);

  // Storage was checked: holds the slots from now on. Binds rank 0's socket.
  absl::Status Hold(JobDirectories directories);
  // Starts every rank. On an error none is left running and the attempt has ended, with that reported.
  void Start(const p2::v1::Start& start);
  // Asks every rank to checkpoint and end; SIGKILL after the spec's stop deadline. `worker_stopped`: the worker's own
  // wish, so the job is not to blame.
  void Stop(bool worker_stopped);
  // The worker has had no coordinator for so long: stops once that is the spec's deadlines.fence_after.
  void CutOffFor(absl::Duration duration);
  void KillNow(const std::string& why);
  // Watchdog and deadlines; call often.
  void Tick();
  // Spools new bytes of the logs.
  void TailLogs();
  // The agent did not run for `pause`.
  void Forgive(absl::Duration pause);
  // Records how far the ranks are relayed; before the spool drops what says so.
  absl::Status SaveJournal() const;

  State state() const { return state_; }
  bool hold_expired() const { return state_ == State::kPrepared && context_.clock.Monotonic() > hold_until_; }
  const p2::v1::Prepare& prepare() const { return prepare_; }
  const std::vector<p2::v1::Slot>& slots() const { return slots_; }
  const std::string& dir() const { return dir_; }
  // Empty before Hold.
  const std::string& checkpoint_root() const { return directories_.checkpoint_root; }
  // With rank 0: its store's port, else 0.
  int32_t master_port() const { return master_port_; }
  // Spool sequence of AttemptEnded; 0 before.
  uint64_t ended_sequence() const { return ended_sequence_; }
  p2::v1::RunningAttempt Describe() const;
  // Progress of the slowest rank; nothing before any said something.
  std::optional<p2::trainer::v1::Progress> SlowestProgress() const;
  // Where the run stood when its ranks began: what came before is not their work. Nothing before that.
  std::optional<int64_t> first_images_seen() const { return first_images_seen_; }
  // False for a task: the images that it counts are not trained on.
  bool trains() const { return trains_; }

 private:
  struct Rank {
    p2::v1::PlacedRank placed;
    p2::v1::Slot slot;
    std::unique_ptr<TrainerProcess> process;
    FrameReader frames;
    std::unique_ptr<RankRelay> relay;
    std::optional<p2::trainer::v1::Progress> progress;
    p2::v1::RankExit exit;
    bool exited = false;
    // What the agent held against it before it ended.
    std::string complaint;
  };

  absl::Status StartRanks(const p2::v1::Start& start);
  absl::Status StartRank(Rank& rank, p2::v1::Launch launch, const p2::v1::Start& start);
  void OnBytes(Rank& rank, absl::string_view bytes);
  absl::Status OnFrame(Rank& rank, const std::string& frame);
  void OnExit(Rank& rank, int exit_code);
  void Finish();
  void KillAll();

  const Context context_;
  const p2::v1::Prepare prepare_;
  const std::vector<p2::v1::Slot> slots_;
  const AttemptKey key_;
  const std::string dir_;

  State state_ = State::kChecking;
  JobDirectories directories_;
  UniqueFd store_;
  int32_t master_port_ = 0;
  absl::Time hold_until_;
  Deadlines deadlines_;
  std::optional<Watchdog> watchdog_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::optional<int64_t> first_images_seen_;
  bool trains_ = true;
  // SIGKILL when this passes.
  absl::Time kill_at_ = absl::InfiniteFuture();
  std::string kill_reason_;
  bool kill_sent_ = false;  // Before that a SIGKILL is somebody else's, and why the others ended.
  bool worker_stopped_ = false;
  bool fenced_ = false;
  // First rank that ended wrongly; null: none.
  const Rank* first_bad_ = nullptr;
  uint64_t ended_sequence_ = 0;
};

// Exit codes of a rank that ended as it should: done, stopped or preempted with a checkpoint (CLI.md).
inline bool EndedWell(int exit_code) { return exit_code == 0 || exit_code == 40 || exit_code == 41; }

}  // namespace p2::agent

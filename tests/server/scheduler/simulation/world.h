// A world around the pure core, from one decision to the next: nodes that prepare, run, fail, vanish and come back,
// people who ask for things, and a p2d that batches events, writes what they decided, and dies and recovers.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/step.h"
#include "tests/server/scheduler/simulation/checker.h"
#include "tests/server/scheduler/simulation/draws.h"
#include "tests/server/scheduler/simulation/fake_store.h"
#include "tests/server/scheduler/simulation/trace_hash.h"
#include "tests/server/scheduler/simulation/walk.h"

namespace p2::scheduler {

struct WorldOptions {
  int nodes = 5;
  int jobs = 25;  // Kept live: one that ends is followed by another.
  // Every rank that does any work ends with COMMUNICATION or DEVICE_ERROR, and none saves a checkpoint.
  bool poison = false;
  // Nothing fails and nobody interferes: people only submit jobs of one priority, ranks go on at the rate that they
  // told. What the core predicts is then held against what happens (I12).
  bool calm = false;
  // The whole state is checked every so many events, and by CheckWhole.
  int64_t whole_check_every = 1000;
  // Reads the clock around one in so many steps; 0: never.
  int time_one_in = 0;
  StepOptions step;
};

using EventPtr = std::shared_ptr<const Event>;

// Not thread-safe. Everything follows from the options and the decisions.
class World {
 public:
  explicit World(const WorldOptions& options);

  // False after a violation.
  bool Perform(const Decision& decision);
  // Writes what is left of the batch, and checks everything.
  void Finish();
  // No more trouble: everything is healed and time passes until every job has ended, is paused, or asks for more
  // devices than there are. A violation if not.
  void Heal(uint64_t seed);

  const std::vector<Violation>& violations() const { return checker_.violations(); }
  uint64_t trace_hash() const { return hash_.value(); }
  int64_t events() const { return events_; }
  // How long the core took over all steps, by those whose time was taken; zero if none was.
  absl::Duration CoreTime() const {
    return timed_steps_ == 0 ? absl::ZeroDuration() : core_time_ / timed_steps_ * steps_;
  }
  // What happened how often.
  std::map<std::string, int64_t> Counts() const;
  // From now on one readable line for each event and action, and for what happens beside them.
  void KeepTranscript() { transcribe_ = true; }
  const std::vector<std::string>& transcript() const { return transcript_; }

 private:
  struct Process {
    std::string job;
    int64_t epoch = 0;
    int attempt = 0;
    bool prepared = true;  // No process yet.
    bool stopping = false;
    std::vector<PlacedRank> ranks;
    std::vector<std::string> candidates;
    bool reads_source = false;
    int64_t images = 0;
    uint64_t sequence = 0;
    bool started_stepping = false;

    bool has_rank_zero() const { return ranks.front().rank == 0; }
  };
  // The truth about one attempt's ranks, wherever they are.
  struct Gang {
    int processes = 0, started_ranks = 0, world_size = 0;
    bool loaded = false;  // Rank 0 has; all ranks step from there.
    int64_t images = 0;   // That it has loaded.
    int64_t images_total = 0;
    // A second, in a calm world.
    double Rate() const { return 10.0 * world_size; }
  };
  // The truth about a node.
  struct Node {
    std::string id;
    int instance = 0;
    int64_t session = 0;  // 0: no stream.
    int unreachable = 0;  // So many more attempts to connect will fail.
    std::vector<SlotRecord> slots;
    std::vector<RootRecord> roots;
    std::vector<Process> processes;
    std::deque<Action> inbox;
    std::deque<EventPtr> spool;  // SpoolReports that p2d has not taken, rising.
    uint64_t spooled = 0;        // Sequence of the last one.
    uint64_t sent = 0;           // The same of the last one sent on this stream.
    EventPtr taken;              // The last one that p2d took.
  };
  enum class Where : uint8_t { kUnknown, kLive, kFinished, kErased };
  struct JobTruth {
    Where where = Where::kUnknown;
    size_t position = 0;  // In live_ or finished_.
  };
  // An event that was stepped, but not written yet.
  struct Taken {
    EventPtr event;
    absl::StatusOr<StepResult> result;
    Moment now;
  };

  // --- p2d (coordinator.cc): what server/coordinator does, and no more. ---
  // Steps one event and applies it to the state in memory. The result is good until the batch ends.
  const absl::StatusOr<StepResult>& Advance(EventPtr event);
  // The batch is written; then it is checked, answered, acted upon.
  void Commit();
  // Steps the passes that are due.
  void Schedule();
  // p2d dies with what it has not written, and starts again.
  void Restart(Draws& draws);
  void LoadFinished(const Event& event);
  void LoadFinished(absl::string_view job);
  // Violates "pass" if one that nobody asked for would start a job, or stop one that the last had just started.
  void CheckThatPassesAreDone();
  // Jobs that the passes at the batch's end started.
  std::set<std::string> StartedByPasses() const;
  void Note(const Mutation& mutation);
  void Deliver(const Action& action);

  // --- People (people.cc). ---
  void Submit(Draws& draws);
  void Ask(Draws& draws);
  // About one job, about several, about what is due to whom, about checkpoints, about nodes.
  Event AskOfJob(Draws& draws);
  Event AskOfJobs(Draws& draws);
  Event AskOfShares(Draws& draws);
  Event AskOfCheckpoints(Draws& draws);
  Event AskOfNodes(Draws& draws);
  CreateJob NewJob(Draws& draws);
  // Fills in what p2d knows of the request, and takes the command.
  void Command(Event command);
  void Request(Event command, Draws& draws);
  void DrawId(CreateJob& job);
  std::optional<RequestRecord> FindRequest(const std::string& request_id);
  void Retry(Draws& draws);
  std::string AnyJob(Draws& draws) const;

  // --- Nodes (nodes.cc). ---
  void Connect(Node& node, Draws& draws);
  void Disconnect(Node& node, Draws& draws);
  void Crash(Node& node, Draws& draws);
  void TakeAction(Node& node, Draws& draws);
  void TakePrepare(Node& node, const scheduler::Prepare& prepare, Draws& draws);
  void TakeStart(Node& node, const StartGang& start);
  void TakeStop(Node& node, const StopAttempt& stop);
  void Work(Node& node, Draws& draws);
  void LoadCheckpoint(Node& node, Process& process, Gang& gang, Draws& draws);
  void Save(Node& node, const Process& process, Draws& draws);
  void EndProcess(Node& node, size_t index, int exit_code, bool worker_stopped, bool frozen = false);
  void RemoveProcess(Node& node, size_t index);
  void Spool(Node& node, absl::string_view job, int64_t epoch, int attempt, int rank, SpoolBody body);
  void Report(Node& node, Draws& draws);
  void Lie(Node& node, Draws& draws);
  void Beat(const Node& node);
  void PassTime(Draws& draws);
  // --- In a calm world (calm.cc). ---
  // A second passes: every rank goes on as it said, and everything that is to be told is told.
  void PassCalmSecond(Draws& draws);
  void GoOn(Node& node);
  void TellAll(Draws& draws);
  void PassTime(absl::Duration time, Draws& draws);
  static int FindProcess(const Node& node, absl::string_view job, int64_t epoch);

  int Percent(int of_trouble) const { return trouble_ ? of_trouble : 0; }
  void Say(std::string line) {
    if (transcribe_) transcript_.push_back(std::move(line));
  }

  const WorldOptions options_;
  Moment now_;
  ClusterState state_;
  FakeStore store_;
  Checker checker_;
  TraceHash hash_;

  std::deque<Taken> batch_;  // A deque: Advance's result stays where it is.
  std::vector<std::string> erased_in_batch_;
  std::vector<RequestRecord> requests_in_batch_;
  int64_t last_session_ = 0;

  std::vector<Node> nodes_;
  absl::flat_hash_map<std::pair<std::string, int64_t>, Gang> gangs_;  // By job, epoch.
  absl::flat_hash_set<std::string> saved_;                            // Paths of checkpoints that are on disk.

  std::vector<JobTruth> jobs_;        // By number: `job-7`.
  std::vector<int> live_, finished_;  // Numbers.
  int requests_made_ = 0;
  std::deque<EventPtr> unanswered_;  // Commands whose answer was lost.

  bool trouble_ = true;
  bool transcribe_ = false;
  std::vector<std::string> transcript_;
  int64_t events_ = 0, unchecked_ = 0, commits_ = 0;
  int64_t steps_ = 0, timed_steps_ = 0;  // Passes included.
  int untimed_ = 0;
  absl::Duration core_time_;
  std::array<int64_t, std::variant_size_v<Event>> events_of_{};
  std::array<int64_t, std::variant_size_v<Action>> actions_of_{};
  std::array<int64_t, 256> exits_{};
  enum Count { kStarted, kCheckpoint, kRefused, kError, kRepeated, kFallback, kLost, kLied, kCrashed, kCounts };
  std::array<int64_t, kCounts> counts_{};
};

// Those who have quotas now and then.
inline constexpr const char* kAccounts[] = {"users/user-0", "users/user-1", "projects/project-0"};

// `job-7` -> 7; -1 if it is no such name.
int NumberOf(absl::string_view id);

}  // namespace p2::scheduler

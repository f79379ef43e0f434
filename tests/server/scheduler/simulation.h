// A world for the pure core: workers that prepare, run, fail, vanish and come back, people who ask for things, a p2d
// that is restarted from what it wrote. Everything is drawn from one seed, and each step is held against what must
// never break.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "server/scheduler/step.h"

namespace p2::scheduler {

class Simulation {
 public:
  explicit Simulation(uint64_t seed);

  // One random event. False after a violation.
  bool RandomStep();
  // From now on every rank that does any work ends with COMMUNICATION or DEVICE_ERROR, and none saves a checkpoint.
  void Poison() { poison_ = true; }
  // No more trouble: everything is healed and time passes until every job has ended or is paused. A violation if not.
  void Heal();
  // Rebuilds the state from the durable mutations and compares.
  void CompareWithStore();

  const std::vector<std::string>& violations() const { return violations_; }
  const std::map<std::string, int>& counts() const { return counts_; }  // What happened how often.

 private:
  using Key = std::pair<std::string, int64_t>;  // Job, epoch.
  struct Process {
    bool prepared = true;  // No process yet.
    int attempt = 0;
    std::vector<PlacedRank> ranks;
    int64_t images = 0;
    uint64_t sequence = 0;
    bool stopping = false;
  };
  // The truth about a node.
  struct Node {
    std::string id;
    int instance = 0;
    int64_t session = 0;  // 0: no stream.
    std::vector<SlotRecord> slots;
    std::map<Key, Process> processes;
    std::deque<Action> inbox;
    std::vector<SpoolReport> spool;  // Record n has sequence n + 1.
    size_t sent = 0;
  };

  int Draw(int below) { return static_cast<int>(random_() % static_cast<uint64_t>(below)); }
  bool Chance(int percent) { return Draw(100) < percent; }
  void Violate(const std::string& what);

  bool Do(const Event& event);
  void Take(const StepResult& result);
  void Restart();
  void LoadFinished(const Event& event);
  void CheckMutation(const Mutation& mutation);
  void CheckAction(const Action& action);
  void CheckSlots();

  void Person();
  void Pass(absl::Duration time);
  void Connect(Node& node);
  void Disconnect(Node& node);
  void Crash(Node& node);
  void TakeAction(Node& node);
  void Work(Node& node);
  void EndProcess(Node& node, const Key& key, int exit_code, bool worker_stopped);
  void Spool(Node& node, const Key& key, int attempt, SpoolBody body);
  void SendSpool(Node& node);
  void Lie(Node& node);
  Node& AnyNode() { return nodes_[Draw(static_cast<int>(nodes_.size()))]; }
  std::string AnyJob();

  std::mt19937_64 random_;
  StepOptions options_;
  Moment now_;
  ClusterState state_;
  ClusterState stored_;  // Durable mutations only; keeps finished jobs.
  std::vector<Node> nodes_;
  int64_t last_session_ = 0;
  int jobs_made_ = 0;
  bool trouble_ = true;
  bool poison_ = false;

  std::map<std::string, JobState> ended_;
  std::map<std::string, int64_t> epochs_;
  // By job: the newest attempt that was counted, and restarts since the last checkpoint after what a rank can cause.
  std::map<std::string, std::pair<int, int>> restarts_;
  std::set<std::tuple<std::string, int64_t, std::string>> agreed_;  // Job, epoch, worker: said that it is prepared.
  std::set<std::tuple<std::string, int, uint64_t>> metrics_;
  int64_t last_event_revision_ = 0;
  std::vector<std::string> violations_;
  std::map<std::string, int> counts_;
};

}  // namespace p2::scheduler

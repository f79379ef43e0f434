// p2d's decision core (server/scheduler, as it is) on a virtual clock, with nodes that train, break and are repaired.
// Nothing is wrong with messages, disks and clocks here: that is tests/server/scheduler/simulation's and tests/chaos's
// business. What is asked here is what failures of nodes and ranks cost.
//
// Between failures nothing is played that nobody would look at: of heartbeats only the last before an event, no tick
// while p2d waits for no deadline, and of a long row of checkpoints the last. The times are those that a full play has.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bench/goodput/ledger.h"
#include "bench/goodput/model.h"
#include "server/scheduler/cluster_state.h"
#include "server/scheduler/event.h"
#include "tests/server/scheduler/simulation/draws.h"

namespace p2::goodput {

struct Report {
  // Of all jobs that started, device-seconds: `wanted` from the first start to the end of each, and its parts.
  double wanted = 0;
  Parts parts{};
  double useful_by_images = 0;  // What the images of the results took: has to be parts[kUseful].
  // Of all devices, device-seconds: each is held by a job, idle, or not offered (broken, in maintenance, cordoned).
  double all = 0, held = 0, idle = 0, away = 0;
  double held_by_jobs = 0;  // By the jobs' own count: has to be `held`.
  int64_t crashes = 0, freezes = 0, lost_nodes = 0, broken_devices = 0, drains = 0;
  int64_t harmless = 0;  // Of these, those that met no rank.
  int64_t attempts = 0, jobs = 0, jobs_succeeded = 0, jobs_failed = 0, cordons = 0, steps = 0;

  double Goodput() const { return wanted > 0 ? parts[0] / wanted : 0; }
  double GoodputOfHeld() const { return held > 0 ? parts[0] / held : 0; }
  double GoodputOfAll() const { return all > 0 ? parts[0] / all : 0; }
};

// Not thread-safe. Everything follows from the setting.
class Cluster {
 public:
  explicit Cluster(const Setting& setting);
  // Once.
  Report Run();

 private:
  using GangKey = std::pair<std::string, int64_t>;  // Job, epoch.
  struct Node {
    int number = 0;
    std::string id;
    bool up = true;
    bool planned = false;     // People are at it: nothing else is done to it.
    bool looked_at = false;   // A person will come, for p2d has cordoned it.
    std::string broken_slot;  // Every rank there ends with 51.
    int boot = 1;
    int64_t session = 0;
    uint64_t spooled = 0;
    absl::Time beaten;
    scheduler::Draws faults{0}, drains{0};
  };
  struct Member {  // The ranks of a gang on one node.
    std::vector<scheduler::PlacedRank> ranks;
    bool started = false, gone = false;
  };
  // The truth about one attempt.
  struct Gang {
    int attempt = 0;
    std::map<int, Member> members;  // By the node's number.
    int rank_zero = -1;             // Its node.
    int devices = 0;
    std::string resume;  // Checkpoint that it begins from.
    bool stepping = false, hurt = false, saving = false, stopping = false, writer_gone = false;
    int64_t total = 0, next_save = 0;
    double images = 0;  // At `since`; rising while it works.
    absl::Time since;
    absl::Time written = absl::InfinitePast();  // When its writer is free.
    int saves = 0;
    int turn = 0;  // What was planned in an earlier one is off.

    bool works() const { return stepping && !hurt && !saving; }
  };
  struct Job {
    explicit Job(int wanted) : ledger(wanted) {}
    Ledger ledger;
    std::tuple<Part, int, int> now{Part::kWaiting, 0, 0};
    double result_images = 0;
  };

  // --- p2d and the clock (cluster.cc). ---
  void At(absl::Time time, std::function<void()> what);
  void After(absl::Duration time, std::function<void()> what) { At(now_ + time, std::move(what)); }
  // If the node is up and the same by then.
  void FromNode(const Node& node, std::function<void()> what);
  void AdvanceTo(absl::Time time);
  void BeatUntil(absl::Time time);
  absl::Time NextTick() const;
  bool WaitsForDeadline() const;
  scheduler::StepResult Tell(const scheduler::Event& event);
  scheduler::StepResult Step(const scheduler::Event& event);
  void Perform(const scheduler::Action& action);
  // After every event: what each job's and each device's time is spent on from now on.
  void Review();
  // With the devices that it runs on, and those that it holds.
  std::tuple<Part, int, int> PartOf(const scheduler::JobRecord& record) const;
  void EndJob(const scheduler::JobRecord& record);
  void Submit(int devices, int devices_min, int64_t images_total);
  void KeepFull();

  // --- Training (gangs.cc). ---
  Gang* Find(const GangKey& key);
  void Prepare(Node& node, const scheduler::Prepare& prepare);
  void StartRanks(Node& node, const scheduler::StartGang& start);
  void Begin(const GangKey& key);
  void PlanSave(const GangKey& key, Gang& gang);
  void BeginSave(const GangKey& key);
  void EndSave(const GangKey& key);
  void SaveAndEnd(const GangKey& key, Gang& gang, scheduler::TrainerFinished::Outcome outcome);
  void SendCheckpoint(const GangKey& key, double images);
  void Stop(const GangKey& key, Gang& gang);
  void Hurt(const GangKey& key, Gang& gang);
  void EndRanks(const GangKey& key, int node, int exit_code, bool frozen, bool killed);
  void Spool(const GangKey& key, int node, scheduler::SpoolBody body, std::function<void()> taken = nullptr);

  // --- Trouble (trouble.cc). ---
  void PlanFault(Node& node);
  void PlanDrain(Node& node);
  void Break(Node& node);
  void Drain(Node& node);
  void Crash(const GangKey& key, int node, int exit_code);
  void TakeDown(Node& node, absl::Duration time);
  void Return(Node& node);
  void Connect(Node& node);
  void SendToRepair(Node& node, absl::Duration time);
  void LookAfter(Node& node);

  const Setting setting_;
  const absl::Time begin_, end_;
  absl::Time now_;
  absl::Time last_tick_;
  bool tick_due_ = true;
  std::map<std::pair<absl::Time, int64_t>, std::function<void()>> calendar_;
  int64_t entries_ = 0;

  scheduler::ClusterState state_;
  std::vector<Node> nodes_;
  std::map<GangKey, Gang> gangs_;
  std::map<std::string, Job> jobs_;      // Live ones.
  std::map<std::string, double> saved_;  // Images of checkpoints, by `JOB/CHECKPOINT`.
  scheduler::Draws lengths_, jitter_;
  int64_t last_session_ = 0;
  double held_rate_ = 0, idle_rate_ = 0, away_rate_ = 0;  // Devices, now.
  Report report_;
};

}  // namespace p2::goodput

// A scheduler that tries every placement agrees with the real one on small cases: up to 4 gangs on up to 3 workers. A
// gang starts if and only if there is a placement that the order and the reservations before it leave, and on the
// fewest workers that any placement needs.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduler/cluster.h"
#include "tests/server/scheduler/simulation/draws.h"

namespace p2::scheduler {
namespace {

constexpr uint64_t kCases = 4000;

using Slot = std::pair<std::string, std::string>;  // Worker, slot.

bool Sees(const WorkerRecord& worker, const JobRecord& job) {
  return std::any_of(worker.roots.begin(), worker.roots.end(),
                     [&](const RootRecord& root) { return root.id == job.needs.checkpoint_root_id; });
}

// The fewest workers of any placement of the gang on `slots` (by kind); none if there is no placement. Tries them all.
std::optional<size_t> FewestWorkers(const JobRecord& job, const std::map<std::string, std::vector<Slot>>& slots) {
  std::optional<size_t> fewest;
  for (const auto& [kind, of_kind] : slots) {
    if (!job.needs.kind.empty() && kind != job.needs.kind) continue;
    for (uint32_t chosen = 0; chosen < (uint32_t{1} << of_kind.size()); ++chosen) {
      int devices = 0;
      std::set<std::string> workers;
      for (size_t i = 0; i < of_kind.size(); ++i) {
        if ((chosen >> i & 1) == 0) continue;
        ++devices;
        workers.insert(of_kind[i].first);
      }
      if (devices == job.needs.devices && (!fewest.has_value() || workers.size() < *fewest)) fewest = workers.size();
    }
  }
  return fewest;
}

class Case {
 public:
  explicit Case(uint64_t seed) : draws_(Mix(seed + 1)) {
    const int workers = 1 + draws_.Below(3);
    for (int i = 0; i < workers; ++i) Connect(absl::StrCat("w", i));
    // What runs already.
    for (int i = draws_.Below(3); i > 0; --i) Submit(absl::StrCat("busy-", i), /*paused=*/false);
    const int gangs = 1 + draws_.Below(4);
    for (int i = 0; i < gangs; ++i) Submit(absl::StrCat("gang-", i), /*paused=*/true);
    // All of them come before one and the same pass: none starts while the disk is full.
    cluster_.Must(DiskState{true, "full"});
    for (int i = 0; i < gangs; ++i) cluster_.Must(ResumeJob{{"user:ann"}, absl::StrCat("gang-", i)});
    before_ = cluster_.state;
    cluster_.Must(DiskState{false, ""});
    cluster_.Must(Tick{});
  }

  void Check() {
    std::vector<JobPtr> queue;
    for (const auto& [id, job] : before_.live_jobs()) {
      if (job->state == JobState::kQueued) queue.push_back(job);
    }
    std::sort(queue.begin(), queue.end(), [](const JobPtr& a, const JobPtr& b) {
      return std::make_tuple(-a->priority, a->create_order) < std::make_tuple(-b->priority, b->create_order);
    });
    std::set<Slot> held;
    for (const auto& [id, job] : before_.live_jobs()) Hold(*job, held);
    std::set<std::string> reserved;  // Workers.
    for (const JobPtr& job : queue) {
      const JobRecord& after = cluster_.Job(job->id);
      const std::optional<size_t> fewest = FewestWorkers(*job, Slots(*job, held, reserved));
      EXPECT_EQ(after.state == JobState::kStarting, fewest.has_value()) << job->id << ": " << after.message;
      if (after.state == JobState::kStarting) {
        CheckPlacement(after, held, reserved);
        EXPECT_EQ(cluster_.WorkersOf(job->id).size(), fewest.value_or(0)) << job->id;
        Hold(after, held);
      } else if (FewestWorkers(*job, Slots(*job, {}, {})).has_value()) {
        // It waits for devices that exist: nothing behind it may take what it could use.
        for (const auto& [id, worker] : before_.workers()) {
          if (Sees(*worker, *job)) reserved.insert(id);
        }
      }
    }
  }

  std::string Describe() const {
    std::string text;
    for (const auto& [id, worker] : before_.workers()) {
      absl::StrAppend(&text, id, ":");
      for (const SlotRecord& slot : worker->slots) absl::StrAppend(&text, " ", slot.id);
      for (const RootRecord& root : worker->roots) absl::StrAppend(&text, " ", root.id);
      absl::StrAppend(&text, "\n");
    }
    for (const auto& [id, job] : before_.live_jobs()) {
      absl::StrAppend(&text, id, ": ", JobStateName(job->state), " ", job->needs.devices, " ", job->needs.kind, " on ",
                      job->needs.checkpoint_root_id, " priority ", job->priority, "; after: ");
      const JobPtr after = cluster_.state.FindJob(id);
      absl::StrAppend(&text, JobStateName(after->state));
      if (const Attempt* attempt = after->live_attempt(); attempt != nullptr) {
        for (const RankPlacement& rank : attempt->ranks) absl::StrAppend(&text, " ", rank.worker, "/", rank.slot);
      }
      absl::StrAppend(&text, "\n");
    }
    return text;
  }

  int started() const {
    int started = 0;
    for (const auto& [id, job] : cluster_.state.live_jobs()) started += job->state == JobState::kStarting;
    return started;
  }

 private:
  void Connect(const std::string& id) {
    std::vector<SlotRecord> slots = Cluster::Slots("cpu", draws_.Below(4));
    for (SlotRecord& slot : Cluster::Slots("cuda", draws_.Below(3))) slots.push_back(slot);
    WorkerConnected hello = cluster_.Hello(id, slots);
    hello.hello.roots.clear();
    if (draws_.Percent(85)) hello.hello.roots.push_back({"data", "root-data"});
    if (draws_.Percent(50)) hello.hello.roots.push_back({"scratch", "root-scratch"});
    cluster_.Must(hello);
  }

  void Submit(const std::string& id, bool paused) {
    CreateJob create = Cluster::Submission(id, 1 + draws_.Below(4));
    const int kind = draws_.Below(10);
    create.needs.kind = kind < 6 ? "cpu" : kind < 8 ? "cuda" : "";
    create.needs.dataset_root = create.needs.dataset_root_id = "";
    if (draws_.Percent(30)) {
      create.needs.checkpoint_root = "scratch";
      create.needs.checkpoint_root_id = "root-scratch";
    }
    create.priority = draws_.Below(3);
    create.paused = paused;
    cluster_.Must(create);
  }

  static void Hold(const JobRecord& job, std::set<Slot>& held) {
    const Attempt* attempt = job.live_attempt();
    if (attempt == nullptr) return;
    for (const RankPlacement& rank : attempt->ranks) held.insert({rank.worker, rank.slot});
  }

  // By kind, those that the job may have.
  std::map<std::string, std::vector<Slot>> Slots(const JobRecord& job, const std::set<Slot>& held,
                                                 const std::set<std::string>& reserved) const {
    std::map<std::string, std::vector<Slot>> slots;
    for (const auto& [id, worker] : before_.workers()) {
      if (!Sees(*worker, job) || reserved.count(id) > 0) continue;
      for (const SlotRecord& slot : worker->slots) {
        if (held.count({id, slot.id}) == 0) slots[slot.kind].emplace_back(id, slot.id);
      }
    }
    return slots;
  }

  void CheckPlacement(const JobRecord& job, const std::set<Slot>& held, const std::set<std::string>& reserved) const {
    const auto may_have = Slots(job, held, reserved);
    std::set<Slot> taken;
    std::set<std::string> kinds;
    for (const RankPlacement& rank : job.live_attempt()->ranks) {
      const Slot slot(rank.worker, rank.slot);
      EXPECT_TRUE(taken.insert(slot).second) << job.id << " takes " << rank.worker << "/" << rank.slot << " twice";
      const std::string kind = rank.slot.substr(0, rank.slot.find(':'));
      kinds.insert(kind);
      const auto of_kind = may_have.find(kind);
      EXPECT_TRUE(of_kind != may_have.end() && std::count(of_kind->second.begin(), of_kind->second.end(), slot) == 1)
          << job.id << " may not have " << rank.worker << "/" << rank.slot;
    }
    EXPECT_EQ(taken.size(), static_cast<size_t>(job.needs.devices));
    EXPECT_EQ(kinds.size(), 1u) << job.id << " mixes kinds";
  }

  Draws draws_;
  Cluster cluster_;
  ClusterState before_;
};

TEST(BruteForceTest, AgreesOnEverySmallCase) {
  int started = 0;
  for (uint64_t seed = 0; seed < kCases && !testing::Test::HasFailure(); ++seed) {
    Case small(seed);
    small.Check();
    started += small.started();
    if (testing::Test::HasFailure()) ADD_FAILURE() << "case " << seed << "\n" << small.Describe();
  }
  EXPECT_GT(started, static_cast<int>(kCases / 2));
}

}  // namespace
}  // namespace p2::scheduler

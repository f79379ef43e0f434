// A scheduler that tries every placement agrees with the real one on small cases: up to 4 gangs on up to 3 workers. A
// gang starts if and only if there is a placement that the order and the reservations before it leave; it gets as many
// devices as any placement gives it, on the fewest workers that any such placement needs.
#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduler/cluster.h"
#include "tests/server/scheduler/simulation/draws.h"

namespace p2::scheduler {
namespace {

constexpr uint64_t kCases = 4000;

using Slot = std::pair<std::string, std::string>;        // Worker, slot.
using Offer = std::map<std::string, std::vector<Slot>>;  // By kind.

// The best of all placements: the most devices, then the fewest workers.
struct Best {
  int devices = 0;
  size_t workers = 0;
};

// None if there is no placement of the gang on these slots. Tries every subset of those of one kind.
std::optional<Best> BestPlacement(const JobRecord& job, const Offer& offer) {
  std::optional<Best> best;
  for (const auto& [kind, slots] : offer) {
    if (!job.needs->kind.empty() && kind != job.needs->kind) continue;
    for (uint32_t chosen = 0; chosen < (uint32_t{1} << slots.size()); ++chosen) {
      Best tried;
      std::set<std::string> workers;
      for (size_t i = 0; i < slots.size(); ++i) {
        if ((chosen >> i & 1) == 0) continue;
        ++tried.devices;
        workers.insert(slots[i].first);
      }
      tried.workers = workers.size();
      if (tried.devices < job.needs->least_devices() || tried.devices > job.needs->devices) continue;
      if (!best.has_value() ||
          std::make_pair(-tried.devices, tried.workers) < std::make_pair(-best->devices, best->workers)) {
        best = tried;
      }
    }
  }
  return best;
}

bool Sees(const WorkerRecord& worker, const JobRecord& job) {
  return std::any_of(worker.roots.begin(), worker.roots.end(),
                     [&](const RootRecord& root) { return root.id == job.needs->checkpoint_root_id; });
}

std::set<Slot> SlotsOf(const std::vector<RankPlacement>& ranks) {
  std::set<Slot> slots;
  for (const RankPlacement& rank : ranks) slots.insert({rank.worker, rank.slot});
  return slots;
}

std::set<Slot> Without(const std::set<Slot>& all, const std::set<Slot>& less) {
  std::set<Slot> rest;
  std::set_difference(all.begin(), all.end(), less.begin(), less.end(), std::inserter(rest, rest.end()));
  return rest;
}

class Case {
 public:
  explicit Case(uint64_t seed) : draws_(Mix(seed + 1)) {
    for (int i = draws_.Below(3); i >= 0; --i) Connect(absl::StrCat("w", i));
    for (int i = draws_.Below(3); i > 0; --i) {  // What runs already; nobody may take its devices.
      CreateJob busy = NewJob(absl::StrCat("busy-", i));
      busy.needs.preemptible = false;
      cluster_.Must(busy);
      if (cluster_.Job(busy.id).state == JobState::kQueued) cluster_.Must(KillJob{{"user:ann"}, busy.id, ""});
    }
    for (int i = draws_.Below(4); i >= 0; --i)
      Take(*Step(cluster_.state, NewJob(absl::StrCat("gang-", i)), cluster_.now));
    before_ = cluster_.state;
    Take(*Step(cluster_.state, SchedulePass{}, cluster_.now));
  }

  void Check() {
    std::vector<JobPtr> queue;
    for (const JobPtr& job : before_.live_jobs().Sorted()) {
      if (job->state == JobState::kQueued) queue.push_back(job);
    }
    std::sort(queue.begin(), queue.end(), [](const JobPtr& a, const JobPtr& b) {
      return std::make_tuple(-a->priority, a->create_order) < std::make_tuple(-b->priority, b->create_order);
    });
    std::set<Slot> held;
    for (const JobPtr& job : before_.live_jobs().Sorted()) Hold(*job, held);
    const std::set<Slot> busy = held;
    std::vector<Reservation> ahead;  // Of jobs before.
    bool somebody_waits = false;
    for (const JobPtr& job : queue) {
      const JobRecord& after = cluster_.Job(job->id);
      std::set<Slot> kept, kept_from_it;  // Reserved for those before; and what of it this job may not have meanwhile.
      for (const Reservation& reservation : ahead) {
        const std::set<Slot> slots = SlotsOf(reservation.ranks);
        kept.insert(slots.begin(), slots.end());
        if (!MayBackfill(*job, reservation, busy)) kept_from_it.insert(slots.begin(), slots.end());
      }
      std::optional<Best> best = BestPlacement(*job, OfferTo(*job, held, kept));
      const bool backfill = !best.has_value();
      if (backfill) best = BestPlacement(*job, OfferTo(*job, held, kept_from_it));
      EXPECT_EQ(after.state == JobState::kStarting, best.has_value()) << job->id << ": " << after.message;
      if (after.state == JobState::kStarting && best.has_value()) {
        CheckPlacement(after, OfferTo(*job, held, backfill ? kept_from_it : kept));
        EXPECT_EQ(after.attempts.back()->backfill, backfill) << job->id;
        EXPECT_EQ(after.attempts.back()->ranks.size(), static_cast<size_t>(best->devices)) << job->id;
        EXPECT_EQ(cluster_.WorkersOf(job->id).size(), best->workers) << job->id;
        Hold(after, held);
      }
      const auto reservation = cluster_.state.reservations().find(job->id);
      if (reservation != cluster_.state.reservations().end()) {
        CheckReservation(*job, reservation->second, ahead);
        ahead.push_back(reservation->second);
      } else if (after.state == JobState::kQueued &&
                 BestPlacement(*job, OfferTo(*job, Without(held, busy), {})).has_value()) {
        // The first that waits for devices that exist has them reserved. What this very pass gave away the next one
        // counts.
        EXPECT_TRUE(somebody_waits) << job->id << " waits, and nothing is reserved for it";
      }
      somebody_waits |= after.state == JobState::kQueued;
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
    for (const JobPtr& job : before_.live_jobs().Sorted()) {
      const JobNeeds& needs = *job->needs;
      absl::StrAppend(&text, job->id, ": ", JobStateName(job->state), " ", needs.least_devices(), " to ", needs.devices,
                      " ", needs.kind, " on ", needs.checkpoint_root_id, " priority ", job->priority,
                      needs.preemptible ? "" : " not preemptible", "; after: ");
      const JobPtr after = cluster_.state.FindJob(job->id);
      absl::StrAppend(&text, JobStateName(after->state));
      if (const Attempt* attempt = after->live_attempt(); attempt != nullptr) {
        for (const RankPlacement& rank : attempt->ranks) absl::StrAppend(&text, " ", rank.worker, "/", rank.slot);
      }
      absl::StrAppend(&text, "\n");
    }
    for (const auto& [id, reservation] : cluster_.state.reservations()) {
      absl::StrAppend(&text, "reserved for ", id, ":");
      for (const RankPlacement& rank : reservation.ranks) absl::StrAppend(&text, " ", rank.worker, "/", rank.slot);
      absl::StrAppend(&text, "\n");
    }
    return text;
  }

  void Count(std::map<std::string, int>& counts) const {
    for (const JobPtr& job : cluster_.state.live_jobs().Sorted()) {
      if (job->id.front() == 'b') continue;
      ++counts[std::string(JobStateName(job->state))];
      counts["backfill"] += job->live_attempt() != nullptr && job->live_attempt()->backfill;
    }
    counts["reserved"] += static_cast<int>(cluster_.state.reservations().size());
  }

 private:
  void Connect(const std::string& id) {
    std::vector<SlotRecord> slots = Cluster::Slots("cpu", draws_.Below(4));
    for (const SlotRecord& slot : Cluster::Slots("cuda", draws_.Below(3))) slots.push_back(slot);
    WorkerConnected hello = cluster_.Hello(id, slots);
    hello.hello.roots.clear();
    if (draws_.Percent(85)) hello.hello.roots.push_back({"data", "root-data"});
    if (draws_.Percent(50)) hello.hello.roots.push_back({"scratch", "root-scratch"});
    cluster_.Must(hello);
  }

  CreateJob NewJob(const std::string& id) {
    CreateJob create = Cluster::Submission(id, 1 + draws_.Below(4));
    JobNeeds& needs = create.needs;
    if (draws_.Percent(30)) needs.devices_min = 1 + draws_.Below(needs.devices);
    const int kind = draws_.Below(10);
    needs.kind = kind < 6 ? "cpu" : kind < 8 ? "cuda" : "";
    needs.dataset_root = needs.dataset_root_id = "";
    if (draws_.Percent(30)) {
      needs.checkpoint_root = "scratch";
      needs.checkpoint_root_id = "root-scratch";
    }
    needs.preemptible = draws_.Percent(50);
    create.priority = draws_.Below(3);
    return create;
  }

  void Take(const StepResult& result) {
    for (const Mutation& mutation : result.mutations) cluster_.state.Apply(mutation);
  }

  static void Hold(const JobRecord& job, std::set<Slot>& held) {
    const Attempt* attempt = job.live_attempt();
    if (attempt == nullptr) return;
    for (const RankPlacement& rank : attempt->ranks) held.insert({rank.worker, rank.slot});
  }

  Offer OfferTo(const JobRecord& job, const std::set<Slot>& held, const std::set<Slot>& kept) const {
    Offer offer;
    for (const auto& [id, worker] : before_.workers()) {
      if (!Sees(*worker, job)) continue;
      for (const SlotRecord& slot : worker->slots) {
        const Slot it(id, slot.id);
        if (held.count(it) == 0 && kept.count(it) == 0) offer[slot.kind].push_back(it);
      }
    }
    return offer;
  }

  // Reserved devices go to a job that yields when it is asked to, if there is time: some of the others are still held,
  // by nobody knows for how long.
  bool MayBackfill(const JobRecord& job, const Reservation& reservation, const std::set<Slot>& busy) const {
    const StepOptions options;
    if (!job.needs->preemptible) return false;
    if (reservation.start_mono - cluster_.now.mono <= 2 * job.needs->stop_deadline + options.backfill_least)
      return false;
    return std::any_of(reservation.ranks.begin(), reservation.ranks.end(), [&](const RankPlacement& rank) {
      return busy.count({rank.worker, rank.slot}) > 0;
    });
  }

  void CheckPlacement(const JobRecord& job, const Offer& offer) const {
    std::set<Slot> taken;
    std::set<std::string> kinds;
    for (const RankPlacement& rank : job.live_attempt()->ranks) {
      EXPECT_TRUE(taken.insert({rank.worker, rank.slot}).second)
          << job.id << " takes " << rank.worker << "/" << rank.slot << " twice";
      const std::string kind = rank.slot.substr(0, rank.slot.find(':'));
      kinds.insert(kind);
      const auto of_kind = offer.find(kind);
      EXPECT_TRUE(of_kind != offer.end() &&
                  std::count(of_kind->second.begin(), of_kind->second.end(), Slot(rank.worker, rank.slot)) == 1)
          << job.id << " may not have " << rank.worker << "/" << rank.slot;
    }
    EXPECT_EQ(kinds.size(), 1u) << job.id << " mixes kinds";
    EXPECT_TRUE(job.needs->kind.empty() || kinds.count(job.needs->kind) > 0) << job.id << " got another kind";
  }

  void CheckReservation(const JobRecord& job, const Reservation& reservation,
                        const std::vector<Reservation>& ahead) const {
    const std::set<Slot> slots = SlotsOf(reservation.ranks);
    EXPECT_EQ(slots.size(), static_cast<size_t>(job.needs->least_devices())) << "reserved for " << job.id;
    const Offer all = OfferTo(job, {}, {});
    for (const Slot& slot : slots) {
      const auto of_kind = all.find(slot.second.substr(0, slot.second.find(':')));
      EXPECT_TRUE(of_kind != all.end() && std::count(of_kind->second.begin(), of_kind->second.end(), slot) == 1)
          << slot.first << "/" << slot.second << ", reserved for " << job.id << ", is not for it";
      for (const Reservation& other : ahead) {
        EXPECT_EQ(SlotsOf(other.ranks).count(slot), 0u)
            << slot.first << "/" << slot.second << " is reserved for " << other.job << " and " << job.id;
      }
    }
  }

  Draws draws_;
  Cluster cluster_;
  ClusterState before_;
};

TEST(BruteForceTest, AgreesOnEverySmallCase) {
  std::map<std::string, int> counts;
  for (uint64_t seed = 0; seed < kCases && !testing::Test::HasFailure(); ++seed) {
    Case small(seed);
    small.Check();
    small.Count(counts);
    if (testing::Test::HasFailure()) ADD_FAILURE() << "case " << seed << "\n" << small.Describe();
  }
  // The cases were of all kinds.
  for (const char* kind : {"STARTING", "QUEUED", "reserved", "backfill"}) EXPECT_GT(counts[kind], 20) << kind;
}

}  // namespace
}  // namespace p2::scheduler

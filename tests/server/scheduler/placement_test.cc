#include "server/scheduler/placement.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/slot_index.h"

namespace p2::scheduler {
namespace {

using ::testing::ElementsAre;

WorkerRecord Worker(const std::string& id, std::vector<SlotRecord> slots) {
  WorkerRecord worker;
  worker.id = id;
  worker.session = 1;
  worker.slots = std::move(slots);
  return worker;
}

std::vector<SlotRecord> Slots(const std::string& kind, int count) {
  std::vector<SlotRecord> slots;
  for (int i = 0; i < count; ++i) slots.push_back({absl::StrCat(kind, ":", i), kind});
  return slots;
}

class Slotted {
 public:
  explicit Slotted(const std::vector<WorkerRecord>& workers) {
    for (const WorkerRecord& worker : workers) index_.Update(worker, {});
  }
  SlotIndex& index() { return index_; }
  const SlotIndex& index() const { return index_; }
  std::vector<SlotIndex::ClassId> Classes(absl::string_view kind = "") const {
    std::vector<SlotIndex::ClassId> ids;
    for (const auto& [id, in] : index_.classes()) {
      if (kind.empty() || in.traits.kind == kind) ids.push_back(id);
    }
    return ids;
  }
  // `w0/cpu:0`, in rank order.
  std::vector<std::string> Placed(int most, int least, absl::string_view kind = "") const {
    return Names(FreeSlots(index_).Place(most, least, Classes(kind)));
  }
  static std::vector<std::string> Names(const std::optional<std::vector<RankPlacement>>& ranks) {
    if (!ranks.has_value()) return {"nowhere"};
    std::vector<std::string> slots;
    for (const RankPlacement& rank : *ranks) {
      EXPECT_EQ(rank.rank, static_cast<int>(slots.size()));
      slots.push_back(absl::StrCat(rank.worker, "/", rank.slot));
    }
    return slots;
  }

 private:
  SlotIndex index_;
};

Slotted FourThreeTwo() {
  return Slotted({Worker("w0", Slots("cpu", 4)), Worker("w1", Slots("cpu", 2)), Worker("w2", Slots("cpu", 3))});
}

TEST(PlacementTest, TakesTheWorkerThatFitsMostTightly) {
  EXPECT_THAT(FourThreeTwo().Placed(2, 2), ElementsAre("w1/cpu:0", "w1/cpu:1"));
}

TEST(PlacementTest, UsesTheFewestWorkers) {
  const Slotted slots({Worker("w0", Slots("cpu", 1)), Worker("w1", Slots("cpu", 2)), Worker("w2", Slots("cpu", 4)),
                       Worker("w3", Slots("cpu", 1))});
  EXPECT_THAT(slots.Placed(5, 5), ElementsAre("w0/cpu:0", "w2/cpu:0", "w2/cpu:1", "w2/cpu:2", "w2/cpu:3"));
}

TEST(PlacementTest, BreaksTiesByTheLowerWorkerIdAcrossClasses) {
  WorkerRecord other = Worker("w0", Slots("cpu", 1));
  other.labels = {{"zone", "b"}};
  EXPECT_THAT(Slotted({Worker("w1", Slots("cpu", 1)), other}).Placed(1, 1), ElementsAre("w0/cpu:0"));
}

TEST(PlacementTest, FindsNoPlaceWhereDevicesAreMissing) {
  const Slotted slots({Worker("w0", Slots("cpu", 1)), Worker("w1", Slots("cpu", 1))});
  EXPECT_THAT(slots.Placed(3, 3), ElementsAre("nowhere"));
  EXPECT_THAT(slots.Placed(1, 1, "cuda"), ElementsAre("nowhere"));
}

TEST(PlacementTest, AnElasticGangTakesWhatIsThereDownToItsLeast) {
  const Slotted slots({Worker("w0", Slots("cpu", 1)), Worker("w1", Slots("cpu", 2))});
  EXPECT_THAT(slots.Placed(8, 2), ElementsAre("w0/cpu:0", "w1/cpu:0", "w1/cpu:1"));
  EXPECT_THAT(slots.Placed(2, 1), ElementsAre("w1/cpu:0", "w1/cpu:1"));
  EXPECT_THAT(slots.Placed(8, 4), ElementsAre("nowhere"));
}

std::vector<SlotRecord> Both(int count) {
  std::vector<SlotRecord> slots = Slots("cpu", count);
  for (const SlotRecord& slot : Slots("cuda", count)) slots.push_back(slot);
  return slots;
}

TEST(PlacementTest, NeverMixesKinds) {
  EXPECT_THAT(Slotted({Worker("w0", Both(1))}).Placed(2, 2), ElementsAre("nowhere"));
  EXPECT_THAT(Slotted({Worker("w0", Both(1)), Worker("w1", Slots("cpu", 1))}).Placed(2, 2),
              ElementsAre("w0/cpu:0", "w1/cpu:0"));
}

TEST(PlacementTest, PrefersCudaWhereTheKindIsFree) {
  EXPECT_THAT(Slotted({Worker("w0", Both(2))}).Placed(2, 2), ElementsAre("w0/cuda:0", "w0/cuda:1"));
}

TEST(PlacementTest, WhatIsTakenIsGoneUntilItIsGivenBack) {
  const Slotted slots = FourThreeTwo();
  FreeSlots free(slots.index());
  const auto first = free.Place(3, 3, slots.Classes());
  free.Take(*first);
  EXPECT_THAT(Slotted::Names(free.Place(3, 3, slots.Classes())), ElementsAre("w0/cpu:0", "w0/cpu:1", "w0/cpu:2"));
  free.Give(*first);
  EXPECT_EQ(free.Place(3, 3, slots.Classes()), first);
}

TEST(PlacementTest, TheIndexFollowsItsWorkers) {
  Slotted slots = FourThreeTwo();
  EXPECT_EQ(slots.index().classes().size(), 1u);
  const int64_t before = slots.index().generation();
  slots.index().Update(Worker("w1", Slots("cpu", 2)), {"cpu:0"});
  EXPECT_EQ(slots.index().generation(), before);
  EXPECT_THAT(slots.Placed(1, 1), ElementsAre("w1/cpu:1"));
  WorkerRecord cordoned = Worker("w1", Slots("cpu", 2));
  cordoned.cordoned = true;
  slots.index().Update(cordoned, {});
  EXPECT_THAT(slots.Placed(2, 2), ElementsAre("w2/cpu:0", "w2/cpu:1"));
  for (const char* worker : {"w0", "w2"}) slots.index().Update(Worker(worker, {}), {});
  EXPECT_TRUE(slots.index().classes().empty());
}

WorkerRecord Ready() {
  WorkerRecord worker;
  worker.id = "w0";
  worker.session = 1;
  worker.slots = {{"cpu:0", "cpu"}, {"cpu:1", "cpu"}};
  worker.roots = {{"data", "uuid-1"}};
  return worker;
}

TEST(PlacementTest, KnowsARootByItsIdAndWithoutOneByItsName) {
  EXPECT_TRUE(SeesRoot(Ready(), "another-name", "uuid-1"));
  EXPECT_FALSE(SeesRoot(Ready(), "data", "uuid-2"));
  EXPECT_TRUE(SeesRoot(Ready(), "data", ""));
  EXPECT_TRUE(SeesRoot(Ready(), "", ""));
}

TEST(PlacementTest, AnOrphanHoldsItsSlotsAndAnUnknownOneTheWholeWorker) {
  WorkerRecord worker = Ready();
  worker.orphans = {{"job-a", 1, {"cpu:1"}}};
  EXPECT_THAT(HeldSlots(worker, {}), ElementsAre("cpu:1"));
  worker.orphans = {{"job-b", 1, {}}};
  EXPECT_THAT(HeldSlots(worker, {}), ElementsAre("cpu:0", "cpu:1"));
}

TEST(PlacementTest, OnlyReadyConnectedWorkersTakeGangs) {
  EXPECT_TRUE(TakesGangs(Ready()));
  WorkerRecord worker = Ready();
  worker.session = 0;
  EXPECT_FALSE(TakesGangs(worker));
  worker = Ready();
  worker.cordoned = true;
  EXPECT_FALSE(TakesGangs(worker));
  worker = Ready();
  worker.state = WorkerState::kSuspect;
  EXPECT_FALSE(TakesGangs(worker));
}

}  // namespace
}  // namespace p2::scheduler

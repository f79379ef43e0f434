#include "server/scheduler/placement.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::scheduler {
namespace {

using ::testing::ElementsAre;

FreeSlots Free(const std::string& worker, const std::string& kind, int count) {
  FreeSlots free{worker, {}};
  for (int i = 0; i < count; ++i) free.by_kind[kind].push_back(absl::StrCat(kind, ":", i));
  return free;
}

// `w0/cpu:0`, in rank order.
std::vector<std::string> Placed(int devices, absl::string_view kind, const std::vector<FreeSlots>& free) {
  std::vector<std::string> slots;
  const auto ranks = Place(devices, kind, free);
  if (!ranks.has_value()) return {"nowhere"};
  for (const RankPlacement& rank : *ranks) {
    EXPECT_EQ(rank.rank, static_cast<int>(slots.size()));
    slots.push_back(absl::StrCat(rank.worker, "/", rank.slot));
  }
  return slots;
}

TEST(PlacementTest, TakesTheWorkerThatFitsMostTightly) {
  EXPECT_THAT(Placed(2, "cpu", {Free("w0", "cpu", 4), Free("w1", "cpu", 2), Free("w2", "cpu", 3)}),
              ElementsAre("w1/cpu:0", "w1/cpu:1"));
}

TEST(PlacementTest, UsesTheFewestWorkers) {
  EXPECT_THAT(
      Placed(5, "cpu", {Free("w0", "cpu", 1), Free("w1", "cpu", 2), Free("w2", "cpu", 4), Free("w3", "cpu", 1)}),
      ElementsAre("w0/cpu:0", "w2/cpu:0", "w2/cpu:1", "w2/cpu:2", "w2/cpu:3"));
}

TEST(PlacementTest, BreaksTiesByTheLowerWorkerId) {
  EXPECT_THAT(Placed(1, "cpu", {Free("w1", "cpu", 1), Free("w0", "cpu", 1)}), ElementsAre("w0/cpu:0"));
}

TEST(PlacementTest, FindsNoPlaceWhereDevicesAreMissing) {
  EXPECT_THAT(Placed(3, "cpu", {Free("w0", "cpu", 1), Free("w1", "cpu", 1)}), ElementsAre("nowhere"));
  EXPECT_THAT(Placed(1, "cuda", {Free("w0", "cpu", 1)}), ElementsAre("nowhere"));
}

TEST(PlacementTest, NeverMixesKinds) {
  FreeSlots both = Free("w0", "cpu", 1);
  both.by_kind["cuda"] = {"cuda:0"};
  EXPECT_THAT(Placed(2, "", {both}), ElementsAre("nowhere"));
  EXPECT_THAT(Placed(2, "", {both, Free("w1", "cpu", 1)}), ElementsAre("w0/cpu:0", "w1/cpu:0"));
}

TEST(PlacementTest, PrefersCudaWhereTheKindIsFree) {
  FreeSlots both = Free("w0", "cpu", 2);
  both.by_kind["cuda"] = {"cuda:0", "cuda:1"};
  EXPECT_THAT(Placed(2, "", {both}), ElementsAre("w0/cuda:0", "w0/cuda:1"));
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
  EXPECT_THAT(HeldSlots(worker, {}), ElementsAre(testing::Pair("cpu:1", "job-a")));
  worker.orphans = {{"job-b", 1, {}}};
  EXPECT_THAT(HeldSlots(worker, {}), ElementsAre(testing::Pair("cpu:0", "job-b"), testing::Pair("cpu:1", "job-b")));
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

#include <cmath>
#include <numeric>

#include "bench/goodput/cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::goodput {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::Ge;
using ::testing::Gt;
using ::testing::Le;
using ::testing::Lt;

// Fails far more often than anything published, so that a few days show much.
Setting Rough(double mttf_hours = 1000) {
  Setting setting;
  setting.time = absl::Hours(24 * 10);
  setting.faults.mttf_hours = mttf_hours;
  return setting;
}

// Only this kind of failure, and no drains.
Setting Only(double crash_share, double freeze_share) {
  Setting setting = Rough();
  setting.faults.crash_share = crash_share;
  setting.faults.freeze_share = freeze_share;
  setting.faults.replacement_share = 0;
  setting.faults.drain_hours = 0;
  return setting;
}

double Seconds(const Report& report, Part part) { return report.parts[static_cast<int>(part)]; }

// Of one, and of 64 devices.
double SecondsEach(const Report& report, Part part, int64_t count) {
  return Seconds(report, part) / static_cast<double>(count) / 64;
}

void ExpectConserved(const Report& report) {
  const double parts = std::accumulate(report.parts.begin(), report.parts.end(), 0.0);
  EXPECT_THAT(parts, DoubleNear(report.wanted, 1e-6 * report.wanted));
  EXPECT_THAT(report.held + report.idle + report.away, DoubleNear(report.all, 1e-6 * report.all));
  EXPECT_THAT(report.held_by_jobs, DoubleNear(report.held, 1e-6 * report.all));
  EXPECT_THAT(Seconds(report, Part::kUseful), DoubleNear(report.useful_by_images, 1e-6 * report.wanted));
  for (const double part : report.parts) EXPECT_THAT(part, Ge(0));
}

TEST(GoodputTest, EveryDeviceSecondIsCountedOnce) {
  Setting drained = Rough();
  drained.faults.drain_hours = 2000;
  Setting spare = Rough();
  spare.spare_nodes = 1;
  Setting elastic = Rough();
  elastic.devices_min = 8;
  Setting mix = Rough();
  mix.mix_jobs = 6;
  mix.people = 3;
  mix.time = absl::Hours(24);
  Setting broken = Rough(20'000);
  broken.faults.broken_device_share = 0.5;
  for (const Setting& setting : {Rough(), drained, spare, elastic, mix, broken}) {
    const Report report = Cluster(setting).Run();
    ExpectConserved(report);
    EXPECT_THAT(report.lost_nodes + report.crashes + report.broken_devices, Gt(0));
    EXPECT_THAT(report.Goodput(), AllOf(Gt(0.01), Lt(0.999)));
  }
}

TEST(GoodputTest, TheSameSeedGivesTheSameReport) {
  const Report first = Cluster(Rough()).Run(), second = Cluster(Rough()).Run();
  EXPECT_EQ(first.parts, second.parts);
  EXPECT_EQ(first.steps, second.steps);
  Setting other = Rough();
  other.seed = 2;
  EXPECT_NE(first.parts, Cluster(other).Run().parts);
}

TEST(GoodputTest, WithoutFailuresOnlyStartsAndCheckpointsCost) {
  Setting setting = Rough(0);
  setting.faults.drain_hours = 0;
  const Report report = Cluster(setting).Run();
  ExpectConserved(report);
  EXPECT_EQ(report.attempts, 1);
  EXPECT_EQ(Seconds(report, Part::kLostWork), 0);
  EXPECT_EQ(Seconds(report, Part::kWaiting), 0);
  // 100,000 images at 0.36 a second and device; the last one is saved at the end.
  const double saves = std::floor(10 * 86'400 / (100'000 / 0.36 / 64 + 0.0036));
  EXPECT_THAT(SecondsEach(report, Part::kCheckpoint, 1), DoubleNear(saves * 0.0036 + 0.0036 + 23, 0.1));
  EXPECT_THAT(SecondsEach(report, Part::kRestart, 1), DoubleNear(1.88, 0.1));
}

TEST(GoodputTest, FallsWithTheFailureRate) {
  double before = 1;
  for (const double mttf : {50'000, 8'000, 1'000, 100}) {
    Setting setting = Rough(mttf);
    setting.spare_nodes = 2;
    setting.time = absl::Hours(24 * 30);
    const double goodput = Cluster(setting).Run().Goodput();
    EXPECT_THAT(goodput, Lt(before)) << mttf;
    before = goodput;
  }
  EXPECT_THAT(before, Lt(0.6));
}

TEST(GoodputTest, FallsWithTheCheckpointInterval) {
  double before = 1;
  for (const int64_t images : {10'000, 100'000, 400'000}) {  // 7 minutes, 72 minutes, 5 hours.
    Setting setting = Rough();
    setting.spare_nodes = 2;
    setting.costs.checkpoint_every_images = images;
    const double goodput = Cluster(setting).Run().Goodput();
    EXPECT_THAT(goodput, Lt(before - 0.005)) << images;
    before = goodput;
  }
  EXPECT_THAT(before, Lt(0.9));
}

TEST(GoodputTest, FallsWhereCheckpointsComeFasterThanTheyAreWritten) {
  Setting setting = Rough(0);
  setting.costs.images_per_second = 255;  // 6.1 s from one checkpoint to the next, 23 s until it is durable.
  setting.time = absl::Hours(2);
  const Report report = Cluster(setting).Run();
  ExpectConserved(report);
  EXPECT_THAT(report.Goodput(), DoubleNear(6.127 / 23.0, 0.01));
}

TEST(GoodputTest, ADeadRankIsSeenAfterTheGraceOfItsGang) {
  Setting setting = Only(1, 0);
  const Report report = Cluster(setting).Run();
  ASSERT_THAT(report.crashes, Gt(5));
  EXPECT_THAT(SecondsEach(report, Part::kDetection, report.crashes - report.harmless), DoubleNear(2.02, 0.05));
  EXPECT_THAT(SecondsEach(report, Part::kBackoff, report.crashes - report.harmless), DoubleNear(1, 0.3));
}

TEST(GoodputTest, AFrozenRankIsSeenAtTheDeadlineOfAStep) {
  Setting setting = Only(0, 1);
  const Report report = Cluster(setting).Run();
  ASSERT_THAT(report.freezes, Gt(5));
  EXPECT_THAT(SecondsEach(report, Part::kDetection, report.freezes - report.harmless), AllOf(Ge(120), Le(121.1)));
}

// p2d's own option decides, not the model.
TEST(GoodputTest, ALostNodeIsReplacedAfterLostAfter) {
  for (const int lost_after : {15, 60}) {
    Setting setting = Only(0, 0);
    setting.spare_nodes = 2;
    setting.step.lost_after = absl::Seconds(lost_after);
    const Report report = Cluster(setting).Run();
    ASSERT_THAT(report.lost_nodes, Gt(5));
    // Silence counts from the last heartbeat, up to 2 s before.
    EXPECT_THAT(SecondsEach(report, Part::kDetection, report.lost_nodes - report.harmless),
                AllOf(Ge(lost_after - 2), Le(lost_after + 0.5)));
    EXPECT_THAT(SecondsEach(report, Part::kWaiting, report.lost_nodes), Lt(60));
  }
}

TEST(GoodputTest, WithoutASpareNodeTheJobWaitsForTheRepair) {
  const Report report = Cluster(Only(0, 0)).Run();
  ASSERT_THAT(report.lost_nodes, Gt(5));
  EXPECT_THAT(SecondsEach(report, Part::kWaiting, report.lost_nodes), AllOf(Gt(2400), Le(3600)));
}

TEST(GoodputTest, AnElasticJobGoesOnWithoutTheNode) {
  Setting setting = Only(0, 0);
  const Report rigid = Cluster(setting).Run();
  setting.devices_min = 8;
  const Report elastic = Cluster(setting).Run();
  ExpectConserved(elastic);
  EXPECT_THAT(elastic.Goodput(), Gt(rigid.Goodput() + 0.01));
  EXPECT_THAT(Seconds(elastic, Part::kWaiting), Lt(Seconds(rigid, Part::kWaiting) / 10));
  EXPECT_THAT(Seconds(elastic, Part::kFewer), Gt(0));
}

TEST(GoodputTest, WhatIsPassedOverChangesNothing) {
  Setting setting = Rough(200);
  setting.time = absl::Hours(5);
  setting.costs.checkpoint_every_images = 2'000;  // 87 s.
  setting.seed = 3;
  const Report fast = Cluster(setting).Run();
  setting.play_all = true;
  const Report full = Cluster(setting).Run();
  EXPECT_THAT(fast.lost_nodes + fast.crashes, Gt(0));
  EXPECT_THAT(fast.steps, Lt(full.steps / 4));
  for (int i = 0; i < kParts; ++i) {
    EXPECT_THAT(fast.parts[i], DoubleNear(full.parts[i], 1e-6 * full.wanted)) << PartName(static_cast<Part>(i));
  }
}

}  // namespace
}  // namespace p2::goodput

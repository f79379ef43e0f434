#include "server/coordinator/watch_hub.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::coordinator {
namespace {

using ::testing::HasSubstr;

JobChange Change(int64_t revision, const std::string& id, scheduler::JobState state = scheduler::JobState::kRunning) {
  auto job = std::make_shared<scheduler::JobRecord>();
  job->id = id;
  job->state = state;
  job->revision = revision;
  return {revision, id, std::move(job)};
}

int64_t NextRevision(JobWatch& watch) {
  const auto change = watch.Next(absl::ZeroDuration());
  return change.ok() && change->has_value() ? (*change)->revision : -1;
}

TEST(WatchHubTest, BeginsNowAndGoesOnWithEveryChange) {
  WatchHub hub({});
  hub.Reset(7, 0);
  const auto watch = hub.WatchJobs({}, 0);
  ASSERT_TRUE(watch.ok());
  EXPECT_EQ(NextRevision(**watch), -1);
  hub.Publish({Change(8, "a"), Change(9, "b")}, {}, {});
  EXPECT_EQ(NextRevision(**watch), 8);
  EXPECT_EQ(NextRevision(**watch), 9);
  EXPECT_EQ(NextRevision(**watch), -1);
}

TEST(WatchHubTest, ResumesWithoutAGapAndRefusesWhatIsNoLongerKept) {
  WatchHub hub({.history = 3, .reader_buffer = 10});
  for (int64_t i = 1; i <= 5; ++i) hub.Publish({Change(i, "a")}, {}, {});
  const auto resumed = hub.WatchJobs({}, 4);
  ASSERT_TRUE(resumed.ok());
  EXPECT_EQ(NextRevision(**resumed), 4);
  EXPECT_EQ(NextRevision(**resumed), 5);
  EXPECT_TRUE(absl::IsOutOfRange(hub.WatchJobs({}, 2).status()));
  EXPECT_TRUE(absl::IsOutOfRange(hub.WatchJobs({}, 7).status()));
  EXPECT_TRUE(hub.WatchJobs({}, 6).ok());
}

TEST(WatchHubTest, ASlowReaderIsCutOffWithItsRevisionAndCostsTheOthersNothing) {
  WatchHub hub({.history = 100, .reader_buffer = 3});
  const auto slow = hub.WatchJobs({}, 0);
  const auto quick = hub.WatchJobs({}, 0);
  for (int64_t i = 1; i <= 6; ++i) {
    hub.Publish({Change(i, "a")}, {}, {});
    EXPECT_EQ(NextRevision(**quick), i);
  }
  for (int64_t i = 1; i <= 3; ++i) EXPECT_EQ(NextRevision(**slow), i);
  const auto end = (*slow)->Next(absl::ZeroDuration());
  EXPECT_TRUE(absl::IsUnavailable(end.status()));
  EXPECT_THAT(std::string(end.status().message()), HasSubstr("resume from revision 4"));
  EXPECT_EQ((*slow)->resume_revision(), 4);
  const auto again = hub.WatchJobs({}, (*slow)->resume_revision());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(NextRevision(**again), 4);
}

TEST(WatchHubTest, SaysWhenThereIsSomethingToReadAgain) {
  WatchHub hub({.history = 100, .reader_buffer = 3});
  const auto watch = hub.WatchJobs({}, 0);
  int calls = 0;
  (*watch)->OnReady([&] { ++calls; });
  EXPECT_EQ(calls, 0);
  hub.Publish({Change(1, "a"), Change(2, "a")}, {}, {});
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(NextRevision(**watch), 1);
  EXPECT_EQ(NextRevision(**watch), 2);
  EXPECT_EQ(NextRevision(**watch), -1);
  hub.Publish({Change(3, "a")}, {}, {});
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(NextRevision(**watch), 3);
  hub.Stop();
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(absl::IsUnavailable((*watch)->Next(absl::ZeroDuration()).status()));

  WatchHub late({});
  const auto waiting = late.WatchJobs({}, 0);
  late.Publish({Change(1, "a")}, {}, {});
  bool called = false;
  (*waiting)->OnReady([&] { called = true; });
  EXPECT_TRUE(called);
}

TEST(WatchHubTest, FollowsOnlyTheJobsThatWereAskedFor) {
  WatchHub hub({});
  const auto watch = hub.WatchJobs({"b"}, 0);
  hub.Publish({Change(1, "a"), Change(2, "b"), {3, "b", nullptr}}, {}, {});
  EXPECT_EQ(NextRevision(**watch), 2);
  EXPECT_EQ(NextRevision(**watch), 3);
}

TEST(WatchHubTest, EventsComeByResource) {
  WatchHub hub({});
  const auto watch = hub.WatchEvents("jobs/a", 0);
  scheduler::EventRecord event;
  event.resource = "jobs/b";
  scheduler::EventRecord mine;
  mine.resource = "jobs/a";
  hub.Publish({}, {{1, event}, {2, mine}}, {});
  const auto change = (*watch)->Next(absl::ZeroDuration());
  ASSERT_TRUE(change.ok() && change->has_value());
  EXPECT_EQ((*change)->revision, 2);
}

TEST(WatchHubTest, ActivityOfAJobIsToldUntilItsEndOrTheReaders) {
  WatchHub hub({});
  int told = 0, left = 0;
  const auto reader = hub.WatchActivity("a", [&told] { ++told; });
  auto leaving = hub.WatchActivity("a", [&left] { ++left; });
  hub.Publish({Change(1, "a")}, {}, {"a"});
  EXPECT_EQ(told, 1);
  hub.Publish({Change(2, "b")}, {}, {"a", "b"});
  EXPECT_EQ(told, 2);
  EXPECT_EQ(left, 2);
  leaving.reset();
  hub.Publish({Change(3, "a", scheduler::JobState::kFailed)}, {}, {});
  EXPECT_EQ(told, 3);
  EXPECT_EQ(left, 2);
  hub.Publish({}, {}, {"a"});
  EXPECT_EQ(told, 3) << "nothing follows the end";
}

TEST(WatchHubTest, StopEndsEveryWatch) {
  WatchHub hub({});
  const auto watch = hub.WatchJobs({}, 0);
  hub.Stop();
  EXPECT_TRUE(absl::IsUnavailable((*watch)->Next(absl::Seconds(10)).status()));
  EXPECT_TRUE(absl::IsUnavailable(hub.WatchJobs({}, 0).status()));
}

}  // namespace
}  // namespace p2::coordinator

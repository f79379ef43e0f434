#include "worker/trainer/rank_monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <mutex>
#include <set>

#include "absl/synchronization/notification.h"
#include "tests/worker/dist/gang.h"

namespace p2::trainer {
namespace {

class CountingSink final : public EventSink {
 public:
  void Emit(const Event& event) override { ++events; }
  std::atomic<int> events{0};
};

void WaitUntil(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (!condition() && absl::Now() < deadline) std::this_thread::yield();
  ASSERT_TRUE(condition());
}

TEST(RankMonitorTest, AllRanksStopAfterTheSameIterationWhereverTheyStand) {
  std::mutex mutex;
  std::set<int64_t> last;
  std::atomic<bool> stop{false};
  dist::RunGang(3, [&](dist::ProcessGroup& group) {
    CountingSink sink;
    // Only rank 2 is asked.
    RankMonitor monitor({.stop = group.rank() == 2 ? &stop : nullptr, .stop_deadline = absl::Seconds(10)}, sink);
    ASSERT_TRUE(monitor.Formed(group).ok());
    at::Tensor sum = at::ones({1});
    int64_t done = 0;
    for (int64_t n = 1;; ++n) {
      const auto may = monitor.MayEnqueue(n);
      ASSERT_TRUE(may.ok()) << may.status();
      if (!*may) break;
      ASSERT_TRUE(group.AllReduceSum(sum).ok());  // As a step: it needs all ranks.
      done = n;
      if (n == 20) stop = true;
    }
    EXPECT_TRUE(monitor.stopping());
    std::lock_guard<std::mutex> lock(mutex);
    last.insert(done);
  });
  ASSERT_EQ(last.size(), 1u);
  EXPECT_GE(*last.begin(), 20);
}

TEST(RankMonitorTest, TakesTheEndOfTheCommandPipeForAStop) {
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  CountingSink sink;
  auto group = dist::ProcessGroup::Create({});
  {
    RankMonitor monitor({.command_fd = fds[0]}, sink);
    ASSERT_TRUE(monitor.Formed(**group).ok());
    EXPECT_TRUE(*monitor.MayEnqueue(1));
    EXPECT_FALSE(monitor.stopping());
    ::close(fds[1]);
    WaitUntil([&] { return monitor.stopping(); });
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    for (int64_t n = 2; *monitor.MayEnqueue(n); ++n) ASSERT_LT(absl::Now(), deadline) << "it never stops";
  }
  ::close(fds[0]);
}

TEST(RankMonitorTest, LeavesAtOnceWhileTheGangIsForming) {
  std::atomic<bool> stop{false};
  absl::Notification left;
  CountingSink sink;
  RankMonitor monitor({.stop = &stop,
                       .leave_while_forming =
                           [&] {
                             if (!left.HasBeenNotified()) left.Notify();
                           }},
                      sink);
  monitor.Forming();
  stop = true;
  EXPECT_TRUE(left.WaitForNotificationWithTimeout(absl::Seconds(10)));
}

TEST(RankMonitorTest, FailsWhenARankDoesNotAnswerTheStop) {
  dist::RunGang(2, [&](dist::ProcessGroup& group) {
    if (group.rank() == 1) return;  // Never hears of it.
    std::atomic<bool> stop{true};
    CountingSink sink;
    RankMonitor monitor({.stop = &stop, .stop_deadline = absl::Milliseconds(300)}, sink);
    ASSERT_TRUE(monitor.Formed(group).ok());
    absl::StatusOr<bool> may = true;
    int64_t n = 0;
    WaitUntil([&] { return !(may = monitor.MayEnqueue(++n)).ok(); });
    EXPECT_EQ(may.status().code(), absl::StatusCode::kUnavailable);
  });
}

TEST(RankMonitorTest, ReportsWithoutBeingAsked) {
  CountingSink sink;
  RankMonitor monitor({}, sink);
  WaitUntil([&] { return sink.events >= 2; });
}

}  // namespace
}  // namespace p2::trainer

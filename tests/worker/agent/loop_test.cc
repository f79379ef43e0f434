#include "worker/agent/loop.h"

#include <memory>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace p2::agent {
namespace {

TEST(LoopTest, TellsWhatThePoolHasDone) {
  Loop loop;
  bool worked = false, told = false;
  loop.InPool([&] { worked = true; },
              [&] {
                told = worked;
                loop.Quit();
              });
  loop.Run();
  EXPECT_TRUE(told);
}

// An agent that stops while storage is slow: the work ends, but nobody is there for its result.
TEST(LoopTest, WaitsForThePoolAtItsEndWithoutTellingAnybody) {
  absl::Notification began;
  bool worked = false, told = false;
  {
    Loop loop;
    loop.InPool(
        [&] {
          began.Notify();
          worked = true;
        },
        [&] { told = true; });
    began.WaitForNotification();
  }
  EXPECT_TRUE(worked);
  EXPECT_FALSE(told);
}

}  // namespace
}  // namespace p2::agent

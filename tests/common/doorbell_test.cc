#include "common/doorbell.h"

#include <thread>

#include "gtest/gtest.h"

namespace p2 {
namespace {

TEST(DoorbellTest, EndsAWaitThatIsUnderWay) {
  Doorbell bell;
  std::thread ringer([&] { bell.Ring(); });
  EXPECT_TRUE(bell.WaitFor(absl::InfiniteDuration()));
  ringer.join();
}

TEST(DoorbellTest, RemembersOneRing) {
  Doorbell bell;
  bell.Ring();
  bell.Ring();
  EXPECT_TRUE(bell.WaitFor(absl::ZeroDuration()));
  EXPECT_FALSE(bell.WaitFor(absl::Milliseconds(1)));
}

}  // namespace
}  // namespace p2

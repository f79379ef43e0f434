#include "worker/trainer/standalone_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/trainer/tiny_dataset.h"

namespace p2::trainer {
namespace {

using ::testing::HasSubstr;

TEST(StandaloneSinkTest, TellsHowItEndedAndHowToGoOn) {
  ::testing::internal::CaptureStdout();
  {
    StandaloneSink sink(FreshDir(), 100);
    sink.Emit(Finished{Finished::Outcome::kStopped, 40, 48, ""});
  }
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("stopped at 48 images; go on with --resume"));
}

}  // namespace
}  // namespace p2::trainer

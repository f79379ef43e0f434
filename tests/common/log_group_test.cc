#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "common/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LogGroupTest, WritesItsThreadsLinesInOrderWhenItGoes) {
  InitLogging("test", LogLevel::kInfo);
  ::testing::internal::CaptureStderr();
  {
    const LogGroup group;
    P2_LOG(kInfo) << "one";
    P2_LOG(kDebug) << "dropped";
    P2_LOG(kWarning) << "two";
    std::thread([] { P2_LOG(kInfo) << "of another thread"; }).join();
  }
  P2_LOG(kInfo) << "after it";
  const std::vector<std::string> lines = absl::StrSplit(::testing::internal::GetCapturedStderr(), '\n');
  EXPECT_THAT(lines, ElementsAre(HasSubstr("\"of another thread\""), HasSubstr("\"one\""), HasSubstr("\"two\""),
                                 HasSubstr("\"after it\""), ""));
}

TEST(LogGroupTest, WritesNothingWithoutLines) {
  ::testing::internal::CaptureStderr();
  { const LogGroup group; }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace p2

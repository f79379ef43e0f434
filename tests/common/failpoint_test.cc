#include "common/failpoint.h"

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::failpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What is armed stays armed in a process, so every test takes failpoints of its own.

TEST(FailpointTest, DoesNothingUntilItIsArmed) {
  EXPECT_TRUE(P2_FAILPOINT("loop.before_ack").ok());
  ASSERT_TRUE(Enable(nullptr).ok());
  ASSERT_TRUE(Enable("").ok());
  EXPECT_TRUE(P2_FAILPOINT("loop.before_ack").ok());
}

TEST(FailpointTest, FailsAtTheNamedPassageOnly) {
  ASSERT_TRUE(Enable("spool.before_write=enospc@2,spool.before_sync=eio").ok());
  EXPECT_TRUE(P2_FAILPOINT("spool.before_write").ok());
  const absl::Status full = P2_FAILPOINT("spool.before_write");
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("spool.before_write, passage 2"));
  EXPECT_TRUE(P2_FAILPOINT("spool.before_write").ok());
  EXPECT_TRUE(absl::IsInternal(P2_FAILPOINT("spool.before_sync")));
  EXPECT_TRUE(absl::IsInternal(P2_FAILPOINT("spool.before_sync")));
  EXPECT_TRUE(P2_FAILPOINT("spool.after_sync").ok());
}

TEST(FailpointTest, Waits) {
  ASSERT_TRUE(Enable("journal.before_write=delay:30").ok());
  const absl::Time begin = absl::Now();
  EXPECT_TRUE(P2_FAILPOINT("journal.before_write").ok());
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(30));
}

TEST(FailpointTest, KillsTheProcess) {
  EXPECT_EXIT(
      {
        Enable("store.before_write=kill@2").IgnoreError();
        P2_FAILPOINT("store.before_write").IgnoreError();
        P2_FAILPOINT("store.before_write").IgnoreError();
      },
      ::testing::KilledBySignal(SIGKILL), "failpoint store.before_write, passage 2: SIGKILL");
}

TEST(FailpointTest, RefusesWhatItDoesNotKnowAndListsWhatThereIs) {
  for (const char* wrong : {"store.befor_write=kill", "store.before_write=die", "store.before_write", "=kill",
                            "store.before_write=kill@0", "store.before_write=kill@x", "store.before_write=delay",
                            "store.before_write=delay:-1", "store.before_write=delay:100000"}) {
    const absl::Status status = Enable(wrong);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(wrong), HasSubstr("checkpoint.after_parent_sync")));
  }
}

TEST(FailpointTest, EveryNameStandsSomewhereInTheSources) {
  std::string sources;
  for (const char* top : {"server", "worker"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(absl::StrCat(P2_SOURCE_DIR, "/", top))) {
      if (entry.path().extension() != ".cc") continue;
      std::stringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      sources += text.str();
    }
  }
  for (const char* name : kNames) EXPECT_THAT(sources, HasSubstr(absl::StrCat("P2_FAILPOINT(\"", name, "\")")));
}

}  // namespace
}  // namespace p2::failpoint

// list, wait and logs: which jobs and lines they choose.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using JobsTest = P2ctlTest;

v1::Job Labelled(const std::string& id, v1::Job::State state, const std::string& sweep) {
  v1::Job job = MakeJob(id, state);
  (*job.mutable_labels())["sweep"] = sweep;
  return job;
}

TEST_F(JobsTest, WatchTakesASelectorAsListDoes) {
  // The fake server lists every job, whatever the selector; what comes after the list is p2ctl's choice. What happened
  // in between comes in the order of names.
  server_.SetJob(MakeJob("first", v1::Job::RUNNING));
  const auto equal = Start({"list", "-w", "-l", "sweep=a", "-o", "name"});
  const auto other = Start({"list", "-w", "-l", "sweep!=a, sweep", "-o", "name"});
  ASSERT_TRUE(equal->ReadUntil("first\n"));
  ASSERT_TRUE(other->ReadUntil("first\n"));
  server_.SetJob(Labelled("n1-b", v1::Job::RUNNING, "b"));
  server_.SetJob(MakeJob("n2-none", v1::Job::RUNNING));
  server_.SetJob(Labelled("n3-a", v1::Job::RUNNING, "a"));
  server_.SetJob(Labelled("n4-b", v1::Job::RUNNING, "b"));
  ASSERT_TRUE(equal->ReadUntil("n3-a\n"));
  ASSERT_TRUE(other->ReadUntil("n4-b\n"));
  for (const auto& [process, out] :
       {std::pair(equal.get(), "first\nn3-a\n"), std::pair(other.get(), "first\nn1-b\nn4-b\n")}) {
    process->Signal(SIGINT);
    const P2ctlResult result = process->Wait();
    EXPECT_EQ(result.exit_code, 130);
    EXPECT_EQ(result.out, out);
    EXPECT_THAT(result.err, HasSubstr("stopped watching; the jobs go on"));
  }
}

TEST_F(JobsTest, WatchShowsChangesAloneBeyondTheLimit) {
  for (const char* id : {"a", "b", "c"}) server_.SetJob(MakeJob(id, v1::Job::RUNNING));
  const auto watch = Start({"list", "-w", "--limit", "1", "-o", "name"});
  ASSERT_TRUE(watch->ReadUntil("a\n"));
  server_.SetJob(MakeJob("d", v1::Job::RUNNING));
  ASSERT_TRUE(watch->ReadUntil("d\n"));
  watch->Signal(SIGINT);
  EXPECT_EQ(watch->Wait().out, "a\nd\n");
}

TEST_F(JobsTest, SortsBeforeItLimits) {
  int64_t images = 0;
  for (const char* id : {"a", "b", "c"}) server_.SetJob(MakeJob(id, v1::Job::RUNNING, ++images));
  EXPECT_EQ(P2ctl({"list", "--sort", "images", "--limit", "2", "-o", "name"}).out, "c\nb\n");
}

TEST_F(JobsTest, NamedJobsAreFilteredToo) {
  server_.SetJob(Labelled("a", v1::Job::RUNNING, "x"));
  server_.SetJob(Labelled("b", v1::Job::FAILED, "x"));
  EXPECT_EQ(P2ctl({"get", "a", "b", "--state", "FAILED", "-o", "name"}).out, "b\n");
  EXPECT_EQ(P2ctl({"get", "a", "b", "-l", "sweep=y", "-o", "name"}).out, "");
  EXPECT_EQ(P2ctl({"get", "a", "b", "-l", "sweep", "--user", "ada", "-o", "name"}).out, "a\nb\n");
}

TEST_F(JobsTest, WideShowsTheFirstLineOfTheMessage) {
  v1::Job job = MakeJob("a", v1::Job::FAILED);
  job.set_message("rank 1 died\nthe end of its log");
  server_.SetJob(job);
  EXPECT_THAT(P2ctl({"list", "-o", "wide"}).out,
              AllOf(HasSubstr("MESSAGE\n"), HasSubstr("rank 1 died\n"), Not(HasSubstr("the end of its log"))));
  EXPECT_THAT(P2ctl({"list"}).out, Not(HasSubstr("rank 1 died")));
}

TEST_F(JobsTest, WaitSaysAtOnceWhatCanNeverBe) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING, 8100));
  server_.SetJob(MakeJob("going", v1::Job::CANCELLING));
  server_.SetJob(MakeJob("done", v1::Job::SUCCEEDED, 18000));
  const auto never = [this](const std::string& job, const std::string& condition, const std::string& why) {
    const P2ctlResult result = P2ctl({"wait", job, "--for", condition, "--timeout", "60s"});
    EXPECT_EQ(result.exit_code, 6) << condition;
    EXPECT_THAT(result.err, HasSubstr(absl::StrCat("never reaches ", condition, ": ", job, " (", why, ")")));
  };
  never("a", "images=1M", "it ends at 18,000 images");
  never("going", "RUNNING", "it is CANCELLING");
  never("done", "PAUSED", "it is SUCCEEDED");
  EXPECT_EQ(P2ctl({"wait", "a", "--for", "images=18k", "--timeout", "50ms"}).exit_code, 8);
  EXPECT_EQ(P2ctl({"wait", "going", "--for", "CANCELLED", "--timeout", "50ms"}).exit_code, 8);
  server_.SetJob(MakeJob("p", v1::Job::PAUSED));
  const P2ctlResult paused = P2ctl({"wait", "p", "--timeout", "50ms"});
  EXPECT_EQ(paused.exit_code, 8);
  EXPECT_THAT(paused.err, AllOf(HasSubstr("`p2ctl resume p` queues it"), HasSubstr("timed out after 50ms")));
  EXPECT_THAT(P2ctl({"wait", "--help"}).out, AllOf(HasSubstr("images=500k"), HasSubstr("metric:loss<=0.05")));
}

TEST_F(JobsTest, LogsSayWhereOtherLogsAreAndWhichAttemptsThereAre) {
  v1::Job job = MakeJob("a", v1::Job::RUNNING);
  job.add_attempts()->set_number(1);
  server_.SetJob(job);
  const auto err = [this](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {"logs", "a"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const P2ctlResult result = P2ctl(arguments);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_THAT(err({"--source", "scheduler"}), HasSubstr("`p2ctl events a`"));
  EXPECT_THAT(err({"--source", "worker"}), HasSubstr("p2-worker.log"));
  EXPECT_THAT(err({"--source", "disk"}), HasSubstr("one of train"));
  EXPECT_EQ(P2ctl({"logs", "a", "--source", "train", "--attempt", "1"}).exit_code, 0);
  EXPECT_THAT(err({"--attempt", "7"}), HasSubstr("job a has made 1"));
}

}  // namespace
}  // namespace p2::testing

// stop, kill, pause, resume and delete of several jobs, update, and node drain.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class ControlTest : public P2ctlTest {
 protected:
  void SetLabelled(const std::string& id, v1::Job::State state, const std::string& sweep) {
    v1::Job job = MakeJob(id, state);
    (*job.mutable_labels())["sweep"] = sweep;
    server_.SetJob(job);
  }

  // p2ctl with a terminal at all ends, where `answer` is typed once it asks: what it wrote, and its exit code.
  std::pair<std::string, int> OnTerminal(std::vector<std::string> arguments, const std::string& answer) {
    arguments.insert(arguments.begin(), std::string(P2_BIN_DIR) + "/p2ctl");
    arguments.insert(arguments.end(), {"--addr", server_.address(), "--no-color"});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    winsize size = {.ws_row = 24, .ws_col = 200, .ws_xpixel = 0, .ws_ypixel = 0};
    int terminal = -1;
    const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
    if (pid == 0) {
      execv(argv[0], argv.data());
      _exit(127);
    }
    std::string text;
    bool answered = false;
    char buffer[1024];
    for (ssize_t got; (got = read(terminal, buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<size_t>(got));
      if (answered || !absl::StrContains(text, "[y/N] ")) continue;
      answered = true;
      const std::string line = answer + "\n";
      EXPECT_EQ(write(terminal, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    }
    int status = 0;
    waitpid(pid, &status, 0);
    close(terminal);
    return {text, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
  }
};

TEST_F(ControlTest, SeveralNamedJobsGoInOneCall) {
  for (const char* id : {"a1", "b1", "c1"}) server_.SetJob(MakeJob(id, v1::Job::RUNNING));
  const P2ctlResult result = P2ctl({"stop", "a", "b", "a1", "--reason", "flat", "--request-id", "r1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "ID  DONE\na1  asked to stop\nb1  asked to stop\n");
  server_.With([](FakeState& s) {
    ASSERT_THAT(s.controls, SizeIs(1));
    EXPECT_EQ(s.controls[0].verb(), v1::ControlJobsRequest::STOP);
    EXPECT_THAT(s.controls[0].names(), ElementsAre("jobs/a1", "jobs/b1"));
    EXPECT_EQ(s.controls[0].reason(), "flat");
    EXPECT_EQ(s.controls[0].request_id(), "r1");
  });
  EXPECT_EQ(State("c1").state(), v1::Job::RUNNING);
  EXPECT_EQ(nlohmann::json::parse(P2ctl({"stop", "a", "b", "-o", "json"}).out)["items"][1]["name"], "jobs/b1");
  EXPECT_EQ(P2ctl({"stop", "a", "no-such"}).exit_code, 3);
}

TEST_F(ControlTest, ASelectorWantsAYes) {
  SetLabelled("a1", v1::Job::RUNNING, "a");
  SetLabelled("a2", v1::Job::QUEUED, "a");
  SetLabelled("a3", v1::Job::SUCCEEDED, "a");
  SetLabelled("b1", v1::Job::RUNNING, "b");
  const P2ctlResult asked = P2ctl({"kill", "-l", "sweep=a"});
  EXPECT_EQ(asked.exit_code, 2);
  EXPECT_THAT(asked.err, AllOf(HasSubstr("it would kill 2 jobs: a1 a2;"), HasSubstr("--yes")));
  EXPECT_THAT(asked.out, IsEmpty());
  EXPECT_EQ(State("a1").state(), v1::Job::RUNNING);
  EXPECT_EQ(P2ctl({"kill", "-l", "sweep=a", "--yes", "-o", "name"}).out, "a1\na2\n");
  EXPECT_EQ(State("a1").state(), v1::Job::CANCELLED);
  EXPECT_EQ(State("b1").state(), v1::Job::RUNNING);
  const P2ctlResult none = P2ctl({"kill", "-l", "sweep=a", "--yes"});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_THAT(none.err, HasSubstr("no job that it could kill matches"));
  EXPECT_EQ(P2ctl({"kill", "b1", "-l", "sweep=a"}).exit_code, 2);
}

TEST_F(ControlTest, ChoosesByOwnerStateAndProjectToo) {
  server_.SetJob(MakeJob("q", v1::Job::QUEUED));
  server_.SetJob(MakeJob("r", v1::Job::RUNNING));
  v1::Job other = MakeJob("bobs", v1::Job::RUNNING);
  other.set_owner("bob");
  other.set_project("faces");
  server_.SetJob(other);
  EXPECT_EQ(P2ctl({"pause", "--user", "bob", "--yes", "-q"}).out, "bobs\n");
  server_.SetJob(other);
  EXPECT_EQ(P2ctl({"pause", "--state", "running", "--project", "faces", "--yes", "-q"}).out, "bobs\n");
  EXPECT_EQ(State("r").state(), v1::Job::RUNNING);
  EXPECT_EQ(P2ctl({"pause", "--state", "running", "--yes", "-q"}, {{"P2_PROJECT", "no-such"}}).exit_code, 3);
  EXPECT_EQ(P2ctl({"stop", "--state", "QUEUED", "--yes", "-q"}).out, "q\n");
  EXPECT_EQ(P2ctl({"stop", "--state", "ASLEEP"}).exit_code, 2);
  server_.SetJob(MakeJob("p", v1::Job::PAUSED));
  EXPECT_EQ(P2ctl({"resume", "--user", "ada", "--yes", "-q"}).out, "p\n");
}

TEST_F(ControlTest, AsksOnATerminal) {
  SetLabelled("a1", v1::Job::RUNNING, "a");
  SetLabelled("a2", v1::Job::RUNNING, "a");
  const auto [refused, code] = OnTerminal({"stop", "-l", "sweep=a"}, "n");
  EXPECT_THAT(refused, AllOf(HasSubstr("stop 2 jobs: a1 a2? [y/N] "), HasSubstr("nothing was changed")));
  EXPECT_EQ(code, 1);
  EXPECT_EQ(State("a1").state(), v1::Job::RUNNING);
  const auto [done, done_code] = OnTerminal({"stop", "-l", "sweep=a"}, "y");
  EXPECT_THAT(done, HasSubstr("a2  asked to stop"));
  EXPECT_EQ(done_code, 0);
  EXPECT_EQ(State("a1").state(), v1::Job::CANCELLED);
}

TEST_F(ControlTest, ResumeMayChangeDevicesAndPriorityOfOneJob) {
  server_.SetJob(MakeJob("a", v1::Job::PAUSED));
  server_.SetJob(MakeJob("b", v1::Job::PAUSED));
  EXPECT_EQ(P2ctl({"resume", "a", "--devices", "2:8", "--priority", "-3"}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_EQ(s.last_resume.devices(), 8);
    EXPECT_EQ(s.last_resume.min_devices(), 2);
    EXPECT_EQ(s.last_resume.priority(), -3);
  });
  server_.SetJob(MakeJob("a", v1::Job::PAUSED));
  EXPECT_EQ(P2ctl({"resume", "a"}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_FALSE(s.last_resume.has_devices());
    EXPECT_FALSE(s.last_resume.has_priority());
  });
  EXPECT_EQ(P2ctl({"resume", "a", "b", "--devices", "2"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"resume", "b", "--devices", "none"}).exit_code, 2);
}

TEST_F(ControlTest, UpdateChangesPriorityLabelsAndNote) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  EXPECT_EQ(P2ctl({"update", "a", "--priority", "10", "--label", "team=vision", "--label", "sweep-", "--note", "x y",
                   "-o", "csv", "--fields", "id,priority", "--no-headers"})
                .out,
            "a,10\n");
  server_.With([](FakeState& s) {
    EXPECT_EQ(s.last_update.set_labels().at("team"), "vision");
    EXPECT_THAT(s.last_update.erase_labels(), ElementsAre("sweep"));
    EXPECT_EQ(s.last_update.note(), "x y");
  });
  EXPECT_THAT(P2ctl({"update", "a", "--note", ""}).out, StartsWith("ID  STATE    PRIORITY  LABELS\n"));
  server_.With([](FakeState& s) {
    EXPECT_TRUE(s.last_update.has_note());
    EXPECT_FALSE(s.last_update.has_priority());
  });
  EXPECT_EQ(P2ctl({"update", "a"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"update", "a", "--label", "team"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"update", "a", "--label", "=x"}).exit_code, 2);
}

TEST_F(ControlTest, DrainTakesADeadline) {
  EXPECT_EQ(P2ctl({"node", "drain", "w0", "--deadline", "1m30s500ms", "--reason", "disk"}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_EQ(s.last_drain.name(), "workers/w0");
    EXPECT_EQ(s.last_drain.reason(), "disk");
    EXPECT_EQ(s.last_drain.deadline().seconds(), 90);
    EXPECT_EQ(s.last_drain.deadline().nanos(), 500'000'000);
  });
  EXPECT_EQ(P2ctl({"node", "drain", "w0"}).exit_code, 0);
  server_.With([](FakeState& s) { EXPECT_FALSE(s.last_drain.has_deadline()); });
  EXPECT_EQ(P2ctl({"node", "drain", "w0", "--deadline", "5"}).exit_code, 2);
}

}  // namespace
}  // namespace p2::testing

// `p2ctl local` with shell scripts in the places of p2d and p2-worker: what it starts, restarts and stops, in which
// order.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/client/p2ctl/p2ctl_process.h"

namespace p2::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

// Lines that the daemons write into a named pipe: who waits for one sleeps until it comes.
class Journal {
 public:
  explicit Journal(std::string path) : path_(std::move(path)) {
    if (mkfifo(path_.c_str(), 0600) != 0) std::abort();
    // Open for writing too, so that it never ends.
    fd_ = open(path_.c_str(), O_RDWR | O_CLOEXEC);
  }
  ~Journal() { close(fd_); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // The next line; empty if none comes within `timeout_ms`.
  std::string NextLine(int timeout_ms = 60'000) {
    while (true) {
      if (const size_t end = text_.find('\n'); end != std::string::npos) {
        const std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return line;
      }
      pollfd ready = {fd_, POLLIN, 0};
      char buffer[4096];
      if (poll(&ready, 1, timeout_ms) != 1) return "";
      const ssize_t got = read(fd_, buffer, sizeof(buffer));
      if (got > 0) text_.append(buffer, static_cast<size_t>(got));
    }
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
  int fd_ = -1;
  std::string text_;
};

class LocalTest : public ::testing::Test {
 protected:
  LocalTest() : directory_(MakeTempDir()), journal_(directory_ + "/journal") {
    fs::copy_file(std::string(P2_BIN_DIR) + "/p2ctl", directory_ + "/p2ctl");
    if (mkfifo((directory_ + "/never").c_str(), 0600) != 0) std::abort();
    SetDaemon("p2d", Daemon("\"grpc\":\"127.0.0.1:4321\",\"http\":\"127.0.0.1:4322\""));
    SetDaemon("p2-worker", Daemon("\"http_port\":4323"));
  }

  // A daemon that notes its arguments and signals in the journal, says that it is ready (unless `ready` is empty) and
  // does `at_sigterm`; nobody ever writes into the pipe that it reads.
  std::string Daemon(const std::string& ready, const std::string& at_sigterm = "exit 0") const {
    const std::string say =
        absl::StrCat("while [ $# -gt 0 ]; do [ \"$1\" = --ready-file ] && ready=$2; shift; done\necho '{", ready,
                     "}' > $ready.tmp; mv $ready.tmp $ready\n");
    return absl::StrCat("trap 'echo \"$name stop\" >> ", journal_.path(), "; ", at_sigterm, "' TERM\n",
                        ready.empty() ? "" : say, "while true; do read -r _ <> ", directory_, "/never; done\n");
  }
  void SetDaemon(const std::string& name, const std::string& script) {
    const std::string path = absl::StrCat(directory_, "/", name);
    std::ofstream(path) << "#!/bin/bash\nname=" << name << "\necho \"$name start $*\" >> " << journal_.path() << "\n"
                        << script;
    fs::permissions(path, fs::perms::owner_all);
  }
  // Patience is a tenth of the default, where `arguments` do not name it.
  std::unique_ptr<P2ctlProcess> Local(std::vector<std::string> arguments = {}, const std::string& state = "state") {
    const std::map<std::string, std::string> patience = {{"--ready-timeout", "6s"},
                                                         {"--worker-stop-timeout", "90s"},
                                                         {"--server-stop-timeout", "3s"},
                                                         {"--well-after", "3s"}};
    for (const auto& [flag, value] : patience) {
      if (std::find(arguments.begin(), arguments.end(), flag) != arguments.end()) continue;
      arguments.insert(arguments.end(), {flag, value});
    }
    arguments.insert(arguments.begin(), {"local", "--data-dir", directory_ + "/data"});
    return std::make_unique<P2ctlProcess>(
        std::move(arguments), std::map<std::string, std::string>{{"XDG_STATE_HOME", directory_ + "/" + state}},
        directory_ + "/p2ctl");
  }
  // Both have started.
  void ReadStarts() {
    EXPECT_THAT(journal_.NextLine(), HasSubstr("p2d start"));
    EXPECT_THAT(journal_.NextLine(), HasSubstr("p2-worker start"));
  }
  std::string StatePath() const { return directory_ + "/state/p2/local.json"; }

  const std::string directory_;
  Journal journal_;
};

TEST_F(LocalTest, StartsBothSaysSoAndStopsTheWorkerFirst) {
  const auto local = Local({"--devices", "cpu:2", "--listen", "0", "--http", "0"});
  ASSERT_TRUE(local->ReadUntil("Ctrl-C checkpoints and stops\n")) << local->Wait().err;
  std::ifstream file(StatePath());
  const Json state = Json::parse(file);
  EXPECT_EQ(state["address"], "127.0.0.1:4321");
  EXPECT_EQ(state["pid"], local->pid());
  EXPECT_EQ(state["roots"][0]["name"], "local");
  EXPECT_TRUE(fs::exists(std::string(state["roots"][0]["path"]) + "/.p2-root-id"));
  local->Signal(SIGINT);
  const P2ctlResult result = local->Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.out, HasSubstr("p2 is ready at 127.0.0.1:4321\n  devices  cpu:2\n"));
  EXPECT_THAT(result.err, HasSubstr("\nstopped\n"));
  EXPECT_FALSE(fs::exists(StatePath()));
  EXPECT_THAT(journal_.NextLine(), AllOf(HasSubstr("p2d start"), HasSubstr("--listen 127.0.0.1:0 --http 127.0.0.1:0")));
  EXPECT_THAT(journal_.NextLine(), AllOf(HasSubstr("p2-worker start --coordinator 127.0.0.1:4321 --devices cpu:2"),
                                         HasSubstr("--root local=")));
  EXPECT_EQ(journal_.NextLine(), "p2-worker stop");
  EXPECT_EQ(journal_.NextLine(), "p2d stop");
  EXPECT_EQ(journal_.NextLine(0), "");
}

TEST_F(LocalTest, StartsADaemonThatDiedAgainOnTheSamePorts) {
  const auto local = Local({"--listen", "0"});
  ASSERT_TRUE(local->ReadUntil("p2 is ready"));
  ReadStarts();
  std::ifstream file(StatePath());
  const pid_t server = Json::parse(file)["serverPid"];
  kill(server, SIGKILL);
  ASSERT_TRUE(local->ReadUntil("p2d ended (signal 9); starting it again", true));
  EXPECT_THAT(journal_.NextLine(), AllOf(HasSubstr("p2d start"), HasSubstr("--listen 127.0.0.1:4321")));
  local->Signal(SIGTERM);
  EXPECT_EQ(local->Wait().exit_code, 0);
}

TEST_F(LocalTest, SecondSignalKills) {
  SetDaemon("p2-worker", Daemon("\"http_port\":1", "true"));
  const auto local = Local();
  ASSERT_TRUE(local->ReadUntil("p2 is ready"));
  ReadStarts();
  local->Signal(SIGINT);
  EXPECT_EQ(journal_.NextLine(), "p2-worker stop");
  local->Signal(SIGINT);
  const P2ctlResult result = local->Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("\nkilled\n"));
  EXPECT_EQ(journal_.NextLine(), "p2d stop");
}

TEST_F(LocalTest, KillsADaemonThatDoesNotStopInTime) {
  SetDaemon("p2-worker", Daemon("\"http_port\":1", "true"));
  const auto local = Local({"--worker-stop-timeout", "50ms"});
  ASSERT_TRUE(local->ReadUntil("p2 is ready"));
  ReadStarts();
  local->Signal(SIGTERM);
  const P2ctlResult result = local->Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("\nkilled\n"));
}

TEST_F(LocalTest, GivesUpOnADaemonThatDoesNotGetReady) {
  SetDaemon("p2-worker", Daemon(""));
  const P2ctlResult result = Local({"--ready-timeout", "300ms"})->Wait();
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_THAT(result.err, HasSubstr("p2-worker was not ready within 300ms"));
  EXPECT_EQ(Local({"--ready-timeout", "soon"})->Wait().exit_code, 2);
}

TEST_F(LocalTest, RefusesASecondOne) {
  const auto first = Local();
  ASSERT_TRUE(first->ReadUntil("p2 is ready"));
  const P2ctlResult second = Local()->Wait();
  EXPECT_EQ(second.exit_code, 6);
  EXPECT_THAT(second.err, AllOf(HasSubstr(absl::StrCat("pid ", first->pid())), HasSubstr("127.0.0.1:4321")));
  // With a state of its own it still wants the same directory.
  const P2ctlResult other = Local({"-o", "json"}, "other-state")->Wait();
  EXPECT_EQ(other.exit_code, 6);
  EXPECT_THAT(other.err, AllOf(HasSubstr("another p2ctl local uses /"), HasSubstr("/data; stop it first"),
                               HasSubstr("\"reason\":\"LOCAL_RUNS_ALREADY\"")));
  first->Signal(SIGTERM);
  EXPECT_EQ(first->Wait().exit_code, 0);
}

TEST_F(LocalTest, ShowsWhyADaemonDoesNotStart) {
  SetDaemon("p2d", "echo 'port 7250 is in use' >&2\nexit 1\n");
  const P2ctlResult result = Local()->Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("p2d did not start (exit code 1)"), HasSubstr("port 7250 is in use")));
  EXPECT_FALSE(fs::exists(StatePath()));
}

TEST_F(LocalTest, EndsWithTheClassOfTheDaemonAndShowsWhatItsLogGotThisTime) {
  SetDaemon("p2d", "echo 'address in use' >&2\nexit 6\n");
  EXPECT_EQ(Local()->Wait().exit_code, 6);
  SetDaemon("p2d", "echo 'bad --listen' >&2\nexit 2\n");
  const P2ctlResult usage = Local()->Wait();
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_THAT(usage.err, AllOf(HasSubstr("bad --listen"), ::testing::Not(HasSubstr("address in use"))));
  SetDaemon("p2d", "exit 70\n");
  const P2ctlResult silent = Local()->Wait();
  EXPECT_EQ(silent.exit_code, 1);
  EXPECT_THAT(silent.err,
              AllOf(HasSubstr("exit code 70"), HasSubstr("it wrote nothing to "), ::testing::Not(HasSubstr("in use"))));
}

TEST_F(LocalTest, RefusesARootWithoutId) {
  const P2ctlResult result = Local({"--root", absl::StrCat("fast=", MakeTempDir())})->Wait();
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_THAT(result.err, HasSubstr("p2ctl root init"));
}

}  // namespace
}  // namespace p2::testing

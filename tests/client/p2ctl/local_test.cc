// `p2ctl local` with shell scripts in the places of p2d and p2-worker: what it starts, restarts and stops, in which
// order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/client/p2ctl/p2ctl_process.h"

namespace p2::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class LocalTest : public ::testing::Test {
 protected:
  LocalTest() : directory_(MakeTempDir()) {
    fs::copy_file(std::string(P2_BIN_DIR) + "/p2ctl", directory_ + "/p2ctl");
    SetDaemon("p2d", Script("\"grpc\":\"127.0.0.1:4321\",\"http\":\"127.0.0.1:4322\""));
    SetDaemon("p2-worker", Script("\"http_port\":4323"));
  }

  // Notes its arguments and signals in a journal, says that it is ready, and lives until SIGTERM.
  std::string Script(const std::string& ready) const {
    return absl::StrCat(
        "#!/bin/bash\nname=$(basename $0)\necho \"$name start $*\" >> ", Journal(), "\ntrap 'echo \"$name stop\" >> ",
        Journal(), "; exit 0' TERM\n", "while [ $# -gt 0 ]; do [ \"$1\" = --ready-file ] && ready=$2; shift; done\n",
        "echo '{\"pid\":1,", ready, "}' > $ready.tmp; mv $ready.tmp $ready\nwhile true; do sleep 0.05; done\n");
  }
  void SetDaemon(const std::string& name, const std::string& script) {
    const std::string path = absl::StrCat(directory_, "/", name);
    std::ofstream(path) << script;
    fs::permissions(path, fs::perms::owner_all);
  }
  std::unique_ptr<P2ctlProcess> Local(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"local", "--data-dir", directory_ + "/data"});
    return std::make_unique<P2ctlProcess>(std::move(arguments),
                                          std::map<std::string, std::string>{{"XDG_STATE_HOME", directory_ + "/state"}},
                                          directory_ + "/p2ctl");
  }
  std::string Journal() const { return directory_ + "/journal"; }
  std::vector<std::string> JournalLines() const {
    std::ifstream file(Journal());
    return absl::StrSplit(std::string((std::istreambuf_iterator<char>(file)), {}), '\n', absl::SkipEmpty());
  }
  std::string StatePath() const { return directory_ + "/state/p2/local.json"; }

  const std::string directory_;
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
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("p2 is ready at 127.0.0.1:4321"));
  EXPECT_THAT(result.err, HasSubstr("\nstopped\n"));
  EXPECT_FALSE(fs::exists(StatePath()));
  const std::vector<std::string> journal = JournalLines();
  ASSERT_EQ(journal.size(), 4u);
  EXPECT_THAT(journal[0], AllOf(HasSubstr("p2d start"), HasSubstr("--listen 127.0.0.1:0 --http 127.0.0.1:0")));
  EXPECT_THAT(journal[1], AllOf(HasSubstr("p2-worker start --coordinator 127.0.0.1:4321 --devices cpu:2"),
                                HasSubstr("--root local=")));
  EXPECT_EQ(journal[2], "p2-worker stop");
  EXPECT_EQ(journal[3], "p2d stop");
}

TEST_F(LocalTest, StartsADaemonThatDiedAgainOnTheSamePorts) {
  const auto local = Local({"--listen", "0"});
  ASSERT_TRUE(local->ReadUntil("p2 is ready"));
  std::ifstream file(StatePath());
  const pid_t server = Json::parse(file)["serverPid"];
  kill(server, SIGKILL);
  ASSERT_TRUE(local->ReadUntil("p2d ended (signal 9); starting it again", true));
  while (JournalLines().size() < 3) usleep(10'000);
  EXPECT_THAT(JournalLines()[2], AllOf(HasSubstr("p2d start"), HasSubstr("--listen 127.0.0.1:4321")));
  local->Signal(SIGTERM);
  EXPECT_EQ(local->Wait().exit_code, 0);
}

TEST_F(LocalTest, SecondSignalKills) {
  SetDaemon(
      "p2-worker",
      absl::StrCat("#!/bin/bash\ntrap 'echo stubborn >> ", Journal(), "' TERM\n",
                   "while [ $# -gt 0 ]; do [ \"$1\" = --ready-file ] && ready=$2; shift; done\n",
                   "echo '{\"http_port\":1}' > $ready.tmp; mv $ready.tmp $ready\nwhile true; do sleep 0.05; done\n"));
  const auto local = Local();
  ASSERT_TRUE(local->ReadUntil("p2 is ready"));
  local->Signal(SIGINT);
  while (JournalLines().back() != "stubborn") usleep(10'000);
  local->Signal(SIGINT);
  EXPECT_EQ(local->Wait().exit_code, 130);
  EXPECT_EQ(JournalLines().back(), "p2d stop");
}

TEST_F(LocalTest, RefusesASecondOne) {
  const auto first = Local();
  ASSERT_TRUE(first->ReadUntil("p2 is ready"));
  const P2ctlResult second = Local()->Wait();
  EXPECT_EQ(second.exit_code, 6);
  EXPECT_THAT(second.err, AllOf(HasSubstr(absl::StrCat("pid ", first->pid())), HasSubstr("127.0.0.1:4321")));
  first->Signal(SIGINT);
  EXPECT_EQ(first->Wait().exit_code, 0);
}

TEST_F(LocalTest, ShowsWhyADaemonDoesNotStart) {
  SetDaemon("p2d", "#!/bin/bash\necho 'port 7250 is in use' >&2\nexit 1\n");
  const P2ctlResult result = Local()->Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("p2d did not start (exit code 1)"), HasSubstr("port 7250 is in use")));
  EXPECT_FALSE(fs::exists(StatePath()));
}

TEST_F(LocalTest, EndsWithTheClassOfTheDaemonAndShowsWhatItsLogGotThisTime) {
  SetDaemon("p2d", "#!/bin/bash\necho 'address in use' >&2\nexit 6\n");
  EXPECT_EQ(Local()->Wait().exit_code, 6);
  SetDaemon("p2d", "#!/bin/bash\necho 'bad --listen' >&2\nexit 2\n");
  const P2ctlResult usage = Local()->Wait();
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_THAT(usage.err, AllOf(HasSubstr("bad --listen"), ::testing::Not(HasSubstr("address in use"))));
  SetDaemon("p2d", "#!/bin/bash\nexit 70\n");
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

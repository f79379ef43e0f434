#include "worker/agent/options.h"

#include <fstream>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/agent/temp_dir.h"
#include "worker/agent/files.h"

namespace p2::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

absl::StatusOr<AgentOptions> Parse(std::vector<const char*> arguments,
                                   std::map<std::string, std::string> environment = {}) {
  arguments.insert(arguments.begin(), "p2-worker");
  environment.emplace("HOME", "/nowhere");
  return ParseOptions(static_cast<int>(arguments.size()), arguments.data(), [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(OptionsTest, HasDefaults) {
  const auto options = Parse({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->coordinator, "127.0.0.1:7250");
  EXPECT_EQ(options->devices, "auto");
  EXPECT_EQ(options->data_dir, "/nowhere/.local/state/p2/worker");
  EXPECT_FALSE(options->name.empty());
  EXPECT_THAT(options->trainer, HasSubstr("/p2-trainer"));
}

TEST(OptionsTest, PrefersFlagsToEnvironmentToFile) {
  TempDir dir;
  std::ofstream(dir / "worker.yaml")
      << "name: from-file\ndevices: cpu:1\nheartbeat_interval: 3s\nroot:\n  main: /m\nlabel:\n  zone: a\n";
  const auto options =
      Parse({"--config", (dir / "worker.yaml").c_str(), "--name", "from-flag"},
            {{"P2_WORKER_NAME", "from-env"}, {"P2_WORKER_DEVICES", "cpu:2"}, {"P2_WORKER_HEARTBEAT_INTERVAL", "4s"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->name, "from-flag");
  EXPECT_EQ(options->devices, "cpu:2");
  EXPECT_EQ(options->heartbeat_interval, absl::Seconds(4));
  EXPECT_THAT(options->roots, ElementsAre(Pair("main", "/m")));
  EXPECT_THAT(options->labels, ElementsAre(Pair("zone", "a")));
}

TEST(OptionsTest, TakesRepeatedRootsAndLabels) {
  const auto options = Parse({"--root", "a=/x/../y", "--root", "b=/z=1", "--label", "k=v"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->roots, ElementsAre(Pair("a", "/y"), Pair("b", "/z=1")));
  EXPECT_THAT(Parse({}, {{"P2_WORKER_ROOT", "a=/x,b=/y"}})->roots, ElementsAre(Pair("a", "/x"), Pair("b", "/y")));
}

TEST(OptionsTest, NamesTheLineOfABadFile) {
  TempDir dir;
  const std::string path = dir / "worker.yaml";
  std::ofstream(path) << "name: a\nheartbeats: 3s\n";
  EXPECT_THAT(std::string(Parse({"--config", path.c_str()}).status().message()),
              HasSubstr("worker.yaml:2: unknown option \"heartbeats\""));
  std::ofstream(path, std::ios::trunc) << "hold_timeout: soon\n";
  EXPECT_THAT(std::string(Parse({"--config", path.c_str()}).status().message()), HasSubstr("worker.yaml:1:"));
}

TEST(OptionsTest, ReadsTheExampleFile) {
  const auto options = Parse({"--config", P2_SOURCE_DIR "/configs/worker.yaml"});
  ASSERT_TRUE(options.ok()) << options.status();
  const AgentOptions defaults;
  EXPECT_EQ(options->coordinator, defaults.coordinator);
  EXPECT_EQ(options->http, defaults.http);
  EXPECT_EQ(options->silence_timeout, defaults.silence_timeout);
  EXPECT_EQ(options->connection_timeout, defaults.connection_timeout);
  EXPECT_EQ(options->hold_timeout, defaults.hold_timeout);
  EXPECT_EQ(options->spool_limit_bytes, defaults.spool_limit_bytes);
}

TEST(OptionsTest, RefusesWhatIsWrongAndSaysIt) {
  EXPECT_THAT(std::string(Parse({"--name", "Not_OK"}).status().message()), HasSubstr("\"Not_OK\" is not a worker ID"));
  EXPECT_THAT(std::string(Parse({"--root", "main"}).status().message()), HasSubstr("\"main\" is not NAME=VALUE"));
  EXPECT_THAT(std::string(Parse({"--root", "A=/x"}).status().message()), HasSubstr("--root name \"A\""));
  EXPECT_THAT(std::string(Parse({"--root", "a=/x", "--root", "a=/y"}).status().message()), HasSubstr("given twice"));
  EXPECT_THAT(std::string(Parse({"--hold-timeout", "soon"}).status().message()),
              HasSubstr("\"soon\" is not a duration"));
  EXPECT_THAT(std::string(Parse({}, {{"P2_WORKER_WATCHDOG_SCALE", "-1"}}).status().message()),
              HasSubstr("P2_WORKER_WATCHDOG_SCALE=\"-1\""));
  EXPECT_EQ(Parse({"--nonsense"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Parse({"--help"}).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace p2::agent

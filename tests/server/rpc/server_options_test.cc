#include "server/server_options.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/store/temp_directory.h"

namespace p2::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<ServerOptions> Parse(const std::vector<std::string>& arguments,
                                    const std::map<std::string, std::string>& environment = {}) {
  return ParseServerOptions(arguments, [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(ServerOptionsTest, PutsFlagsOverEnvironmentOverFileOverDefaults) {
  const store::TempDirectory temp;
  const std::string file = temp.path() + "/p2d.yaml";
  store::WriteWhole(file, "lost-after: 40s\nsuspect_after: 30s\nlisten: 127.0.0.1:1\n");
  const auto options = Parse({"--config", file, "--listen", "127.0.0.1:3"},
                             {{"P2D_SUSPECT_AFTER", "20s"}, {"P2D_LISTEN", "127.0.0.1:2"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->listen, "127.0.0.1:3");
  EXPECT_EQ(options->suspect_after, absl::Seconds(20));
  EXPECT_EQ(options->lost_after, absl::Seconds(40));
  EXPECT_EQ(options->http, "127.0.0.1:7251");
}

TEST(ServerOptionsTest, TakesTheShippedFileWhichHoldsTheDefaults) {
  const auto options = Parse({"--config", P2_SOURCE_DIR "/configs/p2d.yaml"});
  ASSERT_TRUE(options.ok()) << options.status();
  const ServerOptions defaults;
  EXPECT_EQ(options->data_dir, defaults.data_dir);
  EXPECT_EQ(options->keep_backups, defaults.keep_backups);
  EXPECT_EQ(options->listen, defaults.listen);
  EXPECT_EQ(options->lost_after, defaults.lost_after);
  EXPECT_EQ(options->prepare_timeout, defaults.prepare_timeout);
  EXPECT_EQ(options->metrics_raw_for, defaults.metrics_raw_for);
  EXPECT_EQ(options->disk_interval, defaults.disk_interval);
  EXPECT_EQ(options->call_timeout, defaults.call_timeout);
  EXPECT_EQ(options->watch_interval, defaults.watch_interval);
  EXPECT_EQ(options->keepalive_interval, defaults.keepalive_interval);
  EXPECT_EQ(options->keepalive_timeout, defaults.keepalive_timeout);
  EXPECT_EQ(options->insecure, defaults.insecure);
}

TEST(ServerOptionsTest, TakesFailpointsFromAFlagOnly) {
  EXPECT_TRUE(Parse({"--enable-failpoints"})->enable_failpoints);
  EXPECT_FALSE(Parse({}, {{"P2D_ENABLE_FAILPOINTS", "true"}})->enable_failpoints);
  const store::TempDirectory temp;
  const std::string file = temp.path() + "/p2d.yaml";
  store::WriteWhole(file, "enable-failpoints: true\n");
  EXPECT_THAT(std::string(Parse({"--config", file}).status().message()),
              HasSubstr("unknown option \"enable-failpoints\""));
}

TEST(ServerOptionsTest, RefusesWhatItDoesNotKnow) {
  const store::TempDirectory temp;
  const std::string file = temp.path() + "/p2d.yaml";
  store::WriteWhole(file, "lost-aftr: 40s\n");
  EXPECT_THAT(std::string(Parse({"--config", file}).status().message()),
              HasSubstr("p2d.yaml:1: unknown option \"lost-aftr\""));
  EXPECT_TRUE(absl::IsInvalidArgument(Parse({"--nonsense"}).status()));
  EXPECT_THAT(std::string(Parse({"--lost-after", "soon"}).status().message()),
              AllOf(HasSubstr("--lost-after"), HasSubstr("soon")));
  EXPECT_TRUE(absl::IsCancelled(Parse({"--help"}).status()));
  EXPECT_THAT(std::string(Parse({"--version"}).status().message()), HasSubstr("p2d "));
}

TEST(ServerOptionsTest, ListensBeyondLoopbackOnlyWithInsecure) {
  ServerOptions options;
  EXPECT_TRUE(ValidateServerOptions(options).ok());
  options.listen = "0.0.0.0:7250";
  EXPECT_THAT(ValidateServerOptions(options).message(), AllOf(HasSubstr("0.0.0.0:7250"), HasSubstr("--insecure")));
  options.insecure = true;
  EXPECT_TRUE(ValidateServerOptions(options).ok());
}

TEST(ServerOptionsTest, NamesEveryOptionThatCannotBe) {
  ServerOptions options;
  options.listen = "here";
  options.suspect_after = absl::Seconds(20);
  options.disk_interval = absl::ZeroDuration();
  EXPECT_THAT(ValidateServerOptions(options).message(),
              AllOf(HasSubstr("--listen here"), HasSubstr("--suspect-after (20s)"), HasSubstr("--disk-interval")));
}

}  // namespace
}  // namespace p2::server

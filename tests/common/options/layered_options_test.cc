#include "common/options/layered_options.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LayeredOptionsTest : public testing::Test {
 protected:
  LayeredOptionsTest() {
    std::string name = (std::filesystem::temp_directory_path() / "p2-options-XXXXXX").string();
    const int fd = mkstemp(name.data());
    close(fd);
    file_ = name;
  }
  ~LayeredOptionsTest() override { std::filesystem::remove(file_); }

  absl::Status Parse(std::vector<std::string> arguments, std::map<std::string, std::string> environment = {},
                     const std::string& file = "") {
    place_ = "default";
    wait_ = absl::Seconds(1);
    roots_.clear();
    open_ = false;
    LayeredOptions options("p2-thing", "does things", "1.2.3", "P2_THING_");
    options.app().add_option("--place", place_, "where");
    options.app().add_option("--root", roots_, "repeatable");
    options.app().add_flag("--open", open_, "a flag");
    options.AddDuration("--wait-time", wait_, "how long");
    options.AddLogLevel(level_);
    if (!file.empty()) {
      std::ofstream(file_, std::ios::trunc) << file;
      arguments.insert(arguments.end(), {"--config", file_});
    }
    return options.Parse(arguments, [&](const char* variable) {
      const auto found = environment.find(variable);
      return found == environment.end() ? nullptr : found->second.c_str();
    });
  }

  std::string file_, place_;
  absl::Duration wait_;
  std::vector<std::string> roots_;
  bool open_ = false;
  LogLevel level_ = LogLevel::kInfo;
};

TEST_F(LayeredOptionsTest, FlagsGoOverEnvironmentOverFileOverDefaults) {
  ASSERT_TRUE(Parse({}).ok());
  EXPECT_EQ(place_, "default");
  const std::string file = "place: file\nwait_time: 3s\nroot: {a: /x, b: /y}\nopen: true\nlog-level: debug\n";
  ASSERT_TRUE(Parse({}, {}, file).ok());
  EXPECT_EQ(place_, "file");
  EXPECT_EQ(wait_, absl::Seconds(3));
  EXPECT_THAT(roots_, ElementsAre("a=/x", "b=/y"));
  EXPECT_TRUE(open_);
  EXPECT_EQ(level_, LogLevel::kDebug);
  const std::map<std::string, std::string> environment = {{"P2_THING_PLACE", "environment"},
                                                          {"P2_THING_ROOT", "c=/z,d=/w"}};
  ASSERT_TRUE(Parse({}, environment, file).ok());
  EXPECT_EQ(place_, "environment");
  EXPECT_THAT(roots_, ElementsAre("c=/z", "d=/w"));
  EXPECT_EQ(wait_, absl::Seconds(3));
  ASSERT_TRUE(Parse({"--place", "flag"}, environment, file).ok());
  EXPECT_EQ(place_, "flag");
}

TEST_F(LayeredOptionsTest, TheEnvironmentMayNameTheFile) {
  std::ofstream(file_) << "place: file\n";
  ASSERT_TRUE(Parse({}, {{"P2_THING_CONFIG", file_}}).ok());
  EXPECT_EQ(place_, "file");
}

TEST_F(LayeredOptionsTest, AnErrorNamesItsLayerTheValueAndWhatIsRight) {
  const auto message = [](const absl::Status& status) { return std::string(status.message()); };
  EXPECT_THAT(message(Parse({"--wait-time", "soon"})), HasSubstr("\"soon\" is not a duration such as"));
  EXPECT_THAT(message(Parse({"--wait-time", "-1s"})), HasSubstr("\"-1s\" is not a duration such as"));
  EXPECT_THAT(message(Parse({"--nonsense"})), HasSubstr("`p2-thing --help` shows the options"));
  EXPECT_THAT(message(Parse({}, {{"P2_THING_WAIT_TIME", "soon"}})),
              HasSubstr("environment P2_THING_WAIT_TIME=\"soon\""));
  EXPECT_THAT(message(Parse({}, {}, "place: a\nplaces: b\n")), HasSubstr(":2: unknown option \"places\""));
  EXPECT_THAT(message(Parse({}, {}, "place: a\n\nwait-time: soon\n")), HasSubstr(":3: "));
  EXPECT_THAT(message(Parse({}, {}, "version: 3\n")), HasSubstr("unknown option \"version\""));
  EXPECT_THAT(message(Parse({}, {}, "place: [a\n")), HasSubstr(file_));
  EXPECT_THAT(message(Parse({}, {}, "- place\n")), HasSubstr("not a map"));
  EXPECT_THAT(message(Parse({"--config", "/nowhere.yaml"})), HasSubstr("/nowhere.yaml"));
  EXPECT_THAT(message(Parse({"--config", "/"})), HasSubstr("--config /: "));
  EXPECT_THAT(message(Parse({"--log-level", "loud"})), HasSubstr("\"loud\" is none of debug, info, warning and error"));
  for (const absl::Status& status : {Parse({"--nonsense"}), Parse({}, {}, "places: b\n")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

TEST_F(LayeredOptionsTest, HelpAndVersionAreTextToPrint) {
  const absl::Status version = Parse({"--version"});
  EXPECT_TRUE(absl::IsCancelled(version));
  EXPECT_EQ(version.message(), "p2-thing 1.2.3\n");
  const absl::Status help = Parse({"--help"});
  EXPECT_TRUE(absl::IsCancelled(help));
  for (const char* word : {"does things", "--wait-time DURATION", "how long [1s]", "P2_THING_LOG_LEVEL"}) {
    EXPECT_THAT(std::string(help.message()), HasSubstr(word));
  }
  EXPECT_THAT(roots_, IsEmpty());
}

}  // namespace
}  // namespace p2

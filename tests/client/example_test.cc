// docs/examples is what a reader copies: it must compile and do what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "tests/client/fake_server.h"

namespace p2::testing {
namespace {

using ::testing::HasSubstr;

TEST(ExampleTest, SubmitsAndFollowsAJobToItsEnd) {
  FakeServer server;
  const std::string command = "'" P2_BIN_DIR "/p2_client_example' " + server.address() + " mnist-demo 2>&1";
  FILE* example = popen(command.c_str(), "r");
  ASSERT_NE(example, nullptr);
  std::string out;
  char line[512];
  while (fgets(line, sizeof(line), example) != nullptr) {
    out += line;
    // Each line that it prints moves the job on.
    if (out.find("RUNNING") != std::string::npos) {
      server.With(
          [](FakeState& s) { (*s.metrics["jobs/mnist-demo-aaaaa"].emplace_back().mutable_values())["loss"] = 0.25; });
      server.SetJob(MakeJob("mnist-demo-aaaaa", v1::Job::SUCCEEDED, 18000));
    } else if (out.find("QUEUED") != std::string::npos) {
      server.SetJob(MakeJob("mnist-demo-aaaaa", v1::Job::RUNNING, 32));
    }
  }
  EXPECT_EQ(pclose(example), 0) << out;
  EXPECT_THAT(out, HasSubstr("submitted jobs/mnist-demo-aaaaa"));
  EXPECT_THAT(out, HasSubstr("SUCCEEDED after 18000 images"));
}

}  // namespace
}  // namespace p2::testing

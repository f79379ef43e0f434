// What the command line refuses and in which words, the reasons of errors, and what stands beside an empty list.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/rpc/grpc_status.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

class UsageTest : public P2ctlTest {
 protected:
  // The `reason` of the error that `arguments` end in.
  std::string Reason(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-o", "json"});
    const P2ctlResult result = P2ctl(arguments);
    EXPECT_NE(result.exit_code, 0);
    const Json error = Json::parse(result.err, nullptr, /*allow_exceptions=*/false);
    return error.is_object() ? error.value("reason", "") : result.err;
  }
};

TEST_F(UsageTest, NamesTheNearestOptionAndVerb) {
  EXPECT_THAT(P2ctl({"lisst"}).err, AllOf(HasSubstr("\"lisst\" is no command of p2ctl"), HasSubstr("\"list\"")));
  EXPECT_THAT(P2ctl({"preset", "shwo"}).err, AllOf(HasSubstr("no command of p2ctl preset"), HasSubstr("\"show\"")));
  EXPECT_THAT(P2ctl({"list", "--limt", "3"}).err,
              AllOf(HasSubstr("\"--limt\" is no option of p2ctl list"), HasSubstr("\"--limit\"")));
  EXPECT_THAT(P2ctl({"--limt"}).err, HasSubstr("\"--limt\" is no option of p2ctl"));
  EXPECT_THAT(P2ctl({"version", "now"}).err, HasSubstr("\"now\" is one argument too many for p2ctl version"));
}

TEST_F(UsageTest, SaysOfAFlagThatComesLaterWithWhat) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{{"list", "--group", "g"},
                                                                                         {"--context", "c", "list"},
                                                                                         {"list", "--token-file", "t"},
                                                                                         {"list", "--ca", "c"},
                                                                                         {"list", "-o", "md"}}) {
    const P2ctlResult result = P2ctl(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, AllOf(HasSubstr("not there yet"), Not(HasSubstr("--help"))));
  }
  EXPECT_EQ(Reason({"list", "--group", "g"}), "NOT_SUPPORTED_YET");
  EXPECT_THAT(P2ctl({"list", "--help"}).out, Not(HasSubstr("--group")));
}

TEST_F(UsageTest, ReasonsComeFromTheErrorInfoElseFromTheCode) {
  google::rpc::ErrorInfo info;
  info.set_reason("DATASET_MISMATCH");
  info.set_domain("p2");
  (*info.mutable_metadata())["dataset"] = "mnist";
  absl::Status error = absl::FailedPreconditionError("has 28 pixels");
  AddDetail(error, info);
  server_.FailNext(1, error);
  const P2ctlResult result = P2ctl({"submit", "mnist-demo", "-o", "json"});
  EXPECT_EQ(result.exit_code, 6);
  const Json json = Json::parse(result.err);
  EXPECT_EQ(json["code"], "FAILED_PRECONDITION");
  EXPECT_EQ(json["reason"], "DATASET_MISMATCH");
  EXPECT_EQ(json["details"][0]["metadata"]["dataset"], "mnist");
  server_.FailNext(1, absl::PermissionDeniedError("not yours"));
  EXPECT_EQ(Reason({"list"}), "PERMISSION_DENIED");
}

TEST_F(UsageTest, ErrorsOfItsOwnHaveReasonsToo) {
  EXPECT_EQ(Reason({"lst"}), "USAGE");
  EXPECT_EQ(Reason({"list", "--limit", "x"}), "USAGE");
  EXPECT_EQ(Reason({"list", "--sort", "x"}), "USAGE");
  EXPECT_EQ(Reason({"wait", "a", "--for", "later"}), "USAGE");
  EXPECT_EQ(Reason({"submit", "mnist-demo", "--devices", "4:2"}), "USAGE");
  EXPECT_EQ(Reason({"submit", "-f", "/no/such.yaml"}), "SPEC_UNREADABLE");
  server_.Stop();
  EXPECT_EQ(Reason({"list"}), "SERVER_UNAVAILABLE");
}

TEST_F(UsageTest, AnEmptyListIsAnEmptyTableAndAHintOnStderr) {
  const auto expect = [this](const std::vector<std::string>& arguments, const std::string& header,
                             const std::string& hint) {
    const P2ctlResult result = P2ctl(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, StartsWith(header));
    EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1) << result.out;
    EXPECT_THAT(result.err, HasSubstr(hint));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    std::vector<std::string> json = arguments;
    json.insert(json.end(), {"-o", "json"});
    EXPECT_EQ(Json::parse(P2ctl(json).out)["items"], Json::array());
    EXPECT_THAT(P2ctl(json).err, IsEmpty());
  };
  expect({"list"}, "ID  STATE", "p2ctl submit mnist-demo");
  expect({"list", "--state", "FAILED"}, "ID  STATE", "no job matches");
  expect({"node", "list"}, "NAME  STATE", "p2ctl local");
  expect({"root", "list"}, "NAME  FREE", "--root NAME=DIR");
  expect({"dataset", "list"}, "NAME  ", "p2ctl dataset prepare");
  expect({"preset", "list"}, "NAME  ", "no presets");
  expect({"events"}, "TIME  ", "no events");
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  expect({"ckpt", "list", "a"}, "ID  ", "job a has no checkpoints yet");
  expect({"samples", "list", "a"}, "ID  ", "job a has no samples yet");
  expect({"artifact", "list", "a"}, "ID  ", "job a has no artifacts yet");
}

TEST_F(UsageTest, ErrorsNameAResourceAsItWasWritten) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  const P2ctlResult artifact = P2ctl({"artifact", "get", "a", "nope.png"});
  EXPECT_EQ(artifact.exit_code, 3);
  EXPECT_THAT(artifact.err, AllOf(HasSubstr("job \"a\" has no artifact \"nope.png\""), Not(HasSubstr("jobs/"))));
  EXPECT_THAT(P2ctl({"artifact", "get", "a", "nope.png", "-o", "json"}).err, HasSubstr("p2.v1.Artifact"));
}

}  // namespace
}  // namespace p2::testing

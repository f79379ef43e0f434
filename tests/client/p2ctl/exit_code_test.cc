// Every exit code of CLI.md, one by one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using ExitCodeTest = P2ctlTest;

TEST_F(ExitCodeTest, IsZeroWhenAllIsWell) { EXPECT_EQ(P2ctl({"list"}).exit_code, 0); }
TEST_F(ExitCodeTest, IsOneForAnErrorOfTheServer) {
  server_.FailNext(1, absl::InternalError("a bug"));
  EXPECT_EQ(P2ctl({"list"}).exit_code, 1);
}
TEST_F(ExitCodeTest, IsTwoForUsageAndForAnInvalidSpec) {
  EXPECT_EQ(P2ctl({"list", "--no-such-flag"}).exit_code, 2);
  EXPECT_EQ(P2ctl({}).exit_code, 2);
  EXPECT_EQ(P2ctl({"list", "-o", "xml"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"wait", "a", "--for", "LATER"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"submit", "mnist-demo", "--set", "training.batch"}).exit_code, 2);
  const P2ctlResult bad = P2ctl({"submit", "bad"});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_THAT(bad.err, AllOf(HasSubstr("training.batch"), HasSubstr("objective.gamma")));
}
TEST_F(ExitCodeTest, IsThreeForWhatIsNotFound) {
  EXPECT_EQ(P2ctl({"get", "missing"}).exit_code, 3);
  EXPECT_EQ(P2ctl({"submit", "no-such"}).exit_code, 3);
  EXPECT_EQ(P2ctl({"submit", "-f", "/no/such.yaml"}).exit_code, 3);
}
TEST_F(ExitCodeTest, IsFourWithoutAuthentication) {
  server_.FailNext(1, absl::UnauthenticatedError("no token"));
  EXPECT_EQ(P2ctl({"list"}).exit_code, 4);
}
TEST_F(ExitCodeTest, IsFiveWhenDenied) {
  server_.FailNext(1, absl::PermissionDeniedError("not yours"));
  EXPECT_EQ(P2ctl({"list"}).exit_code, 5);
  server_.FailNext(1, absl::ResourceExhaustedError("quota"));
  EXPECT_EQ(P2ctl({"submit", "mnist-demo"}).exit_code, 5);
}
TEST_F(ExitCodeTest, IsSixWhenTheStateForbidsIt) {
  server_.SetJob(MakeJob("done", v1::Job::SUCCEEDED));
  EXPECT_EQ(P2ctl({"stop", "done"}).exit_code, 6);
  EXPECT_EQ(P2ctl({"wait", "done", "--for", "PAUSED"}).exit_code, 6);
  server_.FailNext(1, absl::AbortedError("an older etag"));
  EXPECT_EQ(P2ctl({"submit", "mnist-demo"}).exit_code, 6);
  server_.FailNext(1, absl::AlreadyExistsError("request ID of another job"));
  EXPECT_EQ(P2ctl({"submit", "mnist-demo", "--request-id", "r"}).exit_code, 6);
}
TEST_F(ExitCodeTest, IsSevenWithoutServerAndNamesP2ctlLocal) {
  server_.Stop();
  const P2ctlResult result = P2ctl({"list"});
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_THAT(result.err, AllOf(HasSubstr("p2ctl local"), HasSubstr(server_.address()), HasSubstr("P2_ADDR")));
  EXPECT_THAT(result.out, IsEmpty());
}
TEST_F(ExitCodeTest, IsSevenWhenTheServerDoesNotAnswerInTime) {
  server_.FailNext(1, absl::DeadlineExceededError("busy"));
  EXPECT_EQ(P2ctl({"list"}).exit_code, 7);
}
TEST_F(ExitCodeTest, IsEightWhenWaitTimesOut) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  EXPECT_EQ(P2ctl({"wait", "a", "--timeout", "50ms"}).exit_code, 8);
}
TEST_F(ExitCodeTest, IsTenForAFailedJobAndElevenForACancelledOne) {
  server_.SetJob(MakeJob("f", v1::Job::FAILED));
  server_.SetJob(MakeJob("c", v1::Job::CANCELLED));
  server_.SetJob(MakeJob("s", v1::Job::SUCCEEDED));
  EXPECT_EQ(P2ctl({"wait", "f"}).exit_code, 10);
  EXPECT_EQ(P2ctl({"wait", "c"}).exit_code, 11);
  EXPECT_EQ(P2ctl({"wait", "s"}).exit_code, 0);
  EXPECT_EQ(P2ctl({"wait", "s", "c", "f"}).exit_code, 10);
  EXPECT_EQ(P2ctl({"logs", "-f", "f"}).exit_code, 10);
  EXPECT_EQ(P2ctl({"logs", "-f", "c"}).exit_code, 11);
  EXPECT_EQ(P2ctl({"logs", "f"}).exit_code, 0);
}
TEST_F(ExitCodeTest, IsOneHundredAndThirtyAfterCtrlC) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  const auto wait = Start({"wait", "a"});
  ASSERT_TRUE(wait->ReadUntil("a RUNNING", true));
  wait->Signal(SIGINT);
  EXPECT_EQ(wait->Wait().exit_code, 130);
}
TEST_F(ExitCodeTest, IsTwelveWhenADownloadIsDamaged) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  v1::Artifact artifact;
  artifact.set_name("jobs/a/artifacts/grid.png");
  artifact.set_kind("samples");
  artifact.set_sha256(std::string(64, '0'));
  server_.With([&](FakeState& s) { s.artifacts[artifact.name()] = {artifact, "bytes"}; });
  EXPECT_EQ(P2ctl({"samples", "get", "a", "--out", MakeTempDir()}).exit_code, 12);
}

}  // namespace
}  // namespace p2::testing

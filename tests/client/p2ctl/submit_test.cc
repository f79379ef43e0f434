// submit: what it sends, what it refuses, and how it waits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

using SubmitTest = P2ctlTest;

TEST_F(SubmitTest, SendsEveryFlag) {
  const P2ctlResult result = P2ctl({"submit",       "mnist-demo",
                                    "--set",        "training.batch=16",
                                    "--set",        "model.dropout=0.1",
                                    "--weight",     "pow(k+snr,-gamma)",
                                    "--name",       "mine",
                                    "--devices",    "2",
                                    "--dataset",    "mnist",
                                    "--seed",       "7",
                                    "--label",      "team=vision",
                                    "--request-id", "r1",
                                    "--paused"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "mnist-demo-aaaaa\n");
  server_.With([](FakeState& s) {
    const v1::CreateJobRequest& request = s.last_create;
    EXPECT_THAT(request.overrides(), ElementsAre("training.batch=16", "model.dropout=0.1"));
    std::vector<std::string> flags;
    for (const v1::FlagOverride& flag : request.flags())
      flags.push_back(absl::StrCat(flag.flag(), " ", flag.path(), " ", flag.value()));
    EXPECT_THAT(flags, ElementsAre("--weight objective.weight pow(k+snr,-gamma)", "--dataset data.dataset mnist",
                                   "--seed training.seed 7", "--devices resources.devices 2",
                                   "--devices resources.min_devices 0"));
    EXPECT_EQ(request.name_prefix(), "mine");
    EXPECT_EQ(request.labels().at("team"), "vision");
    EXPECT_EQ(request.request_id(), "r1");
    EXPECT_TRUE(request.paused());
  });
}

TEST_F(SubmitTest, TwiceWithOneRequestIdMakesOneJob) {
  const std::string first = P2ctl({"submit", "mnist-demo", "--request-id", "r1"}).out;
  EXPECT_EQ(P2ctl({"submit", "mnist-demo", "--request-id", "r1"}).out, first);
  server_.With([](FakeState& s) { EXPECT_THAT(s.jobs, SizeIs(1)); });
}

TEST_F(SubmitTest, ReadsASpecFile) {
  const std::string path = MakeTempDir() + "/my.yaml";
  std::ofstream(path) << "extends: mnist-demo\n";
  EXPECT_EQ(P2ctl({"submit", "-f", path}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_EQ(s.last_create.spec_yaml(), "extends: mnist-demo\n");
    EXPECT_EQ(s.last_create.spec_file_name(), "my.yaml");
  });
}

TEST_F(SubmitTest, RefusesAFileThatIsNoTextAndNamesTheByte) {
  const std::string path = MakeTempDir() + "/my.yaml";
  const auto err = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    const P2ctlResult result = P2ctl({"submit", "-f", path});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr(path));
    return result.err;
  };
  EXPECT_THAT(err("a: \xff\n"), HasSubstr("byte 0xff at offset 3 is not UTF-8"));
  EXPECT_THAT(err("a: \xc3\xa9\xc3"), HasSubstr("byte 0xc3 at offset 5"));
  EXPECT_THAT(err("\xed\xa0\x80"), HasSubstr("offset 0"));
  EXPECT_THAT(err(std::string("abc\0d", 5)), HasSubstr("offset 3 is NUL"));
  EXPECT_THAT(err(""), HasSubstr("is empty"));
  EXPECT_THAT(err(" \n"), HasSubstr("is empty"));
  std::ofstream(path) << "description: größer → 𝄞\nextends: mnist-demo\n";
  EXPECT_EQ(P2ctl({"submit", "-f", path}).exit_code, 0);
  const P2ctlResult both = P2ctl({"submit", "mnist-demo", "-f", path});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.err, AllOf(HasSubstr("both a preset (mnist-demo) and a spec file"), HasSubstr(path)));
  EXPECT_THAT(P2ctl({"submit", "-f", "/"}).err, HasSubstr("is a directory"));
}

TEST_F(SubmitTest, DryRunNeedsNoServerAndShowsOriginsAndCost) {
  server_.Stop();
  const P2ctlResult result =
      P2ctl({"submit", "--dry-run", "ffhq-gamma0.5", "--set", "training.batch=16", "--devices", "4"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("objective.gamma"), HasSubstr("preset ffhq-gamma0.5"), HasSubstr("--devices"),
                                HasSubstr("Parameters:"), HasSubstr("4, 4, 4, 4 a step"),
                                HasSubstr("Nothing was submitted"), ::testing::Not(HasSubstr("EMA snapshots"))));
  const P2ctlResult snapshots = P2ctl({"submit", "--dry-run", "ffhq-gamma0.5", "--set", "ema=[{sigma_rel: 0.05}]",
                                       "--set", "ema_snapshots.every_images=1M"});
  EXPECT_THAT(snapshots.out, HasSubstr("EMA snapshots:      "));
  EXPECT_THAT(snapshots.out, HasSubstr("at the end, apart from checkpoints"));
  const P2ctlResult json = P2ctl({"submit", "mnist-demo", "--dry-run", "-o", "json"});
  EXPECT_THAT(json.out, AllOf(HasSubstr("specSha256"), ::testing::Not(HasSubstr("STATE_UNSPECIFIED"))));
  const P2ctlResult wrong = P2ctl({"submit", "ffhq-gama0.5", "--dry-run"});
  EXPECT_EQ(wrong.exit_code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("ffhq-gamma0.5"));
}

TEST_F(SubmitTest, WaitEndsWithTheJob) {
  const auto submit = Start({"submit", "mnist-demo", "--wait"});
  ASSERT_TRUE(submit->ReadUntil("mnist-demo-aaaaa\n"));
  server_.SetJob(MakeJob("mnist-demo-aaaaa", v1::Job::RUNNING));
  v1::Job failed = MakeJob("mnist-demo-aaaaa", v1::Job::FAILED);
  failed.set_message("out of luck");
  server_.SetJob(failed);
  const P2ctlResult result = submit->Wait();
  EXPECT_EQ(result.exit_code, 10);
  EXPECT_THAT(result.err, HasSubstr("out of luck"));
}

TEST_F(SubmitTest, WaitRunningReturnsWhenTheJobRuns) {
  const auto submit = Start({"submit", "mnist-demo", "--wait=running"});
  ASSERT_TRUE(submit->ReadUntil("mnist-demo-aaaaa\n"));
  server_.SetJob(MakeJob("mnist-demo-aaaaa", v1::Job::RUNNING));
  EXPECT_EQ(submit->Wait().exit_code, 0);
}

TEST_F(SubmitTest, CtrlCOnFollowDetachesAndTheJobGoesOn) {
  const auto submit = Start({"submit", "mnist-demo", "--follow"});
  ASSERT_TRUE(submit->ReadUntil("mnist-demo-aaaaa\n"));
  server_.SetJob(MakeJob("mnist-demo-aaaaa", v1::Job::RUNNING, 8100));
  ASSERT_TRUE(submit->ReadUntil("RUNNING  45% 8,100/18,000 images 112.5 images/s loss 0.0532 ETA 1m28s\n", true));
  submit->Signal(SIGINT);
  const P2ctlResult result = submit->Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("detached"), HasSubstr("p2ctl wait mnist-demo-aaaaa"), HasSubstr("p2ctl stop")));
  EXPECT_EQ(State("mnist-demo-aaaaa").state(), v1::Job::RUNNING);
}

TEST_F(SubmitTest, SaysWhatAJobWaitsFor) {
  v1::Job job = MakeJob("p", v1::Job::PAUSED);
  server_.With([&](FakeState& s) { *s.created["paused"].mutable_job() = job; });
  EXPECT_THAT(P2ctl({"submit", "mnist-demo", "--paused", "--request-id", "paused"}).err,
              AllOf(HasSubstr("`p2ctl resume p`"), ::testing::Not(HasSubstr("p2ctl wait"))));
  job.set_state(v1::Job::QUEUED);
  job.set_message("needs 2 devices, 1 is free");
  server_.With([&](FakeState& s) { *s.created["waits"].mutable_job() = job; });
  EXPECT_THAT(P2ctl({"submit", "mnist-demo", "--request-id", "waits"}).err,
              HasSubstr("it waits: needs 2 devices, 1 is free"));
}

}  // namespace
}  // namespace p2::testing

#include "server/coordinator/worker_messages.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::coordinator {
namespace {

using ::testing::HasSubstr;

v1::SpoolRecord CheckpointAt(const std::string& path) {
  v1::SpoolRecord record;
  record.set_job("job-a");
  record.mutable_trainer_event()->mutable_checkpoint()->set_path(path);
  return record;
}

TEST(WorkerMessagesTest, ACheckpointIsNamedAfterItsDirectory) {
  const auto report = FromSpool(CheckpointAt("jobs/job-a/000000000100-e1"), "w0", "s");
  const auto* reported = std::get_if<scheduler::CheckpointReported>(&report.body);
  ASSERT_NE(reported, nullptr);
  EXPECT_EQ(reported->checkpoint.id, "000000000100-e1");
  EXPECT_EQ(reported->checkpoint.path, "jobs/job-a/000000000100-e1");
}

TEST(WorkerMessagesTest, APathThatLeadsOutOfItsRootIsNoCheckpoint) {
  for (const char* path : {"", "/etc", "../x", "a/../../x", "a//b", "a/."}) {
    const auto report = FromSpool(CheckpointAt(path), "w0", "s");
    const auto* notice = std::get_if<scheduler::TrainerNotice>(&report.body);
    ASSERT_NE(notice, nullptr) << path;
    EXPECT_EQ(notice->reason, "CHECKPOINT_REFUSED");
  }
}

TEST(WorkerMessagesTest, AWorkerNeedsAnIdAndSlotsOfDifferentNames) {
  v1::Hello hello;
  hello.set_worker("Not An Id");
  EXPECT_THAT(std::string(FromHello(hello).status().message()), HasSubstr("\"Not An Id\" is not an ID"));
  hello.set_worker("node-1");
  for (int i = 0; i < 2; ++i) {
    hello.add_slots()->set_id("cpu:0");
    hello.mutable_slots(i)->set_kind("cpu");
  }
  EXPECT_TRUE(absl::IsInvalidArgument(FromHello(hello).status()));
}

TEST(WorkerMessagesTest, SkippedSamplesGoFromOneAttemptsNoticeToTheNextOnesLaunch) {
  v1::SpoolRecord record;
  trainer::v1::Notice& said = *record.mutable_trainer_event()->mutable_notice();
  said.set_reason("DATA_SKIPPED");
  trainer::v1::SampleRange& range = *said.add_skipped_ranges();
  range.set_begin(400);
  range.set_end(424);
  const auto report = FromSpool(record, "w0", "s");
  const auto* notice = std::get_if<scheduler::TrainerNotice>(&report.body);
  ASSERT_NE(notice, nullptr);
  scheduler::StartGang start;
  start.skipped_ranges = notice->skipped_ranges;
  const v1::Launch launch = ToMessage(start, {}).start().launch();
  ASSERT_EQ(launch.skipped_ranges_size(), 1);
  EXPECT_EQ(launch.skipped_ranges(0).begin(), 400);
  EXPECT_EQ(launch.skipped_ranges(0).end(), 424);
}

TEST(WorkerMessagesTest, EveryRankOfAGangGetsTheSameNonce) {
  auto nonce = [](const std::string& worker) {
    scheduler::StartGang start;
    start.worker = worker;
    start.job = "job-a";
    start.epoch = 3;
    return ToMessage(start, {}).start().launch().rendezvous_nonce();
  };
  EXPECT_EQ(nonce("w0"), nonce("w1"));
  EXPECT_FALSE(nonce("w0").empty());
}

}  // namespace
}  // namespace p2::coordinator

// A dataset that goes bad while a run reads it, from disk and not from memory: exit code 54 with the file's name.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>

#include "tests/worker/trainer/tiny_run.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::Each;
using ::testing::HasSubstr;

class BadDataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
    shard_ = data_ + "/" + image::ShardFileName(0);
    options_ = TinyOptions(data_, FreshDir("out"));
    options_.resident_limit_bytes = 0;
    options_.spec.images = 6000;  // Never reached: the read-ahead is a few steps only.
    options_.spec.checkpoint_every_images = 12;
  }

  // Runs until `harm`, done after the fourth step, is met. Returns what the run said.
  std::string RunAndHarm(const std::function<void()>& harm, ExitCode* code, int ranks = 1) {
    std::atomic<bool> done{false};
    TrainerHooks hooks;
    hooks.on_step = [&](int64_t images_seen) {
      if (images_seen >= 24 && !done.exchange(true)) harm();
    };
    GangRun run(ranks);
    RunRanks(options_, {hooks}, &run);
    EXPECT_THAT(run.exit_codes, Each(::testing::AnyOf(run.exit_codes[0], ExitCode::kComm)));
    *code = run.exit_codes[0];
    EXPECT_GE(run.sinks[0].Of<CheckpointSaved>().size(), 1u) << "nothing was trained before";
    return run.sinks[0].Of<Finished>().back().message;
  }

  std::string data_, shard_;
  TrainOptions options_;
};

TEST_F(BadDataTest, AFlippedByteInAnyRecordEndsTheRunAndIsNamed) {
  const uint64_t at = image::kShardHeaderBytes + 7 * kTinySize * kTinySize + 100;
  ExitCode code;
  const std::string said = RunAndHarm(
      [&] {
        std::fstream file(shard_, std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(static_cast<std::streamoff>(at));
        const char byte = static_cast<char>(file.get() ^ 0x10);
        file.seekp(static_cast<std::streamoff>(at));
        file.put(byte);
      },
      &code);
  EXPECT_EQ(code, ExitCode::kData);
  EXPECT_THAT(said, HasSubstr(shard_ + ": record 7 (bytes 1856 to 2111) is damaged"));
  EXPECT_THAT(said, HasSubstr("p2ctl dataset validate " + data_));
}

TEST_F(BadDataTest, AShardThatShrinksEndsTheRun) {
  ExitCode code;
  const std::string said = RunAndHarm([&] { fs::resize_file(shard_, image::kShardHeaderBytes + 100); }, &code);
  EXPECT_EQ(code, ExitCode::kData);
  EXPECT_THAT(said, HasSubstr(shard_ + " ends at byte"));
}

// What a network file system that goes away gives: EIO. Byte 0 of this process's memory cannot be read, with that
// error.
TEST_F(BadDataTest, AReadThatFailsEndsTheRun) {
  ExitCode code;
  const std::string said = RunAndHarm(
      [&] {
        const int failing = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        ASSERT_GE(failing, 0);
        int replaced = 0;
        for (const fs::directory_entry& entry : fs::directory_iterator("/proc/self/fd")) {
          std::error_code error;
          if (fs::read_symlink(entry.path(), error) != shard_) continue;
          ASSERT_GE(::dup2(failing, std::stoi(entry.path().filename())), 0);
          ++replaced;
        }
        ::close(failing);
        ASSERT_EQ(replaced, 1);
      },
      &code);
  EXPECT_EQ(code, ExitCode::kData);
  EXPECT_THAT(said, HasSubstr("cannot read " + shard_ + ": Input/output error"));
}

TEST_F(BadDataTest, OneRankThatMeetsItEndsTheGang) {
  ExitCode code;
  RunAndHarm([&] { fs::resize_file(shard_, image::kShardHeaderBytes); }, &code, 2);
  EXPECT_EQ(code, ExitCode::kData);
}

TEST_F(BadDataTest, FewerImagesThanTheBatchAreRefusedWithBothNumbers) {
  const std::string few = FreshDir("few");
  MakeTinyDataset(few, 5);
  RecordingSink sink;
  EXPECT_EQ(RunOne(TinyOptions(few, FreshDir("out-few")), sink), ExitCode::kBadSpec);
  EXPECT_THAT(sink.Of<Finished>().back().message, HasSubstr("has 5 images, fewer than training.batch (6)"));
  const std::string enough = FreshDir("enough");
  MakeTinyDataset(enough, 6);
  RecordingSink good;
  EXPECT_EQ(RunOne(TinyOptions(enough, FreshDir("out-enough")), good), ExitCode::kDone);
}

}  // namespace
}  // namespace p2::trainer

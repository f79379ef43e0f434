// A disk that fills up in the middle of a checkpoint: exit code 55, the checkpoint before stays good, nothing is left
// lying about, and the run goes on from it to the same bits when there is space again.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/file_util.h"
#include "tests/worker/trainer/tiny_run.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class FullDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
  }

  // `fill` makes the second checkpoint fail on its way; `empty` makes space again.
  void Check(TrainOptions options, const std::function<void()>& fill, const std::function<void()>& empty,
             const std::string& why) {
    options.spec.checkpoint_every_images = 12;
    TrainOptions whole = options;
    whole.checkpoint_root = whole.work_dir = FreshDir("whole");
    whole.checkpoint_dir = whole.checkpoint_root + "/checkpoints";
    RecordingSink uninterrupted;
    ASSERT_EQ(RunOne(whole, uninterrupted), ExitCode::kDone);

    RecordingSink sink;
    TrainerHooks hooks;
    hooks.on_step = [&](int64_t images_seen) {
      if (images_seen != 18) return;
      EXPECT_TRUE(sink.Await<CheckpointSaved>(1));
      fill();
    };
    EXPECT_EQ(RunOne(options, sink, hooks), ExitCode::kStorage);
    EXPECT_THAT(sink.Reasons(), Contains("CHECKPOINT_FAILED"));
    EXPECT_EQ(sink.Of<Finished>()[0].exit_code, 55);
    EXPECT_THAT(sink.Of<Finished>()[0].message, HasSubstr(why));
    EXPECT_THAT(sink.Of<Finished>()[0].message, HasSubstr(options.checkpoint_dir));
    EXPECT_THAT(checkpoint::ListCheckpoints(options.checkpoint_dir), ElementsAre("000000000012-e1"));
    EXPECT_THAT(checkpoint::NamesIn(options.checkpoint_dir), Each(Not(StartsWith(".tmp-"))));
    EXPECT_TRUE(checkpoint::Checkpoint::Open(CheckpointPath(options, 12)).ok());

    empty();
    const TrainOptions next = NextAttempt(options);
    RecordingSink resumed;
    EXPECT_EQ(RunOne(next, resumed), ExitCode::kDone);
    EXPECT_EQ(resumed.Of<Started>()[0].images_seen, 12);
    EXPECT_EQ(TensorDigests(next, 36), TensorDigests(whole, 36));
  }

  std::string data_;
};

TEST_F(FullDiskTest, OnAFileSystemWithoutSpace) {
  const std::string out = FreshDir("small");
  if (::mount("p2-test", out.c_str(), "tmpfs", 0, "size=16m") != 0) GTEST_SKIP() << "cannot mount a tmpfs (needs root)";
  const std::string filler = out + "/filler";
  const auto fill = [&] {
    struct statvfs space;
    ASSERT_EQ(::statvfs(out.c_str(), &space), 0);
    const UniqueFd fd(::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    // Room for a part of the next checkpoint.
    ASSERT_EQ(::posix_fallocate(fd.get(), 0, static_cast<off_t>(space.f_bavail * space.f_frsize) - (64 << 10)), 0);
  };
  Check(
      TinyOptions(data_, out), fill, [&] { fs::remove(filler); }, "No space left on device");
  ::umount2(out.c_str(), MNT_DETACH);
}

// The same without a file system of its own: a file may grow to 64 kB and no further.
TEST_F(FullDiskTest, BehindALimitOfTheSizeOfFiles) {
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const auto limit = [&](rlim_t bytes) {
    const rlimit now{bytes, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &now), 0);
  };
  Check(
      TinyOptions(data_, FreshDir("out")), [&] { limit(64 << 10); }, [&] { limit(before.rlim_cur); }, "File too large");
  limit(before.rlim_cur);
  ::signal(SIGXFSZ, old_handler);
}

}  // namespace
}  // namespace p2::trainer

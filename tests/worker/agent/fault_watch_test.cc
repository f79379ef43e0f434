// GPUs and their faults, by a library in place of NVIDIA's (fake_nvml.cc).
#include "worker/agent/fault_watch.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/agent/temp_dir.h"
#include "worker/agent/device_inventory.h"
#include "worker/agent/nvml.h"

namespace p2::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class FaultWatchTest : public ::testing::Test {
 protected:
  FaultWatchTest() : nvml_(dir_ / "libnvidia-ml.so.1") { std::filesystem::copy_file(P2_FAKE_NVML, nvml_); }
  void Happens(const std::string& line) { std::ofstream(dir_ / "events", std::ios::app) << line << "\n"; }
  void Watch(const std::string& devices = "auto") {
    const auto slots = ListSlots(devices, {.gpus = ListGpus(nvml_)});
    ASSERT_TRUE(slots.ok()) << slots.status();
    watch_ = std::make_unique<FaultWatch>(*slots, nvml_, [this](const p2::v1::DeviceFault& fault) {
      absl::MutexLock lock(&mutex_);
      faults_.push_back(absl::StrCat(fault.slot(), " ", fault.xid()));
    });
  }
  // Once there are so many.
  std::vector<std::string> Faults(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return faults_.size() >= count; };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(30)));
    return faults_;
  }

  TempDir dir_;
  const std::string nvml_;
  absl::Mutex mutex_;
  std::vector<std::string> faults_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<FaultWatch> watch_;
};

TEST_F(FaultWatchTest, GpusAreListedAsTheDriverNamesThem) {
  const auto gpus = ListGpus(nvml_);
  ASSERT_TRUE(gpus.ok()) << gpus.status();
  ASSERT_THAT(*gpus, SizeIs(2));
  EXPECT_EQ((*gpus)[1].index, 1);
  EXPECT_EQ((*gpus)[1].name, "Fake GPU");
  EXPECT_EQ((*gpus)[1].uuid, "GPU-fake-1");
  EXPECT_EQ((*gpus)[1].memory_bytes, 1000);
}

TEST_F(FaultWatchTest, WithoutADriverThereAreNoneAndTheMessageSaysWhy) {
  const auto gpus = ListGpus(dir_ / "no-such-library.so");
  EXPECT_EQ(gpus.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(gpus.status().message()), HasSubstr("no NVIDIA driver"));
}

TEST_F(FaultWatchTest, EachFaultIsTold) {
  Watch();
  Happens("xid GPU-fake-1 79");
  Happens("xid GPU-fake-1 79");
  Happens("xid GPU-fake-0 79");
  Happens("xid GPU-fake-1 48");
  EXPECT_THAT(Faults(4), ElementsAre("cuda:1 79", "cuda:1 79", "cuda:0 79", "cuda:1 48"));
}

TEST_F(FaultWatchTest, AGpuThatIsNotOfferedIsNotWatched) {
  Watch("cuda:1");
  Happens("xid GPU-fake-0 79");
  Happens("xid GPU-fake-1 79");
  EXPECT_THAT(Faults(1), ElementsAre("cuda:1 79"));
}

TEST_F(FaultWatchTest, AGpuWithoutEventsDoesNotHideTheOthers) {
  std::ofstream(dir_ / "gpu-0-is-old") << "";
  Watch();
  Happens("xid GPU-fake-1 64");
  EXPECT_THAT(Faults(1), ElementsAre("cuda:1 64"));
}

TEST_F(FaultWatchTest, AWaitThatFailsEndsNothing) {
  Watch();
  Happens("error 15");
  Happens("xid GPU-fake-1 79");
  EXPECT_THAT(Faults(1), ElementsAre("cuda:1 79"));
}

TEST_F(FaultWatchTest, EndsWhereThereIsNoLibraryOrNothingToWatch) {
  FaultWatch(std::vector<p2::v1::Slot>(1), dir_ / "no-such-library.so", nullptr);
  FaultWatch(std::vector<p2::v1::Slot>(1), nvml_, nullptr);
  SUCCEED();
}

}  // namespace
}  // namespace p2::agent

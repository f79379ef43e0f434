#include "worker/trainer/available_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/worker/trainer/tiny_dataset.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;

class AvailableMemoryTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  const std::string root_ = FreshDir();
};

TEST_F(AvailableMemoryTest, IsTheMachinesWithoutALimit) {
  EXPECT_EQ(AvailableMemory(root_), std::nullopt);
  Write("/proc/meminfo", "MemTotal:       100 kB\nMemAvailable:    50 kB\n");
  EXPECT_EQ(AvailableMemory(root_), 50 * 1024);
  Write("/proc/self/cgroup", "0::/job\n");
  Write("/sys/fs/cgroup/job/memory.max", "max\n");
  Write("/sys/fs/cgroup/job/memory.current", "1000\n");
  EXPECT_EQ(AvailableMemory(root_), 50 * 1024);
  EXPECT_GT(AvailableMemory().value_or(0), 1 << 20) << "here";
}

TEST_F(AvailableMemoryTest, IsTheTightestGroupsWithoutItsFilePages) {
  Write("/proc/meminfo", "MemAvailable:    50 kB\n");
  Write("/proc/self/cgroup", "0::/slice/job\n");
  Write("/sys/fs/cgroup/slice/job/memory.max", "40000\n");
  Write("/sys/fs/cgroup/slice/job/memory.current", "30000\n");
  Write("/sys/fs/cgroup/slice/job/memory.stat", "anon 25000\ninactive_file 5000\n");
  EXPECT_EQ(AvailableMemory(root_), 15000);
  Write("/sys/fs/cgroup/slice/memory.max", "32000\n");
  Write("/sys/fs/cgroup/slice/memory.current", "31000\n");
  EXPECT_EQ(AvailableMemory(root_), 1000);
  Write("/sys/fs/cgroup/slice/memory.current", "33000\n");
  EXPECT_EQ(AvailableMemory(root_), 0);
}

TEST_F(AvailableMemoryTest, KnowsTheFirstVersionOfControlGroups) {
  Write("/proc/meminfo", "MemAvailable:    50 kB\n");
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "20000\n");  // As a container sees it.
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "9000\n");
  Write("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 4000\n");
  EXPECT_EQ(AvailableMemory(root_), 15000);
}

}  // namespace
}  // namespace p2::trainer

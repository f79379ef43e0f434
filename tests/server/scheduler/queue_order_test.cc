#include "server/scheduler/queue_order.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::scheduler {
namespace {

JobRecord Queued(const std::string& id, int priority, int64_t order) {
  JobRecord job;
  job.id = id;
  job.priority = priority;
  job.create_order = order;
  return job;
}

TEST(QueueOrderTest, PutsPriorityBeforeAge) {
  const JobRecord old_low = Queued("old-low", 0, 1), young_high = Queued("young-high", 1, 3), old = Queued("old", 1, 2);
  EXPECT_THAT(QueueOrder({&old_low, &young_high, &old}), testing::ElementsAre(&old, &young_high, &old_low));
}

TEST(QueueOrderTest, LeavesOutWhatIsNotQueued) {
  JobRecord running = Queued("running", 9, 1);
  running.state = JobState::kRunning;
  EXPECT_THAT(QueueOrder({&running}), testing::IsEmpty());
}

}  // namespace
}  // namespace p2::scheduler

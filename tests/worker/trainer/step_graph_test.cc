#include "worker/trainer/step_graph.h"

#include <gtest/gtest.h>

#include "tests/worker/trainer/tiny_run.h"

namespace p2::trainer {
namespace {

TEST(StepGraphTest, OnACpuTheReasonIsSaidAndTheBitsStay) {
  auto group = dist::ProcessGroup::Create({});
  ASSERT_TRUE(group.ok());
  EXPECT_EQ(GraphObstacle(TrainSpec(), **group, {}), "the device is cpu");
  const TrainOptions plain = TinyOptions(FreshDir("data"), FreshDir("plain"));
  TrainOptions asked = TinyOptions(plain.dataset_dir, FreshDir("asked"));
  asked.spec.cuda_graph = true;
  MakeTinyDataset(plain.dataset_dir);
  RecordingSink sink;
  ASSERT_EQ(RunOne(plain, sink), ExitCode::kDone);
  ASSERT_EQ(RunOne(asked, sink), ExitCode::kDone);
  const auto expected = TensorDigests(plain, 36);
  EXPECT_EQ(TensorDigests(asked, 36), expected);
  EXPECT_FALSE(expected.empty());
}

}  // namespace
}  // namespace p2::trainer

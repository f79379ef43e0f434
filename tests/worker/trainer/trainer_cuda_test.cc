// What training does beside itself on a GPU: streams, snapshots, the recorded step.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>

#include "tests/worker/trainer/tiny_run.h"
#include "worker/trainer/device_copy.h"
#include "worker/trainer/step_graph.h"

namespace p2::trainer {
namespace {

class TrainerCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device on this machine";
  }
};

TEST_F(TrainerCudaTest, ACopyHoldsWhatTheTensorHeldWhenItWasTaken) {
  const at::Tensor x = at::arange(1 << 20, at::dtype(at::kFloat).device(at::kCUDA));
  const at::Tensor expected = x.cpu();
  DeviceCopy copy({x, x.narrow(0, 0, 3)});
  x.zero_();
  const std::vector<at::Tensor> host = copy.ToHost();
  EXPECT_TRUE(host[0].is_pinned());
  EXPECT_TRUE(at::equal(host[0], expected));
  EXPECT_TRUE(at::equal(host[1], expected.narrow(0, 0, 3)));
}

TEST_F(TrainerCudaTest, UploadsAreThereForWhatTheStreamGetsNext) {
  Upload upload(at::Device(at::kCUDA, 0));
  std::vector<at::Tensor> sums;
  for (int i = 0; i < 20; ++i) {
    const std::shared_ptr<uint8_t> memory = PinnedMemory(1 << 20);
    std::fill_n(memory.get(), 1 << 20, static_cast<uint8_t>(i));
    sums.push_back(upload.Copy(at::from_blob(memory.get(), {1 << 20}, at::kByte), memory).to(at::kLong).sum());
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(sums[i].item<int64_t>(), int64_t{i} << 20);
}

std::map<std::string, std::string> Train(bool graph, RecordingSink& sink) {
  TrainOptions options = TinyOptions(FreshDir("data"), FreshDir(graph ? "graph" : "plain"));
  MakeTinyDataset(options.dataset_dir);
  options.place.device = "cuda:0";
  options.spec.images = 60;
  options.spec.microbatch = 4;
  options.spec.anneal_linearly = true;
  options.spec.cuda_graph = graph;
  EXPECT_EQ(RunOne(options, sink), ExitCode::kDone);
  return TensorDigests(options, 60);
}

TEST_F(TrainerCudaTest, ARecordedStepHasTheBitsOfALaunchedOne) {
  RecordingSink plain, recorded;
  const auto expected = Train(/*graph=*/false, plain);
  EXPECT_EQ(Train(/*graph=*/true, recorded), expected);
  EXPECT_FALSE(expected.empty());
}

TEST_F(TrainerCudaTest, AStepThatCannotBeRecordedRunsAsAlways) {
  StepGraph graph(at::Device(at::kCUDA, 0));
  const at::Tensor x = at::zeros({}, at::dtype(at::kFloat).device(at::kCUDA));
  for (int i = 0; i < 8; ++i) {
    const auto result =
        graph.Run([] {},
                  [&]() -> absl::StatusOr<StepResult> {
                    StepResult step;
                    step.found_inf = at::full_like(x, x.item<float>());  // Waits for the device: no recording bears it.
                    x.add_(1);
                    return step;
                  });
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->found_inf.item<float>(), i);
  }
}

}  // namespace
}  // namespace p2::trainer

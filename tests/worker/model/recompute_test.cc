#include "worker/model/recompute.h"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/model/unet.h"

namespace p2::model {
namespace {

// Bytes of tensors on the CPU while it lives, above what was there before.
class MemoryWatch {
 public:
  MemoryWatch() : counter_(std::make_shared<Counter>()), guard_(c10::DebugInfoKind::PROFILER_STATE, counter_) {}
  int64_t now() const { return counter_->now; }
  int64_t peak() const { return counter_->peak; }

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      now += size;
      peak = std::max(peak, now);
    }
    bool memoryProfilingEnabled() const override { return true; }
    int64_t now = 0, peak = 0;
  };
  const std::shared_ptr<Counter> counter_;
  const c10::DebugInfoGuard guard_;
};

constexpr int64_t kSamples = 4;

struct Outcome {
  at::Tensor out;
  std::vector<at::Tensor> gradients;  // Of the parameters, in order.
  int64_t kept = 0;                   // Bytes between forward and backward.
  int64_t peak = 0;
};

struct Case {
  bool recompute;
  bool updown = true;
  bool bf16 = false;
};

spec::UnetOptions Options(const Case& which) {
  spec::UnetOptions options;
  options.image_size = 16;
  options.in_channels = 1;
  options.out_channels = 2;
  options.model_channels = 32;
  options.channel_mult = {1, 2};
  options.num_res_blocks = 2;
  options.attention_resolutions = {8};
  options.num_head_channels = 16;
  options.dropout = 0.3;
  options.resblock_updown = which.updown;
  options.activation_recompute = which.recompute;
  return options;
}

Outcome Train(const Case& which) {
  at::set_num_threads(1);
  Unet unet(Options(which));
  InitializeParameters(unet, 5);
  std::vector<at::Tensor> copies;
  {
    const torch::NoGradGuard no_grad;
    for (const at::Tensor& parameter : unet.parameters()) {
      parameter.add_(0.01);  // Zero layers would hide what is before them.
      copies.push_back(parameter.to(at::kBFloat16));
    }
  }
  if (which.bf16) unet.ComputeWith(copies);
  at::manual_seed(3);
  const at::Tensor x = at::randn({kSamples, 1, 16, 16}), t = at::tensor({0, 10, 500, 999});
  const DropoutContext dropout{9, 40};
  const MemoryWatch memory;
  Outcome outcome;
  {
    const at::Tensor loss = [&] {
      const at::Tensor out = unet.forward(x, t, &dropout);
      outcome.out = out.detach();
      return out.square().mean();
    }();
    outcome.kept = memory.now();
    loss.backward();
  }
  outcome.peak = memory.peak();
  for (const at::Tensor& parameter : unet.parameters()) outcome.gradients.push_back(parameter.grad());
  return outcome;
}

class RecomputeTest : public ::testing::TestWithParam<Case> {};

TEST_P(RecomputeTest, GradientsHaveTheSameBitsInLessMemory) {
  Case which = GetParam();
  const Outcome plain = Train(which);
  which.recompute = true;
  const Outcome again = Train(which);
  EXPECT_TRUE(at::equal(again.out, plain.out));
  ASSERT_EQ(again.gradients.size(), plain.gradients.size());
  for (size_t i = 0; i < plain.gradients.size(); ++i) {
    EXPECT_TRUE(at::equal(again.gradients[i], plain.gradients[i])) << i;
    EXPECT_GT(plain.gradients[i].abs().max().item<float>(), 0) << i;
  }
  EXPECT_LT(again.kept, 0.5 * plain.kept);
  EXPECT_LT(again.peak, 0.75 * plain.peak);

  const auto precision = which.bf16 ? spec::Precision::kBf16 : spec::Precision::kFp32;
  which.recompute = false;
  const int64_t all = spec::EstimateTrainingMemory(Options(which), 0, precision)->activations_per_sample;
  which.recompute = true;
  const int64_t less = spec::EstimateTrainingMemory(Options(which), 0, precision)->activations_per_sample;
  EXPECT_NEAR(static_cast<double>(plain.kept) / (kSamples * all), 1, 0.15);
  EXPECT_LT(again.kept, kSamples * less) << "the inside of a block comes to it";
  EXPECT_GT(again.peak, kSamples * less);
}

INSTANTIATE_TEST_SUITE_P(Models, RecomputeTest,
                         ::testing::Values(Case{false}, Case{false, /*updown=*/false},
                                           Case{false, true, /*bf16=*/true}));

}  // namespace
}  // namespace p2::model

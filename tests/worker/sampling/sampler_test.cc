#include "worker/sampling/sampler.h"

#include <ATen/ATen.h>

#include "gtest/gtest.h"
#include "tests/support/golden.h"
#include "worker/random/random_tensors.h"
#include "worker/random/streams.h"

namespace p2::sampling {
namespace {

using ::p2::testing::GoldenJson;
using ::p2::testing::GoldenTensors;
using ::p2::testing::MaxDifference;

diffusion::GaussianDiffusion Spaced(const std::string& respacing) {
  const auto base = *spec::MakeNoiseSchedule(spec::ScheduleKind::kLinear, 1000);
  return {*spec::MakeSpacedSchedule(base, respacing), diffusion::VarianceKind::kLearnedRange};
}

class SamplerGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SamplerGoldenTest, EveryStepAndTheImagesEqualTheReference) {
  const std::string& name = GetParam();
  nlohmann::json golden;
  const nlohmann::json all = GoldenJson("sampling.json");
  for (const auto& entry : all.at("cases")) {
    if (entry.at("name") == name) golden = entry;
  }
  const GoldenTensors tensors("sampling.safetensors");
  const torch::Tensor x_T = tensors["x_T"], noise = tensors["noise"];
  const auto unet = testing::GoldenTinyUnet();
  SamplerOptions options;
  if (!golden.at("eta").is_null()) options.ddim_eta = golden.at("eta").get<double>();
  const double tolerance = options.ddim_eta == 0.0 ? 3e-4 : 1e-4;

  int steps = 0;
  const auto images = Sample(
      [&](const torch::Tensor& x, const torch::Tensor& t) {
        EXPECT_FALSE(at::GradMode::is_enabled());
        EXPECT_EQ(t[0].item<int64_t>(), golden.at("per_step")[static_cast<size_t>(steps)].at("model_t"));
        return unet->forward(x, t);
      },
      Spaced(golden.at("timestep_respacing")), [&](std::optional<int> step) { return step ? noise[*step] : x_T; },
      options,
      [&](const SamplerStep& step) {
        EXPECT_EQ(step.index, steps);
        EXPECT_EQ(step.count, 10);
        const std::string prefix = name + ".step" + std::to_string(step.index);
        const auto& stats = golden.at("per_step")[static_cast<size_t>(step.index)];
        testing::ExpectStats(step.sample, stats.at("sample"), 1e-4, prefix);
        if (tensors.Has(prefix + ".sample")) {
          EXPECT_LE(MaxDifference(step.sample, tensors[prefix + ".sample"]), tolerance) << prefix;
        }
        ++steps;
        return true;
      });
  ASSERT_TRUE(images.has_value());
  EXPECT_EQ(steps, 10);
  EXPECT_LE(MaxDifference(*images, tensors[name + ".final"]), tolerance);
  const torch::Tensor wrong = ToUint8(*images).to(torch::kInt16) - tensors[name + ".final_uint8_png"].to(torch::kInt16);
  EXPECT_LE(wrong.abs().max().item<int>(), 1);
  EXPECT_LE(wrong.ne(0).sum().item<double>(), 0.005 * static_cast<double>(wrong.numel()));
  const torch::Tensor cut =
      ToUint8Truncated(*images).to(torch::kInt16) - tensors[name + ".final_uint8_npz"].to(torch::kInt16);
  EXPECT_LE(cut.abs().max().item<int>(), 1);
  EXPECT_LE(cut.ne(0).sum().item<double>(), 0.005 * static_cast<double>(cut.numel()));
}

TEST_P(SamplerGoldenTest, AChainGoesOnFromTheMiddle) {
  const std::string& name = GetParam();
  const GoldenTensors tensors("sampling.safetensors");
  int step = 0;  // The last one whose state is stored, but for the end.
  for (int i = 0; i < 9; ++i) {
    if (tensors.Has(name + ".step" + std::to_string(i) + ".sample")) step = i;
  }
  const torch::Tensor x = tensors[name + ".step" + std::to_string(step) + ".sample"], noise = tensors["noise"];
  SamplerOptions options;
  if (name != "ancestral10") options.ddim_eta = name == "ddim10_eta1" ? 1.0 : 0.0;
  const auto unet = testing::GoldenTinyUnet();
  const auto images = Denoise([&](const torch::Tensor& at, const torch::Tensor& t) { return unet->forward(at, t); },
                              Spaced(name == "ancestral10" ? "10" : "ddim10"), x, 8 - step,
                              [&](std::optional<int> i) { return noise[step + 1 + *i]; }, options);
  EXPECT_LE(MaxDifference(*images, tensors[name + ".final"]), 3e-4) << "from step " << step;
}

INSTANTIATE_TEST_SUITE_P(AllCases, SamplerGoldenTest, ::testing::Values("ancestral10", "ddim10_eta0", "ddim10_eta1"));

// Stands in for a model: a function of one image and its timestep.
torch::Tensor FakeDenoiser(const torch::Tensor& x, const torch::Tensor& t) {
  return at::cat({at::tanh(x) + t.view({-1, 1, 1, 1}) * 1e-3, at::sin(x)}, 1);
}

TEST(SampleTest, AnImageIsTheSameInAnyBatch) {
  const auto diffusion = Spaced("20");
  const auto draw = [&](uint64_t first, int64_t count) {
    const std::vector<int64_t> shape = {count, 3, 7, 5};
    return *Sample(FakeDenoiser, diffusion, CounterNoise(11, random::kPreviewStream, first, shape));
  };
  const torch::Tensor all = draw(0, 5);
  EXPECT_LE(MaxDifference(draw(3, 2), all.narrow(0, 3, 2)), 1e-5);
  EXPECT_LE(MaxDifference(draw(0, 1), all.narrow(0, 0, 1)), 1e-5);
}

TEST(SampleTest, StopsWhenTheCallerSaysSo) {
  const auto diffusion = Spaced("20");
  int calls = 0;
  const auto images = Sample(FakeDenoiser, diffusion, CounterNoise(11, random::kPreviewStream, 0, {1, 3, 4, 4}), {},
                             [&](const SamplerStep&) { return ++calls < 3; });
  EXPECT_FALSE(images.has_value());
  EXPECT_EQ(calls, 3);
}

TEST(CounterNoiseTest, StepsTakeConsecutiveRunsOfBlocks) {
  // 3 x 3 x 3 = 27 elements take 7 blocks of four.
  const NoiseSource noise = CounterNoise(11, random::kSampleStream, 2, {2, 3, 3, 3});
  const auto expected = [](std::uint32_t first_block) {
    return random::Normal({11, random::kSampleStream, 2}, {2, 3, 3, 3}, first_block);
  };
  EXPECT_TRUE(at::equal(noise(std::nullopt), expected(0)));
  EXPECT_TRUE(at::equal(noise(0), expected(7)));
  EXPECT_TRUE(at::equal(noise(4), expected(35)));
}

TEST(ToUint8Test, RoundsHalfUpAndClamps) {
  const torch::Tensor x = at::tensor({-2.0f, -1.0f, 0.0f, 1.0f, 3.0f, -1.0f + 0.999f / 255}).view({1, 1, 1, 6});
  const torch::Tensor pixels = ToUint8(x);
  EXPECT_EQ(pixels.sizes(), (std::vector<int64_t>{1, 1, 6, 1}));
  EXPECT_TRUE(at::equal(pixels.flatten(), at::tensor({0, 0, 128, 255, 255, 0}, torch::kUInt8)));
}

TEST(ToUint8Test, TruncatesAsThePublishedNpzDoes) {
  const torch::Tensor x = at::tensor({-2.0f, -1.0f, 0.0f, 1.0f, 3.0f, -1.0f + 1.999f / 127.5f}).view({1, 1, 1, 6});
  EXPECT_TRUE(at::equal(ToUint8Truncated(x).flatten(), at::tensor({0, 0, 127, 255, 255, 1}, torch::kUInt8)));
}

}  // namespace
}  // namespace p2::sampling

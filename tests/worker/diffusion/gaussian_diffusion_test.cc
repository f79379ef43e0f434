#include "worker/diffusion/gaussian_diffusion.h"

#include <ATen/ATen.h>

#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace p2::diffusion {
namespace {

using ::p2::testing::GoldenTensors;
using ::p2::testing::MaxDifference;

spec::NoiseSchedule Linear1000() { return *spec::MakeNoiseSchedule(spec::ScheduleKind::kLinear, 1000); }

TEST(GaussianDiffusionTest, NoisedImagesEqualTheReference) {
  const GaussianDiffusion diffusion(Linear1000(), VarianceKind::kLearnedRange);
  const GoldenTensors cases("tiny_cases.safetensors");
  EXPECT_LE(MaxDifference(diffusion.QSample(cases["loss.x0"], cases["loss.t"], cases["loss.noise"]), cases["loss.x_t"]),
            1e-6);
}

TEST(GaussianDiffusionTest, ReverseStepEqualsTheReference) {
  const torch::NoGradGuard no_grad;
  const GaussianDiffusion diffusion(Linear1000(), VarianceKind::kLearnedRange);
  const GoldenTensors cases("tiny_cases.safetensors");
  const nlohmann::json stats = testing::GoldenJson("tiny.json").at("p_mean_variance");
  const torch::Tensor x = cases["fwd.x"], t = cases["pmv.t"];
  const torch::Tensor output = testing::GoldenTinyUnet()->forward(x, diffusion.ModelTimesteps(t));

  const ModelPrediction clipped = diffusion.PMeanVariance(output, x, t, /*clip_denoised=*/true);
  EXPECT_LE(MaxDifference(clipped.reverse.mean, cases["pmv.clip.mean"]), 1e-5);
  EXPECT_LE(MaxDifference(clipped.reverse.log_variance, cases["pmv.clip.log_variance"]), 2e-5);
  const auto schedule = Linear1000();
  for (int64_t i = 0; i < t.size(0); ++i) {
    const double amplified = schedule.sqrt_recipm1_alphas_cumprod[static_cast<size_t>(t[i].item<int64_t>())];
    EXPECT_LE(MaxDifference(clipped.pred_xstart[i], cases["pmv.clip.pred_xstart"][i]), 1e-5 * std::max(1.0, amplified));
  }
  const ModelPrediction free = diffusion.PMeanVariance(output, x, t, /*clip_denoised=*/false);
  testing::ExpectStats(free.reverse.mean, stats.at("clip_False").at("mean"), 1e-5, "mean");
  testing::ExpectStats(free.reverse.log_variance, stats.at("clip_False").at("log_variance"), 1e-5, "log_variance");
  testing::ExpectStats(free.pred_xstart, stats.at("clip_False").at("pred_xstart"), 1e-5, "pred_xstart");
}

TEST(GaussianDiffusionTest, PredictedXStartAndNoiseInvertTheForwardProcess) {
  const GaussianDiffusion diffusion(Linear1000(), VarianceKind::kFixedLarge);
  const torch::Tensor x0 = at::rand({3, 3, 8, 8}) * 2 - 1, noise = at::randn({3, 3, 8, 8});
  const torch::Tensor t = at::tensor({0, 200, 600});
  const torch::Tensor x_t = diffusion.QSample(x0, t, noise);
  EXPECT_LE(MaxDifference(diffusion.PMeanVariance(noise, x_t, t, false).pred_xstart, x0), 1e-4);
  EXPECT_LE(MaxDifference(diffusion.NoiseFromXStart(x_t, t, x0), noise), 1e-4);
}

TEST(GaussianDiffusionTest, FixedVarianceIsBetaAndAtTheFirstStepThePosteriors) {
  const auto schedule = Linear1000();
  const GaussianDiffusion diffusion(schedule, VarianceKind::kFixedLarge);
  const torch::Tensor x = at::randn({2, 1, 4, 4});
  const torch::Tensor log_variance = diffusion.PMeanVariance(x, x, at::tensor({0, 400}), true).reverse.log_variance;
  EXPECT_NEAR(log_variance[0].item<double>(), std::log(schedule.posterior_variance[1]), 1e-5);
  EXPECT_NEAR(log_variance[1].item<double>(), std::log(schedule.betas[400]), 1e-5);
}

TEST(GaussianDiffusionTest, ASpacedProcessTellsTheModelTheOriginalTimesteps) {
  const auto spaced = *spec::MakeSpacedSchedule(Linear1000(), "10");
  const GaussianDiffusion diffusion(spaced, VarianceKind::kLearnedRange);
  EXPECT_EQ(diffusion.num_timesteps(), 10);
  EXPECT_TRUE(at::equal(diffusion.ModelTimesteps(at::tensor({0, 1, 9})), at::tensor({0, 111, 999})));
}

TEST(GaussianDiffusionTest, RefusesAModelWithTheWrongNumberOfChannels) {
  const GaussianDiffusion diffusion(Linear1000(), VarianceKind::kLearnedRange);
  const torch::Tensor x = at::randn({1, 3, 4, 4});
  EXPECT_THROW(diffusion.PMeanVariance(x, x, at::tensor({1}), true), c10::Error);
}

}  // namespace
}  // namespace p2::diffusion

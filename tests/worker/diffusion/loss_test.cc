#include "worker/diffusion/loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>

#include "common/spec/weighting.h"
#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace p2::diffusion {
namespace {

using ::p2::testing::GoldenJson;
using ::p2::testing::GoldenTensors;

class TrainingLossGoldenTest : public ::testing::TestWithParam<int> {};

void ExpectPerSample(const torch::Tensor& got, const nlohmann::json& want, const torch::Tensor& t, const char* what) {
  ASSERT_EQ(got.numel(), static_cast<int64_t>(want.size()));
  for (int64_t i = 0; i < got.numel(); ++i) {
    const double expected = want[static_cast<size_t>(i)].get<double>();
    const double tolerance = t[i].item<int64_t>() == 0 ? 5e-5 : 1e-5;
    EXPECT_NEAR(got[i].item<double>(), expected, tolerance * std::abs(expected)) << what << " of sample " << i;
  }
}

// Elements of a qkv bias that move keys alone: softmax cancels them, so their gradient is rounding noise.
torch::Tensor WithoutKeyThird(const std::string& name, const torch::Tensor& gradient, int64_t head_channels) {
  if (!name.ends_with("qkv.bias")) return gradient;
  const torch::Tensor heads = gradient.reshape({-1, 3, head_channels});
  return at::stack({heads.select(1, 0), heads.select(1, 2)}, 1).reshape({-1});
}

TEST_P(TrainingLossGoldenTest, LossesAndGradientsEqualTheReference) {
  const nlohmann::json golden = GoldenJson("tiny.json").at("losses").at(static_cast<size_t>(GetParam()));
  const nlohmann::json& args = golden.at("diffusion_args");
  const GoldenTensors cases("tiny_cases.safetensors");
  const auto base = *spec::MakeNoiseSchedule(spec::ScheduleKind::kLinear, args.at("steps"));
  const std::string respacing = args.at("timestep_respacing");
  const auto spaced = respacing.empty() ? spec::SpacedSchedule{{}, base} : *spec::MakeSpacedSchedule(base, respacing);
  const auto diffusion = respacing.empty() ? std::make_unique<GaussianDiffusion>(base, VarianceKind::kLearnedRange)
                                           : std::make_unique<GaussianDiffusion>(spaced, VarianceKind::kLearnedRange);
  const auto weights = *spec::ObjectiveWeights("p2", args.at("p2_gamma"), args.at("p2_k"), spaced.schedule);
  const TrainingLoss training_loss(
      *diffusion, weights, {.rescale_vb = args.at("rescale_learned_sigmas"), .kl_only = args.value("use_kl", false)});

  const auto unet = testing::GoldenTinyUnet();
  const torch::Tensor x0 = cases["loss.x0"], noise = cases["loss.noise"];
  const torch::Tensor t = cases[golden.at("t_tensor").get<std::string>()];
  const torch::Tensor x_t = diffusion->QSample(x0, t, noise);
  const LossTerms terms = training_loss(unet->forward(x_t, diffusion->ModelTimesteps(t)), x0, x_t, t, noise);

  ExpectPerSample(terms.loss, golden.at("loss"), t, "loss");
  if (!golden.at("mse").is_null()) {
    ExpectPerSample(terms.mse, golden.at("mse"), t, "mse");
    ExpectPerSample(terms.vb, golden.at("vb"), t, "vb");
    for (int64_t i = 0; i < t.numel(); ++i) {
      const double weight = weights[static_cast<size_t>(t[i].item<int64_t>())];
      EXPECT_NEAR(terms.mse_raw[i].item<double>() * weight, terms.mse[i].item<double>(), 1e-6);
    }
  }
  const torch::Tensor mean_loss = terms.loss.mean();
  EXPECT_NEAR(mean_loss.item<double>(), golden.at("mean_loss"), 5e-5 * golden.at("mean_loss").get<double>());

  mean_loss.backward();
  const std::set<std::string> degenerate(golden.at("degenerate_tensors").begin(),
                                         golden.at("degenerate_tensors").end());
  const int index = GetParam();
  const double tolerance = index == 3 || index == 4 ? 1e-4 : index == 5 || index == 6 ? 2e-4 : 1e-2;
  const bool full = golden.contains("full_gradients_in");
  const GoldenTensors gradients("tiny_grads.safetensors");
  int compared = 0;
  for (const auto& item : unet->named_parameters()) {
    const std::string& name = item.key();
    ASSERT_TRUE(item.value().grad().defined()) << name;
    const torch::Tensor gradient = item.value().grad();
    if (degenerate.count(name) > 0) continue;
    ++compared;
    testing::ExpectStats(gradient, golden.at("grads").at(name), tolerance, name);
    if (!full) continue;
    if (gradients.Has("full." + name)) {
      EXPECT_LE(testing::RelativeL2(WithoutKeyThird(name, gradient, 16),
                                    WithoutKeyThird(name, gradients["full." + name], 16)),
                tolerance)
          << name;
    } else {
      const int64_t stride = std::max<int64_t>(1, gradient.numel() / 256);
      const torch::Tensor strided = gradient.flatten().slice(0, 0, std::nullopt, stride).narrow(0, 0, 256);
      EXPECT_LE(testing::RelativeL2(strided, gradients["strided." + name]), tolerance) << name;
    }
  }
  EXPECT_EQ(compared, 198 - 6);
}

INSTANTIATE_TEST_SUITE_P(AllCases, TrainingLossGoldenTest, ::testing::Range(0, 8));

struct Inputs {
  torch::Tensor x0, noise, t;
};

Inputs MakeInputs() { return {at::rand({3, 1, 8, 8}) * 2 - 1, at::randn({3, 1, 8, 8}), at::tensor({0, 300, 999})}; }

TEST(TrainingLossTest, BoundsGradientReachesTheVarianceAlone) {
  const auto schedule = *spec::MakeNoiseSchedule(spec::ScheduleKind::kCosine, 1000);
  const GaussianDiffusion diffusion(schedule, VarianceKind::kLearnedRange);
  const TrainingLoss training_loss(diffusion, std::vector<double>(1000, 0.0));  // No mse: the bound is left.
  const Inputs in = MakeInputs();
  const torch::Tensor output = at::randn({3, 2, 8, 8}).requires_grad_();
  training_loss(output, in.x0, diffusion.QSample(in.x0, in.t, in.noise), in.t, in.noise).loss.sum().backward();
  EXPECT_EQ(output.grad().narrow(1, 0, 1).abs().max().item<float>(), 0.0f);
  EXPECT_GT(output.grad().narrow(1, 1, 1).abs().max().item<float>(), 0.0f);
}

TEST(TrainingLossTest, FixedVarianceLeavesTheWeightedMse) {
  const auto schedule = *spec::MakeNoiseSchedule(spec::ScheduleKind::kLinear, 1000);
  const GaussianDiffusion diffusion(schedule, VarianceKind::kFixedLarge);
  const TrainingLoss training_loss(diffusion, std::vector<double>(1000, 0.5));
  const Inputs in = MakeInputs();
  const LossTerms terms = training_loss(at::zeros_like(in.x0), in.x0, in.x0, in.t, in.noise);
  const torch::Tensor mse = in.noise.square().flatten(1).mean(1);
  EXPECT_TRUE(at::allclose(terms.mse_raw, mse));
  EXPECT_TRUE(at::allclose(terms.loss, 0.5 * mse));
  EXPECT_EQ(terms.vb.abs().max().item<float>(), 0.0f);
}

TEST(TrainingLossTest, RefusesWeightsOfAnotherSchedule) {
  const auto schedule = *spec::MakeNoiseSchedule(spec::ScheduleKind::kLinear, 1000);
  const GaussianDiffusion diffusion(schedule, VarianceKind::kFixedLarge);
  EXPECT_THROW(TrainingLoss(diffusion, std::vector<double>(999, 1.0)), c10::Error);
}

TEST(DiscretizedGaussianLogLikelihoodTest, BinsSumToOne) {
  const torch::Tensor bins = at::arange(256, torch::kFloat32) / 127.5 - 1;
  for (const double mean : {-1.0, -0.3, 0.99}) {
    const torch::Tensor log_scale = at::full({1}, -2.0);
    const torch::Tensor p = DiscretizedGaussianLogLikelihood(bins, at::full({1}, mean), log_scale).exp();
    EXPECT_NEAR(p.sum().item<double>(), 1.0, 1e-4) << mean;
  }
}

}  // namespace
}  // namespace p2::diffusion

#include "worker/diffusion/bits_per_dim.h"

#include <ATen/ATen.h>

#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace p2::diffusion {
namespace {

using ::p2::testing::GoldenJson;
using ::p2::testing::GoldenTensors;

double MaxRelative(const torch::Tensor& got, const torch::Tensor& want) {
  return ((got - want).abs() / want.abs()).max().item<double>();
}

TEST(BitsPerDimTest, EqualsTheReference) {
  const GoldenTensors tensors("bpd.safetensors"), sampling("sampling.safetensors");
  const torch::Tensor noise = sampling["noise"];
  const auto unet = testing::GoldenTinyUnet();
  const nlohmann::json golden = GoldenJson("bpd.json");
  ASSERT_FALSE(golden.at("cases").empty());
  for (const auto& entry : golden.at("cases")) {
    const std::string prefix = entry.at("name").get<std::string>() + ".";
    const auto base =
        *spec::MakeNoiseSchedule(*spec::ParseScheduleKind(entry.at("noise_schedule").get<std::string>()), 1000);
    const GaussianDiffusion diffusion(
        *spec::MakeSpacedSchedule(base, entry.at("timestep_respacing").get<std::string>()),
        VarianceKind::kLearnedRange);
    const BitsPerDim got =
        CalcBitsPerDim([&](const torch::Tensor& x, const torch::Tensor& t) { return unet->forward(x, t); }, diffusion,
                       tensors["x_start"], [&](int i) { return noise[i]; }, entry.at("clip_denoised"));
    EXPECT_LE(MaxRelative(got.total, tensors[prefix + "total_bpd"]), 1e-5);
    EXPECT_LE(MaxRelative(got.prior, tensors[prefix + "prior_bpd"]), 1e-3);
    EXPECT_LE(MaxRelative(got.mse, tensors[prefix + "mse"]), 1e-5);
    EXPECT_LE(MaxRelative(got.xstart_mse, tensors[prefix + "xstart_mse"]), 1e-5);
    const torch::Tensor vb = tensors[prefix + "vb"];
    EXPECT_TRUE(((got.vb - vb).abs() <= at::maximum(1e-3 * vb.abs(), at::full({}, 1e-5))).all().item<bool>());
  }
}

}  // namespace
}  // namespace p2::diffusion

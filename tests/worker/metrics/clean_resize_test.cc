#include "worker/metrics/clean_resize.h"

#include <ATen/ATen.h>

#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace p2::metrics {
namespace {

TEST(CleanResizeTest, EqualsCleanFid) {
  const nlohmann::json golden = testing::GoldenJson("metrics.json").at("resize");
  const testing::GoldenTensors tensors("metrics.safetensors");
  ASSERT_FALSE(golden.empty());
  for (const auto& [name, want] : golden.items()) {
    const std::string prefix = "resize." + name + ".";
    const torch::Tensor in = tensors[prefix + "in_uint8_hwc"];  // (H, W, C)
    image::Image image{static_cast<int>(in.size(1)), static_cast<int>(in.size(0)), static_cast<int>(in.size(2)), {}};
    image.pixels.assign(in.data_ptr<uint8_t>(), in.data_ptr<uint8_t>() + in.numel());
    const int size = want.at("out");
    auto resized = CleanResize(image, size);
    ASSERT_TRUE(resized.ok()) << resized.status();
    const torch::Tensor out = at::from_blob(resized->data(), {in.size(2), size, size}, at::kFloat);
    const int offset = want.at("centre_offset");
    const auto block = [&](int y, int x) { return out.slice(1, y, y + 32).slice(2, x, x + 32); };
    EXPECT_LE(testing::MaxDifference(block(0, 0), tensors[prefix + "top_left"]), 2e-3);
    EXPECT_LE(testing::MaxDifference(block(0, size - 32), tensors[prefix + "top_right"]), 2e-3);
    EXPECT_LE(testing::MaxDifference(block(size - 32, 0), tensors[prefix + "bottom_left"]), 2e-3);
    EXPECT_LE(testing::MaxDifference(block(size - 32, size - 32), tensors[prefix + "bottom_right"]), 2e-3);
    EXPECT_LE(testing::MaxDifference(block(offset, offset), tensors[prefix + "centre"]), 2e-3);
    EXPECT_NEAR(out.eq(0).sum().item<double>(), want.at("count_at_0").get<double>(), 3);
    EXPECT_NEAR(out.eq(255).sum().item<double>(), want.at("count_at_255").get<double>(), 3);
  }
}

TEST(CleanResizeTest, KeepsAnImageThatHasTheSizeAndRefusesNone) {
  const image::Image image{2, 2, 1, {1, 2, 3, 4}};
  EXPECT_EQ(*CleanResize(image, 2), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_FALSE(CleanResize(image::Image{}, 2).ok());
  EXPECT_FALSE(CleanResize(image, 0).ok());
}

}  // namespace
}  // namespace p2::metrics

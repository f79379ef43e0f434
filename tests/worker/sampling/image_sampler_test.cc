#include "worker/sampling/image_sampler.h"

#include <ATen/ATen.h>

#include <map>
#include <mutex>
#include <stdexcept>

#include "gtest/gtest.h"
#include "tests/support/golden.h"
#include "worker/random/streams.h"
#include "worker/sampling/reconstruction.h"

namespace p2::sampling {
namespace {

using Images = std::map<uint64_t, torch::Tensor>;

class ImageSamplerTest : public ::testing::Test {
 protected:
  static diffusion::GaussianDiffusion Spaced(const std::string& respacing) {
    return {*spec::MakeSpacedSchedule(*spec::MakeNoiseSchedule(spec::ScheduleKind::kLinear, 1000), respacing),
            diffusion::VarianceKind::kLearnedRange};
  }

  Images Draw(const std::vector<uint64_t>& indices, int threads, const ChainStart& start) {
    Images images;
    std::mutex mutex;
    const auto done = ImageSampler(*unet_, diffusion_, {.seed = 5, .threads = threads})
                          .Draw(indices, start, {.on_image = [&](uint64_t index, const torch::Tensor& x0) {
                                  const std::lock_guard<std::mutex> lock(mutex);
                                  EXPECT_TRUE(images.emplace(index, x0.clone()).second) << index;
                                  return absl::OkStatus();
                                }});
    EXPECT_TRUE(done.ok() && *done) << done.status();
    return images;
  }
  Images Draw(const std::vector<uint64_t>& indices, int threads = 1) {
    return Draw(indices, threads, FromNoise(diffusion_));
  }

  const std::shared_ptr<model::Unet> unet_ = testing::GoldenTinyUnet();
  const diffusion::GaussianDiffusion diffusion_ = Spaced("4");
};

TEST_F(ImageSamplerTest, AnImageHasTheSameBitsInAnyCompany) {
  const Images all = Draw({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 1);
  EXPECT_EQ(all.size(), 10u);
  const Images company[] = {Draw({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 2), Draw({0, 1, 2, 3, 4, 5, 6, 7, 8}, 3), Draw({3}, 2),
                            Draw({5, 6}, 1), Draw({0, 6, 9}, 4)};
  for (const Images& images : company) {
    for (const auto& [index, image] : images) EXPECT_TRUE(at::equal(image, all.at(index))) << index;
  }
  EXPECT_FALSE(at::equal(all.at(0), all.at(1)));
}

TEST_F(ImageSamplerTest, DrawsWhatTheSamplerDrawsFromStreamSample) {
  at::set_num_threads(1);
  const auto expected = Sample([&](const torch::Tensor& x, const torch::Tensor& t) { return unet_->forward(x, t); },
                               diffusion_, CounterNoise(5, random::kSampleStream, 8, {8, 3, 32, 32}));
  EXPECT_TRUE(at::equal(Draw({9}).at(9), (*expected)[1]));
}

TEST_F(ImageSamplerTest, StopsBetweenSteps) {
  int steps = 0, images = 0;
  const auto done = ImageSampler(*unet_, diffusion_, {})
                        .Draw({0, 8, 16}, FromNoise(diffusion_),
                              {.on_image =
                                   [&](uint64_t, const torch::Tensor&) {
                                     ++images;
                                     return absl::OkStatus();
                                   },
                               .on_step = [&](int64_t n) { steps += static_cast<int>(n); },
                               .stopping = [&] { return steps >= 6; }});
  ASSERT_TRUE(done.ok());
  EXPECT_FALSE(*done);
  EXPECT_EQ(images, 1);
  EXPECT_EQ(steps, 6);
}

TEST_F(ImageSamplerTest, TheFirstErrorEndsAllThreads) {
  for (const int threads : {1, 2}) {
    const auto failed =
        ImageSampler(*unet_, diffusion_, {.threads = threads})
            .Draw({0, 8, 16, 24}, FromNoise(diffusion_),
                  {.on_image = [](uint64_t, const torch::Tensor&) { return absl::ResourceExhaustedError("full"); }});
    EXPECT_EQ(failed.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THROW(ImageSampler(*unet_, diffusion_, {.threads = threads})
                     .Draw({0, 8, 16, 24}, FromNoise(diffusion_),
                           {.on_image = [](uint64_t, const torch::Tensor&) -> absl::Status {
                             throw std::runtime_error("torch");
                           }})
                     .IgnoreError(),
                 std::runtime_error);
  }
}

TEST(CellSizeTest, FollowsThePixels) {
  EXPECT_EQ(CellSize(torch::kCPU, 256), 1);
  EXPECT_EQ(CellSize(torch::kCPU, 128), 1);
  EXPECT_EQ(CellSize(torch::kCPU, 64), 2);
  EXPECT_EQ(CellSize(torch::kCPU, 32), 8);
  EXPECT_EQ(CellSize(torch::kCPU, 16), 8);
  EXPECT_EQ(CellSize(torch::kCUDA, 256), 8);
  EXPECT_EQ(CellSize(torch::kCUDA, 512), 2);
  EXPECT_EQ(CellSize(torch::kCUDA, 32), 128);
}

// Reconstruction.

TEST_F(ImageSamplerTest, NoisesAsTheGoldenQSampleDoes) {
  const testing::GoldenTensors tensors("tiny_cases.safetensors");
  const torch::Tensor pixels = tensors["loss.x0_uint8"].permute({0, 2, 3, 1}).contiguous();  // (4, H, W, C)
  const torch::Tensor t = tensors["loss.t"];
  const diffusion::GaussianDiffusion full(*spec::MakeNoiseSchedule(spec::ScheduleKind::kLinear, 1000),
                                          diffusion::VarianceKind::kLearnedRange);
  std::vector<image::Image> images;
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    const torch::Tensor one = pixels[i].contiguous();
    const auto* data = one.const_data_ptr<uint8_t>();
    images.push_back({static_cast<int>(one.size(1)), static_cast<int>(one.size(0)), 3, {data, data + one.numel()}});
    EXPECT_TRUE(at::equal(ToModelSpace(images.back()), tensors["loss.x0"][i]));
  }
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    const ChainStart start = FromImages(full, images, 40, static_cast<int>(t[i].item<int64_t>()));
    const torch::Tensor x = start.x(40 + static_cast<uint64_t>(i), tensors["loss.noise"].narrow(0, i, 1));
    EXPECT_LE(testing::MaxDifference(x[0], tensors["loss.x_t"][i]), 1e-6);
  }
}

TEST_F(ImageSamplerTest, ReconstructsCloselyFromLittleNoiseAndFreelyFromMuch) {
  std::vector<image::Image> images(2, image::Image{32, 32, 3, std::vector<uint8_t>(32 * 32 * 3, 200)});
  const auto distance = [&](int timestep) {
    const Images drawn = Draw({7, 8}, 2, FromImages(diffusion_, images, 7, timestep));
    return (drawn.at(8) - ToModelSpace(images[1])).abs().mean().item<double>();
  };
  EXPECT_LT(distance(0), 0.05);
  EXPECT_GT(distance(3), 0.2);
}

}  // namespace
}  // namespace p2::sampling

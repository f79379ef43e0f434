#include "worker/sampling/reconstruction.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace p2::sampling {

absl::StatusOr<int> NearestSnr(const spec::NoiseSchedule& schedule, double snr) {
  if (!(snr > 0) || !std::isfinite(snr)) {
    return absl::InvalidArgumentError(absl::StrCat("SNR ", snr, " must be a positive number"));
  }
  const auto distance = [&](double other) { return std::abs(std::log(other) - std::log(snr)); };
  const auto nearest = std::min_element(schedule.snr.begin(), schedule.snr.end(),
                                        [&](double a, double b) { return distance(a) < distance(b); });
  return static_cast<int>(nearest - schedule.snr.begin());
}

absl::StatusOr<int> SpacedIndex(const spec::SpacedSchedule& spaced, int t) {
  const auto nearest = std::min_element(spaced.timestep_map.begin(), spaced.timestep_map.end(),
                                        [t](int a, int b) { return std::abs(a - t) < std::abs(b - t); });
  if (*nearest != t) {
    return absl::InvalidArgumentError(
        absl::StrCat("timestep ", t, " is not one of this chain's; the nearest is ", *nearest));
  }
  return static_cast<int>(nearest - spaced.timestep_map.begin());
}

torch::Tensor ToModelSpace(const image::Image& image) {
  const torch::Tensor pixels = torch::from_blob(const_cast<uint8_t*>(image.pixels.data()),
                                                {image.height, image.width, image.channels}, torch::kUInt8);
  return pixels.permute({2, 0, 1}).to(torch::kFloat32).contiguous() / 127.5 - 1;
}

ChainStart FromImages(const diffusion::GaussianDiffusion& diffusion, const std::vector<image::Image>& images,
                      uint64_t first, int timestep) {
  return {timestep, [&diffusion, &images, first, timestep](uint64_t first_index, const torch::Tensor& noise) {
            std::vector<torch::Tensor> x0;
            for (int64_t i = 0; i < noise.size(0); ++i) {
              // A cell may reach beyond the images; what it makes of them is dropped.
              const uint64_t index = first_index + static_cast<uint64_t>(i);
              const bool inside = index >= first && index - first < images.size();
              x0.push_back(ToModelSpace(images[inside ? index - first : 0]));
            }
            const torch::Tensor t = at::full({noise.size(0)}, timestep, noise.options().dtype(torch::kInt64));
            return diffusion.QSample(at::stack(x0).to(noise.device()), t, noise);
          }};
}

}  // namespace p2::sampling

#include "worker/sampling/reconstruction.h"

#include <ATen/ATen.h>

namespace p2::sampling {

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

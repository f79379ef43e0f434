// Stochastic reconstruction (Fig. 2 of arXiv:2204.00227): an image x_0 is noised by q to x_t, and the reverse chain
// leads from there back to x^_0. What survives tells what the model draws at the noise levels above t. Which t:
// common/spec/reconstruction.h.
#pragma once

#include <cstdint>
#include <vector>

#include "common/image/image.h"
#include "worker/diffusion/gaussian_diffusion.h"
#include "worker/sampling/image_sampler.h"

namespace p2::sampling {

// Pixels (H, W, C) of 0 … 255 as (C, H, W) in [-1, 1]: p / 127.5 - 1.
torch::Tensor ToModelSpace(const image::Image& image);

// Chains from x_t = q(x_0 of `images[index - first]`), with the image's own first noise. `images` must outlive it; all
// have the model's size.
ChainStart FromImages(const diffusion::GaussianDiffusion& diffusion, const std::vector<image::Image>& images,
                      uint64_t first, int timestep);

}  // namespace p2::sampling

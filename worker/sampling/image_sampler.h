// Draws images by index, many at once, so that an image's bits depend on its index and nothing else: not on how many
// are drawn with it, nor on the threads, the ranks, or where an interrupted run went on.
//
// A convolution's bits depend on the batch that it sees (measured with oneDNN: an image in a batch of 2, 3, 4 or 8
// differs from the image alone by up to 3e-6) and on its threads. Therefore the model only ever sees one *cell*:
// CellSize() images with consecutive indices, the first a multiple of it, computed by one thread on a CPU. Threads work
// on different cells.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/diffusion/gaussian_diffusion.h"
#include "worker/model/unet.h"
#include "worker/sampling/sampler.h"

namespace p2::sampling {

// Images that the model sees at once. On a CPU, where a thread works on them alone: 8 of up to 32 pixels, which a
// convolution is quicker with, 2 of 64, 1 of 128 and more. On a GPU 8 of 256 pixels, more of smaller ones, up to 128.
// Another size is another image for the same seed.
int64_t CellSize(torch::Device device, int image_size);

struct ImageSamplerOptions {
  SamplerOptions sampler;
  uint64_t seed = 0;
  // On a CPU: cells in progress at once, one thread each. On a GPU it is always one. Changes memory and speed, no bit.
  // REQUIRES: >= 1.
  int threads = 1;
};

// Where the chains begin.
struct ChainStart {
  int timestep = 0;  // Spaced; the chain has timestep + 1 steps.
  // x_t (n, C, H, W) of images first_index …, from standard normals of that shape. Called by several threads.
  std::function<torch::Tensor(uint64_t first_index, const torch::Tensor& noise)> x;
};

// From pure noise: the whole chain.
ChainStart FromNoise(const diffusion::GaussianDiffusion& diffusion);

struct DrawCallbacks {
  // An image is done: (C, H, W), on the device. Called by several threads. An error ends the draw.
  std::function<absl::Status(uint64_t index, const torch::Tensor& x0)> on_image;
  // `images` of the wanted images went one step on. Called by several threads. May be null.
  std::function<void(int64_t images)> on_step;
  // Asked between steps. May be null.
  std::function<bool()> stopping;
};

// Noise comes from stream `sample` of the random map, g = index (worker/random/streams.h). Confined to one thread; on a
// CPU it sets torch's threads to one. May throw as torch does.
class ImageSampler {
 public:
  // `unet` and `diffusion` lie on one device and must outlive it.
  ImageSampler(model::Unet& unet, const diffusion::GaussianDiffusion& diffusion, ImageSamplerOptions options);

  // Draws the images of `indices` (ascending). False if `stopping` ended it; the first error of `on_image` otherwise.
  absl::StatusOr<bool> Draw(absl::Span<const uint64_t> indices, const ChainStart& start,
                            const DrawCallbacks& callbacks) const;

 private:
  struct Cell {
    uint64_t first = 0;
    std::vector<uint64_t> wanted;
  };
  std::vector<Cell> CellsOf(absl::Span<const uint64_t> indices) const;
  absl::StatusOr<bool> DrawCell(const Cell& cell, const ChainStart& start, const DrawCallbacks& callbacks) const;

  model::Unet& unet_;
  const diffusion::GaussianDiffusion& diffusion_;
  const ImageSamplerOptions options_;
  const int64_t cell_size_;
};

}  // namespace p2::sampling

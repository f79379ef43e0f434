#include "worker/sampling/image_sampler.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "common/status_macros.h"
#include "worker/random/streams.h"

namespace p2::sampling {

int64_t CellSize(torch::Device device, int image_size) {
  const int64_t pixels = int64_t{1} * image_size * image_size;
  if (device.is_cpu()) return std::clamp<int64_t>(8 * 32 * 32 / pixels, 1, 8);
  return std::clamp<int64_t>(8 * 256 * 256 / pixels, 1, 128);
}

ChainStart FromNoise(const diffusion::GaussianDiffusion& diffusion) {
  return {diffusion.num_timesteps() - 1, [](uint64_t, const torch::Tensor& noise) { return noise; }};
}

ImageSampler::ImageSampler(model::Unet& unet, const diffusion::GaussianDiffusion& diffusion,
                           ImageSamplerOptions options)
    : unet_(unet),
      diffusion_(diffusion),
      options_(std::move(options)),
      cell_size_(CellSize(diffusion.device(), unet.options().image_size)) {}

std::vector<ImageSampler::Cell> ImageSampler::CellsOf(absl::Span<const uint64_t> indices) const {
  const auto size = static_cast<uint64_t>(cell_size_);
  std::vector<Cell> cells;
  for (const uint64_t index : indices) {
    const uint64_t first = index / size * size;
    if (cells.empty() || cells.back().first != first) cells.push_back({first, {}});
    cells.back().wanted.push_back(index);
  }
  return cells;
}

absl::StatusOr<bool> ImageSampler::DrawCell(const Cell& cell, const ChainStart& start,
                                            const DrawCallbacks& callbacks) const {
  const torch::NoGradGuard no_grad;
  const int64_t size = unet_.options().image_size;
  const std::vector<int64_t> shape{cell_size_, unet_.options().in_channels, size, size};
  const NoiseSource noise = CounterNoise(options_.seed, random::kSampleStream, cell.first, shape, diffusion_.device());
  const std::optional<torch::Tensor> drawn =
      Denoise([this](const torch::Tensor& x, const torch::Tensor& t) { return unet_.forward(x, t); }, diffusion_,
              start.x(cell.first, noise(std::nullopt)), start.timestep, noise, options_.sampler,
              [&](const SamplerStep&) {
                if (callbacks.on_step) callbacks.on_step(static_cast<int64_t>(cell.wanted.size()));
                return !(callbacks.stopping && callbacks.stopping());
              });
  if (!drawn) return false;
  for (const uint64_t index : cell.wanted) {
    P2_RETURN_IF_ERROR(callbacks.on_image(index, (*drawn)[static_cast<int64_t>(index - cell.first)]));
  }
  return true;
}

absl::StatusOr<bool> ImageSampler::Draw(absl::Span<const uint64_t> indices, const ChainStart& start,
                                        const DrawCallbacks& callbacks) const {
  const std::vector<Cell> cells = CellsOf(indices);
  const bool cpu = diffusion_.device().is_cpu();
  const int64_t at_once = cpu ? options_.threads : 1;
  std::atomic<size_t> next{0};
  std::atomic<bool> ended{false};
  const auto work = [&]() -> absl::StatusOr<bool> {
    absl::Cleanup end_all = [&] { ended = true; };  // Also where torch throws.
    if (cpu) {
      // torch keeps one number for the process and OpenMP one for each thread; both must say one.
      at::set_num_threads(1);
      at::globalContext().setFlushDenormal(true);  // A state of the thread.
    }
    for (size_t i; !ended && (i = next++) < cells.size();) {
      DrawCallbacks watched = callbacks;
      watched.stopping = [&] { return ended || (callbacks.stopping && callbacks.stopping()); };
      absl::StatusOr<bool> done = DrawCell(cells[i], start, watched);
      if (!done.ok() || !*done) return done;
    }
    std::move(end_all).Cancel();
    return true;
  };
  // A future brings a worker's exception to the caller.
  std::vector<std::future<absl::StatusOr<bool>>> others;
  for (int64_t i = 1; i < std::min<int64_t>(at_once, static_cast<int64_t>(cells.size())); ++i) {
    others.push_back(std::async(std::launch::async, work));
  }
  absl::StatusOr<bool> result = work();
  for (auto& other : others) {
    absl::StatusOr<bool> theirs = other.get();
    if (result.ok() && (!theirs.ok() || !*theirs)) result = std::move(theirs);
  }
  return result;
}

}  // namespace p2::sampling

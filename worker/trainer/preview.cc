#include "worker/trainer/preview.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/str_format.h"
#include "common/image/png_write.h"
#include "common/spec/respacing.h"
#include "common/status_macros.h"
#include "worker/random/streams.h"
#include "worker/sampling/sampler.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {
namespace {

constexpr int kGridPadding = 2;
constexpr int kGridPixels = 640;  // Smaller sheets are magnified by the whole factor that keeps them within this.
constexpr int64_t kImagesAtOnce = 16;

std::shared_ptr<model::Unet> ShadowUnet(const TrainSpec& spec, RunState& state) {
  auto unet = std::make_shared<model::Unet>(spec.model);
  state.flat().layout().Bind(*unet, state.emas().empty() ? state.flat().params() : state.emas().front().value());
  return unet;
}

diffusion::GaussianDiffusion SpacedDiffusion(const TrainSpec& spec, at::Device device) {
  const auto base = spec::MakeNoiseSchedule(spec.noise_schedule, spec.timesteps);
  const auto spaced = spec::MakeSpacedSchedule(*base, spec.preview_steps);
  return {*spaced, spec.learn_sigma ? diffusion::VarianceKind::kLearnedRange : diffusion::VarianceKind::kFixedLarge,
          device};
}

absl::Status WriteGrid(const at::Tensor& pixels, const std::string& path) {  // (n, H, W, C) uint8
  const int height = static_cast<int>(pixels.size(1)), width = static_cast<int>(pixels.size(2));
  const int channels = static_cast<int>(pixels.size(3));
  std::vector<image::Image> images;
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    const at::Tensor one = pixels[i].contiguous();
    images.push_back({width, height, channels,
                      std::vector<uint8_t>(one.data_ptr<uint8_t>(), one.data_ptr<uint8_t>() + one.numel())});
  }
  const int columns = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(images.size()))));
  P2_ASSIGN_OR_RETURN(const image::Image grid, image::MakeGrid(images, columns, kGridPadding));
  return image::WritePng(image::Magnify(grid, std::max(1, kGridPixels / std::max(grid.width, grid.height))), path);
}

}  // namespace

Preview::Preview(const TrainSpec& spec, RunState& state, dist::ProcessGroup& group)
    : spec_(spec), group_(group), unet_(ShadowUnet(spec, state)), diffusion_(SpacedDiffusion(spec, group.device())) {}

absl::StatusOr<bool> Preview::Draw(const std::string& path, const std::function<void()>& tick,
                                   const std::function<bool()>& stopping) {
  const int64_t count = spec_.preview_count, channels = spec_.model.in_channels, size = spec_.model.image_size;
  const Share share = ShareOf(group_.rank(), group_.world_size(), count);
  at::Tensor pixels = at::zeros({count, size, size, channels}, at::kByte);
  bool cut = false;
  for (int64_t i = share.begin; i < share.end && !cut; i += kImagesAtOnce) {
    const int64_t end = std::min(i + kImagesAtOnce, share.end);
    const std::optional<at::Tensor> drawn =
        sampling::Sample([&](const at::Tensor& x, const at::Tensor& t) { return unet_->forward(x, t); }, diffusion_,
                         sampling::CounterNoise(spec_.seed, random::kPreviewStream, static_cast<uint64_t>(i),
                                                {end - i, channels, size, size}, group_.device()),
                         {},
                         [&](const sampling::SamplerStep&) {
                           tick();
                           return !stopping();
                         });
    cut = !drawn;
    if (drawn) pixels.slice(0, i, end).copy_(sampling::ToUint8(*drawn));
  }
  // Every pixel is some rank's and zero on the others: their sum is the whole sheet.
  at::Tensor cuts = at::full({}, cut ? 1.0f : 0.0f, at::TensorOptions().device(group_.device()));
  P2_RETURN_IF_ERROR(group_.AllReduceMax(cuts));
  if (cuts.item<float>() > 0) return false;
  pixels = pixels.to(group_.device());
  P2_RETURN_IF_ERROR(group_.AllReduceSum(pixels));
  if (group_.rank() == 0) P2_RETURN_IF_ERROR(WithExit(ExitCode::kStorage, WriteGrid(pixels.cpu(), path)));
  return true;
}

std::string PreviewFileName(int64_t images_seen) { return absl::StrFormat("samples-%09d.png", images_seen); }

}  // namespace p2::trainer

#include "worker/trainer/draw_samples.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

sampling::DrawCallbacks WriteInto(const sampling::SampleOutput& output, bool truncated, SamplingProgress& progress,
                                  const SampleHooks& hooks) {
  sampling::DrawCallbacks callbacks;
  callbacks.on_image = [&output, truncated, &progress, &hooks](uint64_t index,
                                                               const torch::Tensor& x0) -> absl::Status {
    P2_ASSIGN_OR_RETURN(const image::Image image, ToImage(x0, truncated));
    P2_RETURN_IF_ERROR(output.Write(index, image));
    progress.AddImage();
    if (hooks.on_image) hooks.on_image();
    return absl::OkStatus();
  };
  callbacks.on_step = [&progress, &hooks](int64_t images) {
    progress.AddSteps(images);
    if (hooks.on_step) hooks.on_step();
  };
  callbacks.stopping = hooks.stopping;
  return callbacks;
}

std::string Describe(const SampleResult& result) {
  return absl::StrCat(result.summary, result.kept > 0 ? absl::StrCat("; ", result.kept, " were there") : "", "; ",
                      !result.whole.empty() ? result.whole
                      : result.done         ? "other ranks still draw"
                                            : "stopped: the same command goes on");
}

absl::StatusOr<SampleResult> DrawSamples(const SampleOptions& flags, const SampleHooks& hooks) {
  P2_ASSIGN_OR_RETURN(const sampling::SampleFormat format, sampling::ParseSampleFormat(flags.format));
  P2_ASSIGN_OR_RETURN(const SamplingSetup setup, SetUpSampling(flags));
  sampling::SampleOutputOptions options{
      .directory = flags.out, .format = format, .first = flags.first, .count = flags.count, .rank = setup.place.rank};
  options.height = options.width = setup.spec.model.image_size;
  options.channels = setup.spec.model.in_channels;
  options.run = setup.run;
  options.run["format"] = flags.format;
  if (format != sampling::SampleFormat::kPng) {
    options.run["first"] = absl::StrCat(flags.first);
    options.run["count"] = absl::StrCat(flags.count);
  }
  P2_ASSIGN_OR_RETURN(const auto output, sampling::SampleOutput::Open(std::move(options)));

  const Share share = ShareOf(setup.place.rank, setup.place.world_size, flags.count);
  const std::vector<uint64_t> missing = output->Missing(share.begin, share.end);
  const auto count = static_cast<int64_t>(missing.size());
  SampleResult result;
  result.kept = share.end - share.begin - count;
  if (hooks.on_ready) hooks.on_ready(setup, result.kept, share.end - share.begin, flags.count);
  const sampling::ChainStart start = sampling::FromNoise(*setup.diffusion);
  SamplingProgress progress(count, count * (start.timestep + 1));
  const absl::StatusOr<bool> done =
      sampling::ImageSampler(*setup.unet, *setup.diffusion, setup.sampler)
          .Draw(missing, start, WriteInto(*output, format == sampling::SampleFormat::kNpz, progress, hooks));
  result.summary = progress.Finish();
  P2_RETURN_IF_ERROR(done.status());
  result.done = *done;
  if (result.done) {
    if (hooks.on_assemble) hooks.on_assemble();
    P2_ASSIGN_OR_RETURN(result.whole, output->Finish(hooks.on_step));
  }
  return result;
}

}  // namespace p2::trainer

// p2-trainer sample: images from a checkpoint, by index. Under torchrun's or Slurm's variables each rank draws its
// share.
#include <cstdio>
#include <memory>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/sampling/sample_output.h"
#include "worker/trainer/sampling_progress.h"
#include "worker/trainer/sampling_setup.h"
#include "worker/trainer/train_options.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

struct SampleFlags : SamplingFlags {
  std::string format = "png";
};

absl::StatusOr<bool> Draw(const SampleFlags& flags, const std::atomic<bool>& stop) {
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
  const sampling::ChainStart start = sampling::FromNoise(*setup.diffusion);
  SamplingProgress progress(count, count * (start.timestep + 1));
  sampling::DrawCallbacks callbacks;
  callbacks.on_image = [&](uint64_t index, const torch::Tensor& x0) -> absl::Status {
    P2_ASSIGN_OR_RETURN(const image::Image image, ToImage(x0, format == sampling::SampleFormat::kNpz));
    P2_RETURN_IF_ERROR(output->Write(index, image));
    progress.AddImage();
    return absl::OkStatus();
  };
  callbacks.on_step = [&](int64_t images) { progress.AddSteps(images); };
  callbacks.stopping = [&] { return stop.load(); };
  const absl::StatusOr<bool> done =
      sampling::ImageSampler(*setup.unet, *setup.diffusion, setup.sampler).Draw(missing, start, callbacks);
  const std::string summary = progress.Finish();
  P2_RETURN_IF_ERROR(done.status());
  P2_ASSIGN_OR_RETURN(const std::string whole, *done ? output->Finish() : absl::StatusOr<std::string>(""));
  const int64_t kept = share.end - share.begin - count;
  std::printf("%s%s%s\n", summary.c_str(), kept > 0 ? absl::StrCat("; ", kept, " were there").c_str() : "",
              whole.empty() ? (*done ? "; other ranks still draw" : "; stopped: the same command goes on")
                            : absl::StrCat("; ", whole).c_str());
  return *done;
}

}  // namespace

void AddSampleVerb(CLI::App& app, const std::atomic<bool>& stop, Verb* chosen) {
  CLI::App* const verb = app.add_subcommand("sample", "Draw images from a checkpoint");
  const auto flags = std::make_shared<SampleFlags>();
  AddSamplingFlags(*verb, flags.get());
  verb->add_option("--count", flags->count, "Images, over all ranks")
      ->type_name("N")
      ->required()
      ->check(CLI::PositiveNumber);
  verb->add_option("--format", flags->format,
                   "png: a file an image; npz: one file for evaluators; grid: one sheet. Default: png")
      ->check(CLI::IsMember({"png", "npz", "grid"}));
  verb->footer("Exit codes: 0 done, 1 error, 2 usage, 40 stopped (the same command goes on).");
  verb->callback(
      [flags, &stop, chosen] { *chosen = [flags, &stop] { return RunDrawing([&] { return Draw(*flags, stop); }); }; });
}

}  // namespace p2::trainer

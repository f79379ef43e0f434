// p2-trainer reconstruct: images noised to chosen SNRs and denoised again (the paper's Fig. 2).
#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/file_util.h"
#include "common/image/decode.h"
#include "common/image/pillow_resize.h"
#include "common/image/png_write.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "worker/data/shard_reader.h"
#include "worker/sampling/reconstruction.h"
#include "worker/sampling/sample_output.h"
#include "worker/trainer/sampling_progress.h"
#include "worker/trainer/sampling_setup.h"
#include "worker/trainer/train_options.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

constexpr int64_t kImagesByDefault = 8;
constexpr int kGridPadding = 2;

struct ReconstructFlags : SamplingFlags {
  std::vector<std::string> images;
  std::vector<double> snrs;
  int timestep = -1;
};

absl::StatusOr<image::Image> ReadImage(const std::string& path, int size, int channels) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return FileError("open", path);
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadWhole(fd.get(), path, image::kMaxFileBytes));
  const absl::StatusOr<image::Image> decoded = image::Decode(bytes, channels);
  if (!decoded.ok()) return absl::DataLossError(absl::StrCat(path, ": ", decoded.status().message()));
  return decoded->width == size && decoded->height == size ? *decoded : image::CenterCropAdm(*decoded, size);
}

absl::StatusOr<std::vector<image::Image>> FromDataset(const std::string& directory, uint64_t first, int64_t count,
                                                      int size, int channels) {
  P2_ASSIGN_OR_RETURN(const auto reader, data::ShardReader::Open(directory, {.resident_limit_bytes = 0}));
  const image::DatasetManifest& manifest = reader->manifest();
  if (manifest.resolution != size || manifest.channels != channels) {
    return absl::FailedPreconditionError(absl::StrCat(directory, " has ", manifest.channels, " channels of ",
                                                      manifest.resolution, " pixels; the model takes ", channels,
                                                      " of ", size));
  }
  std::vector<image::Image> images;
  std::vector<uint8_t> record(reader->record_bytes());
  const size_t plane = size_t{1} * size * size;
  for (int64_t i = 0; i < count; ++i) {
    P2_RETURN_IF_ERROR(reader->Read(first + static_cast<uint64_t>(i), absl::MakeSpan(record)));
    image::Image image{size, size, channels, std::vector<uint8_t>(record.size())};
    for (size_t p = 0; p < record.size(); ++p) image.pixels[p % plane * channels + p / plane] = record[p];
    images.push_back(std::move(image));
  }
  return images;
}

// The images to reconstruct: records first … of a dataset, or files (centre-cropped and resized as training does).
absl::StatusOr<std::vector<image::Image>> Inputs(const ReconstructFlags& flags, const spec::UnetOptions& model) {
  const int size = model.image_size, channels = model.in_channels;
  if (flags.images.size() == 1 && sampling::FileExists(flags.images[0] + "/" + image::kManifestFile)) {
    const int64_t count = flags.count > 0 ? flags.count : kImagesByDefault;
    return FromDataset(flags.images[0], flags.first, count, size, channels);
  }
  std::vector<image::Image> images;
  for (const std::string& path : flags.images) {
    if (flags.count > 0 && static_cast<int64_t>(images.size()) == flags.count) break;
    P2_ASSIGN_OR_RETURN(image::Image image, ReadImage(path, size, channels));
    images.push_back(std::move(image));
  }
  return images;
}

absl::StatusOr<std::vector<int>> Timesteps(const ReconstructFlags& flags, const spec::SpacedSchedule& spaced) {
  std::vector<int> timesteps;
  if (flags.timestep >= 0) {
    P2_ASSIGN_OR_RETURN(const int t, sampling::SpacedIndex(spaced, flags.timestep));
    timesteps.push_back(t);
  }
  for (const double snr : flags.snrs) {
    P2_ASSIGN_OR_RETURN(const int t, sampling::NearestSnr(spaced.schedule, snr));
    absl::FPrintF(stderr, "SNR %g: timestep %d, whose SNR is %.4g\n", snr, spaced.timestep_map[t],
                  spaced.schedule.snr[t]);
    if (std::find(timesteps.begin(), timesteps.end(), t) == timesteps.end()) timesteps.push_back(t);
  }
  return timesteps;
}

// "t0299": the timestep of the unspaced process.
std::string ColumnName(const SamplingSetup& setup, int t) {
  return absl::StrFormat("t%04d", setup.spaced.timestep_map[static_cast<size_t>(t)]);
}

// One row an image: itself, then what came back from each timestep. False if some of it is not there yet.
absl::StatusOr<bool> WriteGrid(const ReconstructFlags& flags, const SamplingSetup& setup,
                               const std::vector<image::Image>& inputs, const std::vector<int>& timesteps) {
  std::vector<image::Image> cells;
  for (size_t i = 0; i < inputs.size(); ++i) {
    cells.push_back(inputs[i]);
    for (const int t : timesteps) {
      const std::string path =
          absl::StrCat(flags.out, "/", ColumnName(setup, t), "/", sampling::IndexName(flags.first + i), ".png");
      if (!sampling::FileExists(path)) return false;
      P2_ASSIGN_OR_RETURN(image::Image image, ReadImage(path, inputs[i].width, inputs[i].channels));
      cells.push_back(std::move(image));
    }
  }
  P2_ASSIGN_OR_RETURN(const image::Image grid,
                      image::MakeGrid(cells, static_cast<int>(timesteps.size()) + 1, kGridPadding));
  // A name of this rank's own first: two may see the last image at once.
  const std::string mine = absl::StrCat(flags.out, "/.grid-", setup.place.rank), path = flags.out + "/grid.png";
  P2_RETURN_IF_ERROR(image::WritePng(grid, mine));
  if (std::rename(mine.c_str(), path.c_str()) != 0) return FileError("rename to", path);
  return true;
}

absl::StatusOr<bool> Reconstruct(const ReconstructFlags& flags, const std::atomic<bool>& stop) {
  P2_ASSIGN_OR_RETURN(SamplingSetup setup, SetUpSampling(flags));
  P2_ASSIGN_OR_RETURN(const std::vector<int> timesteps, Timesteps(flags, setup.spaced));
  P2_ASSIGN_OR_RETURN(const std::vector<image::Image> inputs, Inputs(flags, setup.spec.model));
  Sha256 digest;
  for (const image::Image& image : inputs) digest.Update(image.pixels);
  setup.run["images"] = absl::StrCat(inputs.size(), " from ", flags.first, " sha256:", Hex(digest.Finish()));
  P2_RETURN_IF_ERROR(sampling::ClaimDirectory(flags.out, setup.place.rank, setup.run));

  struct Column {
    int timestep = 0;
    std::unique_ptr<sampling::SampleOutput> output;
    std::vector<uint64_t> missing;
  };
  const auto count = static_cast<int64_t>(inputs.size());
  const Share share = ShareOf(setup.place.rank, setup.place.world_size, count);
  std::vector<Column> columns;
  int64_t images = 0, steps = 0;
  for (const int t : timesteps) {
    sampling::SampleOutputOptions options{.directory = absl::StrCat(flags.out, "/", ColumnName(setup, t)),
                                          .first = flags.first,
                                          .count = count,
                                          .rank = setup.place.rank,
                                          .run = setup.run};
    P2_ASSIGN_OR_RETURN(auto output, sampling::SampleOutput::Open(std::move(options)));
    std::vector<uint64_t> missing = output->Missing(share.begin, share.end);
    images += static_cast<int64_t>(missing.size());
    steps += static_cast<int64_t>(missing.size()) * (t + 1);
    columns.push_back({t, std::move(output), std::move(missing)});
  }

  SamplingProgress progress(images, steps);
  const sampling::ImageSampler sampler(*setup.unet, *setup.diffusion, setup.sampler);
  bool all = true;
  for (const Column& column : columns) {
    sampling::DrawCallbacks callbacks;
    callbacks.on_image = [&](uint64_t index, const torch::Tensor& x0) -> absl::Status {
      P2_ASSIGN_OR_RETURN(const image::Image image, ToImage(x0, /*truncated=*/false));
      P2_RETURN_IF_ERROR(column.output->Write(index, image));
      progress.AddImage();
      return absl::OkStatus();
    };
    callbacks.on_step = [&](int64_t n) { progress.AddSteps(n); };
    callbacks.stopping = [&] { return stop.load(); };
    P2_ASSIGN_OR_RETURN(
        const bool done,
        sampler.Draw(column.missing, sampling::FromImages(*setup.diffusion, inputs, flags.first, column.timestep),
                     callbacks));
    if (!(all = done)) break;
  }
  const std::string summary = progress.Finish();
  P2_ASSIGN_OR_RETURN(const bool grid, all ? WriteGrid(flags, setup, inputs, timesteps) : absl::StatusOr<bool>(false));
  std::printf("%s; %s\n", summary.c_str(),
              grid  ? (flags.out + "/grid.png").c_str()
              : all ? "other ranks still draw"
                    : "stopped: the same command goes on");
  return all;
}

}  // namespace

void AddReconstructVerb(CLI::App& app, const std::atomic<bool>& stop, Verb* chosen) {
  CLI::App* const verb =
      app.add_subcommand("reconstruct", "Noise images to a chosen SNR and denoise them again (the paper's Fig. 2)");
  const auto flags = std::make_shared<ReconstructFlags>();
  AddSamplingFlags(*verb, flags.get());
  verb->add_option("--images", flags->images, "A prepared dataset, or PNG and JPEG files")
      ->type_name("DIR|FILE…")
      ->required()
      ->expected(1, CLI::detail::expected_max_vector_size);
  CLI::Option_group* const where = verb->add_option_group("where to");
  where->add_option("--snr", flags->snrs, "Signal-to-noise ratios; the timestep with the nearest one is taken")
      ->type_name("X[,Y…]")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  where->add_option("--timestep", flags->timestep, "A timestep, counted from 0")
      ->type_name("T")
      ->check(CLI::NonNegativeNumber);
  where->require_option(1);
  verb->add_option("--count", flags->count, "Images; default: all files, 8 of a dataset")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  verb->footer("Exit codes: 0 done, 1 error, 2 usage, 40 stopped (the same command goes on).");
  verb->callback([flags, &stop, chosen] {
    *chosen = [flags, &stop] { return RunDrawing([&] { return Reconstruct(*flags, stop); }); };
  });
}

}  // namespace p2::trainer

#include "worker/trainer/draw_reconstructions.h"

#include <fcntl.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/file_util.h"
#include "common/image/decode.h"
#include "common/image/pillow_resize.h"
#include "common/image/png_write.h"
#include "common/sha256.h"
#include "common/spec/reconstruction.h"
#include "common/status_macros.h"
#include "worker/data/shard_reader.h"
#include "worker/sampling/reconstruction.h"
#include "worker/sampling/sample_output.h"
#include "worker/trainer/sampling_progress.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {
namespace {

constexpr int64_t kImagesByDefault = 8;
constexpr int kGridPadding = 2;

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
absl::StatusOr<std::vector<image::Image>> Inputs(const ReconstructOptions& options, const spec::UnetOptions& model) {
  const int size = model.image_size, channels = model.in_channels;
  if (options.images.size() == 1 && sampling::FileExists(options.images[0] + "/" + image::kManifestFile)) {
    const int64_t count = options.count > 0 ? options.count : kImagesByDefault;
    return FromDataset(options.images[0], options.first, count, size, channels);
  }
  std::vector<image::Image> images;
  for (const std::string& path : options.images) {
    if (options.count > 0 && static_cast<int64_t>(images.size()) == options.count) break;
    P2_ASSIGN_OR_RETURN(image::Image image, ReadImage(path, size, channels));
    images.push_back(std::move(image));
  }
  return images;
}

absl::StatusOr<std::vector<int>> Timesteps(const ReconstructOptions& options, const spec::SpacedSchedule& spaced) {
  for (const double snr : options.snrs) {
    P2_ASSIGN_OR_RETURN(const int t, spec::NearestSnr(spaced.schedule, snr));
    absl::FPrintF(stderr, "SNR %g: timestep %d, whose SNR is %.4g\n", snr, spaced.timestep_map[t],
                  spaced.schedule.snr[t]);
  }
  return spec::ReconstructionTimesteps(spaced, options.timesteps, options.snrs);
}

// "t0299": the timestep of the unspaced process.
std::string ColumnName(const SamplingSetup& setup, int t) {
  return absl::StrFormat("t%04d", setup.spaced.timestep_map[static_cast<size_t>(t)]);
}

// One row an image: itself, then what came back from each timestep. Where it is; empty if some of it is not there yet.
absl::StatusOr<std::string> WriteGrid(const ReconstructOptions& options, const SamplingSetup& setup,
                                      const std::vector<image::Image>& inputs, const std::vector<int>& timesteps,
                                      const std::function<void()>& tick) {
  std::vector<image::Image> cells;
  for (size_t i = 0; i < inputs.size(); ++i) {
    cells.push_back(inputs[i]);
    for (const int t : timesteps) {
      const std::string path =
          absl::StrCat(options.out, "/", ColumnName(setup, t), "/", sampling::IndexName(options.first + i), ".png");
      if (!sampling::FileExists(path)) return "";
      P2_ASSIGN_OR_RETURN(image::Image image, ReadImage(path, inputs[i].width, inputs[i].channels));
      cells.push_back(std::move(image));
      if (tick) tick();
    }
  }
  P2_ASSIGN_OR_RETURN(const image::Image grid,
                      image::MakeGrid(cells, static_cast<int>(timesteps.size()) + 1, kGridPadding));
  // A name of this rank's own first: two may see the last image at once.
  const std::string mine = absl::StrCat(options.out, "/.grid-", setup.place.rank), path = options.out + "/grid.png";
  P2_RETURN_IF_ERROR(image::WritePng(grid, mine));
  if (std::rename(mine.c_str(), path.c_str()) != 0) return FileError("rename to", path);
  return path;
}

}  // namespace

absl::StatusOr<SampleResult> DrawReconstructions(const ReconstructOptions& options, const SampleHooks& hooks) {
  P2_ASSIGN_OR_RETURN(SamplingSetup setup, SetUpSampling(options));
  P2_ASSIGN_OR_RETURN(const std::vector<int> timesteps, Timesteps(options, setup.spaced));
  P2_ASSIGN_OR_RETURN(const std::vector<image::Image> inputs, Inputs(options, setup.spec.model));
  Sha256 digest;
  for (const image::Image& image : inputs) digest.Update(image.pixels);
  setup.run["images"] = absl::StrCat(inputs.size(), " from ", options.first, " sha256:", Hex(digest.Finish()));
  P2_RETURN_IF_ERROR(sampling::ClaimDirectory(options.out, setup.place.rank, setup.run));

  struct Column {
    int timestep = 0;
    std::unique_ptr<sampling::SampleOutput> output;
    std::vector<uint64_t> missing;
  };
  const auto count = static_cast<int64_t>(inputs.size());
  const auto all = static_cast<int64_t>(timesteps.size());
  const Share share = ShareOf(setup.place.rank, setup.place.world_size, count);
  std::vector<Column> columns;
  int64_t images = 0, steps = 0;
  for (const int t : timesteps) {
    sampling::SampleOutputOptions output_options{.directory = absl::StrCat(options.out, "/", ColumnName(setup, t)),
                                                 .first = options.first,
                                                 .count = count,
                                                 .rank = setup.place.rank,
                                                 .run = setup.run};
    P2_ASSIGN_OR_RETURN(auto output, sampling::SampleOutput::Open(std::move(output_options)));
    std::vector<uint64_t> missing = output->Missing(share.begin, share.end);
    images += static_cast<int64_t>(missing.size());
    steps += static_cast<int64_t>(missing.size()) * (t + 1);
    columns.push_back({t, std::move(output), std::move(missing)});
  }

  SampleResult result;
  const int64_t mine = all * (share.end - share.begin);
  result.kept = mine - images;
  if (hooks.on_ready) hooks.on_ready(setup, result.kept, mine, all * count);
  SamplingProgress progress(images, steps);
  const sampling::ImageSampler sampler(*setup.unet, *setup.diffusion, setup.sampler);
  result.done = true;
  for (const Column& column : columns) {
    P2_ASSIGN_OR_RETURN(
        result.done,
        sampler.Draw(column.missing, sampling::FromImages(*setup.diffusion, inputs, options.first, column.timestep),
                     WriteInto(*column.output, /*truncated=*/false, progress, hooks)));
    if (!result.done) break;
  }
  result.summary = progress.Finish();
  if (result.done) {
    if (hooks.on_assemble) hooks.on_assemble();
    P2_ASSIGN_OR_RETURN(result.whole, WriteGrid(options, setup, inputs, timesteps, hooks.on_step));
  }
  return result;
}

}  // namespace p2::trainer

#include "worker/trainer/training_data.h"

#include <ATen/ATen.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

std::optional<data::CropOptions> TrainingData::CropOf(const TrainSpec& spec) {
  if (!spec.random_crop) return std::nullopt;
  const int size = spec.model.image_size;
  return data::CropOptions{size, spec::RandomCropSides(size, spec.min_crop_fraction, spec.max_crop_fraction)};
}

absl::StatusOr<std::unique_ptr<TrainingData>> TrainingData::Open(const TrainOptions& options, at::Device device) {
  const std::string& directory = options.dataset_dir;
  absl::StatusOr<std::unique_ptr<data::ShardReader>> reader =
      data::ShardReader::Open(directory, {options.resident_limit_bytes});
  if (!reader.ok()) return WithExit(ExitCode::kData, reader.status());
  const image::DatasetManifest& set = (*reader)->manifest();
  if (set.version == 1 && options.place.rank == 0) {
    P2_LOG(kWarning) << "dataset " << directory << " was prepared by an older p2 and has no checksums of its records: "
                     << "only `p2ctl dataset validate` finds damaged images; preparing it again adds them";
  }
  const spec::UnetOptions& model = options.spec.model;
  if (const auto crop = CropOf(options.spec); crop && set.resolution < crop->sides.most) {
    return absl::InvalidArgumentError(absl::StrCat("dataset ", directory, " holds ", set.resolution,
                                                   " px images; data.random_crop cuts ", model.image_size,
                                                   " px out of up to ", crop->sides.most, ": prepare the images at ",
                                                   crop->sides.most, " px or more, or leave data.random_crop out"));
  }
  if ((set.resolution != model.image_size && !options.spec.random_crop) || set.channels != model.in_channels) {
    return absl::InvalidArgumentError(absl::StrCat("dataset ", directory, " holds ", set.resolution, " px images of ",
                                                   set.channels, " channels; the spec has model.image_size ",
                                                   model.image_size, " and model.in_channels ", model.in_channels,
                                                   ": prepare the images anew, or change the spec"));
  }
  if (set.count < static_cast<uint64_t>(options.spec.batch)) {
    return absl::InvalidArgumentError(absl::StrCat("dataset ", directory, " has ", set.count,
                                                   " images, fewer than training.batch (", options.spec.batch,
                                                   "): take a smaller batch, or add images"));
  }
  if (!options.dataset_fingerprint.empty() && set.fingerprint != options.dataset_fingerprint) {
    return WithExit(ExitCode::kData,
                    absl::FailedPreconditionError(absl::StrCat("dataset ", directory, " has fingerprint ",
                                                               set.fingerprint, ", not ", options.dataset_fingerprint,
                                                               " as when the job was submitted: its images changed")));
  }
  return std::unique_ptr<TrainingData>(new TrainingData(options, device, *std::move(reader)));
}

absl::Status TrainingData::Seek(int64_t images_seen) {
  const TrainSpec& spec = options_.spec;
  const Share share = ShareOfStep(spec, options_.place);
  prefetcher_.reset();
  data::Prefetcher::Options reading{.seed = spec.seed,
                                    .random_flip = spec.random_flip,
                                    .crop = CropOf(spec),
                                    .first_sample = static_cast<uint64_t>(images_seen),
                                    .batch = spec.batch,
                                    .lo = share.begin,
                                    .hi = share.end,
                                    .threads = 1};
  if (upload_) reading.allocate = PinnedMemory;
  absl::StatusOr<std::unique_ptr<data::Prefetcher>> prefetcher = data::Prefetcher::Create(*reader_, std::move(reading));
  if (!prefetcher.ok()) return WithExit(ExitCode::kData, prefetcher.status());
  prefetcher_ = *std::move(prefetcher);
  return absl::OkStatus();
}

absl::StatusOr<TrainingData::Samples> TrainingData::Next() {
  const absl::StatusOr<std::shared_ptr<const data::Batch>> batch = prefetcher_->Next();
  if (!batch.ok()) return WithExit(ExitCode::kData, batch.status());
  const spec::UnetOptions& model = options_.spec.model;
  const int64_t count = static_cast<int64_t>((*batch)->images.size());
  const at::Tensor pixels =
      at::from_blob((*batch)->pixels.get(), {count, model.in_channels, model.image_size, model.image_size}, at::kByte);
  const at::Tensor here = upload_ ? upload_->Copy(pixels, *batch) : pixels;
  return Samples{here.to(at::kFloat).div_(127.5).sub_(1), static_cast<int64_t>((*batch)->first_sample)};
}

}  // namespace p2::trainer

// This rank's samples of each step, as the model takes them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/spec/random_crop.h"
#include "worker/data/prefetcher.h"
#include "worker/data/shard_reader.h"
#include "worker/trainer/device_copy.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Thread-compatible. What cannot be read is marked 54.
class TrainingData {
 public:
  struct Samples {
    at::Tensor x0;             // (b, C, H, W) in [-1, 1] on the device.
    int64_t first_sample = 0;  // g of its first row.
  };

  // Opens the dataset of `options`, which must outlive this. INVALID_ARGUMENT if it does not fit the model;
  // FAILED_PRECONDITION, marked 54, if its fingerprint is another than the options ask for.
  static absl::StatusOr<std::unique_ptr<TrainingData>> Open(const TrainOptions& options, at::Device device);

  // Of the images: hex SHA-256.
  const std::string& fingerprint() const { return reader_->manifest().fingerprint; }

  // The next step is the one that begins at `images_seen`. REQUIRED before the first Next.
  absl::Status Seek(int64_t images_seen);
  // The next step's samples; waits for them.
  absl::StatusOr<Samples> Next();

 private:
  // Unset without data.random_crop.
  static std::optional<data::CropOptions> CropOf(const TrainSpec& spec);
  TrainingData(const TrainOptions& options, at::Device device, std::unique_ptr<data::ShardReader> reader)
      : options_(options), device_(device), reader_(std::move(reader)) {
    if (device.is_cuda()) upload_ = std::make_unique<Upload>(device);
  }

  const TrainOptions& options_;
  const at::Device device_;
  const std::unique_ptr<data::ShardReader> reader_;
  std::unique_ptr<data::Prefetcher> prefetcher_;
  std::unique_ptr<Upload> upload_;  // On a GPU.
};

}  // namespace p2::trainer

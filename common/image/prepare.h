// Turns a directory, ZIP, tar or LMDB of images into a dataset directory (common/image/shard.h).
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/image/decode.h"
#include "common/image/shard.h"

namespace p2::image {

struct PrepareProgress {
  uint64_t done = 0;   // Images looked at, bad ones included.
  uint64_t total = 0;  // Images found in the input.
  uint64_t bad = 0;
  uint64_t bytes = 0;            // Record bytes made.
  double images_per_second = 0;  // Since the start.
  absl::Duration eta;            // Infinite before the first image.
};

struct PrepareOptions {
  // REQUIRED. A directory (searched recursively), a .zip, a .tar (also .tar.gz, .tar.zst, or a directory of them), or
  // an LMDB (its directory or data file). Images: names that end in .jpg, .jpeg, .png, .gif or .webp, in any case; in
  // an LMDB also values that begin as such files do. The order is by name (common/image/image_source.h), as the
  // published code does, so it is the same on every machine and in every kind of input.
  std::string input;
  // REQUIRED. The dataset directory to make; its parent exists. Written as `output`.tmp and renamed at the end.
  std::string output;
  // REQUIRED. `[a-z0-9][a-z0-9._-]{0,62}`.
  std::string name;
  // REQUIRED. Side in pixels, 1 to kMaxResolution: CenterCropAdm of every image.
  int resolution = 0;
  // 3 (RGB) or 1 (grey).
  int channels = 3;
  // Turn images upright by their EXIF orientation; the published code does not.
  bool exif = false;
  // What passes them is a bad image.
  DecodeLimits limits;
  // Decoding threads; 0: one a core, at most 16.
  int threads = 0;
  // Bytes of pixels being decoded at once, over all threads; one image always may.
  uint64_t memory_budget_bytes = uint64_t{2} << 30;
  // Target size of one shard; grows when the set would need more than 512 shards.
  uint64_t shard_bytes = uint64_t{256} << 20;
  // Least time between two calls of `progress`.
  absl::Duration progress_interval = absl::Milliseconds(100);
  // Called in the caller's thread; once more at the end. May be empty.
  std::function<void(const PrepareProgress&)> progress;
  // Ends the work with CANCELLED; the message says what is kept.
  std::stop_token stop;
};

// Images that cannot be read are listed in the manifest with the reason, not fatal. Symbolic links are followed only
// where they stay inside the input; names inside a ZIP are never used as paths. If `output` already holds the same
// dataset, it stays as it is and its manifest is returned. NOT_FOUND: the input is missing. INVALID_ARGUMENT: an option
// is wrong, the input holds no image, or not one readable (with the numbers and the first reasons). ALREADY_EXISTS:
// `output` is something else. RESOURCE_EXHAUSTED: the disk has too little space (checked first, numbers given).
// ABORTED: another prepare is writing the same output. CANCELLED: stopped.
//
// An end before the end, a killed process among them, keeps the complete shards in `output`.tmp. The next prepare of
// the same input (names, sizes and times of its files) with the same options checks their digests and goes on after
// them; the dataset is the same to the byte. Of another input or with other options it starts anew.
absl::StatusOr<DatasetManifest> PrepareDataset(const PrepareOptions& options);

// Reads every byte again: headers, sizes, SHA-256 of each shard, and the fingerprint. Returns the manifest;
// DATA_LOSS names everything that differs, a line each. `progress` counts images, as above.
absl::StatusOr<DatasetManifest> VerifyDataset(const std::string& directory,
                                              const std::function<void(const PrepareProgress&)>& progress = {},
                                              std::stop_token stop = {});

}  // namespace p2::image

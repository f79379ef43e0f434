// Where drawn images go, so that drawing may be killed at any time and go on later.
//
//   DIR/sample.json            which run the directory belongs to; nothing else may be drawn into it
//   DIR/000041.png             format png: image 41
//   DIR/samples_NxHxWxC.npz    format npz: `arr_0`, uint8 (N, H, W, C), in the order of the indices
//   DIR/grid.png               format grid: all images on one sheet
//   DIR/parts/000041.u8        npz and grid: the pixels of image 41 until the file above is whole
//
// Each file is written beside its name, fsynced and renamed: what has its name is complete. Several ranks may draw
// different indices into one directory; whichever sees all of them done writes the whole.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/image/image.h"

namespace p2::sampling {

enum class SampleFormat { kPng, kNpz, kGrid };

// "png", "npz", "grid". INVALID_ARGUMENT for any other name.
absl::StatusOr<SampleFormat> ParseSampleFormat(absl::string_view name);

struct SampleOutputOptions {
  std::string directory;  // Made if need be.
  SampleFormat format = SampleFormat::kPng;
  uint64_t first = 0;  // Images first … first + count - 1, over all ranks. REQUIRES: count >= 1.
  int64_t count = 1;
  int rank = 0;  // Keeps the ranks' temporary files apart.
  int height = 0;
  int width = 0;
  int channels = 0;
  // What the images depend on, by name: goes into sample.json.
  std::map<std::string, std::string> run;
};

// Thread-compatible; Write may be called by several threads for different images.
class SampleOutput {
 public:
  // FAILED_PRECONDITION if the directory belongs to another run: names what differs. INVALID_ARGUMENT for a grid of
  // more than 4096 images.
  static absl::StatusOr<std::unique_ptr<SampleOutput>> Open(SampleOutputOptions options);

  // The images of [first + begin, first + end) that are not there yet.
  std::vector<uint64_t> Missing(int64_t begin, int64_t end) const;
  absl::Status Write(uint64_t index, const image::Image& image) const;
  // npz, grid: writes the whole and removes the parts, unless another rank did or still draws. Where the whole is, or
  // for png the directory; empty if images are missing.
  // `tick` is called for each image that is read. May be null.
  absl::StatusOr<std::string> Finish(const std::function<void()>& tick = nullptr) const;

 private:
  explicit SampleOutput(SampleOutputOptions options);
  std::string ImagePath(uint64_t index) const;
  std::string WholePath() const;
  std::string TemporaryPath() const;
  absl::StatusOr<std::vector<uint8_t>> ReadPart(uint64_t index) const;
  absl::Status Assemble(const std::function<void()>& tick) const;

  const SampleOutputOptions options_;
};

// Writes sample.json, or compares with the one that is there: FAILED_PRECONDITION naming what differs. Makes the
// directory.
absl::Status ClaimDirectory(const std::string& directory, int rank, const std::map<std::string, std::string>& run);

// About as many columns as rows.
int GridColumns(int64_t count);

// "000041"
std::string IndexName(uint64_t index);

bool FileExists(const std::string& path);

}  // namespace p2::sampling

// NumPy's .npz of one array of 8-bit images, as evaluators of samples read it: `arr_0`, uint8, (N, H, W, C).
//
// The file is a ZIP with one stored (uncompressed) member arr_0.npy: a header of version 1.0, then the bytes,
// row-major. ZIP64 fields are always there, so that size does not change the layout; dates are fixed: equal images give
// equal bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/file_util.h"

namespace p2::image {

// Writes one file as a stream: the images never lie in memory together. Confined to one thread.
class NpzWriter {
 public:
  struct Shape {
    int64_t count = 0;
    int height = 0;
    int width = 0;
    int channels = 0;
  };

  // Creates or truncates `path`. REQUIRES: every dimension >= 1.
  static absl::StatusOr<std::unique_ptr<NpzWriter>> Create(const std::string& path, const Shape& shape);

  // The next image, (H, W, C). INVALID_ARGUMENT if it has another size or there are enough.
  absl::Status Append(absl::Span<const uint8_t> image);

  // FAILED_PRECONDITION if images are missing. Writes the directory, fsyncs, closes; renaming is the caller's.
  absl::Status Finish();

 private:
  NpzWriter(std::string path, UniqueFd fd, const Shape& shape);
  absl::Status Write(absl::Span<const uint8_t> bytes);

  const std::string path_;
  UniqueFd fd_;
  const Shape shape_;
  const uint64_t image_bytes_;
  const std::string header_;  // Of the .npy.
  int64_t appended_ = 0;
  uint32_t crc_ = 0;  // Of the member so far.
};

}  // namespace p2::image

// Where prepared images come from: a directory or a ZIP; private to common/image.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace p2::image {

// Confined to one thread.
class ImageReader {
 public:
  virtual ~ImageReader() = default;
  // The bytes of image `index`, at most kMaxFileBytes. An error says why this one cannot be had.
  virtual absl::StatusOr<std::vector<uint8_t>> Read(size_t index) = 0;
};

// The images of one input, in their order: a directory's entries by name, its sub-directories among them. Thread-safe.
class ImageSource {
 public:
  virtual ~ImageSource() = default;

  // NOT_FOUND if the input does not exist, INVALID_ARGUMENT if it is neither a directory nor a ZIP.
  static absl::StatusOr<std::unique_ptr<ImageSource>> Open(const std::string& input);

  // Paths relative to the input, '/' between components.
  const std::vector<std::string>& names() const { return names_; }
  // Files that are no images by their names.
  uint64_t others() const { return others_; }
  virtual absl::StatusOr<std::unique_ptr<ImageReader>> NewReader() const = 0;

 protected:
  std::vector<std::string> names_;
  uint64_t others_ = 0;
};

}  // namespace p2::image

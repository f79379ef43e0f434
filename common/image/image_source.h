// Where prepared images come from: a directory, a ZIP, tar files or an LMDB; private to common/image.
//
// The order is by name in every kind of input, so that the same images give the same dataset: names are cut at '/' and
// compared component by component, as bytes; that is a directory's entries sorted by name, each sub-directory in its
// place, as the published code reads them. Tar names lose a leading "./"; of two entries of one name the later counts,
// as if the tar were unpacked. Several tar files come one after another, by file name. LMDB keys are the names; where
// all are `{resolution}-{index}` and several resolutions are there (FFHQ as StyleGAN's tools write it), one is taken:
// the smallest that is not below the dataset's, else the largest.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/image/decode.h"

namespace p2::image {

// Confined to one thread.
class ImageReader {
 public:
  virtual ~ImageReader() = default;
  // The bytes of image `index`, at most the options' max_file_bytes. An error says why this one cannot be had.
  virtual absl::StatusOr<std::vector<uint8_t>> Read(size_t index) = 0;
};

struct SourceOptions {
  // The dataset's: chooses among the resolutions of an LMDB.
  int resolution = 0;
  uint64_t max_file_bytes = kMaxFileBytes;
  // Directory for the unnamed file into which a compressed tar is unpacked; it goes with the source.
  std::string scratch = "/tmp";
};

// The images of one input, in their order. Nothing is ever written to the input. Thread-safe.
class ImageSource {
 public:
  virtual ~ImageSource() = default;

  // NOT_FOUND if the input does not exist, INVALID_ARGUMENT if it is of no kind that is read, or damaged so that its
  // images cannot be listed.
  static absl::StatusOr<std::unique_ptr<ImageSource>> Open(const std::string& input, const SourceOptions& options = {});

  // Paths relative to the input, '/' between components.
  const std::vector<std::string>& names() const { return names_; }
  // Files that are no images by their names (in an LMDB: by their first bytes).
  uint64_t others() const { return others_; }
  virtual absl::StatusOr<std::unique_ptr<ImageReader>> NewReader() const = 0;
  // Changes, as far as names, sizes and times of files show, when the images do. Hex.
  virtual absl::StatusOr<std::string> Identity() const = 0;

 protected:
  std::vector<std::string> names_;
  uint64_t others_ = 0;
};

// Whether a file of this name is taken for an image.
bool IsImageName(absl::string_view name);

// Identity of images named `names` in the files `paths`.
absl::StatusOr<std::string> IdentityOf(const std::vector<std::string>& names, const std::vector<std::string>& paths);

// The images of the tar files `paths`, plain or compressed (gzip, zstd), in this order; names begin with the file's
// name if there are several. Plain files are read at random; compressed ones are unpacked once into options.scratch.
absl::StatusOr<std::unique_ptr<ImageSource>> OpenTars(const std::vector<std::string>& paths,
                                                      const SourceOptions& options);

// The values of the LMDB data file at `path` that are images. Own reader of the format (0.9, little endian): it reads
// with pread and checks every offset, so a damaged or shrinking file is an error; liblmdb maps the file, and such a
// file ends the process there. No lock is taken: nobody may write to it meanwhile.
absl::StatusOr<std::unique_ptr<ImageSource>> OpenLmdb(const std::string& path, const SourceOptions& options);

}  // namespace p2::image

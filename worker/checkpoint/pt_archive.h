// A .pt file as torch.save writes it since 1.6: a zip of stored entries under one root directory of any name,
//   ROOT/data.pkl     the pickle (restricted_unpickler.h)
//   ROOT/data/N       the raw bytes of storage N
//   ROOT/byteorder    "little"; absent in files of older torch
// Other entries are ignored. Compressed entries are refused, so nothing read is larger than the file. Free of torch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/checkpoint/restricted_unpickler.h"

struct zip;

namespace p2::checkpoint {

// Thread-compatible.
class PtArchive {
 public:
  // Reads and checks all but the storages' bytes. Messages name the file. NOT_FOUND or UNAVAILABLE if it cannot be
  // opened; INVALID_ARGUMENT for what is refused (a global, a compressed entry, big endian, the layout of torch before
  // 1.6, something that is no .pt at all); DATA_LOSS if it is damaged.
  static absl::StatusOr<std::unique_ptr<PtArchive>> Open(const std::string& path);
  // The same of bytes in memory, which must outlive the archive; messages call it `name`.
  static absl::StatusOr<std::unique_ptr<PtArchive>> OpenBytes(absl::string_view bytes, const std::string& name);
  ~PtArchive();
  PtArchive(const PtArchive&) = delete;
  PtArchive& operator=(const PtArchive&) = delete;

  const std::string& path() const { return path_; }
  const PickleObject& root() const { return *pickle_.root; }
  const std::vector<const PickleObject*>& tensors() const { return pickle_.tensors; }

  // The bytes of a tensor of this archive, made contiguous: row-major, little endian. DATA_LOSS if its storage is
  // missing, of another size, or fails the zip's CRC-32.
  absl::StatusOr<std::vector<uint8_t>> Read(const PickleObject& tensor);
  // The same as float32, from any of F32, F64, F16, BF16 and the integers. `out` has the tensor's number of elements.
  absl::Status ReadFloats(const PickleObject& tensor, absl::Span<float> out);

 private:
  explicit PtArchive(std::string path) : path_(std::move(path)) {}
  absl::Status Load();
  absl::StatusOr<std::vector<uint8_t>> ReadEntry(const std::string& name, uint64_t limit);
  absl::Status InFile(const absl::Status& status) const;

  const std::string path_;
  uint64_t file_bytes_ = 0;
  struct zip* zip_ = nullptr;
  std::string root_name_;
  Pickle pickle_;
  // The storage read last: tensors may be views of one.
  std::string cached_key_;
  std::vector<uint8_t> cached_;
};

// Number of elements. REQUIRES: a tensor of a Pickle.
int64_t NumElements(const PickleObject& tensor);

// Entry point for fuzzers: everything that reading a .pt file from strangers does, every tensor's bytes included.
// True if the bytes were accepted.
bool ReadPtBytes(absl::string_view bytes);

}  // namespace p2::checkpoint

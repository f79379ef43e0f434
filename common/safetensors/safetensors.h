// The safetensors container: named tensors in one file, read with pread and written as a stream.
//
// File: u64 little-endian header length n; n bytes of JSON
//   {"__metadata__": {"key": "value"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
// padded with spaces to a multiple of 8; then the tensors' bytes, row-major, little endian, without holes.
// Never mapped: a truncated or failing file is an error, not a SIGBUS. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace p2::safetensors {

enum class DType { kBool, kU8, kI8, kF8E4M3, kF8E5M2, kU16, kI16, kF16, kBF16, kU32, kI32, kF32, kU64, kI64, kF64 };

// "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64".
absl::string_view DTypeName(DType dtype);
std::optional<DType> ParseDType(absl::string_view name);
// Bytes of one element.
size_t DTypeSize(DType dtype);

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // Empty for a scalar.
  uint64_t offset = 0;         // Of the first byte, from the start of the data section. The writer sets it itself.
  uint64_t size = 0;           // Bytes. The writer computes it itself.

  friend bool operator==(const TensorInfo&, const TensorInfo&) = default;
};

// Bytes of a tensor. INVALID_ARGUMENT if a dimension is negative or the product leaves 63 bits.
absl::StatusOr<uint64_t> TensorBytes(DType dtype, absl::Span<const int64_t> shape);

using Metadata = std::map<std::string, std::string>;

inline constexpr uint64_t kMaxHeaderBytes = 16 << 20;
inline constexpr int64_t kMaxDimensions = 16;

// Thread-safe: every read is a pread of its own.
class Reader {
 public:
  // Checks the whole header: at most 16 MiB, strict JSON, known dtypes, sizes equal to shape × dtype, ranges that are
  // in order, disjoint, without holes and end with the file. NOT_FOUND or UNAVAILABLE (an I/O error) if the file cannot
  // be opened; DATA_LOSS with the file's and the tensor's name if it is damaged.
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const std::string& path);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // By offset.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  const std::string& path() const { return path_; }

  // Null if the file has no such tensor. The pointer lives as long as the reader.
  const TensorInfo* Find(absl::string_view name) const;

  // Reads the tensor's bytes [begin, begin + out.size()) into `out`. NOT_FOUND if there is no such tensor,
  // INVALID_ARGUMENT if the range leaves it, DATA_LOSS if the file became shorter, UNAVAILABLE if reading fails.
  absl::Status Read(absl::string_view name, uint64_t begin, absl::Span<std::byte> out) const;
  // The whole tensor; `out` must have exactly its size.
  absl::Status Read(absl::string_view name, absl::Span<std::byte> out) const;

 private:
  Reader(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status ReadHeader();

  // Constant after Open.
  const std::string path_;
  const int fd_;
  uint64_t data_begin_ = 0;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  Metadata metadata_;
};

// Writes one file: the header first, then every tensor in the order of `tensors`, each as one span or in pieces.
//   P2_ASSIGN_OR_RETURN(auto writer, Writer::Create(path, {{"a", DType::kF32, {2, 3}}}, {{"format", "pt"}}));
//   P2_RETURN_IF_ERROR(writer->Append(bytes_of_a));
//   P2_RETURN_IF_ERROR(writer->Finish());
// Confined to one thread.
class Writer {
 public:
  // Creates or truncates `path` and writes the header. `tensors`: name, dtype, shape; offset and size are ignored.
  // Tensors keep this order in the file. INVALID_ARGUMENT for a bad name ("__metadata__", repeated, not UTF-8) or
  // shape; an errno's code with the path if the file cannot be written (RESOURCE_EXHAUSTED for a full disk).
  static absl::StatusOr<std::unique_ptr<Writer>> Create(const std::string& path, std::vector<TensorInfo> tensors,
                                                        const Metadata& metadata = {});
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // The next bytes of the data section; a piece may not cross the end of the file's last tensor (INVALID_ARGUMENT).
  absl::Status Append(absl::Span<const std::byte> bytes);

  // Checks that every tensor was given in full (FAILED_PRECONDITION names the first that was not), then fsyncs and
  // closes. The directory and renaming are the caller's. Without it the file stays behind incomplete.
  absl::Status Finish();

  uint64_t bytes_written() const { return data_begin_ + written_; }

 private:
  Writer(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  int fd_;
  std::vector<TensorInfo> tensors_;
  uint64_t data_begin_ = 0;
  uint64_t data_size_ = 0;
  uint64_t written_ = 0;
};

}  // namespace p2::safetensors

#include "worker/checkpoint/pt_archive.h"

#include <sys/stat.h>
#include <zip.h>

#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/file_util.h"
#include "common/status_macros.h"

namespace p2::checkpoint {
namespace {

constexpr char kPickleEntry[] = "/data.pkl";
constexpr zip_int64_t kMaxEntries = 1 << 20;
// What all tensors together may hold: shared storages count each time, so a small file cannot ask for endless copies.
constexpr uint64_t kMaxTensorBytesPerFileByte = 4;
constexpr uint64_t kMaxTensorBytesAlways = 1 << 20;

std::string Reason(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string reason = zip_error_strerror(&error);
  zip_error_fini(&error);
  return reason;
}

struct CloseEntry {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};

float HalfToFloat(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;
  if (exponent == 0) return (sign != 0 ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-24f;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

template <typename T, typename F>
void Convert(absl::Span<const uint8_t> bytes, absl::Span<float> out, F&& to_float) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = to_float(value);
  }
}

}  // namespace

int64_t NumElements(const PickleObject& tensor) {
  int64_t count = 1;
  for (const int64_t size : tensor.shape) count *= size;
  return count;
}

absl::Status PtArchive::InFile(const absl::Status& status) const {
  return absl::Status(status.code(), absl::StrCat(path_, ": ", status.message()));
}

PtArchive::~PtArchive() {
  if (zip_ != nullptr) zip_discard(zip_);
}

absl::StatusOr<std::unique_ptr<PtArchive>> PtArchive::Open(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return FileError("open", path);
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, " is no regular file"));
  std::unique_ptr<PtArchive> archive(new PtArchive(path));
  archive->file_bytes_ = static_cast<uint64_t>(info.st_size);
  int code = 0;
  archive->zip_ = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (archive->zip_ == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " is no zip archive: ", Reason(code), ". It is truncated, no .pt file, or of torch before 1.6: then load and save it with a newer one"));
  }
  P2_RETURN_IF_ERROR(archive->Load());
  return archive;
}

absl::StatusOr<std::unique_ptr<PtArchive>> PtArchive::OpenBytes(absl::string_view bytes, const std::string& name) {
  std::unique_ptr<PtArchive> archive(new PtArchive(name));
  archive->file_bytes_ = bytes.size();
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* const source = zip_source_buffer_create(bytes.data(), bytes.size(), /*freep=*/0, &error);
  if (source != nullptr) archive->zip_ = zip_open_from_source(source, ZIP_RDONLY, &error);
  if (source != nullptr && archive->zip_ == nullptr) zip_source_free(source);
  const std::string reason = zip_error_strerror(&error);
  zip_error_fini(&error);
  if (archive->zip_ == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is no zip archive: ", reason));
  }
  P2_RETURN_IF_ERROR(archive->Load());
  return archive;
}

absl::Status PtArchive::Load() {
  const zip_int64_t entries = zip_get_num_entries(zip_, 0);
  if (entries > kMaxEntries) {
    return InFile(absl::InvalidArgumentError(absl::StrCat(entries, " entries; at most ", kMaxEntries, " are read")));
  }
  for (zip_int64_t i = 0; i < entries; ++i) {
    const char* const raw = zip_get_name(zip_, static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
    if (raw == nullptr) return InFile(absl::DataLossError("an entry without a name"));
    const absl::string_view name = raw;
    const size_t slash = name.find('/');
    if (slash == absl::string_view::npos || name.substr(slash) != kPickleEntry) continue;
    if (!root_name_.empty()) return InFile(absl::InvalidArgumentError("holds two data.pkl"));
    root_name_ = std::string(name.substr(0, slash));
  }
  if (root_name_.empty()) return InFile(absl::InvalidArgumentError("a zip without data.pkl: torch.save did not write it"));

  const std::string byte_order = root_name_ + "/byteorder";
  if (zip_name_locate(zip_, byte_order.c_str(), ZIP_FL_ENC_RAW) >= 0) {
    P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> order, ReadEntry(byte_order, /*limit=*/16));
    if (const std::string text(order.begin(), order.end()); text != "little") {
      return InFile(absl::InvalidArgumentError("its byteorder is not \"little\""));
    }
  }
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadEntry(root_name_ + kPickleEntry, kMaxPickleBytes));
  absl::StatusOr<Pickle> pickle =
      Unpickle(absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  if (!pickle.ok()) return InFile(pickle.status());
  pickle_ = *std::move(pickle);

  const uint64_t limit = kMaxTensorBytesAlways + kMaxTensorBytesPerFileByte * file_bytes_;
  uint64_t total = 0;
  for (const PickleObject* tensor : pickle_.tensors) {
    const absl::StatusOr<uint64_t> size = safetensors::TensorBytes(tensor->dtype, tensor->shape);
    if (size.ok() && *size <= limit) total += *size;
    if (!size.ok() || *size > limit || total > limit) {
      return InFile(absl::InvalidArgumentError(
          absl::StrCat("its tensors claim more than ", limit, " bytes; the file has ", file_bytes_)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint8_t>> PtArchive::ReadEntry(const std::string& name, uint64_t limit) {
  zip_stat_t info;
  const auto damaged = [&](const auto&... what) {
    return InFile(absl::DataLossError(absl::StrCat("entry ", name, " ", what...)));
  };
  const zip_int64_t index = zip_name_locate(zip_, name.c_str(), ZIP_FL_ENC_RAW);
  constexpr zip_uint64_t kWanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_COMP_SIZE;
  if (index < 0) return damaged("is missing");
  if (zip_stat_index(zip_, static_cast<zip_uint64_t>(index), 0, &info) != 0 || (info.valid & kWanted) != kWanted) {
    return damaged("has no size");
  }
  if (info.comp_method != ZIP_CM_STORE) {
    return InFile(absl::InvalidArgumentError(
        absl::StrCat("entry ", name, " is compressed (method ", info.comp_method, "); torch.save stores plainly")));
  }
  if (info.size != info.comp_size || info.size > file_bytes_) {
    return damaged("claims ", info.size, " bytes in a file of ", file_bytes_);
  }
  if (info.size > limit) {
    return InFile(
        absl::InvalidArgumentError(absl::StrCat("entry ", name, " has ", info.size, " bytes; at most ", limit)));
  }
  const std::unique_ptr<zip_file_t, CloseEntry> file(zip_fopen_index(zip_, static_cast<zip_uint64_t>(index), 0));
  if (file == nullptr) return damaged("cannot be opened: ", zip_strerror(zip_));
  std::vector<uint8_t> bytes(info.size);
  for (size_t at = 0; at < bytes.size();) {
    const zip_int64_t n = zip_fread(file.get(), bytes.data() + at, bytes.size() - at);
    if (n <= 0) return damaged("is damaged: ", n == 0 ? "cut short" : zip_file_strerror(file.get()));
    at += static_cast<size_t>(n);
  }
  // libzip compares the CRC-32 when it meets the end.
  uint8_t beyond;
  if (zip_fread(file.get(), &beyond, 1) != 0) return damaged("is damaged: ", zip_file_strerror(file.get()));
  return bytes;
}

absl::StatusOr<std::vector<uint8_t>> PtArchive::Read(const PickleObject& tensor) {
  const PickleObject& storage = *tensor.items[0];
  const size_t element = safetensors::DTypeSize(tensor.dtype);
  if (cached_key_ != storage.text) {
    P2_ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, ReadEntry(absl::StrCat(root_name_, "/data/", storage.text), file_bytes_));
    cached_ = std::move(bytes);
    cached_key_ = storage.text;
  }
  if (cached_.size() != static_cast<uint64_t>(storage.integer) * element) {
    return InFile(absl::DataLossError(absl::StrCat("storage ", storage.text, " has ", cached_.size(), " bytes; its pickle says ",
                                                   storage.integer, " elements of ", element)));
  }
  std::vector<uint8_t> out(static_cast<size_t>(NumElements(tensor)) * element);
  if (out.empty()) return out;
  const size_t dimensions = tensor.shape.size();
  bool contiguous = true;
  for (size_t i = dimensions, expected = 1; i-- > 0; expected *= static_cast<size_t>(tensor.shape[i])) {
    contiguous &= tensor.shape[i] == 1 || static_cast<size_t>(tensor.strides[i]) == expected;
  }
  const auto from = static_cast<size_t>(tensor.integer);
  if (contiguous) {
    std::memcpy(out.data(), cached_.data() + from * element, out.size());
    return out;
  }
  std::vector<int64_t> index(dimensions, 0);
  size_t source = from;
  for (size_t at = 0; at < out.size(); at += element) {
    std::memcpy(out.data() + at, cached_.data() + source * element, element);
    for (size_t i = dimensions; i-- > 0;) {
      const auto stride = static_cast<size_t>(tensor.strides[i]);
      source += stride;
      if (++index[i] < tensor.shape[i]) break;
      source -= stride * static_cast<size_t>(tensor.shape[i]);
      index[i] = 0;
    }
  }
  return out;
}

absl::Status PtArchive::ReadFloats(const PickleObject& tensor, absl::Span<float> out) {
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, Read(tensor));
  if (bytes.size() != out.size() * safetensors::DTypeSize(tensor.dtype)) {
    return absl::InternalError(absl::StrCat("asked for ", out.size(), " of ", NumElements(tensor), " elements"));
  }
  const auto cast = [](auto value) { return static_cast<float>(value); };
  switch (tensor.dtype) {
    case DType::kF32:
      if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
      return absl::OkStatus();
    case DType::kF64:
      Convert<double>(bytes, out, cast);
      return absl::OkStatus();
    case DType::kF16:
      Convert<uint16_t>(bytes, out, HalfToFloat);
      return absl::OkStatus();
    case DType::kBF16:
      Convert<uint16_t>(bytes, out, [](uint16_t value) { return std::bit_cast<float>(uint32_t{value} << 16); });
      return absl::OkStatus();
    case DType::kI64:
      Convert<int64_t>(bytes, out, cast);
      return absl::OkStatus();
    case DType::kI32:
      Convert<int32_t>(bytes, out, cast);
      return absl::OkStatus();
    case DType::kI16:
      Convert<int16_t>(bytes, out, cast);
      return absl::OkStatus();
    case DType::kI8:
      Convert<int8_t>(bytes, out, cast);
      return absl::OkStatus();
    case DType::kU8:
    case DType::kBool:
      Convert<uint8_t>(bytes, out, cast);
      return absl::OkStatus();
    default:
      return InFile(absl::InvalidArgumentError(
          absl::StrCat("a tensor of type ", safetensors::DTypeName(tensor.dtype), " is no weight")));
  }
}

bool ReadPtBytes(absl::string_view bytes) {
  const absl::StatusOr<std::unique_ptr<PtArchive>> archive = PtArchive::OpenBytes(bytes, "input");
  if (!archive.ok()) return false;
  for (const PickleObject* tensor : (*archive)->tensors()) {
    std::vector<float> values(static_cast<size_t>(NumElements(*tensor)));
    if (!(*archive)->ReadFloats(*tensor, absl::MakeSpan(values)).ok()) return false;
  }
  return true;
}

}  // namespace p2::checkpoint

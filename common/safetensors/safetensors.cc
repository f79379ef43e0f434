#include "common/safetensors/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/file_util.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace p2::safetensors {
namespace {

using Json = nlohmann::ordered_json;

struct DTypeRow {
  DType dtype;
  absl::string_view name;
  size_t size;
};
constexpr DTypeRow kDTypes[] = {
    {DType::kBool, "BOOL", 1},      {DType::kU8, "U8", 1},   {DType::kI8, "I8", 1},   {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kF8E5M2, "F8_E5M2", 1}, {DType::kU16, "U16", 2}, {DType::kI16, "I16", 2}, {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},      {DType::kU32, "U32", 4}, {DType::kI32, "I32", 4}, {DType::kF32, "F32", 4},
    {DType::kU64, "U64", 8},        {DType::kI64, "I64", 8}, {DType::kF64, "F64", 8}};

constexpr absl::string_view kMetadataKey = "__metadata__";
constexpr uint64_t kPrefixBytes = 8;

absl::Span<uint8_t> Bytes(absl::Span<std::byte> span) {
  return absl::MakeSpan(reinterpret_cast<uint8_t*>(span.data()), span.size());
}

absl::Span<const uint8_t> Bytes(absl::Span<const std::byte> span) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(span.data()), span.size());
}

// One entry of the header. The error names what is wrong; the caller adds the tensor and the file.
absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const Json& entry, uint64_t data_size) {
  TensorInfo info{.name = name};
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets")) {
    return absl::DataLossError("wants exactly dtype, shape and data_offsets");
  }
  const Json& dtype = entry["dtype"];
  const std::optional<DType> parsed = dtype.is_string() ? ParseDType(dtype.get<std::string>()) : std::nullopt;
  if (!parsed) {
    return absl::DataLossError(
        absl::StrCat("dtype ", dtype.dump(-1, ' ', true, Json::error_handler_t::replace), " is not known"));
  }
  info.dtype = *parsed;
  if (!entry["shape"].is_array() || entry["shape"].size() > kMaxDimensions) {
    return absl::DataLossError(absl::StrCat("shape is not a list of at most ", kMaxDimensions, " sizes"));
  }
  for (const Json& size : entry["shape"]) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > INT64_MAX) {
      return absl::DataLossError("shape holds something that is not a size");
    }
    info.shape.push_back(size.get<int64_t>());
  }
  const Json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    return absl::DataLossError("data_offsets is not a pair of offsets");
  }
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  if (begin > end || end > data_size) {
    return absl::DataLossError(
        absl::StrCat("data_offsets [", begin, ", ", end, "] leave the data of ", data_size, " bytes"));
  }
  absl::StatusOr<uint64_t> bytes = TensorBytes(info.dtype, info.shape);
  if (!bytes.ok()) return absl::DataLossError(bytes.status().message());
  if (*bytes != end - begin) {
    return absl::DataLossError(absl::StrCat("shape [", absl::StrJoin(info.shape, ", "), "] of ", DTypeName(info.dtype),
                                            " needs ", *bytes, " bytes, data_offsets hold ", end - begin));
  }
  info.offset = begin;
  info.size = end - begin;
  return info;
}

}  // namespace

absl::string_view DTypeName(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

std::optional<DType> ParseDType(absl::string_view name) {
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

size_t DTypeSize(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].size; }

absl::StatusOr<uint64_t> TensorBytes(DType dtype, absl::Span<const int64_t> shape) {
  int64_t bytes = static_cast<int64_t>(DTypeSize(dtype));
  for (int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape [", absl::StrJoin(shape, ", "), "] is negative or too large"));
    }
  }
  return static_cast<uint64_t>(bytes);
}

absl::StatusOr<std::unique_ptr<Reader>> Reader::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return absl::NotFoundError(absl::StrCat(path, " does not exist"));
    return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  }
  std::unique_ptr<Reader> reader(new Reader(path, fd));
  P2_RETURN_IF_ERROR(reader->ReadHeader());
  return reader;
}

Reader::~Reader() { close(fd_); }

absl::Status Reader::ReadHeader() {
  struct stat info;
  if (fstat(fd_, &info) != 0)
    return absl::UnavailableError(absl::StrCat("cannot stat ", path_, ": ", std::strerror(errno)));
  if (!S_ISREG(info.st_mode)) return absl::DataLossError(absl::StrCat(path_, " is not a regular file"));
  const uint64_t file_size = static_cast<uint64_t>(info.st_size);
  if (file_size < kPrefixBytes) {
    return absl::DataLossError(absl::StrCat(path_, ": ", file_size, " bytes are too few for a safetensors file"));
  }
  unsigned char prefix[kPrefixBytes];
  P2_RETURN_IF_ERROR(PReadAll(fd_, path_, 0, absl::MakeSpan(reinterpret_cast<uint8_t*>(prefix), kPrefixBytes)));
  uint64_t header_size = 0;
  for (int i = 7; i >= 0; --i) header_size = header_size << 8 | prefix[i];
  if (header_size > kMaxHeaderBytes || header_size > file_size - kPrefixBytes) {
    return absl::DataLossError(absl::StrCat(path_, ": header of ", header_size, " bytes; at most ", kMaxHeaderBytes,
                                            " are allowed and the file has ", file_size));
  }
  std::string text(header_size, '\0');
  P2_RETURN_IF_ERROR(
      PReadAll(fd_, path_, kPrefixBytes, absl::MakeSpan(reinterpret_cast<uint8_t*>(text.data()), text.size())));
  data_begin_ = kPrefixBytes + header_size;
  const uint64_t data_size = file_size - data_begin_;

  std::set<std::string> keys;
  std::string repeated;
  auto note_key = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth == 1 && event == Json::parse_event_t::key && !keys.insert(parsed.get<std::string>()).second) {
      repeated = parsed.get<std::string>();
    }
    return true;
  };
  const Json header = Json::parse(text, note_key, /*allow_exceptions=*/false);
  if (!absl::StartsWith(text, "{") || !header.is_object()) {
    return absl::DataLossError(absl::StrCat(path_, ": the header is not a JSON object"));
  }
  if (!repeated.empty()) return absl::DataLossError(absl::StrCat(path_, ": the header names \"", repeated, "\" twice"));
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadataKey) {
      if (!entry.is_object()) return absl::DataLossError(absl::StrCat(path_, ": __metadata__ is not an object"));
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string())
          return absl::DataLossError(absl::StrCat(path_, ": __metadata__ \"", key, "\" is not a string"));
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    absl::StatusOr<TensorInfo> tensor = ParseTensor(name, entry, data_size);
    if (!tensor.ok()) {
      return absl::DataLossError(absl::StrCat(path_, ": tensor \"", name, "\": ", tensor.status().message()));
    }
    tensors_.push_back(*std::move(tensor));
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.size, a.name) < std::tie(b.offset, b.size, b.name);
  });
  uint64_t end = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].offset != end) {
      return absl::DataLossError(
          absl::StrCat(path_, ": tensor \"", tensors_[i].name, "\" starts at ", tensors_[i].offset,
                       tensors_[i].offset < end ? ", inside another one" : ", after a hole", " (expected ", end, ")"));
    }
    end += tensors_[i].size;
    by_name_[tensors_[i].name] = i;
  }
  if (end != data_size) {
    return absl::DataLossError(absl::StrCat(path_, ": the tensors take ", end, " bytes, the file holds ", data_size));
  }
  return absl::OkStatus();
}

const TensorInfo* Reader::Find(absl::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

absl::Status Reader::Read(absl::string_view name, uint64_t begin, absl::Span<std::byte> out) const {
  const TensorInfo* info = Find(name);
  if (info == nullptr) return absl::NotFoundError(absl::StrCat(path_, " has no tensor \"", name, "\""));
  if (begin > info->size || out.size() > info->size - begin) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": bytes [", begin, ", ", begin + out.size(),
                                                   ") leave tensor \"", name, "\" of ", info->size, " bytes"));
  }
  return PReadAll(fd_, path_, data_begin_ + info->offset + begin, Bytes(out));
}

absl::Status Reader::Read(absl::string_view name, absl::Span<std::byte> out) const {
  const TensorInfo* info = Find(name);
  if (info != nullptr && info->size != out.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": tensor \"", name, "\" has ", info->size, " bytes, not ", out.size()));
  }
  return Read(name, 0, out);
}

absl::StatusOr<std::unique_ptr<Writer>> Writer::Create(const std::string& path, std::vector<TensorInfo> tensors,
                                                       const Metadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  std::set<std::string> names;
  uint64_t offset = 0;
  for (TensorInfo& tensor : tensors) {
    if (tensor.name == kMetadataKey || !names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor name \"", tensor.name, "\" is reserved or repeated"));
    }
    absl::StatusOr<uint64_t> size = TensorBytes(tensor.dtype, tensor.shape);
    if (!size.ok() || *size > INT64_MAX - offset || tensor.shape.size() > kMaxDimensions) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", tensor.name, "\": shape [",
                                                     absl::StrJoin(tensor.shape, ", "), "] cannot be stored"));
    }
    tensor.offset = offset;
    tensor.size = *size;
    offset += *size;
    header.push_back({tensor.name,
                      {{"dtype", std::string(DTypeName(tensor.dtype))},
                       {"shape", tensor.shape},
                       {"data_offsets", {tensor.offset, offset}}}});
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception&) {  // Thrown for text that is not UTF-8, and for nothing else.
    return absl::InvalidArgumentError(absl::StrCat(path, ": a tensor's name or the metadata is not UTF-8"));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": header of ", text.size(), " bytes; at most ", kMaxHeaderBytes));
  }
  std::string prefix;
  for (int i = 0; i < 8; ++i) prefix.push_back(static_cast<char>(text.size() >> (8 * i) & 0xff));

  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("create", path);
  std::unique_ptr<Writer> writer(new Writer(path, fd));
  writer->tensors_ = std::move(tensors);
  writer->data_size_ = offset;
  writer->data_begin_ = kPrefixBytes + text.size();
  prefix += text;
  P2_RETURN_IF_ERROR(
      WriteAll(fd, path, absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(prefix.data()), prefix.size())));
  return writer;
}

Writer::~Writer() {
  if (fd_ >= 0) close(fd_);
}

absl::Status Writer::Append(absl::Span<const std::byte> bytes) {
  if (bytes.size() > data_size_ - written_) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", bytes.size(), " bytes given, ", data_size_ - written_, " declared"));
  }
  P2_RETURN_IF_ERROR(WriteAll(fd_, path_, Bytes(bytes)));
  written_ += bytes.size();
  return absl::OkStatus();
}

absl::Status Writer::Finish() {
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.offset + tensor.size > written_) {
      return absl::FailedPreconditionError(absl::StrCat(path_, ": tensor \"", tensor.name, "\" was not given in full"));
    }
  }
  if (fsync(fd_) != 0) return FileError("fsync", path_);
  if (close(std::exchange(fd_, -1)) != 0) return FileError("close", path_);
  return absl::OkStatus();
}

}  // namespace p2::safetensors

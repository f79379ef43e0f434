#include "common/image/npz_write.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

constexpr char kMember[] = "arr_0.npy";
constexpr uint16_t kZip64Version = 45;
constexpr uint16_t kDosDate = (1 << 5) | 1;  // 1980-01-01, the first that ZIP knows.
constexpr uint32_t kIn64 = 0xFFFFFFFFu;      // "See the ZIP64 field."

// CRC-32 of ZIP (reflected 0x04C11DB7), eight bytes a turn.
class Crc32 {
 public:
  static uint32_t Extend(uint32_t crc, absl::Span<const uint8_t> bytes) {
    static const Crc32 tables;
    crc = ~crc;
    const uint8_t* p = bytes.data();
    size_t left = bytes.size();
    for (; left >= 8; p += 8, left -= 8) {
      crc ^= p[0] | p[1] << 8 | p[2] << 16 | static_cast<uint32_t>(p[3]) << 24;
      crc = tables.t_[7][crc & 255] ^ tables.t_[6][crc >> 8 & 255] ^ tables.t_[5][crc >> 16 & 255] ^
            tables.t_[4][crc >> 24] ^ tables.t_[3][p[4]] ^ tables.t_[2][p[5]] ^ tables.t_[1][p[6]] ^ tables.t_[0][p[7]];
    }
    for (; left > 0; ++p, --left) crc = crc >> 8 ^ tables.t_[0][(crc ^ *p) & 255];
    return ~crc;
  }

 private:
  Crc32() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = c >> 1 ^ (c & 1 ? 0xEDB88320u : 0);
      t_[0][i] = c;
    }
    for (size_t k = 1; k < 8; ++k) {
      for (size_t i = 0; i < 256; ++i) t_[k][i] = t_[k - 1][i] >> 8 ^ t_[0][t_[k - 1][i] & 255];
    }
  }
  std::array<std::array<uint32_t, 256>, 8> t_;
};

// Little-endian fields, appended.
class Fields {
 public:
  template <typename T>
  Fields& Add(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<char>(static_cast<uint64_t>(value) >> 8 * i));
    return *this;
  }
  Fields& Text(absl::string_view text) {
    bytes_.append(text.data(), text.size());
    return *this;
  }
  size_t size() const { return bytes_.size(); }
  absl::Span<const uint8_t> span() const { return {reinterpret_cast<const uint8_t*>(bytes_.data()), bytes_.size()}; }

 private:
  std::string bytes_;
};

// What the local and the central header share: from "version needed" to the length of the name.
void AddCommon(uint32_t crc, uint16_t extra_bytes, Fields* fields) {
  fields->Add<uint16_t>(kZip64Version).Add<uint16_t>(0).Add<uint16_t>(0);  // No flags; stored.
  fields->Add<uint16_t>(0).Add<uint16_t>(kDosDate).Add<uint32_t>(crc).Add<uint32_t>(kIn64).Add<uint32_t>(kIn64);
  fields->Add<uint16_t>(sizeof(kMember) - 1).Add<uint16_t>(extra_bytes);
}

Fields LocalHeader(uint32_t crc, uint64_t bytes) {
  Fields fields;
  fields.Text("PK\x03\x04");
  AddCommon(crc, 20, &fields);
  fields.Text(kMember).Add<uint16_t>(1).Add<uint16_t>(16).Add<uint64_t>(bytes).Add<uint64_t>(bytes);
  return fields;
}

// The central directory and its two ends. The one member begins at 0.
Fields Directory(uint32_t crc, uint64_t bytes, uint64_t begin) {
  Fields fields;
  fields.Text("PK\x01\x02").Add<uint16_t>(3 << 8 | kZip64Version);
  AddCommon(crc, 28, &fields);
  fields.Add<uint16_t>(0).Add<uint16_t>(0).Add<uint16_t>(0).Add<uint32_t>(0100644u << 16).Add<uint32_t>(kIn64);
  fields.Text(kMember).Add<uint16_t>(1).Add<uint16_t>(24).Add<uint64_t>(bytes).Add<uint64_t>(bytes).Add<uint64_t>(0);
  const uint64_t size = fields.size(), end = begin + size;
  fields.Text("PK\x06\x06").Add<uint64_t>(44).Add<uint16_t>(3 << 8 | kZip64Version).Add<uint16_t>(kZip64Version);
  fields.Add<uint32_t>(0).Add<uint32_t>(0).Add<uint64_t>(1).Add<uint64_t>(1).Add<uint64_t>(size).Add<uint64_t>(begin);
  fields.Text("PK\x06\x07").Add<uint32_t>(0).Add<uint64_t>(end).Add<uint32_t>(1);
  fields.Text("PK\x05\x06").Add<uint16_t>(0).Add<uint16_t>(0).Add<uint16_t>(1).Add<uint16_t>(1);
  fields.Add<uint32_t>(kIn64).Add<uint32_t>(kIn64).Add<uint16_t>(0);
  return fields;
}

std::string NpyHeader(const NpzWriter::Shape& shape) {
  std::string text = absl::StrCat("{'descr': '|u1', 'fortran_order': False, 'shape': (", shape.count, ", ",
                                  shape.height, ", ", shape.width, ", ", shape.channels, "), }");
  text.append(63 - (10 + text.size()) % 64, ' ');  // Magic, version, length and text fill whole 64 bytes.
  text.push_back('\n');
  Fields fields;
  fields.Text("\x93NUMPY").Add<uint8_t>(1).Add<uint8_t>(0).Add<uint16_t>(text.size()).Text(text);
  return {reinterpret_cast<const char*>(fields.span().data()), fields.size()};
}

absl::Span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

NpzWriter::NpzWriter(std::string path, UniqueFd fd, const Shape& shape)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      shape_(shape),
      image_bytes_(uint64_t{1} * shape.height * shape.width * shape.channels),
      header_(NpyHeader(shape)) {}

absl::StatusOr<std::unique_ptr<NpzWriter>> NpzWriter::Create(const std::string& path, const Shape& shape) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.ok()) return FileError("create", path);
  std::unique_ptr<NpzWriter> writer(new NpzWriter(path, std::move(fd), shape));
  P2_RETURN_IF_ERROR(WriteAll(writer->fd_.get(), path, LocalHeader(0, 0).span()));  // Finish knows the CRC.
  P2_RETURN_IF_ERROR(writer->Write(Bytes(writer->header_)));
  return writer;
}

absl::Status NpzWriter::Write(absl::Span<const uint8_t> bytes) {
  crc_ = Crc32::Extend(crc_, bytes);
  return WriteAll(fd_.get(), path_, bytes);
}

absl::Status NpzWriter::Append(absl::Span<const uint8_t> image) {
  if (image.size() != image_bytes_ || appended_ == shape_.count) {
    return absl::InvalidArgumentError(absl::StrCat(path_, " takes ", shape_.count, " images of ", image_bytes_,
                                                   " bytes; number ", appended_ + 1, " has ", image.size()));
  }
  P2_RETURN_IF_ERROR(Write(image));
  ++appended_;
  return absl::OkStatus();
}

absl::Status NpzWriter::Finish() {
  if (appended_ != shape_.count) {
    return absl::FailedPreconditionError(absl::StrCat(path_, " has ", appended_, " of ", shape_.count, " images"));
  }
  const uint64_t bytes = header_.size() + image_bytes_ * static_cast<uint64_t>(shape_.count);
  const Fields local = LocalHeader(crc_, bytes);
  P2_RETURN_IF_ERROR(WriteAll(fd_.get(), path_, Directory(crc_, bytes, local.size() + bytes).span()));
  if (::lseek(fd_.get(), 0, SEEK_SET) != 0) return FileError("seek in", path_);
  P2_RETURN_IF_ERROR(WriteAll(fd_.get(), path_, local.span()));
  if (::fsync(fd_.get()) != 0) return FileError("fsync", path_);
  fd_ = UniqueFd();
  return absl::OkStatus();
}

}  // namespace p2::image

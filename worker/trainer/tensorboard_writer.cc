#include "worker/trainer/tensorboard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/crc32c.h"
#include "common/status_macros.h"
#include "worker/checkpoint/checkpoint_reader.h"

namespace p2::trainer {
namespace {

constexpr char kPrefix[] = "events.out.tfevents.";

// Little-endian bytes.
template <typename T>
std::string Bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

// Protobuf fields by wire type.
std::string IntField(int number, int64_t value) {
  return absl::StrCat(Varint(static_cast<uint64_t>(number) << 3), Varint(static_cast<uint64_t>(value)));
}
std::string DoubleField(int number, double value) {
  return absl::StrCat(Varint(static_cast<uint64_t>(number) << 3 | 1), Bytes(value));
}
std::string BytesField(int number, absl::string_view value) {
  return absl::StrCat(Varint(static_cast<uint64_t>(number) << 3 | 2), Varint(value.size()), value);
}
std::string FloatField(int number, float value) {
  return absl::StrCat(Varint(static_cast<uint64_t>(number) << 3 | 5), Bytes(value));
}

// Event.summary with one Summary.Value for each of `values`, which are encoded.
std::string SummaryField(const std::vector<std::string>& values) {
  std::string summary;
  for (const std::string& value : values) summary += BytesField(1, value);
  return BytesField(5, summary);
}

uint32_t MaskedCrc(absl::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

uint32_t BigEndian(absl::string_view bytes) {
  uint32_t value = 0;
  for (const char c : bytes.substr(0, 4)) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

// The seconds in the name of an event file; -1 if it is none.
int64_t SecondsOf(absl::string_view name) {
  int64_t seconds = -1;
  if (!absl::ConsumePrefix(&name, kPrefix)) return -1;
  return absl::SimpleAtoi(name.substr(0, name.find('.')), &seconds) ? seconds : -1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorboardWriter>> TensorboardWriter::Create(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot create ", directory, ": ", error.message()));
  int64_t seconds = absl::ToUnixSeconds(absl::Now());
  for (const std::string& name : checkpoint::NamesIn(directory)) seconds = std::max(seconds, SecondsOf(name) + 1);
  char host[256] = "";
  if (::gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  const std::string path =
      absl::StrCat(directory, "/", kPrefix, absl::Dec(seconds, absl::kZeroPad10), ".", host, ".", ::getpid(), ".p2");
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.ok()) return FileError("create", path);
  std::unique_ptr<TensorboardWriter> writer(new TensorboardWriter(path, std::move(fd)));
  P2_RETURN_IF_ERROR(writer->Append(0, BytesField(3, "brain.Event:2")));
  return writer;
}

absl::Status TensorboardWriter::Restart(int64_t step) {
  constexpr int64_t kStart = 1;
  return Append(step, BytesField(7, IntField(1, kStart)));
}

absl::Status TensorboardWriter::AddScalars(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  std::vector<std::string> encoded;
  for (const auto& [tag, value] : values)
    encoded.push_back(absl::StrCat(BytesField(1, tag), FloatField(2, static_cast<float>(value))));
  return Append(step, SummaryField(encoded));
}

absl::Status TensorboardWriter::AddPng(int64_t step, absl::string_view tag, absl::string_view png) {
  constexpr absl::string_view kSignature = "\x89PNG\r\n\x1a\n";
  constexpr size_t kHeaderEnd = 29;
  if (png.size() < kHeaderEnd || !absl::StartsWith(png, kSignature)) {
    return absl::InvalidArgumentError(absl::StrCat("the ", png.size(), " bytes for ", tag, " are no PNG"));
  }
  const int colour = png[25];  // 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA
  const int channels = colour == 0 ? 1 : colour == 2 ? 3 : colour == 4 ? 2 : 4;
  const std::string image = absl::StrCat(IntField(1, BigEndian(png.substr(20))), IntField(2, BigEndian(png.substr(16))),
                                         IntField(3, channels), BytesField(4, png));
  return Append(step, SummaryField({absl::StrCat(BytesField(1, tag), BytesField(4, image))}));
}

absl::Status TensorboardWriter::AddText(int64_t step, absl::string_view tag, absl::string_view text) {
  constexpr int64_t kDtString = 7, kDataClassTensor = 2;
  const std::string tensor =
      absl::StrCat(IntField(1, kDtString), BytesField(2, BytesField(2, IntField(1, 1))), BytesField(8, text));
  const std::string metadata = absl::StrCat(BytesField(1, BytesField(1, "text")), IntField(4, kDataClassTensor));
  return Append(step, SummaryField({absl::StrCat(BytesField(1, tag), BytesField(8, tensor), BytesField(9, metadata))}));
}

absl::Status TensorboardWriter::Append(int64_t step, absl::string_view fields) {
  const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  const std::string event = absl::StrCat(DoubleField(1, now), IntField(2, step), fields);
  const std::string length = Bytes(static_cast<uint64_t>(event.size()));
  return WriteAll(fd_.get(), path_, absl::StrCat(length, Bytes(MaskedCrc(length)), event, Bytes(MaskedCrc(event))));
}

}  // namespace p2::trainer

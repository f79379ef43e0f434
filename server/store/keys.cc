#include "server/store/keys.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crc32c.h"

namespace p2::store {
namespace {

constexpr char kEnvelopeVersion = 1;
constexpr size_t kEnvelopeBytes = 1 + 4 + 4;

void WriteFixed32(char* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

uint32_t ReadFixed32(absl::string_view data) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(data[i]);
  return value;
}

// Writes the envelope before the payload that stands behind its place.
void Seal(absl::string_view key, std::string& value) {
  const absl::string_view payload = absl::string_view(value).substr(kEnvelopeBytes);
  value[0] = kEnvelopeVersion;
  WriteFixed32(&value[1], Crc32c(payload, Crc32c(key)));
  WriteFixed32(&value[5], static_cast<uint32_t>(payload.size()));
}

}  // namespace

Key& Key::TextPrefix(absl::string_view text) {
  for (const char c : text) {
    bytes_.push_back(c);
    if (c == '\0') bytes_.push_back('\xFF');
  }
  return *this;
}

Key& Key::Text(absl::string_view text) {
  TextPrefix(text);
  bytes_.append("\0\1", 2);
  return *this;
}

Key& Key::Number(uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) bytes_.push_back(static_cast<char>(number >> shift));
  return *this;
}

Key& Key::Fields(absl::string_view encoded) {
  bytes_.append(encoded.data(), encoded.size());
  return *this;
}

std::string Key::End() const {
  std::string end = bytes_;
  while (static_cast<unsigned char>(end.back()) == 0xFF) end.pop_back();  // Stops at the table's letter at the latest.
  ++end.back();
  return end;
}

uint64_t LastNumber(absl::string_view key) {
  uint64_t number = 0;
  for (const char c : key.substr(key.size() - 8)) number = number << 8 | static_cast<unsigned char>(c);
  return number;
}

std::string EncodeValue(absl::string_view key, absl::string_view payload) {
  std::string value(kEnvelopeBytes, '\0');
  value.append(payload.data(), payload.size());
  Seal(key, value);
  return value;
}

std::string EncodeValue(absl::string_view key, const google::protobuf::MessageLite& message) {
  std::string value(kEnvelopeBytes, '\0');
  message.AppendToString(&value);
  Seal(key, value);
  return value;
}

absl::StatusOr<absl::string_view> DecodeValue(absl::string_view key, absl::string_view value) {
  if (value.size() >= kEnvelopeBytes && value[0] == kEnvelopeVersion) {
    const absl::string_view payload = value.substr(kEnvelopeBytes);
    if (ReadFixed32(value.substr(5)) == payload.size() &&
        ReadFixed32(value.substr(1)) == Crc32c(payload, Crc32c(key))) {
      return payload;
    }
  }
  return absl::DataLossError(absl::StrCat("record \"", absl::CHexEscape(key),
                                          "\" does not match its checksum; the database is damaged: restore a backup"));
}

}  // namespace p2::store

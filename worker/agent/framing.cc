#include "worker/agent/framing.h"

#include <cstdint>

#include "absl/strings/str_cat.h"

namespace p2::agent {

std::string EncodeFrame(const google::protobuf::MessageLite& message) {
  const std::string body = message.SerializeAsString();
  std::string frame;
  for (size_t length = body.size(); frame.empty() || length > 0; length >>= 7)
    frame.push_back(static_cast<char>((length & 0x7f) | (length > 0x7f ? 0x80 : 0)));
  return frame + body;
}

absl::StatusOr<std::optional<std::string>> FrameReader::Next() {
  uint64_t length = 0;
  size_t at = position_;
  for (int shift = 0;; shift += 7) {
    if (shift > 28) return absl::InvalidArgumentError("no frame: its length does not end");
    if (at == buffer_.size()) return std::optional<std::string>();
    const auto byte = static_cast<unsigned char>(buffer_[at++]);
    length |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) break;
  }
  if (length > kMaxFrameBytes)
    return absl::InvalidArgumentError(
        absl::StrCat("no frame: a length of ", length, " bytes exceeds ", kMaxFrameBytes));
  if (buffer_.size() - at < length) return std::optional<std::string>();
  std::optional<std::string> frame = buffer_.substr(at, length);
  position_ = at + length;
  if (position_ == buffer_.size() || position_ > kMaxFrameBytes) {
    buffer_.erase(0, position_);
    position_ = 0;
  }
  return frame;
}

}  // namespace p2::agent

// Protobuf's delimited form, as it flows on the pipes between p2-worker and p2-trainer: a varint length, then the
// message.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message_lite.h"

namespace p2::agent {

// No event or command is larger; a longer length is garbage.
inline constexpr size_t kMaxFrameBytes = size_t{1} << 20;

std::string EncodeFrame(const google::protobuf::MessageLite& message);

// Cuts a byte stream into frames. Confined.
class FrameReader {
 public:
  void Append(absl::string_view bytes) { buffer_.append(bytes.data(), bytes.size()); }
  // The next whole frame's bytes, or nothing until more is appended. INVALID_ARGUMENT, from then on always, if what
  // comes next is no frame.
  absl::StatusOr<std::optional<std::string>> Next();
  // True if bytes of an unfinished frame wait.
  bool partial() const { return position_ < buffer_.size(); }

 private:
  std::string buffer_;
  size_t position_ = 0;
};

}  // namespace p2::agent

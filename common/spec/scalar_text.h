// The text of one value into one proto field.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace p2::spec {

// training.microbatch: what fits. In texts the word kAutoWord.
inline constexpr int32_t kAutoMicrobatch = -1;
inline constexpr char kAutoWord[] = "auto";

// Sets the singular scalar, enum or google.protobuf.Duration `field`, or appends to the repeated one.
//   integers   "16", "500k", "4.4M", "2G" (powers of 1000; whole in the end); training.microbatch also "auto"
//   floats     finite; a count is fine too
//   bool       true, false            enum   a value's name in either case, but not its UNSPECIFIED
//   Duration   "90s", "1h30m", "3d"   string  anything without control characters
// INVALID_ARGUMENT with what is wrong, the text and what is wanted; nothing changes then.
absl::Status SetFromText(absl::string_view text, const google::protobuf::FieldDescriptor& field,
                         google::protobuf::Message& message);

// `field` takes one value written as one text.
bool IsTextField(const google::protobuf::FieldDescriptor& field);

// "TEXT" in quotes, escaped and cut to a readable length: for messages.
std::string Quoted(absl::string_view text);

bool IsValidUtf8(absl::string_view text);

}  // namespace p2::spec

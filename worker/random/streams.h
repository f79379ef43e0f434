// Names of the random streams. A stream keeps draws for different purposes apart: its 32-bit id is a word of the Philox
// counter (philox.h). Two names with one id would share their numbers, so a collision is an error at start.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace p2::random {

// FNV-1a, 32 bits, of the UTF-8 bytes of `name`.
constexpr std::uint32_t StreamId(absl::string_view name) {
  std::uint32_t hash = 0x811C9DC5u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x01000193u;
  return hash;
}

// Draws of the data order and of a training sample; g = images seen when it is taken.
inline constexpr std::uint32_t kOrderStream = StreamId("order");
inline constexpr std::uint32_t kFlipStream = StreamId("flip");
inline constexpr std::uint32_t kCropStream = StreamId("crop");
inline constexpr std::uint32_t kTimestepStream = StreamId("t");
inline constexpr std::uint32_t kNoiseStream = StreamId("noise");
// Draws of a sampled image; g = index of the image.
inline constexpr std::uint32_t kPreviewStream = StreamId("preview");
inline constexpr std::uint32_t kSampleStream = StreamId("sample");
inline constexpr std::uint32_t kEvalStream = StreamId("eval");

// "dropout/<module path>" and "init/<parameter name>".
std::string DropoutStreamName(absl::string_view module_path);
std::string InitStreamName(absl::string_view parameter_name);

// All streams of one process. Thread-compatible.
class StreamRegistry {
 public:
  // Knows the fixed streams above from the start.
  StreamRegistry();

  // Adds `name`; adding it again is fine. FAILED_PRECONDITION if another name has its id: the message names both.
  absl::Status Add(absl::string_view name);

 private:
  std::map<std::uint32_t, std::string> names_;
};

}  // namespace p2::random

// Names for new jobs.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace p2::coordinator {

// Thread-compatible.
class JobIds {
 public:
  // `seed` 0: from the system.
  explicit JobIds(uint64_t seed) : random_(seed != 0 ? seed : std::random_device{}()) {}

  // `{prefix}-{five base32 letters}`, with seven where `taken` says so. The prefix is shortened to leave at most 63
  // characters.
  std::string Draw(absl::string_view prefix, absl::FunctionRef<bool(const std::string&)> taken);

 private:
  std::mt19937_64 random_;
};

}  // namespace p2::coordinator

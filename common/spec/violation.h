// One bad value of a spec, and the status that carries all of them at once.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace p2::spec {

struct FieldViolation {
  std::string field;        // leaf path ("training.batch", "ema.0.rate"); empty for the text as a whole
  std::string description;  // what is wrong, the value, what to do
  std::string origin;       // "my.yaml:12", "--set", "preset ffhq-gamma0.5"; empty if unknown

  // "my.yaml:12: training.batch: is 0; must be at least 1"
  std::string ToString() const;
  friend bool operator==(const FieldViolation&, const FieldViolation&) = default;
};

// INVALID_ARGUMENT whose message has one line a violation, with a serialized google.rpc.BadRequest as payload under
// kBadRequestTypeUrl. OK if there are none.
absl::Status SpecError(const std::vector<FieldViolation>& violations);

inline constexpr char kBadRequestTypeUrl[] = "type.googleapis.com/google.rpc.BadRequest";

}  // namespace p2::spec

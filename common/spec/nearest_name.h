// "Did you mean …?": the known name that a mistyped one is closest to.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace p2::spec {

// The name of `known` with the smallest edit distance (insert, delete, replace or swap neighbours: 1 each; case is
// ignored) to `name`; the first of equals. Empty if none is near: a distance above 2 and above a third of the name.
std::string NearestName(absl::string_view name, absl::Span<const std::string> known);

// `; did you mean "NEAREST"?`, or empty if none is near.
std::string DidYouMean(absl::string_view name, absl::Span<const std::string> known);

}  // namespace p2::spec

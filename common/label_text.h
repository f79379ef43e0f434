// How keys and values of labels are written, on jobs and on workers.
#pragma once

#include "absl/strings/string_view.h"

namespace p2 {

// Up to 63 of a-z, 0-9, '.', '_', '/' and '-'; `upper`: also A-Z.
bool IsLabelText(absl::string_view text, bool upper);
// The same, not empty, and it begins with a letter or digit.
bool IsLabelKey(absl::string_view key);

}  // namespace p2

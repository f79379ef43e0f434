// Lines broken between words.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace p2::ctl {

// Columns of UTF-8 text whose characters are all one column wide.
size_t TextColumns(absl::string_view text);

// `text` in lines of at most `width` columns; 0: as it is. A longer word stays whole. `indent(line)`: columns at which
// the further lines of a line begin.
std::string WrapText(absl::string_view text, size_t width, size_t (*indent)(absl::string_view line) = nullptr);

}  // namespace p2::ctl

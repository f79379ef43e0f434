#include "client/p2ctl/wrap_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace p2::ctl {

size_t TextColumns(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string WrapText(absl::string_view text, size_t width, size_t (*indent)(absl::string_view)) {
  if (width == 0) return std::string(text);
  std::string out;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const size_t further = indent != nullptr ? indent(line) : 0;
    size_t at = 0;  // Columns of this line so far.
    for (const absl::string_view word : absl::StrSplit(line, ' ')) {
      const bool first = word.data() == line.data();
      if (!first && !word.empty() && at > further && at + 1 + TextColumns(word) > width) {
        out.erase(out.find_last_not_of(' ') + 1);
        absl::StrAppend(&out, "\n", std::string(further, ' '), word);
        at = further + TextColumns(word);
      } else {
        absl::StrAppend(&out, first ? "" : " ", word);
        at += (first ? 0 : 1) + TextColumns(word);
      }
    }
    out.push_back('\n');
  }
  out.pop_back();
  return out;
}

}  // namespace p2::ctl

#include "common/label_text.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace p2 {
namespace {

bool IsLabelChar(char c, bool upper) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || (upper && absl::ascii_isupper(c));
}

}  // namespace

bool IsLabelText(absl::string_view text, bool upper) {
  return text.size() <= 63 && std::all_of(text.begin(), text.end(), [upper](char c) {
           return IsLabelChar(c, upper) || c == '.' || c == '_' || c == '/' || c == '-';
         });
}

bool IsLabelKey(absl::string_view key) { return !key.empty() && IsLabelChar(key[0], false) && IsLabelText(key, false); }

}  // namespace p2

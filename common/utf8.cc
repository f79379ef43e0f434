#include "common/utf8.h"

#include "absl/strings/str_cat.h"

namespace p2 {

size_t ValidUtf8Prefix(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned char lead = byte(i);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xC2 && lead < 0xE0 ? 2
                          : (lead & 0xF0) == 0xE0       ? 3
                          : lead >= 0xF0 && lead < 0xF5 ? 4
                                                        : 0;
    if (length == 0 || i + length > text.size()) return i;
    for (size_t j = 1; j < length; ++j) {
      if ((byte(i + j) & 0xC0) != 0x80) return i;
    }
    // Overlong forms, surrogates, beyond U+10FFFF.
    if (lead == 0xE0 && byte(i + 1) < 0xA0) return i;
    if (lead == 0xED && byte(i + 1) >= 0xA0) return i;
    if (lead == 0xF0 && byte(i + 1) < 0x90) return i;
    if (lead == 0xF4 && byte(i + 1) >= 0x90) return i;
    i += length;
  }
  return text.size();
}

std::string ToValidUtf8(absl::string_view text) {
  std::string valid;
  while (true) {
    const size_t good = ValidUtf8Prefix(text);
    absl::StrAppend(&valid, text.substr(0, good));
    if (good == text.size()) return valid;
    absl::StrAppend(&valid, "\\x", absl::Hex(static_cast<unsigned char>(text[good]), absl::kZeroPad2));
    text.remove_prefix(good + 1);
  }
}

}  // namespace p2

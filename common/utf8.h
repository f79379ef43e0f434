// Text for protobuf's string fields: one byte that is no UTF-8, and the whole message cannot be read by the other side.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace p2 {

// How many bytes of `text` are whole, well-formed UTF-8 characters from its beginning on.
size_t ValidUtf8Prefix(absl::string_view text);

// `text` with each byte that does not belong to one written as `\xNN`.
std::string ToValidUtf8(absl::string_view text);

}  // namespace p2

// CRC-32C (Castagnoli, reflected 0x1EDC6F41; "123456789" -> 0xE3069283).
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace p2 {

// Of `data` appended to what `crc` already covers; 0 to begin.
uint32_t Crc32c(absl::string_view data, uint32_t crc = 0);

}  // namespace p2

// How much more memory this process may take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace p2::trainer {

// Bytes: the machine's available memory (MemAvailable), or what the process' control group and those above it still
// allow (v2's memory.max, v1's memory.limit_in_bytes; file pages that can be dropped do not count as used), whichever
// is least. nullopt where nothing can be read. `root`: where /proc and /sys are.
std::optional<int64_t> AvailableMemory(const std::string& root = "");

}  // namespace p2::trainer

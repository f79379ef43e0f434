// A dataset of noise, for what only needs pixels.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace p2::bench {

// Writes `count` images of size x size pixels and `channels` channels into `directory`, which exists.
absl::Status WriteSyntheticDataset(const std::string& directory, int size, int channels, uint64_t count);

}  // namespace p2::bench

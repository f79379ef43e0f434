// What an interrupted prepare keeps, so that the next one goes on there; private to common/image.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/image/shard.h"

namespace p2::image {

inline constexpr char kPartialFile[] = "partial.json";

// State after a shard was completed, in partial.json beside the shards.
struct Partial {
  std::string identity;      // Of the input and of every option that the bytes depend on.
  uint64_t images_done = 0;  // Of the input's, bad ones included.
  std::vector<ShardInfo> shards;
  uint64_t bad_count = 0;
  std::vector<BadImage> bad_images;
};

absl::Status SavePartial(const Partial& partial, const std::string& directory);
// NOT_FOUND if there is none; DATA_LOSS if it is damaged.
absl::StatusOr<Partial> LoadPartial(const std::string& directory);

}  // namespace p2::image

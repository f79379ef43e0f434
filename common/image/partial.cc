#include "common/image/partial.h"

#include <fcntl.h>

#include "absl/strings/str_cat.h"
#include "common/file_util.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace p2::image {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxPartialBytes = size_t{64} << 20;

}  // namespace

absl::Status SavePartial(const Partial& partial, const std::string& directory) {
  Json shards = Json::array(), bad_images = Json::array();
  for (const ShardInfo& shard : partial.shards) {
    shards.push_back({{"file", shard.file}, {"count", shard.count}, {"bytes", shard.bytes}, {"sha256", shard.sha256}});
  }
  for (const BadImage& bad : partial.bad_images) bad_images.push_back({{"path", bad.path}, {"reason", bad.reason}});
  const Json json = {{"identity", partial.identity},
                     {"images_done", partial.images_done},
                     {"shards", shards},
                     {"bad_count", partial.bad_count},
                     {"bad_images", bad_images}};
  return ReplaceFile(absl::StrCat(directory, "/", kPartialFile),
                     json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

absl::StatusOr<Partial> LoadPartial(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kPartialFile);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.ok()) return FileError("open", path);
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> text, ReadWhole(fd.get(), path, kMaxPartialBytes));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  Partial partial;
  try {  // The only reader of this file is the program that wrote it: any surprise means starting anew.
    partial.identity = json.at("identity").get<std::string>();
    partial.images_done = json.at("images_done").get<uint64_t>();
    partial.bad_count = json.at("bad_count").get<uint64_t>();
    for (const Json& shard : json.at("shards")) {
      partial.shards.push_back({shard.at("file").get<std::string>(), shard.at("count").get<uint64_t>(),
                                shard.at("bytes").get<uint64_t>(), shard.at("sha256").get<std::string>()});
    }
    for (const Json& bad : json.at("bad_images")) {
      partial.bad_images.push_back({bad.at("path").get<std::string>(), bad.at("reason").get<std::string>()});
    }
  } catch (const Json::exception& e) {
    return absl::DataLossError(absl::StrCat(path, ": ", e.what()));
  }
  return partial;
}

}  // namespace p2::image

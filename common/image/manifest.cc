// dataset.json of common/image/shard.h.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/file_util.h"
#include "common/image/shard.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace p2::image {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxManifestBytes = size_t{64} << 20;
constexpr size_t kMaxTextBytes = 4096;
constexpr uint64_t kMaxCount = uint64_t{1} << 40;

// Reads the fields of one JSON object; remembers the first thing that is wrong.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) Wrong("is not an object");
  }

  uint64_t Number(const char* key, uint64_t most) {
    const Json* value = Get(key);
    if (value == nullptr) return 0;
    if (value->is_number_unsigned() && value->get<uint64_t>() <= most) return value->get<uint64_t>();
    Wrong(absl::StrCat(key, " is not a number from 0 to ", most));
    return 0;
  }
  std::string Text(const char* key) {
    const Json* value = Get(key);
    if (value == nullptr) return "";
    if (value->is_string() && value->get_ref<const std::string&>().size() <= kMaxTextBytes)
      return value->get<std::string>();
    Wrong(absl::StrCat(key, " is not a text of at most ", kMaxTextBytes, " bytes"));
    return "";
  }
  std::string Digest(const char* key) {
    std::string text = Text(key);
    const bool hex = std::all_of(text.begin(), text.end(),
                                 [](char c) { return absl::ascii_isxdigit(c) && !absl::ascii_isupper(c); });
    if (status_.ok() && (text.size() != 64 || !hex)) Wrong(absl::StrCat(key, " is not a SHA-256 of 64 hex digits"));
    return text;
  }
  const Json& List(const char* key, size_t most) {
    static const Json empty = Json::array();
    const Json* value = Get(key);
    if (value == nullptr) return empty;
    if (value->is_array() && value->size() <= most) return *value;
    Wrong(absl::StrCat(key, " is not a list of at most ", most));
    return empty;
  }
  // Every field must have been read.
  absl::Status Finish() {
    for (const auto& [key, value] : object_.items()) {
      if (status_.ok() && !seen_.contains(key)) Wrong(absl::StrCat(key, " is not a field of it"));
    }
    return status_;
  }
  void Wrong(absl::string_view what) { status_.Update(absl::DataLossError(absl::StrCat(where_, ": ", what))); }

 private:
  const Json* Get(const char* key) {
    seen_.insert(key);
    if (!status_.ok()) return nullptr;
    const auto it = object_.find(key);
    if (it != object_.end()) return &*it;
    Wrong(absl::StrCat(key, " is missing"));
    return nullptr;
  }

  const Json& object_;
  const std::string where_;
  std::set<std::string> seen_;
  absl::Status status_;
};

absl::Status CheckShards(const DatasetManifest& manifest, Fields& fields) {
  const uint64_t most = MaxRecords(manifest.record_bytes());
  if (manifest.count > most) fields.Wrong(absl::StrCat("count is ", manifest.count, ", at most ", most, " fit"));
  uint64_t count = 0;
  for (size_t i = 0; i < manifest.shards.size(); ++i) {
    const ShardInfo& shard = manifest.shards[i];
    if (shard.file != ShardFileName(i)) fields.Wrong(absl::StrCat("shard ", i, " is not ", ShardFileName(i)));
    if (shard.count == 0 || shard.count > most ||
        shard.bytes != ShardBytes(manifest.version, shard.count, manifest.record_bytes())) {
      fields.Wrong(absl::StrCat(shard.file, ": ", shard.count, " records cannot take ", shard.bytes, " bytes"));
    }
    if (shard.count > manifest.shards[0].count ||
        (i + 1 < manifest.shards.size() && shard.count != manifest.shards[0].count)) {
      fields.Wrong(
          absl::StrCat(shard.file, ": ", shard.count, " records; every shard but the last holds the same number"));
    }
    count += shard.count;
  }
  if (count != manifest.count) fields.Wrong(absl::StrCat("count is ", manifest.count, ", the shards hold ", count));
  return fields.Finish();
}

}  // namespace

absl::StatusOr<DatasetManifest> LoadManifest(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kManifestFile);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok() && (errno == ENOENT || errno == ENOTDIR)) {
    return absl::NotFoundError(
        absl::StrCat(directory, " is not a dataset: it has no ", kManifestFile, "; `p2ctl dataset prepare` makes one"));
  }
  if (!fd.ok()) return FileError("open", path);
  absl::StatusOr<std::vector<uint8_t>> text = ReadWhole(fd.get(), path, kMaxManifestBytes);
  if (!text.ok()) {
    return absl::IsInvalidArgument(text.status()) ? absl::DataLossError(text.status().message()) : text.status();
  }
  return ParseManifest(absl::string_view(reinterpret_cast<const char*>(text->data()), text->size()), path);
}

absl::StatusOr<DatasetManifest> ParseManifest(absl::string_view text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  Fields fields(json, path);
  if (json.is_object() && fields.Text("format") != "p2-dataset") fields.Wrong("format is not \"p2-dataset\"");
  const uint64_t version = fields.Number("version", UINT32_MAX);
  if (version > kShardVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": version ", version, " is newer than this p2, which reads ", kShardVersion));
  }
  DatasetManifest manifest;
  manifest.version = static_cast<uint32_t>(version);
  manifest.name = fields.Text("name");
  manifest.resolution = static_cast<int>(fields.Number("resolution", kMaxResolution));
  manifest.channels = static_cast<int>(fields.Number("channels", 3));
  manifest.count = fields.Number("count", kMaxCount);
  manifest.fingerprint = fields.Digest("fingerprint");
  if (version < 1 || manifest.resolution < 1 || (manifest.channels != 1 && manifest.channels != 3) ||
      manifest.count < 1) {
    fields.Wrong("version, resolution, channels or count is not possible");
  }
  for (const Json& item : fields.List("shards", kMaxShards)) {
    Fields shard(item, absl::StrCat(path, ": shards[", manifest.shards.size(), "]"));
    manifest.shards.push_back({shard.Text("file"), shard.Number("count", kMaxCount), shard.Number("bytes", INT64_MAX),
                               shard.Digest("sha256")});
    P2_RETURN_IF_ERROR(shard.Finish());
  }
  manifest.bad_count = fields.Number("bad_count", kMaxCount);
  for (const Json& item : fields.List("bad_images", kMaxBadImagesListed)) {
    Fields bad(item, absl::StrCat(path, ": bad_images[", manifest.bad_images.size(), "]"));
    manifest.bad_images.push_back({bad.Text("path"), bad.Text("reason")});
    P2_RETURN_IF_ERROR(bad.Finish());
  }
  manifest.created_by = fields.Text("created_by");
  P2_RETURN_IF_ERROR(CheckShards(manifest, fields));
  return manifest;
}

absl::Status SaveManifest(const DatasetManifest& manifest, const std::string& directory) {
  Json shards = Json::array(), bad_images = Json::array();
  for (const ShardInfo& shard : manifest.shards) {
    shards.push_back({{"file", shard.file}, {"count", shard.count}, {"bytes", shard.bytes}, {"sha256", shard.sha256}});
  }
  for (const BadImage& bad : manifest.bad_images) {
    if (bad_images.size() == kMaxBadImagesListed) break;
    bad_images.push_back(
        {{"path", bad.path.substr(0, kMaxTextBytes / 4)}, {"reason", bad.reason.substr(0, kMaxTextBytes / 4)}});
  }
  const Json json = {{"format", "p2-dataset"},
                     {"version", manifest.version},
                     {"name", manifest.name},
                     {"resolution", manifest.resolution},
                     {"channels", manifest.channels},
                     {"count", manifest.count},
                     {"fingerprint", manifest.fingerprint},
                     {"shards", std::move(shards)},
                     {"bad_count", manifest.bad_count},
                     {"bad_images", std::move(bad_images)},
                     {"created_by", manifest.created_by}};
  // A file's name may be any bytes: what is not UTF-8 comes out as U+FFFD.
  return ReplaceFile(absl::StrCat(directory, "/", kManifestFile),
                     json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace p2::image

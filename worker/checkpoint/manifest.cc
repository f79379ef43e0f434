#include "worker/checkpoint/manifest.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/json_number.h"

namespace p2::checkpoint {
namespace {

using Json = nlohmann::ordered_json;
constexpr char kFormat[] = "p2-checkpoint";

bool IsPlainName(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

std::string EmaFile(absl::string_view profile) { return absl::StrCat("ema_", profile, ".safetensors"); }

std::string ManifestToJson(const Manifest& manifest) {
  Json files = Json::array();
  for (const FileEntry& file : manifest.files) {
    files.push_back({{"path", file.path}, {"size_bytes", file.size_bytes}, {"sha256", file.sha256}});
  }
  return Json{{"format", kFormat},       {"version", kFormatVersion},   {"images_seen", manifest.images_seen},
              {"epoch", manifest.epoch}, {"attempt", manifest.attempt}, {"ema_profiles", manifest.ema_profiles},
              {"files", files}}
      .dump(2);
}

namespace {

// Of this version.
absl::StatusOr<Manifest> FromJson(const Json& json) {
  try {
    Manifest manifest;
    P2_ASSIGN_OR_RETURN(manifest.images_seen, WholeNumber(json.at("images_seen"), "images_seen"));
    P2_ASSIGN_OR_RETURN(manifest.epoch, WholeNumber(json.at("epoch"), "epoch"));
    P2_ASSIGN_OR_RETURN(manifest.attempt, WholeNumber<int>(json.at("attempt"), "attempt"));
    json.at("ema_profiles").get_to(manifest.ema_profiles);
    for (const Json& file : json.at("files")) {
      P2_ASSIGN_OR_RETURN(const int64_t size_bytes, WholeNumber(file.at("size_bytes"), "size_bytes"));
      FileEntry entry{file.at("path"), size_bytes, file.at("sha256")};
      if (!IsPlainName(entry.path)) return absl::DataLossError(absl::StrCat("it names the file \"", entry.path, "\""));
      manifest.files.push_back(std::move(entry));
    }
    return manifest;
  } catch (const Json::exception& e) {
    return absl::DataLossError(e.what());
  }
}

// Whether only the number makes it one of another version.
bool IsOfThisVersionButForTheNumber(Json json) {
  json["version"] = kFormatVersion;
  const absl::StatusOr<Manifest> manifest = FromJson(json);
  return manifest.ok() && ManifestToJson(*manifest) == json.dump(2);
}

}  // namespace

absl::StatusOr<Manifest> ManifestFromJson(absl::string_view text) {
  try {
    const Json json = Json::parse(text.begin(), text.end());
    if (json.at("format") != kFormat) return absl::DataLossError("its format is not p2-checkpoint");
    P2_ASSIGN_OR_RETURN(const int64_t version, WholeNumber(json.at("version"), "version"));
    if (version <= kFormatVersion) return FromJson(json);
    if (IsOfThisVersionButForTheNumber(json)) {
      return absl::DataLossError(
          absl::StrCat("its version is ", version, ", and all else in it is of version ", kFormatVersion));
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "format version ", version, " is newer than this p2, which knows ", kFormatVersion, "; upgrade p2"));
  } catch (const Json::exception& e) {
    return absl::DataLossError(e.what());
  }
}

std::string DirectoryName(int64_t images_seen, int64_t epoch) {
  return absl::StrFormat("%012d-e%d", images_seen, epoch);
}

bool ParseDirectoryName(absl::string_view name, int64_t* images_seen, int64_t* epoch) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(name, absl::MaxSplits("-e", 1));
  return parts.first.size() >= 12 && absl::SimpleAtoi(parts.first, images_seen) &&
         absl::SimpleAtoi(parts.second, epoch) && DirectoryName(*images_seen, *epoch) == name;
}

}  // namespace p2::checkpoint

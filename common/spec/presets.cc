#include "common/spec/presets.h"

#include <algorithm>
#include <optional>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error_reason.h"
#include "common/spec/nearest_name.h"
#include "common/spec/presets_embedded.h"
#include "common/spec/scalar_text.h"
#include "common/spec/yaml_text.h"

namespace p2::spec {
namespace {

// The text of a top-level key; nullopt if `yaml` is no map, empty if the key is missing or no text.
std::optional<std::string> TopLevelText(absl::string_view yaml, const std::string& key) {
  YAML::Node root;
  if (ParseYaml(yaml, root) || !root.IsMap()) return std::nullopt;
  for (const auto& entry : root) {
    if (entry.first.IsScalar() && entry.first.Scalar() == key)
      return entry.second.IsScalar() ? entry.second.Scalar() : "";
  }
  return "";
}

// `; those that begin so: ffhq-baseline, ffhq-gamma1`, at most five; empty if none does.
std::string BeginningWith(absl::string_view name, const std::vector<std::string>& known) {
  constexpr size_t kMost = 5;
  std::vector<absl::string_view> names;
  for (const std::string& candidate : known) {
    if (!name.empty() && absl::StartsWith(candidate, name)) names.push_back(candidate);
  }
  if (names.empty()) return "";
  const bool more = names.size() > kMost;
  names.resize(std::min(names.size(), kMost));
  return absl::StrCat("; those that begin so: ", absl::StrJoin(names, ", "), more ? ", …" : "");
}

}  // namespace

std::string ExtendsOf(absl::string_view yaml) { return TopLevelText(yaml, "extends").value_or(""); }

const PresetCatalog& PresetCatalog::BuiltIn() {
  static const PresetCatalog* const catalog = new PresetCatalog(FromFiles(EmbeddedPresets()).value());
  return *catalog;
}

absl::StatusOr<PresetCatalog> PresetCatalog::FromFiles(const std::map<std::string, std::string>& files) {
  PresetCatalog catalog;
  for (const auto& [name, yaml] : files) {
    const std::optional<std::string> description = TopLevelText(yaml, "description");
    if (!description) return absl::InvalidArgumentError(absl::StrCat("preset \"", name, "\" is no YAML map of fields"));
    std::string extends = ExtendsOf(yaml);
    if (extends.empty() && name != kBasePreset) extends = kBasePreset;
    catalog.presets_[name] = {name, *description, std::move(extends), yaml};
  }
  if (!catalog.presets_.contains(kBasePreset)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the preset \"", kBasePreset, "\", which holds every default, is missing"));
  }
  for (const auto& [name, preset] : catalog.presets_) {
    std::vector<std::string> path;
    std::set<std::string> seen;
    for (const Preset* at = &preset;;) {
      path.push_back(at->name);
      if (!seen.insert(at->name).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("preset \"", name, "\" extends itself: ", absl::StrJoin(path, " -> ")));
      }
      if (at->extends.empty()) break;
      const absl::StatusOr<const Preset*> parent = catalog.Find(at->extends);
      if (!parent.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("preset \"", at->name, "\" extends a missing one: ", parent.status().message()));
      }
      at = *parent;
    }
  }
  return catalog;
}

std::vector<const Preset*> PresetCatalog::List() const {
  std::vector<const Preset*> list;
  for (const auto& [name, preset] : presets_) {
    if (name != kBasePreset) list.push_back(&preset);
  }
  return list;
}

absl::StatusOr<const Preset*> PresetCatalog::Find(absl::string_view name) const {
  const auto it = presets_.find(std::string(name));
  if (it != presets_.end()) return &it->second;
  std::vector<std::string> known;
  for (const auto& [known_name, preset] : presets_) known.push_back(known_name);
  std::string hint = BeginningWith(name, known);
  if (hint.empty()) hint = DidYouMean(name, known);
  return Error(ErrorReason::kPresetNotFound,
               absl::StrCat("preset ", Quoted(name), " not found", hint, " (`p2ctl preset list` shows all)"));
}

absl::StatusOr<std::vector<const Preset*>> PresetCatalog::Chain(absl::string_view name) const {
  std::vector<const Preset*> chain;
  for (std::string at(name); !at.empty(); at = chain.back()->extends) {
    const absl::StatusOr<const Preset*> preset = Find(at);
    if (!preset.ok()) return preset.status();
    chain.push_back(*preset);
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

}  // namespace p2::spec

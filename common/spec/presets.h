// Named specs: YAML files that extend one another down to `base`, which holds every default.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::spec {

inline constexpr char kBasePreset[] = "base";

struct Preset {
  std::string name;         // "ffhq-gamma0.5"
  std::string description;  // one line, its own
  std::string extends;      // the parent's name; empty for `base` alone
  std::string yaml;         // the file's text
};

// Immutable; thread-safe.
class PresetCatalog {
 public:
  // The presets of configs/presets/, compiled into the program. Never destroyed.
  static const PresetCatalog& BuiltIn();

  // From file texts by name (without ".yaml"). INVALID_ARGUMENT if one is no YAML map, extends itself over any number
  // of steps or a preset that is missing (a preset without `extends:` extends base), or if base is missing.
  static absl::StatusOr<PresetCatalog> FromFiles(const std::map<std::string, std::string>& files);

  // By name, all but `base`, which cannot be trained as it is.
  std::vector<const Preset*> List() const;

  // NOT_FOUND with the nearest name.
  absl::StatusOr<const Preset*> Find(absl::string_view name) const;

  // The preset and what it extends, `base` first. NOT_FOUND as Find.
  absl::StatusOr<std::vector<const Preset*>> Chain(absl::string_view name) const;

 private:
  std::map<std::string, Preset> presets_;
};

// The top-level `extends:` of a spec file; empty if there is none or the text is no YAML map (MergeYaml tells).
std::string ExtendsOf(absl::string_view yaml);

}  // namespace p2::spec

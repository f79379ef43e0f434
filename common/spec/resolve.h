// Layers of configuration into one spec: base < preset chain < spec file < overrides in order.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/spec/presets.h"
#include "common/spec/yaml_to_proto.h"
#include "p2/v1/training_spec.pb.h"

namespace p2::spec {

// One value laid over all files.
struct Override {
  std::string path;              // "training.batch"
  std::string value;             // YAML: "16", "[16, 8]", "null"
  std::string origin = "--set";  // shown as the value's origin; the named flag ("--dataset") if there is one
};

// "path=value". INVALID_ARGUMENT without '=' or with an empty path.
absl::StatusOr<Override> ParseOverride(absl::string_view assignment);

struct ResolveRequest {
  std::string preset;                   // Name; empty: base, or what the file extends.
  std::string file_yaml;                // Text of a spec file; may be empty.
  std::string file_name = "spec.yaml";  // For origins and messages.
  std::vector<Override> overrides;      // Later ones win.
  bool require_dataset = true;          // False to show a preset that names no dataset.
};

struct ResolvedSpec {
  p2::v1::TrainingSpec spec;          // every field that has a default is set
  Origins origins;                    // leaf path -> "preset ffhq-gamma0.5", "my.yaml:12", "--set", "derived from …"
  std::vector<std::string> warnings;  // allowed but unusual
  std::string sha256;                 // SpecSha256(spec)
};

// Resolves and validates. INVALID_ARGUMENT (SpecError) with every violation of every layer and every rule of
// validate.h at once, each with its origin; NOT_FOUND for an unknown preset, with the nearest name. Thread-safe.
absl::StatusOr<ResolvedSpec> Resolve(const ResolveRequest& request,
                                     const PresetCatalog& catalog = PresetCatalog::BuiltIn());

// SHA-256 of the deterministic serialization, lower-case hex: equal specs have equal hashes.
std::string SpecSha256(const p2::v1::TrainingSpec& spec);

}  // namespace p2::spec

#include "common/spec/resolve.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/error_reason.h"
#include "common/sha256.h"
#include "common/spec/proto_bytes.h"
#include "common/spec/unet_shape.h"
#include "common/spec/validate.h"
#include "common/status_macros.h"

namespace p2::spec {
namespace {

using p2::v1::EmaSpec;
using p2::v1::TrainingSpec;

// The shortest text that reads back as `value`, without an exponent.
std::string ShortestText(double value) {
  char buffer[512];
  const std::to_chars_result result = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
  return result.ec == std::errc() ? std::string(buffer, result.ptr) : "";
}

// Values that follow from others and are written out so that the stored spec is whole.
void Derive(TrainingSpec& spec, Origins& origins) {
  if (spec.model().channel_mult().empty()) {
    const std::vector<double> mult = PublishedChannelMult(spec.model().image_size());
    spec.mutable_model()->mutable_channel_mult()->Assign(mult.begin(), mult.end());
    if (!mult.empty()) origins["model.channel_mult"] = "derived from model.image_size";
  }
  p2::v1::TrainingOptions& training = *spec.mutable_training();
  if (training.reduction() == p2::v1::TrainingOptions::EXACT) {
    if (training.shards() == 0) {
      int shards = 8;
      while (training.batch() % shards != 0) shards /= 2;
      training.set_shards(shards);
      origins["training.shards"] = "derived from training.batch";
    }
    if (spec.resources().threads() == 0 && spec.resources().kind() != "cuda") {
      spec.mutable_resources()->set_threads(1);  // Threads decide bits: they cannot be the machine's.
      origins["resources.threads"] = "derived from training.reduction";
    }
  }
  if (training.bitwise() == p2::v1::TrainingOptions::REQUIRED && spec.resources().threads() == 0 &&
      spec.resources().kind() != "cuda") {
    spec.mutable_resources()->set_threads(1);
    origins["resources.threads"] = "derived from training.bitwise";
  }
  for (int i = 0; i < spec.ema_size(); ++i) {
    EmaSpec& ema = *spec.mutable_ema(i);
    if (!ema.name().empty()) continue;
    const char* from = "half_life_images";
    if (ema.has_rate()) {
      ema.set_name(ShortestText(ema.rate()));
      from = "rate";
    } else if (ema.has_sigma_rel()) {
      ema.set_name(absl::StrCat("s", ShortestText(ema.sigma_rel())));
      from = "sigma_rel";
    } else {
      ema.set_name(absl::StrCat("h", ShortestText(ema.half_life_images())));
    }
    origins[absl::StrCat("ema.", i, ".name")] = absl::StrCat("derived from ", from);
  }
}

// The origin of a field, or of the nearest one above it that has one.
std::string OriginOf(std::string field, const Origins& origins) {
  while (true) {
    if (const auto it = origins.find(field); it != origins.end()) return it->second;
    const size_t dot = field.rfind('.');
    if (dot == std::string::npos) return "";
    field.resize(dot);
  }
}

// Nobody set the number, and no default stands for it: the 0 that was judged is no value of anybody's.
void SayMissing(FieldViolation& violation) {
  if (violation.origin.empty() && absl::StartsWith(violation.description, "is 0;")) {
    violation.description.replace(0, 4, "is missing");
  }
}

// The file's lines from the first to the last, then what came from elsewhere, as it came.
void SortByLine(const std::string& file, std::vector<FieldViolation>& violations) {
  const auto line = [&file](const FieldViolation& violation) {
    absl::string_view origin = violation.origin;
    int number = 0;
    if (!absl::ConsumePrefix(&origin, file)) return INT_MAX;
    if (origin.empty()) return 0;  // The text as a whole.
    return absl::ConsumePrefix(&origin, ":") && absl::SimpleAtoi(origin, &number) ? number : INT_MAX;
  };
  std::stable_sort(violations.begin(), violations.end(),
                   [&line](const FieldViolation& a, const FieldViolation& b) { return line(a) < line(b); });
}

}  // namespace

absl::StatusOr<Override> ParseOverride(absl::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"", absl::Utf8SafeCEscape(assignment.substr(0, 80)),
                                                   "\" sets nothing: write path=value, such as training.batch=16"));
  }
  return Override{std::string(assignment.substr(0, equals)), std::string(assignment.substr(equals + 1))};
}

absl::StatusOr<ResolvedSpec> Resolve(const ResolveRequest& request, const PresetCatalog& catalog) {
  const std::string extends = ExtendsOf(request.file_yaml);
  const std::string file = absl::Utf8SafeCEscape(request.file_name);
  if (!request.preset.empty() && !extends.empty()) {
    return SpecError({{"extends",
                       absl::StrCat("is \"", extends, "\", but the preset \"", request.preset,
                                    "\" was asked for too; keep one of them"),
                       file}});
  }
  const std::string parent = !request.preset.empty() ? request.preset : !extends.empty() ? extends : kBasePreset;
  absl::StatusOr<std::vector<const Preset*>> found = catalog.Chain(parent);
  if (!found.ok() && !extends.empty()) {
    return Error(ErrorReason::kPresetNotFound, absl::StrCat(file, ": extends: ", found.status().message()));
  }
  P2_ASSIGN_OR_RETURN(const std::vector<const Preset*> chain, std::move(found));

  ResolvedSpec resolved;
  std::vector<FieldViolation> violations;
  TrainingSpec base;
  for (const Preset* preset : chain) {
    MergeYaml({.text = preset->yaml,
               .label = absl::StrCat("preset ", preset->name),
               .label_lines = false,
               .ignored_keys = {"extends"},
               .defaults = preset->name == kBasePreset ? nullptr : &base},
              resolved.spec, resolved.origins, violations);
    if (preset->name == kBasePreset) base = resolved.spec;
  }
  if (request.preset.empty() && parent == kBasePreset) {
    resolved.spec.clear_description();  // Base describes itself, not what a file makes of it.
    resolved.origins.erase("description");
  }
  const int preset_batch = resolved.spec.training().batch();
  MergeYaml({.text = request.file_yaml, .label = file, .ignored_keys = {"extends"}, .defaults = &base}, resolved.spec,
            resolved.origins, violations);
  for (const Override& o : request.overrides) {
    MergeAssignment(o.path, o.value, o.origin, &base, resolved.spec, resolved.origins, violations);
  }
  Derive(resolved.spec, resolved.origins);

  // A value that could not be read is not judged a second time; nor is anything when a whole text ("") could not.
  std::set<std::string> unread;
  for (const FieldViolation& violation : violations) unread.insert(violation.field);
  for (FieldViolation& violation : ValidateSpec(resolved.spec, request.require_dataset)) {
    if (unread.contains(violation.field) || unread.contains("")) continue;
    violation.origin = OriginOf(violation.field, resolved.origins);
    SayMissing(violation);
    violations.push_back(std::move(violation));
  }
  SortByLine(file, violations);
  P2_RETURN_IF_ERROR(SpecError(violations));
  resolved.warnings = SpecWarnings(resolved.spec);
  if (const int batch = resolved.spec.training().batch(); preset_batch == kPaperBatch && batch != preset_batch) {
    resolved.warnings.push_back(absl::StrCat("training.batch is ", batch, ": not the paper's recipe (batch ",
                                             preset_batch,
                                             "); training.learning_rate_rule scales the learning rate with it"));
  }
  resolved.sha256 = SpecSha256(resolved.spec);
  return resolved;
}

std::string SpecSha256(const TrainingSpec& spec) { return Sha256Hex(DeterministicBytes(spec)); }

}  // namespace p2::spec

#include "server/rpc/preset_service.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/spec/estimate.h"
#include "common/spec/resolve.h"
#include "common/status_macros.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

// `presets/NAME` -> "NAME". Any name passes: an unknown one is NOT_FOUND, with the nearest.
absl::StatusOr<std::string> PresetId(const std::string& name) {
  const absl::string_view prefix = "presets/";
  if (absl::StartsWith(name, prefix) && name.size() > prefix.size()) return name.substr(prefix.size());
  return BadRequestError({{"name", absl::StrCat("\"", name, "\" is not of the form `presets/{preset}`")}});
}

}  // namespace

absl::StatusOr<p2::v1::Preset> PresetService::Show(const spec::Preset& preset) const {
  P2_ASSIGN_OR_RETURN(spec::ResolvedSpec resolved,
                      spec::Resolve({.preset = preset.name, .require_dataset = false}, catalog_));
  p2::v1::Preset message;
  message.set_name(ResourceName(kPresets, preset.name));
  message.set_description(preset.description);
  message.set_extends(preset.extends);
  message.set_yaml(preset.yaml);
  message.mutable_spec()->Swap(&resolved.spec);
  message.mutable_origins()->insert(resolved.origins.begin(), resolved.origins.end());
  return message;
}

absl::StatusOr<p2::v1::ListPresetsResponse> PresetService::List(const p2::v1::ListPresetsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 100));
  P2_ASSIGN_OR_RETURN(const std::string after, DecodePageToken("presets", request.page_token()));
  p2::v1::ListPresetsResponse response;
  for (const spec::Preset* preset : catalog_.List()) {
    if (!after.empty() && preset->name <= after) continue;
    if (response.presets_size() == page_size) {
      const std::string& last = response.presets(page_size - 1).name();
      response.set_next_page_token(EncodePageToken("presets", last.substr(kPresets.size() + 1)));
      break;
    }
    P2_ASSIGN_OR_RETURN(*response.add_presets(), Show(*preset));
  }
  return response;
}

absl::StatusOr<p2::v1::ResolvePresetResponse> PresetService::Resolve(
    const p2::v1::ResolvePresetRequest& request) const {
  spec::ResolveRequest resolve;
  resolve.require_dataset = false;
  P2_ASSIGN_OR_RETURN(resolve.preset, PresetId(request.name()));
  std::vector<FieldViolation> violations;
  for (const std::string& text : request.overrides()) {
    absl::StatusOr<spec::Override> parsed = spec::ParseOverride(text);
    if (parsed.ok()) {
      resolve.overrides.push_back(*std::move(parsed));
    } else {
      violations.emplace_back("overrides", std::string(parsed.status().message()));
    }
  }
  P2_RETURN_IF_ERROR(BadRequestError(violations));
  for (const p2::v1::FlagOverride& flag : request.flags()) {
    resolve.overrides.push_back({.path = flag.path(), .value = flag.value(), .origin = flag.flag()});
  }
  P2_ASSIGN_OR_RETURN(spec::ResolvedSpec resolved, spec::Resolve(resolve, catalog_));
  p2::v1::ResolvePresetResponse response;
  P2_ASSIGN_OR_RETURN(*response.mutable_estimate(), spec::EstimateResources(resolved.spec));
  response.mutable_spec()->Swap(&resolved.spec);
  response.mutable_origins()->insert(resolved.origins.begin(), resolved.origins.end());
  for (std::string& warning : resolved.warnings) response.add_warnings(std::move(warning));
  response.set_spec_sha256(resolved.sha256);
  return response;
}

grpc::ServerUnaryReactor* PresetService::ListPresets(grpc::CallbackServerContext* call,
                                                     const p2::v1::ListPresetsRequest* request,
                                                     p2::v1::ListPresetsResponse* response) {
  return Reply(call, response, List(*request));
}

grpc::ServerUnaryReactor* PresetService::GetPreset(grpc::CallbackServerContext* call,
                                                   const p2::v1::GetPresetRequest* request, p2::v1::Preset* response) {
  const auto get = [&]() -> absl::StatusOr<p2::v1::Preset> {
    P2_ASSIGN_OR_RETURN(const std::string id, PresetId(request->name()));
    P2_ASSIGN_OR_RETURN(const spec::Preset* preset, catalog_.Find(id));
    return Show(*preset);
  };
  return Reply(call, response, get());
}

grpc::ServerUnaryReactor* PresetService::ResolvePreset(grpc::CallbackServerContext* call,
                                                       const p2::v1::ResolvePresetRequest* request,
                                                       p2::v1::ResolvePresetResponse* response) {
  return Reply(call, response, Resolve(*request));
}

}  // namespace p2::rpc

#pragma once

#include "common/spec/presets.h"
#include "p2/v1/preset_service.grpc.pb.h"

namespace p2::rpc {

// Thread-safe.
class PresetService final : public p2::v1::PresetService::CallbackService {
 public:
  // `catalog` must outlive the service.
  explicit PresetService(const spec::PresetCatalog& catalog) : catalog_(catalog) {}

  grpc::ServerUnaryReactor* ListPresets(grpc::CallbackServerContext* call, const p2::v1::ListPresetsRequest* request,
                                        p2::v1::ListPresetsResponse* response) override;
  grpc::ServerUnaryReactor* GetPreset(grpc::CallbackServerContext* call, const p2::v1::GetPresetRequest* request,
                                      p2::v1::Preset* response) override;
  grpc::ServerUnaryReactor* ResolvePreset(grpc::CallbackServerContext* call,
                                          const p2::v1::ResolvePresetRequest* request,
                                          p2::v1::ResolvePresetResponse* response) override;

 private:
  absl::StatusOr<p2::v1::ListPresetsResponse> List(const p2::v1::ListPresetsRequest& request) const;
  absl::StatusOr<p2::v1::ResolvePresetResponse> Resolve(const p2::v1::ResolvePresetRequest& request) const;
  absl::StatusOr<p2::v1::Preset> Show(const spec::Preset& preset) const;

  const spec::PresetCatalog& catalog_;
};

}  // namespace p2::rpc

// PresetService, DatasetService, CheckpointService, ArtifactService, ClusterService and AdminService.
#include <string>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "p2/v1/admin_service.grpc.pb.h"
#include "p2/v1/artifact_service.grpc.pb.h"
#include "p2/v1/checkpoint_service.grpc.pb.h"
#include "p2/v1/cluster_service.grpc.pb.h"
#include "p2/v1/dataset_service.grpc.pb.h"
#include "p2/v1/preset_service.grpc.pb.h"
#include "tests/client/fake_server_impl.h"

namespace p2::testing {
namespace {

using grpc::ServerContext;
using grpc::ServerWriter;
using Step = FakeServer::Impl::Step;

struct PresetFake final : v1::PresetService::Service {
  explicit PresetFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListPresets(ServerContext*, const v1::ListPresetsRequest*, v1::ListPresetsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Preset& preset : s.presets) *response->add_presets() = preset;
      return grpc::Status::OK;
    });
  }
  grpc::Status GetPreset(ServerContext*, const v1::GetPresetRequest* request, v1::Preset* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Preset& preset : s.presets) {
        if (preset.name() == request->name()) *response = preset;
      }
      return response->name().empty() ? NotFound("Preset", request->name()) : grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct DatasetFake final : v1::DatasetService::Service {
  explicit DatasetFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status RegisterDataset(ServerContext*, const v1::RegisterDatasetRequest* request,
                               v1::Dataset* response) override {
    return impl.Unary([&](FakeState& s) {
      s.datasets[request->dataset().name()] = *response = request->dataset();
      return grpc::Status::OK;
    });
  }
  grpc::Status ListDatasets(ServerContext*, const v1::ListDatasetsRequest*,
                            v1::ListDatasetsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const auto& [name, dataset] : s.datasets) *response->add_datasets() = dataset;
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct CheckpointFake final : v1::CheckpointService::Service {
  explicit CheckpointFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListCheckpoints(ServerContext*, const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Checkpoint& checkpoint : s.checkpoints[request->parent()])
        *response->add_checkpoints() = checkpoint;
      return grpc::Status::OK;
    });
  }
  grpc::Status PinCheckpoint(ServerContext*, const v1::PinCheckpointRequest* request,
                             v1::Checkpoint* response) override {
    return impl.Unary([&](FakeState& s) {
      for (auto& [job, checkpoints] : s.checkpoints) {
        for (v1::Checkpoint& checkpoint : checkpoints) {
          if (checkpoint.name() != request->name()) continue;
          checkpoint.set_pinned(request->pinned());
          checkpoint.set_pin_note(request->note());
          *response = checkpoint;
          return grpc::Status::OK;
        }
      }
      return NotFound("Checkpoint", request->name());
    });
  }
  grpc::Status DeleteCheckpoint(ServerContext*, const v1::DeleteCheckpointRequest* request,
                                v1::DeleteCheckpointResponse*) override {
    return impl.Unary([&](FakeState& s) {
      for (auto& [job, checkpoints] : s.checkpoints) {
        for (auto checkpoint = checkpoints.begin(); checkpoint != checkpoints.end(); ++checkpoint) {
          if (checkpoint->name() != request->name()) continue;
          if (checkpoint->pinned()) return ToGrpcStatus(Error(ErrorReason::kCheckpointInUse, "it is pinned"));
          checkpoints.erase(checkpoint);
          return grpc::Status::OK;
        }
      }
      return NotFound("Checkpoint", request->name());
    });
  }
  grpc::Status CollectCheckpoints(ServerContext*, const v1::CollectCheckpointsRequest* request,
                                  v1::CollectCheckpointsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      s.last_collect = *request;
      *response = s.verdicts;
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct ArtifactFake final : v1::ArtifactService::Service {
  explicit ArtifactFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListArtifacts(ServerContext*, const v1::ListArtifactsRequest* request,
                             v1::ListArtifactsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const auto& [name, artifact] : s.artifacts) {
        const bool kind = request->kind().empty() || request->kind() == artifact.first.kind();
        if (kind && absl::StartsWith(name, request->parent() + "/")) *response->add_artifacts() = artifact.first;
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status GetArtifact(ServerContext*, const v1::GetArtifactRequest* request,
                           ServerWriter<v1::GetArtifactResponse>* writer) override {
    return impl.Unary([&](FakeState& s) {
      const auto found = s.artifacts.find(request->name());
      if (found == s.artifacts.end()) return NotFound("Artifact", request->name());
      v1::GetArtifactResponse first;
      *first.mutable_artifact() = found->second.first;
      writer->Write(first);
      constexpr size_t kChunk = 5;
      for (size_t at = 0; at < found->second.second.size(); at += kChunk) {
        v1::GetArtifactResponse chunk;
        chunk.set_data(found->second.second.substr(at, kChunk));
        writer->Write(chunk);
      }
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct ClusterFake final : v1::ClusterService::Service {
  explicit ClusterFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListWorkers(ServerContext*, const v1::ListWorkersRequest*, v1::ListWorkersResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Worker& worker : s.workers) *response->add_workers() = worker;
      return grpc::Status::OK;
    });
  }
  grpc::Status ListRoots(ServerContext*, const v1::ListRootsRequest*, v1::ListRootsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::StorageRoot& root : s.roots) *response->add_roots() = root;
      return grpc::Status::OK;
    });
  }
  grpc::Status CordonWorker(ServerContext*, const v1::CordonWorkerRequest* request, v1::Worker* response) override {
    return impl.Unary([&](FakeState& s) {
      for (v1::Worker& worker : s.workers) {
        if (worker.name() != request->name()) continue;
        worker.set_cordoned(true);
        worker.set_cordon_reason(request->reason());
        *response = worker;
        return grpc::Status::OK;
      }
      return NotFound("Worker", request->name());
    });
  }
  grpc::Status DrainWorker(ServerContext*, const v1::DrainWorkerRequest* request, v1::Worker* response) override {
    return impl.Unary([&](FakeState& s) {
      s.last_drain = *request;
      response->set_name(request->name());
      response->set_draining(true);
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct AdminFake final : v1::AdminService::Service {
  explicit AdminFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status GetStatus(ServerContext*, const v1::GetStatusRequest*, v1::Status* response) override {
    return impl.Unary([&](FakeState& s) {
      *response = s.status;
      return grpc::Status::OK;
    });
  }
  grpc::Status CreateBackup(ServerContext* context, const v1::CreateBackupRequest* request,
                            v1::Backup* response) override {
    return impl.Unary([&](FakeState& s) {
      s.request_ids.push_back(request->request_id());
      s.admin_patience = absl::FromChrono(context->deadline()) - absl::Now();
      *response = s.backup;
      return grpc::Status::OK;
    });
  }
  grpc::Status CheckStore(ServerContext* context, const v1::CheckStoreRequest*,
                          v1::CheckStoreResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      s.admin_patience = absl::FromChrono(context->deadline()) - absl::Now();
      *response = s.check;
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

}  // namespace

void AddCatalogServices(FakeServer::Impl& impl, Services& services) {
  services.push_back(std::make_unique<PresetFake>(impl));
  services.push_back(std::make_unique<DatasetFake>(impl));
  services.push_back(std::make_unique<CheckpointFake>(impl));
  services.push_back(std::make_unique<ArtifactFake>(impl));
  services.push_back(std::make_unique<ClusterFake>(impl));
  services.push_back(std::make_unique<AdminFake>(impl));
}

}  // namespace p2::testing

#include "server/rpc/job_admission.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/sha256.h"
#include "common/spec/estimate.h"
#include "common/spec/nearest_name.h"
#include "common/spec/proto_bytes.h"
#include "common/spec/resolve.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

spec::ResolveRequest ToResolveRequest(const p2::v1::CreateJobRequest& request,
                                      std::vector<FieldViolation>& violations) {
  spec::ResolveRequest resolve;
  resolve.preset = request.preset();
  resolve.file_yaml = request.spec_yaml();
  if (!request.spec_file_name().empty()) resolve.file_name = request.spec_file_name();
  for (const std::string& text : request.overrides()) {
    absl::StatusOr<spec::Override> parsed = spec::ParseOverride(text);
    if (parsed.ok()) {
      resolve.overrides.push_back(*std::move(parsed));
    } else {
      violations.emplace_back("overrides", std::string(parsed.status().message()));
    }
  }
  for (const p2::v1::FlagOverride& flag : request.flags()) {
    resolve.overrides.push_back({.path = flag.path(), .value = flag.value(), .origin = flag.flag()});
  }
  return resolve;
}

absl::StatusOr<scheduler::DatasetPtr> FindDataset(const std::string& id,
                                                  const std::vector<scheduler::DatasetPtr>& datasets) {
  std::vector<std::string> names;
  for (const scheduler::DatasetPtr& dataset : datasets) {
    if (dataset->id == id) return dataset;
    names.push_back(dataset->id);
  }
  return ResourceNotFoundError(
      "Dataset", id,
      absl::StrCat("`p2ctl dataset list` shows them, `p2ctl dataset prepare` makes one", spec::DidYouMean(id, names)));
}

// A dataset or root that stands against the spec, as google.rpc.PreconditionFailure.
absl::Status Unfit(absl::string_view type, absl::string_view subject, absl::string_view what) {
  absl::Status status = absl::FailedPreconditionError(what);
  google::rpc::PreconditionFailure detail;
  google::rpc::PreconditionFailure::Violation* violation = detail.add_violations();
  violation->set_type(std::string(type));
  violation->set_subject(std::string(subject));
  violation->set_description(std::string(what));
  AddDetail(status, detail);
  return status;
}

absl::Status CheckDataset(const p2::v1::TrainingSpec& spec, const scheduler::DatasetRecord& dataset) {
  const std::string subject = ResourceName(kDatasets, dataset.id);
  if (dataset.resolution != spec.model().image_size()) {
    return Unfit(
        "RESOLUTION", subject,
        absl::StrCat("dataset ", dataset.id, " has images of ", dataset.resolution, " pixels, but model.image_size is ",
                     spec.model().image_size(), ": prepare it with --resolution ", spec.model().image_size(),
                     ", or take a preset for ", dataset.resolution));
  }
  if (dataset.channels != spec.model().in_channels()) {
    return Unfit("CHANNELS", subject,
                 absl::StrCat("dataset ", dataset.id, " has ", dataset.channels, " channels, but model.in_channels is ",
                              spec.model().in_channels(), ": set model.in_channels=", dataset.channels));
  }
  if (dataset.image_count < spec.training().batch()) {
    return Unfit(
        "IMAGE_COUNT", subject,
        absl::StrCat("dataset ", dataset.id, " has ", dataset.image_count, " images, fewer than training.batch (",
                     spec.training().batch(), "): take a smaller batch, or add images"));
  }
  return absl::OkStatus();
}

// The UUID of root `name`, as a worker reported it. FAILED_PRECONDITION if none ever did.
absl::StatusOr<std::string> FindRoot(const std::string& name, const std::string& id,
                                     const std::vector<scheduler::WorkerPtr>& workers) {
  for (const scheduler::WorkerPtr& worker : workers) {
    for (const scheduler::RootRecord& root : worker->roots) {
      if (id.empty() ? root.name == name : root.id == id) return root.id;
    }
  }
  return Unfit(
      "ROOT_NOT_VISIBLE", name,
      absl::StrCat("no worker has ever reported the storage root \"", name, "\"", id.empty() ? "" : " with ID ", id,
                   ": start a p2-worker with --root ", name, "=DIR (`p2ctl root list` shows the roots)"));
}

std::string IdPrefix(const p2::v1::CreateJobRequest& request, const p2::v1::TrainingSpec& spec) {
  if (!request.name_prefix().empty()) return request.name_prefix();
  if (!request.preset().empty()) return absl::StrReplaceAll(request.preset(), {{".", "-"}, {"_", "-"}});
  return spec.name().empty() ? "job" : spec.name();
}

scheduler::JobNeeds ToNeeds(const p2::v1::TrainingSpec& spec, const scheduler::DatasetRecord& dataset,
                            std::string checkpoint_root_id) {
  return {.devices = spec.resources().devices(),
          .kind = spec.resources().kind(),
          .dataset = dataset.id,
          .dataset_root = dataset.root,
          .dataset_root_id = dataset.root_id,
          .dataset_path = dataset.path,
          .dataset_fingerprint = dataset.fingerprint,
          .checkpoint_root = spec.checkpoint().root(),
          .checkpoint_root_id = std::move(checkpoint_root_id),
          .keep_last = spec.checkpoint().keep_last(),
          .restart_budget = spec.restart().budget(),
          .backoff_initial = ToDuration(spec.restart().backoff_initial()),
          .backoff_max = ToDuration(spec.restart().backoff_max()),
          .stop_deadline = ToDuration(spec.deadlines().stop()),
          .images_total = spec.training().images()};
}

}  // namespace

absl::StatusOr<Admission> Admit(const p2::v1::CreateJobRequest& request,
                                const std::vector<scheduler::DatasetPtr>& datasets,
                                const std::vector<scheduler::WorkerPtr>& workers) {
  P2_RETURN_IF_ERROR(ValidateCreateJob(request));
  std::vector<FieldViolation> violations;
  const spec::ResolveRequest resolve = ToResolveRequest(request, violations);
  P2_RETURN_IF_ERROR(BadRequestError(violations));
  P2_ASSIGN_OR_RETURN(spec::ResolvedSpec resolved, spec::Resolve(resolve));
  P2_ASSIGN_OR_RETURN(const scheduler::DatasetPtr dataset, FindDataset(resolved.spec.data().dataset(), datasets));
  P2_RETURN_IF_ERROR(CheckDataset(resolved.spec, *dataset));
  P2_RETURN_IF_ERROR(FindRoot(dataset->root, dataset->root_id, workers).status());
  std::string checkpoint_root_id = dataset->root_id;
  p2::v1::CheckpointSpec& checkpoint = *resolved.spec.mutable_checkpoint();
  if (checkpoint.root().empty()) {
    checkpoint.set_root(dataset->root);
    resolved.origins["checkpoint.root"] = absl::StrCat("dataset ", dataset->id);
  } else if (checkpoint.root() != dataset->root) {
    P2_ASSIGN_OR_RETURN(checkpoint_root_id, FindRoot(checkpoint.root(), "", workers));
  }

  Admission admission;
  P2_ASSIGN_OR_RETURN(*admission.answer.mutable_estimate(), spec::EstimateResources(resolved.spec));
  for (std::string& warning : resolved.warnings) admission.answer.add_warnings(std::move(warning));
  scheduler::CreateJob& command = admission.command;
  command.id = IdPrefix(request, resolved.spec);
  command.needs = ToNeeds(resolved.spec, *dataset, std::move(checkpoint_root_id));
  command.preset = request.preset();
  command.spec_bytes = spec::DeterministicBytes(resolved.spec);
  command.spec_sha256 = Sha256Hex(command.spec_bytes);
  command.origins_bytes = OriginsBytes(resolved.origins);
  command.origins_sha256 = Sha256Hex(command.origins_bytes);
  command.labels = {request.labels().begin(), request.labels().end()};
  command.owner = request.owner();
  command.project = "default";
  command.paused = request.paused();

  p2::v1::Job& job = *admission.answer.mutable_job();
  job.mutable_spec()->Swap(&resolved.spec);
  job.set_preset(request.preset());
  job.mutable_spec_origins()->insert(resolved.origins.begin(), resolved.origins.end());
  job.set_spec_sha256(command.spec_sha256);
  job.mutable_labels()->insert(command.labels.begin(), command.labels.end());
  job.set_owner(command.owner);
  return admission;
}

}  // namespace p2::rpc

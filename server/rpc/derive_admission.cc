#include "server/rpc/derive_admission.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error_reason.h"
#include "common/resource_name.h"
#include "common/spec/proto_bytes.h"
#include "common/spec/validate.h"
#include "common/status_macros.h"

namespace p2::rpc {
namespace {

using p2::v1::Lineage;

// What of `spec` differs from `source` though a checkpoint of it says what it is.
void CheckGoesOn(const p2::v1::TrainingSpec& source, const p2::v1::TrainingSpec& spec,
                 std::vector<spec::FieldViolation>& violations) {
  const auto fixed = [&](bool same, const char* field) {
    if (same) return;
    violations.push_back({field,
                          "is changed, but a run that goes on from a checkpoint keeps its model, data.dataset, "
                          "training.seed, training.batch and ema; for a new run with its weights: submit --init-from",
                          ""});
  };
  fixed(spec::DeterministicBytes(source.model()) == spec::DeterministicBytes(spec.model()), "model");
  fixed(source.data().dataset() == spec.data().dataset(), "data.dataset");
  fixed(source.training().seed() == spec.training().seed(), "training.seed");
  fixed(source.training().batch() == spec.training().batch(), "training.batch");
  bool averages = source.ema_size() == spec.ema_size();
  for (int i = 0; averages && i < spec.ema_size(); ++i)
    averages = spec::DeterministicBytes(source.ema(i)) == spec::DeterministicBytes(spec.ema(i));
  fixed(averages, "ema");
}

}  // namespace

void CheckDerived(const p2::v1::CreateJobRequest& request, std::vector<FieldViolation>& violations) {
  if (!request.has_derive_from()) return;
  const p2::v1::DeriveFrom& from = request.derive_from();
  if (from.kind() == Lineage::KIND_UNSPECIFIED || !Lineage::Kind_IsValid(from.kind()))
    violations.emplace_back("derive_from.kind", "is missing: FORK, CLONE or EXTEND");
  const bool job = ParseResourceName(kJobs, from.name()).ok();
  const bool checkpoint = ParseChildName(kCheckpoints, from.name()).ok();
  if (!job && (!checkpoint || from.kind() == Lineage::CLONE)) {
    violations.emplace_back(
        "derive_from.name",
        absl::StrCat("is \"", from.name(), "\"; must be jobs/{job}",
                     from.kind() == Lineage::CLONE ? "" : " or jobs/{job}/checkpoints/{checkpoint}"));
  }
  const char* beside = !request.preset().empty()      ? "preset"
                       : !request.spec_yaml().empty() ? "spec_yaml"
                       : request.has_task()           ? "task"
                       : !request.source().empty()    ? "source"
                                                      : nullptr;
  if (beside != nullptr) violations.emplace_back(beside, "is set beside derive_from, which brings the spec");
}

absl::StatusOr<DerivedSpec> DeriveSpec(const p2::v1::CreateJobRequest& request, const spec::ResolveRequest& overrides,
                                       FindSourceJob find) {
  const p2::v1::DeriveFrom& from = request.derive_from();
  const auto child = ParseChildName(kCheckpoints, from.name());
  const std::string job_name = child.ok() ? ResourceName(kJobs, child->first) : from.name();
  P2_ASSIGN_OR_RETURN(const SourceJob job, find(job_name));
  if (job.is_task) {
    return Error(ErrorReason::kJobStateForbids,
                 absl::StrCat("job \"", job.id, "\" does not train; only trainings are forked, cloned or extended"));
  }
  DerivedSpec derived;
  derived.lineage.kind = static_cast<scheduler::Lineage::Kind>(from.kind());
  derived.lineage.job = job.id;
  if (from.kind() == Lineage::EXTEND && !job.ended) {
    return Error(
        ErrorReason::kJobStateForbids,
        absl::StrCat("job \"", job.id, "\" has not ended; extend it then, or fork it now (`p2ctl fork ", job.id, "`)"));
  }
  if (from.kind() != Lineage::CLONE) {
    P2_ASSIGN_OR_RETURN(const scheduler::CheckpointPtr checkpoint,
                        FindCheckpoint(job, child.ok() ? child->second : ""));
    derived.lineage.checkpoint = checkpoint->id;
    derived.source = {checkpoint->root, checkpoint->root_id,     checkpoint->path, job.id,
                      checkpoint->id,   checkpoint->images_seen, /*is_run=*/true};
  }
  derived.resolved.spec = job.spec;
  const std::string origin = absl::StrCat("job ", job.id);
  for (const char* field : {"name", "description", "ema_snapshots", "data", "model", "diffusion", "objective",
                            "training", "ema", "checkpoint", "preview", "resources", "restart", "deadlines"}) {
    derived.resolved.origins[field] = origin;
  }
  std::vector<spec::FieldViolation> violations;
  for (const spec::Override& o : overrides.overrides)
    spec::MergeAssignment(o.path, o.value, o.origin, nullptr, derived.resolved.spec, derived.resolved.origins,
                          violations);
  const p2::v1::TrainingSpec& spec = derived.resolved.spec;
  for (spec::FieldViolation& violation : spec::ValidateSpec(spec, /*require_dataset=*/true))
    violations.push_back(std::move(violation));
  if (derived.source.is_run) {
    CheckGoesOn(job.spec, spec, violations);
    if (spec.training().images() <= derived.source.images_seen) {
      violations.push_back(
          {"training.images",
           absl::StrCat("is ", spec.training().images(), ", but checkpoint ", derived.source.checkpoint, " has seen ",
                        derived.source.images_seen, " already: set it higher"),
           ""});
    }
  }
  P2_RETURN_IF_ERROR(spec::SpecError(violations));
  derived.resolved.sha256 = spec::SpecSha256(spec);
  return derived;
}

}  // namespace p2::rpc

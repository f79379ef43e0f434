#include "server/rpc/task_admission.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/error_reason.h"
#include "common/resource_name.h"
#include "common/spec/power_ema.h"
#include "common/spec/reconstruction.h"
#include "common/spec/respacing.h"
#include "common/spec/task_name.h"
#include "common/spec/validate.h"
#include "common/status_macros.h"
#include "common/storage_layout.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

using p2::v1::TaskSpec;
using spec::TaskName;

constexpr int64_t kMaxSamples = 10'000'000;
constexpr int64_t kMaxGrid = 4096;  // One sheet; as worker/sampling.
// What a task may set of its source's spec: nothing that says what was trained.
constexpr std::array<absl::string_view, 4> kOwnFields = {"resources", "restart", "deadlines", "checkpoint.root"};

absl::Status NoCheckpoint(absl::string_view job, absl::string_view checkpoint) {
  return Error(
      ErrorReason::kCheckpointNotFound,
      checkpoint.empty()
          ? absl::StrCat("job \"", job, "\" has no checkpoint yet; they come every checkpoint.every_images images")
          : absl::StrCat("job \"", job, "\" has no good checkpoint \"", checkpoint, "\"; `p2ctl ckpt list ", job,
                         "` shows them"));
}

absl::StatusOr<ResolvedSource> FilesBelowRoot(const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (!IsDottedId(parts.first) || !IsPathBelowRoot(parts.second)) {
    return BadRequestError(
        {{"source", absl::StrCat("is \"", text,
                                 "\"; name a job (jobs/JOB), a checkpoint (jobs/JOB/checkpoints/ID), or ROOT:PATH with "
                                 "a path below the storage root, without . and ..")}});
  }
  ResolvedSource resolved;
  resolved.source.root = parts.first;
  resolved.source.path = parts.second;
  return resolved;
}

void CheckReconstruction(const p2::v1::SampleTask& sample, std::vector<FieldViolation>& violations) {
  const p2::v1::Reconstruction& reconstruct = sample.reconstruct();
  const int timesteps = reconstruct.snrs_size() + reconstruct.timesteps_size();
  if (timesteps == 0) {
    violations.emplace_back("task.sample.reconstruct", "says nothing of where to: give snrs or timesteps");
  } else if (sample.count() >= 1 && sample.count() <= kMaxSamples && sample.count() * (1 + timesteps) > kMaxGrid) {
    violations.emplace_back("task.sample.count",
                            absl::StrCat("is ", sample.count(), "; one sheet holds at most ", kMaxGrid, " cells, here ",
                                         kMaxGrid / (1 + timesteps), " images: take several tasks"));
  }
  if (sample.format() != p2::v1::SampleTask::FORMAT_UNSPECIFIED && sample.format() != p2::v1::SampleTask::PNG) {
    violations.emplace_back("task.sample.format", absl::StrCat("is ", p2::v1::SampleTask::Format_Name(sample.format()),
                                                               "; reconstructions are always written as PNGs and one "
                                                               "sheet: leave it out"));
  }
  if (reconstruct.dataset().empty()) return;
  if (const absl::Status name = ParseResourceName(kDatasets, reconstruct.dataset()).status(); !name.ok())
    violations.emplace_back("task.sample.reconstruct.dataset", std::string(name.message()));
}

void CheckSample(const p2::v1::SampleTask& sample, std::vector<FieldViolation>& violations) {
  if (sample.count() < 1 || sample.count() > kMaxSamples) {
    violations.emplace_back("task.sample.count",
                            absl::StrCat("is ", sample.count(), "; must be 1 to ", kMaxSamples, " images"));
  }
  if (sample.format() == p2::v1::SampleTask::GRID && sample.count() > kMaxGrid) {
    violations.emplace_back("task.sample.count", absl::StrCat("is ", sample.count(), "; one sheet holds at most ",
                                                              kMaxGrid, " images: take format NPZ or PNG"));
  }
  if (sample.has_ddim_eta() && !(sample.ddim_eta() >= 0 && sample.ddim_eta() <= 1)) {
    violations.emplace_back("task.sample.ddim_eta", absl::StrCat("is ", sample.ddim_eta(), "; must be 0 to 1"));
  }
  if (sample.raw() && !sample.ema().empty()) {
    violations.emplace_back("task.sample.ema", absl::StrCat("is \"", sample.ema(), "\" beside raw; give one of them"));
  }
  if (sample.has_reconstruct()) CheckReconstruction(sample, violations);
}

void CheckExport(const p2::v1::ExportTask& task, std::vector<FieldViolation>& violations) {
  if (task.format() == p2::v1::ExportTask::FORMAT_UNSPECIFIED) {
    violations.emplace_back("task.export.format", "is missing: PT, SAFETENSORS or DIFFUSERS");
  }
  if (task.raw() && !task.ema().empty()) {
    violations.emplace_back("task.export.ema", absl::StrCat("is \"", task.ema(), "\" beside raw; give one of them"));
  }
}

// The spaced timesteps that a reconstruction begins at. INVALID_ARGUMENT.
absl::StatusOr<std::vector<int>> StartsOf(const p2::v1::SampleTask& sample, const spec::NoiseSchedule& schedule) {
  P2_ASSIGN_OR_RETURN(const spec::SpacedSchedule spaced, spec::MakeSpacedSchedule(schedule, sample.steps()));
  return spec::ReconstructionTimesteps(spaced, sample.reconstruct().timesteps(), sample.reconstruct().snrs());
}

// What the source decides.
absl::Status CheckAgainstSource(const TaskSpec& task, const ResolvedSource& source) {
  std::vector<FieldViolation> violations;
  const std::string name = TaskName(task);
  const std::string& ema = task.has_sample() ? task.sample().ema() : task.export_().ema();
  const std::vector<std::string>& known = source.ema_profiles;
  if (!ema.empty() && std::find(known.begin(), known.end(), ema) == known.end()) {
    violations.emplace_back(absl::StrCat("task.", name, ".ema"),
                            absl::StrCat("is \"", ema, "\"; checkpoint ", source.source.checkpoint, " holds ",
                                         known.empty() ? "no average" : absl::StrJoin(known, ", ")));
  }
  if (task.has_sample()) {
    P2_ASSIGN_OR_RETURN(const spec::NoiseSchedule schedule, spec::ToNoiseSchedule(source.spec.diffusion()));
    if (const absl::Status spaced = spec::MakeSpacedSchedule(schedule, task.sample().steps()).status(); !spaced.ok()) {
      violations.emplace_back("task.sample.steps", std::string(spaced.message()));
    } else if (const absl::Status starts = StartsOf(task.sample(), schedule).status(); !starts.ok()) {
      violations.emplace_back("task.sample.reconstruct", std::string(starts.message()));
    }
  }
  if (task.sample().has_reconstruct() && DatasetOf(task, source.spec).empty()) {
    violations.emplace_back("task.sample.reconstruct.dataset",
                            absl::StrCat("is missing, and job ", source.source.job,
                                         " was trained with none: name one (`p2ctl dataset list` shows them)"));
  }
  return BadRequestError(violations);
}

bool IsOwnField(absl::string_view path) {
  return std::any_of(kOwnFields.begin(), kOwnFields.end(), [path](absl::string_view own) {
    return path == own || absl::StartsWith(path, absl::StrCat(own, "."));
  });
}

}  // namespace

absl::StatusOr<scheduler::CheckpointPtr> FindCheckpoint(const SourceJob& job, const std::string& id) {
  scheduler::CheckpointPtr found;
  for (const scheduler::CheckpointPtr& checkpoint : job.checkpoints) {
    if (checkpoint->state != scheduler::CheckpointState::kCommitted) continue;
    if (id.empty() ? found == nullptr || found->id < checkpoint->id : checkpoint->id == id) found = checkpoint;
  }
  if (found == nullptr) return NoCheckpoint(job.id, id);
  return found;
}

absl::StatusOr<int64_t> ImagesOfTask(const TaskSpec& task, const p2::v1::TrainingSpec& spec) {
  if (!task.sample().has_reconstruct()) return task.sample().count();
  P2_ASSIGN_OR_RETURN(const spec::NoiseSchedule schedule, spec::ToNoiseSchedule(spec.diffusion()));
  P2_ASSIGN_OR_RETURN(const std::vector<int> starts, StartsOf(task.sample(), schedule));
  return task.sample().count() * static_cast<int64_t>(starts.size());
}

std::string DatasetOf(const TaskSpec& task, const p2::v1::TrainingSpec& spec) {
  if (task.task_case() == TaskSpec::TASK_NOT_SET) return spec.data().dataset();
  if (!task.sample().has_reconstruct()) return "";
  const absl::StatusOr<std::string> named = ParseResourceName(kDatasets, task.sample().reconstruct().dataset());
  return named.ok() ? *named : spec.data().dataset();
}

bool TakesSpecOfSource(const p2::v1::CreateJobRequest& request) {
  return request.has_task() && !request.task().has_import();
}

absl::StatusOr<ResolvedSource> ResolveSource(const p2::v1::CreateJobRequest& request, FindSourceJob find) {
  const std::string& text = request.source();
  if (!absl::StartsWith(text, "jobs/")) return FilesBelowRoot(text);
  std::string job_name = text, checkpoint_id;
  if (absl::StrContains(text, "/checkpoints/")) {
    absl::StatusOr<std::pair<std::string, std::string>> child = ParseChildName(kCheckpoints, text);
    if (!child.ok()) return BadRequestError({{"source", std::string(child.status().message())}});
    job_name = ResourceName(kJobs, child->first);
    checkpoint_id = child->second;
  }
  P2_ASSIGN_OR_RETURN(SourceJob job, find(job_name));
  ResolvedSource resolved;
  resolved.spec = std::move(job.spec);
  resolved.source.job = job.id;
  P2_ASSIGN_OR_RETURN(const scheduler::CheckpointPtr checkpoint, FindCheckpoint(job, checkpoint_id));
  resolved.source.root = checkpoint->root;
  resolved.source.root_id = checkpoint->root_id;
  if (request.task().has_average()) {  // Its snapshots lie beside its checkpoints.
    resolved.source.path = JobDirectory(job.id);
    return resolved;
  }
  resolved.source.path = checkpoint->path;
  resolved.source.checkpoint = checkpoint->id;
  resolved.source.images_seen = checkpoint->images_seen;
  resolved.ema_profiles = checkpoint->ema_profiles;
  return resolved;
}

void CheckTask(const p2::v1::CreateJobRequest& request, std::vector<FieldViolation>& violations) {
  const TaskSpec& task = request.task();
  if (!request.has_task()) return;
  if (task.task_case() == TaskSpec::TASK_NOT_SET) {
    violations.emplace_back("task", "says nothing: set one of sample, import, export, average");
    return;
  }
  const bool files = !absl::StartsWith(request.source(), "jobs/");
  if (request.source().empty()) {
    violations.emplace_back("source", absl::StrCat("is missing: what does the ", TaskName(task), " task read?"));
  } else if (task.has_import() != files) {
    violations.emplace_back(
        "source", task.has_import() ? absl::StrCat("is \"", request.source(), "\"; an import reads ROOT:DIRECTORY")
                                    : absl::StrCat("is \"", request.source(),
                                                   "\"; a task that reads a checkpoint "
                                                   "names its job: jobs/JOB or jobs/JOB/checkpoints/ID"));
  }
  if (task.has_sample()) CheckSample(task.sample(), violations);
  if (task.has_export_()) CheckExport(task.export_(), violations);
  if (task.has_import() && task.import().has_step() && (task.import().step() < 0 || task.import().step() > 999'999'999))
    violations.emplace_back("task.import.step", absl::StrCat("is ", task.import().step(), "; must be 0 to 999999999"));
  if (task.has_average()) {
    const double width = task.average().sigma_rel();
    if (!(width >= spec::kLeastSigmaRel && width <= spec::kMostSigmaRel)) {
      violations.emplace_back("task.average.sigma_rel", absl::StrCat("is ", width, "; must be ", spec::kLeastSigmaRel,
                                                                     " to ", spec::kMostSigmaRel));
    }
    if (task.average().images_seen() < 0) {
      violations.emplace_back("task.average.images_seen", absl::StrCat("is ", task.average().images_seen()));
    }
  }
}

absl::StatusOr<spec::ResolvedSpec> SpecOfTask(const ResolvedSource& source, const spec::ResolveRequest& overrides,
                                              const TaskSpec& task) {
  P2_RETURN_IF_ERROR(CheckAgainstSource(task, source));
  spec::ResolvedSpec resolved;
  resolved.spec = source.spec;
  resolved.spec.mutable_resources()->set_devices(1);
  // Bits of a sample depend on the device's kind; files do not.
  if (!task.has_sample()) {
    resolved.spec.mutable_resources()->clear_kind();
    if (resolved.spec.resources().threads() == 0) resolved.spec.mutable_resources()->set_threads(1);
  }
  const std::string origin = absl::StrCat("job ", source.source.job);
  std::vector<spec::FieldViolation> violations;
  for (const spec::Override& o : overrides.overrides) {
    if (!IsOwnField(o.path)) {
      violations.push_back({o.path,
                            absl::StrCat("is what job ", source.source.job, " was trained with; a ", TaskName(task),
                                         " task may set ", absl::StrJoin(kOwnFields, ", "), " alone"),
                            o.origin});
      continue;
    }
    spec::MergeAssignment(o.path, o.value, o.origin, nullptr, resolved.spec, resolved.origins, violations);
  }
  for (const char* field : {"data", "model", "diffusion", "objective", "training", "ema"})
    resolved.origins[field] = origin;
  for (spec::FieldViolation& violation : spec::ValidateSpec(resolved.spec, /*require_dataset=*/false)) {
    if (violation.field != "resources.devices") violations.push_back(std::move(violation));  // That rule is of batches.
  }
  const int64_t most = task.has_sample() ? task.sample().count() : 1;
  if (const int devices = resolved.spec.resources().devices(); devices < 1 || devices > most) {
    violations.push_back({"resources.devices",
                          absl::StrCat("is ", devices, "; a",
                                       task.has_sample() ? " sample task takes 1 to its count, "
                                                         : absl::StrCat("n ", TaskName(task), " task takes "),
                                       most),
                          ""});
  }
  P2_RETURN_IF_ERROR(spec::SpecError(violations));
  resolved.sha256 = spec::SpecSha256(resolved.spec);
  return resolved;
}

}  // namespace p2::rpc

#include "server/rpc/job_admission.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/error_reason.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/spec/nearest_name.h"
#include "common/spec/proto_bytes.h"
#include "common/spec/resolve.h"
#include "common/spec/task_name.h"
#include "common/spec/validate.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/derive_admission.h"
#include "server/rpc/task_admission.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

constexpr char kRootNotVisible[] = "ROOT_NOT_VISIBLE";

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

// What stands against starting the spec here: a violation of google.rpc.PreconditionFailure.
struct Misfit {
  std::string type, subject, description;
};

// FAILED_PRECONDITION that names all of them at once. OK if there are none.
absl::Status Unfit(const std::vector<Misfit>& misfits) {
  if (misfits.empty()) return absl::OkStatus();
  google::rpc::PreconditionFailure detail;
  ErrorReason reason = ErrorReason::kRootNotVisible;
  for (const Misfit& misfit : misfits) {
    google::rpc::PreconditionFailure::Violation* violation = detail.add_violations();
    violation->set_type(misfit.type);
    violation->set_subject(misfit.subject);
    violation->set_description(misfit.description);
    if (misfit.type != kRootNotVisible) reason = ErrorReason::kDatasetMismatch;
  }
  absl::Status status = Error(reason, absl::StrJoin(misfits, "\n", [](std::string* out, const Misfit& misfit) {
                                absl::StrAppend(out, misfit.description);
                              }));
  AddDetail(status, detail);
  return status;
}

void CheckDataset(const p2::v1::TrainingSpec& spec, const scheduler::DatasetRecord& dataset,
                  std::vector<Misfit>& misfits) {
  const auto misfit = [&](const char* type, std::string what) {
    misfits.push_back({type, ResourceName(kDatasets, dataset.id), std::move(what)});
  };
  if (spec.data().random_crop()) {
    if (const int least = spec::LeastDatasetResolution(spec); dataset.resolution < least) {
      misfit("RESOLUTION",
             absl::StrCat("dataset ", dataset.id, " has images of ", dataset.resolution,
                          " pixels, but data.random_crop cuts ", spec.model().image_size(), " out of up to ", least,
                          ": prepare it with --resolution ", least, " or more, or leave data.random_crop out"));
    }
  } else if (dataset.resolution != spec.model().image_size()) {
    misfit("RESOLUTION", absl::StrCat("dataset ", dataset.id, " has images of ", dataset.resolution,
                                      " pixels, but model.image_size is ", spec.model().image_size(),
                                      ": prepare it with --resolution ", spec.model().image_size(),
                                      ", or take a preset for ", dataset.resolution));
  }
  if (dataset.channels != spec.model().in_channels()) {
    misfit("CHANNELS",
           absl::StrCat("dataset ", dataset.id, " has ", dataset.channels, " channels, but model.in_channels is ",
                        spec.model().in_channels(), ": set model.in_channels=", dataset.channels));
  }
  if (dataset.image_count < spec.training().batch()) {
    misfit("IMAGE_COUNT",
           absl::StrCat("dataset ", dataset.id, " has ", dataset.image_count, " images, fewer than training.batch (",
                        spec.training().batch(), "): take a smaller batch, or add images"));
  }
}

// Whether a reconstruction can take its images from `dataset`.
void CheckReconstructed(const p2::v1::SampleTask& sample, const p2::v1::TrainingSpec& spec,
                        const scheduler::DatasetRecord& dataset, std::vector<Misfit>& misfits) {
  const auto misfit = [&](const char* type, std::string what) {
    misfits.push_back({type, ResourceName(kDatasets, dataset.id), std::move(what)});
  };
  if (dataset.resolution != spec.model().image_size()) {
    misfit("RESOLUTION", absl::StrCat("dataset ", dataset.id, " has images of ", dataset.resolution,
                                      " pixels, but the model draws ", spec.model().image_size(),
                                      ": name one prepared with --resolution ", spec.model().image_size()));
  }
  if (dataset.channels != spec.model().in_channels()) {
    misfit("CHANNELS", absl::StrCat("dataset ", dataset.id, " has ", dataset.channels, " channels, but the model has ",
                                    spec.model().in_channels(), ": name one prepared with --channels ",
                                    spec.model().in_channels()));
  }
  const auto records = static_cast<uint64_t>(dataset.image_count);
  if (sample.first() >= records || static_cast<uint64_t>(sample.count()) > records - sample.first()) {
    misfit("IMAGE_COUNT",
           absl::StrCat("dataset ", dataset.id, " has ", dataset.image_count, " images, but the task's first is ",
                        sample.first(), " and its count ", sample.count(), ": take fewer, or an earlier first"));
  }
}

// The UUID of root `name`, as a worker reported it; "" and a misfit if none ever did.
std::string FindRoot(const std::string& name, const std::string& id, const std::vector<scheduler::WorkerPtr>& workers,
                     std::vector<Misfit>& misfits) {
  for (const scheduler::WorkerPtr& worker : workers) {
    for (const scheduler::RootRecord& root : worker->roots) {
      if (id.empty() ? root.name == name : root.id == id) return root.id;
    }
  }
  misfits.push_back(
      {kRootNotVisible, name,
       absl::StrCat("no worker has ever reported the storage root \"", name, "\"", id.empty() ? "" : " with ID ", id,
                    ": start a p2-worker with --root ", name, "=DIR (`p2ctl root list` shows the roots)")});
  return "";
}

// `ffhq` of `jobs/ffhq-k3x7a/checkpoints/…`: a job made from another is named like it, less the drawn letters.
std::string IdPrefixOf(absl::string_view name) {
  absl::ConsumePrefix(&name, "jobs/");
  const std::string id(name.substr(0, name.find('/')));
  const size_t dash = id.rfind('-');
  return dash == std::string::npos || dash == 0 ? id : id.substr(0, dash);
}

std::string IdPrefix(const p2::v1::CreateJobRequest& request, const p2::v1::TrainingSpec& spec) {
  if (!request.name_prefix().empty()) return request.name_prefix();
  if (request.has_task()) return spec::TaskName(request.task());
  if (request.has_derive_from()) return IdPrefixOf(request.derive_from().name());
  if (!request.preset().empty()) return absl::StrReplaceAll(request.preset(), {{".", "-"}, {"_", "-"}});
  return spec.name().empty() ? "job" : spec.name();
}

// What a training needs; a task counts otherwise.
scheduler::JobNeeds ToNeeds(const p2::v1::TrainingSpec& spec) {
  const p2::v1::ResourceSpec& resources = spec.resources();
  return {.devices = resources.devices(),
          .devices_min = resources.min_devices(),
          .kind = resources.kind(),
          .device_memory_min = resources.min_device_memory(),
          .selector = {resources.node_selector().begin(), resources.node_selector().end()},
          .preemptible = !resources.has_preemptible() || resources.preemptible(),
          .checkpoint_root = spec.checkpoint().root(),
          .keep_last = spec.checkpoint().keep_last(),
          .keep_every = spec.checkpoint().keep_every_images(),
          .keep_best = spec.checkpoint().keep_best(),
          .keep_best_metric = spec.checkpoint().keep_best_metric(),
          .restart_budget = spec.restart().budget(),
          .backoff_initial = ToDuration(spec.restart().backoff_initial()),
          .backoff_max = ToDuration(spec.restart().backoff_max()),
          .stop_deadline = ToDuration(spec.deadlines().stop()),
          .images_total = spec.training().images(),
          .bitwise = spec.training().bitwise() == p2::v1::TrainingOptions::REQUIRED};
}

}  // namespace

absl::StatusOr<Admission> Admit(const p2::v1::CreateJobRequest& request,
                                const std::vector<scheduler::DatasetPtr>& datasets,
                                const std::vector<scheduler::WorkerPtr>& workers, FindSourceJob find_source,
                                ResolvedSpecs& specs) {
  P2_RETURN_IF_ERROR(ValidateCreateJob(request));
  std::vector<FieldViolation> violations;
  spec::ResolveRequest resolve = ToResolveRequest(request, violations);
  resolve.require_dataset = !request.has_task();
  P2_RETURN_IF_ERROR(BadRequestError(violations));
  std::vector<Misfit> misfits;
  ResolvedSource from;
  if (!request.source().empty()) {
    P2_ASSIGN_OR_RETURN(from, ResolveSource(request, find_source));
    from.source.root_id = FindRoot(from.source.root, from.source.root_id, workers, misfits);
  }
  KnownSpecPtr known;
  scheduler::Lineage lineage;
  if (request.has_derive_from()) {
    P2_ASSIGN_OR_RETURN(DerivedSpec derived, DeriveSpec(request, resolve, find_source));
    P2_ASSIGN_OR_RETURN(known, ResolvedSpecs::Of(std::move(derived.resolved)));
    from.source = std::move(derived.source);
    lineage = std::move(derived.lineage);
  } else if (TakesSpecOfSource(request)) {
    P2_ASSIGN_OR_RETURN(spec::ResolvedSpec resolved, SpecOfTask(from, resolve, request.task()));
    P2_ASSIGN_OR_RETURN(known, ResolvedSpecs::Of(std::move(resolved)));
  } else {
    P2_ASSIGN_OR_RETURN(known, specs.Resolve(resolve));
  }
  scheduler::DatasetPtr dataset;
  p2::v1::TaskSpec task = request.task();
  if (const std::string id = DatasetOf(task, known->resolved.spec); !request.has_task() || !id.empty()) {
    P2_ASSIGN_OR_RETURN(dataset, FindDataset(id, datasets));
    if (request.has_task()) {
      CheckReconstructed(task.sample(), known->resolved.spec, *dataset, misfits);
      task.mutable_sample()->mutable_reconstruct()->set_dataset(ResourceName(kDatasets, id));
    } else {
      CheckDataset(known->resolved.spec, *dataset, misfits);
    }
    FindRoot(dataset->root, dataset->root_id, workers, misfits);
  }
  if (known->resolved.spec.checkpoint().root().empty()) {
    P2_ASSIGN_OR_RETURN(known,
                        request.has_task()
                            ? specs.WithCheckpointRoot(*known, from.source.root, "the source's root")
                            : specs.WithCheckpointRoot(*known, dataset->root, absl::StrCat("dataset ", dataset->id)));
  }
  const p2::v1::TrainingSpec& spec = known->resolved.spec;
  const std::string& checkpoint_root = spec.checkpoint().root();
  scheduler::JobNeeds needs = ToNeeds(spec);
  if (dataset != nullptr) {
    needs.dataset = dataset->id;
    needs.dataset_root = dataset->root;
    needs.dataset_root_id = dataset->root_id;
    needs.dataset_path = dataset->path;
    needs.dataset_fingerprint = dataset->fingerprint;
  }
  if (dataset != nullptr && checkpoint_root == dataset->root) {
    needs.checkpoint_root_id = dataset->root_id;
  } else if (checkpoint_root == from.source.root) {
    needs.checkpoint_root_id = from.source.root_id;
  } else {
    needs.checkpoint_root_id = FindRoot(checkpoint_root, "", workers, misfits);
  }
  if (request.has_task()) {
    P2_ASSIGN_OR_RETURN(needs.images_total, ImagesOfTask(task, spec));
    needs.writes_output = !task.has_import();
    needs.bitwise = false;
    // A task goes on where it was only if it draws images; and its gang is as large as its spec says.
    needs.preemptible = task.has_sample() && needs.preemptible;
    needs.devices_min = 0;
  }
  P2_RETURN_IF_ERROR(Unfit(misfits));
  needs.source = std::move(from.source);

  Admission admission;
  *admission.answer.mutable_estimate() = known->estimate;
  admission.answer.mutable_warnings()->Assign(known->resolved.warnings.begin(), known->resolved.warnings.end());
  scheduler::CreateJob& command = admission.command;
  command.id = IdPrefix(request, spec);
  command.needs = std::move(needs);
  command.preset = request.preset();
  command.spec_bytes = known->spec_bytes;
  command.spec_sha256 = known->spec_sha256;
  command.origins_bytes = known->origins_bytes;
  command.origins_sha256 = known->origins_sha256;
  if (request.has_task()) command.task = spec::DeterministicBytes(task);
  command.labels = {request.labels().begin(), request.labels().end()};
  command.owner = request.owner();
  command.project = request.project().empty() ? "default" : request.project();
  command.queue =
      request.queue().empty() ? std::string(scheduler::kDefaultQueue) : request.queue().substr(kQueues.size() + 1);
  command.priority = request.priority();
  command.lineage = std::move(lineage);
  command.note = request.note();
  command.paused = request.paused();

  admission.spec = std::move(known);
  return admission;
}

p2::v1::Job UnnamedJob(const Admission& admission) {
  const scheduler::CreateJob& command = admission.command;
  p2::v1::Job job;
  *job.mutable_spec() = admission.spec->resolved.spec;
  job.set_preset(command.preset);
  const spec::Origins& origins = admission.spec->resolved.origins;
  job.mutable_spec_origins()->insert(origins.begin(), origins.end());
  job.set_spec_sha256(command.spec_sha256);
  job.mutable_labels()->insert(command.labels.begin(), command.labels.end());
  job.set_owner(command.owner);
  job.set_project(command.project);
  job.set_queue(ResourceName(kQueues, command.queue));
  job.set_priority(command.priority);
  job.set_note(command.note);
  SetLineage(command.lineage, job);
  SetTask(command.task, command.needs, job);
  return job;
}

}  // namespace p2::rpc

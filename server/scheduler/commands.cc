#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error_reason.h"
#include "common/status_macros.h"
#include "server/scheduler/capacity.h"
#include "server/scheduler/decisions.h"

namespace p2::scheduler {

absl::Status JobNotFound(absl::string_view id) {
  return Error(ErrorReason::kJobNotFound, absl::StrCat("job \"", id, "\" not found; `p2ctl list` shows them"));
}

namespace {

absl::Status WorkerNotFound(absl::string_view id) {
  return Error(ErrorReason::kWorkerNotFound,
               absl::StrCat("worker \"", id, "\" not found; `p2ctl node list` shows them"));
}

absl::Status Forbidden(const JobRecord& job, absl::string_view verb, absl::string_view hint) {
  return Error(ErrorReason::kJobStateForbids,
               absl::StrCat("job \"", job.id, "\" is ", JobStateName(job.state), " and cannot be ", verb, "; ", hint));
}

std::string WithReason(absl::string_view what, absl::string_view actor, absl::string_view reason) {
  return absl::StrCat(what, " by ", actor.empty() ? "unknown" : actor, reason.empty() ? "" : ": ", reason);
}

// StopJob and KillJob: they differ in what running ranks are told.
absl::Status Cancel(Draft& draft, const CommandInfo& info, absl::string_view id, StopMode mode, std::string message) {
  const JobRecord* job = draft.Job(id);
  if (job == nullptr) return JobNotFound(id);
  const bool kill = mode == StopMode::kKill;
  const StatusReason reason = kill ? StatusReason::kKilledByUser : StatusReason::kStoppedByUser;
  if (IsTerminal(job->state)) return Forbidden(*job, kill ? "killed" : "stopped", "it has ended");
  draft.set_answer(JobName(id));
  if (job->state == JobState::kCancelling) {
    if (!kill || job->reason == reason) return absl::OkStatus();
    JobRecord& edited = draft.EditJob(id);
    edited.reason = reason;
    edited.message = std::move(message);
    edited.update_time = draft.now().wall;
  } else {
    Move(draft, id, JobState::kCancelling, reason, std::move(message), info.actor);
  }
  StopGang(draft, id, mode);
  return absl::OkStatus();
}

// Between admission and this step the job may have been deleted, or the checkpoint collected.
absl::Status CheckSource(const Draft& draft, const JobSource& source) {
  if (source.job.empty()) return absl::OkStatus();
  if (draft.Job(source.job) == nullptr) return JobNotFound(source.job);
  if (source.checkpoint.empty()) return absl::OkStatus();
  for (const CheckpointPtr& good : ResumeCandidates(draft, source.job)) {
    if (good->id == source.checkpoint) return absl::OkStatus();
  }
  return Error(ErrorReason::kCheckpointNotFound,
               absl::StrCat("checkpoint \"", source.checkpoint, "\" of job \"", source.job,
                            "\" was just collected; name a newer one (`p2ctl ckpt list ", source.job, "`)"));
}

std::string DescribeCreated(const CreateJob& command) {
  const JobSource& source = command.needs.source;
  const std::string start = source.root.empty() ? ""
                            : source.checkpoint.empty()
                                ? absl::StrCat(", starts from ", source.root, ":", source.path)
                                : absl::StrCat(", starts from checkpoint ", source.checkpoint, " of job ", source.job);
  const std::string images =
      command.needs.images_total > 0 ? absl::StrCat(command.needs.images_total, " images on ") : "on ";
  const JobNeeds& needs = command.needs;
  const std::string devices =
      absl::StrCat(needs.least_devices() < needs.devices ? absl::StrCat(needs.least_devices(), " to ") : "",
                   needs.devices, needs.devices == 1 ? " device" : " devices");
  const std::string spec = !command.preset.empty() ? absl::StrCat("preset ", command.preset, ", ")
                           : command.task.empty()  ? "from a file, "
                                                   : "";
  return absl::StrCat(spec, images, devices, start);
}

// A live job that began from a checkpoint of `id`; null if there is none.
const JobRecord* ReaderOf(const Draft& draft, absl::string_view id) {
  const std::set<std::string>& readers = draft.base().ReadersOf(id);
  return readers.empty() ? nullptr : draft.Job(*readers.begin());
}

absl::Status CheckQueue(const Draft& draft, const std::string& queue) {
  if (queue == kDefaultQueue || draft.base().queues().count(queue) > 0) return absl::OkStatus();
  std::vector<std::string> names = {std::string(kDefaultQueue)};
  for (const auto& [id, record] : draft.base().queues()) names.push_back(id);
  return Error(ErrorReason::kQueueNotFound,
               absl::StrCat("queue \"", queue, "\" not found; there are ", absl::StrJoin(names, ", ")));
}

absl::Status CheckQueuedQuota(const Draft& draft, const CreateJob& command) {
  for (const std::string& account :
       {absl::StrCat("projects/", command.project), absl::StrCat("users/", command.owner)}) {
    const auto quota = draft.base().quotas().find(account);
    if (quota == draft.base().quotas().end() || !quota->second.queued_jobs.has_value()) continue;
    const int limit = *quota->second.queued_jobs;
    const int queued = draft.base().QueuedBy(account) + draft.AddedBy(account);
    if (queued < limit) continue;
    return Error(ErrorReason::kQuotaExceeded,
                 absl::StrCat(account, " may have ", limit, " jobs queued and has ", queued,
                              "; wait until some have started, or ask for more (`p2ctl quota list`)"));
  }
  return absl::OkStatus();
}

// Why a new job cannot start, where no pass has to find that out: none is due, the last one found that nothing of the
// job's shape fits, and the job does not come before one for whom devices are kept. Else null.
const Blocked* KnownToBeBlocked(const ClusterState& state, const JobRecord& job) {
  const PassMemo* memo = state.pass_memo();
  if (state.pass_due() || memo == nullptr || job.priority > memo->least_priority) return nullptr;
  for (const std::string& account : AccountsOf(job)) {
    if (state.quotas().contains(account)) return nullptr;  // That may be what holds it back.
  }
  const std::optional<QueueIndex::ShapeId> shape = state.queue().FindShape(ShapeOf(job));
  if (!shape.has_value()) return nullptr;
  const PassMemo::Shape* known = memo->Find(*shape, state.queue().shapes()[*shape].serial);
  return known == nullptr ? nullptr : known->blocked.get();
}

}  // namespace

absl::Status Handle(Draft& draft, const CreateJobs& command) {
  std::vector<std::string> names;
  for (const CreateJob& job : command.jobs) {
    absl::Status status = Handle(draft, job);
    if (!status.ok()) {
      absl::Status placed(status.code(), absl::StrCat("job ", names.size() + 1, " of ", command.jobs.size(), ": ",
                                                      status.message(), "; none was made"));
      status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { placed.SetPayload(url, payload); });
      return placed;
    }
    names.push_back(JobName(job.id));
  }
  draft.set_answer(absl::StrJoin(names, ","));
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const CreateJob& command) {
  if (draft.base().disk_full()) return Error(ErrorReason::kDiskFull, draft.base().disk_message());
  if (draft.Job(command.id) != nullptr) {
    return absl::AlreadyExistsError(absl::StrCat("job \"", command.id, "\" exists"));
  }
  P2_RETURN_IF_ERROR(CheckSource(draft, command.needs.source));
  P2_RETURN_IF_ERROR(CheckQueue(draft, command.queue));
  P2_RETURN_IF_ERROR(CheckQueuedQuota(draft, command));
  JobRecord job;
  job.id = command.id;
  job.state = command.paused ? JobState::kPaused : JobState::kQueued;
  job.reason = command.paused ? StatusReason::kPausedByUser : StatusReason::kUnspecified;
  if (command.paused) job.message = "created paused; `p2ctl resume` queues it";
  job.needs = command.needs;
  job.details = JobDetails{.preset = command.preset,
                           .spec_sha256 = command.spec_sha256,
                           .origins_sha256 = command.origins_sha256,
                           .task = command.task,
                           .labels = command.labels,
                           .owner = command.owner,
                           .project = command.project,
                           .queue = command.queue,
                           .lineage = command.lineage,
                           .note = command.note};
  job.priority = command.priority;
  job.request_id = command.info.request_id;
  job.create_order = draft.NextCreateOrder();
  job.order_key = DefaultOrderKey(job.create_order);
  job.create_time = job.update_time = draft.now().wall;
  if (!command.paused) {
    if (const Blocked* blocked = KnownToBeBlocked(draft.base(), job)) {
      job.reason = blocked->reason;
      job.message = blocked->message;
    } else {
      draft.RequestPass();
    }
  }
  draft.AddJob(std::move(job));
  draft.Mutate(PutSpec{command.spec_sha256, command.spec_bytes});
  if (!command.origins_sha256.empty()) draft.Mutate(PutSpec{command.origins_sha256, command.origins_bytes});
  draft.Event(JobName(command.id), "JOB_CREATED", DescribeCreated(command), command.info.actor);
  draft.set_answer(JobName(command.id));
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const StopJob& command) {
  return Cancel(draft, command.info, command.job, StopMode::kCheckpoint,
                WithReason("stopped", command.info.actor, command.reason));
}

absl::Status Handle(Draft& draft, const KillJob& command) {
  return Cancel(draft, command.info, command.job, StopMode::kKill,
                WithReason("killed", command.info.actor, command.reason));
}

absl::Status Handle(Draft& draft, const PauseJob& command) {
  const JobRecord* job = draft.Job(command.job);
  if (job == nullptr) return JobNotFound(command.job);
  std::string message = WithReason("paused", command.info.actor, command.reason);
  draft.set_answer(JobName(command.job));
  switch (job->state) {
    case JobState::kQueued:
      Move(draft, command.job, JobState::kPaused, StatusReason::kPausedByUser, std::move(message), command.info.actor);
      return absl::OkStatus();
    case JobState::kStarting:
    case JobState::kRunning:
      Move(draft, command.job, JobState::kPausing, StatusReason::kPausedByUser, std::move(message), command.info.actor);
      StopGang(draft, command.job, StopMode::kCheckpoint);
      return absl::OkStatus();
    case JobState::kPausing:
      if (job->stop_cause != StopCause::kNone) {
        JobRecord& edited = draft.EditJob(command.job);
        edited.stop_cause = StopCause::kNone;
        edited.reason = StatusReason::kPausedByUser;
        edited.message = std::move(message);
        edited.update_time = draft.now().wall;
      }
      return absl::OkStatus();
    case JobState::kPaused:
      return absl::OkStatus();
    default:
      return Forbidden(*job, "paused", "it has ended or is ending");
  }
}

absl::Status Handle(Draft& draft, const ResumeJob& command) {
  const JobRecord* job = draft.Job(command.job);
  if (job == nullptr) return JobNotFound(command.job);
  if (job->state != JobState::kPaused) {
    return Forbidden(*job, "resumed",
                     job->state == JobState::kPausing ? "wait until it is PAUSED" : "only a PAUSED job can");
  }
  JobRecord& edited = draft.EditJob(command.job);
  if (command.devices.has_value()) edited.needs.Edit().devices = *command.devices;
  if (command.devices_min.has_value()) edited.needs.Edit().devices_min = *command.devices_min;
  if (command.priority.has_value()) edited.priority = *command.priority;
  Move(draft, command.job, JobState::kQueued, StatusReason::kUnspecified, "", command.info.actor);
  draft.set_answer(JobName(command.job));
  return absl::OkStatus();
}

namespace {

bool Allows(JobState state, ControlJobs::Verb verb) {
  using Verb = ControlJobs::Verb;
  switch (verb) {
    case Verb::kStop:
    case Verb::kKill:
      return !IsTerminal(state);
    case Verb::kPause:
      return !IsTerminal(state) && state != JobState::kCancelling;
    case Verb::kResume:
      return state == JobState::kPaused;
    case Verb::kDelete:
      return IsTerminal(state);
  }
  return false;
}

absl::Status Control(Draft& draft, const ControlJobs& command, const std::string& id) {
  using Verb = ControlJobs::Verb;
  switch (command.verb) {
    case Verb::kStop:
      return Handle(draft, StopJob{command.info, id, command.reason});
    case Verb::kKill:
      return Handle(draft, KillJob{command.info, id, command.reason});
    case Verb::kPause:
      return Handle(draft, PauseJob{command.info, id, command.reason});
    case Verb::kResume:
      return Handle(draft, ResumeJob{command.info, id, {}, {}, {}});
    case Verb::kDelete:
      return Handle(draft, DeleteJob{command.info, id});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Handle(Draft& draft, const ControlJobs& command) {
  std::vector<std::string> names;
  for (const std::string& id : command.jobs) {
    const JobRecord* job = draft.Job(id);
    if (command.skip && (job == nullptr || !Allows(job->state, command.verb))) continue;
    P2_RETURN_IF_ERROR(Control(draft, command, id));
    names.push_back(JobName(id));
  }
  draft.set_answer(absl::StrJoin(names, ","));
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const DeleteJob& command) {
  const JobRecord* job = draft.Job(command.job);
  if (job == nullptr) return JobNotFound(command.job);
  if (!IsTerminal(job->state)) return Forbidden(*job, "deleted", "stop or kill it first");
  if (const JobRecord* reader = ReaderOf(draft, command.job); reader != nullptr) {
    return Forbidden(
        *job, "deleted",
        absl::StrCat("job \"", reader->id, "\" began from its checkpoint, and would again if its own were damaged"));
  }
  std::string kept;
  for (const auto& [key, checkpoint] : draft.CheckpointsOf(command.job)) {
    if (!checkpoint->pinned) {
      Delete(draft, *checkpoint);
    } else {
      absl::StrAppend(&kept, kept.empty() ? "pinned checkpoints stay as files: " : ", ", checkpoint->root, ":",
                      checkpoint->path);
    }
  }
  if (job->attempt_count > 0) DeleteRunFiles(draft, *job);
  const std::string state(JobStateName(job->state));
  draft.EraseJob(command.job);
  draft.Event(JobName(command.job), "JOB_DELETED", kept, command.info.actor, state, "deleted");
  draft.set_answer(JobName(command.job));
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const CordonWorker& command) {
  if (draft.Worker(command.worker) == nullptr) return WorkerNotFound(command.worker);
  WorkerRecord& worker = draft.EditWorker(command.worker);
  worker.cordoned = true;
  worker.draining |= command.drain;
  if (command.drain) {
    worker.drain_within = command.deadline;
    worker.drain_by_mono = draft.now().mono + command.deadline;
  }
  worker.cordon_reason = WithReason(command.drain ? "drained" : "cordoned", command.info.actor, command.reason);
  draft.Event(WorkerName(command.worker), command.drain ? "WORKER_DRAINED" : "WORKER_CORDONED", worker.cordon_reason,
              command.info.actor);
  draft.set_answer(WorkerName(command.worker));
  draft.RequestPass();
  if (!command.drain) return absl::OkStatus();
  std::vector<std::string> moving;
  for (const JobRecord* job : draft.JobsOn(command.worker)) {
    if (job->state == JobState::kStarting || job->state == JobState::kRunning) moving.push_back(job->id);
  }
  for (const std::string& id : moving) {
    Move(draft, id, JobState::kPausing, StatusReason::kWorkerDrained,
         absl::StrCat("worker ", command.worker, " is drained: checkpoints and moves elsewhere"));
    draft.EditJob(id).stop_cause = StopCause::kDrain;
    StopGang(draft, id, StopMode::kCheckpoint);
  }
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const UncordonWorker& command) {
  if (draft.Worker(command.worker) == nullptr) return WorkerNotFound(command.worker);
  WorkerRecord& worker = draft.EditWorker(command.worker);
  worker.cordoned = worker.draining = false;
  worker.cordon_reason.clear();
  worker.failed_jobs.clear();
  worker.drain_within = absl::InfiniteDuration();
  worker.drain_by_mono = absl::InfiniteFuture();
  draft.Event(WorkerName(command.worker), "WORKER_UNCORDONED", "", command.info.actor);
  draft.set_answer(WorkerName(command.worker));
  draft.RequestPass(PassNeed::kIfDevicesSuit);
  return absl::OkStatus();
}

namespace {

// What a dataset says of its root must not contradict what workers report. A root that nobody reports may yet come.
absl::Status CheckRoot(const Draft& draft, const DatasetRecord& dataset) {
  std::set<std::string> names;  // Of the dataset's root, as workers know it.
  std::set<std::string> known;  // `NAME (ID)` of every root.
  bool name_is_taken = false;   // By another root.
  for (const auto& [id, worker] : draft.base().workers()) {
    for (const RootRecord& root : worker->roots) {
      known.insert(absl::StrCat(root.name, " (", root.id, ")"));
      if (root.id == dataset.root_id) names.insert(root.name);
      if (root.name == dataset.root) name_is_taken = true;
    }
  }
  if (!names.empty() && names.count(dataset.root) == 0) {
    return Error(
        ErrorReason::kRootMismatch,
        absl::StrCat("root ", dataset.root_id, " is \"", absl::StrJoin(names, "\", \""), "\" to the workers, not \"",
                     dataset.root, "\": register it with --root ", *names.begin()));
  }
  if (names.empty() && name_is_taken) {
    return Error(ErrorReason::kRootMismatch,
                 absl::StrCat("no worker reports a root \"", dataset.root, "\" with the ID ", dataset.root_id,
                              "; the known roots are ", absl::StrJoin(known, ", "),
                              ": move the dataset below one of them, or name a root of its own"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Handle(Draft& draft, const RegisterDataset& command) {
  DatasetRecord dataset = command.dataset;
  if (absl::Status status = CheckRoot(draft, dataset); !status.ok()) return status;
  draft.set_answer(absl::StrCat("datasets/", dataset.id));
  if (DatasetPtr known = draft.base().FindDataset(dataset.id); known != nullptr) {
    if (known->fingerprint == dataset.fingerprint && known->resolution == dataset.resolution) {
      if (known->root == dataset.root && known->root_id == dataset.root_id && known->path == dataset.path) {
        return absl::OkStatus();
      }
      DatasetRecord moved = *known;  // The same content, elsewhere: jobs that were made before keep the old place.
      moved.root = dataset.root;
      moved.root_id = dataset.root_id;
      moved.path = dataset.path;
      draft.Event(absl::StrCat("datasets/", dataset.id), "DATASET_MOVED",
                  absl::StrCat("from ", known->root, "/", known->path, " to ", moved.root, "/", moved.path),
                  command.info.actor);
      draft.Mutate(PutDataset{std::make_shared<const DatasetRecord>(std::move(moved))});
      return absl::OkStatus();
    }
    return Error(
        ErrorReason::kDatasetExists,
        absl::StrCat("dataset \"", dataset.id, "\" stands for other content (", known->image_count, " images of ",
                     known->resolution, " pixels under ", known->root, "/", known->path, "); choose another name"));
  }
  dataset.create_time = draft.now().wall;
  draft.Event(absl::StrCat("datasets/", dataset.id), "DATASET_REGISTERED",
              absl::StrCat(dataset.image_count, " images of ", dataset.resolution, " pixels under ", dataset.root, "/",
                           dataset.path),
              command.info.actor);
  draft.Mutate(PutDataset{std::make_shared<const DatasetRecord>(std::move(dataset))});
  return absl::OkStatus();
}

}  // namespace p2::scheduler

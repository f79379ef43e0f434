#include "server/coordinator/worker_messages.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace p2::coordinator {
namespace {

constexpr int kMaxSlots = 1024;

bool IsResourceId(absl::string_view id) {
  return !id.empty() && id.size() <= 63 && absl::ascii_isalnum(id.front()) && absl::ascii_isalnum(id.back()) &&
         std::all_of(id.begin(), id.end(),
                     [](unsigned char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-'; });
}

// A path below a root that cannot lead out of it.
bool IsSafePath(absl::string_view path) {
  if (path.empty() || path.size() > 1024 || path.front() == '/' || path.find('\0') != absl::string_view::npos)
    return false;
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  return std::none_of(parts.begin(), parts.end(),
                      [](absl::string_view part) { return part.empty() || part == "." || part == ".."; });
}

std::string BaseName(absl::string_view path) {
  return std::string(path.substr(path.rfind('/') == absl::string_view::npos ? 0 : path.rfind('/') + 1));
}

scheduler::RootRecord FromRoot(const v1::StorageRoot& root) {
  return {root.name(), root.id(), root.path(), root.free_bytes(), root.total_bytes()};
}

scheduler::SpoolBody FromCheckpoint(const trainer::v1::CheckpointSaved& saved) {
  if (!IsSafePath(saved.path())) {
    return scheduler::TrainerNotice{
        "CHECKPOINT_REFUSED", absl::StrCat("its path \"", saved.path(), "\" is not a path below a storage root"), {}};
  }
  scheduler::CheckpointReported reported;
  scheduler::CheckpointRecord& checkpoint = reported.checkpoint;
  checkpoint.id = BaseName(saved.path());
  checkpoint.path = saved.path();
  checkpoint.images_seen = saved.images_seen();
  checkpoint.manifest_sha256 = saved.manifest_sha256();
  checkpoint.ema_profiles.assign(saved.ema_profiles().begin(), saved.ema_profiles().end());
  for (const auto& file : saved.files()) checkpoint.files.push_back({file.path(), file.size_bytes(), file.sha256()});
  return reported;
}

scheduler::SpoolBody FromTrainerEvent(const trainer::v1::TrainerEvent& event) {
  switch (event.event_case()) {
    case trainer::v1::TrainerEvent::kStarted:
      return scheduler::TrainerStarted{event.started().images_seen(),
                                       BaseName(event.started().resumed_from()),
                                       {event.started().fingerprint().begin(), event.started().fingerprint().end()}};
    case trainer::v1::TrainerEvent::kMetrics:
      return scheduler::MetricsReported{event.sequence(),
                                        event.metrics().images_seen(),
                                        event.metrics().step(),
                                        absl::FromUnixNanos(event.wall_time_ns()),
                                        {event.metrics().values().begin(), event.metrics().values().end()}};
    case trainer::v1::TrainerEvent::kCheckpoint:
      return FromCheckpoint(event.checkpoint());
    case trainer::v1::TrainerEvent::kFinished:
      return scheduler::TrainerFinished{
          static_cast<scheduler::TrainerFinished::Outcome>(std::clamp<int>(event.finished().outcome(), 0, 3)),
          event.finished().exit_code(), event.finished().images_seen(), event.finished().message()};
    case trainer::v1::TrainerEvent::kNotice: {
      scheduler::TrainerNotice notice{event.notice().reason(), event.notice().message(), {}};
      for (const auto& range : event.notice().skipped_ranges()) {
        notice.skipped_ranges.push_back({range.begin(), range.end()});
      }
      return notice;
    }
    default:
      return scheduler::BytesStored{};
  }
}

scheduler::SpoolBody FromEnded(const v1::AttemptEnded& ended) {
  scheduler::AttemptEnded body;
  for (const v1::RankExit& exit : ended.ranks()) {
    body.ranks.push_back({exit.rank(), exit.exit_code(), exit.frozen(), exit.killed(), exit.message()});
  }
  body.worker_stopped = ended.worker_stopped();
  body.fenced = ended.fenced();
  body.log_tail = ended.log_tail();
  return body;
}

}  // namespace

absl::StatusOr<scheduler::WorkerConnected> FromHello(const v1::Hello& hello) {
  if (!IsResourceId(hello.worker())) {
    return absl::InvalidArgumentError(absl::StrCat("worker name \"", hello.worker(),
                                                   "\" is not an ID; use small letters, digits and '-', at most 63"));
  }
  if (hello.slots_size() > kMaxSlots) {
    return absl::InvalidArgumentError(absl::StrCat("worker ", hello.worker(), " offers ", hello.slots_size(),
                                                   " slots; at most ", kMaxSlots, " are allowed"));
  }
  scheduler::WorkerConnected event;
  scheduler::WorkerRecord& worker = event.hello;
  worker.id = hello.worker();
  worker.instance = hello.instance();
  worker.version = hello.version();
  worker.protocol_version = hello.protocol_version();
  worker.host = hello.host();
  worker.data_address = hello.data_address();
  worker.spool_id = hello.spool_id();
  worker.spool_last = hello.spool_last();
  if (hello.spool_first() > 0) worker.spool_acked = hello.spool_first() - 1;
  worker.labels = {hello.labels().begin(), hello.labels().end()};
  std::set<std::string> ids;
  for (const v1::Slot& slot : hello.slots()) {
    if (slot.id().empty() || slot.kind().empty() || !ids.insert(slot.id()).second) {
      return absl::InvalidArgumentError(absl::StrCat("worker ", hello.worker(), " offers slot \"", slot.id(),
                                                     "\" of kind \"", slot.kind(),
                                                     "\"; IDs must be unique and neither may be empty"));
    }
    worker.slots.push_back(
        {slot.id(), slot.kind(), slot.device_name(), slot.uuid(), slot.memory_bytes(), slot.threads()});
  }
  for (const v1::StorageRoot& root : hello.roots()) worker.roots.push_back(FromRoot(root));
  for (const v1::RunningAttempt& running : hello.running()) {
    event.running.push_back({running.job(), running.epoch(), running.prepared(), running.images_seen()});
  }
  return event;
}

scheduler::Heartbeat FromHeartbeat(const v1::Heartbeat& heartbeat, absl::string_view worker, int64_t session) {
  scheduler::Heartbeat event{std::string(worker), session, {}, {}, {}};
  for (const v1::AttemptProgress& progress : heartbeat.progress()) {
    const auto phase = progress.progress().phase();
    event.progress.push_back({progress.job(), progress.epoch(), progress.progress().images_seen(),
                              progress.progress().images_per_second(),
                              absl::AsciiStrToLower(trainer::v1::Progress::Phase_Name(phase))});
  }
  for (const v1::StorageRoot& root : heartbeat.roots()) event.roots.push_back(FromRoot(root));
  for (const v1::DeviceFault& fault : heartbeat.device_faults()) {
    event.device_faults.push_back({fault.slot(), fault.xid(), std::max<int64_t>(1, fault.count())});
  }
  return event;
}

scheduler::PrepareReply FromPrepareReply(const v1::PrepareReply& reply, absl::string_view worker) {
  return {std::string(worker),    reply.job(),         reply.epoch(),         reply.ok(), reply.message(),
          reply.master_address(), reply.master_port(), reply.source_missing()};
}

scheduler::DeleteDone FromDeleteDone(const v1::DeleteDone& done, absl::string_view worker) {
  return {std::string(worker), done.root_id(), done.path(), done.error()};
}

scheduler::SpoolReport FromSpool(const v1::SpoolRecord& record, absl::string_view worker, absl::string_view spool_id) {
  scheduler::SpoolReport report;
  report.worker = std::string(worker);
  report.spool_id = std::string(spool_id);
  report.sequence = record.sequence();
  report.job = record.job();
  report.epoch = record.epoch();
  report.attempt = record.attempt();
  report.rank = record.rank();
  switch (record.record_case()) {
    case v1::SpoolRecord::kTrainerEvent:
      report.body = FromTrainerEvent(record.trainer_event());
      break;
    case v1::SpoolRecord::kStarted:
      report.body = scheduler::AttemptStarted{};
      break;
    case v1::SpoolRecord::kEnded:
      report.body = FromEnded(record.ended());
      break;
    default:
      report.body = scheduler::BytesStored{};
  }
  return report;
}

v1::ConnectResponse ToMessage(const scheduler::Prepare& prepare) {
  v1::ConnectResponse message;
  v1::Prepare& out = *message.mutable_prepare();
  out.set_job(prepare.job);
  out.set_epoch(prepare.epoch);
  out.set_attempt(prepare.attempt);
  out.set_world_size(prepare.world_size);
  for (const scheduler::PlacedRank& rank : prepare.ranks) {
    v1::PlacedRank& placed = *out.add_ranks();
    placed.set_rank(rank.rank);
    placed.set_slot(rank.slot);
    placed.set_local_rank(rank.local_rank);
  }
  out.set_dataset_root(prepare.dataset_root);
  out.set_dataset_root_id(prepare.dataset_root_id);
  out.set_dataset_path(prepare.dataset_path);
  out.set_dataset_fingerprint(prepare.dataset_fingerprint);
  out.set_checkpoint_root(prepare.checkpoint_root);
  out.set_checkpoint_root_id(prepare.checkpoint_root_id);
  out.set_source_root(prepare.source_root);
  out.set_source_root_id(prepare.source_root_id);
  out.set_source_path(prepare.source_path);
  out.set_writes_output(prepare.writes_output);
  return message;
}

v1::ConnectResponse ToMessage(const scheduler::StartGang& start, const v1::TrainingSpec& spec) {
  v1::ConnectResponse message;
  v1::Start& out = *message.mutable_start();
  out.set_job(start.job);
  out.set_epoch(start.epoch);
  out.set_master_address(start.master_address);
  out.set_master_port(start.master_port);
  v1::Launch& launch = *out.mutable_launch();
  launch.set_job_id(start.job);
  launch.set_attempt(start.attempt);
  launch.set_epoch(start.epoch);
  *launch.mutable_spec() = spec;
  if (!start.task.empty()) launch.mutable_task()->ParseFromString(start.task);
  launch.set_dataset_fingerprint(start.dataset_fingerprint);
  for (const std::string& candidate : start.resume_candidates) launch.add_resume_candidates(candidate);
  launch.set_source_is_run(start.source_is_run);
  for (const scheduler::SampleRange& range : start.skipped_ranges) {
    v1::SampleRange& skipped = *launch.add_skipped_ranges();
    skipped.set_begin(range.begin);
    skipped.set_end(range.end);
  }
  // The same for every rank, also when Start is sent again by a restarted p2d.
  launch.set_rendezvous_nonce(absl::StrCat(start.job, ".", start.epoch));
  launch.set_threads(spec.resources().threads());
  return message;
}

v1::ConnectResponse ToMessage(const scheduler::StopAttempt& stop) {
  v1::ConnectResponse message;
  v1::StopAttempt& out = *message.mutable_stop();
  out.set_job(stop.job);
  out.set_epoch(stop.epoch);
  out.set_mode(stop.mode == scheduler::StopMode::kCheckpoint ? v1::StopAttempt::CHECKPOINT : v1::StopAttempt::KILL);
  return message;
}

v1::ConnectResponse ToMessage(const scheduler::DeletePath& path) {
  v1::ConnectResponse message;
  message.mutable_delete_()->set_root_id(path.root_id);
  message.mutable_delete_()->set_path(path.path);
  return message;
}

}  // namespace p2::coordinator

#include "server/rpc/convert.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/spec/proto_bytes.h"
#include "common/storage_layout.h"
#include "server/scheduler/shares.h"

namespace p2::rpc {
namespace {

// Sets a timestamp unless the time is "none".
template <typename Message, typename Member>
void SetTime(Message& message, Member mutable_time, absl::Time time) {
  if (time != absl::InfinitePast()) *(message.*mutable_time)() = ToTimestamp(time);
}

void SetProgress(const scheduler::JobRecord& record, p2::v1::JobProgress& m) {
  const scheduler::Progress& progress = record.progress;
  m.set_images_seen(progress.images_seen);
  m.set_images_total(record.needs->images_total);
  if (record.state == scheduler::JobState::kRunning) {
    m.set_images_per_second(progress.images_per_second);
    if (progress.images_per_second > 0) {
      m.set_eta_seconds(static_cast<double>(record.needs->images_total - progress.images_seen) /
                        progress.images_per_second);
    }
    m.set_phase(progress.phase);
  }
  if (progress.loss.has_value() && std::isfinite(*progress.loss)) m.set_loss(*progress.loss);
}

p2::v1::Attempt ToProto(const scheduler::Attempt& record) {
  using p2::v1::Attempt;
  Attempt m;
  m.set_number(record.number);
  m.set_epoch(record.epoch);
  m.set_outcome(static_cast<Attempt::Outcome>(record.outcome));
  m.set_reason(static_cast<p2::v1::StatusReason>(record.reason));
  m.set_message(record.message);
  SetTime(m, &Attempt::mutable_create_time, record.create_time);
  SetTime(m, &Attempt::mutable_start_time, record.start_time);
  SetTime(m, &Attempt::mutable_end_time, record.end_time);
  if (record.exit_code.has_value()) m.set_exit_code(*record.exit_code);
  m.set_start_images_seen(record.start_images_seen);
  m.set_end_images_seen(record.end_images_seen);
  m.set_resumed_from(record.resumed_from);
  for (const scheduler::RankPlacement& rank : record.ranks) {
    p2::v1::RankPlacement* placed = m.add_ranks();
    placed->set_rank(rank.rank);
    placed->set_worker(ResourceName(kWorkers, rank.worker));
    placed->set_slot(rank.slot);
  }
  m.mutable_fingerprint()->insert(record.fingerprint.begin(), record.fingerprint.end());
  m.set_backfill(record.backfill);
  return m;
}

}  // namespace

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp timestamp;
  const int64_t seconds = absl::ToUnixSeconds(time);
  timestamp.set_seconds(seconds);
  timestamp.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return timestamp;
}

void SetLineage(const scheduler::Lineage& lineage, p2::v1::Job& job) {
  if (lineage.kind == scheduler::Lineage::Kind::kNone) return;
  p2::v1::Lineage& m = *job.mutable_lineage();
  m.set_kind(static_cast<p2::v1::Lineage::Kind>(lineage.kind));
  m.set_job(ResourceName(kJobs, lineage.job));
  if (!lineage.checkpoint.empty()) m.set_checkpoint(ChildName(lineage.job, kCheckpoints, lineage.checkpoint));
}

void SetTask(const std::string& task, const scheduler::JobNeeds& needs, p2::v1::Job& job) {
  if (!task.empty()) job.mutable_task()->ParseFromString(task);
  const scheduler::JobSource& source = needs.source;
  if (!source.root.empty()) {
    p2::v1::JobSource& m = *job.mutable_source();
    if (!source.checkpoint.empty()) m.set_checkpoint(ChildName(source.job, kCheckpoints, source.checkpoint));
    m.set_root(source.root);
    m.set_path(source.path);
    m.set_images_seen(source.images_seen);
  }
}

p2::v1::Job ToProto(const scheduler::JobRecord& record) {
  using p2::v1::Job;
  Job m;
  m.set_name(ResourceName(kJobs, record.id));
  m.set_state(static_cast<Job::State>(record.state));
  m.set_reason(static_cast<p2::v1::StatusReason>(record.reason));
  m.set_message(record.message);
  m.set_preset(record.details->preset);
  m.set_spec_sha256(record.details->spec_sha256);
  m.mutable_labels()->insert(record.details->labels.begin(), record.details->labels.end());
  m.set_owner(record.details->owner);
  SetTime(m, &Job::mutable_create_time, record.create_time);
  SetTime(m, &Job::mutable_start_time, record.start_time);
  SetTime(m, &Job::mutable_end_time, record.end_time);
  SetTime(m, &Job::mutable_update_time, record.update_time);
  SetTime(m, &Job::mutable_not_before, record.not_before);
  SetProgress(record, *m.mutable_progress());
  for (const auto& attempt : record.attempts) *m.add_attempts() = ToProto(*attempt);
  m.set_epoch(record.epoch);
  m.set_restarts_used(record.restarts_used);
  if (!record.latest_checkpoint.empty()) {
    m.set_latest_checkpoint(ChildName(record.id, kCheckpoints, record.latest_checkpoint));
  }
  SetTask(record.details->task, *record.needs, m);
  if (record.needs->writes_output) {
    m.set_output(absl::StrCat(record.needs->checkpoint_root, ":", JobOutput(record.id)));
  }
  m.set_project(record.details->project);
  m.set_queue(ResourceName(kQueues, record.details->queue));
  m.set_priority(record.priority);
  SetLineage(record.details->lineage, m);
  m.set_note(record.details->note);
  m.set_preemptions(record.preemptions);
  m.set_devices_held(scheduler::HeldDevices(record));
  m.set_etag(absl::StrCat(record.revision));
  for (const scheduler::SampleRange& range : record.skipped_ranges) {
    p2::v1::SampleRange* out = m.add_skipped_ranges();
    out->set_begin(range.begin);
    out->set_end(range.end);
  }
  return m;
}

p2::v1::Worker ToProto(const scheduler::WorkerRecord& record) {
  p2::v1::Worker m;
  m.set_name(ResourceName(kWorkers, record.id));
  m.set_state(static_cast<p2::v1::Worker::State>(record.state));
  m.set_cordoned(record.cordoned);
  m.set_draining(record.draining);
  m.set_cordon_reason(record.cordon_reason);
  for (const scheduler::SlotRecord& slot : record.slots) {
    p2::v1::Slot* out = m.add_slots();
    out->set_id(slot.id);
    out->set_kind(slot.kind);
    out->set_device_name(slot.device_name);
    out->set_uuid(slot.uuid);
    out->set_memory_bytes(slot.memory_bytes);
    out->set_threads(slot.threads);
  }
  for (const scheduler::RootRecord& root : record.roots) {
    p2::v1::StorageRoot* out = m.add_roots();
    out->set_name(root.name);
    out->set_id(root.id);
    out->set_path(root.path);
    out->set_free_bytes(root.free_bytes);
    out->set_total_bytes(root.total_bytes);
  }
  m.set_host(record.host);
  m.set_data_address(record.data_address);
  m.set_version(record.version);
  m.set_protocol_version(record.protocol_version);
  SetTime(m, &p2::v1::Worker::mutable_last_heartbeat_time, record.last_heartbeat_time);
  m.mutable_labels()->insert(record.labels.begin(), record.labels.end());
  return m;
}

p2::v1::Dataset ToProto(const scheduler::DatasetRecord& record) {
  p2::v1::Dataset m;
  m.set_name(ResourceName(kDatasets, record.id));
  m.set_root(record.root);
  m.set_root_id(record.root_id);
  m.set_path(record.path);
  m.set_resolution(record.resolution);
  m.set_channels(record.channels);
  m.set_image_count(record.image_count);
  m.set_size_bytes(record.size_bytes);
  m.set_fingerprint(record.fingerprint);
  m.set_bad_image_count(record.bad_image_count);
  SetTime(m, &p2::v1::Dataset::mutable_create_time, record.create_time);
  return m;
}

scheduler::DatasetRecord FromProto(const p2::v1::Dataset& m) {
  return {.id = m.name().substr(kDatasets.size() + 1),
          .root = m.root(),
          .root_id = m.root_id(),
          .path = m.path(),
          .resolution = m.resolution(),
          .channels = m.channels(),
          .image_count = m.image_count(),
          .size_bytes = m.size_bytes(),
          .bad_image_count = m.bad_image_count(),
          .fingerprint = m.fingerprint()};
}

p2::v1::Checkpoint ToProto(const scheduler::CheckpointRecord& record) {
  p2::v1::Checkpoint m;
  m.set_name(ChildName(record.job, kCheckpoints, record.id));
  m.set_state(static_cast<p2::v1::Checkpoint::State>(record.state));
  m.set_images_seen(record.images_seen);
  m.set_epoch(record.epoch);
  m.set_attempt(record.attempt);
  m.set_root(record.root);
  m.set_path(record.path);
  m.set_size_bytes(record.size_bytes);
  for (const scheduler::CheckpointFile& file : record.files) {
    p2::v1::Checkpoint::File* out = m.add_files();
    out->set_path(file.path);
    out->set_size_bytes(file.size_bytes);
    out->set_sha256(file.sha256);
  }
  for (const std::string& profile : record.ema_profiles) m.add_ema_profiles(profile);
  m.set_manifest_sha256(record.manifest_sha256);
  SetTime(m, &p2::v1::Checkpoint::mutable_create_time, record.create_time);
  m.set_pinned(record.pinned);
  m.set_pin_note(record.pin_note);
  if (record.metric.has_value()) m.set_metric(*record.metric);
  return m;
}

p2::v1::Artifact ToProto(const scheduler::ArtifactRecord& record) {
  p2::v1::Artifact m;
  m.set_name(ChildName(record.job, kArtifacts, record.id));
  m.set_kind(record.kind);
  m.set_content_type(record.content_type);
  m.set_size_bytes(record.size_bytes);
  m.set_sha256(record.sha256);
  m.set_images_seen(record.images_seen);
  m.set_attempt(record.attempt);
  SetTime(m, &p2::v1::Artifact::mutable_create_time, record.create_time);
  return m;
}

p2::v1::Event ToProto(const scheduler::EventRecord& record) {
  p2::v1::Event m;
  m.set_revision(record.revision);
  *m.mutable_time() = ToTimestamp(record.time);
  m.set_resource(record.resource);
  m.set_reason(record.reason);
  m.set_message(record.message);
  m.set_actor(record.actor);
  m.set_request_id(record.request_id);
  m.set_before(record.before);
  m.set_after(record.after);
  return m;
}

p2::v1::FairShare ToProto(const scheduler::ShareNumbers& record) {
  p2::v1::FairShare m;
  m.set_id(record.id);
  m.set_usage(record.usage);
  m.set_devices(record.devices);
  m.set_weight(record.weight);
  m.set_score(record.score);
  return m;
}

std::string OriginsBytes(const std::map<std::string, std::string>& origins) {
  p2::v1::Job job;
  job.mutable_spec_origins()->insert(origins.begin(), origins.end());
  return spec::DeterministicBytes(job);
}

}  // namespace p2::rpc

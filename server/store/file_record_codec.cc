// record_codec.h's smaller records: what describes files, and what describes what happened.
#include "server/store/record_codec.h"

namespace p2::store {

pb::Dataset ToStorage(const scheduler::DatasetRecord& record) {
  pb::Dataset m;
  m.set_id(record.id);
  m.set_root(record.root);
  m.set_root_id(record.root_id);
  m.set_path(record.path);
  m.set_resolution(record.resolution);
  m.set_channels(record.channels);
  m.set_image_count(record.image_count);
  m.set_size_bytes(record.size_bytes);
  m.set_bad_image_count(record.bad_image_count);
  m.set_fingerprint(record.fingerprint);
  m.set_create_time(ToStorageTime(record.create_time));
  return m;
}

scheduler::DatasetRecord FromStorage(const pb::Dataset& m) {
  return {.id = m.id(),
          .root = m.root(),
          .root_id = m.root_id(),
          .path = m.path(),
          .resolution = m.resolution(),
          .channels = m.channels(),
          .image_count = m.image_count(),
          .size_bytes = m.size_bytes(),
          .bad_image_count = m.bad_image_count(),
          .fingerprint = m.fingerprint(),
          .create_time = FromStorageTime(m.create_time())};
}

pb::Checkpoint ToStorage(const scheduler::CheckpointRecord& record) {
  pb::Checkpoint m;
  m.set_job(record.job);
  m.set_id(record.id);
  m.set_state(static_cast<int>(record.state));
  m.set_images_seen(record.images_seen);
  m.set_epoch(record.epoch);
  m.set_attempt(record.attempt);
  m.set_root(record.root);
  m.set_root_id(record.root_id);
  m.set_path(record.path);
  m.set_size_bytes(record.size_bytes);
  for (const scheduler::CheckpointFile& file : record.files) {
    pb::CheckpointFile* stored = m.add_files();
    stored->set_path(file.path);
    stored->set_size_bytes(file.size_bytes);
    stored->set_sha256(file.sha256);
  }
  for (const std::string& profile : record.ema_profiles) m.add_ema_profiles(profile);
  m.set_manifest_sha256(record.manifest_sha256);
  m.set_create_time(ToStorageTime(record.create_time));
  m.set_pinned(record.pinned);
  m.set_pin_note(record.pin_note);
  if (record.metric.has_value()) m.set_metric(*record.metric);
  return m;
}

scheduler::CheckpointRecord FromStorage(const pb::Checkpoint& m) {
  scheduler::CheckpointRecord record;
  record.job = m.job();
  record.id = m.id();
  record.state = static_cast<scheduler::CheckpointState>(m.state());
  record.images_seen = m.images_seen();
  record.epoch = m.epoch();
  record.attempt = m.attempt();
  record.root = m.root();
  record.root_id = m.root_id();
  record.path = m.path();
  record.size_bytes = m.size_bytes();
  for (const pb::CheckpointFile& file : m.files()) {
    record.files.push_back({.path = file.path(), .size_bytes = file.size_bytes(), .sha256 = file.sha256()});
  }
  record.ema_profiles = {m.ema_profiles().begin(), m.ema_profiles().end()};
  record.manifest_sha256 = m.manifest_sha256();
  record.create_time = FromStorageTime(m.create_time());
  record.pinned = m.pinned();
  record.pin_note = m.pin_note();
  if (m.has_metric()) record.metric = m.metric();
  return record;
}

pb::Deletion ToStorage(const scheduler::Deletion& record) {
  pb::Deletion m;
  m.set_root_id(record.root_id);
  m.set_path(record.path);
  m.set_job(record.job);
  m.set_checkpoint(record.checkpoint);
  return m;
}

scheduler::Deletion FromStorage(const pb::Deletion& m) {
  return {.root_id = m.root_id(), .path = m.path(), .job = m.job(), .checkpoint = m.checkpoint()};
}

pb::Artifact ToStorage(const scheduler::ArtifactRecord& record) {
  pb::Artifact m;
  m.set_job(record.job);
  m.set_id(record.id);
  m.set_kind(record.kind);
  m.set_content_type(record.content_type);
  m.set_size_bytes(record.size_bytes);
  m.set_sha256(record.sha256);
  m.set_images_seen(record.images_seen);
  m.set_attempt(record.attempt);
  m.set_create_time(ToStorageTime(record.create_time));
  return m;
}

scheduler::ArtifactRecord FromStorage(const pb::Artifact& m) {
  return {.job = m.job(),
          .id = m.id(),
          .kind = m.kind(),
          .content_type = m.content_type(),
          .size_bytes = m.size_bytes(),
          .sha256 = m.sha256(),
          .images_seen = m.images_seen(),
          .attempt = m.attempt(),
          .create_time = FromStorageTime(m.create_time())};
}

pb::Event ToStorage(const scheduler::EventRecord& record) {
  pb::Event m;
  m.set_revision(record.revision);
  m.set_time(ToStorageTime(record.time));
  m.set_resource(record.resource);
  m.set_reason(record.reason);
  m.set_message(record.message);
  m.set_actor(record.actor);
  m.set_request_id(record.request_id);
  m.set_before(record.before);
  m.set_after(record.after);
  return m;
}

scheduler::EventRecord FromStorage(const pb::Event& m) {
  return {.revision = m.revision(),
          .time = FromStorageTime(m.time()),
          .resource = m.resource(),
          .reason = m.reason(),
          .message = m.message(),
          .actor = m.actor(),
          .request_id = m.request_id(),
          .before = m.before(),
          .after = m.after()};
}

pb::Request ToStorage(const scheduler::RequestRecord& record) {
  pb::Request m;
  m.set_request_id(record.request_id);
  m.set_payload_sha256(record.payload_sha256);
  m.set_resource(record.resource);
  m.set_time(ToStorageTime(record.time));
  return m;
}

scheduler::RequestRecord FromStorage(const pb::Request& m) {
  return {.request_id = m.request_id(),
          .payload_sha256 = m.payload_sha256(),
          .resource = m.resource(),
          .time = FromStorageTime(m.time())};
}

pb::Queue ToStorage(const scheduler::QueueRecord& record) {
  pb::Queue m;
  m.set_id(record.id);
  m.mutable_selector()->insert(record.selector.begin(), record.selector.end());
  m.set_description(record.description);
  m.set_create_time(ToStorageTime(record.create_time));
  return m;
}

scheduler::QueueRecord FromStorage(const pb::Queue& m) {
  return {.id = m.id(),
          .selector = {m.selector().begin(), m.selector().end()},
          .description = m.description(),
          .create_time = FromStorageTime(m.create_time())};
}

pb::Share ToStorage(const scheduler::ShareRecord& record) {
  pb::Share m;
  m.set_id(record.id);
  m.set_weight(record.weight);
  m.set_usage(record.usage);
  return m;
}

scheduler::ShareRecord FromStorage(const pb::Share& m) {
  scheduler::ShareRecord record;
  record.id = m.id();
  record.weight = m.weight();
  record.usage = m.usage();
  return record;
}

pb::Quota ToStorage(const scheduler::QuotaRecord& record) {
  pb::Quota m;
  m.set_id(record.id);
  if (record.devices.has_value()) m.set_devices(*record.devices);
  m.set_borrow(record.borrow);
  if (record.queued_jobs.has_value()) m.set_queued_jobs(*record.queued_jobs);
  return m;
}

scheduler::QuotaRecord FromStorage(const pb::Quota& m) {
  scheduler::QuotaRecord record;
  record.id = m.id();
  if (m.has_devices()) record.devices = m.devices();
  record.borrow = m.borrow();
  if (m.has_queued_jobs()) record.queued_jobs = m.queued_jobs();
  return record;
}

}  // namespace p2::store

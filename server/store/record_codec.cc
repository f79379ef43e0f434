#include "server/store/record_codec.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace p2::store {
namespace {

using Labels = std::map<std::string, std::string>;

template <typename Range>
std::vector<std::string> Strings(const Range& range) {
  return {range.begin(), range.end()};
}

template <typename ProtoMap>
Labels ToMap(const ProtoMap& map) {
  return {map.begin(), map.end()};
}

pb::Needs ToStorage(const scheduler::JobNeeds& record) {
  pb::Needs m;
  m.set_devices(record.devices);
  m.set_kind(record.kind);
  m.set_dataset(record.dataset);
  m.set_dataset_root(record.dataset_root);
  m.set_dataset_root_id(record.dataset_root_id);
  m.set_dataset_path(record.dataset_path);
  m.set_dataset_fingerprint(record.dataset_fingerprint);
  m.set_checkpoint_root(record.checkpoint_root);
  m.set_checkpoint_root_id(record.checkpoint_root_id);
  m.set_keep_last(record.keep_last);
  m.set_restart_budget(record.restart_budget);
  m.set_backoff_initial_ns(absl::ToInt64Nanoseconds(record.backoff_initial));
  m.set_backoff_max_ns(absl::ToInt64Nanoseconds(record.backoff_max));
  m.set_stop_deadline_ns(absl::ToInt64Nanoseconds(record.stop_deadline));
  m.set_images_total(record.images_total);
  if (!record.source.root.empty()) {
    pb::Source& source = *m.mutable_source();
    source.set_root(record.source.root);
    source.set_root_id(record.source.root_id);
    source.set_path(record.source.path);
    source.set_job(record.source.job);
    source.set_checkpoint(record.source.checkpoint);
    source.set_images_seen(record.source.images_seen);
    source.set_is_run(record.source.is_run);
  }
  m.set_writes_output(record.writes_output);
  m.set_bitwise(record.bitwise);
  m.set_devices_min(record.devices_min);
  m.set_device_memory_min(record.device_memory_min);
  m.mutable_selector()->insert(record.selector.begin(), record.selector.end());
  m.set_not_preemptible(!record.preemptible);
  m.set_keep_every(record.keep_every);
  m.set_keep_best(record.keep_best);
  m.set_keep_best_metric(record.keep_best_metric);
  return m;
}

scheduler::JobNeeds FromStorage(const pb::Needs& m) {
  return {.devices = m.devices(),
          .devices_min = m.devices_min(),
          .kind = m.kind(),
          .device_memory_min = m.device_memory_min(),
          .selector = ToMap(m.selector()),
          .preemptible = !m.not_preemptible(),
          .dataset = m.dataset(),
          .dataset_root = m.dataset_root(),
          .dataset_root_id = m.dataset_root_id(),
          .dataset_path = m.dataset_path(),
          .dataset_fingerprint = m.dataset_fingerprint(),
          .checkpoint_root = m.checkpoint_root(),
          .checkpoint_root_id = m.checkpoint_root_id(),
          .keep_last = m.keep_last(),
          .keep_every = m.keep_every(),
          .keep_best = m.keep_best(),
          .keep_best_metric = m.keep_best_metric(),
          .restart_budget = m.restart_budget(),
          .backoff_initial = absl::Nanoseconds(m.backoff_initial_ns()),
          .backoff_max = absl::Nanoseconds(m.backoff_max_ns()),
          .stop_deadline = absl::Nanoseconds(m.stop_deadline_ns()),
          .images_total = m.images_total(),
          .source = {.root = m.source().root(),
                     .root_id = m.source().root_id(),
                     .path = m.source().path(),
                     .job = m.source().job(),
                     .checkpoint = m.source().checkpoint(),
                     .images_seen = m.source().images_seen(),
                     .is_run = m.source().is_run()},
          .writes_output = m.writes_output(),
          .bitwise = m.bitwise()};
}

pb::Attempt ToStorage(const scheduler::Attempt& record) {
  pb::Attempt m;
  m.set_number(record.number);
  m.set_epoch(record.epoch);
  m.set_outcome(static_cast<int>(record.outcome));
  m.set_reason(static_cast<int>(record.reason));
  m.set_message(record.message);
  m.set_create_time(ToStorageTime(record.create_time));
  m.set_start_time(ToStorageTime(record.start_time));
  m.set_end_time(ToStorageTime(record.end_time));
  if (record.exit_code.has_value()) m.set_exit_code(*record.exit_code);
  m.set_start_images_seen(record.start_images_seen);
  m.set_end_images_seen(record.end_images_seen);
  m.set_resumed_from(record.resumed_from);
  for (const scheduler::RankPlacement& rank : record.ranks) {
    pb::RankPlacement* placed = m.add_ranks();
    placed->set_rank(rank.rank);
    placed->set_worker(rank.worker);
    placed->set_slot(rank.slot);
  }
  m.mutable_fingerprint()->insert(record.fingerprint.begin(), record.fingerprint.end());
  for (const scheduler::Member& member : record.members) {
    pb::Member* stored = m.add_members();
    stored->set_worker(member.worker);
    stored->set_state(static_cast<int>(member.state));
    stored->set_missing(member.missing);
  }
  m.set_master_address(record.master_address);
  m.set_master_port(record.master_port);
  for (const std::string& candidate : record.resume_candidates) m.add_resume_candidates(candidate);
  m.set_stop_mode(static_cast<int>(record.stop_mode));
  m.set_reported_done(record.reported_done);
  m.set_reported_stopped(record.reported_stopped);
  m.set_backfill(record.backfill);
  return m;
}

scheduler::Attempt FromStorage(const pb::Attempt& m) {
  scheduler::Attempt record;
  record.number = m.number();
  record.epoch = m.epoch();
  record.outcome = static_cast<scheduler::Outcome>(m.outcome());
  record.reason = static_cast<scheduler::StatusReason>(m.reason());
  record.message = m.message();
  record.create_time = FromStorageTime(m.create_time());
  record.start_time = FromStorageTime(m.start_time());
  record.end_time = FromStorageTime(m.end_time());
  if (m.has_exit_code()) record.exit_code = m.exit_code();
  record.start_images_seen = m.start_images_seen();
  record.end_images_seen = m.end_images_seen();
  record.resumed_from = m.resumed_from();
  for (const pb::RankPlacement& rank : m.ranks()) {
    record.ranks.push_back({.rank = rank.rank(), .worker = rank.worker(), .slot = rank.slot()});
  }
  record.fingerprint = ToMap(m.fingerprint());
  for (const pb::Member& member : m.members()) {
    record.members.push_back({.worker = member.worker(),
                              .state = static_cast<scheduler::MemberState>(member.state()),
                              .missing = member.missing()});
  }
  record.master_address = m.master_address();
  record.master_port = m.master_port();
  record.resume_candidates = Strings(m.resume_candidates());
  record.stop_mode = static_cast<scheduler::StopMode>(m.stop_mode());
  record.reported_done = m.reported_done();
  record.reported_stopped = m.reported_stopped();
  record.backfill = m.backfill();
  return record;
}

}  // namespace

int64_t ToStorageTime(absl::Time time) { return time == absl::InfinitePast() ? 0 : absl::ToUnixNanos(time); }
absl::Time FromStorageTime(int64_t ns) { return ns == 0 ? absl::InfinitePast() : absl::FromUnixNanos(ns); }

pb::Job ToStorage(const scheduler::JobRecord& record) {
  pb::Job m;
  m.set_id(record.id);
  m.set_state(static_cast<int>(record.state));
  m.set_reason(static_cast<int>(record.reason));
  m.set_message(record.message);
  *m.mutable_needs() = ToStorage(*record.needs);
  const scheduler::JobDetails& details = *record.details;
  m.set_preset(details.preset);
  m.set_spec_sha256(details.spec_sha256);
  m.set_origins_sha256(details.origins_sha256);
  m.set_task(details.task);
  m.set_numerics_device(record.numerics_device);
  m.set_numerics_version(record.numerics_version);
  m.mutable_labels()->insert(details.labels.begin(), details.labels.end());
  m.set_owner(details.owner);
  m.set_project(details.project);
  m.set_queue(details.queue);
  m.set_priority(record.priority);
  m.set_request_id(record.request_id);
  m.set_create_order(record.create_order);
  m.set_create_time(ToStorageTime(record.create_time));
  m.set_start_time(ToStorageTime(record.start_time));
  m.set_end_time(ToStorageTime(record.end_time));
  m.set_update_time(ToStorageTime(record.update_time));
  m.set_not_before(ToStorageTime(record.not_before));
  m.set_backoff_ns(absl::ToInt64Nanoseconds(record.backoff));
  m.mutable_progress()->set_images_seen(record.progress.images_seen);
  m.mutable_progress()->set_images_per_second(record.progress.images_per_second);
  if (record.progress.loss.has_value()) m.mutable_progress()->set_loss(*record.progress.loss);
  m.mutable_progress()->set_phase(record.progress.phase);
  for (const auto& attempt : record.attempts) *m.add_attempts() = ToStorage(*attempt);
  m.set_epoch(record.epoch);
  m.set_attempt_count(record.attempt_count);
  m.set_restarts_used(record.restarts_used);
  m.set_consecutive_failures(record.consecutive_failures);
  m.set_latest_checkpoint(record.latest_checkpoint);
  m.set_stop_cause(static_cast<int>(record.stop_cause));
  m.set_order_key(record.order_key);
  if (details.lineage.kind != scheduler::Lineage::Kind::kNone) {
    m.mutable_lineage()->set_kind(static_cast<int>(details.lineage.kind));
    m.mutable_lineage()->set_job(details.lineage.job);
    m.mutable_lineage()->set_checkpoint(details.lineage.checkpoint);
  }
  m.set_note(details.note);
  m.set_preemptions(record.preemptions);
  m.set_churn(record.churn);
  m.set_device_rate(record.device_rate);
  m.set_revision(record.revision);
  for (const scheduler::SampleRange& range : record.skipped_ranges) {
    pb::SampleRange* stored = m.add_skipped_ranges();
    stored->set_begin(range.begin);
    stored->set_end(range.end);
  }
  return m;
}

scheduler::JobRecord FromStorage(const pb::Job& m) {
  scheduler::JobRecord record;
  record.id = m.id();
  record.state = static_cast<scheduler::JobState>(m.state());
  record.reason = static_cast<scheduler::StatusReason>(m.reason());
  record.message = m.message();
  record.needs = FromStorage(m.needs());
  record.details = scheduler::JobDetails{.preset = m.preset(),
                                         .spec_sha256 = m.spec_sha256(),
                                         .origins_sha256 = m.origins_sha256(),
                                         .task = m.task(),
                                         .labels = ToMap(m.labels()),
                                         .owner = m.owner(),
                                         .project = m.project(),
                                         .queue = m.queue(),
                                         .lineage = {static_cast<scheduler::Lineage::Kind>(m.lineage().kind()),
                                                     m.lineage().job(), m.lineage().checkpoint()},
                                         .note = m.note()};
  record.numerics_device = m.numerics_device();
  record.numerics_version = m.numerics_version();
  record.priority = m.priority();
  record.request_id = m.request_id();
  record.create_order = m.create_order();
  record.create_time = FromStorageTime(m.create_time());
  record.start_time = FromStorageTime(m.start_time());
  record.end_time = FromStorageTime(m.end_time());
  record.update_time = FromStorageTime(m.update_time());
  record.not_before = FromStorageTime(m.not_before());
  record.backoff = absl::Nanoseconds(m.backoff_ns());
  record.progress.images_seen = m.progress().images_seen();
  record.progress.images_per_second = m.progress().images_per_second();
  if (m.progress().has_loss()) record.progress.loss = m.progress().loss();
  record.progress.phase = m.progress().phase();
  for (const pb::Attempt& attempt : m.attempts()) record.attempts.push_back(FromStorage(attempt));
  record.epoch = m.epoch();
  record.attempt_count = m.attempt_count();
  record.restarts_used = m.restarts_used();
  record.consecutive_failures = m.consecutive_failures();
  record.latest_checkpoint = m.latest_checkpoint();
  record.stop_cause = static_cast<scheduler::StopCause>(m.stop_cause());
  record.order_key = m.order_key();
  record.preemptions = m.preemptions();
  record.churn = m.churn();
  record.device_rate = m.device_rate();
  record.revision = m.revision();
  for (const pb::SampleRange& range : m.skipped_ranges()) record.skipped_ranges.push_back({range.begin(), range.end()});
  return record;
}

pb::Worker ToStorage(const scheduler::WorkerRecord& record) {
  pb::Worker m;
  m.set_id(record.id);
  m.set_state(static_cast<int>(record.state));
  m.set_cordoned(record.cordoned);
  m.set_draining(record.draining);
  m.set_cordon_reason(record.cordon_reason);
  for (const scheduler::SlotRecord& slot : record.slots) {
    pb::Slot* stored = m.add_slots();
    stored->set_id(slot.id);
    stored->set_kind(slot.kind);
    stored->set_device_name(slot.device_name);
    stored->set_uuid(slot.uuid);
    stored->set_memory_bytes(slot.memory_bytes);
    stored->set_threads(slot.threads);
  }
  for (const scheduler::RootRecord& root : record.roots) {
    pb::Root* stored = m.add_roots();
    stored->set_name(root.name);
    stored->set_id(root.id);
    stored->set_path(root.path);
    stored->set_free_bytes(root.free_bytes);
    stored->set_total_bytes(root.total_bytes);
  }
  m.set_host(record.host);
  m.set_data_address(record.data_address);
  m.set_version(record.version);
  m.set_instance(record.instance);
  m.set_protocol_version(record.protocol_version);
  m.mutable_labels()->insert(record.labels.begin(), record.labels.end());
  for (const scheduler::Orphan& orphan : record.orphans) {
    pb::Orphan* stored = m.add_orphans();
    stored->set_job(orphan.job);
    stored->set_epoch(orphan.epoch);
    for (const std::string& slot : orphan.slots) stored->add_slots(slot);
  }
  m.set_spool_id(record.spool_id);
  m.set_spool_acked(record.spool_acked);
  for (const std::string& job : record.failed_jobs) m.add_failed_jobs(job);
  if (record.drain_within != absl::InfiniteDuration())
    m.set_drain_within_ns(absl::ToInt64Nanoseconds(record.drain_within));
  for (const scheduler::DeviceFault& fault : record.device_faults) {
    pb::DeviceFault* stored = m.add_device_faults();
    stored->set_slot(fault.slot);
    stored->set_xid(fault.xid);
    stored->set_count(fault.count);
  }
  return m;
}

scheduler::WorkerRecord FromStorage(const pb::Worker& m) {
  scheduler::WorkerRecord record;
  record.id = m.id();
  record.state = static_cast<scheduler::WorkerState>(m.state());
  record.cordoned = m.cordoned();
  record.draining = m.draining();
  record.cordon_reason = m.cordon_reason();
  for (const pb::Slot& slot : m.slots()) {
    record.slots.push_back({.id = slot.id(),
                            .kind = slot.kind(),
                            .device_name = slot.device_name(),
                            .uuid = slot.uuid(),
                            .memory_bytes = slot.memory_bytes(),
                            .threads = slot.threads()});
  }
  for (const pb::Root& root : m.roots()) {
    record.roots.push_back({.name = root.name(),
                            .id = root.id(),
                            .path = root.path(),
                            .free_bytes = root.free_bytes(),
                            .total_bytes = root.total_bytes()});
  }
  record.host = m.host();
  record.data_address = m.data_address();
  record.version = m.version();
  record.instance = m.instance();
  record.protocol_version = m.protocol_version();
  record.labels = ToMap(m.labels());
  for (const pb::Orphan& orphan : m.orphans()) {
    record.orphans.push_back({.job = orphan.job(), .epoch = orphan.epoch(), .slots = Strings(orphan.slots())});
  }
  record.spool_id = m.spool_id();
  record.spool_acked = m.spool_acked();
  record.failed_jobs = Strings(m.failed_jobs());
  if (m.drain_within_ns() > 0) record.drain_within = absl::Nanoseconds(m.drain_within_ns());
  for (const pb::DeviceFault& fault : m.device_faults()) {
    record.device_faults.push_back({fault.slot(), fault.xid(), std::max<int64_t>(1, fault.count())});
  }
  return record;
}

}  // namespace p2::store

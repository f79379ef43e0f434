#include "server/store/rocksdb_job_store.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/error_reason.h"
#include "common/status_macros.h"
#include "rocksdb/env.h"
#include "server/scheduler/job_values.h"
#include "server/store/chunk_thinning.h"
#include "server/store/database.h"
#include "server/store/keys.h"
#include "server/store/memory_job_store.h"
#include "server/store/metric_rows.h"
#include "server/store/record_codec.h"
#include "server/store/request_log.h"

namespace p2::store {
namespace {

using View = Database::View;

constexpr size_t kSpecsRemembered = 1024;

absl::Status Unparsable(absl::string_view key) {
  return absl::DataLossError(absl::StrCat("record \"", absl::CHexEscape(key), "\" cannot be parsed"));
}

// Gives every record of `prefix` to `take`, by key.
template <typename Message, typename Take>
absl::Status ReadEach(const View& view, const Key& prefix, const Take& take) {
  bool whole = true;
  P2_RETURN_IF_ERROR(view.Scan(prefix, "", [&](absl::string_view, absl::string_view payload) {
    Message message;
    whole = message.ParseFromArray(payload.data(), static_cast<int>(payload.size()));
    if (whole) take(FromStorage(message));
    return whole;
  }));
  return whole ? absl::OkStatus() : Unparsable(prefix.bytes());
}

template <typename Message>
auto ReadAll(const View& view, const Key& prefix) -> absl::StatusOr<std::vector<decltype(FromStorage(Message()))>> {
  using Record = decltype(FromStorage(Message()));
  std::vector<Record> records;
  P2_RETURN_IF_ERROR(
      ReadEach<Message>(view, prefix, [&records](Record record) { records.push_back(std::move(record)); }));
  return records;
}

// `source`: the database, or a view of it.
template <typename Message, typename Source>
auto ReadOne(const Source& source, const Key& key) -> absl::StatusOr<std::optional<decltype(FromStorage(Message()))>> {
  P2_ASSIGN_OR_RETURN(const std::optional<std::string> payload, source.Get(key));
  if (!payload.has_value()) return std::nullopt;
  Message message;
  if (!message.ParseFromString(*payload)) return Unparsable(key.bytes());
  return FromStorage(message);
}

template <typename Record>
std::vector<std::shared_ptr<const Record>> Share(std::vector<Record> records) {
  std::vector<std::shared_ptr<const Record>> shared;
  shared.reserve(records.size());
  for (Record& record : records) shared.push_back(std::make_shared<const Record>(std::move(record)));
  return shared;
}

class RocksDbJobStore : public JobStore {
 public:
  // Borrows `database`.
  explicit RocksDbJobStore(Database& database) : database_(database), metrics_(database_), requests_(database_) {}
  // `env`: what the database lives in; null: the operating system's files.
  RocksDbJobStore(std::unique_ptr<rocksdb::Env> env, std::unique_ptr<Database> database)
      : env_(std::move(env)),
        owned_(std::move(database)),
        database_(*owned_),
        metrics_(database_),
        requests_(database_) {}

  absl::StatusOr<PersistedState> Load() override {
    const View view(database_);
    PersistedState state;
    scheduler::JobValues values;
    // Read once, in one go: RocksDB need not keep them as well.
    const View once(database_, View::Blocks::kForget);
    P2_RETURN_IF_ERROR(ReadEach<pb::Job>(once, Key(kLiveJobs), [&](scheduler::JobRecord job) {
      values.Unify(job);
      state.jobs.push_back(std::make_shared<const scheduler::JobRecord>(std::move(job)));
    }));
    for (const scheduler::JobPtr& job : state.jobs) {
      P2_ASSIGN_OR_RETURN(auto checkpoints, ReadAll<pb::Checkpoint>(view, Key(kCheckpoints).Text(job->id)));
      for (auto& checkpoint : Share(std::move(checkpoints))) state.checkpoints.push_back(std::move(checkpoint));
    }
    P2_ASSIGN_OR_RETURN(auto workers, ReadAll<pb::Worker>(view, Key(kWorkers)));
    for (scheduler::WorkerRecord& worker : workers) {
      P2_ASSIGN_OR_RETURN(const auto payload, view.Get(Key(kSpoolAcks).Text(worker.id)));
      pb::SpoolAck ack;
      if (!payload.has_value()) continue;
      if (!ack.ParseFromString(*payload)) return Unparsable("a");
      worker.spool_id = ack.spool_id();
      worker.spool_acked = ack.sequence();
    }
    state.workers = Share(std::move(workers));
    P2_ASSIGN_OR_RETURN(auto datasets, ReadAll<pb::Dataset>(view, Key(kDatasets)));
    state.datasets = Share(std::move(datasets));
    P2_ASSIGN_OR_RETURN(state.deletions, ReadAll<pb::Deletion>(view, Key(kDeletions)));
    P2_ASSIGN_OR_RETURN(auto queues, ReadAll<pb::Queue>(view, Key(kQueues)));
    state.queues = Share(std::move(queues));
    P2_ASSIGN_OR_RETURN(state.shares, ReadAll<pb::Share>(view, Key(kShares)));
    P2_ASSIGN_OR_RETURN(state.quotas, ReadAll<pb::Quota>(view, Key(kQuotas)));
    P2_ASSIGN_OR_RETURN(const auto payload, view.Get(Key(kMeta).Text("counters")));
    pb::Counters counters;
    if (payload.has_value() && !counters.ParseFromString(*payload)) return Unparsable("m");
    state.counters = {.job_revision = counters.job_revision(),
                      .event_revision = counters.event_revision(),
                      .create_order = counters.create_order()};
    return state;
  }

  absl::Status Apply(absl::Span<const scheduler::Mutation> mutations) override {
    P2_RETURN_IF_ERROR(broken_);
    Batch batch;
    for (const scheduler::Mutation& mutation : mutations) {
      broken_ = std::visit([&](const auto& change) { return Write(batch, change); }, mutation);
      P2_RETURN_IF_ERROR(broken_);
    }
    broken_ = requests_.Sweep(batch, [this](absl::string_view job) { return GetJob(job).ok(); });
    P2_RETURN_IF_ERROR(broken_);
    metrics_.Flush(batch);
    if (batch.empty()) return absl::OkStatus();
    return broken_ = database_.Write(batch);
  }

  absl::StatusOr<std::vector<ThinnedChunk>> PrepareThinning(absl::Time older_than,
                                                            absl::Duration budget) const override {
    P2_RETURN_IF_ERROR(database_.SyncUnsynced());
    return ThinDueChunks(View(database_), older_than, budget, thinning_front_);
  }

  absl::Status CommitThinning(const std::vector<ThinnedChunk>& chunks) override {
    P2_RETURN_IF_ERROR(broken_);
    // With nothing due the next look is from the beginning, where p2d's clock may have been set back to.
    thinning_front_ = chunks.empty() ? "" : chunks.back().note;
    if (chunks.empty()) return absl::OkStatus();
    Batch batch;
    PutThinned(chunks, batch);
    return broken_ = database_.WriteUnsynced(batch);
  }

  absl::StatusOr<scheduler::JobPtr> GetJob(absl::string_view id) const override {
    // In this order: a job that ends between the two reads is found by the second.
    for (const Table table : {kLiveJobs, kFinishedJobs}) {
      P2_ASSIGN_OR_RETURN(auto job, ReadOne<pb::Job>(database_, Key(table).Text(id)));
      if (job.has_value()) return std::make_shared<const scheduler::JobRecord>(std::move(*job));
    }
    return Error(ErrorReason::kJobNotFound, absl::StrCat("job \"", id, "\" not found; `p2ctl list` shows them"));
  }

  absl::StatusOr<std::vector<scheduler::JobPtr>> ListFinishedJobs(int64_t before, int limit) const override {
    const View view(database_);
    std::vector<std::string> ids;
    const std::string bound = Key(kFinishedByAge).Number(static_cast<uint64_t>(std::max<int64_t>(0, before))).bytes();
    P2_RETURN_IF_ERROR(view.ScanBackwards(Key(kFinishedByAge), bound, [&](absl::string_view, absl::string_view id) {
      if (static_cast<int>(ids.size()) >= limit) return false;
      ids.emplace_back(id);
      return true;
    }));
    std::vector<scheduler::JobPtr> jobs;
    for (const std::string& id : ids) {
      P2_ASSIGN_OR_RETURN(auto job, ReadOne<pb::Job>(view, Key(kFinishedJobs).Text(id)));
      if (job.has_value()) jobs.push_back(std::make_shared<const scheduler::JobRecord>(std::move(*job)));
    }
    return jobs;
  }

  absl::StatusOr<std::vector<std::string>> FindFinishedJobs(absl::string_view prefix, int limit) const override {
    std::vector<std::string> ids;
    const View view(database_);
    P2_RETURN_IF_ERROR(
        view.Scan(Key(kFinishedJobs).TextPrefix(prefix), "", [&](absl::string_view, absl::string_view value) {
          if (static_cast<int>(ids.size()) >= limit) return false;
          pb::Job job;
          if (job.ParseFromArray(value.data(), static_cast<int>(value.size()))) ids.push_back(job.id());
          return true;
        }));
    return ids;
  }

  absl::StatusOr<std::string> GetSpec(absl::string_view sha256) const override {
    P2_ASSIGN_OR_RETURN(std::optional<std::string> bytes, database_.Get(Key(kSpecs).Text(sha256)));
    if (bytes.has_value()) return *std::move(bytes);
    return absl::NotFoundError(absl::StrCat("spec ", sha256, " is not stored"));
  }

  absl::StatusOr<std::vector<scheduler::CheckpointPtr>> ListCheckpoints(absl::string_view job) const override {
    P2_ASSIGN_OR_RETURN(auto records, ReadAll<pb::Checkpoint>(View(database_), Key(kCheckpoints).Text(job)));
    return Share(std::move(records));
  }

  absl::StatusOr<std::vector<scheduler::ArtifactRecord>> ListArtifacts(absl::string_view job) const override {
    return ReadAll<pb::Artifact>(View(database_), Key(kArtifacts).Text(job));
  }

  absl::StatusOr<std::vector<scheduler::EventRecord>> ListEvents(absl::string_view resource, int64_t from,
                                                                 int limit) const override {
    const View view(database_);
    const auto first = static_cast<uint64_t>(std::max<int64_t>(0, from));
    std::vector<uint64_t> revisions;
    const Key all = resource.empty() ? Key(kEvents) : Key(kEventsByResource).Text(resource);
    P2_RETURN_IF_ERROR(view.Scan(all, Key(all).Number(first).bytes(), [&](absl::string_view key, absl::string_view) {
      if (static_cast<int>(revisions.size()) >= limit) return false;
      revisions.push_back(LastNumber(key));
      return true;
    }));
    std::vector<scheduler::EventRecord> events;
    for (const uint64_t revision : revisions) {
      P2_ASSIGN_OR_RETURN(auto event, ReadOne<pb::Event>(view, Key(kEvents).Number(revision)));
      if (event.has_value()) events.push_back(*std::move(event));
    }
    return events;
  }

  absl::StatusOr<std::optional<scheduler::RequestRecord>> GetRequest(absl::string_view request_id) const override {
    return ReadOne<pb::Request>(database_, Key(kRequests).Text(request_id));
  }

  absl::Status ReadMetrics(absl::string_view job, MetricPosition after,
                           absl::FunctionRef<bool(const MetricRow&)> visit) const override {
    return ReadMetricRows(View(database_), job, after, visit);
  }

  absl::Status ReadMetricsBetween(absl::string_view job, int64_t first_images, int64_t last_images,
                                  absl::FunctionRef<void(const MetricRow&)> visit) const override {
    return ReadMetricRowsBetween(View(database_), job, first_images, last_images, visit);
  }

  StoreHealth Health() const override { return database_.Health(); }

 private:
  template <typename Record>
  static void PutRecord(Batch& batch, Key key, const Record& record) {
    batch.Put(std::move(key), ToStorage(record));
  }

  absl::Status Write(Batch& batch, const scheduler::PutJob& put) {
    if (!put.durable) return absl::OkStatus();
    const scheduler::JobRecord& job = *put.job;
    if (!scheduler::IsTerminal(job.state)) {
      PutRecord(batch, Key(kLiveJobs).Text(job.id), job);
      return absl::OkStatus();
    }
    batch.Delete(Key(kLiveJobs).Text(job.id));
    PutRecord(batch, Key(kFinishedJobs).Text(job.id), job);
    batch.Put(Key(kFinishedByAge).Number(static_cast<uint64_t>(job.create_order)), job.id);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::EraseJob& erase) {
    P2_ASSIGN_OR_RETURN(const auto finished, ReadOne<pb::Job>(database_, Key(kFinishedJobs).Text(erase.job)));
    if (finished.has_value()) {
      batch.Delete(Key(kFinishedByAge).Number(static_cast<uint64_t>(finished->create_order)));
    }
    batch.Delete(Key(kFinishedJobs).Text(erase.job));
    batch.Delete(Key(kLiveJobs).Text(erase.job));
    for (const Table table : {kCheckpoints, kArtifacts, kMetricChunks, kSupersedes}) {
      batch.DeletePrefix(Key(table).Text(erase.job));
    }
    metrics_.Forget(erase.job);
    return absl::OkStatus();
  }

  // No spec is ever erased, and a failed write is the last one: what was put need not be put again.
  absl::Status Write(Batch& batch, const scheduler::PutSpec& put) {
    if (specs_put_.size() >= kSpecsRemembered) specs_put_.clear();
    if (specs_put_.insert(put.sha256).second) batch.Put(Key(kSpecs).Text(put.sha256), put.bytes);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutWorker& put) {
    if (put.durable) PutRecord(batch, Key(kWorkers).Text(put.worker->id), *put.worker);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutDataset& put) {
    PutRecord(batch, Key(kDatasets).Text(put.dataset->id), *put.dataset);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutCheckpoint& put) {
    PutRecord(batch, Key(kCheckpoints).Text(put.checkpoint->job).Text(put.checkpoint->id), *put.checkpoint);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::EraseCheckpoint& erase) {
    batch.Delete(Key(kCheckpoints).Text(erase.job).Text(erase.checkpoint));
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutDeletion& put) {
    if (put.durable) PutRecord(batch, Key(kDeletions).Text(put.deletion.root_id).Text(put.deletion.path), put.deletion);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::EraseDeletion& erase) {
    batch.Delete(Key(kDeletions).Text(erase.root_id).Text(erase.path));
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutQueue& put) {
    PutRecord(batch, Key(kQueues).Text(put.queue->id), *put.queue);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::EraseQueue& erase) {
    batch.Delete(Key(kQueues).Text(erase.queue));
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutShare& put) {
    if (put.durable) PutRecord(batch, Key(kShares).Text(put.share.id), put.share);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutQuota& put) {
    PutRecord(batch, Key(kQuotas).Text(put.quota.id), put.quota);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::EraseQuota& erase) {
    batch.Delete(Key(kQuotas).Text(erase.id));
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutArtifact& put) {
    PutRecord(batch, Key(kArtifacts).Text(put.artifact.job).Text(put.artifact.id), put.artifact);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::AppendEvent& append) {
    const auto revision = static_cast<uint64_t>(append.event.revision);
    PutRecord(batch, Key(kEvents).Number(revision), append.event);
    batch.Put(Key(kEventsByResource).Text(append.event.resource).Number(revision), "");
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::PutRequest& put) {
    requests_.Put(batch, put.request);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::AppendMetrics& append) { return metrics_.Append(batch, append); }

  absl::Status Write(Batch& batch, const scheduler::SupersedeMetrics& supersede) {
    pb::Supersede message;
    message.set_attempt(supersede.attempt);
    message.set_images_seen(supersede.images_seen);
    batch.Put(Key(kSupersedes).Text(supersede.job).Number(static_cast<uint64_t>(supersede.attempt)), message);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::SetSpoolAck& ack) {
    pb::SpoolAck message;
    message.set_spool_id(ack.spool_id);
    message.set_sequence(ack.sequence);
    batch.Put(Key(kSpoolAcks).Text(ack.worker), message);
    return absl::OkStatus();
  }

  absl::Status Write(Batch& batch, const scheduler::SetCounters& counters) {
    pb::Counters message;
    message.set_job_revision(counters.job_revision);
    message.set_event_revision(counters.event_revision);
    message.set_create_order(counters.create_order);
    batch.Put(Key(kMeta).Text("counters"), message);
    return absl::OkStatus();
  }

  // What lives in memory alone.
  absl::Status Write(Batch&, const scheduler::SetDiskFull&) { return absl::OkStatus(); }
  absl::Status Write(Batch&, const scheduler::PutReservation&) { return absl::OkStatus(); }
  absl::Status Write(Batch&, const scheduler::EraseReservation&) { return absl::OkStatus(); }
  absl::Status Write(Batch&, const scheduler::SetPassDue&) { return absl::OkStatus(); }
  absl::Status Write(Batch&, const scheduler::PutPassMemo&) { return absl::OkStatus(); }

  // Constant after construction. The database ends before the files that it may live in.
  const std::unique_ptr<rocksdb::Env> env_;
  const std::unique_ptr<Database> owned_;
  Database& database_;

  // Confined to the writing thread.
  MetricAppender metrics_;
  RequestLog requests_;
  std::set<std::string> specs_put_;
  absl::Status broken_;

  std::string thinning_front_;  // The last note taken. Belongs to PrepareThinning and CommitThinning in turns.
};

}  // namespace

absl::StatusOr<std::unique_ptr<JobStore>> OpenRocksDbJobStore(const RocksDbJobStoreOptions& options) {
  P2_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open(options));
  return std::make_unique<RocksDbJobStore>(nullptr, std::move(database));
}

std::unique_ptr<JobStore> NewRocksDbJobStore(Database& database) { return std::make_unique<RocksDbJobStore>(database); }

std::unique_ptr<JobStore> NewMemoryJobStore() {
  std::unique_ptr<rocksdb::Env> env(rocksdb::NewMemEnv(rocksdb::Env::Default()));
  auto database = Database::Open({.database_path = "/memory", .env = env.get()});
  database.status().IgnoreError();  // Dereferencing a failure ends the test with its message.
  return std::make_unique<RocksDbJobStore>(std::move(env), *std::move(database));
}

}  // namespace p2::store

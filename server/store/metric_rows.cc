#include "server/store/metric_rows.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/store/chunk_thinning.h"
#include "server/store/record_codec.h"
#include "server/store/supersedes.h"

namespace p2::store {
namespace {

constexpr int kRowsPerChunk = 128;
// A chunk that grows is written anew with each batch: tails of many live jobs must stay small in memory.
constexpr size_t kMaxTails = 1024;

Key ChunkKey(absl::string_view job, int attempt, uint64_t first_sequence) {
  return Key(kMetricChunks).Text(job).Number(static_cast<uint64_t>(attempt)).Number(first_sequence);
}

Key KeyOf(absl::string_view job, const pb::MetricChunk& chunk) {
  return ChunkKey(job, chunk.attempt(), chunk.rows(0).sequence());
}

absl::Status Unparsable(absl::string_view job) {
  return absl::DataLossError(absl::StrCat("metrics of job ", job, " cannot be parsed"));
}

uint32_t ColumnOf(pb::MetricChunk& chunk, const std::string& name) {
  const auto found = std::find(chunk.names().begin(), chunk.names().end(), name);
  if (found == chunk.names().end()) {
    chunk.add_names(name);
    return static_cast<uint32_t>(chunk.names_size() - 1);
  }
  return static_cast<uint32_t>(found - chunk.names().begin());
}

}  // namespace

int ValuesOf(const pb::MetricRow& row) { return std::min(row.columns_size(), row.values_size()); }

MetricSummary SummaryOf(const pb::MetricRow& row, int i) {
  if (i >= std::min({row.counts_size(), row.mins_size(), row.maxs_size()})) return MetricSummary::Of(row.values(i));
  return {.sum = row.values(i) * row.counts(i), .min = row.mins(i), .max = row.maxs(i), .count = row.counts(i)};
}

absl::Status MetricAppender::LoadTail(absl::string_view job, Tail& tail) const {
  bool whole = true;
  P2_RETURN_IF_ERROR(Database::View(database_).ScanBackwards(
      Key(kMetricChunks).Text(job), "", [&](absl::string_view, absl::string_view payload) {
        whole =
            tail.chunk.ParseFromArray(payload.data(), static_cast<int>(payload.size())) && tail.chunk.rows_size() > 0;
        return false;
      }));
  if (!whole) return Unparsable(job);
  if (tail.chunk.rows_size() > 0) {
    tail.last = {.attempt = tail.chunk.attempt(), .sequence = tail.chunk.rows(tail.chunk.rows_size() - 1).sequence()};
  }
  return absl::OkStatus();
}

void MetricAppender::PutChunk(Batch& batch, absl::string_view job, Tail& tail) {
  if (!tail.dirty) return;
  batch.Put(KeyOf(job, tail.chunk), tail.chunk);
  tail.dirty = false;
}

absl::Status MetricAppender::Append(Batch& batch, const scheduler::AppendMetrics& append) {
  auto found = tails_.find(append.job);
  if (found == tails_.end()) {
    Tail tail;
    P2_RETURN_IF_ERROR(LoadTail(append.job, tail));
    found = tails_.emplace(append.job, std::move(tail)).first;
  }
  Tail& tail = found->second;
  const MetricPosition position{.attempt = append.attempt, .sequence = append.sequence};
  if (position <= tail.last) return absl::OkStatus();
  if (tail.chunk.rows_size() >= kRowsPerChunk || tail.chunk.attempt() != append.attempt) {
    PutChunk(batch, append.job, tail);
    if (tail.chunk.rows_size() > 0) {
      batch.Put(ThinningDueKey(append.received, KeyOf(append.job, tail.chunk)), "");
    }
    tail.chunk.Clear();
    tail.chunk.set_attempt(append.attempt);
  }
  pb::MetricRow* row = tail.chunk.add_rows();
  row->set_sequence(append.sequence);
  row->set_images_seen(append.images_seen);
  row->set_step(append.step);
  row->set_time(ToStorageTime(append.time));
  for (const auto& [name, value] : append.values) {
    row->add_columns(ColumnOf(tail.chunk, name));
    row->add_values(value);
  }
  tail.last = position;
  tail.dirty = true;
  return absl::OkStatus();
}

void MetricAppender::Flush(Batch& batch) {
  for (auto& [job, tail] : tails_) PutChunk(batch, job, tail);
  if (tails_.size() > kMaxTails) tails_.clear();
}

void MetricAppender::Forget(absl::string_view job) {
  if (const auto found = tails_.find(job); found != tails_.end()) tails_.erase(found);
}

absl::Status ReadMetricRows(const Database::View& view, absl::string_view job, MetricPosition after,
                            absl::FunctionRef<bool(const MetricRow&)> visit) {
  bool whole = true;
  P2_ASSIGN_OR_RETURN(const Supersedes supersedes, Supersedes::Read(view, Key(kSupersedes).Text(job)));
  // The chunk that holds `after` begins at or before it.
  const Key all = Key(kMetricChunks).Text(job);
  std::string first;
  P2_RETURN_IF_ERROR(view.ScanBackwards(all, ChunkKey(job, after.attempt, after.sequence + 1).bytes(),
                                        [&first](absl::string_view key, absl::string_view) {
                                          first = std::string(key);
                                          return false;
                                        }));
  P2_RETURN_IF_ERROR(view.Scan(all, first, [&](absl::string_view, absl::string_view payload) {
    pb::MetricChunk chunk;
    whole = whole && chunk.ParseFromArray(payload.data(), static_cast<int>(payload.size()));
    const int64_t last_good = supersedes.LastGood(chunk.attempt());
    for (const pb::MetricRow& row : chunk.rows()) {
      if (MetricPosition{.attempt = chunk.attempt(), .sequence = row.sequence()} <= after) continue;
      MetricRow out{.attempt = chunk.attempt(),
                    .sequence = row.sequence(),
                    .images_seen = row.images_seen(),
                    .step = row.step(),
                    .time = FromStorageTime(row.time()),
                    .superseded = row.images_seen() > last_good};
      for (int i = 0; i < ValuesOf(row); ++i) {
        if (row.columns(i) < static_cast<uint32_t>(chunk.names_size())) {
          out.values.emplace(chunk.names(static_cast<int>(row.columns(i))), SummaryOf(row, i));
        }
      }
      if (!visit(out)) return false;
    }
    return whole;
  }));
  return whole ? absl::OkStatus() : Unparsable(job);
}

}  // namespace p2::store

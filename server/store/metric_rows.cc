#include "server/store/metric_rows.h"

#include <algorithm>
#include <optional>
#include <utility>

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

absl::StatusOr<pb::MetricChunk> Parse(absl::string_view job, absl::string_view payload) {
  pb::MetricChunk chunk;
  if (chunk.ParseFromArray(payload.data(), static_cast<int>(payload.size())) && chunk.rows_size() > 0) return chunk;
  return Unparsable(job);
}

uint32_t ColumnOf(pb::MetricChunk& chunk, const std::string& name) {
  const auto found = std::find(chunk.names().begin(), chunk.names().end(), name);
  if (found == chunk.names().end()) {
    chunk.add_names(name);
    return static_cast<uint32_t>(chunk.names_size() - 1);
  }
  return static_cast<uint32_t>(found - chunk.names().begin());
}

MetricRow RowOf(const pb::MetricChunk& chunk, const pb::MetricRow& row, int64_t last_good) {
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
  return out;
}

struct ChunkAt {
  std::string key;
  pb::MetricChunk chunk;

  // What its key says: a thinned chunk's first row has a later number.
  uint64_t begin() const { return LastNumber(key); }
  int64_t first_images() const { return chunk.rows(0).images_seen(); }
};

// Chunks of the job from the key `first` on (empty: all), until `visit` returns false.
absl::Status ScanChunks(const Database::View& view, absl::string_view job, absl::string_view first,
                        absl::FunctionRef<bool(ChunkAt)> visit) {
  absl::Status parsed;
  P2_RETURN_IF_ERROR(
      view.Scan(Key(kMetricChunks).Text(job), first, [&](absl::string_view key, absl::string_view payload) {
        absl::StatusOr<pb::MetricChunk> chunk = Parse(job, payload);
        parsed = chunk.status();
        return chunk.ok() && visit({std::string(key), *std::move(chunk)});
      }));
  return parsed;
}

// The last chunk of the job before the key `before` (empty: of all).
absl::StatusOr<std::optional<ChunkAt>> ChunkBefore(const Database::View& view, absl::string_view job,
                                                   absl::string_view before) {
  std::optional<ChunkAt> found;
  absl::Status parsed;
  P2_RETURN_IF_ERROR(
      view.ScanBackwards(Key(kMetricChunks).Text(job), before, [&](absl::string_view key, absl::string_view payload) {
        absl::StatusOr<pb::MetricChunk> chunk = Parse(job, payload);
        parsed = chunk.status();
        if (chunk.ok()) found = {std::string(key), *std::move(chunk)};
        return false;
      }));
  P2_RETURN_IF_ERROR(parsed);
  return found;
}

// Key of the last chunk of the attempt that begins below `images`, before which there is no row at or above it; else of
// the attempt's first chunk, which is `first`.
absl::StatusOr<std::string> SeekImages(const Database::View& view, absl::string_view job, const ChunkAt& first,
                                       int64_t images) {
  if (first.first_images() >= images) return first.key;
  const int attempt = first.chunk.attempt();
  P2_ASSIGN_OR_RETURN(const std::optional<ChunkAt> last, ChunkBefore(view, job, ChunkKey(job, attempt + 1, 0).bytes()));
  std::string found = first.key;
  // The chunk of the row `low` begins below `images`, that of `high` does not or is none.
  uint64_t low = first.begin(), high = last->begin() + 1;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    P2_ASSIGN_OR_RETURN(const std::optional<ChunkAt> probe,
                        ChunkBefore(view, job, ChunkKey(job, attempt, middle + 1).bytes()));
    if (probe->first_images() < images) {
      found = probe->key;
      low = middle;
    } else {
      high = probe->begin();
    }
  }
  return found;
}

}  // namespace

int ValuesOf(const pb::MetricRow& row) { return std::min(row.columns_size(), row.values_size()); }

MetricSummary SummaryOf(const pb::MetricRow& row, int i) {
  if (i >= std::min({row.counts_size(), row.mins_size(), row.maxs_size()})) return MetricSummary::Of(row.values(i));
  return {.sum = row.values(i) * row.counts(i), .min = row.mins(i), .max = row.maxs(i), .count = row.counts(i)};
}

absl::Status MetricAppender::LoadTail(absl::string_view job, Tail& tail) const {
  P2_ASSIGN_OR_RETURN(std::optional<ChunkAt> last, ChunkBefore(Database::View(database_), job, ""));
  if (!last.has_value()) return absl::OkStatus();
  tail.chunk = std::move(last->chunk);
  tail.last = {.attempt = tail.chunk.attempt(), .sequence = tail.chunk.rows(tail.chunk.rows_size() - 1).sequence()};
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
  P2_ASSIGN_OR_RETURN(const Supersedes supersedes, Supersedes::Read(view, Key(kSupersedes).Text(job)));
  // The chunk that holds `after` begins at or before it.
  std::string first;
  P2_RETURN_IF_ERROR(view.ScanBackwards(Key(kMetricChunks).Text(job),
                                        ChunkKey(job, after.attempt, after.sequence + 1).bytes(),
                                        [&first](absl::string_view key, absl::string_view) {
                                          first = std::string(key);
                                          return false;
                                        }));
  return ScanChunks(view, job, first, [&](const ChunkAt& at) {
    const int64_t last_good = supersedes.LastGood(at.chunk.attempt());
    for (const pb::MetricRow& row : at.chunk.rows()) {
      if (MetricPosition{.attempt = at.chunk.attempt(), .sequence = row.sequence()} <= after) continue;
      if (!visit(RowOf(at.chunk, row, last_good))) return false;
    }
    return true;
  });
}

absl::Status ReadMetricRowsBetween(const Database::View& view, absl::string_view job, int64_t first_images,
                                   int64_t last_images, absl::FunctionRef<void(const MetricRow&)> visit) {
  P2_ASSIGN_OR_RETURN(const Supersedes supersedes, Supersedes::Read(view, Key(kSupersedes).Text(job)));
  for (int attempt = 0;; ++attempt) {
    std::optional<ChunkAt> first;  // Of the next attempt that has rows.
    P2_RETURN_IF_ERROR(ScanChunks(view, job, ChunkKey(job, attempt, 0).bytes(), [&first](ChunkAt at) {
      first = std::move(at);
      return false;
    }));
    if (!first.has_value()) return absl::OkStatus();
    attempt = first->chunk.attempt();
    const int64_t last_good = supersedes.LastGood(attempt);
    P2_ASSIGN_OR_RETURN(const std::string begin, SeekImages(view, job, *first, first_images));
    P2_RETURN_IF_ERROR(ScanChunks(view, job, begin, [&](const ChunkAt& at) {
      if (at.chunk.attempt() != attempt) return false;
      for (const pb::MetricRow& row : at.chunk.rows()) {
        if (row.images_seen() > last_images) return false;
        if (row.images_seen() >= first_images) visit(RowOf(at.chunk, row, last_good));
      }
      return true;
    }));
  }
}

}  // namespace p2::store

#include "server/store/chunk_thinning.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "server/store/metric_rows.h"
#include "server/store/supersedes.h"

namespace p2::store {
namespace {

namespace pb = p2::storage::v1;

constexpr int kRowsToOne = 16;
constexpr size_t kLetter = 1, kNumber = 8;  // Bytes of a key.

uint64_t Nanoseconds(absl::Time time) {
  return static_cast<uint64_t>(std::max<int64_t>(0, absl::ToUnixNanos(time)));  // Ends of time are those of int64.
}

pb::MetricRow RowOf(const pb::MetricRow& last, const std::map<uint32_t, MetricSummary>& columns) {
  pb::MetricRow row = last;
  row.clear_columns();
  row.clear_values();
  for (const auto& [column, summary] : columns) {
    row.add_columns(column);
    row.add_values(summary.mean());
    row.add_counts(static_cast<uint32_t>(summary.count));
    row.add_mins(summary.min);
    row.add_maxs(summary.max);
  }
  return row;
}

// Fields of the key of the chunk that the key of a note is about.
absl::string_view ChunkOf(absl::string_view note) { return note.substr(kLetter + kNumber); }

// None if the chunk is gone.
absl::StatusOr<std::optional<std::string>> ThinOne(const Database::View& view, absl::string_view note) {
  const absl::string_view fields = ChunkOf(note);
  P2_ASSIGN_OR_RETURN(const std::optional<std::string> payload, view.Get(Key(kMetricChunks).Fields(fields)));
  if (!payload.has_value()) return std::nullopt;
  pb::MetricChunk chunk;
  if (!chunk.ParseFromString(*payload)) return absl::DataLossError("it is no MetricChunk");
  const absl::string_view job = fields.substr(0, fields.size() - 2 * kNumber);  // Before attempt and sequence.
  P2_ASSIGN_OR_RETURN(const Supersedes supersedes, Supersedes::Read(view, Key(kSupersedes).Fields(job)));
  ThinChunk(chunk, supersedes.LastGood(chunk.attempt()));
  return chunk.SerializeAsString();
}

}  // namespace

Key ThinningDueKey(absl::Time since, const Key& chunk) {
  return Key(kThinningDue).Number(Nanoseconds(since)).Fields(absl::string_view(chunk.bytes()).substr(kLetter));
}

void ThinChunk(pb::MetricChunk& chunk, int64_t last_good) {
  const auto& rows = chunk.rows();
  if (std::any_of(rows.begin(), rows.end(), [](const pb::MetricRow& row) { return row.counts_size() > 0; })) return;
  pb::MetricChunk thinned;
  for (int begin = 0, end = 0; begin < rows.size(); begin = end) {
    const bool superseded = rows[begin].images_seen() > last_good;
    std::map<uint32_t, MetricSummary> columns;
    while (end < rows.size() && end < begin + kRowsToOne && (rows[end].images_seen() > last_good) == superseded) {
      for (int i = 0; i < ValuesOf(rows[end]); ++i) columns[rows[end].columns(i)].Add(SummaryOf(rows[end], i));
      ++end;
    }
    *thinned.add_rows() = end == begin + 1 ? rows[begin] : RowOf(rows[end - 1], columns);
  }
  chunk.mutable_rows()->Swap(thinned.mutable_rows());
}

absl::StatusOr<std::vector<ThinnedChunk>> ThinDueChunks(const Database::View& view, absl::Time older_than,
                                                        absl::Duration budget, absl::string_view front) {
  const Clock& clock = Clock::Real();
  const absl::Time begin = clock.Monotonic();
  const uint64_t limit = Nanoseconds(older_than);
  std::vector<ThinnedChunk> chunks;
  absl::Status failed;
  P2_RETURN_IF_ERROR(view.Scan(Key(kThinningDue), front, [&](absl::string_view note, absl::string_view) {
    if (LastNumber(note.substr(0, kLetter + kNumber)) >= limit) return false;
    absl::StatusOr<std::optional<std::string>> rows = ThinOne(view, note);
    if (absl::IsDataLoss(rows.status())) {
      P2_LOG(kWarning) << "metrics under \"" << absl::CHexEscape(note)
                       << "\" are not thinned: " << rows.status().message();
      rows = std::nullopt;
    }
    failed = rows.status();
    if (failed.ok()) chunks.push_back({.note = std::string(note), .rows = *std::move(rows)});
    return failed.ok() && clock.Monotonic() - begin < budget;
  }));
  P2_RETURN_IF_ERROR(failed);
  return chunks;
}

void PutThinned(const std::vector<ThinnedChunk>& chunks, Batch& batch) {
  for (const ThinnedChunk& chunk : chunks) {
    const absl::string_view note = chunk.note;
    if (chunk.rows.has_value()) batch.Put(Key(kMetricChunks).Fields(ChunkOf(note)), *chunk.rows);
    batch.Delete(Key(kThinningDue).Fields(note.substr(kLetter)));
  }
}

}  // namespace p2::store

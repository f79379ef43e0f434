#include "common/image/shard_set.h"

#include <utility>

#include "common/status_macros.h"

namespace p2::image {

ShardSet::ShardSet(std::string directory, ShardHeader shape, uint64_t records_per_shard, std::function<void()> on_kept)
    : directory_(std::move(directory)),
      records_per_shard_(records_per_shard),
      on_kept_(std::move(on_kept)),
      header_(shape) {
  header_.first = 0;
}

void ShardSet::Begin(const Partial& kept) {
  kept_ = kept;
  opened_ = kept.shards.size();
  for (const ShardInfo& shard : kept.shards) header_.first += shard.count;
}

absl::Status ShardSet::Append(absl::Span<const uint8_t> record, const Partial& so_far) {
  if (writer_ == nullptr) {
    P2_ASSIGN_OR_RETURN(writer_, ShardWriter::Create(directory_, opened_++, header_));
  }
  P2_RETURN_IF_ERROR(writer_->Append(record));
  ++header_.first;
  if (writer_->count() < records_per_shard_) return absl::OkStatus();
  P2_RETURN_IF_ERROR(Wait());
  closing_ =
      std::async(std::launch::async, [this, writer = std::move(writer_), noted = so_far]() mutable -> absl::Status {
        P2_ASSIGN_OR_RETURN(ShardInfo info, writer->Finish());
        noted.shards = kept_.shards;
        noted.shards.push_back(std::move(info));
        P2_RETURN_IF_ERROR(SavePartial(noted, directory_));
        kept_ = std::move(noted);
        on_kept_();
        return absl::OkStatus();
      });
  return absl::OkStatus();
}

absl::Status ShardSet::Wait() { return closing_.valid() ? closing_.get() : absl::OkStatus(); }

absl::StatusOr<std::vector<ShardInfo>> ShardSet::Finish() {
  P2_RETURN_IF_ERROR(Wait());
  if (writer_ != nullptr) {
    P2_ASSIGN_OR_RETURN(ShardInfo info, writer_->Finish());
    kept_.shards.push_back(std::move(info));
  }
  return std::move(kept_.shards);
}

}  // namespace p2::image

#include "server/coordinator/spool_bytes.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::coordinator {
namespace {

// The sender's fault, not the disk's: to store it again would fail again.
bool IsSendersFault(const absl::Status& status) { return absl::IsInvalidArgument(status) || absl::IsDataLoss(status); }

}  // namespace

absl::StatusOr<scheduler::SpoolBody> StoreBytes(store::BlobStore& blobs, const v1::SpoolRecord& record) {
  if (record.has_log()) {
    const absl::Status status =
        blobs.WriteLog(record.job(), record.attempt(), record.rank(), record.log().offset(), record.log().data());
    if (!status.ok() && !IsSendersFault(status)) return status;
    return scheduler::BytesStored{};
  }
  const v1::ArtifactChunk& chunk = record.artifact();
  const absl::StatusOr<bool> complete = blobs.WriteArtifact(
      {record.job(), chunk.file_name(), chunk.offset(), chunk.data(), chunk.size_bytes(), chunk.sha256()});
  if (!complete.ok()) {
    if (!IsSendersFault(complete.status())) return complete.status();
    return scheduler::TrainerNotice{"ARTIFACT_REFUSED",
                                    absl::StrCat(chunk.file_name(), ": ", complete.status().message())};
  }
  if (!*complete) return scheduler::BytesStored{};
  scheduler::ArtifactStored stored;
  stored.artifact.id = chunk.file_name();
  stored.artifact.kind = chunk.kind();
  stored.artifact.content_type = chunk.content_type();
  stored.artifact.size_bytes = chunk.size_bytes();
  stored.artifact.sha256 = chunk.sha256();
  stored.artifact.images_seen = chunk.images_seen();
  return stored;
}

}  // namespace p2::coordinator

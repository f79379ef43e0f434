// The bytes among a worker's spool records: chunks of logs and artifacts go into the blob store before the record is
// stepped.
#pragma once

#include "absl/status/statusor.h"
#include "p2/v1/worker_service.pb.h"
#include "server/scheduler/event.h"
#include "server/store/blob_store.h"

namespace p2::coordinator {

// Writes the chunk, if the record has one, not yet synced. Returns what the scheduler shall see instead of it:
// BytesStored; ArtifactStored with an artifact's last chunk; TrainerNotice{ARTIFACT_REFUSED} for one with a bad name,
// size or digest. Errors are the file system's: nothing more can be promised.
absl::StatusOr<scheduler::SpoolBody> StoreBytes(store::BlobStore& blobs, const v1::SpoolRecord& record);

}  // namespace p2::coordinator

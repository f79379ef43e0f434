// The records of server/scheduler/types.h as messages of p2.storage.v1 and back. Nothing is lost but what is volatile
// or monotonic. Pure.
#pragma once

#include "p2/storage/v1/records.pb.h"
#include "server/scheduler/types.h"

namespace p2::store {

namespace pb = p2::storage::v1;

pb::Job ToStorage(const scheduler::JobRecord& record);
pb::Worker ToStorage(const scheduler::WorkerRecord& record);
pb::Dataset ToStorage(const scheduler::DatasetRecord& record);
pb::Checkpoint ToStorage(const scheduler::CheckpointRecord& record);
pb::Deletion ToStorage(const scheduler::Deletion& record);
pb::Artifact ToStorage(const scheduler::ArtifactRecord& record);
pb::Event ToStorage(const scheduler::EventRecord& record);
pb::Request ToStorage(const scheduler::RequestRecord& record);
pb::Queue ToStorage(const scheduler::QueueRecord& record);
pb::Share ToStorage(const scheduler::ShareRecord& record);
pb::Quota ToStorage(const scheduler::QuotaRecord& record);

scheduler::JobRecord FromStorage(const pb::Job& message);
scheduler::WorkerRecord FromStorage(const pb::Worker& message);
scheduler::DatasetRecord FromStorage(const pb::Dataset& message);
scheduler::CheckpointRecord FromStorage(const pb::Checkpoint& message);
scheduler::Deletion FromStorage(const pb::Deletion& message);
scheduler::ArtifactRecord FromStorage(const pb::Artifact& message);
scheduler::EventRecord FromStorage(const pb::Event& message);
scheduler::RequestRecord FromStorage(const pb::Request& message);
scheduler::QueueRecord FromStorage(const pb::Queue& message);
scheduler::ShareRecord FromStorage(const pb::Share& message);
scheduler::QuotaRecord FromStorage(const pb::Quota& message);

// Unix nanoseconds; 0 for InfinitePast.
int64_t ToStorageTime(absl::Time time);
absl::Time FromStorageTime(int64_t nanoseconds);

}  // namespace p2::store

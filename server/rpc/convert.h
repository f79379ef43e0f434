// The scheduler's records as messages of p2.v1 and back.
#pragma once

#include <map>
#include <string>

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"
#include "p2/v1/artifact_service.pb.h"
#include "p2/v1/checkpoint_service.pb.h"
#include "p2/v1/cluster_service.pb.h"
#include "p2/v1/dataset_service.pb.h"
#include "p2/v1/event_service.pb.h"
#include "p2/v1/job.pb.h"
#include "p2/v1/job_service.pb.h"
#include "server/scheduler/explain.h"
#include "server/scheduler/types.h"

namespace p2::rpc {

// Without spec and origins, which JobViews (job_views.h) adds.
p2::v1::Job ToProto(const scheduler::JobRecord& record);
// `lineage` of the message.
void SetLineage(const scheduler::Lineage& lineage, p2::v1::Job& job);
// The job's task and source. `task` as JobRecord.task.
void SetTask(const std::string& task, const scheduler::JobNeeds& needs, p2::v1::Job& job);
// Without `job` of its slots.
p2::v1::Worker ToProto(const scheduler::WorkerRecord& record);
p2::v1::Dataset ToProto(const scheduler::DatasetRecord& record);
p2::v1::Checkpoint ToProto(const scheduler::CheckpointRecord& record);
p2::v1::Artifact ToProto(const scheduler::ArtifactRecord& record);
p2::v1::Event ToProto(const scheduler::EventRecord& record);
p2::v1::FairShare ToProto(const scheduler::ShareNumbers& record);

// REQUIRES: a request that ValidateDataset takes. create_time is not set.
scheduler::DatasetRecord FromProto(const p2::v1::Dataset& dataset);

google::protobuf::Timestamp ToTimestamp(absl::Time time);

// The form in which origins are stored (PutSpec).
std::string OriginsBytes(const std::map<std::string, std::string>& origins);

}  // namespace p2::rpc

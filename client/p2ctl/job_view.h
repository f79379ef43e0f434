// Jobs, and what hangs on them, as rows and as text.
#pragma once

#include <google/protobuf/map.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/p2ctl/output.h"
#include "client/p2ctl/progress_line.h"
#include "p2/v1/checkpoint_service.pb.h"
#include "p2/v1/job.pb.h"
#include "p2/v1/job_service.pb.h"

namespace p2::ctl {

// SUCCEEDED, FAILED or CANCELLED.
bool IsTerminal(v1::Job::State state);
// kJobFailed, kJobCancelled, else kOk.
int ExitCodeOfState(v1::Job::State state);
// libsmartcols' colour name.
std::string ColorOf(v1::Job::State state);

Listing JobListing(const std::vector<v1::Job>& jobs);
Listing CheckpointListing(const std::vector<v1::Checkpoint>& checkpoints);

// What a task does, for people; "" for a training.
std::string TaskText(const v1::Job& job);

ProgressState ProgressOf(const v1::Job& job, std::vector<double> losses = {});

// One line for people about how a job ended or why it stands: "FAILED (RESTART_BUDGET_SPENT): …".
std::string StateText(const v1::Job& job);

// "  training.batch   32   preset mnist-demo" a leaf of the spec, in the order of its fields.
std::string SpecText(const v1::TrainingSpec& spec, const google::protobuf::Map<std::string, std::string>& origins,
                     const TableStyle& style);

// Parameters, memory, images per device, steps.
std::string EstimateText(const v1::ResourceEstimate& estimate);

}  // namespace p2::ctl

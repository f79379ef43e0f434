// What every verb that makes a job shares: its flags, sending, and staying until it runs or has ended.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/p2ctl/command.h"
#include "p2/v1/job_service.pb.h"

namespace p2::ctl {

struct SubmitFlow {
  std::string name, devices;
  std::vector<std::string> sets, labels;
  std::string wait;  // "done" or "running"; empty: no.
  bool follow = false, paused = false;
};

// --set, --name, --devices, --label, --wait, --follow, --paused.
void AddSubmitFlow(CLI::App& verb, SubmitFlow& flow);

// Lays `value` over the spec in the name of `flag`; nothing if it is empty.
void AddFlag(v1::CreateJobRequest& request, const std::string& flag, const std::string& path, const std::string& value);

// The flow's part of the request. Usage errors.
absl::Status FillRequest(const Context& context, const SubmitFlow& flow, v1::CreateJobRequest& request);

// Makes the job and says its ID; waits as the flow says. The exit code.
absl::StatusOr<int> Submit(Context& context, const v1::CreateJobRequest& request, const SubmitFlow& flow);

// Shows what a request would make.
absl::StatusOr<int> FinishDryRun(Context& context, const absl::StatusOr<v1::CreateJobResponse>& response);

}  // namespace p2::ctl

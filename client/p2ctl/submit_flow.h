// What every verb that makes a job shares: its flags, sending, and staying until it runs or has ended.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/p2ctl/command.h"
#include "p2/v1/job_service.pb.h"

namespace p2::ctl {

struct SubmitFlow {
  std::string name, devices, queue, note;
  std::optional<int32_t> priority;
  std::vector<std::string> sets, labels;
  std::string wait;  // "done" or "running"; empty: no.
  bool follow = false, paused = false;
};

// --set, --name, --devices, --queue, --priority, --note, --label, --wait, --follow, --paused.
void AddSubmitFlow(CLI::App& verb, SubmitFlow& flow);

// Lays `value` over the spec in the name of `flag`; nothing if it is empty.
void AddFlag(v1::CreateJobRequest& request, const std::string& flag, const std::string& path, const std::string& value);

// `--devices`: "4" is exactly 4 (min 0), "2:8" is elastic. Usage errors.
struct DeviceRange {
  int32_t min = 0;
  int32_t max = 0;
};
absl::StatusOr<DeviceRange> ParseDevices(const std::string& text);

// The flow's part of the request, with the project. Usage errors.
absl::Status FillRequest(const Context& context, const SubmitFlow& flow, v1::CreateJobRequest& request);

// Makes the job and says its ID; waits as the flow says. The exit code.
absl::StatusOr<int> Submit(Context& context, const v1::CreateJobRequest& request, const SubmitFlow& flow);

// As Submit for several jobs, all or none, in one call.
absl::StatusOr<int> SubmitAll(Context& context, const std::vector<v1::CreateJobRequest>& requests,
                              const SubmitFlow& flow);

// Shows what a request would make.
absl::StatusOr<int> FinishDryRun(Context& context, const absl::StatusOr<v1::CreateJobResponse>& response);

}  // namespace p2::ctl

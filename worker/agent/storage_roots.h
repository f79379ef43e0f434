// The storage roots that this worker sees: named directories that hold `.p2-root-id`.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "p2/v1/cluster_service.pb.h"
#include "p2/v1/worker_service.pb.h"

namespace p2::agent {

// Reads one root: its ID and its space. FAILED_PRECONDITION if it holds no ID, with the command that gives it one.
// Blocks on the file system.
absl::StatusOr<p2::v1::StorageRoot> ReadRoot(const std::string& name, const std::string& directory);

// The roots of `configured` that can be read now; the others are left out, and `problems` gets a line for each.
std::vector<p2::v1::StorageRoot> ReadRoots(const std::vector<std::pair<std::string, std::string>>& configured,
                                           std::vector<std::string>& problems);

// Directories of an attempt, from roots that are visible.
struct JobDirectories {
  std::string dataset_dir;  // Empty: the job reads none.
  std::string checkpoint_root;
  // Below checkpoint_root: jobs/JOB/checkpoints, and jobs/JOB/output if it writes that.
  std::string checkpoint_dir, output_dir;
  // File or directory that the job starts from; empty: nothing.
  std::string source;
};

// Checks that the roots of `prepare` are visible under the right IDs, that ROOT/dataset_path/dataset.json carries the
// wanted fingerprint and that the source is there, and makes the checkpoint and output directories. Blocks on the file
// system. FAILED_PRECONDITION or INVALID_ARGUMENT: what is missing, its value, what to do; NOT_FOUND if that is the
// source, on a visible root.
absl::StatusOr<JobDirectories> CheckStorage(const p2::v1::Prepare& prepare,
                                            const std::vector<std::pair<std::string, std::string>>& configured);

// Deletes what `request` names, and of jobs/JOB, if it lies there, what that leaves empty. The bytes that were deleted.
// FAILED_PRECONDITION if the root is not visible, else DeleteBeneath's errors. Blocks on the file system.
absl::StatusOr<int64_t> DeleteFromRoot(const p2::v1::DeletePath& request,
                                       const std::vector<std::pair<std::string, std::string>>& configured);

// Removes jobs/JOB/checkpoints and jobs/JOB, which CheckStorage made, if they are empty. Blocks on the file system.
absl::Status RemoveEmptyJobDirectories(const std::string& checkpoint_root, const std::string& job);

}  // namespace p2::agent

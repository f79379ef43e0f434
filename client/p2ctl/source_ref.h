// How people name what a job starts from, as `CreateJobRequest.source` wants it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/p2ctl/command.h"
#include "p2/v1/cluster_service.pb.h"

namespace p2::ctl {

// Which checkpoint `JOB@IMAGES` means: the one there, or the last one until there.
enum class At { kExactly, kOrBefore };

// `JOB` (its newest checkpoint: `jobs/JOB`), `JOB@500k`, `JOB/ID`, `jobs/JOB/checkpoints/ID`. NOT_FOUND with the
// positions that there are.
absl::StatusOr<std::string> CheckpointSource(Context& context, const std::string& ref, At at = At::kExactly);

// The same for exactly one checkpoint: `JOB` alone is a usage error. Of a deleted job, whose pinned checkpoints stay,
// the whole ID.
absl::StatusOr<std::string> CheckpointName(Context& context, const std::string& ref);

// `ROOT:PATH`, or a path on this machine below a storage root that a worker sees.
absl::StatusOr<std::string> FilesSource(Context& context, const std::string& path);

// Any of both: what is a file or directory here, or has a ':', are files.
absl::StatusOr<std::string> InitSource(Context& context, const std::string& ref);

// The storage roots that workers see.
absl::StatusOr<std::vector<v1::StorageRoot>> SeenRoots(Context& context);

}  // namespace p2::ctl

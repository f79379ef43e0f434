// Where things of a job lie below a storage root, for those who write, place and delete them.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace p2 {

// Directories of jobs lie here, one below the root.
inline constexpr absl::string_view kJobsDirectory = "jobs";

inline std::string JobDirectory(absl::string_view job) { return absl::StrCat(kJobsDirectory, "/", job); }
inline std::string JobCheckpoints(absl::string_view job) { return absl::StrCat(JobDirectory(job), "/checkpoints"); }
// What a task writes.
inline std::string JobOutput(absl::string_view job) { return absl::StrCat(JobDirectory(job), "/output"); }

// Of the training itself, in its directory (worker/trainer/{ema_snapshots,run_files}.h).
inline constexpr char kSnapshotsDirectory[] = "ema-snapshots";
inline constexpr char kTensorboardDirectory[] = "tensorboard";
inline constexpr char kProgressFile[] = "progress.csv";

}  // namespace p2

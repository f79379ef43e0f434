// Names of the API's resources (AIP-122): `jobs/{job}`, `jobs/{job}/checkpoints/{checkpoint}`, `datasets/{dataset}`.
// Checked names hold no separator, no leading dot and no upper-case letter, so an ID is also safe as a file name.
#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2 {

inline constexpr absl::string_view kJobs = "jobs";
inline constexpr absl::string_view kWorkers = "workers";
inline constexpr absl::string_view kQueues = "queues";
inline constexpr absl::string_view kDatasets = "datasets";
inline constexpr absl::string_view kPresets = "presets";
inline constexpr absl::string_view kCheckpoints = "checkpoints";
inline constexpr absl::string_view kArtifacts = "artifacts";

// Jobs and workers: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`.
bool IsResourceId(absl::string_view id);
// Datasets, storage roots, presets, checkpoints, artifacts: `[a-z0-9][a-z0-9._-]{0,62}`.
bool IsDottedId(absl::string_view id);
// The rule of `collection`.
bool IsIdOf(absl::string_view collection, absl::string_view id);

// "jobs", "a" -> "jobs/a". REQUIRES: a valid ID.
std::string ResourceName(absl::string_view collection, absl::string_view id);
// "jobs/a/checkpoints/b".
std::string ChildName(absl::string_view job, absl::string_view collection, absl::string_view id);

// "jobs/a" -> "a". INVALID_ARGUMENT with the form that is wanted.
absl::StatusOr<std::string> ParseResourceName(absl::string_view collection, absl::string_view name);
// "jobs/a/checkpoints/b" -> {"a", "b"}. INVALID_ARGUMENT.
absl::StatusOr<std::pair<std::string, std::string>> ParseChildName(absl::string_view collection,
                                                                   absl::string_view name);

}  // namespace p2

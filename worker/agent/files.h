// Names from the wire, and files below directories that names from the wire may never leave.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/file_util.h"

namespace p2::agent {

// A plain file name of at most 255 bytes: printable, no '/', not hidden.
bool IsFileName(absl::string_view text);
// The nearest resource ID: lower case, '-' for what is not allowed, "worker" if nothing is left.
std::string ResourceIdFromHost(absl::string_view host);

// `errno` as a Status: "WHAT: No such file or directory". ENOENT is NOT_FOUND, ENOSPC RESOURCE_EXHAUSTED, else
// INTERNAL.
absl::Status ErrnoError(absl::string_view what);

// The paths below are relative to `root`; INVALID_ARGUMENT if one is absolute, empty, or has an empty, "." or ".."
// component. Every component is opened with O_NOFOLLOW, one below the other: a symbolic link is an error, never a way
// out.
absl::StatusOr<UniqueFd> OpenBeneath(const std::string& root, absl::string_view path, int flags);
// At most `max_bytes`, else RESOURCE_EXHAUSTED.
absl::StatusOr<std::string> ReadBeneath(const std::string& root, absl::string_view path, int64_t max_bytes);
absl::Status MakeDirectoriesBeneath(const std::string& root, absl::string_view path);
// Deletes the tree or file and returns the bytes of its files; links inside are removed, not followed. 0 if it is not
// there. At least two components, so that no single wrong name can empty a root.
absl::StatusOr<int64_t> DeleteBeneath(const std::string& root, absl::string_view path);
// Removes the directory `path` and those above it while they are empty, but never one of the first `keep` components.
// OK if one is not there or not empty.
absl::Status RemoveEmptyBeneath(const std::string& root, absl::string_view path, size_t keep);

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);

}  // namespace p2::agent

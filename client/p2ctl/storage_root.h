// Storage roots on this machine: directories that hold `.p2-root-id`.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace p2::ctl {

inline constexpr char kRootIdFile[] = ".p2-root-id";
// Datasets of a root lie in this directory below it.
inline constexpr char kDatasetsDirectory[] = "datasets";

// The UUID of the root at `directory`. FAILED_PRECONDITION if it is none, with what makes it one.
absl::StatusOr<std::string> ReadRootId(const std::string& directory);

// Makes `directory`, and gives it an ID unless it has one; the ID. The errno's code if it cannot be written.
absl::StatusOr<std::string> InitRoot(const std::string& directory);

struct RootedPath {
  std::string root;  // Directory of the root, absolute.
  std::string root_id;
  std::string relative;  // Below it.
};
// The root that holds `path`. FAILED_PRECONDITION if no directory above it is one.
absl::StatusOr<RootedPath> FindRootAbove(const std::string& path);

}  // namespace p2::ctl

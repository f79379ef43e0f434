// What p2d does instead of serving, on a data directory that no p2d runs on.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/server_options.h"

namespace p2::server {

// --restore: makes the backup the content of options.data_dir. What it did, for people. Errors as store::RestoreBackup.
absl::StatusOr<std::string> RestoreOffline(const ServerOptions& options);

struct OfflineCheck {
  std::string text;  // For people.
  bool whole = false;
};
// --check: reads the store in options.data_dir and changes nothing of it. NOT_FOUND if there is none;
// FAILED_PRECONDITION if a p2d runs on it, or a newer one wrote it; DATA_LOSS if it cannot even be opened.
absl::StatusOr<OfflineCheck> CheckOffline(const ServerOptions& options);

}  // namespace p2::server

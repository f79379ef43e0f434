// Waits for what another process does to files.
#pragma once

#include <functional>
#include <string>

#include "absl/time/time.h"

namespace p2::testing {

// Until `condition` holds: it is looked at now and after each change to an entry of `directory` (inotify; not of its
// subdirectories), which must exist. False when it does not within `limit`.
bool WaitForFiles(const std::string& directory, const std::function<bool()>& condition,
                  absl::Duration limit = absl::Minutes(1));

}  // namespace p2::testing

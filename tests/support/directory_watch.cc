#include "tests/support/directory_watch.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file_util.h"
#include "gtest/gtest.h"

namespace p2::testing {

bool WaitForFiles(const std::string& directory, const std::function<bool()>& condition, absl::Duration limit) {
  const UniqueFd changes(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  constexpr uint32_t kAny = IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM;
  EXPECT_GE(inotify_add_watch(changes.get(), directory.c_str(), kAny), 0) << "no directory " << directory;
  const absl::Time deadline = Clock::Real().Monotonic() + limit;
  while (!condition()) {  // Watched before it is looked at: no change is missed.
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - Clock::Real().Monotonic());
    if (left_ms <= 0) return false;
    pollfd item = {changes.get(), POLLIN, 0};
    poll(&item, 1, static_cast<int>(left_ms));
    char events[4096];
    while (read(changes.get(), events, sizeof(events)) > 0) continue;
  }
  return true;
}

}  // namespace p2::testing

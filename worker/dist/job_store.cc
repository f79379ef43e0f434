#include "worker/dist/job_store.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "worker/dist/dist_status.h"

namespace p2::dist {

JobStore::JobStore(c10::intrusive_ptr<c10d::Store> store) : store_(std::move(store)) {}

absl::Status JobStore::Set(absl::string_view key, absl::string_view value) {
  return RunDist(absl::StrCat("store: set ", key),
                 [&] { store_->set(std::string(key), std::vector<uint8_t>(value.begin(), value.end())); });
}

absl::StatusOr<bool> JobStore::Has(const std::vector<std::string>& keys) {
  bool all = false;
  P2_RETURN_IF_ERROR(RunDist(absl::StrCat("store: look for ", keys.empty() ? "nothing" : keys.front()),
                             [&] { all = store_->check(keys); }));
  return all;
}

absl::StatusOr<std::string> JobStore::Get(absl::string_view key, absl::Duration timeout) {
  // Polls: a blocking wait would keep the connection from this process's other callers.
  for (const absl::Time deadline = absl::Now() + timeout;;) {
    P2_ASSIGN_OR_RETURN(const bool there, Has({std::string(key)}));
    if (there) break;
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("store: no ", key, " after ", absl::FormatDuration(timeout)));
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  std::vector<uint8_t> value;
  P2_RETURN_IF_ERROR(RunDist(absl::StrCat("store: get ", key), [&] { value = store_->get(std::string(key)); }));
  return std::string(value.begin(), value.end());
}

absl::StatusOr<int64_t> JobStore::Add(absl::string_view key, int64_t amount) {
  int64_t sum = 0;
  P2_RETURN_IF_ERROR(
      RunDist(absl::StrCat("store: add to ", key), [&] { sum = store_->add(std::string(key), amount); }));
  return sum;
}

}  // namespace p2::dist

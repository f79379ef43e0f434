// A few words that the ranks of a gang share outside of their collectives: who has joined, stop, results of rank 0.
#pragma once

#include <cstdint>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace p2::dist {

// One connection to the gang's key-value store. Calls take turns on it, so a thread that must never wait behind another
// takes a connection of its own (ProcessGroup::NewStore). Every method: UNAVAILABLE when rank 0, which serves the
// store, left.
class JobStore {
 public:
  explicit JobStore(c10::intrusive_ptr<c10d::Store> store);

  absl::Status Set(absl::string_view key, absl::string_view value);
  // Whether all `keys` are set. Does not wait.
  absl::StatusOr<bool> Has(const std::vector<std::string>& keys);
  // The value of a key. Waits for it; DEADLINE_EXCEEDED names the key.
  absl::StatusOr<std::string> Get(absl::string_view key, absl::Duration timeout);
  // Adds to a counter that starts at 0; returns its new value.
  absl::StatusOr<int64_t> Add(absl::string_view key, int64_t amount);

 private:
  c10::intrusive_ptr<c10d::Store> store_;
};

}  // namespace p2::dist

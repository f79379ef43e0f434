// Answered requests as they lie on disk, each under its ID and under the time when it may go.
#pragma once

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/scheduler/types.h"
#include "server/store/batch.h"
#include "server/store/database.h"

namespace p2::store {

// A request is kept for 7 days, and then for as long as the job that it names exists. Confined to the writing thread.
class RequestLog {
 public:
  explicit RequestLog(const Database& database) : database_(database) {}

  void Put(Batch& batch, const scheduler::RequestRecord& request);
  // Once behind the Puts of a batch: drops a few expired requests for each of them, so that they cannot pile up. Those
  // whose job `exists` are looked at again later. Errors: of reading.
  absl::Status Sweep(Batch& batch, absl::FunctionRef<bool(absl::string_view job)> exists);

 private:
  const Database& database_;
  std::vector<absl::Time> times_;                  // Of the Puts since the last Sweep.
  absl::Time next_expiry_ = absl::InfinitePast();  // No request on disk expires before.
};

}  // namespace p2::store

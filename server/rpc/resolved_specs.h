// Specs that were asked for before. Queues are filled with many jobs of few specs, and to read the layers of one costs
// many times what the rest of a submit does.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/spec/resolve.h"
#include "p2/v1/job_service.pb.h"

namespace p2::rpc {

struct KnownSpec {
  spec::ResolvedSpec resolved;
  p2::v1::ResourceEstimate estimate;
};

// Thread-safe.
class ResolvedSpecs {
 public:
  // spec::Resolve with the presets that are compiled in, and spec::EstimateResources of it. The same request gives the
  // same answer, so it is computed once. Errors are not kept.
  absl::StatusOr<std::shared_ptr<const KnownSpec>> Resolve(const spec::ResolveRequest& request);

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<const KnownSpec>> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::rpc

// Specs that were asked for before. Queues are filled with many jobs of few specs, and to read the layers of one costs
// many times what the rest of a submit does.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/spec/resolve.h"
#include "p2/v1/job_service.pb.h"

namespace p2::rpc {

// A resolved spec, and all that a submit needs of it.
struct KnownSpec {
  std::string key;  // What it was made from; empty: not to be kept.
  spec::ResolvedSpec resolved;
  p2::v1::ResourceEstimate estimate;
  // As they are stored (PutSpec), with the SHA-256 of each.
  std::string spec_bytes, spec_sha256;
  std::string origins_bytes, origins_sha256;
};
using KnownSpecPtr = std::shared_ptr<const KnownSpec>;

// Thread-safe.
class ResolvedSpecs {
 public:
  // spec::Resolve with the presets that are compiled in, and spec::EstimateResources of it. The same request gives the
  // same answer, so it is computed once. Errors are not kept.
  absl::StatusOr<KnownSpecPtr> Resolve(const spec::ResolveRequest& request);
  // One that was resolved otherwise. EstimateResources' errors.
  static absl::StatusOr<KnownSpecPtr> Of(spec::ResolvedSpec resolved) { return Make("", std::move(resolved)); }
  // The same with another checkpoint.root, whose origin is `origin`.
  absl::StatusOr<KnownSpecPtr> WithCheckpointRoot(const KnownSpec& known, const std::string& root,
                                                  const std::string& origin);

 private:
  static absl::StatusOr<KnownSpecPtr> Make(std::string key, spec::ResolvedSpec resolved);
  // What is kept under `key`, or else what `resolve` gives.
  absl::StatusOr<KnownSpecPtr> FindOr(std::string key,
                                      const std::function<absl::StatusOr<spec::ResolvedSpec>()>& resolve);

  absl::Mutex mutex_;
  std::map<std::string, KnownSpecPtr> known_ ABSL_GUARDED_BY(mutex_);  // By key.
};

}  // namespace p2::rpc

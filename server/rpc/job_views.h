// Jobs as messages of p2.v1, with their specs.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "p2/v1/job.pb.h"
#include "server/scheduler/types.h"
#include "server/store/job_store.h"

namespace p2::rpc {

// A spec and where each of its values came from are nearly all of a job's message and alike in all jobs of that spec:
// both are read, and made into bytes, once. Thread-safe.
class JobViews {
 public:
  explicit JobViews(const store::JobStore& store) : store_(store) {}

  // DATA_LOSS if the job's spec is not there or cannot be parsed.
  absl::StatusOr<p2::v1::Job> View(const scheduler::JobRecord& record) const;
  // The bytes of a message that holds those jobs as its field `number`, and the fields whose bytes are `before`.
  absl::StatusOr<grpc::ByteBuffer> Embed(absl::string_view before, int number,
                                         absl::Span<const scheduler::JobPtr> jobs) const;

 private:
  // A message of a spec and its origins alone.
  struct Specs {
    p2::v1::Job message;
    grpc::Slice bytes;
  };
  absl::StatusOr<std::shared_ptr<const Specs>> SpecsOf(const scheduler::JobRecord& record) const;

  const store::JobStore& store_;

  // By both hashes, so they never change. Many jobs have few specs.
  mutable absl::Mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<const Specs>> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::rpc

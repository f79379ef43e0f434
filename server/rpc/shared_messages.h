// Messages that many streams send alike, made once.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/status_macros.h"
#include "grpcpp/support/byte_buffer.h"

namespace p2::rpc {

// Thread-safe.
class SharedMessages {
 public:
  // The bytes of `revision`, made by `make()`, a StatusOr<grpc::ByteBuffer>, unless they were made lately; copies share
  // them. REQUIRES: a revision always has the same message.
  template <typename Make>
  absl::StatusOr<grpc::ByteBuffer> Of(int64_t revision, Make make) {
    // Under the lock: whoever comes meanwhile wants the same one.
    absl::MutexLock lock(&mutex_);
    if (const auto found = messages_.find(revision); found != messages_.end()) return found->second;
    P2_ASSIGN_OR_RETURN(grpc::ByteBuffer message, make());
    if (messages_.size() >= kKept) messages_.erase(messages_.begin());
    return messages_.emplace(revision, std::move(message)).first->second;
  }

 private:
  static constexpr size_t kKept = 1024;  // Streams are seldom further apart.

  absl::Mutex mutex_;
  std::map<int64_t, grpc::ByteBuffer> messages_ ABSL_GUARDED_BY(mutex_);  // By revision.
};

}  // namespace p2::rpc

// A copy of tensors in host memory that is made while the caller goes on.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <future>
#include <vector>

#include "absl/synchronization/notification.h"

namespace p2::trainer {

// A thread of its own copies what `tensors` hold, one after the other; until Wait returns nobody may change them.
// Movable nowhere: copied state and thread end with it. Wait may be called by any thread.
class HostCopy {
 public:
  // `tensors`: contiguous, on the host. `begin`: called by the thread before it reads; may be null. Throws
  // std::system_error where no thread can be started.
  explicit HostCopy(std::vector<at::Tensor> tensors, std::function<void()> begin = nullptr);

  // Until the tensors may change again: their values are copied, or copying failed.
  void Wait() const { read_.WaitForNotification(); }
  // The values, in order; waits for them. Throws what copying threw: there was no memory. Once.
  std::vector<at::Tensor> ToHost() { return values_.get(); }

 private:
  absl::Notification read_;
  std::future<std::vector<at::Tensor>> values_;  // Last: its end waits for the thread.
};

}  // namespace p2::trainer

// Copies between host and GPU that run beside training, in streams of their own.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

namespace p2::trainer {

// The most bytes of one GPU's memory that this process's tensors took at once.
int64_t PeakDeviceMemory(at::Device device);

// `bytes` of pinned host memory, kept by torch for the next call. Any thread.
std::shared_ptr<uint8_t> PinnedMemory(size_t bytes);

// What tensors on one GPU hold now, on its way to the host. The copy on the device is enqueued at construction, before
// whatever the current stream gets next; no host waits for it. Movable between threads, confined to one at a time. May
// throw as torch does: c10::OutOfMemoryError where the device cannot hold the tensors twice.
class DeviceCopy {
 public:
  explicit DeviceCopy(const std::vector<at::Tensor>& tensors);

  // The values in pinned memory, in order. Waits for them, and for no work that was enqueued after construction; frees
  // the copy on the device. Once.
  std::vector<at::Tensor> ToHost();

 private:
  std::vector<at::Tensor> copies_;
  c10::Event taken_;
};

// Batches on their way to one GPU: the copy runs while the GPU computes. Thread-compatible; may throw as torch does.
class Upload {
 public:
  explicit Upload(at::Device device);
  // Waits for the copies: their memory is the caller's.
  ~Upload();

  // `host`, whose pinned memory `owner` holds, on the device. What the current stream gets next waits for it; the host
  // waits only where more than kInFlight copies are not done.
  at::Tensor Copy(const at::Tensor& host, std::shared_ptr<const void> owner);

 private:
  static constexpr size_t kInFlight = 4;
  const c10::Stream stream_;
  std::deque<std::pair<c10::Event, std::shared_ptr<const void>>> in_flight_;
};

}  // namespace p2::trainer

#include "worker/trainer/device_copy.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDACachingAllocator.h>

namespace p2::trainer {
namespace {

c10::Stream CurrentStream(at::Device device) { return c10::impl::VirtualGuardImpl(device.type()).getStream(device); }

c10::Stream SideStream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/false);
}

}  // namespace

int64_t PeakDeviceMemory(at::Device device) {
  return c10::cuda::CUDACachingAllocator::getDeviceStats(device.index()).allocated_bytes[0].peak;
}

std::shared_ptr<uint8_t> PinnedMemory(size_t bytes) {
  const at::Tensor memory = at::empty({static_cast<int64_t>(bytes)}, at::TensorOptions(at::kByte).pinned_memory(true));
  return {memory.mutable_data_ptr<uint8_t>(), [memory](uint8_t*) {}};
}

DeviceCopy::DeviceCopy(const std::vector<at::Tensor>& tensors) : taken_(tensors.at(0).device().type()) {
  for (const at::Tensor& tensor : tensors) copies_.push_back(tensor.detach().clone());
  taken_.record(CurrentStream(tensors[0].device()));
}

std::vector<at::Tensor> DeviceCopy::ToHost() {
  const c10::Stream side = SideStream(copies_.at(0).device());
  const c10::StreamGuard guard(side);
  taken_.block(side);
  std::vector<at::Tensor> host;
  for (const at::Tensor& copy : copies_) {
    host.push_back(at::empty(copy.sizes(), copy.options().device(at::kCPU).pinned_memory(true)));
    host.back().copy_(copy, /*non_blocking=*/true);
  }
  side.synchronize();
  copies_.clear();
  return host;
}

Upload::Upload(at::Device device) : stream_(SideStream(device)) {}

Upload::~Upload() {
  for (auto& [copied, owner] : in_flight_) copied.synchronize();
}

at::Tensor Upload::Copy(const at::Tensor& host, std::shared_ptr<const void> owner) {
  while (!in_flight_.empty() && (in_flight_.size() >= kInFlight || in_flight_.front().first.query())) {
    in_flight_.front().first.synchronize();
    in_flight_.pop_front();
  }
  const c10::Stream training = CurrentStream(stream_.device());
  at::Tensor device;
  c10::Event copied(stream_.device_type());
  {
    const c10::StreamGuard guard(stream_);
    device = host.to(stream_.device(), /*non_blocking=*/true);
    copied.record(stream_);
  }
  copied.block(training);
  device.record_stream(training);
  in_flight_.emplace_back(std::move(copied), std::move(owner));
  return device;
}

}  // namespace p2::trainer

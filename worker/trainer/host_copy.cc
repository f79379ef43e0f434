#include "worker/trainer/host_copy.h"

#include <ATen/ATen.h>

#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"

namespace p2::trainer {

HostCopy::HostCopy(std::vector<at::Tensor> tensors, std::function<void()> begin)
    : values_(std::async(std::launch::async, [this, tensors = std::move(tensors), begin = std::move(begin)] {
        const absl::Cleanup read = [this] { read_.Notify(); };
        if (begin) begin();
        std::vector<at::Tensor> values;
        for (const at::Tensor& tensor : tensors) {
          values.push_back(at::empty(tensor.sizes(), tensor.options()));
          // Not torch's copy: that would take as many threads as training has.
          std::memcpy(values.back().data_ptr(), tensor.const_data_ptr(), tensor.nbytes());
        }
        return values;
      })) {}

}  // namespace p2::trainer

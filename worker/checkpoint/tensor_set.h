// Float tensors that own their memory, in order, in the forms that readers fill and writers take.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/spec/unet_shape.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/checkpoint/checkpoint_writer.h"

namespace p2::checkpoint {

// Move-only: spans given out stay good when it moves. Thread-compatible.
class TensorSet {
 public:
  TensorSet() = default;
  TensorSet(TensorSet&&) = default;
  TensorSet& operator=(TensorSet&&) = default;

  // Zeros of the model's shapes.
  explicit TensorSet(absl::Span<const spec::ParameterShape> parameters, const std::string& prefix = "") {
    for (const spec::ParameterShape& parameter : parameters) Add(prefix + parameter.name, parameter.shape);
  }

  absl::Span<float> Add(std::string name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    const absl::Span<float> values = absl::MakeSpan(memory_.emplace_back(static_cast<size_t>(count)));
    views_.push_back({std::move(name), std::move(shape), values});
    return values;
  }

  const std::vector<MutableTensorView>& views() const { return views_; }
  std::vector<TensorView> const_views() const {
    std::vector<TensorView> all;
    for (const MutableTensorView& view : views_) all.push_back({view.name, view.shape, view.values});
    return all;
  }

 private:
  std::deque<std::vector<float>> memory_;
  std::vector<MutableTensorView> views_;
};

}  // namespace p2::checkpoint

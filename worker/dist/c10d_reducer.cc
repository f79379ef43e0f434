#include "worker/dist/c10d_reducer.h"

#include <algorithm>
#include <exception>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <utility>

#include "worker/dist/dist_status.h"

namespace p2::dist {
namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;

class LocalReducer final : public GradientReducer {
 public:
  absl::Status Backward(const at::Tensor& loss, bool last) override {
    loss.backward();
    return absl::OkStatus();
  }
};

// What the buckets of one step sent; their futures tell a peer's failure from the model's own.
struct Sent {
  std::vector<c10::intrusive_ptr<c10::ivalue::Future>> sums;
  bool refused = false;  // A sum could not even be started.

  bool Failed() const {
    return refused ||
           std::any_of(sums.begin(), sums.end(), [](const auto& sum) { return sum->completed() && sum->hasError(); });
  }
};

// With a hook the Reducer leaves its division by the number of ranks to it; this one sums and divides nothing.
class SumHook final : public c10d::CppCommHookInterface<Group> {
 public:
  SumHook(const Group& group, std::shared_ptr<Sent> sent) : CppCommHookInterface(group), sent_(std::move(sent)) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<at::Tensor> tensors{bucket.getBufferRef()};
    sent_->refused = true;
    sent_->sums.push_back(state_->allreduce(tensors)->getFuture());
    sent_->refused = false;
    return sent_->sums.back();
  }

 private:
  const std::shared_ptr<Sent> sent_;
};

// rebuild_buckets() is never called; saying that it happened also keeps the Reducer from recording the order of every
// step.
class FixedLayoutReducer final : public c10d::Reducer {
 public:
  template <typename... Args>
  explicit FixedLayoutReducer(Args&&... args) : Reducer(std::forward<Args>(args)...) {
    has_rebuilt_bucket_ = true;
  }
};

class C10dReducer final : public GradientReducer {
 public:
  C10dReducer(ProcessGroup& group, std::vector<at::Tensor> params) : group_(group), sent_(std::make_shared<Sent>()) {
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(
        params, {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap}));
    std::reverse(buckets.begin(), buckets.end());  // Backward reaches the last parameters first.
    std::vector<bool> sparse(params.size(), false);
    reducer_ = std::make_unique<FixedLayoutReducer>(
        std::move(params), std::move(buckets), group.c10d(), std::move(sparse), int64_t{c10d::kDefaultBucketBytesCap},
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/false, std::unordered_map<size_t, std::string>(),
        int64_t{c10d::kDefaultFirstBucketBytes}, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<int64_t>());
    reducer_->register_comm_hook(std::make_unique<SumHook>(group.c10d(), sent_));
  }

  absl::Status Backward(const at::Tensor& loss, bool last) override {
    *sent_ = Sent();
    if (last) {
      reducer_->prepare_for_forward();
      reducer_->prepare_for_backward({});
    }
    std::exception_ptr thrown;
    try {
      loss.backward();
    } catch (...) {
      thrown = std::current_exception();
    }
    if (!thrown) return absl::OkStatus();
    if (!sent_->Failed()) std::rethrow_exception(thrown);
    group_.MarkBroken();
    return RunDist("sum of gradients over ranks", [&] { std::rethrow_exception(thrown); });
  }

 private:
  ProcessGroup& group_;
  const std::shared_ptr<Sent> sent_;
  std::unique_ptr<FixedLayoutReducer> reducer_;
};

}  // namespace

std::unique_ptr<GradientReducer> MakeC10dReducer(ProcessGroup& group, std::vector<at::Tensor> params) {
  if (!group.c10d()) return std::make_unique<LocalReducer>();
  return std::make_unique<C10dReducer>(group, std::move(params));
}

}  // namespace p2::dist

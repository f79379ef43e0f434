#include "worker/dist/exact_reducer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/status_macros.h"

namespace p2::dist {
namespace {

// Cuts at other places would change the bits of vectorized kernels.
constexpr int64_t kSliceAlignment = 64;

class ExactReducer final : public GradientReducer {
 public:
  // Letters: N elements of `grads`, W ranks, S elements of a slice (W S >= N).
  ExactReducer(ProcessGroup& group, at::Tensor grads, int leaves)
      : group_(group),
        grads_(std::move(grads)),
        leaves_(leaves),
        slice_((grads_.numel() / kSliceAlignment + group.world_size() - 1) / group.world_size() * kSliceAlignment) {
    for (int rank = 0; rank < group.world_size(); ++rank) {
      subtrees_.push_back(SubtreesOf(LeavesOf(rank, group.world_size(), leaves)));
      rounds_ = std::max(rounds_, subtrees_.back().size());
    }
    next_leaf_ = FirstLeaf();
  }

  absl::Status Backward(const at::Tensor& loss, bool last) override {
    grads_.zero_();
    loss.backward();
    mine_.Add({next_leaf_++, 1}, grads_);
    if (!last) return absl::OkStatus();
    next_leaf_ = FirstLeaf();
    const absl::Status status = Exchange();
    mine_.Clear();
    return status;
  }

 private:
  int FirstLeaf() const { return LeavesOf(group_.rank(), group_.world_size(), leaves_).begin; }
  // Elements of grads_ that rank owns: [begin, begin + size).
  int64_t SliceBegin(int rank) const { return std::min(rank * slice_, grads_.numel()); }
  int64_t SliceSize(int rank) const { return SliceBegin(rank + 1) - SliceBegin(rank); }

  absl::Status Exchange() {
    if (group_.world_size() == 1) {
      grads_.copy_(mine_.nodes().front().sum);
      return absl::OkStatus();
    }
    P2_ASSIGN_OR_RETURN(const std::vector<std::vector<at::Tensor>> partials, SendPartials());
    for (int rank = 0; rank < group_.world_size(); ++rank) {
      for (size_t i = 0; i < subtrees_[rank].size(); ++i) rest_.Add(subtrees_[rank][i], partials[i][rank]);
    }
    at::Tensor slice = at::zeros({slice_}, grads_.options());                           // (S)
    at::Tensor gathered = at::empty({slice_ * group_.world_size()}, grads_.options());  // (W S)
    slice.narrow(0, 0, SliceSize(group_.rank())).copy_(rest_.nodes().front().sum);
    rest_.Clear();
    P2_RETURN_IF_ERROR(group_.AllGather(slice, gathered));
    grads_.copy_(gathered.narrow(0, 0, grads_.numel()));
    return absl::OkStatus();
  }

  // Round i sends every rank's i-th partial sum, each slice to its owner. Returns what came here: [i][rank], this
  // rank's slice of that sum, undefined where the rank has no i-th one.
  absl::StatusOr<std::vector<std::vector<at::Tensor>>> SendPartials() {
    const int ranks = group_.world_size();
    const int64_t own = SliceSize(group_.rank());
    std::vector<std::vector<at::Tensor>> partials;
    for (size_t i = 0; i < rounds_; ++i) {
      const bool sends = i < mine_.nodes().size();
      const at::Tensor out = sends ? mine_.nodes()[i].sum : grads_.narrow(0, 0, 0);
      std::vector<int64_t> out_sizes(ranks), in_sizes(ranks);
      int64_t total = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        out_sizes[rank] = sends ? SliceSize(rank) : 0;
        in_sizes[rank] = i < subtrees_[rank].size() ? own : 0;
        total += in_sizes[rank];
      }
      at::Tensor in = at::empty({total}, grads_.options());
      P2_RETURN_IF_ERROR(group_.AllToAll(out, out_sizes, in, in_sizes));
      std::vector<at::Tensor> slices(ranks);
      int64_t at = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        if (i < subtrees_[rank].size()) slices[rank] = in.narrow(0, at, own);
        at += in_sizes[rank];
      }
      partials.push_back(std::move(slices));
    }
    return partials;
  }

  ProcessGroup& group_;
  const at::Tensor grads_;  // (N)
  const int leaves_;
  const int64_t slice_;
  std::vector<std::vector<Subtree>> subtrees_;  // Of each rank.
  size_t rounds_ = 0;                           // The most subtrees that a rank has.
  int next_leaf_ = 0;
  LeafTree mine_;  // This rank's leaves, (N).
  LeafTree rest_;  // All partial sums of this rank's slice.
};

}  // namespace

std::unique_ptr<GradientReducer> MakeExactReducer(ProcessGroup& group, at::Tensor grads, int leaves) {
  return std::make_unique<ExactReducer>(group, std::move(grads), leaves);
}

}  // namespace p2::dist

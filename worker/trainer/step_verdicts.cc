#include "worker/trainer/step_verdicts.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

namespace p2::trainer {
namespace {

constexpr size_t kGpuLag = 2;  // Steps.

}  // namespace

void StepVerdicts::Push(checkpoint::SampleRange samples, const at::Tensor& found_inf) {
  Pending pending{samples, found_inf, std::nullopt};
  if (!found_inf.is_cpu()) {
    pending.flag = at::empty({}, at::TensorOptions(at::kFloat).pinned_memory(true));
    pending.flag.copy_(found_inf, /*non_blocking=*/true);
    pending.copied.emplace(found_inf.device().type());
    pending.copied->record(c10::impl::VirtualGuardImpl(found_inf.device().type()).getStream(found_inf.device()));
  }
  pending_.push_back(std::move(pending));
}

std::optional<StepVerdicts::Verdict> StepVerdicts::Pop() {
  if (pending_.empty()) return std::nullopt;
  if (pending_.front().copied) {
    if (pending_.size() <= kGpuLag) return std::nullopt;
    pending_.front().copied->synchronize();
  }
  const Verdict verdict{pending_.front().samples, pending_.front().flag.item<float>() != 0};
  pending_.pop_front();
  return verdict;
}

void AddSkipped(const std::vector<checkpoint::SampleRange>& ranges, std::vector<checkpoint::SampleRange>* all) {
  all->insert(all->end(), ranges.begin(), ranges.end());
  std::sort(all->begin(), all->end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<checkpoint::SampleRange> merged;
  for (const checkpoint::SampleRange& range : *all) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  *all = std::move(merged);
}

}  // namespace p2::trainer

#include "worker/trainer/metric_window.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "common/status_macros.h"
#include "worker/trainer/snr_bins.h"

namespace p2::trainer {
namespace {

// Layout of the sums. Those of steps come from rank 0 alone.
enum Sum : int64_t { kSamples, kLoss, kRaw, kWeighted, kVb, kSteps, kGradNorm, kBadSteps, kBinCount };
constexpr int64_t kBinRaw = kBinCount + kSnrBins;
constexpr int64_t kBinWeighted = kBinRaw + kSnrBins;
constexpr int64_t kSums = kBinWeighted + kSnrBins;

}  // namespace

MetricWindow::MetricWindow(dist::ProcessGroup& group, absl::Span<const double> snr)
    : group_(group),
      bin_of_t_(at::tensor(SnrBinTable(snr)).to(group.device())),
      sums_(at::zeros({kSums}, at::TensorOptions(at::kDouble).device(group.device()))) {}

void MetricWindow::Add(const diffusion::LossTerms& terms, const at::Tensor& t, const at::Tensor& grad_norm,
                       const at::Tensor& found_inf) {
  c10::AutoGradMode no_grad(false);
  const at::Tensor ones = at::ones_like(terms.mse_raw);
  at::Tensor rows = at::stack({ones, terms.loss, terms.mse_raw, terms.mse, terms.vb}).to(at::kDouble);  // (5, b)
  const at::Tensor bad = found_inf.gt(0);
  const at::Tensor zero = at::zeros({}, sums_.options());
  rows = at::where(bad, zero, rows);
  sums_.slice(0, kSamples, kSteps).add_(rows.sum(1));
  const at::Tensor bins = bin_of_t_.index_select(0, t);
  sums_.slice(0, kBinCount, kBinRaw).index_add_(0, bins, rows[kSamples]);
  sums_.slice(0, kBinRaw, kBinWeighted).index_add_(0, bins, rows[kRaw]);
  sums_.slice(0, kBinWeighted, kSums).index_add_(0, bins, rows[kWeighted]);
  if (group_.rank() != 0) return;
  sums_[kSteps].add_(1 - found_inf);
  sums_[kGradNorm].add_(at::where(bad, zero, grad_norm.to(at::kDouble)));
  sums_[kBadSteps].add_(found_inf);
}

absl::StatusOr<std::vector<double>> MetricWindow::Fold() {
  P2_RETURN_IF_ERROR(group_.AllReduceSum(sums_));
  const at::Tensor host = sums_.cpu();
  std::vector<double> sums(host.data_ptr<double>(), host.data_ptr<double>() + kSums);
  if (group_.rank() != 0) sums_.zero_();
  return sums;
}

void MetricWindow::Restore(const std::vector<double>& sums) {
  sums_.zero_();
  if (group_.rank() == 0 && sums.size() == static_cast<size_t>(kSums)) sums_.copy_(at::tensor(sums, at::kDouble));
}

void MetricWindow::RollBack(const std::vector<double>& sums) {
  const at::Tensor bad = sums_[kBadSteps].clone();
  Restore(sums);
  sums_[kBadSteps].copy_(bad);
}

absl::StatusOr<std::map<std::string, double>> MetricWindow::Report() {
  P2_ASSIGN_OR_RETURN(const std::vector<double> sums, Fold());
  sums_.zero_();
  std::map<std::string, double> points{{"nonfinite_steps", sums[kBadSteps]}};
  if (sums[kSteps] == 0) return points;
  points["loss"] = sums[kLoss] / sums[kSamples];
  points["mse"] = sums[kRaw] / sums[kSamples];
  points["mse_weighted"] = sums[kWeighted] / sums[kSamples];
  points["vb"] = sums[kVb] / sums[kSamples];
  points["grad_norm"] = sums[kGradNorm] / sums[kSteps];
  for (int bin = 0; bin < kSnrBins; ++bin) {
    const double count = sums[kBinCount + bin];
    if (count == 0) continue;
    points[SnrBinName("loss_snr_", bin)] = sums[kBinRaw + bin] / count;
    points[SnrBinName("count_snr_", bin)] = count;
    if (sums[kWeighted] > 0)
      points[SnrBinName("weighted_share_snr_", bin)] = sums[kBinWeighted + bin] / sums[kWeighted];
  }
  return points;
}

}  // namespace p2::trainer

#include "worker/trainer/metric_window.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/spec/snr_bins.h"
#include "common/status_macros.h"
#include "worker/dist/leaf_tree.h"

namespace p2::trainer {
namespace {

using spec::kSnrBins;
using spec::SnrBinName;

// Layout of the sums. Those of steps come from rank 0 alone.
enum Sum : int64_t { kSamples, kLoss, kRaw, kWeighted, kVb, kSteps, kGradNorm, kBadSteps, kBinCount };
constexpr int64_t kBinRaw = kBinCount + kSnrBins;
constexpr int64_t kBinWeighted = kBinRaw + kSnrBins;
constexpr int64_t kQuarterCount = kBinWeighted + kSnrBins;  // Then loss, weighted and vb by quarters of t.
constexpr int64_t kQuarters = 4, kQuarterTerms = 3;
constexpr int64_t kSums = kQuarterCount + kQuarters * (1 + kQuarterTerms);

// floor(4 t / T), as the published code's log.
at::Tensor QuarterTable(int64_t timesteps) {
  std::vector<int64_t> quarters;
  for (int64_t t = 0; t < timesteps; ++t) quarters.push_back(kQuarters * t / timesteps);
  return at::tensor(quarters);
}

}  // namespace

MetricWindow::MetricWindow(dist::ProcessGroup& group, absl::Span<const double> snr, int leaves)
    : group_(group),
      bin_of_t_(at::tensor(spec::SnrBinTable(snr)).to(group.device())),
      quarter_of_t_(QuarterTable(static_cast<int64_t>(snr.size())).to(group.device())),
      sums_(at::zeros({std::max(leaves, 1), kSums}, at::TensorOptions(at::kDouble).device(group.device()))) {
  if (leaves == 0) return;
  const dist::LeafRange mine = dist::LeavesOf(group.rank(), group.world_size(), leaves);
  first_row_ = mine.begin;
  own_rows_ = mine.end - mine.begin;
}

void MetricWindow::Add(const diffusion::LossTerms& terms, const at::Tensor& t, const at::Tensor& grad_norm,
                       const at::Tensor& found_inf) {
  c10::AutoGradMode no_grad(false);
  const at::Tensor ones = at::ones_like(terms.mse_raw);
  at::Tensor values = at::stack({ones, terms.loss, terms.mse_raw, terms.mse, terms.vb}).to(at::kDouble);  // (5, b)
  const at::Tensor bad = found_inf.gt(0);
  const at::Tensor zero = at::zeros({}, sums_.options());
  values = at::where(bad, zero, values).reshape({5, own_rows_, -1});              // (5, rows, b / rows)
  const at::Tensor bins = bin_of_t_.index_select(0, t).reshape({own_rows_, -1});  // (rows, b / rows)
  const at::Tensor rows = sums_.narrow(0, first_row_, own_rows_);                 // (rows, kSums)
  rows.slice(1, kSamples, kSteps).add_(values.sum(2).t());
  rows.slice(1, kBinCount, kBinRaw).scatter_add_(1, bins, values[kSamples]);
  rows.slice(1, kBinRaw, kBinWeighted).scatter_add_(1, bins, values[kRaw]);
  rows.slice(1, kBinWeighted, kQuarterCount).scatter_add_(1, bins, values[kWeighted]);
  const at::Tensor quarters = quarter_of_t_.index_select(0, t).reshape({own_rows_, -1});  // (rows, b / rows)
  int64_t begin = kQuarterCount;
  for (const int64_t term : {kSamples, kLoss, kWeighted, kVb}) {
    rows.slice(1, begin, begin + kQuarters).scatter_add_(1, quarters, values[term]);
    begin += kQuarters;
  }
  if (group_.rank() != 0) return;
  sums_[0][kSteps].add_(1 - found_inf);
  sums_[0][kGradNorm].add_(at::where(bad, zero, grad_norm.to(at::kDouble)));
  sums_[0][kBadSteps].add_(found_inf);
}

absl::StatusOr<std::vector<double>> MetricWindow::Fold() {
  P2_RETURN_IF_ERROR(group_.AllReduceSum(sums_));  // In `exact` a row comes from one rank: nothing is rounded here.
  const at::Tensor host = sums_.cpu();
  std::vector<double> sums(kSums, 0.0);
  for (int64_t row = 0; row < host.size(0); ++row) {
    const double* const values = host.data_ptr<double>() + row * kSums;
    std::transform(sums.begin(), sums.end(), values, sums.begin(), std::plus<double>());
  }
  Restore(sums);
  return sums;
}

void MetricWindow::Restore(const std::vector<double>& sums) {
  sums_.zero_();
  if (group_.rank() == 0 && sums.size() == static_cast<size_t>(kSums)) sums_[0].copy_(at::tensor(sums, at::kDouble));
}

void MetricWindow::RollBack(const std::vector<double>& sums) {
  const at::Tensor bad = sums_[0][kBadSteps].clone();
  Restore(sums);
  sums_[0][kBadSteps].copy_(bad);
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
  struct {
    double count = 0, raw = 0, weighted = 0;
  } stages[spec::kStages];
  for (int bin = 0; bin < kSnrBins; ++bin) {
    const double count = sums[kBinCount + bin];
    if (count == 0) continue;
    auto& stage = stages[static_cast<int>(spec::StageOfBin(bin))];
    stage.count += count;
    stage.raw += sums[kBinRaw + bin];
    stage.weighted += sums[kBinWeighted + bin];
    points[SnrBinName("loss_snr_", bin)] = sums[kBinRaw + bin] / count;
    points[SnrBinName("count_snr_", bin)] = count;
    if (sums[kWeighted] > 0)
      points[SnrBinName("weighted_share_snr_", bin)] = sums[kBinWeighted + bin] / sums[kWeighted];
  }
  for (int i = 0; i < spec::kStages; ++i) {
    const std::string name = absl::StrReplaceAll(spec::StageName(static_cast<spec::Stage>(i)), {{"-", "_"}});
    if (stages[i].count > 0) points["loss_" + name] = stages[i].raw / stages[i].count;
    if (sums[kWeighted] > 0) points["weighted_share_" + name] = stages[i].weighted / sums[kWeighted];
  }
  for (int64_t quarter = 0; quarter < kQuarters; ++quarter) {
    const double* const of_quarter = sums.data() + kQuarterCount + quarter;
    if (of_quarter[0] == 0) continue;
    int64_t at = kQuarters;
    for (const char* term : {"loss_q", "mse_q", "vb_q"}) {
      points[absl::StrCat(term, quarter)] = of_quarter[at] / of_quarter[0];
      at += kQuarters;
    }
  }
  return points;
}

}  // namespace p2::trainer

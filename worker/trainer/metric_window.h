// Sums of what is reported, over the logging interval that is open: on the device, so that a step need not wait for the
// host.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/diffusion/loss.h"
#include "worker/dist/process_group.h"

namespace p2::trainer {

// Thread-compatible. All ranks make the same calls in the same order.
class MetricWindow {
 public:
  // `snr`: SNR(t), (T). `leaves`: V of the `exact` reduction; the sums' bits then do not depend on the number of ranks
  // either. 0: `fast`. `group` must outlive it.
  MetricWindow(dist::ProcessGroup& group, absl::Span<const double> snr, int leaves = 0);

  // One step. `terms` of this rank's samples, each (b), at timesteps `t` (b) int64; `grad_norm`: global, scalar; a step
  // whose `found_inf` is 1 counts as bad and leaves the other sums alone.
  void Add(const diffusion::LossTerms& terms, const at::Tensor& t, const at::Tensor& grad_norm,
           const at::Tensor& found_inf);

  // Folds the ranks' sums into rank 0's (a collective) and returns them, for a checkpoint.
  absl::StatusOr<std::vector<double>> Fold();
  // Goes on from `sums`, which Fold returned; empty: starts anew.
  void Restore(const std::vector<double>& sums);
  // The same after a rollback to a checkpoint of this process: bad steps since the last report stay counted.
  void RollBack(const std::vector<double>& sums);

  // Folds, turns the sums into points and starts anew. Means over samples: loss, mse (raw), mse_weighted, vb; over
  // steps: grad_norm; nonfinite_steps; for each bin with samples: loss_snr_NN (mean raw mse), weighted_share_snr_NN
  // (share of the weighted mse), count_snr_NN; for each quarter q of t = 0…T-1 with samples: loss_qQ, mse_qQ (the
  // weighted mse, under the published code's name) and vb_qQ. Without a good step only nonfinite_steps.
  absl::StatusOr<std::map<std::string, double>> Report();

 private:
  dist::ProcessGroup& group_;
  at::Tensor bin_of_t_;      // (T) int64
  at::Tensor quarter_of_t_;  // (T) int64
  // A row for each leaf in `exact`, of which a rank fills its own; else one row. (rows, kSums) float64.
  at::Tensor sums_;
  int64_t first_row_ = 0;  // This rank's rows: [first_row_, first_row_ + own_rows_).
  int64_t own_rows_ = 1;
};

}  // namespace p2::trainer

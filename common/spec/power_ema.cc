#include "common/spec/power_ema.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::spec {
namespace {

constexpr double kDependent = 1e-12;  // Squared distance from the span of the others, of a unit vector.

// Inner products of the shares of averages, summed over the updates exactly.
class Products {
 public:
  // Of every two of `gammas` (distinct), after each count of `updates`.
  Products(std::vector<double> gammas, std::vector<int64_t> updates) : gammas_(std::move(gammas)) {
    std::sort(updates.begin(), updates.end());
    updates.erase(std::unique(updates.begin(), updates.end()), updates.end());
    const size_t n = gammas_.size();
    std::vector<double> product(n * n, 0.0), share(n);
    size_t next = 0;
    for (int64_t i = 1; next < updates.size(); ++i) {
      // The last update's share is 1 - beta_i; every earlier one is multiplied by beta_i.
      const double log_beta = std::log1p(-1.0 / static_cast<double>(i));
      for (size_t a = 0; a < n; ++a) share[a] = -std::expm1((gammas_[a] + 1) * log_beta);
      for (size_t a = 0; a < n; ++a) {
        for (size_t b = a; b < n; ++b) {
          double& sum = product[a * n + b];
          sum = sum * (1 - share[a]) * (1 - share[b]) + share[a] * share[b];
        }
      }
      if (i == updates[next]) {
        at_.emplace(i, product);
        ++next;
      }
    }
  }

  double operator()(const PowerEma& x, const PowerEma& y) const {
    const bool x_first = x.updates <= y.updates;
    const PowerEma &early = x_first ? x : y, &late = x_first ? y : x;
    size_t a = IndexOf(early.gamma), b = IndexOf(late.gamma);
    if (a > b) std::swap(a, b);
    const double same_length = at_.at(early.updates)[a * gammas_.size() + b];
    return same_length *
           std::pow(static_cast<double>(early.updates) / static_cast<double>(late.updates), late.gamma + 1);
  }

 private:
  size_t IndexOf(double gamma) const {
    return static_cast<size_t>(std::find(gammas_.begin(), gammas_.end(), gamma) - gammas_.begin());
  }

  const std::vector<double> gammas_;
  std::map<int64_t, std::vector<double>> at_;
};

// Cholesky factor of a symmetric matrix with unit diagonal by diagonal pivoting: L (rank columns) with
// A[p][p] = L L^T for the first `rank` of the order p; what is left then has a diagonal below kDependent.
class PivotedCholesky {
 public:
  PivotedCholesky(std::vector<double> matrix, size_t n) : n_(n), l_(std::move(matrix)), order_(n) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    for (; rank_ < n_; ++rank_) {
      const size_t k = rank_;
      size_t pivot = k;
      for (size_t i = k + 1; i < n_; ++i) {
        if (At(i, i) > At(pivot, pivot)) pivot = i;
      }
      if (!(At(pivot, pivot) > kDependent)) break;
      Swap(k, pivot);
      const double root = std::sqrt(At(k, k));
      At(k, k) = root;
      for (size_t i = k + 1; i < n_; ++i) At(i, k) /= root;
      for (size_t i = k + 1; i < n_; ++i) {
        for (size_t j = k + 1; j <= i; ++j) At(i, j) -= At(i, k) * At(j, k);
      }
    }
  }

  // x with A x = b on the independent part, 0 elsewhere.
  std::vector<double> Solve(const std::vector<double>& b) const {
    std::vector<double> y(rank_), x(n_, 0.0);
    for (size_t i = 0; i < rank_; ++i) {
      double sum = b[order_[i]];
      for (size_t j = 0; j < i; ++j) sum -= At(i, j) * y[j];
      y[i] = sum / At(i, i);
    }
    for (size_t i = rank_; i-- > 0;) {
      double sum = y[i];
      for (size_t j = i + 1; j < rank_; ++j) sum -= At(j, i) * y[j];
      y[i] = sum / At(i, i);
      x[order_[i]] = y[i];
    }
    return x;
  }

 private:
  double& At(size_t i, size_t j) { return l_[i * n_ + j]; }
  double At(size_t i, size_t j) const { return l_[i * n_ + j]; }

  // Rows and columns k < p of the lower triangle.
  void Swap(size_t k, size_t p) {
    if (k == p) return;
    std::swap(order_[k], order_[p]);
    for (size_t j = 0; j < k; ++j) std::swap(At(k, j), At(p, j));
    for (size_t j = k + 1; j < p; ++j) std::swap(At(j, k), At(p, j));
    for (size_t i = p + 1; i < n_; ++i) std::swap(At(i, k), At(i, p));
    std::swap(At(k, k), At(p, p));
  }

  const size_t n_;
  std::vector<double> l_;
  std::vector<size_t> order_;
  size_t rank_ = 0;
};

absl::Status Check(const PowerEma& ema) {
  if (ema.updates >= 1 && ema.gamma >= 0 && std::isfinite(ema.gamma)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("an average of exponent ", ema.gamma, " after ", ema.updates,
                                                 " updates; the exponent is finite and at least 0, the updates at "
                                                 "least 1"));
}

}  // namespace

double PowerEmaGamma(double sigma_rel) {
  double low = 0, high = 1 / sigma_rel;  // sigma_rel < 1 / (gamma + 2)
  for (;;) {
    const double gamma = low + (high - low) / 2;
    if (gamma <= low || gamma >= high) return low;
    const double sigma = std::sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2);  // Falls with gamma.
    (sigma > sigma_rel ? low : high) = gamma;
  }
}

int64_t SnapshotStride(int64_t due, int64_t most) {
  int64_t stride = 1;
  while (due / stride + 1 > most) stride *= 2;
  return stride;
}

int64_t SnapshotsAtEnd(int64_t images, int64_t every_images, int64_t most) {
  if (every_images <= 0) return 0;
  const int64_t due = images / every_images;
  const int64_t stride = SnapshotStride(due, most);
  const bool end_is_due = images % every_images == 0 && due % stride == 0;
  return due / stride + (end_is_due ? 0 : 1);
}

absl::StatusOr<EmaReconstruction> ReconstructEma(absl::Span<const PowerEma> stored, const PowerEma& wanted) {
  P2_RETURN_IF_ERROR(Check(wanted));
  std::vector<double> gammas{wanted.gamma};
  std::vector<int64_t> updates{wanted.updates};
  int64_t last = 0;
  for (const PowerEma& ema : stored) {
    P2_RETURN_IF_ERROR(Check(ema));
    if (std::find(gammas.begin(), gammas.end(), ema.gamma) == gammas.end()) gammas.push_back(ema.gamma);
    updates.push_back(ema.updates);
    last = std::max(last, ema.updates);
  }
  if (stored.empty()) return absl::InvalidArgumentError("there is no stored average to reconstruct from");
  if (wanted.updates > last) {
    return absl::InvalidArgumentError(absl::StrCat("the average after ", wanted.updates,
                                                   " updates is wanted, but the last stored one is of ", last,
                                                   ": it saw nothing of what came later"));
  }
  const Products product(std::move(gammas), std::move(updates));

  // min |sum x_i s_i - s|^2 with sum x_i = 1: A x = b + lambda, scaled so that A's diagonal is 1.
  const size_t n = stored.size();
  std::vector<double> norm(n), matrix(n * n), b(n), ones(n);
  for (size_t i = 0; i < n; ++i) norm[i] = std::sqrt(product(stored[i], stored[i]));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j)
      matrix[i * n + j] = i == j ? 1.0 : product(stored[i], stored[j]) / (norm[i] * norm[j]);
    b[i] = product(stored[i], wanted) / norm[i];
    ones[i] = 1 / norm[i];
  }
  const PivotedCholesky factor(matrix, n);
  std::vector<double> x = factor.Solve(b);
  const std::vector<double> direction = factor.Solve(ones);
  const double missing = 1 - std::inner_product(x.begin(), x.end(), ones.begin(), 0.0);
  const double lambda = missing / std::inner_product(direction.begin(), direction.end(), ones.begin(), 0.0);

  EmaReconstruction result;
  const double square = product(wanted, wanted);
  double rest = square;  // |sum - wanted|^2 = c - 2 b x + x A x
  for (size_t i = 0; i < n; ++i) x[i] += lambda * direction[i];
  for (size_t i = 0; i < n; ++i) {
    double row = x[i];
    for (size_t j = 0; j < n; ++j) {
      if (j != i) row += matrix[std::max(i, j) * n + std::min(i, j)] * x[j];
    }
    rest += x[i] * (row - 2 * b[i]);
    result.coefficients.push_back(x[i] * ones[i]);
    result.noise_gain += std::abs(x[i] * ones[i]);
  }
  // Cancellation leaves some multiples of the double's precision, times the coefficients.
  const double floor = std::numeric_limits<double>::epsilon() * square * result.noise_gain;
  result.residual = std::sqrt(std::max(rest, floor) / square);
  result.shares_norm = std::sqrt(square);
  return result;
}

}  // namespace p2::spec

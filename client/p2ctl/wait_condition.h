// What `wait --for` waits for.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "p2/v1/job.pb.h"

namespace p2::ctl {

class WaitCondition {
 public:
  enum class Result {
    kPending,
    kMet,
    // The job ended, and it will never be met.
    kImpossible,
  };

  // "done" (any end), a state in any case, "images=500k", "metric:loss<=0.05" (also <, >=, >). INVALID_ARGUMENT.
  static absl::StatusOr<WaitCondition> Parse(absl::string_view text);

  // `values`: the metric's values so far, for a metric condition. A job that SUCCEEDED has also been RUNNING.
  Result Check(const v1::Job& job, const std::vector<double>& values) const;

  // Why a job that has not ended will never meet it ("it ends at 18,000 images"); empty: it may.
  std::string NeverBecause(const v1::Job& job) const;

  // The metric that Check needs the values of; empty if none.
  const std::string& metric() const { return metric_; }
  const std::string& text() const { return text_; }

 private:
  bool Holds(double value) const;

  std::string text_;
  std::optional<v1::Job::State> state_;
  std::optional<int64_t> images_;
  std::string metric_;
  std::string comparison_;
  double bound_ = 0;
};

}  // namespace p2::ctl

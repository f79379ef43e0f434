#include "worker/check/report.h"

#include <cmath>
#include <limits>

namespace p2::check {

void Worst::Add(std::string where, double error, double tolerance) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (std::isnan(error)) error = infinity;
  const double share = tolerance > 0 ? error / tolerance : error > 0 ? infinity : 0;
  if (any_ && share <= share_) return;
  any_ = true;
  share_ = share;
  error_ = error;
  tolerance_ = tolerance;
  where_ = std::move(where);
}

void Report::Add(std::string name, double error, double tolerance, std::string where) {
  if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
  results_.push_back({section_, std::move(name), error, tolerance, error <= tolerance, std::move(where), ""});
}

void Report::Add(std::string name, const Worst& worst) {
  if (!worst.any_) return Skip(std::move(name), "the fixtures hold nothing to compare");
  Add(std::move(name), worst.error_, worst.tolerance_, worst.where_);
}

void Report::Equal(std::string name, bool equal, std::string difference) {
  Add(std::move(name), equal ? 0 : 1, 0, equal ? "" : std::move(difference));
}

void Report::Skip(std::string name, std::string reason) {
  results_.push_back({section_, std::move(name), 0, 0, false, "", std::move(reason)});
}

std::string Report::FirstLine(absl::string_view message) { return std::string(message.substr(0, message.find('\n'))); }

}  // namespace p2::check

// What a check against reference numbers found, case by case.
#pragma once

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace p2::check {

struct CaseResult {
  std::string section;
  std::string name;
  double error = 0;  // As measured; what it is relative to, the section says.
  double tolerance = 0;
  bool pass = false;    // It ran, and error <= tolerance.
  std::string where;    // The part with the largest error, where a case has several.
  std::string skipped;  // Why it did not run: a failure. Empty if it ran.
};

// The largest of several errors, each measured by its own tolerance.
class Worst {
 public:
  void Add(std::string where, double error, double tolerance);

 private:
  friend class Report;
  bool any_ = false;
  double share_ = 0;  // error / tolerance
  double error_ = 0;
  double tolerance_ = 0;
  std::string where_;
};

// Collects the results of one section. Thread-compatible.
class Report {
 public:
  explicit Report(std::string section) : section_(std::move(section)) {}

  // Passes where error <= tolerance; an error that is not a number fails.
  void Add(std::string name, double error, double tolerance, std::string where = "");
  // Fails as "nothing to compare" where nothing was added to `worst`.
  void Add(std::string name, const Worst& worst);
  // Passes where `equal`; the error is 0 or 1.
  void Equal(std::string name, bool equal, std::string difference = "");
  // A case that cannot be run.
  void Skip(std::string name, std::string reason);

  // Runs `fn`, which adds results; if it throws (a file, a tensor or an entry is missing or malformed; a shape does not
  // fit), the case `name` fails with what it threw.
  template <typename F>
  void Case(const std::string& name, F&& fn) {
    try {
      std::forward<F>(fn)();
    } catch (const std::exception& e) {
      Skip(name, FirstLine(e.what()));
    }
  }

  const std::vector<CaseResult>& results() const { return results_; }

 private:
  static std::string FirstLine(absl::string_view message);

  const std::string section_;
  std::vector<CaseResult> results_;
};

}  // namespace p2::check

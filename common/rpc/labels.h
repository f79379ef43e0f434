// Labels of jobs and the selectors over them, as p2d and its clients read them.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/label_text.h"

namespace p2 {

// `key=value,key!=value,key` over labels: all terms must hold. Thread-compatible.
class LabelSelector {
 public:
  // INVALID_ARGUMENT, with google.rpc.BadRequest on `label_selector`.
  static absl::StatusOr<LabelSelector> Parse(absl::string_view text);
  // `labels`: a map from std::string to std::string, such as a message's.
  template <typename Labels>
  bool Matches(const Labels& labels) const {
    return std::all_of(terms_.begin(), terms_.end(), [&labels](const Term& term) {
      const auto found = labels.find(term.key);
      const bool there = found != labels.end();
      switch (term.kind) {
        case Term::Kind::kExists:
          return there;
        case Term::Kind::kEquals:
          return there && found->second == term.value;
        case Term::Kind::kDiffers:
          return !there || found->second != term.value;
      }
      return false;
    });
  }

 private:
  struct Term {
    std::string key, value;
    enum class Kind { kExists, kEquals, kDiffers } kind = Kind::kExists;
  };
  std::vector<Term> terms_;
};

}  // namespace p2

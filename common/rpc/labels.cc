#include "common/rpc/labels.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/rpc/grpc_status.h"

namespace p2 {
absl::StatusOr<LabelSelector> LabelSelector::Parse(absl::string_view text) {
  LabelSelector selector;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    Term term;
    const std::pair<absl::string_view, absl::string_view> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    absl::string_view key = sides.first;
    if (part.size() != key.size()) {
      term.kind = absl::ConsumeSuffix(&key, "!") ? Term::Kind::kDiffers : Term::Kind::kEquals;
    }
    term.key = std::string(absl::StripAsciiWhitespace(key));
    term.value = std::string(absl::StripAsciiWhitespace(sides.second));
    if (!IsLabelKey(term.key) || !IsLabelText(term.value, true)) {
      return BadRequestError({{"label_selector", absl::StrCat("term \"", absl::CHexEscape(part.substr(0, 100)),
                                                              "\" is not of the form key, key=value or key!=value")}});
    }
    selector.terms_.push_back(std::move(term));
  }
  return selector;
}

}  // namespace p2

#include "common/error_reason.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2 {
namespace {

// `REASON CODE` of each row of docs/errors.md; the other two cells must say something.
std::vector<std::string> DocumentedReasons() {
  std::ifstream file(absl::StrCat(P2_SOURCE_DIR, "/docs/errors.md"));
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    if (cells.size() != 6 || absl::StrContains(line, "---") || absl::StrContains(line, "| reason |")) continue;
    for (size_t i = 1; i <= 4; ++i) EXPECT_FALSE(absl::StripAsciiWhitespace(cells[i]).empty()) << line;
    rows.push_back(absl::StrCat(absl::StripAsciiWhitespace(cells[1]), " ", absl::StripAsciiWhitespace(cells[2])));
  }
  return rows;
}

TEST(ErrorReasonTest, IsDocumentedRowByRow) {
  std::vector<std::string> rows;
  for (const ErrorReasonRow& row : ErrorReasons()) {
    rows.push_back(absl::StrCat(row.name, " ", absl::StatusCodeToString(row.code)));
  }
  EXPECT_EQ(rows, DocumentedReasons());
}

TEST(ErrorReasonTest, StandsInTheTableAtItsNumber) {
  for (size_t i = 0; i < ErrorReasons().size(); ++i) {
    const ErrorReasonRow& row = ErrorReasons()[i];
    EXPECT_EQ(static_cast<size_t>(row.reason), i) << row.name;
    const absl::Status status = Error(row.reason, "what was wrong");
    EXPECT_EQ(status.code(), row.code);
    EXPECT_EQ(status.message(), "what was wrong");
    EXPECT_EQ(ReasonOf(status), row.name);
  }
}

TEST(ErrorReasonTest, ACodeStandsForAStatusWithoutAReason) {
  EXPECT_EQ(ReasonOf(absl::OkStatus()), "");
  EXPECT_EQ(ReasonOf(absl::NotFoundError("x")), "NOT_FOUND");
  EXPECT_EQ(ReasonOf(absl::InvalidArgumentError("x")), "INVALID_REQUEST");
  EXPECT_EQ(ReasonOf(absl::UnknownError("x")), "INTERNAL");
  absl::Status status = absl::InvalidArgumentError("x");
  SetReason(status, ErrorReason::kInvalidSpec);
  EXPECT_EQ(ReasonOf(status), "INVALID_SPEC");
}

}  // namespace
}  // namespace p2

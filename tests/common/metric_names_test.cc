// docs/metrics.md and the table of common/metric_names.h say the same.
#include "common/metric_names.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::metric {
namespace {

// `name|type|labels|by`
std::vector<std::string> Documented() {
  std::ifstream page(P2_SOURCE_DIR "/docs/metrics.md");
  std::vector<std::string> rows;
  for (std::string line; std::getline(page, line);) {
    if (!absl::StartsWith(line, "| `")) continue;
    const std::vector<std::string> cells = absl::StrSplit(absl::StrReplaceAll(line, {{" ", ""}, {"`", ""}}), '|');
    rows.push_back(absl::StrCat(cells.at(1), "|", cells.at(2), "|", cells.at(3), "|", cells.at(4)));
  }
  return rows;
}

TEST(MetricNamesTest, TheDocumentedSeriesAreThoseOfTheTableInItsOrder) {
  static constexpr const char* kTypes[] = {"gauge", "counter", "histogram"};
  std::vector<std::string> table;
  for (const Series& series : kSeries) {
    const char* by = !series.of_worker ? "p2d" : series.of_p2d ? "p2d,worker" : "worker";
    table.push_back(absl::StrCat(series.name, "|", kTypes[static_cast<int>(series.type)], "|", series.labels, "|", by));
  }
  EXPECT_THAT(Documented(), ::testing::ElementsAreArray(table));
}

}  // namespace
}  // namespace p2::metric

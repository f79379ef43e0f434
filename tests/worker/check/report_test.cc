#include "worker/check/report.h"

#include <cmath>
#include <stdexcept>

#include "gtest/gtest.h"

namespace p2::check {
namespace {

TEST(ReportTest, PassesWithinTheToleranceAlone) {
  Report report("s");
  report.Add("at the limit", 2, 2);
  report.Add("above", 2.1, 2);
  report.Add("no number", NAN, 2);
  ASSERT_EQ(report.results().size(), 3u);
  EXPECT_TRUE(report.results()[0].pass);
  EXPECT_FALSE(report.results()[1].pass);
  EXPECT_FALSE(report.results()[2].pass);
}

TEST(ReportTest, KeepsTheErrorThatIsWorstByItsOwnTolerance) {
  Worst worst;
  worst.Add("large", 10, 100);
  worst.Add("small", 1e-3, 1e-4);
  worst.Add("exact", 0, 0);
  Report report("s");
  report.Add("case", worst);
  EXPECT_EQ(report.results()[0].where, "small");
  EXPECT_FALSE(report.results()[0].pass);
}

TEST(ReportTest, NothingToCompareAndWhatThrowsAreFailures) {
  Report report("s");
  report.Add("empty", Worst());
  report.Case("throws", [] { throw std::runtime_error("first\nsecond"); });
  ASSERT_EQ(report.results().size(), 2u);
  EXPECT_FALSE(report.results()[0].pass);
  EXPECT_FALSE(report.results()[1].pass);
  EXPECT_EQ(report.results()[1].skipped, "first");
}

}  // namespace
}  // namespace p2::check

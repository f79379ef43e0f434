// Schemes of other papers, against tables made by a few lines of Python in double precision.
#include <gtest/gtest.h>

#include "common/spec/noise_schedule.h"
#include "common/spec/weighting.h"

namespace p2::spec {
namespace {

struct Row {
  int t;
  double min_snr;
  double truncated_snr;
};

void ExpectRows(ScheduleKind kind, const std::vector<Row>& rows) {
  const NoiseSchedule schedule = MakeNoiseSchedule(kind, 1000).value();
  const std::vector<double> min_snr = ObjectiveWeights("min-snr", 1, 1, schedule).value();
  const std::vector<double> truncated = ObjectiveWeights(" truncated-snr ", 1, 1, schedule).value();
  for (const Row& row : rows) {
    EXPECT_NEAR(min_snr[row.t] / row.min_snr, 1, 1e-9) << "min-snr at " << row.t;
    // 1 - abar loses digits where abar is next to 0 or 1.
    EXPECT_NEAR(truncated[row.t] / row.truncated_snr, 1, 1e-7) << "truncated-snr at " << row.t;
  }
}

TEST(WeightingSchemesTest, LinearScheduleGivesTheTable) {
  ExpectRows(ScheduleKind::kLinear, {{0, 0.000500050005000445, 1},
                                     {1, 0.001099781490308309, 1},
                                     {50, 0.1548969541434395, 1},
                                     {200, 1, 1},
                                     {250, 1, 1},
                                     {260, 1, 1.0202558139367761},
                                     {500, 1, 11.854022537934407},
                                     {750, 1, 302.01576180254557},
                                     {999, 1, 24777.052052126506}});
}

TEST(WeightingSchemesTest, CosineScheduleGivesTheTable) {
  ExpectRows(ScheduleKind::kCosine, {{0, 0.0002064296463977775, 1},
                                     {50, 0.041721838312161814, 1},
                                     {200, 0.5693991419158354, 1},
                                     {260, 0.9918751966759866, 1},
                                     {500, 1, 1.0313429206604807},
                                     {750, 1, 5.984281699549042},
                                     {998, 1, 411730.565142595}});
}

TEST(WeightingSchemesTest, OnlyP2AndExpressionsMayReadGammaAndK) {
  EXPECT_TRUE(UsesGammaAndK("p2"));
  EXPECT_TRUE(UsesGammaAndK("1 / (k + snr)"));
  for (const char* scheme : {"simple", "vlb", "min-snr", "truncated-snr"}) EXPECT_FALSE(UsesGammaAndK(scheme));
}

}  // namespace
}  // namespace p2::spec

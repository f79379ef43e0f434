// The sections of the reference numbers, in the order of tests/golden/README.md. Each reads its files, runs every case
// that they hold and reports it; none throws for bad fixtures.
#pragma once

#include "worker/check/fixtures.h"
#include "worker/check/report.h"

namespace p2::check {

void CheckSchedules(const Fixtures& fixtures, Report& report);   // 1
void CheckRespacing(const Fixtures& fixtures, Report& report);   // 2
void CheckModels(const Fixtures& fixtures, Report& report);      // 3
void CheckTiny(const Fixtures& fixtures, Report& report);        // 4
void CheckTrajectory(const Fixtures& fixtures, Report& report);  // 5
void CheckSampling(const Fixtures& fixtures, Report& report);    // 6
void CheckBpd(const Fixtures& fixtures, Report& report);         // 7
void CheckPreprocess(const Fixtures& fixtures, Report& report);  // 8
void CheckMetrics(const Fixtures& fixtures, Report& report);     // 9
void CheckCheckpoint(const Fixtures& fixtures, Report& report);  // 10

}  // namespace p2::check

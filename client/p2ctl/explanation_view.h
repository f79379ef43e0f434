// Why a job is where it is (`why`, `submit --dry-run=server`), and the fair shares that decide it, as text.
#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <string>

#include "client/p2ctl/output.h"
#include "client/p2ctl/table_printer.h"
#include "p2/v1/job_service.pb.h"

namespace p2::ctl {

// When it starts: "in 3 to 12 min", "in about 5 min", "in 40 s at the earliest", "not known".
std::string StartsText(const v1::JobExplanation& explanation);

// Its place: "3 of 7 that wait for devices". REQUIRES: it waits so.
std::string PositionText(const v1::JobExplanation& explanation);

// All of it, as facts and tables.
std::string ExplanationText(const v1::JobExplanation& explanation, const TableStyle& style);

// Of a job that is not made yet: where its ranks would run, or what it would wait for.
std::string ForecastText(const v1::JobExplanation& forecast, const TableStyle& style);

// "\nShares (…):\n…".
std::string SharesText(const google::protobuf::RepeatedPtrField<v1::FairShare>& shares, const TableStyle& style);

// Usage and score in device-hours, as the tables of shares show them.
Cell DeviceHoursCell(double device_seconds);

}  // namespace p2::ctl

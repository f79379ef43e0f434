// Runs p2's numerics against a directory of reference numbers of the published code.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/check/report.h"

namespace p2::check {

// "schedules", "respacing", …: in the order of their numbers, 1 to 10.
const std::vector<std::string>& SectionNames();

// Every case of every section, or of the section `only` (its name or number). A section without a case has failed.
// NOT_FOUND or INVALID_ARGUMENT if `directory` is no directory that can be read, or there is no such section.
// Sections 4 to 7 (models, training, sampling, bits) compute on `device`, "cpu" or "cuda[:N]"; the others have nothing
// for a device. INVALID_ARGUMENT if it is not there. Sets torch to one thread, float32 without TF32 and deterministic
// kernels: as the reference ran.
absl::StatusOr<std::vector<CaseResult>> RunChecks(const std::string& directory, const std::optional<std::string>& only,
                                                  const std::string& device = "cpu");

// Whether all of `results` passed; there is at least one.
bool AllPassed(const std::vector<CaseResult>& results);

// One line a case and a summary; or one JSON object {fixtures, pass, cases: [{section, case, error, tolerance, pass,
// where, skipped}], sections: {name: {cases, failed}}}, error null where a case did not run or the error is infinite.
std::string ResultsTable(const std::string& directory, const std::vector<CaseResult>& results);
std::string ResultsJson(const std::string& directory, const std::vector<CaseResult>& results);

}  // namespace p2::check

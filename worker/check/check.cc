#include "worker/check/check.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "worker/check/sections.h"

namespace p2::check {
namespace {

struct Section {
  const char* name;
  void (*run)(const Fixtures&, Report&);
  bool on_device = false;
};

constexpr Section kSections[] = {
    {"schedules", CheckSchedules},  {"respacing", CheckRespacing},         {"models", CheckModels},
    {"tiny", CheckTiny, true},      {"trajectory", CheckTrajectory, true}, {"sampling", CheckSampling, true},
    {"bpd", CheckBpd, true},        {"preprocess", CheckPreprocess},       {"metrics", CheckMetrics},
    {"checkpoint", CheckCheckpoint}};

struct Count {
  int cases = 0;
  int failed = 0;
};

std::map<std::string, Count> CountSections(const std::vector<CaseResult>& results) {
  std::map<std::string, Count> counts;
  for (const CaseResult& result : results) {
    Count& count = counts[result.section];
    ++count.cases;
    count.failed += !result.pass;
  }
  return counts;
}

}  // namespace

const std::vector<std::string>& SectionNames() {
  static const auto* const names = [] {
    auto* all = new std::vector<std::string>;
    for (const Section& section : kSections) all->push_back(section.name);
    return all;
  }();
  return *names;
}

absl::StatusOr<std::vector<CaseResult>> RunChecks(const std::string& directory, const std::optional<std::string>& only,
                                                  const std::string& device) {
  std::error_code error;
  if (!std::filesystem::exists(directory, error)) return absl::NotFoundError(absl::StrCat(directory, " is not there"));
  std::filesystem::directory_iterator readable(directory, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat("cannot read ", directory, ": ", error.message()));
  at::set_num_threads(1);
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
  at::Device where = at::kCPU;
  try {
    where = at::Device(device);
    at::empty({1}, at::TensorOptions(where));
  } catch (const c10::Error& e) {
    return absl::InvalidArgumentError(
        absl::StrCat("device \"", device, "\" cannot be used: ", absl::string_view(e.what_without_backtrace())));
  }

  const Fixtures on_cpu(directory), on_device(directory, where);
  std::vector<CaseResult> results;
  bool found = false;
  for (size_t i = 0; i < std::size(kSections); ++i) {
    const Section& section = kSections[i];
    if (only && *only != section.name && *only != absl::StrCat(i + 1)) continue;
    found = true;
    Report report(section.name);
    report.Case(section.name, [&] { section.run(section.on_device ? on_device : on_cpu, report); });
    if (report.results().empty()) report.Skip(section.name, "the fixtures hold no case of this section");
    results.insert(results.end(), report.results().begin(), report.results().end());
  }
  if (!found)
    return absl::InvalidArgumentError(
        absl::StrCat("there is no section \"", *only, "\"; there are ", absl::StrJoin(SectionNames(), ", ")));
  return results;
}

bool AllPassed(const std::vector<CaseResult>& results) {
  return !results.empty() && std::all_of(results.begin(), results.end(), [](const CaseResult& r) { return r.pass; });
}

std::string ResultsTable(const std::string& directory, const std::vector<CaseResult>& results) {
  size_t width = 4;
  for (const CaseResult& r : results) width = std::max(width, r.name.size());
  std::string table =
      absl::StrFormat("%-10s  %-*s  %9s  %9s\n", "SECTION", static_cast<int>(width), "CASE", "ERROR", "TOLERANCE");
  for (const CaseResult& r : results) {
    absl::StrAppendFormat(&table, "%-10s  %-*s  ", r.section, static_cast<int>(width), r.name);
    if (!r.skipped.empty()) {
      absl::StrAppend(&table, "FAIL  did not run: ", r.skipped, "\n");
      continue;
    }
    absl::StrAppendFormat(&table, "%9.2e  %9.2e  %s", r.error, r.tolerance, r.pass ? "ok" : "FAIL");
    absl::StrAppend(&table, r.where.empty() ? "" : "  ", r.where, "\n");
  }
  const auto counts = CountSections(results);
  int failed = 0;
  for (const auto& [name, count] : counts) failed += count.failed;
  absl::StrAppend(&table, directory, ": ", results.size(), " cases in ", counts.size(), " of ", std::size(kSections),
                  " sections, ", failed, " failed\n");
  return table;
}

std::string ResultsJson(const std::string& directory, const std::vector<CaseResult>& results) {
  nlohmann::ordered_json json = {{"fixtures", directory}, {"pass", AllPassed(results)}};
  for (const auto& [name, count] : CountSections(results))
    json["sections"][name] = {{"cases", count.cases}, {"failed", count.failed}};
  for (const CaseResult& r : results) {
    nlohmann::ordered_json entry = {{"section", r.section}, {"case", r.name}};
    const bool ran = r.skipped.empty();
    entry["error"] = ran && std::isfinite(r.error) ? nlohmann::ordered_json(r.error) : nlohmann::ordered_json(nullptr);
    entry["tolerance"] = ran ? nlohmann::ordered_json(r.tolerance) : nlohmann::ordered_json(nullptr);
    entry["pass"] = r.pass;
    if (!r.where.empty()) entry["where"] = r.where;
    if (!ran) entry["skipped"] = r.skipped;
    json["cases"].push_back(std::move(entry));
  }
  return absl::StrCat(json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), "\n");
}

}  // namespace p2::check

// p2-trainer check --fixtures DIR [-o table|json] [--only SECTION] [--device DEVICE]
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/check/check.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

struct CheckFlags {
  std::string fixtures;
  std::string output = "table";
  std::string only;
  std::string device = "cpu";
};

int RunCheck(const CheckFlags& flags) {
  const auto results = check::RunChecks(
      flags.fixtures, flags.only.empty() ? std::nullopt : std::make_optional(flags.only), flags.device);
  if (!results.ok()) {
    std::fprintf(stderr, "p2-trainer: %s\n", std::string(results.status().message()).c_str());
    return results.status().code() == absl::StatusCode::kNotFound ? 3 : 1;
  }
  const std::string text = flags.output == "json" ? check::ResultsJson(flags.fixtures, *results)
                                                  : check::ResultsTable(flags.fixtures, *results);
  std::fputs(text.c_str(), stdout);
  return check::AllPassed(*results) ? 0 : 12;
}

}  // namespace

void AddCheck(CLI::App& app, Verb* chosen) {
  const auto flags = std::make_shared<CheckFlags>();
  CLI::App* const verb = app.add_subcommand(
      "check", "Compare the numerics with the published code's numbers; 0 if every case passed, else 12");
  verb->add_option("--fixtures", flags->fixtures, "Directory of reference numbers (format: tests/golden/README.md)")
      ->type_name("DIR")
      ->required();
  verb->add_option("-o,--output", flags->output, "table or json")->check(CLI::IsMember({"table", "json"}));
  std::vector<std::string> sections = check::SectionNames();
  for (size_t i = 1, n = sections.size(); i <= n; ++i) sections.push_back(absl::StrCat(i));
  verb->add_option("--only", flags->only, absl::StrCat("One section: ", absl::StrJoin(check::SectionNames(), ", ")))
      ->type_name("SECTION")
      ->check(CLI::IsMember(sections));
  verb->add_option("--device", flags->device, "Where models are computed (sections 4 to 7): cpu, cuda or cuda:N")
      ->capture_default_str();
  verb->callback([flags, chosen] { *chosen = [flags] { return RunCheck(*flags); }; });
}

}  // namespace p2::trainer

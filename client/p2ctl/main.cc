// p2ctl: the person's tool.
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/help_formatter.h"
#include "common/spec/nearest_name.h"

namespace {

using p2::ctl::Context;

void AddGlobalFlags(CLI::App& app, Context& context) {
  app.add_option("--addr", context.flags.addr,
                 "Server, HOST:PORT [P2_ADDR, else what `p2ctl local` runs, else 127.0.0.1:7250]")
      ->group("Global");
  app.add_option("--project", context.flags.project,
                 "Project of new jobs; lists and selectors show it alone [P2_PROJECT]")
      ->group("Global");
  app.add_option("-o,--output", context.flags.output, "table|wide|json|jsonl|yaml|csv|name [P2_OUTPUT]")
      ->group("Global");
  app.add_option("--fields", context.flags.fields,
                 "Only these columns, or paths into the JSON: id,state,spec.training.batch")
      ->group("Global")
      ->allow_extra_args(false);
  app.add_flag("--no-headers", context.flags.no_headers, "Tables and CSV without their first line")->group("Global");
  app.add_option("--timeout", context.flags.timeout, "Of one call, retries included")
      ->capture_default_str()
      ->group("Global");
  app.add_option("--request-id", context.flags.request_id, "A change with the same ID is done once")->group("Global");
  app.add_flag("-q,--quiet", context.flags.quiet, "No talk on stderr; lists print IDs alone")->group("Global");
  app.add_flag("-v,--verbose", context.flags.verbose, "Say which server is asked, and error codes")->group("Global");
  app.add_flag("--yes", context.flags.yes, "Ask nothing: do what selectors choose")->group("Global");
  app.add_flag("--no-color", context.flags.no_color, "No colours [NO_COLOR]")->group("Global");
  p2::ctl::AddLater(app, "--context", true, "contexts and logins");
  p2::ctl::AddLater(app, "--token-file", true, "users and roles");
  p2::ctl::AddLater(app, "--ca", true, "TLS");
}

void AddVerbs(CLI::App& app, Context& context) {
  using namespace p2::ctl;  // NOLINT: the verbs, in the order of the help.
  AddLocal(app, context);
  AddSubmit(app, context);
  AddJobVerbs(app, context);
  AddDescribe(app, context);
  AddWhy(app, context);
  AddWait(app, context);
  AddLogs(app, context);
  AddMetrics(app, context);
  AddSnr(app, context);
  AddControlVerbs(app, context);
  AddUpdate(app, context);
  AddDerive(app, context);
  AddFiles(app, context);
  AddDataset(app, context);
  AddRoot(app, context);
  AddPreset(app, context);
  AddWeights(app, context);
  AddQueue(app, context);
  AddQuota(app, context);
  AddNode(app, context);
  AddEvents(app, context);
  AddAudit(app, context);
  AddAdmin(app, context);
  AddVersion(app, context);
}

// What CLI11 found, in our words; `unknown`: what it could not place.
std::string UsageText(const CLI::App& app, const CLI::App& verb, const std::string& path,
                      const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  const bool too_many = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError);
  const bool misplaced = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError) || too_many;
  if (!misplaced || unknown.empty()) return error.what();
  const std::string& word = unknown.front();
  std::vector<std::string> known;
  if (word.rfind('-', 0) == 0) {
    for (const CLI::App* of : {&verb, &app}) {
      for (const CLI::Option* option : of->get_options()) {
        if (option->get_group().empty()) continue;
        for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
      }
    }
    return absl::StrCat("\"", word, "\" is no option of ", path, p2::spec::DidYouMean(word, known));
  }
  if (too_many) return absl::StrCat("\"", word, "\" is one argument too many for ", path);
  for (const CLI::App* subcommand : verb.get_subcommands({})) known.push_back(subcommand->get_name());
  return known.empty() ? error.what()
                       : absl::StrCat("\"", word, "\" is no command of ", path, p2::spec::DidYouMean(word, known));
}

// A usage error as any other: one line, JSON with -o json.
int ReportUsage(Context& context, const CLI::App& app, const CLI::ParseError& error) {
  const bool help = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
  if (help) return app.exit(error);
  if (!context.Finish().ok()) context.flags.output.clear();
  const CLI::App* verb = &app;
  std::string path = "p2ctl";
  while (!verb->get_subcommands().empty()) {
    verb = verb->get_subcommands().front();
    path += absl::StrCat(" ", verb->get_name());
  }
  std::string what = UsageText(app, *verb, path, error);
  const bool later = dynamic_cast<const p2::ctl::ComesLater*>(&error) != nullptr;
  if (!later) absl::StrAppend(&what, "; `", path, " --help` shows how");
  context.PrintError(p2::ctl::WithReason(absl::InvalidArgumentError(what), later ? "NOT_SUPPORTED_YET" : "USAGE"));
  return p2::ctl::kUsage;
}

int Run(int argc, char** argv) {
  Context context;
  CLI::App app("p2ctl: train perception-prioritized (P2) diffusion models, and watch it", "p2ctl");
  app.fallthrough();
  app.require_subcommand(1);
  app.formatter(std::make_shared<p2::ctl::HelpFormatter>());  // Before the verbs, which take it over.
  app.footer(
      "Exit codes: 0 ok, 1 error, 2 usage or invalid spec, 3 not found, 4 not authenticated, 5 denied, 6 conflict, "
      "7 server unavailable, 8 wait timed out, 10 job FAILED, 11 job CANCELLED, 12 verification failed, 130 "
      "interrupted.\n"
      "Start here: `p2ctl local` runs a server and a worker on this machine; then `p2ctl submit mnist-demo --follow`.");
  app.set_version_flag("--version", absl::StrCat("p2ctl ", p2::ClientVersion()), "Version of p2ctl alone")
      ->group("Global");
  AddGlobalFlags(app, context);
  AddVerbs(app, context);
  if (argc == 1) {  // Help, but no success: nothing was asked for.
    std::fputs(app.help().c_str(), stderr);
    return p2::ctl::kUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return ReportUsage(context, app, error);
  }
  const absl::Status flags = context.Finish();
  const absl::StatusOr<int> code = flags.ok() ? context.action(context) : flags;
  if (!code.ok()) context.PrintError(code.status());
  return code.ok() ? *code : p2::ctl::ExitCodeOf(code.status());
}

}  // namespace

int main(int argc, char** argv) {
  const int code = Run(argc, argv);
  // What could not be written was not delivered.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::perror("p2ctl: cannot write the output");
    return code == p2::ctl::kOk ? p2::ctl::kError : code;
  }
  return code;
}

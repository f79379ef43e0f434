// p2ctl: the person's tool.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "common/spec/nearest_name.h"

namespace {

using p2::ctl::Context;

void AddGlobalFlags(CLI::App& app, Context& context) {
  app.add_option("--addr", context.flags.addr,
                 "Server, HOST:PORT [P2_ADDR, else what `p2ctl local` runs, else 127.0.0.1:7250]")
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
  app.add_flag("--no-color", context.flags.no_color, "No colours [NO_COLOR]")->group("Global");
}

void AddVerbs(CLI::App& app, Context& context) {
  using namespace p2::ctl;  // NOLINT: the verbs, in the order of the help.
  AddLocal(app, context);
  AddSubmit(app, context);
  AddJobVerbs(app, context);
  AddDescribe(app, context);
  AddWait(app, context);
  AddLogs(app, context);
  AddMetrics(app, context);
  AddControlVerbs(app, context);
  AddFiles(app, context);
  AddDataset(app, context);
  AddRoot(app, context);
  AddPreset(app, context);
  AddNode(app, context);
  AddEvents(app, context);
  AddVersion(app, context);
}

// A usage error as any other: one line, JSON with -o json.
int ReportUsage(Context& context, const CLI::App& app, const CLI::ParseError& error) {
  const bool help = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
  if (help) return app.exit(error);
  if (!context.Finish().ok()) context.flags.output.clear();
  const CLI::App* verb = &app;
  std::string path = "p2ctl";
  std::string what = error.what();
  while (!verb->get_subcommands().empty()) {
    verb = verb->get_subcommands().front();
    path += absl::StrCat(" ", verb->get_name());
  }
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (error.get_name() == "RequiredError" && !unknown.empty() && unknown.front().rfind('-', 0) != 0) {
    std::vector<std::string> known;
    for (const CLI::App* subcommand : verb->get_subcommands({})) known.push_back(subcommand->get_name());
    what =
        absl::StrCat("\"", unknown.front(), "\" is no command of ", path, p2::spec::DidYouMean(unknown.front(), known));
  }
  context.PrintError(absl::InvalidArgumentError(absl::StrCat(what, "; `", path, " --help` shows how")));
  return p2::ctl::kUsage;
}

int Run(int argc, char** argv) {
  Context context;
  CLI::App app("p2ctl: train perception-prioritized (P2) diffusion models, and watch it", "p2ctl");
  app.fallthrough();
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Exit codes: 0 ok, 1 error, 2 usage or invalid spec, 3 not found, 4 not authenticated, 5 denied, 6 conflict,\n"
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

// What every verb of p2ctl shares: the global flags, the client, and the two ends for talking.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/p2ctl/errors.h"
#include "client/p2ctl/output.h"
#include "p2/client.h"

namespace p2::ctl {

// Flag > environment > local.json > default. `project`: empty if neither names one.
struct GlobalFlags {
  std::string addr;
  std::string project;
  std::string output;
  std::string timeout = "30s";
  std::vector<std::string> fields;
  std::string request_id;
  bool no_headers = false;
  bool quiet = false;
  bool verbose = false;
  bool no_color = false;
  bool yes = false;
};

// Confined to the main thread.
class Context {
 public:
  // What the chosen verb does; the exit code. Set while the command line is parsed.
  using Action = std::function<absl::StatusOr<int>(Context&)>;

  GlobalFlags flags;
  Action action;

  // Checks the flags; INVALID_ARGUMENT.
  absl::Status Finish();

  // Connected lazily to the address that the flags, the environment or local.json give.
  absl::StatusOr<Client*> client();
  // That address, and where it comes from: "--addr", "P2_ADDR", "p2ctl local", "the default".
  absl::StatusOr<std::pair<std::string, std::string>> Address() const;

  // `ref`: an ID, a unique prefix of one, or `jobs/ID`. NOT_FOUND, INVALID_ARGUMENT (ambiguous).
  absl::StatusOr<v1::Job> ResolveJob(const std::string& ref);

  // The request ID for the change of `job`, one of `count` in this command: the flag's, told apart by the job.
  std::string RequestId(absl::string_view job, size_t count) const;

  const OutputStyle& style() const { return style_; }
  // Tables, not documents for programs.
  bool ForPeople() const { return style_.format == OutputFormat::kTable || style_.format == OutputFormat::kWide; }
  // May `deed` ("kill 3 jobs: a b c") be done? --yes says so, else a person does where both ends are a terminal; where
  // there is nobody to ask it is a usage error.
  absl::StatusOr<bool> Confirm(absl::string_view deed) const;
  // Talk: a line on stderr, unless --quiet.
  void Say(absl::string_view line) const;
  // Data: text on stdout, at once.
  void PrintText(absl::string_view text) const;
  absl::Status Print(absl::StatusOr<std::string> text) const;
  // A list; people are told `if_empty` beside the empty table.
  absl::Status PrintList(const Listing& listing, absl::string_view if_empty, absl::string_view page_token = "") const;
  void PrintError(const absl::Status& error) const;

 private:
  OutputStyle style_;
  absl::Duration timeout_ = absl::Seconds(30);
  std::unique_ptr<Client> client_;
};

// A verb: adds a subcommand whose callback sets `context.action`. `options` live as long as the command line.
template <typename Options>
CLI::App* AddVerb(CLI::App& parent, Context& context, const std::string& name, const std::string& help,
                  const std::string& examples, std::shared_ptr<Options> options,
                  absl::StatusOr<int> (*run)(Context&, const Options&)) {
  CLI::App* verb = parent.add_subcommand(name, help);
  verb->footer(absl::StrCat("Examples:\n", examples, "\nGlobal flags (-o, --addr, --fields …): `p2ctl --help`."));
  verb->callback(
      [&context, options, run] { context.action = [options, run](Context& c) { return run(c, *options); }; });
  return verb;
}

// A flag of CLI.md whose feature, `comes_with`, is not there yet: refused with that sentence, and not in the help.
// `flag` as CLI11 writes them; `value`: it takes one.
void AddLater(CLI::App& verb, const std::string& flag, bool value, const std::string& comes_with);

// What AddLater's flags end in.
class ComesLater : public CLI::ParseError {
 public:
  explicit ComesLater(const std::string& text)
      : ParseError("ComesLater", text, static_cast<int>(CLI::ExitCodes::ValidationError)) {}
};

// The last part of a resource name: "jobs/a/checkpoints/b" -> "b".
std::string IdOf(absl::string_view name);
// "workers/", "w0" or "workers/w0" -> "workers/w0"; "" stays.
std::string FullName(absl::string_view collection, absl::string_view ref);

void AddSubmit(CLI::App& app, Context& context);
void AddJobVerbs(CLI::App& app, Context& context);
void AddDescribe(CLI::App& app, Context& context);
void AddWhy(CLI::App& app, Context& context);
void AddControlVerbs(CLI::App& app, Context& context);
void AddUpdate(CLI::App& app, Context& context);
void AddDerive(CLI::App& app, Context& context);
void AddQueue(CLI::App& app, Context& context);
void AddQuota(CLI::App& app, Context& context);
void AddWait(CLI::App& app, Context& context);
void AddLogs(CLI::App& app, Context& context);
void AddMetrics(CLI::App& app, Context& context);
void AddPreset(CLI::App& app, Context& context);
void AddFiles(CLI::App& app, Context& context);
// Into the groups that AddFiles makes.
void AddMakeSamples(CLI::App& samples, Context& context);
void AddCheckpointTasks(CLI::App& ckpt, Context& context);
void AddCheckpointVerbs(CLI::App& ckpt, Context& context);
void AddNode(CLI::App& app, Context& context);
void AddEvents(CLI::App& app, Context& context);
void AddAudit(CLI::App& app, Context& context);
void AddDataset(CLI::App& app, Context& context);
void AddRoot(CLI::App& app, Context& context);
void AddLocal(CLI::App& app, Context& context);
void AddSnr(CLI::App& app, Context& context);
void AddWeights(CLI::App& app, Context& context);
void AddAdmin(CLI::App& app, Context& context);
void AddVersion(CLI::App& app, Context& context);

}  // namespace p2::ctl

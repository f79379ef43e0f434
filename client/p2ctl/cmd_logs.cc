// logs: what the ranks of a job wrote.
#include <regex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/job_view.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string job;
  bool follow = false;
  std::string rank = "all";
  std::string attempt;
  int tail = 0;
  std::string grep;
};

absl::StatusOr<v1::ReadLogsRequest> MakeRequest(const v1::Job& job, const Options& options) {
  v1::ReadLogsRequest request;
  request.set_job(job.name());
  request.set_follow(options.follow);
  request.set_tail_lines(options.tail);
  int number = 0;
  if (options.rank != "all") {
    if (!absl::SimpleAtoi(options.rank, &number) || number < 0) {
      return absl::InvalidArgumentError(absl::StrCat("--rank \"", options.rank, "\": a rank from 0, or all"));
    }
    request.set_rank(number);
  }
  if (options.attempt == "all") {
    request.set_attempt(-1);
  } else if (!options.attempt.empty()) {
    if (!absl::SimpleAtoi(options.attempt, &number) || number < 1) {
      return absl::InvalidArgumentError(absl::StrCat("--attempt \"", options.attempt, "\": an attempt from 1, or all"));
    }
    request.set_attempt(number);
  }
  return request;
}

Listing LogListing(const v1::LogEntry& entry) {
  Listing listing({{.name = "attempt"}, {.name = "rank"}, {.name = "line"}});
  listing.Add(ToJson(entry), entry.line(), {absl::StrCat(entry.attempt()), absl::StrCat(entry.rank()), entry.line()});
  return listing;
}

// For people the line as it was written, with its rank where there are several.
absl::Status PrintEntry(Context& context, const v1::LogEntry& entry, bool many_ranks, bool many_attempts) {
  const OutputFormat format = context.style().format;
  if (format != OutputFormat::kTable && format != OutputFormat::kWide && format != OutputFormat::kName) {
    return context.Print(LogListing(entry).FormatRows(context.style()));
  }
  context.PrintText(absl::StrCat(many_attempts ? absl::StrCat("[attempt ", entry.attempt(), "] ") : "",
                                 many_ranks ? absl::StrCat("[rank ", entry.rank(), "] ") : "", entry.line(), "\n"));
  return absl::OkStatus();
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  P2_ASSIGN_OR_RETURN(const v1::ReadLogsRequest request, MakeRequest(job, options));
  std::regex pattern;
  try {
    pattern = std::regex(options.grep, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& e) {
    return absl::InvalidArgumentError(
        absl::StrCat("--grep \"", options.grep, "\" is no regular expression: ", e.what()));
  }
  const bool many_ranks = !request.has_rank() && job.spec().resources().devices() > 1;
  const std::unique_ptr<Stream<v1::ReadLogsResponse>> stream = client->ReadLogs(request);
  Interrupt interrupt;  // Ends before the stream that its callback touches.
  interrupt.OnRaise([&stream] { stream->Cancel(); });
  absl::StatusOr<std::optional<v1::ReadLogsResponse>> batch;
  bool any = false;
  while ((batch = stream->Next()).ok() && batch->has_value()) {
    for (const v1::LogEntry& entry : (*batch)->entries()) {
      if (!options.grep.empty() && !std::regex_search(entry.line(), pattern)) continue;
      any = true;
      P2_RETURN_IF_ERROR(PrintEntry(context, entry, many_ranks, request.attempt() < 0));
    }
  }
  if (interrupt.raised()) {
    if (options.follow) {
      context.Say(absl::StrCat("detached: ", IdOf(job.name()), " goes on. `p2ctl logs -f ", IdOf(job.name()),
                               "` follows again."));
    }
    return kInterrupted;
  }
  if (!batch.ok()) return batch.status();
  if (!any) context.Say("no lines: the ranks wrote none that match");
  if (!options.follow) return kOk;
  P2_ASSIGN_OR_RETURN(const v1::Job ended, context.ResolveJob(job.name()));
  context.Say(absl::StrCat(IdOf(ended.name()), " ", v1::Job::State_Name(ended.state())));
  return ExitCodeOfState(ended.state());
}

}  // namespace

void AddLogs(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, context, "logs", "Show what a job's ranks wrote",
                           "  p2ctl logs mnist-demo-abcde --tail 50\n"
                           "  p2ctl logs mnist-demo-abcde -f --rank 0\n"
                           "  p2ctl logs mnist-demo-abcde --attempt all --grep 'error|warn'\n"
                           "Exit with -f: 10 if the job FAILED, 11 if CANCELLED.",
                           options, Run);
  verb->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  verb->add_flag("-f,--follow", options->follow, "Go on until the job has ended; Ctrl-C detaches");
  verb->add_option("--rank", options->rank, "Only this rank, or all")->capture_default_str();
  verb->add_option("--attempt", options->attempt, "Only this attempt, or all; default: the newest");
  verb->add_option("--tail", options->tail, "Only the last lines of each rank; 0: all")->check(CLI::NonNegativeNumber);
  verb->add_option("--grep", options->grep, "Only lines that match this regular expression (ECMAScript)")
      ->type_name("RE");
}

}  // namespace p2::ctl

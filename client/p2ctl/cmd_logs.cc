// logs: what the ranks of a job wrote.
#include <map>
#include <optional>
#include <regex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/p2ctl/checks.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/log_text.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string job;
  bool follow = false;
  std::string rank = "all";
  std::string attempt;
  int tail = 0;
  std::string grep, since, level, source = "train";
};

absl::StatusOr<v1::ReadLogsRequest> MakeRequest(const v1::Job& job, const Options& options) {
  v1::ReadLogsRequest request;
  request.set_job(job.name());
  request.set_follow(options.follow);
  request.set_tail_lines(options.tail);
  int number = 0;
  if (options.rank != "all") {
    if (!absl::SimpleAtoi(options.rank, &number) || number < 0) {
      return UsageError(absl::StrCat("--rank \"", options.rank, "\": a rank from 0, or all"));
    }
    if (const int devices = job.spec().resources().devices(); number >= devices && devices > 0) {
      return UsageError(absl::StrCat("--rank ", number, ": job ", IdOf(job.name()), " has ",
                                     devices == 1 ? "rank 0 alone" : absl::StrCat("ranks 0 to ", devices - 1)));
    }
    request.set_rank(number);
  }
  if (options.attempt == "all") {
    request.set_attempt(-1);
  } else if (!options.attempt.empty()) {
    if (!absl::SimpleAtoi(options.attempt, &number) || number < 1) {
      return UsageError(absl::StrCat("--attempt \"", options.attempt, "\": an attempt from 1, or all"));
    }
    if (const int made = job.attempts_size() > 0 ? job.attempts().rbegin()->number() : 0; number > made) {
      return UsageError(absl::StrCat("--attempt ", number, ": job ", IdOf(job.name()), " has made ",
                                     made == 0 ? "none yet" : absl::StrCat(made)));
    }
    request.set_attempt(number);
  }
  return request;
}

// Which lines are wanted. One that is no LogText stands at the time of the one before it of its rank, and passes every
// level: it may be a crash's last words.
class Filter {
 public:
  static absl::StatusOr<Filter> Parse(const Options& options) {
    Filter filter;
    filter.grep_ = !options.grep.empty();
    try {
      filter.pattern_ = std::regex(options.grep, std::regex::ECMAScript | std::regex::optimize);
    } catch (const std::regex_error& e) {
      return UsageError(absl::StrCat("--grep \"", options.grep, "\" is no regular expression: ", e.what()));
    }
    if (!options.since.empty()) {
      P2_ASSIGN_OR_RETURN(filter.since_, ParseSince(options.since, absl::Now()));
    }
    if (!options.level.empty()) {
      filter.level_ = LevelNumber(options.level);
      if (!filter.level_.has_value()) {
        return UsageError(absl::StrCat("--level \"", options.level, "\": one of debug, info, warning, error"));
      }
    }
    return filter;
  }

  bool Wants(const v1::LogEntry& entry) {
    if (since_.has_value() || level_.has_value()) {
      absl::Time& time = times_[{entry.attempt(), entry.rank()}];
      const std::optional<LogText> log = ParseLogText(entry.line());
      if (log.has_value()) time = log->time;
      if (since_.has_value() && time < *since_) return false;
      if (level_.has_value() && log.has_value() && LevelNumber(log->level).value_or(3) < *level_) return false;
    }
    return !grep_ || std::regex_search(entry.line(), pattern_);
  }

 private:
  bool grep_ = false;
  std::regex pattern_;
  std::optional<absl::Time> since_;
  std::optional<int> level_;
  std::map<std::pair<int, int>, absl::Time> times_;  // By attempt and rank.
};

Listing LogListing(const v1::LogEntry& entry) {
  Listing listing({{.name = "attempt"}, {.name = "rank"}, {.name = "line"}});
  listing.Add(ToJson(entry), entry.line(), {absl::StrCat(entry.attempt()), absl::StrCat(entry.rank()), entry.line()});
  return listing;
}

// Rendered for people; as it was written for programs, with `-o name` alone.
absl::Status PrintEntry(Context& context, const v1::LogEntry& entry, bool many_ranks, bool many_attempts, bool first) {
  const OutputFormat format = context.style().format;
  if (format == OutputFormat::kTable || format == OutputFormat::kWide) {
    context.PrintText(
        absl::StrCat(FormatLogEntry(entry, many_ranks, many_attempts, format == OutputFormat::kWide), "\n"));
    return absl::OkStatus();
  }
  const Listing listing = LogListing(entry);
  return context.Print(first && format == OutputFormat::kCsv ? listing.Format(context.style())
                                                             : listing.FormatRows(context.style()));
}

// p2 keeps what the ranks write; the daemons' own logs lie where they run.
absl::Status CheckSource(const Options& options) {
  if (options.source == "train") return absl::OkStatus();
  if (options.source == "scheduler") {
    return UsageError(
        absl::StrCat("--source scheduler: what the scheduler did with the job are its "
                     "events; `p2ctl events ",
                     options.job, "` shows them"));
  }
  if (options.source == "worker") {
    return UsageError(absl::StrCat("--source worker: p2-worker's own log lies on its node; `p2ctl describe ",
                                   options.job,
                                   "` tells which. With `p2ctl local` it is logs/p2-worker.log in the data directory"));
  }
  return UsageError(
      absl::StrCat("--source \"", options.source, "\": one of train (what the ranks wrote), worker, scheduler"));
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_RETURN_IF_ERROR(CheckSource(options));
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  P2_ASSIGN_OR_RETURN(const v1::ReadLogsRequest request, MakeRequest(job, options));
  P2_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(options));
  const bool many_ranks = !request.has_rank() && job.spec().resources().devices() > 1;
  const std::unique_ptr<Stream<v1::ReadLogsResponse>> stream = client->ReadLogs(request);
  Interrupt interrupt;  // Ends before the stream that its callback touches.
  interrupt.OnRaise([&stream] { stream->Cancel(); });
  absl::StatusOr<std::optional<v1::ReadLogsResponse>> batch;
  bool any = false;
  while ((batch = stream->Next()).ok() && batch->has_value()) {
    for (const v1::LogEntry& entry : (*batch)->entries()) {
      if (!filter.Wants(entry)) continue;
      P2_RETURN_IF_ERROR(PrintEntry(context, entry, many_ranks, request.attempt() < 0, !any));
      any = true;
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
  CLI::App* verb = AddVerb(app, context, "logs", "Show what a job's ranks wrote (as it was written: -o jsonl, -o name)",
                           "  p2ctl logs mnist-demo-abcde --tail 50\n"
                           "  p2ctl logs mnist-demo-abcde -f --rank 0\n"
                           "  p2ctl logs mnist-demo-abcde --attempt all --level warning --since 2h\n"
                           "Exit with -f: 10 if the job FAILED, 11 if CANCELLED.",
                           options, Run);
  verb->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  verb->add_flag("-f,--follow", options->follow, "Go on until the job has ended; Ctrl-C detaches");
  verb->add_option("--rank", options->rank, "Only this rank, or all")->capture_default_str();
  verb->add_option("--attempt", options->attempt, "Only this attempt, or all; default: the newest");
  verb->add_option("--tail", options->tail, "Only the last lines of each rank, before any filter; 0: all")
      ->check(NotNegative());
  verb->add_option("--since", options->since, "Only lines of this time on: 10m (ago), or 2026-11-25T12:00:00Z")
      ->type_name("TIME");
  verb->add_option("--level", options->level, "Only lines of this level or worse: debug, info, warning, error")
      ->type_name("LEVEL");
  verb->add_option("--source", options->source, "train: what the ranks wrote. worker, scheduler: says where that is")
      ->type_name("NAME")
      ->capture_default_str();
  verb->add_option("--grep", options->grep, "Only lines that match this regular expression (ECMAScript)")
      ->type_name("RE");
}

}  // namespace p2::ctl

#include "client/p2ctl/wait.h"

#include <unistd.h>

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/job_monitor.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/metric_query.h"
#include "client/p2ctl/progress_line.h"
#include "client/p2ctl/terminal.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(250);
constexpr absl::Duration kCheckMetric = absl::Seconds(10);

// What is shown while waiting: the live line of one job, or a line at each change of state of many.
class Display {
 public:
  Display(Context& context, bool live) : context_(context), live_(live && !context.flags.quiet), line_(STDERR_FILENO) {}

  void Show(const std::map<std::string, JobMonitor::Watched>& jobs, bool server_away) {
    if (!live_) return;
    const bool one = jobs.size() == 1;
    for (const auto& [name, watched] : jobs) {
      const v1::Job::State state = watched.job.state();
      const auto [shown, first] = states_.try_emplace(name, state);
      const bool changed = first || std::exchange(shown->second, state) != state;
      if (one) {
        ProgressState progress = ProgressOf(watched.job, watched.values);
        if (server_away) absl::StrAppend(&progress.phase, " (server away, trying again)");
        line_.Update(progress, absl::Now(), changed);
      } else if (changed) {
        context_.Say(absl::StrCat(IdOf(name), " ", StateText(watched.job)));
      }
    }
  }
  void Clear() { line_.Clear(); }

 private:
  Context& context_;
  const bool live_;
  ProgressLine line_;
  std::map<std::string, v1::Job::State> states_;
};

struct Verdict {
  bool finished = false;
  int exit_code = kOk;
  std::vector<std::string> impossible;
};

Verdict Judge(const std::map<std::string, JobMonitor::Watched>& jobs, const WaitOptions& options) {
  Verdict verdict;
  size_t pending = 0, met = 0;
  for (const auto& [name, watched] : jobs) {
    WaitCondition::Result result = options.condition.Check(watched.job, watched.values);
    // The last values may still be on their way.
    if (result == WaitCondition::Result::kImpossible && !options.condition.metric().empty() &&
        !watched.values_complete) {
      result = WaitCondition::Result::kPending;
    }
    std::string never = absl::StrCat("it is ", v1::Job::State_Name(watched.job.state()));
    if (result == WaitCondition::Result::kPending) {
      never = options.condition.NeverBecause(watched.job);
      if (never.empty()) {
        ++pending;
        continue;
      }
    }
    const int code = ExitCodeOfState(watched.job.state());
    if (result == WaitCondition::Result::kMet) {
      ++met;
    } else if (code == kOk) {
      verdict.impossible.push_back(absl::StrCat(IdOf(name), " (", never, ")"));
    }
    // FAILED tells more than CANCELLED.
    if (code != kOk && verdict.exit_code != kJobFailed) verdict.exit_code = code;
  }
  verdict.finished = pending == 0 || (options.any && met > 0);
  if (options.any && met > 0) verdict.impossible.clear();
  if (verdict.exit_code == kOk && !verdict.impossible.empty()) verdict.exit_code = kConflict;
  return verdict;
}

std::string Names(const std::vector<v1::Job>& jobs) {
  return absl::StrJoin(jobs, " ", [](std::string* out, const v1::Job& job) { out->append(IdOf(job.name())); });
}

// What a job that ended well has left.
std::string WhereToLook(const v1::Job& job) {
  const std::string id = IdOf(job.name());
  if (!job.output().empty()) return absl::StrCat("its files lie in ", job.output());
  if (job.task().has_import()) return absl::StrCat("`p2ctl ckpt list ", id, "` shows its checkpoint");
  return absl::StrCat("`p2ctl samples get ", id, "` fetches its newest pictures");
}

void SayEnd(Context& context, const std::map<std::string, JobMonitor::Watched>& jobs) {
  for (const auto& [name, watched] : jobs) {
    const v1::Job& job = watched.job;
    if (!IsTerminal(job.state())) continue;
    const bool succeeded = job.state() == v1::Job::SUCCEEDED;
    const std::string took =
        job.has_start_time() && job.has_end_time()
            ? absl::StrCat(" in ", FormatShortDuration(ToTime(job.end_time()) - ToTime(job.start_time())))
            : "";
    context.Say(absl::StrCat(IdOf(name), " ", succeeded ? "SUCCEEDED" : StateText(job)));
    if (job.progress().images_seen() > 0 || !job.has_task())
      context.Say(absl::StrCat("  ", FormatCount(job.progress().images_seen()), " images", took));
    context.Say(absl::StrCat("  ", succeeded ? WhereToLook(job)
                                             : absl::StrCat("`p2ctl describe ", IdOf(name), "` tells all, `p2ctl logs ",
                                                            IdOf(name), "` its last lines")));
  }
}

// A metric that a job lacks although it has points will not come: INVALID_ARGUMENT. The bins of the SNR may: an
// interval without samples leaves one out.
absl::Status CheckMetric(Client& client, const std::map<std::string, JobMonitor::Watched>& jobs,
                         const std::string& metric) {
  if (metric.empty() || IsPartOfLoss(metric)) return absl::OkStatus();
  for (const auto& [name, watched] : jobs) {
    if (!watched.values.empty()) continue;
    P2_ASSIGN_OR_RETURN(const std::vector<std::string> known, MetricsOf(client, name));
    P2_RETURN_IF_ERROR(ChooseMetrics({metric}, known).status());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WaitResult> WaitForJobs(Context& context, const std::vector<v1::Job>& jobs, const WaitOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  const absl::Time deadline = absl::Now() + options.timeout;
  const std::string metric = !options.condition.metric().empty() ? options.condition.metric()
                             : options.live && jobs.size() == 1  ? "loss"
                                                                 : "";
  Display display(context, options.live);
  JobMonitor monitor(*client, jobs, metric);
  Interrupt interrupt;  // Ends before the monitor that its callback touches.
  interrupt.OnRaise([&monitor] { monitor.Wake(); });
  for (const v1::Job& job : jobs) {
    if (job.state() != v1::Job::PAUSED || options.condition.Check(job, {}) != WaitCondition::Result::kPending) continue;
    context.Say(absl::StrCat(IdOf(job.name()), " is PAUSED; `p2ctl resume ", IdOf(job.name()), "` queues it"));
  }
  WaitResult result;
  absl::Time check_metric_at = absl::InfinitePast();
  std::map<std::string, JobMonitor::Watched> now = monitor.Snapshot();
  while (true) {
    display.Show(now, monitor.server_away());
    if (absl::Now() >= check_metric_at) {
      // An absent server is no reason to end: the streams try on.
      const absl::Status known = CheckMetric(*client, now, options.condition.metric());
      if (!known.ok() && !absl::IsUnavailable(known) && !absl::IsDeadlineExceeded(known)) {
        display.Clear();
        return known;
      }
      check_metric_at = absl::Now() + kCheckMetric;
    }
    const Verdict verdict = Judge(now, options);
    if (verdict.finished) {
      display.Clear();
      SayEnd(context, now);
      if (!verdict.impossible.empty()) {
        context.Say(
            absl::StrCat("never reaches ", options.condition.text(), ": ", absl::StrJoin(verdict.impossible, ", ")));
      }
      result.exit_code = verdict.exit_code;
      break;
    }
    for (const auto& [name, watched] : now) {
      if (watched.deleted) return absl::NotFoundError(absl::StrCat("job \"", IdOf(name), "\" was deleted"));
    }
    P2_RETURN_IF_ERROR(monitor.error());
    if (interrupt.raised()) {
      display.Clear();
      const bool one = jobs.size() == 1;
      context.Say(absl::StrCat("detached: ", Names(jobs), one ? " goes on" : " go on"));
      context.Say(absl::StrCat("  `p2ctl wait ", Names(jobs), "` watches ", one ? "it" : "them", " again"));
      context.Say(absl::StrCat("  `p2ctl stop ", Names(jobs), "` ends ", one ? "it" : "them"));
      result.exit_code = kInterrupted;
      break;
    }
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      display.Clear();
      context.Say(absl::StrCat("timed out after ", FormatShortDuration(options.timeout), " waiting for ",
                               options.condition.text(), "; the job goes on"));
      result.exit_code = kTimedOut;
      break;
    }
    monitor.WaitForChange(std::min(left, kRedraw));
    now = monitor.Snapshot();
  }
  for (const v1::Job& job : jobs) result.jobs.push_back(now.at(job.name()).job);
  return result;
}

}  // namespace p2::ctl

#include "tests/server/scheduler/simulation/describe.h"

#include <type_traits>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace p2::scheduler {
namespace {

constexpr absl::string_view kEventNames[] = {"CreateJob",
                                             "CreateJobs",
                                             "StopJob",
                                             "KillJob",
                                             "PauseJob",
                                             "ResumeJob",
                                             "ControlJobs",
                                             "UpdateJob",
                                             "MoveJob",
                                             "SetQueue",
                                             "DeleteQueue",
                                             "SetQuota",
                                             "SetWeight",
                                             "PinCheckpoint",
                                             "DeleteCheckpoint",
                                             "CollectCheckpoints",
                                             "DeleteJob",
                                             "CordonWorker",
                                             "UncordonWorker",
                                             "RegisterDataset",
                                             "WorkerConnected",
                                             "WorkerDisconnected",
                                             "Heartbeat",
                                             "PrepareReply",
                                             "DeleteDone",
                                             "SpoolReport",
                                             "Tick",
                                             "Recovered",
                                             "SchedulePass",
                                             "DiskState"};
static_assert(std::size(kEventNames) == std::variant_size_v<Event>);
constexpr absl::string_view kActionNames[] = {"Prepare", "StartGang", "StopAttempt", "DeletePath"};
static_assert(std::size(kActionNames) == std::variant_size_v<Action>);
constexpr absl::string_view kBodyNames[] = {"AttemptStarted",  "AttemptEnded",       "TrainerStarted",
                                            "MetricsReported", "CheckpointReported", "TrainerFinished",
                                            "TrainerNotice",   "ArtifactStored",     "BytesStored"};
static_assert(std::size(kBodyNames) == std::variant_size_v<SpoolBody>);

std::string DescribeBody(const SpoolBody& body) {
  if (const auto* ended = std::get_if<AttemptEnded>(&body)) {
    return absl::StrCat(" [",
                        absl::StrJoin(ended->ranks, ", ",
                                      [](std::string* out, const RankExit& exit) {
                                        absl::StrAppend(out, "rank ", exit.rank, exit.frozen ? " frozen" : "", " code ",
                                                        exit.exit_code);
                                      }),
                        "]", ended->worker_stopped ? " worker stopped" : "");
  }
  if (const auto* metrics = std::get_if<MetricsReported>(&body)) return absl::StrCat(" ", metrics->trainer_sequence);
  if (const auto* saved = std::get_if<CheckpointReported>(&body)) return absl::StrCat(" ", saved->checkpoint.id);
  if (const auto* started = std::get_if<TrainerStarted>(&body)) return absl::StrCat(" from ", started->images_seen);
  if (const auto* notice = std::get_if<TrainerNotice>(&body))
    return absl::StrCat(" ", notice->reason, " ", notice->message);
  return "";
}

std::string DescribeEvent(const Event& event) {
  std::string line(EventName(event.index()));
  std::visit(
      [&](const auto& it) {
        if constexpr (requires { it.worker; }) absl::StrAppend(&line, " ", it.worker);
        if constexpr (requires { it.job; }) absl::StrAppend(&line, " ", it.job);
        if constexpr (requires { it.jobs; }) {
          absl::StrAppend(&line, " [",
                          absl::StrJoin(it.jobs, ", ",
                                        [](std::string* out, const auto& job) {
                                          if constexpr (requires { job.id; }) {
                                            out->append(job.id);
                                          } else {
                                            out->append(job);
                                          }
                                        }),
                          "]");
        }
        if constexpr (requires { it.checkpoint; }) absl::StrAppend(&line, " ", it.checkpoint);
        if constexpr (requires { it.needs; }) {
          absl::StrAppend(&line, " ", it.id, ": ", it.needs.least_devices(), " to ", it.needs.devices, " ",
                          it.needs.kind.empty() ? "any" : it.needs.kind, " on ", it.needs.checkpoint_root_id,
                          ", owner ", it.project, "/", it.owner, ", priority ", it.priority,
                          it.needs.preemptible ? "" : ", not preemptible", it.paused ? ", paused" : "",
                          it.needs.source.job.empty() ? "" : absl::StrCat(", from ", it.needs.source.path));
        }
        if constexpr (requires { it.epoch; }) absl::StrAppend(&line, " epoch ", it.epoch);
        if constexpr (requires { it.body; }) {
          absl::StrAppend(&line, " record ", it.sequence, ": ", kBodyNames[it.body.index()], DescribeBody(it.body));
        }
        if constexpr (requires { it.hello; }) {
          absl::StrAppend(&line, " ", it.hello.id, " instance ", it.hello.instance, ", spool up to ",
                          it.hello.spool_last, ", runs [",
                          absl::StrJoin(it.running, ", ",
                                        [](std::string* out, const RunningAttempt& running) {
                                          absl::StrAppend(out, running.job, " epoch ", running.epoch,
                                                          running.prepared ? " prepared" : "");
                                        }),
                          "]");
        }
        if constexpr (requires { it.ok; }) absl::StrAppend(&line, it.ok ? ": ok" : absl::StrCat(": no: ", it.message));
        if constexpr (requires { it.path; }) absl::StrAppend(&line, " ", it.path, " ", it.error);
        if constexpr (requires { it.full; }) absl::StrAppend(&line, it.full ? " full" : " free");
        if constexpr (requires { it.drain; }) absl::StrAppend(&line, it.drain ? " drain" : "");
        if constexpr (requires { it.info; }) {
          if (!it.info.request_id.empty()) absl::StrAppend(&line, " (", it.info.request_id, ")");
        }
      },
      event);
  return line;
}

std::string DescribeAction(const Action& action) {
  std::string line(ActionName(action.index()));
  std::visit(
      [&](const auto& it) {
        absl::StrAppend(&line, " ", it.worker);
        if constexpr (requires { it.job; }) absl::StrAppend(&line, " ", it.job, " epoch ", it.epoch);
        if constexpr (requires { it.mode; })
          absl::StrAppend(&line, it.mode == StopMode::kKill ? " kill" : " checkpoint");
        if constexpr (requires { it.path; }) absl::StrAppend(&line, " ", it.path);
        if constexpr (requires { it.world_size; }) {
          absl::StrAppend(
              &line, " [",
              absl::StrJoin(it.ranks, ", ",
                            [](std::string* out, const PlacedRank& rank) { absl::StrAppend(out, rank.slot); }),
              "]");
        }
        if constexpr (requires { it.resume_candidates; }) {
          absl::StrAppend(&line, " from [", absl::StrJoin(it.resume_candidates, ", "), "]");
        }
      },
      action);
  return line;
}

std::string DescribeRanks(const std::vector<RankPlacement>& ranks) {
  std::string text;
  for (const RankPlacement& rank : ranks) absl::StrAppend(&text, " ", rank.worker, "/", rank.slot);
  return text;
}

}  // namespace

absl::string_view EventName(size_t index) { return kEventNames[index]; }
absl::string_view ActionName(size_t index) { return kActionNames[index]; }

std::vector<std::string> Describe(const Event& event, const absl::StatusOr<StepResult>& result, const Moment& now) {
  std::vector<std::string> lines = {
      absl::StrFormat("%12.3fs %s", absl::ToDoubleSeconds(now.mono - absl::UnixEpoch()), DescribeEvent(event))};
  if (!result.ok()) {
    absl::StrAppend(&lines.back(), " -> ", absl::StatusCodeToString(result.status().code()));
    return lines;
  }
  if (!result->refused.empty()) absl::StrAppend(&lines.back(), " -> refused");
  for (const Mutation& mutation : result->mutations) {
    if (const auto* put = std::get_if<PutReservation>(&mutation)) {
      lines.push_back(absl::StrFormat("                 reserved for %s from %.3fs:%s", put->reservation.job,
                                      absl::ToDoubleSeconds(put->reservation.start_mono - absl::UnixEpoch()),
                                      DescribeRanks(put->reservation.ranks)));
    }
    const auto* append = std::get_if<AppendEvent>(&mutation);
    if (append == nullptr || append->event.reason == "JOB_CREATED") continue;
    lines.push_back(absl::StrCat("                 ", append->event.resource, " ", append->event.reason, " ",
                                 append->event.message.substr(0, append->event.message.find('\n'))));
  }
  for (const Action& action : result->actions) {
    lines.push_back(absl::StrCat("                 => ", DescribeAction(action)));
  }
  return lines;
}

}  // namespace p2::scheduler

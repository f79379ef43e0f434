// World's nodes: an agent and its ranks, and the network between them and p2d.
#include <algorithm>
#include <iterator>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/server/scheduler/simulation/world.h"

namespace p2::scheduler {
namespace {

constexpr int64_t kImagesAStep = 100;
const int kExitCodes[] = {0, 1, 40, 50, 51, 52, 53, 54, 55, 64, 134, 137, 139};

EventPtr Make(Event event) { return std::make_shared<const Event>(std::move(event)); }

}  // namespace

int World::FindProcess(const Node& node, absl::string_view job, int64_t epoch) {
  for (size_t i = 0; i < node.processes.size(); ++i) {
    if (node.processes[i].epoch == epoch && node.processes[i].job == job) return static_cast<int>(i);
  }
  return -1;
}

void World::Connect(Node& node, Draws& draws) {
  if (node.session != 0) return;
  if (node.unreachable > 0 && trouble_) {
    --node.unreachable;
    return;
  }
  WorkerConnected event;
  event.hello.id = node.id;
  event.hello.instance = absl::StrCat(node.instance);
  event.hello.version = "1";
  event.hello.labels = {{"half", NumberOf(node.id) % 2 == 1 ? "odd" : "even"}};
  event.hello.slots = node.slots;
  event.hello.roots = node.roots;
  event.hello.spool_id = "spool";
  event.hello.spool_last = node.spooled;
  event.hello.session = ++last_session_;
  for (const Process& process : node.processes) {
    event.running.push_back({process.job, process.epoch, process.prepared, process.images});
  }
  node.inbox.clear();
  node.session = last_session_;
  if (!Advance(Make(std::move(event))).ok()) node.session = 0;
  // Every node comes back after it: the more there are, the rarer, or p2d would only ever be starting (walk.cc).
  if (trouble_ && draws.Below(10 * options_.nodes) == 0) return Restart(draws);
  Commit();
  if (node.session != 0) node.sent = store_.SpoolAcked(node.id);
}

void World::Disconnect(Node& node, Draws& draws) {
  const int64_t session = node.session;
  node.session = 0;
  node.inbox.clear();
  if (draws.Percent(30)) node.unreachable = draws.Below(20);
  if (session == 0) return;
  Say(absl::StrCat("the stream of ", node.id, " breaks"));
  if (draws.Percent(80)) Advance(Make(WorkerDisconnected{node.id, session}));
}

void World::Crash(Node& node, Draws& draws) {
  Disconnect(node, draws);
  ++node.instance;
  ++counts_[kCrashed];
  Say(absl::StrCat("the agent of ", node.id, " dies and starts again"));
  for (size_t i = node.processes.size(); i-- > 0;) {
    // A new agent reports what the old one's ranks left behind, or knows nothing.
    if (!node.processes[i].prepared && draws.Percent(60)) {
      EndProcess(node, i, 40, /*worker_stopped=*/true);
    } else {
      RemoveProcess(node, i);
    }
  }
}

void World::TakeAction(Node& node, Draws& draws) {
  if (node.inbox.empty()) return;
  const Action action = std::move(node.inbox.front());
  node.inbox.pop_front();
  if (const auto* prepare = std::get_if<scheduler::Prepare>(&action)) {
    TakePrepare(node, *prepare, draws);
  } else if (const auto* start = std::get_if<StartGang>(&action)) {
    TakeStart(node, *start);
  } else if (const auto* stop = std::get_if<StopAttempt>(&action)) {
    TakeStop(node, *stop);
  } else if (const auto* path = std::get_if<DeletePath>(&action)) {
    const bool busy = draws.Percent(Percent(10));
    if (!busy) saved_.erase(path->path);
    Advance(Make(DeleteDone{node.id, path->root_id, path->path, busy ? "busy" : ""}));
  }
}

void World::TakePrepare(Node& node, const scheduler::Prepare& prepare, Draws& draws) {
  const bool ok = !draws.Percent(Percent(5));
  if (ok && FindProcess(node, prepare.job, prepare.epoch) < 0) {
    for (const PlacedRank& rank : prepare.ranks) {
      for (const Process& other : node.processes) {
        for (const PlacedRank& held : other.ranks) {
          if (held.slot != rank.slot) continue;
          checker_.Violate("I5", absl::StrCat("on ", node.id, " ", other.job, " at epoch ", other.epoch, " is in slot ",
                                              rank.slot, " that ", prepare.job, " is given at epoch ", prepare.epoch));
        }
      }
    }
    Process process;
    process.job = prepare.job;
    process.epoch = prepare.epoch;
    process.attempt = prepare.attempt;
    process.ranks = prepare.ranks;
    process.reads_source = !prepare.source_path.empty();
    if (process.reads_source && !saved_.contains(prepare.source_path)) {
      checker_.Violate("kept", absl::StrCat(prepare.job, " starts from ", prepare.source_path, ", which is deleted"));
    }
    node.processes.push_back(std::move(process));
    Gang& gang = gangs_[{prepare.job, prepare.epoch}];
    ++gang.processes;
    gang.world_size = prepare.world_size;
  }
  if (draws.Percent(Percent(3))) return;  // The reply is lost.
  Advance(Make(PrepareReply{node.id, prepare.job, prepare.epoch, ok, ok ? "" : "port taken", "10.0.0.1", 7000}));
}

void World::TakeStart(Node& node, const StartGang& start) {
  const int at = FindProcess(node, start.job, start.epoch);
  if (at < 0) {
    return Spool(node, start.job, start.epoch, start.attempt, 0, AttemptEnded{{}, true, "not prepared"});
  }
  Process& process = node.processes[at];
  if (!process.prepared) return;
  process.prepared = false;
  process.candidates = start.resume_candidates;
  Gang& gang = gangs_[{start.job, start.epoch}];
  gang.started_ranks += static_cast<int>(process.ranks.size());
  gang.images_total = store_.FindJob(start.job)->needs->images_total;
  Spool(node, start.job, start.epoch, start.attempt, process.ranks.front().rank, AttemptStarted{});
  ++counts_[kStarted];
}

void World::TakeStop(Node& node, const StopAttempt& stop) {
  const int at = FindProcess(node, stop.job, stop.epoch);
  if (at < 0) return;
  if (node.processes[at].prepared) {
    RemoveProcess(node, at);
  } else if (stop.mode == StopMode::kKill) {
    EndProcess(node, at, 137, false);
  } else {
    node.processes[at].stopping = true;
  }
}

void World::Work(Node& node, Draws& draws) {
  if (node.processes.empty()) return;
  const size_t at = draws.Below(static_cast<int>(node.processes.size()));
  Process& process = node.processes[at];
  if (process.prepared) {
    if (draws.Percent(Percent(1))) RemoveProcess(node, at);  // The hold ran out.
    return;
  }
  if (process.stopping) {
    if (process.has_rank_zero() && process.started_stepping && draws.Percent(50)) Save(node, process, draws);
    return EndProcess(node, at, draws.Percent(Percent(10)) ? 137 : 40, false);
  }
  if (options_.poison) return EndProcess(node, at, 50 + draws.Below(2), false);
  if (draws.Percent(Percent(2))) {
    const bool frozen = draws.Percent(10);
    return EndProcess(node, at, frozen ? 137 : kExitCodes[draws.Below(std::size(kExitCodes))], false, frozen);
  }
  Gang& gang = gangs_[{process.job, process.epoch}];
  if (gang.started_ranks < gang.world_size && !gang.loaded) return;  // They wait for each other.
  if (!process.started_stepping) {
    if (process.has_rank_zero()) LoadCheckpoint(node, process, gang, draws);
    if (!gang.loaded) return;
    process.images = gang.images;
    process.started_stepping = true;
    return;
  }
  process.images += kImagesAStep;
  const bool done = process.images >= gang.images_total;
  if (process.has_rank_zero()) {
    if (done) {
      Spool(node, process.job, process.epoch, process.attempt, 0,
            TrainerFinished{TrainerFinished::Outcome::kDone, 0, process.images, ""});
    } else {
      Spool(node, process.job, process.epoch, process.attempt, 0,
            MetricsReported{++process.sequence, process.images, 1, now_.wall, {{"loss", 1.0}}});
      if (draws.Percent(25)) Save(node, process, draws);
    }
  }
  if (done) EndProcess(node, at, 0, false);
}

void World::LoadCheckpoint(Node& node, Process& process, Gang& gang, Draws& draws) {
  std::string resumed;
  for (const std::string& candidate : process.candidates) {
    if (!saved_.contains(absl::StrCat(process.job, "/", candidate))) {
      checker_.Violate("I9", absl::StrCat(process.job, " is to resume from ", candidate, ", which is deleted"));
    }
    if (draws.Percent(Percent(3))) {
      Spool(node, process.job, process.epoch, process.attempt, 0, TrainerNotice{"CHECKPOINT_CORRUPT", candidate, {}});
      ++counts_[kFallback];
      continue;
    }
    resumed = candidate;
    break;
  }
  gang.images = 0;
  if (!absl::SimpleAtoi(resumed.substr(0, resumed.find('-')), &gang.images)) gang.images = 0;
  gang.loaded = true;
  Spool(node, process.job, process.epoch, process.attempt, 0, TrainerStarted{gang.images, resumed, {}});
}

void World::Save(Node& node, const Process& process, Draws& draws) {
  CheckpointReported reported;
  CheckpointRecord& checkpoint = reported.checkpoint;
  checkpoint.id = absl::StrCat(process.images, "-e", process.epoch);
  checkpoint.path = absl::StrCat(process.job, "/", checkpoint.id);
  checkpoint.images_seen = process.images;
  checkpoint.pinned = draws.Percent(2);
  if (!saved_.insert(checkpoint.path).second) return;
  Spool(node, process.job, process.epoch, process.attempt, 0, std::move(reported));
}

void World::EndProcess(Node& node, size_t index, int exit_code, bool worker_stopped, bool frozen) {
  const Process& process = node.processes[index];
  AttemptEnded ended;
  ended.worker_stopped = worker_stopped;
  ended.log_tail = "the last line";
  for (const PlacedRank& rank : process.ranks) ended.ranks.push_back({rank.rank, exit_code, frozen});
  ++exits_[exit_code];
  Say(absl::StrCat("the ranks of ", process.job, " on ", node.id, " end with code ", exit_code));
  Spool(node, process.job, process.epoch, process.attempt, process.ranks.front().rank, std::move(ended));
  RemoveProcess(node, index);
}

void World::RemoveProcess(Node& node, size_t index) {
  Process& process = node.processes[index];
  const auto gang = gangs_.find(std::make_pair(process.job, process.epoch));
  if (--gang->second.processes == 0) gangs_.erase(gang);
  node.processes.erase(node.processes.begin() + index);
}

void World::Spool(Node& node, absl::string_view job, int64_t epoch, int attempt, int rank, SpoolBody body) {
  node.spool.push_back(
      Make(SpoolReport{node.id, "spool", ++node.spooled, std::string(job), epoch, attempt, rank, std::move(body)}));
}

void World::Report(Node& node, Draws& draws) {
  if (node.session == 0) return;
  const auto lost_step = [&](const absl::StatusOr<StepResult>& result) {
    if (result.ok()) return;
    node.session = 0;  // p2d closes the stream.
    node.inbox.clear();
  };
  if (node.taken != nullptr && draws.Percent(Percent(3))) lost_step(Advance(node.taken));  // Sent twice.
  const uint64_t before = node.spooled - node.spool.size();                                // Those before the front.
  if (node.sent < before) node.sent = before;
  if (node.sent >= node.spooled || node.session == 0) return;
  lost_step(Advance(node.spool[node.sent - before]));
  ++node.sent;
}

// Ranks of an epoch that is gone claim what would change everything.
void World::Lie(Node& node, Draws& draws) {
  const std::string id = AnyJob(draws);
  const JobPtr job = state_.FindJob(id);
  if (job == nullptr || state_.FindWorker(node.id) == nullptr) return;
  ++counts_[kLied];
  const int64_t epoch = job->epoch - 1 - draws.Below(3);
  switch (draws.Below(5)) {
    case 0: {
      CheckpointReported reported;
      reported.checkpoint.id = absl::StrCat("lie-", draws.Next());
      reported.checkpoint.images_seen = 4000;
      return Spool(node, id, epoch, 1, 0, reported);
    }
    case 1:
      return Spool(node, id, epoch, 1, 0, TrainerFinished{TrainerFinished::Outcome::kDone, 0, 2000, ""});
    case 2:
      return Spool(node, id, epoch, 1, 0, AttemptEnded{{{0, 64}}, false, "lie"});
    case 3:
      return Spool(node, id, epoch, 1, 0, MetricsReported{1, 100, 1, now_.wall, {}});
    default:
      Advance(Make(PrepareReply{node.id, id, epoch, draws.Percent(50), "", "10.6.6.6", 666}));
  }
}

void World::Beat(const Node& node) {
  Heartbeat heartbeat{node.id, node.session, {}, node.roots};
  for (const Process& process : node.processes) {
    if (process.prepared) continue;
    const double rate = options_.calm ? gangs_.at({process.job, process.epoch}).Rate() : 10;
    heartbeat.progress.push_back({process.job, process.epoch, process.images, rate, "step"});
  }
  Advance(Make(std::move(heartbeat)));
}

void World::PassTime(absl::Duration time, Draws& draws) {
  now_.mono += time;
  now_.wall += draws.Percent(1) ? absl::Hours(draws.Below(48) - 24) : time;
  for (const Node& node : nodes_) {
    if (node.session != 0 && !draws.Percent(Percent(10))) Beat(node);
  }
  Advance(Make(Tick{}));
}

void World::PassTime(Draws& draws) {
  PassTime(absl::Milliseconds(draws.Percent(3) ? 20'000 : 100 + draws.Below(2000)), draws);
}

}  // namespace p2::scheduler

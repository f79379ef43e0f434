#include "tests/server/scheduler/simulation.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace p2::scheduler {
namespace {

constexpr int kNodes = 5;
constexpr size_t kMostLiveJobs = 25;
constexpr int64_t kImages = 2000;
const int kExitCodes[] = {0, 1, 40, 50, 51, 52, 53, 54, 55, 64, 134, 137, 139};

}  // namespace

Simulation::Simulation(uint64_t seed)
    : random_(seed), now_{absl::FromUnixSeconds(1'700'000'000), absl::FromUnixSeconds(5000)} {
  for (int i = 0; i < kNodes; ++i) {
    Node node;
    node.id = absl::StrCat("w", i);
    for (int slot = 0; slot <= i % 4; ++slot) node.slots.push_back({absl::StrCat("cpu:", slot), "cpu"});
    if (i == 0) node.slots.push_back({"cuda:0", "cuda"});
    nodes_.push_back(std::move(node));
  }
}

void Simulation::Violate(const std::string& what) { violations_.push_back(what); }

bool Simulation::Do(const Event& event) {
  LoadFinished(event);
  absl::StatusOr<StepResult> result = Step(state_, event, now_, options_);
  if (!result.ok()) {
    ++counts_[absl::StrCat("error ", absl::StatusCodeToString(result.status().code()))];
    state_.DropFinished();
    return false;
  }
  if (!result->refused.empty()) ++counts_["refused"];
  Take(*result);
  int passes = 0;
  while (state_.pass_due() && ++passes < 100) Take(*Step(state_, SchedulePass{}, now_, options_));
  if (state_.pass_due()) Violate("scheduling passes come to no end");
  for (const auto& [id, job] : state_.live_jobs()) {
    if (job->state == JobState::kQueued && job->message.empty()) Violate(absl::StrCat(id, " waits without a reason"));
  }
  state_.DropFinished();
  return true;
}

void Simulation::Take(const StepResult& result) {
  for (const Mutation& mutation : result.mutations) {
    CheckMutation(mutation);
    state_.Apply(mutation);
    if (IsDurable(mutation)) stored_.Apply(mutation);
  }
  CheckSlots();
  for (const Action& action : result.actions) {
    CheckAction(action);
    const std::string& worker = std::visit([](const auto& it) -> const std::string& { return it.worker; }, action);
    for (Node& node : nodes_) {
      if (node.id == worker && node.session != 0) node.inbox.push_back(action);
    }
  }
}

void Simulation::LoadFinished(const Event& event) {
  auto load = [&](const std::string& id) {
    if (state_.FindJob(id) != nullptr) return;
    const JobPtr job = stored_.FindJob(id);
    if (job == nullptr) return;
    std::vector<CheckpointPtr> checkpoints;
    for (const auto& [key, checkpoint] : stored_.CheckpointsOf(id)) checkpoints.push_back(checkpoint);
    state_.LoadFinished(job, checkpoints);
  };
  std::visit(
      [&](const auto& it) {
        if constexpr (requires { it.job; }) load(it.job);
        if constexpr (requires { it.running; }) {
          for (const RunningAttempt& running : it.running) load(running.job);
        }
      },
      event);
}

bool Simulation::RandomStep() {
  Node& node = AnyNode();
  const int what = Draw(1000);
  if (what < 40) {
    Person();
  } else if (what < 45) {
    Restart();
  } else if (what < 60) {
    Disconnect(node);
  } else if (what < 66) {
    Crash(node);
  } else if (what < 72) {
    Lie(node);
  } else if (what < 75) {
    Do(DiskState{Chance(30), "nearly full"});
  } else if (what < 150) {
    Pass(absl::Milliseconds(Chance(4) ? 20000 : 100 + Draw(2000)));
  } else if (what < 250) {
    if (node.session == 0) Connect(node);
  } else if (what < 500) {
    TakeAction(node);
  } else if (what < 700) {
    Work(node);
  } else {
    SendSpool(node);
  }
  return violations_.empty();
}

std::string Simulation::AnyJob() {
  const auto& live = state_.live_jobs();
  if (live.empty() || Chance(5)) return absl::StrCat("job-", Draw(jobs_made_ + 1));
  return std::next(live.begin(), Draw(static_cast<int>(live.size())))->first;
}

void Simulation::Person() {
  CommandInfo info{"user:ann"};
  switch (Draw(10)) {
    case 0:
      Do(StopJob{info, AnyJob(), ""});
      return;
    case 1:
      Do(KillJob{info, AnyJob(), ""});
      return;
    case 2:
      Do(PauseJob{info, AnyJob(), ""});
      return;
    case 3:
    case 4:
      Do(ResumeJob{info, AnyJob()});
      return;
    case 5:
      Do(DeleteJob{info, absl::StrCat("job-", Draw(jobs_made_ + 1))});
      return;
    case 6:
      Do(CordonWorker{info, AnyNode().id, "", Chance(50)});
      return;
    case 7:
      Do(UncordonWorker{info, AnyNode().id});
      return;
    default:
      break;
  }
  if (state_.live_jobs().size() >= kMostLiveJobs) return;
  CreateJob create;
  create.id = absl::StrCat("job-", jobs_made_++);
  create.needs.devices = 1 + Draw(5);
  create.needs.kind = Chance(80) ? "cpu" : "";
  create.needs.checkpoint_root_id = "root-1";
  create.needs.images_total = kImages;
  create.priority = Draw(3);
  create.paused = Chance(5);
  Do(create);
}

void Simulation::Pass(absl::Duration time) {
  now_.mono += time;
  now_.wall += Chance(1) ? absl::Hours(Draw(48) - 24) : time;
  for (const Node& node : nodes_) {
    if (node.session == 0 || (trouble_ && Chance(10))) continue;
    Heartbeat heartbeat{node.id, node.session, {}, {{"data", "root-1"}}};
    for (const auto& [key, process] : node.processes) {
      if (!process.prepared) heartbeat.progress.push_back({key.first, key.second, process.images, 10, "step"});
    }
    Do(heartbeat);
  }
  Do(Tick{});
}

void Simulation::Connect(Node& node) {
  WorkerConnected event;
  event.hello.id = node.id;
  event.hello.instance = absl::StrCat(node.instance);
  event.hello.slots = node.slots;
  event.hello.roots = {{"data", "root-1"}};
  event.hello.spool_id = "spool";
  event.hello.spool_last = node.spool.size();
  event.hello.session = ++last_session_;
  for (const auto& [key, process] : node.processes) {
    event.running.push_back({key.first, key.second, process.prepared, process.images});
  }
  node.inbox.clear();
  node.session = event.hello.session;
  if (!Do(event)) {
    node.session = 0;
    return;
  }
  node.sent = state_.FindWorker(node.id)->spool_acked;
  ++counts_["connected"];
}

void Simulation::Disconnect(Node& node) {
  const int64_t session = node.session;
  node.session = 0;
  node.inbox.clear();
  if (session != 0 && Chance(80)) Do(WorkerDisconnected{node.id, session});
}

void Simulation::Crash(Node& node) {
  Disconnect(node);
  ++node.instance;
  ++counts_["crash"];
  const auto processes = node.processes;
  for (const auto& [key, process] : processes) {
    // A new agent reports what the old one's ranks left behind, or knows nothing.
    if (!process.prepared && Chance(60)) {
      EndProcess(node, key, 40, /*worker_stopped=*/true);
    } else {
      node.processes.erase(key);
    }
  }
}

void Simulation::TakeAction(Node& node) {
  if (node.inbox.empty()) return;
  const Action action = node.inbox.front();
  node.inbox.pop_front();
  if (const auto* prepare = std::get_if<Prepare>(&action)) {
    const Key key{prepare->job, prepare->epoch};
    PrepareReply reply{node.id, prepare->job, prepare->epoch, !trouble_ || Chance(93), "", "10.0.0.1", 7000};
    if (reply.ok && node.processes.count(key) == 0) {
      for (const PlacedRank& rank : prepare->ranks) {
        for (const auto& [other, process] : node.processes) {
          for (const PlacedRank& held : process.ranks) {
            if (held.slot == rank.slot) {
              Violate(absl::StrCat("two gangs on ", node.id, "/", rank.slot, ": ", other.first, " and ", prepare->job));
            }
          }
        }
      }
      node.processes[key] = {true, prepare->attempt, prepare->ranks};
    }
    if (reply.ok) agreed_.insert({prepare->job, prepare->epoch, node.id});
    if (Chance(97)) Do(reply);
  } else if (const auto* start = std::get_if<StartGang>(&action)) {
    auto process = node.processes.find({start->job, start->epoch});
    if (process == node.processes.end()) {
      Spool(node, {start->job, start->epoch}, start->attempt, AttemptEnded{{}, true, "not prepared"});
    } else if (process->second.prepared) {
      process->second.prepared = false;
      Spool(node, process->first, start->attempt, AttemptStarted{});
      ++counts_["started"];
    }
  } else if (const auto* stop = std::get_if<StopAttempt>(&action)) {
    auto process = node.processes.find({stop->job, stop->epoch});
    if (process == node.processes.end()) return;
    if (process->second.prepared) {
      node.processes.erase(process);
    } else if (stop->mode == StopMode::kKill) {
      EndProcess(node, process->first, 137, false);
    } else {
      process->second.stopping = true;
    }
  } else if (const auto* path = std::get_if<DeletePath>(&action)) {
    Do(DeleteDone{node.id, path->root_id, path->path, trouble_ && Chance(10) ? "busy" : ""});
  }
}

void Simulation::Work(Node& node) {
  if (node.processes.empty()) return;
  const auto it = std::next(node.processes.begin(), Draw(static_cast<int>(node.processes.size())));
  const Key key = it->first;
  Process& process = it->second;
  if (process.prepared) {
    if (trouble_ && Chance(2)) node.processes.erase(key);  // The hold ran out.
    return;
  }
  const bool rank_zero = process.ranks.front().rank == 0;
  if (process.stopping) return EndProcess(node, key, trouble_ && Chance(10) ? 137 : 40, false);
  if (poison_) return EndProcess(node, key, 50 + Draw(2), false);
  if (trouble_ && Chance(4)) return EndProcess(node, key, kExitCodes[Draw(std::size(kExitCodes))], false);
  process.images += 100;
  if (process.images >= kImages) {
    if (rank_zero)
      Spool(node, key, process.attempt, TrainerFinished{TrainerFinished::Outcome::kDone, 0, process.images, ""});
    return EndProcess(node, key, 0, false);
  }
  if (!rank_zero) return;
  if (process.sequence == 0) {
    Spool(node, key, process.attempt, TrainerStarted{0, "", {}});
  }
  Spool(node, key, process.attempt, MetricsReported{++process.sequence, process.images, 1, now_.wall, {{"loss", 1.0}}});
  if (Chance(30)) {
    CheckpointReported reported;
    reported.checkpoint.id = absl::StrCat(process.images, "-e", key.second);
    reported.checkpoint.path = absl::StrCat(key.first, "/", reported.checkpoint.id);
    reported.checkpoint.images_seen = process.images;
    Spool(node, key, process.attempt, reported);
  }
  if (Chance(2))
    Spool(node, key, process.attempt,
          TrainerNotice{"CHECKPOINT_CORRUPT", absl::StrCat(process.images, "-e", key.second), {}});
}

void Simulation::EndProcess(Node& node, const Key& key, int exit_code, bool worker_stopped) {
  AttemptEnded ended;
  ended.worker_stopped = worker_stopped;
  ended.log_tail = "the last line";
  const Process process = node.processes.at(key);
  for (const PlacedRank& rank : process.ranks) ended.ranks.push_back({rank.rank, exit_code});
  node.processes.erase(key);
  Spool(node, key, process.attempt, ended);
  ++counts_[absl::StrCat("exit ", exit_code)];
}

void Simulation::Spool(Node& node, const Key& key, int attempt, SpoolBody body) {
  node.spool.push_back({node.id, "spool", node.spool.size() + 1, key.first, key.second, attempt, 0, std::move(body)});
}

void Simulation::SendSpool(Node& node) {
  if (node.session == 0 || node.sent >= node.spool.size()) return;
  if (Chance(5) && node.sent > 0) Do(node.spool[node.sent - 1]);  // Sent twice.
  Do(node.spool[node.sent++]);
}

void Simulation::Lie(Node& node) {
  const JobPtr job = state_.FindJob(AnyJob());
  if (job == nullptr || state_.FindWorker(node.id) == nullptr) return;
  CheckpointReported reported;
  reported.checkpoint.id = absl::StrCat("lie-", random_());
  reported.checkpoint.images_seen = kImages * 2;
  const int64_t epoch = job->epoch - 1 - Draw(3);
  Spool(node, {job->id, epoch}, 1, reported);
  Do(PrepareReply{node.id, job->id, epoch, Chance(50), "", "10.6.6.6", 666});
  ++counts_["lie"];
}

void Simulation::Restart() {
  state_ = ClusterState();
  for (const auto& [id, worker] : stored_.workers()) state_.Apply(PutWorker{worker});
  for (const auto& [id, job] : stored_.live_jobs()) {
    state_.Apply(PutJob{job});
    for (const auto& [key, checkpoint] : stored_.CheckpointsOf(id)) state_.Apply(PutCheckpoint{checkpoint});
  }
  for (const auto& [key, deletion] : stored_.deletions()) state_.Apply(PutDeletion{deletion});
  const Counters& counters = stored_.counters();
  state_.Apply(SetCounters{counters.job_revision, counters.event_revision, counters.create_order});
  for (Node& node : nodes_) {
    node.session = 0;
    node.inbox.clear();
  }
  Do(Recovered{});
  ++counts_["p2d restarted"];
}

void Simulation::Heal() {
  trouble_ = false;
  Do(DiskState{false, ""});
  for (Node& node : nodes_) {
    Do(UncordonWorker{{"user:ann"}, node.id});
    if (Chance(50)) Crash(node);
  }
  for (int round = 0; round < 20000 && violations_.empty(); ++round) {
    Pass(absl::Milliseconds(500));
    for (Node& node : nodes_) {
      if (node.session == 0) Connect(node);
      while (!node.inbox.empty()) TakeAction(node);
      for (int i = 0; i < 4; ++i) Work(node);
      while (node.session != 0 && node.sent < node.spool.size()) SendSpool(node);
    }
    const auto& live = state_.live_jobs();
    if (std::all_of(live.begin(), live.end(), [](const auto& it) {
          return it.second->state == JobState::kPaused || it.second->reason == StatusReason::kNotEnoughDevices;
        })) {
      return;
    }
  }
  for (const auto& [id, job] : state_.live_jobs()) {
    if (job->state == JobState::kPaused) continue;
    Violate(absl::StrCat("job ", id, " never ended: ", JobStateName(job->state), ": ", job->message));
  }
}

}  // namespace p2::scheduler

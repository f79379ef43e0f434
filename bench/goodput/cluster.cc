#include "bench/goodput/cluster.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/scheduler/capacity.h"
#include "server/scheduler/shares.h"

namespace p2::goodput {

using scheduler::JobRecord;
using scheduler::JobState;
using scheduler::Member;
using scheduler::MemberState;
using scheduler::StatusReason;
using scheduler::WorkerState;

namespace {

// While p2d waits for nothing but the time of a reservation, it is asked so often instead of at every tick.
constexpr absl::Duration kReservationTick = absl::Seconds(10);
// What still runs so long after people stopped everything never ends.
constexpr absl::Duration kMostOvertime = absl::Hours(2);

[[noreturn]] void Broken(absl::string_view what) {
  std::cerr << "p2_goodput: " << what << "\n";
  std::abort();
}

int HeldOn(const JobRecord& job, absl::string_view worker) {
  const std::vector<scheduler::RankPlacement> held = scheduler::HeldRanks(job);
  return static_cast<int>(
      std::count_if(held.begin(), held.end(), [&](const auto& rank) { return rank.worker == worker; }));
}

}  // namespace

Cluster::Cluster(const Setting& setting)
    : setting_(setting),
      begin_(absl::FromUnixSeconds(1'800'000'000)),
      end_(begin_ + setting.time),
      now_(begin_),
      last_tick_(begin_),
      lengths_(scheduler::Mix(setting.seed * 4 + 1)),
      jitter_(scheduler::Mix(setting.seed * 4 + 2)) {
  nodes_.resize(setting.nodes + setting.spare_nodes);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    Node& node = nodes_[i];
    node.number = static_cast<int>(i);
    node.id = absl::StrCat("node-", i);
    // Apart for each node, so that the same seed breaks the same node at the same time whatever else is set.
    node.faults = scheduler::Draws(scheduler::Mix(setting.seed * 1000 + i) * 4 + 3);
    node.drains = scheduler::Draws(scheduler::Mix(setting.seed * 1000 + i) * 4);
  }
}

Report Cluster::Run() {
  for (Node& node : nodes_) {
    Connect(node);
    PlanFault(node);
    PlanDrain(node);
  }
  if (setting_.mix_jobs == 0) Submit(setting_.devices, setting_.devices_min, int64_t{1} << 50);
  KeepFull();
  At(end_, [this] {
    for (const scheduler::JobPtr& job : state_.live_jobs().Sorted()) {
      if (state_.FindJob(job->id) != nullptr)
        Tell(scheduler::StopJob{{"user:ann", "", "", {}}, job->id, "the time is over"});
    }
  });
  while (now_ < end_ || !state_.live_jobs().empty()) {
    if (now_ > end_ + kMostOvertime) Broken(absl::StrCat(state_.live_jobs().Sorted().front()->id, " does not end"));
    const absl::Time entry = calendar_.empty() ? absl::InfiniteFuture() : calendar_.begin()->first.first;
    const absl::Time next = std::min(NextTick(), entry);
    if (next == absl::InfiniteFuture()) Broken("nothing will ever happen");
    BeatUntil(next);
    AdvanceTo(next);
    if (entry <= next) {
      const auto what = std::move(calendar_.begin()->second);
      calendar_.erase(calendar_.begin());
      what();
      Review();
      tick_due_ = true;
    } else {
      last_tick_ = now_;
      tick_due_ = false;
      Tell(scheduler::Tick{});
    }
    KeepFull();
  }
  report_.all = absl::ToDoubleSeconds(now_ - begin_) * static_cast<double>(nodes_.size()) * setting_.devices_per_node;
  return report_;
}

void Cluster::At(absl::Time time, std::function<void()> what) {
  calendar_.emplace(std::make_pair(std::max(time, now_), ++entries_), std::move(what));
}

void Cluster::FromNode(const Node& node, std::function<void()> what) {
  After(setting_.costs.message, [this, number = node.number, boot = node.boot, what = std::move(what)] {
    if (nodes_[number].up && nodes_[number].boot == boot) what();
  });
}

void Cluster::AdvanceTo(absl::Time time) {
  const double seconds = absl::ToDoubleSeconds(time - now_);
  report_.held += seconds * held_rate_;
  report_.idle += seconds * idle_rate_;
  report_.away += seconds * away_rate_;
  now_ = time;
}

// Each node beats at its own phase.
void Cluster::BeatUntil(absl::Time time) {
  std::vector<std::pair<absl::Time, int>> beats;
  const absl::Duration every = setting_.costs.heartbeat;
  for (const Node& node : nodes_) {
    if (!node.up) continue;
    const absl::Duration phase = every * node.number / static_cast<double>(nodes_.size());
    const absl::Time beat = begin_ + phase + absl::Floor(time - begin_ - phase, every);
    if (beat > node.beaten && beat > now_) beats.emplace_back(beat, node.number);
  }
  std::sort(beats.begin(), beats.end());
  for (const auto& [beat, number] : beats) {
    AdvanceTo(beat);
    Node& node = nodes_[number];
    node.beaten = beat;
    scheduler::Heartbeat heartbeat{node.id, node.session, {}, state_.FindWorker(node.id)->roots};
    for (const auto& [key, gang] : gangs_) {
      if (gang.rank_zero != number || !gang.stepping || gang.members.at(number).gone) continue;
      const double rate = setting_.costs.images_per_second * gang.devices;
      const double worked = gang.works() ? std::max(0.0, absl::ToDoubleSeconds(now_ - gang.since)) * rate : 0;
      heartbeat.progress.push_back({key.first, key.second, static_cast<int64_t>(gang.images + worked),
                                    gang.works() ? rate : 0, gang.saving ? "save" : "step"});
    }
    Tell(heartbeat);
  }
}

// Something in p2d will happen without an event.
bool Cluster::WaitsForDeadline() const {
  if (!state_.starting_jobs().empty() || !state_.queue().backing_off().empty()) return true;
  return std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
    return !node.up && state_.FindWorker(node.id)->state != WorkerState::kLost;
  });
}

absl::Time Cluster::NextTick() const {
  const absl::Duration tick = setting_.costs.tick;
  if (tick_due_ || setting_.play_all || WaitsForDeadline()) {
    const absl::Time next = begin_ + absl::Ceil(now_ - begin_, tick);
    return next > last_tick_ ? next : last_tick_ + tick;
  }
  return state_.reservations().empty() ? absl::InfiniteFuture() : std::max(now_, last_tick_ + kReservationTick);
}

scheduler::StepResult Cluster::Step(const scheduler::Event& event) {
  ++report_.steps;
  absl::StatusOr<scheduler::StepResult> result = scheduler::Step(state_, event, {now_, now_}, setting_.step);
  if (!result.ok()) Broken(result.status().ToString());
  std::vector<scheduler::JobPtr> ended;
  for (const scheduler::Mutation& mutation : result->mutations) {
    state_.Apply(mutation);
    const auto* put = std::get_if<scheduler::PutJob>(&mutation);
    if (put != nullptr && IsTerminal(put->job->state)) ended.push_back(put->job);
  }
  for (const scheduler::JobPtr& job : ended) EndJob(*job);
  for (const scheduler::Action& action : result->actions) {
    After(setting_.costs.message, [this, action] { Perform(action); });
  }
  return *std::move(result);
}

scheduler::StepResult Cluster::Tell(const scheduler::Event& event) {
  scheduler::StepResult result = Step(event);
  while (state_.pass_due()) Step(scheduler::SchedulePass{});
  Review();
  return result;
}

void Cluster::Perform(const scheduler::Action& action) {
  const std::string& worker = std::visit([](const auto& it) -> const std::string& { return it.worker; }, action);
  Node& node = *std::find_if(nodes_.begin(), nodes_.end(), [&](const Node& it) { return it.id == worker; });
  if (!node.up) return;
  if (const auto* prepare = std::get_if<scheduler::Prepare>(&action)) {
    Prepare(node, *prepare);
  } else if (const auto* start = std::get_if<scheduler::StartGang>(&action)) {
    StartRanks(node, *start);
  } else if (const auto* stop = std::get_if<scheduler::StopAttempt>(&action)) {
    const GangKey key{stop->job, stop->epoch};
    Gang* gang = Find(key);
    if (gang == nullptr || gang->members.count(node.number) == 0) return;
    Cluster::Member& member = gang->members.at(node.number);
    if (!member.started) {
      member.gone = true;
    } else if (stop->mode == scheduler::StopMode::kKill) {
      EndRanks(key, node.number, 137, /*frozen=*/false, /*killed=*/true);
    } else {
      Stop(key, *gang);
    }
  } else if (const auto* path = std::get_if<scheduler::DeletePath>(&action)) {
    FromNode(node, [this, id = node.id, path = *path] {
      saved_.erase(path.path);
      Tell(scheduler::DeleteDone{id, path.root_id, path.path, ""});
    });
  }
}

std::tuple<Part, int, int> Cluster::PartOf(const JobRecord& record) const {
  const scheduler::Attempt* attempt = record.live_attempt();
  if (attempt == nullptr) {
    const bool backoff = record.ready_mono != absl::InfinitePast() && record.ready_mono > now_;
    return {backoff ? Part::kBackoff : Part::kWaiting, record.needs->devices, 0};
  }
  const int running = static_cast<int>(attempt->ranks.size()), held = scheduler::HeldDevices(record);
  const auto it = gangs_.find({record.id, attempt->epoch});
  const bool killed = attempt->stop_mode == scheduler::StopMode::kKill;
  if (it == gangs_.end() || !it->second.stepping) return {killed ? Part::kStopping : Part::kRestart, running, held};
  if (it->second.hurt) {
    if (killed) return {Part::kStopping, running, held};
    const bool waits = record.state == JobState::kRunning && record.reason == StatusReason::kWorkerLost;
    return {waits ? Part::kWaiting : Part::kDetection, running, held};
  }
  return {it->second.saving ? Part::kCheckpoint : Part::kUseful, running, held};
}

void Cluster::Review() {
  held_rate_ = 0;
  for (auto& [id, job] : jobs_) {
    const JobRecord& record = *state_.FindJob(id);
    if (record.attempt_count == 0) continue;
    const auto part = PartOf(record);
    held_rate_ += std::get<2>(part);
    if (job.ledger.started() && part == job.now) continue;
    job.now = part;
    job.ledger.Switch(now_, std::get<0>(part), std::get<1>(part), std::get<2>(part));
  }
  std::erase_if(gangs_, [&](const auto& entry) {
    const scheduler::JobPtr& job = state_.FindJob(entry.first.first);
    const scheduler::Attempt* live = job == nullptr ? nullptr : job->live_attempt();
    return live == nullptr || live->epoch != entry.first.second;
  });
  idle_rate_ = away_rate_ = 0;
  for (Node& node : nodes_) {
    const scheduler::WorkerPtr& worker = state_.FindWorker(node.id);
    if (worker == nullptr) continue;
    int held = 0;
    for (const std::string& id : state_.JobsOn(node.id)) held += HeldOn(*state_.FindJob(id), node.id);
    (node.up && !worker->cordoned ? idle_rate_ : away_rate_) += setting_.devices_per_node - held;
    if (worker->cordoned && !node.planned && !node.looked_at) LookAfter(node);
  }
}

void Cluster::EndJob(const JobRecord& record) {
  const auto it = jobs_.find(record.id);
  if (it == jobs_.end()) return;
  Job& job = it->second;
  if (record.state == JobState::kSucceeded) ++report_.jobs_succeeded;
  if (record.state == JobState::kFailed) ++report_.jobs_failed;
  if (job.ledger.started()) {
    if (record.state == JobState::kFailed && setting_.mix_jobs == 0) {
      job.ledger.Fail(now_, end_);
    } else {
      job.ledger.End(now_);
    }
    ++report_.jobs;
    report_.wanted += job.ledger.Total();
    for (int i = 0; i < kParts; ++i) report_.parts[i] += job.ledger.parts()[i];
    report_.useful_by_images += job.result_images / setting_.costs.images_per_second;
    report_.held_by_jobs += job.ledger.held();
  }
  jobs_.erase(it);
}

void Cluster::Submit(int devices, int devices_min, int64_t images_total) {
  scheduler::CreateJob create;
  const int64_t number = state_.counters().create_order + 1;
  create.id = absl::StrCat("job-", number);
  create.owner = absl::StrCat("user-", number % setting_.people);
  create.info.actor = absl::StrCat("user:", create.owner);
  create.needs.devices = devices;
  create.needs.devices_min = devices_min;
  create.needs.kind = "cuda";
  create.needs.dataset_root = create.needs.checkpoint_root = "main";
  create.needs.dataset_root_id = create.needs.checkpoint_root_id = "main-id";
  create.needs.stop_deadline = setting_.costs.stop_deadline;
  create.needs.images_total = images_total;
  create.spec_sha256 = "spec-hash";
  create.spec_bytes = "spec";
  jobs_.emplace(create.id, Job(devices));
  Tell(create);
}

void Cluster::KeepFull() {
  static constexpr int kDevices[] = {8, 8, 8, 8, 16, 16, 16, 32, 32, 64};
  while (static_cast<int>(jobs_.size()) < setting_.mix_jobs && now_ < end_) {
    const int devices = kDevices[lengths_.Below(10)];
    const double unit = static_cast<double>(lengths_.Next() >> 11) * 0x1p-53;
    const double seconds = -std::log1p(-unit) * absl::ToDoubleSeconds(setting_.mix_length);
    Submit(devices, 0, 1 + static_cast<int64_t>(seconds * devices * setting_.costs.images_per_second));
  }
}

}  // namespace p2::goodput

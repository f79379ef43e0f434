// Cluster's training: an attempt's ranks from Prepare to their end.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/goodput/cluster.h"

namespace p2::goodput {

using scheduler::TrainerFinished;

Cluster::Gang* Cluster::Find(const GangKey& key) {
  const auto it = gangs_.find(key);
  return it == gangs_.end() ? nullptr : &it->second;
}

void Cluster::Spool(const GangKey& key, int node, scheduler::SpoolBody body, std::function<void()> taken) {
  const Gang& gang = gangs_.at(key);
  FromNode(nodes_[node], [this, key, node, attempt = gang.attempt, body = std::move(body), taken = std::move(taken)] {
    Node& from = nodes_[node];
    const scheduler::StepResult result = Tell(scheduler::SpoolReport{
        from.id, absl::StrCat("spool-", from.id), ++from.spooled, key.first, key.second, attempt, 0, body});
    if (taken && result.refused.empty()) taken();
  });
}

void Cluster::Prepare(Node& node, const scheduler::Prepare& prepare) {
  const GangKey key{prepare.job, prepare.epoch};
  const scheduler::JobPtr& job = state_.FindJob(prepare.job);
  if (job == nullptr || job->epoch != prepare.epoch || job->live_attempt() == nullptr) return;
  const auto [it, added] = gangs_.try_emplace(key);
  Gang& gang = it->second;
  if (added) {
    ++report_.attempts;
    gang.attempt = prepare.attempt;
    gang.devices = prepare.world_size;
    gang.total = job->needs->images_total;
  }
  gang.members[node.number].ranks = prepare.ranks;
  if (prepare.ranks.front().rank == 0) gang.rank_zero = node.number;
  FromNode(node, [this, key, id = node.id] {
    if (Find(key) != nullptr) Tell(scheduler::PrepareReply{id, key.first, key.second, true, "", "10.0.0.1", 7000});
  });
}

void Cluster::StartRanks(Node& node, const scheduler::StartGang& start) {
  const GangKey key{start.job, start.epoch};
  Gang* gang = Find(key);
  if (gang == nullptr || gang->members.at(node.number).gone) return;
  gang->members.at(node.number).started = true;
  if (!start.resume_candidates.empty()) gang->resume = start.resume_candidates.front();
  Spool(key, node.number, scheduler::AttemptStarted{});
  const auto& members = gang->members;
  if (std::all_of(members.begin(), members.end(), [](const auto& it) { return it.second.started; })) {
    After(setting_.costs.start_up, [this, key] { Begin(key); });
  }
}

void Cluster::Begin(const GangKey& key) {
  Gang* gang = Find(key);
  if (gang == nullptr || gang->hurt || gang->stopping) return;
  for (const auto& [number, member] : gang->members) {
    for (const scheduler::PlacedRank& rank : member.ranks) {
      if (rank.slot == nodes_[number].broken_slot) return Crash(key, number, 51);
    }
  }
  gang->stepping = true;
  const std::string path = absl::StrCat(key.first, "/", gang->resume);
  gang->images = gang->resume.empty() ? 0 : saved_.at(path);
  gang->since = now_;
  jobs_.at(key.first).ledger.Lose();
  Spool(key, gang->rank_zero, scheduler::TrainerStarted{static_cast<int64_t>(gang->images), gang->resume, {}});
  PlanSave(key, *gang);
}

// Training goes on until the next multiple of checkpoint.every_images, or the end.
void Cluster::PlanSave(const GangKey& key, Gang& gang) {
  const int64_t every = setting_.costs.checkpoint_every_images;
  gang.next_save = std::min(gang.total, (static_cast<int64_t>(gang.images) / every + 1) * every);
  const double rate = setting_.costs.images_per_second * gang.devices;
  At(gang.since + absl::Seconds((static_cast<double>(gang.next_save) - gang.images) / rate),
     [this, key, turn = ++gang.turn] {
       if (const Gang* it = Find(key); it != nullptr && it->turn == turn) BeginSave(key);
     });
}

void Cluster::BeginSave(const GangKey& key) {
  Gang& gang = gangs_.at(key);
  gang.images = static_cast<double>(gang.next_save);
  gang.since = now_;
  if (gang.next_save == gang.total) return SaveAndEnd(key, gang, TrainerFinished::Outcome::kDone);
  gang.saving = true;
  // The writer holds one checkpoint at a time.
  At(std::max(now_, gang.written) + setting_.costs.checkpoint_wait, [this, key, turn = ++gang.turn] {
    if (const Gang* it = Find(key); it != nullptr && it->turn == turn) EndSave(key);
  });
}

void Cluster::EndSave(const GangKey& key) {
  Gang& gang = gangs_.at(key);
  const Costs& costs = setting_.costs;
  gang.saving = false;
  gang.since = now_;
  Review();
  Ledger& ledger = jobs_.at(key.first).ledger;
  ledger.Snapshot(now_);
  // From one checkpoint to the next; those that pass before anything else happens are not played.
  const double rate = costs.images_per_second * gang.devices;
  const absl::Duration work = absl::Seconds(static_cast<double>(costs.checkpoint_every_images) / rate);
  const absl::Duration cycle = std::max(work, costs.checkpoint_write) + costs.checkpoint_wait;
  const int64_t room = (gang.total - gang.next_save) / costs.checkpoint_every_images;
  const absl::Time next = calendar_.begin()->first.first;
  // With free devices it may grow after any of them.
  const bool grows = idle_rate_ > 0 && gang.devices < state_.FindJob(key.first)->needs->devices;
  const bool quiet = NextTick() == absl::InfiniteFuture();
  if (gang.saves++ > 0 && !grows && quiet) {
    const int64_t count = std::min<int64_t>(room, (next - now_) / cycle) - 2;
    if (count > 0) {
      ledger.Repeat(count, work, cycle - work);
      gang.images += static_cast<double>(count * costs.checkpoint_every_images);
      gang.since += cycle * count;
    }
  }
  gang.written = gang.since + costs.checkpoint_write;
  At(gang.written, [this, key, images = gang.images] { SendCheckpoint(key, images); });
  PlanSave(key, gang);
}

// If rank 0's process is still there.
void Cluster::SendCheckpoint(const GangKey& key, double images) {
  const Gang* gang = Find(key);
  if (gang == nullptr || gang->writer_gone || gang->members.at(gang->rank_zero).gone) return;
  scheduler::CheckpointReported reported;
  reported.checkpoint.id = absl::StrCat(static_cast<int64_t>(images), "-e", key.second);
  reported.checkpoint.path = absl::StrCat(key.first, "/", reported.checkpoint.id);
  reported.checkpoint.images_seen = static_cast<int64_t>(images);
  Spool(key, gang->rank_zero, reported, [this, key, images, path = reported.checkpoint.path] {
    const auto job = jobs_.find(key.first);
    if (job == jobs_.end()) return;
    saved_[path] = images;
    job->second.ledger.Saved();
    job->second.result_images = std::max(job->second.result_images, images);
  });
}

void Cluster::SaveAndEnd(const GangKey& key, Gang& gang, TrainerFinished::Outcome outcome) {
  const int turn = ++gang.turn;
  gang.saving = true;
  Review();
  const absl::Time begin = std::max(now_, gang.written) + setting_.costs.checkpoint_wait;
  gang.written = begin + setting_.costs.checkpoint_write;
  const auto in_turn = [this, key, turn] {
    const Gang* it = Find(key);
    return it != nullptr && it->turn == turn;
  };
  At(begin, [this, key, in_turn] {
    if (in_turn()) jobs_.at(key.first).ledger.Snapshot(now_);
  });
  At(gang.written, [this, key, in_turn, outcome] {
    if (!in_turn()) return;
    const Gang& it = gangs_.at(key);
    SendCheckpoint(key, it.images);
    Spool(key, it.rank_zero, TrainerFinished{outcome, 0, static_cast<int64_t>(it.images), ""});
    std::vector<int> members;
    for (const auto& [number, member] : it.members) members.push_back(number);
    const int code = outcome == TrainerFinished::Outcome::kDone ? 0 : 40;
    for (const int number : members) EndRanks(key, number, code, false, false);
  });
}

void Cluster::Stop(const GangKey& key, Gang& gang) {
  if (gang.stopping) return;
  gang.stopping = true;
  std::vector<int> members;
  for (const auto& [number, member] : gang.members) members.push_back(number);
  After(setting_.costs.stop_deadline, [this, key, members] {
    for (const int number : members) EndRanks(key, number, 137, false, true);
  });
  if (gang.hurt) return;
  if (!gang.stepping) {
    for (const int number : members) EndRanks(key, number, 40, false, false);
    return;
  }
  if (gang.works()) {
    const double rate = setting_.costs.images_per_second * gang.devices;
    gang.images += std::max(0.0, absl::ToDoubleSeconds(now_ - gang.since)) * rate;
    gang.since = now_;
  }
  SaveAndEnd(key, gang, TrainerFinished::Outcome::kStopped);
}

// From now on no rank gets any further. Their nodes notice, at the latest, when the phase's deadline has passed.
void Cluster::Hurt(const GangKey& key, Gang& gang) {
  if (gang.hurt) return;
  if (gang.works()) {
    const double rate = setting_.costs.images_per_second * gang.devices;
    gang.images += std::max(0.0, absl::ToDoubleSeconds(now_ - gang.since)) * rate;
    gang.since = now_;
  }
  gang.hurt = true;
  ++gang.turn;
  const absl::Duration deadline = gang.stepping ? setting_.costs.step_deadline : setting_.costs.start_deadline;
  for (const auto& [number, member] : gang.members) {
    const absl::Duration late = absl::Milliseconds(jitter_.Below(1000));  // Their last steps and looks differ.
    After(deadline + late, [this, key, number = number] { EndRanks(key, number, 137, /*frozen=*/true, false); });
  }
}

void Cluster::EndRanks(const GangKey& key, int node, int exit_code, bool frozen, bool killed) {
  Gang* gang = Find(key);
  if (gang == nullptr) return;
  Member& member = gang->members.at(node);
  if (member.gone || !member.started) return;
  const bool well = exit_code == 0 || exit_code == 40;
  scheduler::AttemptEnded ended;
  for (const scheduler::PlacedRank& rank : member.ranks) {
    if (well || ended.ranks.empty()) {
      ended.ranks.push_back({rank.rank, exit_code, frozen, killed, ""});
    } else {
      ended.ranks.push_back({rank.rank, 137, false, /*killed=*/true, ""});  // For the first one's sake.
    }
  }
  member.gone = true;
  Spool(key, node, ended);
  if (!well) Hurt(key, *gang);
}

}  // namespace p2::goodput

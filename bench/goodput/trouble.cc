// Cluster's trouble: what breaks, and who mends it.
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/goodput/cluster.h"

namespace p2::goodput {

namespace {

// In [0, 1).
double Unit(scheduler::Draws& draws) { return static_cast<double>(draws.Next() >> 11) * 0x1p-53; }

absl::Duration Exponential(scheduler::Draws& draws, double mean_hours) {
  return absl::Hours(1) * (-std::log1p(-Unit(draws)) * mean_hours);
}

constexpr double kSoftware = 56.0 / 91;  // Of crashes; the others are the network's.
// A person who drains a node waits so long until it is empty.
constexpr absl::Duration kUntilEmpty = absl::Minutes(2);

}  // namespace

void Cluster::PlanFault(Node& node) {
  if (setting_.faults.mttf_hours <= 0) return;
  After(Exponential(node.faults, setting_.faults.mttf_hours / setting_.devices_per_node), [this, &node] {
    Break(node);
    PlanFault(node);
  });
}

void Cluster::PlanDrain(Node& node) {
  if (setting_.faults.drain_hours <= 0) return;
  After(Exponential(node.drains, setting_.faults.drain_hours / setting_.devices_per_node), [this, &node] {
    Drain(node);
    PlanDrain(node);
  });
}

void Cluster::Break(Node& node) {
  const Faults& faults = setting_.faults;
  // Drawn whatever comes of it, so that the next failure does not depend on this one's.
  double kind = Unit(node.faults);
  const int device = node.faults.Below(setting_.devices_per_node);
  const bool replace = Unit(node.faults) < faults.replacement_share;
  const int exit_code = Unit(node.faults) < kSoftware ? 1 : 50;
  const bool stays = Unit(node.faults) < faults.broken_device_share;
  if (!node.up || node.planned || !node.broken_slot.empty()) return;

  const std::string slot = absl::StrCat("cuda:", device);
  const GangKey* hit = nullptr;
  for (const auto& [key, gang] : gangs_) {
    const auto it = gang.members.find(node.number);
    if (it == gang.members.end() || !it->second.started || it->second.gone || gang.hurt) continue;
    for (const scheduler::PlacedRank& rank : it->second.ranks) {
      if (rank.slot == slot) hit = &key;
    }
  }
  const absl::Duration repair = replace ? faults.replacement : faults.reboot;
  if ((kind -= faults.crash_share) < 0) {
    ++report_.crashes;
    if (hit == nullptr) ++report_.harmless;
    if (hit != nullptr) Crash(GangKey(*hit), node.number, exit_code);
  } else if ((kind -= faults.freeze_share) < 0) {
    ++report_.freezes;
    if (hit == nullptr) ++report_.harmless;
    if (hit != nullptr) Hurt(GangKey(*hit), gangs_.at(*hit));
  } else if (stays) {
    ++report_.broken_devices;
    node.broken_slot = slot;
    if (hit != nullptr) Crash(GangKey(*hit), node.number, 51);
    After(faults.person, [this, &node, repair, boot = node.boot] {
      if (node.up && node.boot == boot && !node.planned) SendToRepair(node, repair);
    });
  } else {
    ++report_.lost_nodes;
    if (hit == nullptr) ++report_.harmless;
    TakeDown(node, repair);
    After(setting_.costs.connection_timeout, [this, &node, session = node.session] {
      if (!node.up) Tell(scheduler::WorkerDisconnected{node.id, session});
    });
  }
}

void Cluster::Drain(Node& node) {
  if (!node.up || node.planned || !node.broken_slot.empty() || now_ >= end_) return;
  ++report_.drains;
  SendToRepair(node, setting_.faults.maintenance);
}

// A person drains the node and takes it away for so long.
void Cluster::SendToRepair(Node& node, absl::Duration time) {
  node.planned = true;
  scheduler::CordonWorker drain;
  drain.info.actor = "user:operator";
  drain.worker = node.id;
  drain.reason = "maintenance";
  drain.drain = true;
  Tell(drain);
  After(kUntilEmpty, [this, &node, time] {
    const int64_t session = node.session;
    TakeDown(node, time);
    Tell(scheduler::WorkerDisconnected{node.id, session});
  });
}

// One rank ends; the others of its node are killed a little later, and those of other nodes wait for it.
void Cluster::Crash(const GangKey& key, int node, int exit_code) {
  Gang& gang = gangs_.at(key);
  if (gang.rank_zero == node && gang.members.at(node).ranks.size() == 1) gang.writer_gone = true;
  Hurt(key, gang);
  After(setting_.costs.gang_grace, [this, key, node, exit_code] { EndRanks(key, node, exit_code, false, false); });
}

void Cluster::TakeDown(Node& node, absl::Duration time) {
  node.up = false;
  for (auto& [key, gang] : gangs_) {
    const auto it = gang.members.find(node.number);
    if (it == gang.members.end() || it->second.gone) continue;
    it->second.gone = true;
    if (it->second.started) Hurt(key, gang);
  }
  After(time, [this, &node] { Return(node); });
}

void Cluster::Return(Node& node) {
  node.up = true;
  ++node.boot;
  node.broken_slot.clear();
  Connect(node);
  if (!std::exchange(node.planned, false)) return;
  Tell(scheduler::UncordonWorker{{"user:operator", "", "", {}}, node.id});
}

void Cluster::Connect(Node& node) {
  scheduler::WorkerConnected event;
  event.hello.id = node.id;
  event.hello.instance = absl::StrCat(node.boot);
  for (int i = 0; i < setting_.devices_per_node; ++i) event.hello.slots.push_back({absl::StrCat("cuda:", i), "cuda"});
  event.hello.roots = {{"main", "main-id"}};
  event.hello.spool_id = absl::StrCat("spool-", node.id);
  event.hello.spool_last = node.spooled;
  event.hello.session = node.session = ++last_session_;
  node.beaten = now_;
  Tell(event);
}

// p2d has cordoned the node: jobs broke there.
void Cluster::LookAfter(Node& node) {
  node.looked_at = true;
  ++report_.cordons;
  After(setting_.faults.person, [this, &node] {
    node.looked_at = false;
    if (node.planned) return;
    if (node.up && !node.broken_slot.empty()) return SendToRepair(node, setting_.faults.reboot);
    Tell(scheduler::UncordonWorker{{"user:operator", "", "", {}}, node.id});
  });
}

}  // namespace p2::goodput

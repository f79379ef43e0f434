#include "tests/server/scheduler/simulation/world.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/server/scheduler/simulation/describe.h"

namespace p2::scheduler {

namespace {

// Where every rank breaks, it is not the nodes' fault.
WorldOptions Adjusted(WorldOptions options) {
  if (options.poison) options.step.cordon_after_jobs = 0;
  return options;
}

}  // namespace

World::World(const WorldOptions& options)
    : options_(Adjusted(options)), now_{absl::FromUnixSeconds(1'700'000'000), absl::FromUnixSeconds(5000)} {
  trouble_ = !options.calm;
  if (options.calm) checker_.ExpectCalm();
  for (int i = 0; i < options.nodes; ++i) {
    Node node;
    node.id = absl::StrCat("w", i);
    for (int slot = 0; slot <= i % 4; ++slot) node.slots.push_back({absl::StrCat("cpu:", slot), "cpu"});
    if (i % 5 == 0) node.slots.push_back({"cuda:0", "cuda"});
    node.roots.push_back({"data", "root-1"});
    if (i % 2 == 1) node.roots.push_back({"scratch", "root-2"});
    nodes_.push_back(std::move(node));
  }
}

bool World::Perform(const Decision& decision) {
  Draws draws(decision.draw);
  Node& node = nodes_[draws.Below(static_cast<int>(nodes_.size()))];
  switch (decision.kind) {
    case DecisionKind::kSubmit:
      Submit(draws);
      break;
    case DecisionKind::kPerson:
      Ask(draws);
      break;
    case DecisionKind::kConnect:
      Connect(node, draws);
      break;
    case DecisionKind::kDisconnect:
      Disconnect(node, draws);
      break;
    case DecisionKind::kCrash:
      Crash(node, draws);
      break;
    case DecisionKind::kTakeAction:
      TakeAction(node, draws);
      break;
    case DecisionKind::kWork:
      Work(node, draws);
      break;
    case DecisionKind::kReport:
      Report(node, draws);
      break;
    case DecisionKind::kLie:
      Lie(node, draws);
      break;
    case DecisionKind::kTime:
      options_.calm ? PassCalmSecond(draws) : PassTime(draws);
      break;
    case DecisionKind::kDisk:
      Advance(std::make_shared<const Event>(DiskState{draws.Percent(25), "nearly full"}));
      break;
    case DecisionKind::kRestart:
      Restart(draws);
      break;
  }
  // Events that come together share a batch.
  if (!batch_.empty() && !draws.Percent(30)) Commit();
  return violations().empty();
}

void World::Finish() {
  Commit();
  checker_.CheckWhole(state_, store_);
  unchecked_ = 0;
}

void World::Heal(uint64_t seed) {
  Draws draws(seed);
  trouble_ = false;
  Advance(std::make_shared<const Event>(DiskState{false, ""}));
  for (const char* account : kAccounts) {
    Advance(std::make_shared<const Event>(SetQuota{{"user:ann"}, {account, std::nullopt, 0, std::nullopt}}));
  }
  for (Node& node : nodes_) {
    Advance(std::make_shared<const Event>(UncordonWorker{{"user:ann"}, node.id}));
    if (draws.Percent(50)) Crash(node, draws);
  }
  for (int round = 0; round < 20'000 && violations().empty(); ++round) {
    PassTime(absl::Milliseconds(500), draws);
    Commit();
    for (Node& node : nodes_) {
      if (node.session == 0) Connect(node, draws);
      while (!node.inbox.empty()) TakeAction(node, draws);
      for (int i = 0; i < 4; ++i) Work(node, draws);
      while (node.session != 0 && node.sent < node.spooled) Report(node, draws);
      Commit();
    }
    const std::vector<JobPtr> live = state_.live_jobs().Sorted();
    if (std::all_of(live.begin(), live.end(), [](const JobPtr& job) {
          return job->state == JobState::kPaused || job->reason == StatusReason::kNotEnoughDevices ||
                 job->reason == StatusReason::kRootNotVisible;
        })) {
      return;
    }
  }
  for (const JobPtr& job : state_.live_jobs().Sorted()) {
    if (job->state == JobState::kPaused) continue;
    checker_.Violate("starved",
                     absl::StrCat("job ", job->id, " never ended: ", JobStateName(job->state), ": ", job->message));
  }
}

std::map<std::string, int64_t> World::Counts() const {
  std::map<std::string, int64_t> counts;
  for (size_t i = 0; i < events_of_.size(); ++i) {
    if (events_of_[i] > 0) counts[absl::StrCat("event ", EventName(i))] = events_of_[i];
  }
  for (size_t i = 0; i < actions_of_.size(); ++i) {
    if (actions_of_[i] > 0) counts[absl::StrCat("action ", ActionName(i))] = actions_of_[i];
  }
  for (size_t i = 0; i < exits_.size(); ++i) {
    if (exits_[i] > 0) counts[absl::StrCat("exit ", i)] = exits_[i];
  }
  if (options_.calm) counts["started as predicted"] = checker_.promises_kept();
  static constexpr absl::string_view kNames[] = {"started",  "checkpoint",    "refused", "error", "repeated request",
                                                 "fallback", "p2d restarted", "lie",     "crash"};
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] > 0) counts[std::string(kNames[i])] = counts_[i];
  }
  return counts;
}

}  // namespace p2::scheduler

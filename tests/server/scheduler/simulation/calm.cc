// World without trouble: time goes by second by second, and what was predicted has to come true.
#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/server/scheduler/simulation/world.h"

namespace p2::scheduler {
namespace {

constexpr int64_t kSaveEverySeconds = 10;

}  // namespace

void World::PassCalmSecond(Draws& draws) {
  now_.mono += absl::Seconds(1);
  now_.wall += absl::Seconds(1);
  for (Node& node : nodes_) GoOn(node);
  TellAll(draws);
  for (const Node& node : nodes_) {
    if (node.session != 0) Beat(node);
  }
  Advance(std::make_shared<const Event>(Tick{}));
  Commit();
  TellAll(draws);
}

void World::GoOn(Node& node) {
  for (size_t i = node.processes.size(); i-- > 0;) {
    Process& process = node.processes[i];
    if (!process.started_stepping) continue;
    const Gang& gang = gangs_.at({process.job, process.epoch});
    process.images = std::min(process.images + static_cast<int64_t>(gang.Rate()), gang.images_total);
    const bool done = process.images == gang.images_total;
    if (process.has_rank_zero()) {
      Draws none(0);
      const int64_t seconds = process.images / static_cast<int64_t>(gang.Rate());
      if (done || process.stopping || seconds % kSaveEverySeconds == 0) Save(node, process, none);
      if (done) {
        Spool(node, process.job, process.epoch, process.attempt, 0,
              TrainerFinished{TrainerFinished::Outcome::kDone, 0, process.images, ""});
      }
    }
    if (done || process.stopping) EndProcess(node, i, done ? 0 : 40, false);
  }
}

void World::TellAll(Draws& draws) {
  for (bool told = true; told && violations().empty();) {
    told = false;
    for (Node& node : nodes_) {
      for (; !node.inbox.empty(); told = true) TakeAction(node, draws);
      for (Process& process : node.processes) {
        Gang& gang = gangs_.at({process.job, process.epoch});
        if (process.prepared || process.started_stepping || gang.started_ranks < gang.world_size) continue;
        if (process.has_rank_zero()) LoadCheckpoint(node, process, gang, draws);
        if (!gang.loaded) continue;
        process.images = gang.images;
        process.started_stepping = told = true;
      }
      for (; node.session != 0 && node.sent < node.spooled; told = true) Report(node, draws);
    }
    if (!batch_.empty()) Commit();
  }
}

}  // namespace p2::scheduler

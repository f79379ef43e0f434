#include "server/scheduler/queue_cursor.h"

#include "server/scheduler/shares.h"

namespace p2::scheduler {

QueueCursor::QueueCursor(const ClusterState& state, const QueueIndex::Projects& level, absl::Time now_mono,
                         const StepOptions& options)
    : state_(state), now_(now_mono), options_(options) {
  for (const auto& [project_id, owners] : level) {
    ProjectState& project = projects_[project_id];
    project.share = state.ShareOf(ProjectShare(project_id));
    for (const auto& [owner_id, lines] : owners) {
      OwnerState& owner = project.owners[owner_id];
      owner.share = state.ShareOf(OwnerShare(project_id, owner_id));
      owner.all = &lines;
    }
  }
  NextRound();
}

double QueueCursor::Score(const ShareRecord& share) const {
  return ShareScore(share, now_, options_.share_half_life, options_.share_horizon);
}

void QueueCursor::NextRound() {
  order_.clear();
  for (auto& [id, project] : projects_) {
    project.order.clear();
    for (auto& [owner_id, owner] : project.owners) {
      for (auto& [shape, line] : owner.lines) line.rests = false;
      if (owner.all != nullptr || !owner.lines.empty()) project.order.emplace(Score(owner.share), owner_id);
    }
    if (!project.order.empty()) order_.emplace(Score(project.share), id);
  }
}

std::map<QueueIndex::ShapeId, QueueCursor::LineState>::iterator QueueCursor::FirstLine(OwnerState& owner) const {
  auto first = owner.lines.end();
  for (auto line = owner.lines.begin(); line != owner.lines.end(); ++line) {
    if (line->second.rests) continue;
    if (first == owner.lines.end() || *line->second.next < *first->second.next) first = line;
  }
  return first;
}

void QueueCursor::OpenLines(OwnerState& owner, const Blocked& blocked) {
  if (owner.all == nullptr) {
    if (!blocked.empty()) std::erase_if(owner.lines, [&](const auto& line) { return blocked.count(line.first) > 0; });
    return;
  }
  for (const auto& [shape, line] : *std::exchange(owner.all, nullptr)) {
    if (blocked.count(shape) == 0) owner.lines[shape] = {&line, line.begin(), false};
  }
}

std::optional<QueueCursor::Turn> QueueCursor::Next(const Blocked& blocked) {
  while (!order_.empty()) {
    project_ = order_.begin()->second;
    ProjectState& project = projects_.at(project_);
    owner_ = project.order.begin()->second;
    OwnerState& owner = project.owners.at(owner_);
    OpenLines(owner, blocked);
    const auto line = FirstLine(owner);
    project.order.erase(project.order.begin());
    if (line != owner.lines.end()) {
      order_.erase(order_.begin());
      shape_ = line->first;
      return Turn{state_.FindJob(line->second.next->job), shape_, *line->second.jobs};
    }
    // Nothing of this owner is left: its project keeps its place, with the next one.
    if (project.order.empty()) order_.erase(order_.begin());
  }
  return std::nullopt;
}

void QueueCursor::Return() {
  ProjectState& project = projects_.at(project_);
  OwnerState& owner = project.owners.at(owner_);
  if (FirstLine(owner) != owner.lines.end()) project.order.emplace(Score(owner.share), owner_);
  if (!project.order.empty()) order_.emplace(Score(project.share), project_);
}

void QueueCursor::Started(int devices) {
  ProjectState& project = projects_.at(project_);
  OwnerState& owner = project.owners.at(owner_);
  project.share.devices += devices;
  owner.share.devices += devices;
  LineState& line = owner.lines.at(shape_);
  if (++line.next == line.jobs->end()) owner.lines.erase(shape_);
  Return();
}

void QueueCursor::LineWaits() {
  projects_.at(project_).owners.at(owner_).lines.erase(shape_);
  Return();
}

void QueueCursor::LineRests() {
  projects_.at(project_).owners.at(owner_).lines.at(shape_).rests = true;
  Return();
}

std::vector<std::string> QueueOrder(const ClusterState& state, absl::Time now_mono, const StepOptions& options) {
  std::vector<std::string> order;
  for (const auto& [priority, level] : state.queue().ready()) {
    QueueCursor cursor(state, level, now_mono, options);
    while (const auto turn = cursor.Next()) {
      order.push_back(turn->job->id);
      cursor.Started(turn->job->needs->least_devices());
    }
  }
  return order;
}

}  // namespace p2::scheduler

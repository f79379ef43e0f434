#include "server/scheduler/queue_cursor.h"

#include <algorithm>
#include <functional>

#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

// As ClusterState::ShareOf, less the ID.
const ShareRecord& RecordOf(const ClusterState& state, const std::string& id) {
  static const auto* const none = new ShareRecord;
  const auto it = state.shares().find(id);
  return it == state.shares().end() ? *none : it->second;
}

}  // namespace

void QueueCursor::Order::Put(double score, size_t index) {
  heap_.emplace_back(score, index);
  std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
}

void QueueCursor::Order::Pop() {
  std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
  heap_.pop_back();
}

QueueCursor::QueueCursor(const ClusterState& state, const QueueIndex::Projects& level,
                         const std::map<std::string, int>& given, absl::Time now_mono, const StepOptions& options)
    : state_(state), now_(now_mono), options_(options) {
  const auto claim_of = [&](const std::string& id) {
    const auto more = given.find(id);
    return Claim{&RecordOf(state, id), more == given.end() ? 0 : more->second};
  };
  projects_.reserve(level.size());
  for (const auto& [project_id, owners] : level) {
    ProjectState& project = projects_.emplace_back(ProjectState{claim_of(ProjectShare(project_id)), {}, {}});
    project.owners.reserve(owners.size());
    for (const auto& [owner_id, lines] : owners)
      project.owners.push_back({claim_of(OwnerShare(project_id, owner_id)), &lines, {}});
  }
  NextRound();
}

double QueueCursor::Score(const Claim& claim) const {
  return ShareScore(*claim.record, claim.devices, now_, options_.share_half_life, options_.share_horizon);
}

void QueueCursor::NextRound() {
  order_.Clear();
  for (size_t p = 0; p < projects_.size(); ++p) {
    ProjectState& project = projects_[p];
    project.order.Clear();
    for (size_t o = 0; o < project.owners.size(); ++o) {
      OwnerState& owner = project.owners[o];
      for (LineState& line : owner.lines) line.rests = false;
      if (owner.all != nullptr || !owner.lines.empty()) project.order.Put(Score(owner.claim), o);
    }
    if (!project.order.empty()) order_.Put(Score(project.claim), p);
  }
}

size_t QueueCursor::FirstLine(const OwnerState& owner) {
  size_t first = kNone;
  for (size_t i = 0; i < owner.lines.size(); ++i) {
    if (owner.lines[i].rests) continue;
    if (first == kNone || *owner.lines[i].next < *owner.lines[first].next) first = i;
  }
  return first;
}

void QueueCursor::OpenLines(OwnerState& owner, const Blocked& blocked) {
  if (owner.all == nullptr) {
    std::erase_if(owner.lines, [&](const LineState& line) { return blocked[line.shape]; });
    return;
  }
  for (const auto& [shape, line] : *std::exchange(owner.all, nullptr)) {
    if (!blocked[shape]) owner.lines.push_back({shape, &line, line.begin(), false});
  }
}

std::optional<QueueCursor::Turn> QueueCursor::Next(const Blocked& blocked) {
  while (!order_.empty()) {
    project_ = order_.first();
    ProjectState& project = projects_[project_];
    owner_ = project.order.first();
    OwnerState& owner = project.owners[owner_];
    OpenLines(owner, blocked);
    project.order.Pop();
    line_ = FirstLine(owner);
    if (line_ != kNone) {
      order_.Pop();
      const LineState& line = owner.lines[line_];
      return Turn{state_.FindJob(line.next->job), line.shape, *line.jobs};
    }
    // Nothing of this owner is left: its project keeps its place, with the next one.
    if (project.order.empty()) order_.Pop();
  }
  return std::nullopt;
}

void QueueCursor::Return() {
  ProjectState& project = projects_[project_];
  const OwnerState& owner = project.owners[owner_];
  if (FirstLine(owner) != kNone) project.order.Put(Score(owner.claim), owner_);
  if (!project.order.empty()) order_.Put(Score(project.claim), project_);
}

void QueueCursor::CloseLine() {
  std::vector<LineState>& lines = projects_[project_].owners[owner_].lines;
  lines.erase(lines.begin() + static_cast<ptrdiff_t>(line_));
}

void QueueCursor::Started(int devices) {
  ProjectState& project = projects_[project_];
  OwnerState& owner = project.owners[owner_];
  project.claim.devices += devices;
  owner.claim.devices += devices;
  LineState& line = owner.lines[line_];
  if (++line.next == line.jobs->end()) CloseLine();
  Return();
}

void QueueCursor::LineWaits() {
  CloseLine();
  Return();
}

void QueueCursor::LineRests() {
  projects_[project_].owners[owner_].lines[line_].rests = true;
  Return();
}

std::vector<std::string> QueueOrder(const ClusterState& state, absl::Time now_mono, const StepOptions& options) {
  std::vector<std::string> order;
  const QueueCursor::Blocked none(state.queue().shapes().size());
  for (const auto& [priority, level] : state.queue().ready()) {
    QueueCursor cursor(state, level, {}, now_mono, options);
    while (const auto turn = cursor.Next(none)) {
      order.push_back(turn->job->id);
      cursor.Started(turn->job->needs->least_devices());
    }
  }
  return order;
}

}  // namespace p2::scheduler

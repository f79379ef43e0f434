#include <algorithm>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/scheduling_pass.h"

namespace p2::scheduler {
namespace {

std::string Devices(const JobShape& shape) {
  const std::string count = shape.least_devices < shape.devices
                                ? absl::StrCat(shape.least_devices, " to ", shape.devices)
                                : absl::StrCat(shape.devices);
  return absl::StrCat(count, shape.kind.empty() ? "" : " ", shape.kind, shape.devices == 1 ? " device" : " devices");
}

// ` (NVIDIA H100, p2 0.1.0: training.bitwise is required)`.
std::string NumericsOf(const JobRecord& job) {
  if (!job.needs->bitwise || job.numerics_version.empty()) return "";
  return absl::StrCat(" (", job.numerics_device, job.numerics_device.empty() ? "" : ", ", "p2 ", job.numerics_version,
                      ": training.bitwise is required)");
}

std::string RootsOf(const JobRecord& job) {
  std::set<std::string> names;
  const JobNeeds& needs = *job.needs;
  for (const std::string& name : {needs.checkpoint_root, needs.dataset_root}) names.insert(name);
  if (job.ReadsSource()) names.insert(needs.source.root);
  names.erase("");
  return absl::StrCat(names.size() == 1 ? "root " : "roots ", absl::StrJoin(names, " and "));
}

}  // namespace

StatusReason TooFewExist(const Suitable& suitable, int least) {
  return suitable.exist_but_for_roots < least ? StatusReason::kNotEnoughDevices : StatusReason::kRootNotVisible;
}

Blocked TooFewExist(const JobRecord& job, const JobShape& wants, const Suitable& suitable) {
  const StatusReason reason = TooFewExist(suitable, wants.least_devices);
  const std::string devices = Devices(wants);
  if (reason == StatusReason::kRootNotVisible)
    return {reason, absl::StrCat("needs ", devices, " on workers that see ", RootsOf(job))};
  return {reason, absl::StrCat("needs ", devices, NumericsOf(job), ", more than all ready workers have")};
}

Blocked Waiting(const JobShape& wants) {
  return {StatusReason::kWaitingForDevices,
          absl::StrCat("needs ", Devices(wants), "; too few of those that suit are free")};
}

Blocked OverQuota(const JobShape& wants, const Allowance& allowance) {
  return {StatusReason::kQuotaExceeded,
          absl::StrCat("needs ", Devices(wants), ", more than the quota of ", allowance.limit, " leaves")};
}

bool SchedulingPass::WasTold(ShapeId id, StatusReason reason) const {
  const PassMemo::Shape* known = shapes_[id].known;
  return known != nullptr && known->blocked != nullptr && known->blocked->reason == reason;
}

SchedulingPass::BlockedPtr SchedulingPass::WaitsForDevices(ShapeId id) const {
  if (WasTold(id, StatusReason::kWaitingForDevices)) return shapes_[id].known->blocked;
  return std::make_shared<const Blocked>(Waiting(state_.queue().Wants(id)));
}

SchedulingPass::BlockedPtr SchedulingPass::WaitsForWorkers(ShapeId id, const JobRecord& job,
                                                           const Suitable& suitable) const {
  const JobShape& wants = state_.queue().Wants(id);
  if (WasTold(id, TooFewExist(suitable, wants.least_devices))) return shapes_[id].known->blocked;
  return std::make_shared<const Blocked>(TooFewExist(job, wants, suitable));
}

void SchedulingPass::Explain() {
  const PassMemo* before = state_.pass_memo();
  const auto changed = [](const ShapeState& shape) {
    return shape.blocked != nullptr && (shape.known == nullptr || shape.known->blocked != shape.blocked);
  };
  if (!state_.quotas().empty()) FindOverQuota();
  for (const auto& [line, blocked] : reasons_) ExplainLine(*line, blocked);
  const bool any_over_quota = before != nullptr && !before->over_quota.empty();
  if (any_over_quota || std::any_of(shapes_.begin(), shapes_.end(), changed)) {
    for (const auto& [priority, projects] : state_.queue().ready()) {
      for (const auto& [project, owners] : projects) {
        for (const auto& [owner, lines] : owners) {
          // A line that a quota held back may have the reason of its shape now, which has not changed.
          const bool was_over_quota =
              any_over_quota && std::binary_search(before->over_quota.begin(), before->over_quota.end(),
                                                   std::tie(priority, project, owner));
          for (const auto& [shape, line] : lines) {
            if (!was_over_quota && !changed(shapes_[shape])) continue;
            const Blocked* blocked = BlockedOf(shape);
            if (blocked != nullptr && reasons_.count(&line) == 0) ExplainLine(line, *blocked);
          }
        }
      }
    }
  }
  for (const std::string& id : state_.queue().unexplained()) {
    const JobPtr& job = state_.FindJob(id);
    const auto line = reasons_.empty() ? reasons_.end() : reasons_.find(&state_.queue().LineOf(*job));
    if (line != reasons_.end()) {
      SetReason(job, line->second);
    } else if (const Blocked* blocked = BlockedOf(state_.queue().ShapeIdOf(*job)); blocked != nullptr) {
      SetReason(job, *blocked);
    }
  }
}

void SchedulingPass::FindOverQuota() {
  for (const auto& [priority, projects] : state_.queue().ready()) {
    for (const auto& [project, owners] : projects) {
      for (const auto& [owner, lines] : owners) {
        const Allowance allowance =
            AllowanceOf(state_, *state_.FindJob(lines.begin()->second.begin()->job), more_held_);
        if (!allowance.borrowed.has_value()) continue;
        for (const auto& [shape, line] : lines) {
          const Blocked* blocked = BlockedOf(shape);
          const JobShape& needs = state_.queue().Wants(shape);
          if (blocked != nullptr && blocked->reason == StatusReason::kWaitingForDevices &&
              *allowance.borrowed < needs.least_devices) {
            reasons_[&line] = OverQuota(needs, allowance);
          }
        }
      }
    }
  }
}

void SchedulingPass::ExplainLine(const QueueIndex::Line& line, const Blocked& blocked) {
  const auto told = std::find_if(line.begin(), line.end(), [&](const LinePlace& place) {
    return state_.queue().unexplained().count(place.job) == 0 &&
           draft_.Now(state_.FindJob(place.job))->state == JobState::kQueued;
  });
  if (told == line.end()) return;
  const JobRecord& first = *draft_.Now(state_.FindJob(told->job));
  if (first.reason == blocked.reason && first.message == blocked.message) return;
  for (const LinePlace& place : line) SetReason(state_.FindJob(place.job), blocked);
}

void SchedulingPass::SetReason(const JobPtr& base, const Blocked& blocked) {
  const JobRecord& job = *draft_.Now(base);
  if (job.state != JobState::kQueued || (job.reason == blocked.reason && job.message == blocked.message)) return;
  JobRecord& touched = draft_.TouchJob(base);
  touched.reason = blocked.reason;
  touched.message = blocked.message;
}

}  // namespace p2::scheduler

// World's people: what they ask of p2d, and ask again when no answer came.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/server/scheduler/simulation/world.h"

namespace p2::scheduler {
namespace {

constexpr int64_t kImages = 2000;

}  // namespace

std::string World::AnyJob(Draws& draws) const {
  if (live_.empty() || draws.Percent(3)) return absl::StrCat("job-", draws.Below(static_cast<int>(jobs_.size()) + 1));
  return absl::StrCat("job-", live_[draws.Below(static_cast<int>(live_.size()))]);
}

std::optional<RequestRecord> World::FindRequest(const std::string& request_id) {
  if (request_id.empty()) return std::nullopt;
  std::optional<RequestRecord> found = store_.FindRequest(request_id);
  for (const RequestRecord& request : requests_in_batch_) {
    if (request.request_id == request_id) found = request;
  }
  if (found.has_value()) ++counts_[kRepeated];
  return found;
}

void World::Command(Event command) {
  std::visit(
      [&](auto& it) {
        if constexpr (requires { it.info; }) it.info.previous = FindRequest(it.info.request_id);
        if constexpr (requires { it.needs; }) {
          it.id = absl::StrCat("job-", jobs_.size());
          jobs_.emplace_back();
        }
      },
      command);
  Advance(std::make_shared<const Event>(std::move(command)));
}

// As a client does that got no answer: the same request once more. Now and then a broken one draws no new request_id.
void World::Retry(Draws& draws) {
  Event command = *unanswered_.front();
  unanswered_.pop_front();
  if (draws.Percent(5)) {
    std::visit(
        [](auto& it) {
          if constexpr (requires { it.info; }) it.info.payload_sha256 += " changed";
        },
        command);
  }
  Command(std::move(command));
}

void World::Submit(Draws& draws) {
  if (!unanswered_.empty() && draws.Percent(50)) return Retry(draws);
  if (static_cast<int>(live_.size()) >= options_.jobs) return;
  CreateJob create;
  create.info.actor = "user:ann";
  if (draws.Percent(70)) {
    create.info.request_id = absl::StrCat("request-", ++requests_made_);
    create.info.payload_sha256 = absl::StrCat("payload-", requests_made_);
  }
  JobNeeds& needs = create.needs;
  needs.devices = 1 + draws.Below(5);
  needs.kind = draws.Percent(80) ? "cpu" : "";
  needs.checkpoint_root_id = draws.Percent(15) ? "root-2" : "root-1";
  needs.checkpoint_root = needs.checkpoint_root_id == "root-1" ? "data" : "scratch";
  needs.images_total = kImages;
  needs.restart_budget = draws.Below(4);
  needs.keep_last = 1 + draws.Below(4);
  if (draws.Percent(5)) needs.bitwise = true;
  if (draws.Percent(15) && !live_.empty()) {  // A fork of what another job has saved.
    const std::string parent = AnyJob(draws);
    const std::vector<CheckpointPtr> saved = store_.CheckpointsOf(parent);
    if (!saved.empty() && saved.back()->state == CheckpointState::kCommitted) {
      const CheckpointRecord& from = *saved.back();
      needs.source = {from.root, from.root_id, from.path, parent, from.id, from.images_seen};
    }
  }
  create.spec_sha256 = absl::StrCat("spec-", draws.Below(1000));
  create.spec_bytes = "spec";
  create.priority = draws.Below(3);
  create.owner = absl::StrCat("user-", draws.Below(5));
  create.paused = draws.Percent(5);
  if (!create.info.request_id.empty() && draws.Percent(10)) {
    unanswered_.push_back(std::make_shared<const Event>(create));
  }
  Command(std::move(create));
}

void World::Ask(Draws& draws) {
  CommandInfo info{"user:ann"};
  if (draws.Percent(20)) {
    info.request_id = absl::StrCat("request-", ++requests_made_);
    info.payload_sha256 = absl::StrCat("payload-", requests_made_);
  }
  const std::string node = nodes_[draws.Below(static_cast<int>(nodes_.size()))].id;
  const int what = draws.Below(100);
  Event command;
  if (what < 10) {
    command = StopJob{info, AnyJob(draws), ""};
  } else if (what < 20) {
    command = KillJob{info, AnyJob(draws), ""};
  } else if (what < 35) {
    command = PauseJob{info, AnyJob(draws), ""};
  } else if (what < 65) {
    command = ResumeJob{info, AnyJob(draws)};
  } else if (what < 70) {
    command = DeleteJob{info, AnyJob(draws)};
  } else if (what < 80) {
    command = CordonWorker{info, node, "", draws.Percent(50)};
  } else {
    command = UncordonWorker{info, node};
  }
  // Ended jobs are not kept for ever.
  if (finished_.size() > static_cast<size_t>(2 * options_.jobs)) {
    command = DeleteJob{info, absl::StrCat("job-", finished_[draws.Below(static_cast<int>(finished_.size()))])};
  }
  if (!info.request_id.empty() && draws.Percent(10)) unanswered_.push_back(std::make_shared<const Event>(command));
  Command(std::move(command));
}

}  // namespace p2::scheduler

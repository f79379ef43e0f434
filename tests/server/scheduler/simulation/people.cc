// World's people: what they ask of p2d, and ask again when no answer came.
#include <iterator>
#include <optional>

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

void World::DrawId(CreateJob& job) {
  job.id = absl::StrCat("job-", jobs_.size());
  jobs_.emplace_back();
}

void World::Command(Event command) {
  std::visit(
      [&](auto& it) {
        if constexpr (requires { it.info; }) it.info.previous = FindRequest(it.info.request_id);
        if constexpr (requires { it.needs; }) DrawId(it);
        if constexpr (requires { it.jobs[0].needs; }) {
          for (CreateJob& job : it.jobs) DrawId(job);
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

CreateJob World::NewJob(Draws& draws) {
  CreateJob create;
  create.info.actor = "user:ann";
  JobNeeds& needs = create.needs;
  needs.devices = 1 + draws.Below(5);
  if (draws.Percent(20)) needs.devices_min = 1 + draws.Below(needs.devices);
  needs.kind = draws.Percent(80) ? "cpu" : "";
  needs.checkpoint_root_id = draws.Percent(15) ? "root-2" : "root-1";
  needs.checkpoint_root = needs.checkpoint_root_id == "root-1" ? "data" : "scratch";
  needs.images_total = kImages;
  needs.restart_budget = draws.Below(4);
  needs.keep_last = 1 + draws.Below(4);
  if (draws.Percent(10)) needs.keep_every = 700;
  needs.preemptible = draws.Percent(80);
  needs.bitwise = draws.Percent(5);
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
  create.priority = draws.Percent(80) ? 0 : draws.Below(3);
  create.owner = absl::StrCat("user-", draws.Below(5));
  create.project = absl::StrCat("project-", draws.Below(2));
  if (draws.Percent(3)) create.queue = "odd";
  create.paused = draws.Percent(5);
  if (options_.calm) {
    needs.images_total = 200 * (1 + draws.Below(20));
    needs.source = {};
    create.owner = "user-0";  // All are of equal effective priority.
    create.project = "project-0";
    create.priority = 0;
    create.queue = "default";
    create.paused = false;
  }
  return create;
}

void World::Submit(Draws& draws) {
  if (!unanswered_.empty() && draws.Percent(50)) return Retry(draws);
  if (static_cast<int>(live_.size()) >= options_.jobs) return;
  CreateJob create = NewJob(draws);
  if (draws.Percent(5)) {
    CreateJobs several{create.info, {}};
    for (int i = draws.Below(3); i >= 0; --i) several.jobs.push_back(NewJob(draws));
    return Request(std::move(several), draws);
  }
  Request(std::move(create), draws);
}

Event World::AskOfJob(Draws& draws) {
  const CommandInfo info{"user:ann"};
  const std::string job = AnyJob(draws);
  switch (draws.Below(10)) {
    case 0:
      return StopJob{info, job, ""};
    case 1:
      return KillJob{info, job, ""};
    case 2:
      return PauseJob{info, job, ""};
    case 3:
    case 4:
      return ResumeJob{info, job, {}, {}, {}};
    case 5:
      return ResumeJob{info, job, 1 + draws.Below(4), 1, draws.Below(3)};
    case 6:
      return DeleteJob{info, job};
    case 7: {
      UpdateJob update{info, job, std::nullopt, {}, {}, std::nullopt};
      if (draws.Percent(60)) update.priority = draws.Below(3);
      if (draws.Percent(50)) update.set_labels["label"] = absl::StrCat(draws.Below(3));
      if (draws.Percent(50)) update.note = "a note";
      return update;
    }
    default:
      return MoveJob{info, job, static_cast<MoveJob::Where>(draws.Below(4)), AnyJob(draws)};
  }
}

Event World::AskOfJobs(Draws& draws) {
  // Stop, kill and delete are rarer than pause and resume.
  using Verb = ControlJobs::Verb;
  const Verb verbs[] = {Verb::kStop,   Verb::kKill,   Verb::kDelete, Verb::kPause,
                        Verb::kResume, Verb::kResume, Verb::kResume};
  ControlJobs control{{"user:ann"}, verbs[draws.Below(std::size(verbs))], {}, draws.Percent(70), ""};
  for (int i = draws.Below(3); i >= 0; --i) control.jobs.push_back(AnyJob(draws));
  return control;
}

Event World::AskOfShares(Draws& draws) {
  const CommandInfo info{"user:ann"};
  const std::string account = kAccounts[draws.Below(std::size(kAccounts))];
  switch (draws.Below(6)) {
    case 0:
      return SetQueue{info, {"odd", {{"half", "odd"}}, ""}, draws.Percent(50)};
    case 1:
      return DeleteQueue{info, "odd"};
    case 2:
      return SetWeight{info, absl::StrCat("project-", draws.Below(2), draws.Percent(50) ? "/user-1" : ""),
                       0.5 + draws.Below(4)};
    case 3: {
      QuotaRecord quota{account, draws.Below(options_.nodes), draws.Below(4) - 1, std::nullopt};
      if (draws.Percent(20)) quota.queued_jobs = options_.jobs / 2;
      return SetQuota{info, quota};
    }
    default:
      return SetQuota{info, {account, std::nullopt, 0, std::nullopt}};
  }
}

Event World::AskOfCheckpoints(Draws& draws) {
  const CommandInfo info{"user:ann"};
  const std::string job = AnyJob(draws);
  const std::vector<CheckpointPtr> saved = store_.CheckpointsOf(job);
  const std::string id = saved.empty() ? "none" : saved[draws.Below(static_cast<int>(saved.size()))]->id;
  switch (draws.Below(4)) {
    case 0:
      return PinCheckpoint{info, job, id, "", draws.Percent(40)};
    case 1:
      return CollectCheckpoints{info, job};
    default:
      return DeleteCheckpoint{info, job, id};
  }
}

Event World::AskOfNodes(Draws& draws) {
  const CommandInfo info{"user:ann"};
  const std::string& node = nodes_[draws.Below(static_cast<int>(nodes_.size()))].id;
  const WorkerPtr worker = state_.FindWorker(node);
  if ((worker != nullptr && worker->cordoned) || draws.Percent(20)) return UncordonWorker{info, node};
  if (draws.Percent(60)) return UncordonWorker{info, node};
  CordonWorker cordon{info, node, "", draws.Percent(50)};
  if (draws.Percent(30)) cordon.deadline = absl::Seconds(draws.Below(60));
  return cordon;
}

void World::Ask(Draws& draws) {
  // Ended jobs are not kept for ever.
  if (finished_.size() > static_cast<size_t>(2 * options_.jobs)) {
    const int number = finished_[draws.Below(static_cast<int>(finished_.size()))];
    return Request(DeleteJob{{"user:ann"}, absl::StrCat("job-", number)}, draws);
  }
  const int about = draws.Below(100);
  Request(about < 50   ? AskOfJob(draws)
          : about < 60 ? AskOfJobs(draws)
          : about < 70 ? AskOfShares(draws)
          : about < 80 ? AskOfCheckpoints(draws)
                       : AskOfNodes(draws),
          draws);
}

// Most clients draw a request_id; of those some get no answer.
void World::Request(Event command, Draws& draws) {
  if (draws.Percent(40)) {
    std::visit(
        [&](auto& it) {
          if constexpr (requires { it.info; }) {
            it.info.request_id = absl::StrCat("request-", ++requests_made_);
            it.info.payload_sha256 = absl::StrCat("payload-", requests_made_);
          }
        },
        command);
    if (draws.Percent(10)) unanswered_.push_back(std::make_shared<const Event>(command));
  }
  Command(std::move(command));
}

}  // namespace p2::scheduler

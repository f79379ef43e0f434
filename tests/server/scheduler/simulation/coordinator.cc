// World's p2d: batches, the store, death and recovery, as server/coordinator/loop.cc has them.
#include <algorithm>
#include <chrono>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/server/scheduler/simulation/describe.h"
#include "tests/server/scheduler/simulation/world.h"

namespace p2::scheduler {

namespace {

// A pass that always wants another would hang p2d.
constexpr int kMostPasses = 100;
// How often it is looked whether a pass is missing.
constexpr int64_t kCommitsAPass = 50;

}  // namespace

const absl::StatusOr<StepResult>& World::Advance(EventPtr event) {
  LoadFinished(*event);
  const bool timed = options_.time_one_in > 0 && ++untimed_ >= options_.time_one_in;
  std::chrono::steady_clock::time_point begin;
  if (timed) begin = std::chrono::steady_clock::now();
  absl::StatusOr<StepResult> result = Step(state_, *event, now_, options_.step);
  if (result.ok()) {
    for (const Mutation& mutation : result->mutations) state_.Apply(mutation);
  }
  if (timed) {
    core_time_ += absl::FromChrono(std::chrono::steady_clock::now() - begin);
    untimed_ = 0;
    ++timed_steps_;
  }
  if (!std::holds_alternative<SchedulePass>(*event)) ++events_;
  ++steps_;
  ++events_of_[event->index()];
  hash_.Add(*event, result, now_);
  if (transcribe_) {
    for (std::string& line : Describe(*event, result, now_)) transcript_.push_back(std::move(line));
  }
  if (!result.ok()) {
    ++counts_[kError];
  } else {
    if (!result->refused.empty()) ++counts_[kRefused];
    for (const Mutation& mutation : result->mutations) {
      if (const auto* put = std::get_if<PutRequest>(&mutation)) requests_in_batch_.push_back(put->request);
      if (const auto* erase = std::get_if<EraseJob>(&mutation)) erased_in_batch_.push_back(erase->job);
    }
  }
  batch_.push_back({std::move(event), std::move(result), now_});
  return batch_.back().result;
}

void World::Schedule() {
  static const auto* const pass = new EventPtr(std::make_shared<const Event>(SchedulePass{}));
  for (int passes = 0; state_.pass_due(); ++passes) {
    if (passes == kMostPasses) return checker_.Violate("pass", "scheduling passes come to no end");
    Advance(*pass);
  }
}

void World::Commit() {
  Schedule();
  for (const Taken& taken : batch_) {
    if (!taken.result.ok()) continue;
    for (const Mutation& mutation : taken.result->mutations) {
      store_.Apply(mutation);
      Note(mutation);
    }
  }
  for (const Taken& taken : batch_) checker_.Observe(*taken.event, taken.result, taken.now);
  for (const Taken& taken : batch_) {
    if (!taken.result.ok()) continue;
    for (const Action& action : taken.result->actions) Deliver(action);
  }
  state_.DropFinished();
  if (++commits_ % kCommitsAPass == 0) CheckThatPassesAreDone();
  unchecked_ += static_cast<int64_t>(batch_.size());
  batch_.clear();
  erased_in_batch_.clear();
  requests_in_batch_.clear();
  if (unchecked_ >= options_.whole_check_every) {
    checker_.CheckWhole(state_, store_);
    unchecked_ = 0;
  }
}

std::set<std::string> World::StartedByPasses() const {
  std::set<std::string> started;
  for (auto taken = batch_.rbegin(); taken != batch_.rend(); ++taken) {
    if (!std::holds_alternative<SchedulePass>(*taken->event)) break;
    for (const Mutation& mutation : taken->result->mutations) {
      const auto* put = std::get_if<PutJob>(&mutation);
      if (put != nullptr && put->job->state == JobState::kStarting) started.insert(put->job->id);
    }
  }
  return started;
}

void World::CheckThatPassesAreDone() {
  const std::set<std::string> started = StartedByPasses();
  const absl::StatusOr<StepResult> pass = Step(state_, SchedulePass{}, now_, options_.step);
  for (const Mutation& mutation : pass->mutations) {
    const auto* put = std::get_if<PutJob>(&mutation);
    if (put == nullptr) continue;
    const JobRecord& job = *put->job;
    const JobState before = state_.FindJob(job.id)->state;
    if (job.state == JobState::kPausing && before == JobState::kStarting && started.contains(job.id))
      checker_.Violate("pass", absl::StrCat("the next stops job ", job.id, ", which this one started: ", job.message));
    // Reservations are looked after at every tick.
    if (job.state == JobState::kStarting && before != JobState::kStarting && state_.reservations().empty())
      checker_.Violate("pass", absl::StrCat("one that nobody asked for starts job ", job.id, ": ", job.message));
  }
}

void World::Restart(Draws& draws) {
  Say(absl::StrCat("p2d dies with ", batch_.size(), " events that it has not written"));
  ++counts_[kLost];
  hash_.AddLost(batch_.size());
  for (Taken& taken : batch_) {
    std::visit(
        [&](const auto& it) {
          if constexpr (requires { it.info; }) {
            if (!it.info.request_id.empty()) unanswered_.push_back(taken.event);
          }
        },
        *taken.event);
  }
  batch_.clear();
  erased_in_batch_.clear();
  requests_in_batch_.clear();
  for (Node& node : nodes_) {
    node.session = 0;
    node.inbox.clear();
  }
  state_ = store_.Load();
  const absl::Duration away = absl::Milliseconds(100 + draws.Below(draws.Percent(10) ? 60'000 : 2000));
  now_.mono += away;
  now_.wall += away;
  Advance(std::make_shared<const Event>(Recovered{}));
  Commit();
}

void World::LoadFinished(absl::string_view job) {
  const int number = NumberOf(job);
  if (number < 0 || static_cast<size_t>(number) >= jobs_.size() || jobs_[number].where != Where::kFinished) return;
  if (std::find(erased_in_batch_.begin(), erased_in_batch_.end(), job) != erased_in_batch_.end()) return;
  if (state_.FindJob(job) != nullptr) return;
  state_.LoadFinished(store_.FindJob(job), store_.CheckpointsOf(job));
}

void World::LoadFinished(const Event& event) {
  std::visit(
      [&](const auto& it) {
        if constexpr (requires { it.job; }) LoadFinished(it.job);
        if constexpr (requires { it.needs; }) LoadFinished(it.needs.source.job);
        if constexpr (requires { it.verb; }) {
          for (const std::string& job : it.jobs) LoadFinished(job);
        }
        if constexpr (requires { it.running; }) {
          for (const RunningAttempt& running : it.running) LoadFinished(running.job);
        }
      },
      event);
}

void World::Note(const Mutation& mutation) {
  const auto leave = [this](std::vector<int>& list, int number) {
    const size_t position = jobs_[number].position;
    list[position] = list.back();
    jobs_[list[position]].position = position;
    list.pop_back();
  };
  const auto enter = [this](std::vector<int>& list, int number, Where where) {
    jobs_[number] = {where, list.size()};
    list.push_back(number);
  };
  if (const auto* put = std::get_if<PutJob>(&mutation)) {
    const int number = NumberOf(put->job->id);
    const bool ended = IsTerminal(put->job->state);
    if (jobs_[number].where == Where::kUnknown) enter(live_, number, Where::kLive);
    if (ended && jobs_[number].where == Where::kLive) {
      leave(live_, number);
      enter(finished_, number, Where::kFinished);
    }
  } else if (const auto* erase = std::get_if<EraseJob>(&mutation)) {
    const int number = NumberOf(erase->job);
    if (jobs_[number].where == Where::kFinished) leave(finished_, number);
    jobs_[number].where = Where::kErased;
  } else if (const auto* ack = std::get_if<SetSpoolAck>(&mutation)) {
    Node& node = nodes_[NumberOf(ack->worker)];
    while (!node.spool.empty() && node.spooled - node.spool.size() < ack->sequence) {
      node.taken = std::move(node.spool.front());
      node.spool.pop_front();
    }
  } else if (std::holds_alternative<PutCheckpoint>(mutation)) {
    ++counts_[kCheckpoint];
  }
}

void World::Deliver(const Action& action) {
  ++actions_of_[action.index()];
  const std::string& worker = std::visit([](const auto& it) -> const std::string& { return it.worker; }, action);
  Node& node = nodes_[NumberOf(worker)];
  if (node.session != 0) node.inbox.push_back(action);
}

int NumberOf(absl::string_view id) {
  const size_t digits = id.find_first_of("0123456789");
  int number = -1;
  if (digits == absl::string_view::npos || !absl::SimpleAtoi(id.substr(digits), &number)) return -1;
  return number;
}

}  // namespace p2::scheduler

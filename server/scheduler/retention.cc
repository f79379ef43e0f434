#include "server/scheduler/retention.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/decisions.h"

namespace p2::scheduler {
namespace {

constexpr int kLeastKept = 2;

// A live job that began from it, and goes back to it if its own turn out damaged; empty if there is none.
std::string ReaderOf(const Draft& draft, const CheckpointRecord& checkpoint) {
  for (const std::string& id : draft.base().ReadersOf(checkpoint.job)) {
    if (draft.Job(id)->needs->source.checkpoint == checkpoint.id) return id;
  }
  return "";
}

// The first at or after each multiple of `every` images.
std::set<std::string> EveryOnes(const std::vector<CheckpointPtr>& newest_first, int64_t every) {
  std::set<std::string> ids;
  int64_t next = every;
  for (auto it = newest_first.rbegin(); every > 0 && it != newest_first.rend(); ++it) {
    if ((*it)->images_seen < next) continue;
    ids.insert((*it)->id);
    next = ((*it)->images_seen / every + 1) * every;
  }
  return ids;
}

std::set<std::string> BestOnes(std::vector<CheckpointPtr> checkpoints, int count) {
  std::erase_if(checkpoints, [](const CheckpointPtr& it) { return !it->metric.has_value(); });
  std::stable_sort(checkpoints.begin(), checkpoints.end(),
                   [](const CheckpointPtr& a, const CheckpointPtr& b) { return *a->metric < *b->metric; });
  std::set<std::string> ids;
  for (size_t i = 0; i < checkpoints.size() && i < static_cast<size_t>(std::max(0, count)); ++i)
    ids.insert(checkpoints[i]->id);
  return ids;
}

}  // namespace

std::vector<RetentionVerdict> JudgeCheckpoints(const Draft& draft, absl::string_view id) {
  const JobRecord& job = *draft.Job(id);
  const JobNeeds& needs = *job.needs;
  const size_t newest = static_cast<size_t>(std::max(kLeastKept, needs.keep_last));
  const std::vector<CheckpointPtr> good = ResumeCandidates(draft, id);
  const std::set<std::string> every = EveryOnes(good, needs.keep_every), best = BestOnes(good, needs.keep_best);
  const Attempt* attempt = job.live_attempt();
  std::vector<RetentionVerdict> verdicts;
  for (size_t i = 0; i < good.size(); ++i) {
    const CheckpointRecord& it = *good[i];
    std::vector<std::string> why;
    if (i < newest) why.push_back(absl::StrCat("newest ", newest));
    if (every.count(it.id) > 0) why.push_back(absl::StrCat("every ", needs.keep_every, " images"));
    if (best.count(it.id) > 0) why.push_back(absl::StrCat("best ", needs.keep_best, " by ", needs.keep_best_metric));
    if (it.pinned) why.push_back(absl::StrCat("pinned", it.pin_note.empty() ? "" : ": ", it.pin_note));
    const std::string reader = ReaderOf(draft, it);
    if (!reader.empty()) why.push_back(absl::StrCat("job ", reader, " began from it"));
    const bool resumable = attempt != nullptr &&
                           std::count(attempt->resume_candidates.begin(), attempt->resume_candidates.end(), it.id) > 0;
    if (resumable) why.push_back(absl::StrCat("attempt ", attempt->number, " may resume from it"));
    const bool keep = !why.empty();
    verdicts.push_back({good[i], keep, resumable || !reader.empty(),
                        keep ? absl::StrJoin(why, ", ") : absl::StrCat("older than the newest ", newest)});
  }
  return verdicts;
}

std::vector<RetentionVerdict> JudgeCheckpoints(const ClusterState& state, absl::string_view id) {
  if (state.FindJob(id) == nullptr) return {};
  const StepOptions options;
  return JudgeCheckpoints(Draft(state, Moment{}, options), id);
}

}  // namespace p2::scheduler

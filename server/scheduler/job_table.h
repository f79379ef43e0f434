// Jobs by ID. Their records know their IDs: none is kept beside them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// Thread-compatible; a value. Has no order of its own: what decides, or is shown, by order asks for Sorted().
class JobTable {
 public:
  // Null if there is none. Valid until the next change.
  const JobPtr& Find(absl::string_view id) const {
    static const JobPtr* const none = new JobPtr;
    const auto it = jobs_.find(id);
    return it == jobs_.end() ? *none : it->job;
  }
  // Enters the record, in the place of an earlier one of the job.
  void Put(JobPtr job) {
    const auto [it, added] = jobs_.insert({job});
    if (!added) it->job = std::move(job);
  }
  void Erase(absl::string_view id) { jobs_.erase(id); }
  void Clear() { jobs_.clear(); }

  bool empty() const { return jobs_.empty(); }
  size_t size() const { return jobs_.size(); }
  template <typename Visit>
  void ForEach(const Visit& visit) const {  // In no order.
    for (const Entry& entry : jobs_) visit(entry.job);
  }
  std::vector<JobPtr> All() const {  // In no order.
    std::vector<JobPtr> all;
    all.reserve(jobs_.size());
    for (const Entry& entry : jobs_) all.push_back(entry.job);
    return all;
  }
  std::vector<JobPtr> Sorted() const {  // By ID.
    std::vector<JobPtr> sorted = All();
    std::sort(sorted.begin(), sorted.end(), [](const JobPtr& a, const JobPtr& b) { return a->id < b->id; });
    return sorted;
  }

 private:
  struct Entry {
    mutable JobPtr job;  // Another record of the same job has the same hash.
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(absl::string_view id) const { return absl::Hash<absl::string_view>()(id); }
    size_t operator()(const Entry& entry) const { return (*this)(entry.job->id); }
  };
  struct Same {
    using is_transparent = void;
    static absl::string_view IdOf(absl::string_view id) { return id; }
    static absl::string_view IdOf(const Entry& entry) { return entry.job->id; }
    bool operator()(const auto& a, const auto& b) const { return IdOf(a) == IdOf(b); }
  };
  absl::flat_hash_set<Entry, Hash, Same> jobs_;
};

}  // namespace p2::scheduler

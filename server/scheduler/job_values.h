// Makes one of the equal needs and details of many jobs: a researcher's jobs are mostly alike.
#pragma once

#include <cstddef>

#include "absl/container/flat_hash_set.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// Keeps what some record still holds, and now and then forgets the rest. Thread-compatible; a value.
class JobValues {
 public:
  // Gives the record the values of those before it, where equal, else remembers its own.
  void Unify(JobRecord& job);
  // The same, but remembers nothing. True if both were known.
  bool Lend(JobRecord& job) const;
  void Remember(const JobRecord& job);

 private:
  // By what tells most values apart; equality looks at all of it.
  struct Hash {
    size_t operator()(const Shared<JobNeeds>& needs) const;
    size_t operator()(const Shared<JobDetails>& details) const;
  };
  template <typename T>
  struct Pool {
    absl::flat_hash_set<Shared<T>, Hash, std::equal_to<>> values;
    size_t sweep_at = 64;

    void Remember(const Shared<T>& value);
  };

  Pool<JobNeeds> needs_;
  Pool<JobDetails> details_;
};

}  // namespace p2::scheduler

// Which metric rows of a job a later attempt has left behind.
#pragma once

#include <cstdint>
#include <map>

#include "absl/status/statusor.h"
#include "server/store/database.h"
#include "server/store/keys.h"

namespace p2::store {

class Supersedes {
 public:
  // `of_job`: kSupersedes and the job. DATA_LOSS if a record is damaged.
  static absl::StatusOr<Supersedes> Read(const Database::View& view, const Key& of_job);

  // Rows of `attempt` above this position are superseded: the lowest from which a later attempt started.
  int64_t LastGood(int attempt) const;

 private:
  std::map<int, int64_t> starts_;  // By attempt that started anew: where.
};

}  // namespace p2::store

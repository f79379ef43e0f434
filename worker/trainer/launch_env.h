// Where a rank runs, by the environment: p2-worker's variables, torchrun's, or Slurm's.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

using GetEnv = std::function<std::optional<std::string>(const char* name)>;

// Fills rank, ranks, rendezvous, device and data interface of `place`. RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
// MASTER_ADDR and MASTER_PORT come first; SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID and SLURM_NTASKS_PER_NODE where
// there is no RANK; without both this is the only rank. P2_DEVICE, P2_DATA_INTERFACE, P2_STORE_FD are p2-worker's. What
// is not set stays. INVALID_ARGUMENT naming the variable.
absl::Status PlaceFromEnvironment(const GetEnv& get, Place* place);

// Of a descriptor variable: -1 if it is not set.
absl::Status FdFromEnvironment(const GetEnv& get, const char* name, int* fd);

}  // namespace p2::trainer

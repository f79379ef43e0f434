#include "worker/trainer/launch_env.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::trainer {
namespace {

// The number in the first of `names` that is set; *value stays if none is.
absl::Status Number(const GetEnv& get, std::initializer_list<const char*> names, int minimum, int* value) {
  for (const char* name : names) {
    const std::optional<std::string> text = get(name);
    if (!text) continue;
    if (!absl::SimpleAtoi(*text, value) || *value < minimum) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is \"", *text, "\"; must be a whole number from ", minimum, " on"));
    }
    break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PlaceFromEnvironment(const GetEnv& get, Place* place) {
  int local_rank = 0;
  P2_RETURN_IF_ERROR(Number(get, {"RANK", "SLURM_PROCID"}, 0, &place->rank));
  P2_RETURN_IF_ERROR(Number(get, {"WORLD_SIZE", "SLURM_NTASKS"}, 1, &place->world_size));
  P2_RETURN_IF_ERROR(Number(get, {"LOCAL_RANK", "SLURM_LOCALID"}, 0, &local_rank));
  P2_RETURN_IF_ERROR(Number(get, {"LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"}, 1, &place->local_world_size));
  P2_RETURN_IF_ERROR(Number(get, {"MASTER_PORT"}, 1, &place->master_port));
  if (place->rank >= place->world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("RANK is ", place->rank, ", WORLD_SIZE ", place->world_size, "; ranks count from 0"));
  }
  if (place->world_size > 1 && place->master_port == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "WORLD_SIZE is ", place->world_size,
        " but MASTER_PORT is not set: name the address and a free port of rank 0 in MASTER_ADDR and MASTER_PORT"));
  }
  place->master_address = get("MASTER_ADDR").value_or(place->master_address);
  place->data_interface = get("P2_DATA_INTERFACE").value_or(place->data_interface);
  if (const auto device = get("P2_DEVICE")) place->device = *device;
  if (place->device == "cuda") place->device = absl::StrCat("cuda:", local_rank);
  int store_fd = -1;
  P2_RETURN_IF_ERROR(FdFromEnvironment(get, "P2_STORE_FD", &store_fd));
  if (store_fd >= 0) place->store_fd = store_fd;
  return absl::OkStatus();
}

absl::Status FdFromEnvironment(const GetEnv& get, const char* name, int* fd) {
  *fd = -1;
  return Number(get, {name}, 0, fd);
}

}  // namespace p2::trainer

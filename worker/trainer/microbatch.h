// How many samples a rank takes in one forward pass.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/dist/process_group.h"
#include "worker/trainer/run_state.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Of the fullest rank of a step. REQUIRES: `fast`.
int64_t LargestShare(const TrainSpec& spec, int world_size);

// training.microbatch: auto. The largest microbatch that fits on every rank, from 1 to LargestShare; the same on all
// (a collective). A CPU rank asks the estimate how many samples fit into its part of `available_bytes` (null: as many
// as it likes), with room for the copy that a checkpoint is made from; a GPU tries, and halves until it fits. Gradients
// are zero afterwards. RESOURCE_EXHAUSTED if not even one sample fits a GPU.
absl::StatusOr<int64_t> FittingMicrobatch(const TrainOptions& options, RunState& state, dist::ProcessGroup& group,
                                          std::optional<int64_t> available_bytes);

// What the numerics fingerprint says of a microbatch that running out of memory halved: "2, halved from 4". `from`:
// what the attempt began with; 0: the whole share.
std::string HalvedText(int64_t microbatch, int64_t from);

// What a checkpoint's fingerprint `before` keeps of the microbatch `now` (0: the whole share), as its text; a run goes
// on with what it recorded rather than change its bits:
//   with `fitting` (auto) any smaller number; else the half of `now` that running out of memory made of it.
// nullopt where it says nothing of that kind, or of another number of ranks.
std::optional<std::string> RecordedMicrobatch(const std::map<std::string, std::string>& before,
                                              const std::map<std::string, std::string>& now, bool fitting);

// The leading number of such a text.
int64_t MicrobatchOf(const std::string& text);

// An error of a rank, and where it is out of memory what may help. `halved_to`: null where it was not halved before.
absl::Status WithMemoryAdvice(const absl::Status& failed, const TrainSpec& spec, std::optional<int64_t> halved_to);

}  // namespace p2::trainer

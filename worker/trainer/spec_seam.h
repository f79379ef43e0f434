// The one seam between protobuf and the trainer: specs and launch files in, events out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/trainer/events.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Options from an agent's launch file (p2.trainer.v1.Launch), without `place`, but for its nonce and threads.
// NOT_FOUND or INVALID_ARGUMENT naming the file.
absl::StatusOr<TrainOptions> OptionsFromLaunchFile(const std::string& path);

// What `--standalone` resolves: the name of a preset, or the path of a YAML spec file; `assignments` as
// "training.batch=16". `warnings` gets what is allowed but unusual. INVALID_ARGUMENT or NOT_FOUND as spec::Resolve.
absl::StatusOr<TrainOptions> OptionsFromSpec(const std::string& preset_or_file,
                                             absl::Span<const std::string> assignments,
                                             std::vector<std::string>* warnings);

// The spec.json of a checkpoint. DATA_LOSS if it is no spec; FAILED_PRECONDITION if it says something that this p2 does
// not know.
absl::StatusOr<TrainSpec> SpecFromJson(absl::string_view json);

// A number of images as specs write it: "16", "500k", "4.4M". INVALID_ARGUMENT naming the text.
absl::StatusOr<int64_t> ImagesFromText(absl::string_view text);

// Whether `bytes`, all that the command pipe has brought so far, hold a Stop.
bool HoldsStop(absl::string_view bytes);

// One TrainerEvent in protobuf's delimited form.
std::string EncodeEvent(uint64_t sequence, int64_t wall_time_ns, const Event& event);

}  // namespace p2::trainer

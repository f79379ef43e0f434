// The rules that a resolved spec must meet before anything runs.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/spec/noise_schedule.h"
#include "common/spec/unet_shape.h"
#include "common/spec/violation.h"
#include "p2/v1/training_spec.pb.h"

namespace p2::spec {

// Every rule of training_spec.proto that `spec` breaks, in the order of its fields; empty if it may run. `spec` is
// taken as resolved: a field that is not set is judged by its proto default.
std::vector<FieldViolation> ValidateSpec(const p2::v1::TrainingSpec& spec, bool require_dataset = true);

// What is allowed but unusual, each with its value and consequence. REQUIRES: a valid spec.
std::vector<std::string> SpecWarnings(const p2::v1::TrainingSpec& spec);

// The U-Net that the spec asks for. channel_mult stays empty if the spec leaves it so.
UnetOptions ToUnetOptions(const p2::v1::TrainingSpec& spec);

// INVALID_ARGUMENT as MakeNoiseSchedule.
absl::StatusOr<NoiseSchedule> ToNoiseSchedule(const p2::v1::DiffusionSpec& diffusion);

// The batch of every run in the paper.
inline constexpr int kPaperBatch = 8;

// training.learning_rate as learning_rate_rule adapts it to the batch.
double LearningRate(const p2::v1::TrainingOptions& training);

// The per-step rate of an average: its rate, or 2^(-batch / half_life_images). REQUIRES: it has one of them.
double EmaRate(const p2::v1::EmaSpec& ema, int batch);

// Averages with sigma_rel: those that snapshots are taken of.
int CountPowerEmas(const p2::v1::TrainingSpec& spec);

// Side in pixels that the dataset has: model.image_size; with data.random_crop at least this. REQUIRES: a valid spec.
int LeastDatasetResolution(const p2::v1::TrainingSpec& spec);

}  // namespace p2::spec

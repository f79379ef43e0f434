// What the verbs that draw images share: their flags, and the model, process and device that follow from them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/image/image.h"
#include "common/spec/respacing.h"
#include "worker/diffusion/gaussian_diffusion.h"
#include "worker/model/unet.h"
#include "worker/sampling/image_sampler.h"
#include "worker/trainer/train_options.h"

namespace CLI {
class App;
}

namespace p2::trainer {

struct SamplingFlags {
  std::string checkpoint;
  std::string out;
  std::string steps;  // Respacing; empty: every timestep.
  std::optional<double> ddim_eta;
  std::string ema;  // Empty: the first one.
  bool raw = false;
  uint64_t seed = 0;
  uint64_t first = 0;
  int64_t count = 0;
  int64_t batch = 0;
  std::string device;
  int threads = 0;
  bool no_clip = false;
};

// All but `count`, whose meaning is the verb's own.
void AddSamplingFlags(CLI::App& verb, SamplingFlags* flags);

// A trained model, ready to draw. Thread-compatible.
struct SamplingSetup {
  TrainSpec spec;
  Place place;
  std::shared_ptr<model::Unet> unet;
  spec::SpacedSchedule spaced;
  std::unique_ptr<diffusion::GaussianDiffusion> diffusion;
  sampling::ImageSamplerOptions sampler;
  // What the images depend on (sample.json).
  std::map<std::string, std::string> run;
};

// Reads and verifies the checkpoint; sets torch up. INVALID_ARGUMENT for a flag's value; the checkpoint's own errors.
// May throw as torch does.
absl::StatusOr<SamplingSetup> SetUpSampling(const SamplingFlags& flags);

// An image of a chain's end, as a PNG has it, or `truncated` as the published .npz has it. x0 (C, H, W). DATA_LOSS if
// it is not finite.
absl::StatusOr<image::Image> ToImage(const torch::Tensor& x0, bool truncated);

// Runs `draw` behind the torch seam; says what went wrong. Exit code: 0 done, 1 error, 2 a flag's value, 40 stopped
// (`draw` gave false).
int RunDrawing(const std::function<absl::StatusOr<bool>()>& draw);

}  // namespace p2::trainer

// Draws images of a checkpoint into a directory: the verb `sample` and the task of that name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/sampling/image_sampler.h"
#include "worker/sampling/sample_output.h"
#include "worker/trainer/sampling_progress.h"
#include "worker/trainer/sampling_setup.h"

namespace p2::trainer {

struct SampleOptions : SamplingFlags {
  std::string format = "png";  // "png", "npz", "grid".
};

// Where a caller looks in. Called by several threads; may be null, but for `stopping`.
struct SampleHooks {
  std::function<bool()> stopping;
  // The model is loaded; of this rank's `share` of `total` images `kept` were there.
  std::function<void(const SamplingSetup& setup, int64_t kept, int64_t share, int64_t total)> on_ready;
  std::function<void()> on_step;      // Also for each image that is put into the whole.
  std::function<void()> on_assemble;  // All of the share is drawn; the whole comes next.
  std::function<void()> on_image;
};

struct SampleResult {
  bool done = false;    // False: stopped; the same options go on.
  std::string summary;  // "12 images in 3.1s, 3.871 images/s"
  int64_t kept = 0;     // Of this rank's share, there before.
  // The file that holds all images, or the directory of them; empty while other ranks still draw.
  std::string whole;
};

// This rank's share of the images that are not there yet; ranks share nothing but the directory. INVALID_ARGUMENT for a
// value, FAILED_PRECONDITION if the directory belongs to another run, the checkpoint's own errors. May throw as torch
// does.
absl::StatusOr<SampleResult> DrawSamples(const SampleOptions& options, const SampleHooks& hooks);

// What became of it, for people: "12 images in 3.1s, 3.871 images/s; 4 were there; out/grid.png".
std::string Describe(const SampleResult& result);

// What a draw into `output` does with each image. All must outlive it.
sampling::DrawCallbacks WriteInto(const sampling::SampleOutput& output, bool truncated, SamplingProgress& progress,
                                  const SampleHooks& hooks);

}  // namespace p2::trainer

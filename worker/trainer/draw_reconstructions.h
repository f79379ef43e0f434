// Noises images to chosen SNRs and denoises them again, into a directory: the verb `reconstruct`, and the task `sample`
// with `reconstruct`.
//
//   DIR/t0299/000041.png   image 41 as it came back from timestep 299 of the unspaced process
//   DIR/grid.png           a row for each image: itself, then the timesteps in their order
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/trainer/draw_samples.h"

namespace p2::trainer {

// With `count` 0: all files, 8 of a dataset. Image `first` + i is record `first` + i of a dataset, or file i.
struct ReconstructOptions : SamplingFlags {
  std::vector<std::string> images;  // REQUIRED. A prepared dataset's directory, or PNG and JPEG files.
  // One of them is REQUIRED; as p2.v1.Reconstruction.
  std::vector<int> timesteps;
  std::vector<double> snrs;
};

// As DrawSamples; `share` is of images at all timesteps. Also the errors of reading the images; FAILED_PRECONDITION if
// the dataset does not fit the model.
absl::StatusOr<SampleResult> DrawReconstructions(const ReconstructOptions& options, const SampleHooks& hooks);

}  // namespace p2::trainer

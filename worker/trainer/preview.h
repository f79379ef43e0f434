// Sample grids through a run: always from the same noise (stream `preview`), so the pictures of a job can be compared.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/diffusion/gaussian_diffusion.h"
#include "worker/dist/process_group.h"
#include "worker/model/unet.h"
#include "worker/trainer/run_state.h"

namespace p2::trainer {

// Draws from the first EMA (the weights themselves if there is none), without a copy of it and without touching
// anything that training reads. Thread-compatible. May throw as torch does.
class Preview {
 public:
  // `state` and `group` must outlive it. INVALID_ARGUMENT-worthy specs throw: Validate has seen them.
  Preview(const TrainSpec& spec, RunState& state, dist::ProcessGroup& group);

  // A collective: each rank draws its share of the images; rank 0 writes the grid to `path`. False if `stopping` cut it
  // short on some rank. `tick` is called after each sampler step. The status of writing is rank 0's alone.
  absl::StatusOr<bool> Draw(const std::string& path, const std::function<void()>& tick,
                            const std::function<bool()>& stopping);

 private:
  const TrainSpec spec_;
  dist::ProcessGroup& group_;
  const std::shared_ptr<model::Unet> unet_;  // Its parameters are views of the average.
  const diffusion::GaussianDiffusion diffusion_;
};

// `samples-000012800.png`
std::string PreviewFileName(int64_t images_seen);

}  // namespace p2::trainer

#include "common/spec/estimate.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/spec/power_ema.h"
#include "common/spec/unet_shape.h"
#include "common/spec/validate.h"
#include "common/status_macros.h"

namespace p2::spec {

std::vector<int> ShareOfBatch(int batch, int ranks) {
  std::vector<int> share(ranks);
  for (int64_t r = 0; r < ranks; ++r) {
    share[r] = static_cast<int>((r + 1) * batch / ranks - r * batch / ranks);
  }
  return share;
}

absl::StatusOr<p2::v1::ResourceEstimate> EstimateResources(const p2::v1::TrainingSpec& spec) {
  const int batch = spec.training().batch();
  const int devices = spec.resources().devices();
  if (batch < 1 || devices < 1 || devices > batch) {
    return absl::InvalidArgumentError(absl::StrCat("a batch of ", batch, " cannot be shared by ", devices, " devices"));
  }
  const UnetOptions unet = ToUnetOptions(spec);
  P2_ASSIGN_OR_RETURN(const std::vector<ParameterShape> parameters, WalkUnet(unet));
  const Precision precision =
      spec.training().precision() == p2::v1::TrainingOptions::BF16 ? Precision::kBf16 : Precision::kFp32;
  P2_ASSIGN_OR_RETURN(const TrainingMemory memory, EstimateTrainingMemory(unet, spec.ema_size(), precision));

  p2::v1::ResourceEstimate estimate;
  estimate.set_parameters(CountParameters(parameters));
  int most = 0;
  for (const int share : ShareOfBatch(batch, devices)) {
    estimate.add_images_per_device(share);
    most = std::max(most, share);
  }
  const int microbatch = spec.training().microbatch();
  estimate.set_memory_bytes(memory.Total(microbatch > 0 ? std::min(microbatch, most) : most));
  estimate.set_checkpoint_bytes(memory.parameters + memory.optimizer + memory.emas);
  const int64_t images = spec.training().images();
  const p2::v1::EmaSnapshotSpec& snapshots = spec.ema_snapshots();
  if (snapshots.every_images() > 0 && images >= 1) {
    estimate.set_ema_snapshot_bytes(SnapshotsAtEnd(images, snapshots.every_images(), snapshots.most()) *
                                    CountPowerEmas(spec) * memory.parameters);
  }
  estimate.set_steps(images / batch + (images % batch != 0 ? 1 : 0));
  return estimate;
}

}  // namespace p2::spec

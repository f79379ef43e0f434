// The state that training changes, and its way into and out of checkpoints.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/dist/process_group.h"
#include "worker/model/unet.h"
#include "worker/optim/adamw.h"
#include "worker/optim/ema.h"
#include "worker/optim/flat_parameters.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Thread-compatible. May throw as torch does.
class RunState {
 public:
  // The model of `spec` on `device`, initialized by its seed; nothing trained yet.
  RunState(const TrainSpec& spec, at::Device device);

  // Back to where the constructor was.
  void Initialize();

  model::Unet& unet() { return *unet_; }
  optim::FlatParameters& flat() { return flat_; }
  optim::AdamW& adamw() { return adamw_; }
  std::vector<optim::Ema>& emas() { return emas_; }
  checkpoint::TrainState& position() { return position_; }
  const checkpoint::TrainState& position() const { return position_; }

  // Before a step's first forward pass: what it computes with follows the parameters (bf16 alone has a copy).
  void RefreshComputeWeights();
  // Adds ema_distance_<profile> = |ema - w| / |w| of each average.
  void AddEmaDistances(std::map<std::string, double>* values) const;

  // A copy; shares nothing with what training changes next. On a GPU it is taken there, the host waits for nothing, and
  // the values come over when it `arrive`s, which this must outlive; where the GPU has no room, they come at once. The
  // caller fills in epoch, attempt and spec.
  checkpoint::Snapshot TakeSnapshot() const;
  // The same of the power-function averages alone.
  checkpoint::Snapshot TakePowerEmas() const;
  // Loads parameters, optimizer, averages and position. FAILED_PRECONDITION if another model or other averages were
  // saved.
  absl::Status Load(const checkpoint::Checkpoint& checkpoint);
  // Parameters and averages of a new run from `source` (source_weights.h); the rest stays.
  absl::Status LoadWeights(const std::string& source);
  // Gives rank 0's state to all ranks.
  absl::Status Broadcast(dist::ProcessGroup& group);

 private:
  using View = checkpoint::MutableTensorView;
  // Each tensor file with its flat buffers and the prefix of the names in it.
  struct Buffer {
    std::string path;
    std::string prefix;
    at::Tensor flat;
  };
  std::vector<Buffer> Buffers() const;
  checkpoint::Snapshot Copy(const std::vector<Buffer>& buffers) const;
  // Makes `snapshot` of the values of `buffers` and, last, the count of updates, as they lie on the host.
  void Lay(const std::vector<Buffer>& buffers, std::vector<at::Tensor> values, checkpoint::Snapshot* snapshot) const;
  std::vector<View> Views(const at::Tensor& flat, const std::string& prefix) const;

  const TrainSpec spec_;
  const std::shared_ptr<model::Unet> unet_;
  optim::FlatParameters flat_;
  at::Tensor bf16_params_;  // Laid out as flat_.params(); undefined in fp32.
  optim::AdamW adamw_;
  std::vector<optim::Ema> emas_;
  checkpoint::TrainState position_;
};

}  // namespace p2::trainer

// The state that training changes, and its way into and out of checkpoints.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/dist/process_group.h"
#include "worker/model/unet.h"
#include "worker/optim/adamw.h"
#include "worker/optim/ema.h"
#include "worker/optim/flat_parameters.h"
#include "worker/trainer/host_copy.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Thread-compatible. May throw as torch does.
class RunState {
 public:
  // The model of `spec` on `device`, initialized by its seed; nothing trained yet. `on_copy`: tests; called by a thread
  // that is about to copy the state.
  RunState(const TrainSpec& spec, at::Device device, std::function<void()> on_copy = nullptr);

  // Back to where the constructor was.
  void Initialize();

  model::Unet& unet() { return *unet_; }
  optim::FlatParameters& flat() { return flat_; }
  const optim::AdamW& adamw() const { return adamw_; }
  const std::vector<optim::Ema>& emas() const { return emas_; }
  checkpoint::TrainState& position() { return position_; }
  const checkpoint::TrainState& position() const { return position_; }

  // Before a step's first forward pass: what it computes with follows the parameters (bf16 alone has a copy).
  void RefreshComputeWeights();
  // What an update changes, beside the position.
  struct Updatable {
    optim::AdamW& adamw;
    std::vector<optim::Ema>& emas;
  };
  // For one update. Waits until no copy reads the state any more.
  Updatable ToUpdate();
  // How long ToUpdate waited since the last call.
  absl::Duration TakeCopyWait() { return std::exchange(copy_wait_, absl::ZeroDuration()); }
  // Adds ema_distance_<profile> = |ema - w| / |w| of each average.
  void AddEmaDistances(std::map<std::string, double>* values) const;

  // A copy of the state as it is now. On the host it is made in a thread, beside whatever only reads the state: what
  // changes it next (ToUpdate, Initialize, Load, LoadWeights, Broadcast) waits for that. On a GPU it is taken there, in
  // order, and the host waits for nothing; where the GPU has no room, the values come over at once. Else they are there
  // when it `arrive`s, which this must outlive. The caller fills in epoch, attempt and spec.
  checkpoint::Snapshot TakeSnapshot();
  // The same of the power-function averages alone.
  checkpoint::Snapshot TakePowerEmas();
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
  checkpoint::Snapshot Copy(const std::vector<Buffer>& buffers);
  // Until no thread copies what is about to change.
  void WaitForCopies();
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
  const std::function<void()> on_copy_;
  std::vector<std::shared_ptr<const HostCopy>> copies_;  // Some may be done.
  absl::Duration copy_wait_;
};

}  // namespace p2::trainer

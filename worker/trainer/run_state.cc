#include "worker/trainer/run_state.h"

#include <ATen/ATen.h>
#include <torch/utils.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/optim/blocked_norm.h"
#include "worker/trainer/device_copy.h"
#include "worker/trainer/source_weights.h"
#include "worker/trainer/torch_status.h"

namespace p2::trainer {
namespace {

std::shared_ptr<model::Unet> MakeUnet(const TrainSpec& spec) {
  auto unet = std::make_shared<model::Unet>(spec.model);
  model::InitializeParameters(*unet, spec.seed);
  return unet;
}

optim::AdamWOptions Options(const TrainSpec& spec) {
  return {spec.learning_rate, spec.beta1, spec.beta2, spec.epsilon, spec.weight_decay};
}

absl::Span<float> Values(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

}  // namespace

RunState::RunState(const TrainSpec& spec, at::Device device, std::function<void()> on_copy)
    : spec_(spec),
      unet_(MakeUnet(spec)),
      flat_(*unet_, device),
      adamw_(Options(spec), flat_.params()),
      on_copy_(std::move(on_copy)) {
  for (const EmaProfile& ema : spec.emas) {
    emas_.emplace_back(optim::EmaOptions{ema.name, ema.rate, ema.warmup, ema.gamma}, flat_.params());
  }
  position_.seed = spec.seed;
  position_.batch = spec.batch;
  if (spec.precision != spec::Precision::kBf16) return;
  bf16_params_ = at::zeros_like(flat_.params(), at::kBFloat16);
  std::vector<at::Tensor> copies;
  for (const optim::FlatView& view : flat_.layout().views()) {
    copies.push_back(flat_.layout().View(bf16_params_, view));
  }
  unet_->ComputeWith(copies);
}

void RunState::RefreshComputeWeights() {
  const torch::NoGradGuard no_grad;
  if (bf16_params_.defined()) bf16_params_.copy_(flat_.params());
}

RunState::Updatable RunState::ToUpdate() {
  const absl::Time begin = Clock::Real().Monotonic();
  WaitForCopies();
  copy_wait_ += Clock::Real().Monotonic() - begin;
  return {adamw_, emas_};
}

void RunState::WaitForCopies() {
  for (const auto& copy : copies_) copy->Wait();
  copies_.clear();
}

void RunState::Initialize() {
  WaitForCopies();
  const torch::NoGradGuard no_grad;
  const auto fresh = MakeUnet(spec_);
  const auto parameters = fresh->named_parameters();
  for (size_t i = 0; i < flat_.layout().views().size(); ++i) {
    flat_.layout().View(flat_.params(), flat_.layout().views()[i]).copy_(parameters[i].value());
  }
  for (optim::Ema& ema : emas_) ema.value().copy_(flat_.params());
  adamw_.m().zero_();
  adamw_.v().zero_();
  adamw_.updates().zero_();
  position_.images_seen = position_.step = position_.updates = 0;
  position_.metric_sums.clear();
}

void RunState::AddEmaDistances(std::map<std::string, double>* values) const {
  const torch::NoGradGuard no_grad;
  for (const optim::Ema& ema : emas_) {
    const double distance = optim::RelativeDistance(ema.value(), flat_.params()).item<double>();
    if (std::isfinite(distance)) (*values)[absl::StrCat("ema_distance_", ema.options().name)] = distance;
  }
}

std::vector<RunState::Buffer> RunState::Buffers() const {
  std::vector<Buffer> buffers{{checkpoint::kModelFile, "", flat_.params()}};
  for (const optim::Ema& ema : emas_) buffers.push_back({checkpoint::EmaFile(ema.options().name), "", ema.value()});
  buffers.push_back({checkpoint::kOptimizerFile, "exp_avg.", adamw_.m()});
  buffers.push_back({checkpoint::kOptimizerFile, "exp_avg_sq.", adamw_.v()});
  return buffers;
}

std::vector<RunState::View> RunState::Views(const at::Tensor& flat, const std::string& prefix) const {
  std::vector<View> views;
  for (const optim::FlatView& view : flat_.layout().views()) {
    views.push_back({prefix + view.name, view.sizes, Values(flat.narrow(0, view.offset, view.numel))});
  }
  return views;
}

checkpoint::Snapshot RunState::TakeSnapshot() {
  checkpoint::Snapshot snapshot = Copy(Buffers());
  for (const optim::Ema& ema : emas_) snapshot.ema_profiles.push_back(ema.options().name);
  return snapshot;
}

checkpoint::Snapshot RunState::TakePowerEmas() {
  std::vector<Buffer> buffers;
  std::vector<std::string> names;
  for (const optim::Ema& ema : emas_) {
    if (!ema.options().gamma) continue;
    names.push_back(ema.options().name);
    buffers.push_back({checkpoint::EmaFile(names.back()), "", ema.value()});
  }
  checkpoint::Snapshot snapshot = Copy(buffers);
  snapshot.ema_profiles = std::move(names);
  return snapshot;
}

checkpoint::Snapshot RunState::Copy(const std::vector<Buffer>& buffers) {
  checkpoint::Snapshot snapshot;
  snapshot.state = position_;
  std::vector<at::Tensor> tensors;
  for (const Buffer& buffer : buffers) tensors.push_back(buffer.flat);
  tensors.push_back(adamw_.updates());
  const auto arrive_with = [&](auto copy) {
    snapshot.arrive = [this, buffers, copy](checkpoint::Snapshot* arrived) {
      return RunTorch("copy of the state", [&] { Lay(buffers, copy->ToHost(), arrived); });
    };
    return copy;
  };
  if (flat_.params().is_cuda()) {
    try {
      arrive_with(std::make_shared<DeviceCopy>(tensors));
    } catch (const c10::OutOfMemoryError&) {
      P2_LOG(kWarning) << "no room on the GPU for a second copy of the state: training waits for its way to the host";
      for (at::Tensor& tensor : tensors) tensor = tensor.to(at::kCPU);
      Lay(buffers, std::move(tensors), &snapshot);
    }
    return snapshot;
  }
  copies_.push_back(arrive_with(std::make_shared<HostCopy>(std::move(tensors), on_copy_)));
  return snapshot;
}

void RunState::Lay(const std::vector<Buffer>& buffers, std::vector<at::Tensor> values,
                   checkpoint::Snapshot* snapshot) const {
  const auto file = [&](const std::string& path) -> checkpoint::TensorFile& {
    if (snapshot->tensors.empty() || snapshot->tensors.back().path != path) snapshot->tensors.push_back({path, {}});
    return snapshot->tensors.back();
  };
  for (size_t i = 0; i < buffers.size(); ++i) {
    for (View& view : Views(values[i], buffers[i].prefix)) {
      file(buffers[i].path).tensors.push_back({std::move(view.name), std::move(view.shape), view.values});
    }
  }
  const at::Tensor updates = values.back();
  if (!snapshot->tensors.empty() && snapshot->tensors.back().path == checkpoint::kOptimizerFile)
    snapshot->tensors.back().tensors.push_back({"step", {}, Values(updates)});
  snapshot->state.updates = static_cast<int64_t>(updates.item<float>());
  snapshot->memory = std::make_shared<const std::vector<at::Tensor>>(std::move(values));
}

absl::Status RunState::Load(const checkpoint::Checkpoint& checkpoint) {
  const checkpoint::TrainState& saved = checkpoint.state();
  if (saved.seed != spec_.seed || saved.batch != spec_.batch) {
    return absl::FailedPreconditionError(absl::StrCat(checkpoint.directory(), " is of seed ", saved.seed, " and batch ",
                                                      saved.batch, "; this spec has seed ", spec_.seed, " and batch ",
                                                      spec_.batch));
  }
  std::vector<std::pair<at::Tensor, at::Tensor>> loaded;  // (what was read, where it goes)
  const auto stage = [&](const at::Tensor& target) {
    return loaded.emplace_back(at::zeros(target.sizes(), at::kFloat), target).first;
  };
  std::vector<View> optimizer;
  for (const Buffer& buffer : Buffers()) {
    std::vector<View> views = Views(stage(buffer.flat), buffer.prefix);
    if (buffer.path == checkpoint::kOptimizerFile) {
      for (View& view : views) optimizer.push_back(std::move(view));
    } else {
      P2_RETURN_IF_ERROR(checkpoint.Read(buffer.path, views));
    }
  }
  optimizer.push_back({"step", {}, Values(stage(adamw_.updates()))});
  P2_RETURN_IF_ERROR(checkpoint.Read(checkpoint::kOptimizerFile, optimizer));
  WaitForCopies();
  for (const auto& [from, to] : loaded) to.copy_(from);
  position_ = saved;
  return absl::OkStatus();
}

absl::Status RunState::LoadWeights(const std::string& source) {
  const at::Tensor params = at::zeros(flat_.params().sizes(), at::kFloat);
  std::vector<at::Tensor> averages;
  SourceWeights weights{Views(params, ""), {}};
  for (const EmaProfile& ema : spec_.emas) {
    averages.push_back(at::zeros(params.sizes(), at::kFloat));
    weights.averages.emplace_back(&ema, Views(averages.back(), ""));
  }
  P2_RETURN_IF_ERROR(ReadSourceWeights(source, weights));
  WaitForCopies();
  flat_.params().copy_(params);
  for (size_t i = 0; i < averages.size(); ++i) emas_[i].value().copy_(averages[i]);
  return absl::OkStatus();
}

absl::Status RunState::Broadcast(dist::ProcessGroup& group) {
  std::vector<at::Tensor> tensors{adamw_.updates()};
  for (const Buffer& buffer : Buffers()) tensors.push_back(buffer.flat);
  WaitForCopies();
  for (at::Tensor& tensor : tensors) P2_RETURN_IF_ERROR(group.Broadcast(tensor));
  P2_ASSIGN_OR_RETURN(const std::string json, group.BroadcastBytes(checkpoint::TrainStateToJson(position_)));
  P2_ASSIGN_OR_RETURN(position_, checkpoint::TrainStateFromJson(json));
  return absl::OkStatus();
}

}  // namespace p2::trainer

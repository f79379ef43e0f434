#include "worker/trainer/microbatch.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/trainer/torch_status.h"

namespace p2::trainer {
namespace {

constexpr char kKey[] = "microbatch";
constexpr char kHalvedFrom[] = ", halved from ";
constexpr double kUsablePart = 0.8;  // Of the memory: the estimate knows no allocator slack and no workspaces.

// Forward and backward of `samples` samples, as the training step's.
void TryPass(const TrainSpec& spec, RunState& state, at::Device device, int64_t samples) {
  state.RefreshComputeWeights();
  const int64_t size = spec.model.image_size;
  const at::Tensor x = at::zeros({samples, spec.model.in_channels, size, size}, at::TensorOptions(device));
  const model::DropoutContext dropout{spec.seed, 0};
  state.unet().forward(x, at::zeros({samples}, x.options().dtype(at::kLong)), &dropout).square().sum().backward();
}

absl::StatusOr<int64_t> FittingOnGpu(const TrainSpec& spec, RunState& state, at::Device device, int64_t share) {
  for (int64_t samples = share;; samples = (samples + 1) / 2) {
    const absl::Status tried = RunTorch("microbatch: auto", [&] {
      TryPass(spec, state, device, samples);
      at::zeros({}, at::TensorOptions(device)).item<float>();  // Waits.
    });
    state.flat().ZeroGrads();
    c10::cuda::CUDACachingAllocator::emptyCache();
    if (tried.ok()) return samples;
    if (!absl::IsResourceExhausted(tried) || samples == 1) return tried;
  }
}

absl::StatusOr<int64_t> FittingOnCpu(const TrainOptions& options, int64_t share,
                                     std::optional<int64_t> available_bytes) {
  if (!available_bytes) return share;
  const TrainSpec& spec = options.spec;
  P2_ASSIGN_OR_RETURN(const spec::TrainingMemory memory,
                      spec::EstimateTrainingMemory(spec.model, static_cast<int>(spec.emas.size()), spec.precision));
  const double mine = kUsablePart * static_cast<double>(*available_bytes) / std::max(1, options.place.local_world_size);
  const double left = mine - static_cast<double>(memory.parameters + memory.optimizer + memory.emas);
  return std::clamp<int64_t>(static_cast<int64_t>(left / static_cast<double>(memory.activations_per_sample)), 1, share);
}

}  // namespace

int64_t LargestShare(const TrainSpec& spec, int world_size) { return (spec.batch + world_size - 1) / world_size; }

absl::StatusOr<int64_t> FittingMicrobatch(const TrainOptions& options, RunState& state, dist::ProcessGroup& group,
                                          std::optional<int64_t> available_bytes) {
  const int64_t share = LargestShare(options.spec, group.world_size());
  P2_ASSIGN_OR_RETURN(const int64_t mine, group.device().is_cpu()
                                              ? FittingOnCpu(options, share, available_bytes)
                                              : FittingOnGpu(options.spec, state, group.device(), share));
  at::Tensor least = at::full({1}, -mine, at::TensorOptions(at::kLong).device(group.device()));
  P2_RETURN_IF_ERROR(group.AllReduceMax(least));
  return -least.item<int64_t>();
}

std::string HalvedText(int64_t microbatch, int64_t from) { return absl::StrCat(microbatch, kHalvedFrom, from); }

int64_t MicrobatchOf(const std::string& text) { return std::strtoll(text.c_str(), nullptr, 10); }

absl::Status WithMemoryAdvice(const absl::Status& failed, const TrainSpec& spec, std::optional<int64_t> halved_to) {
  if (!absl::IsResourceExhausted(failed)) return failed;
  std::string advice = "lower training.microbatch";
  if (spec.leaves > 0) {
    advice = absl::StrCat("with reduction: exact a forward pass is a shard, here of ", spec.batch / spec.leaves,
                          " samples: raise training.shards");
  } else if (halved_to) {
    advice = absl::StrCat("the microbatch was halved already, to ", *halved_to, ": lower training.microbatch");
  } else if (spec.bitwise_required) {
    advice = "with bitwise: required it is not halved: lower training.microbatch";
  }
  return absl::Status(failed.code(),
                      absl::StrCat(failed.message(), "\n", advice, ", or set model.activation_recompute=true"));
}

std::optional<std::string> RecordedMicrobatch(const std::map<std::string, std::string>& before,
                                              const std::map<std::string, std::string>& now, bool fitting) {
  const auto recorded = before.find(kKey), chosen = now.find(kKey);
  if (recorded == before.end() || chosen == now.end()) return std::nullopt;
  const auto ranks = before.find("ranks");
  if (ranks == before.end() || ranks->second != now.at("ranks")) return std::nullopt;
  const int64_t number = MicrobatchOf(recorded->second);
  const bool keeps = fitting ? number >= 1 && number <= MicrobatchOf(chosen->second)
                             : absl::EndsWith(recorded->second, absl::StrCat(kHalvedFrom, chosen->second));
  return keeps ? std::make_optional(recorded->second) : std::nullopt;
}

}  // namespace p2::trainer

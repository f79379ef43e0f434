#include "worker/trainer/sampling_setup.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/optim/flat_parameters.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/fingerprint.h"
#include "worker/trainer/launch_env.h"
#include "worker/trainer/spec_seam.h"
#include "worker/trainer/torch_status.h"

namespace p2::trainer {
namespace {

absl::StatusOr<Place> PlaceOf(const SamplingFlags& flags) {
  Place place;
  place.device = flags.device;
  place.threads = flags.threads;
  P2_RETURN_IF_ERROR(PlaceFromEnvironment(
      [](const char* name) -> std::optional<std::string> {
        if (std::string(name) == "MASTER_PORT") return "1";  // The ranks never meet.
        const char* const value = std::getenv(name);
        return value == nullptr ? std::nullopt : std::make_optional<std::string>(value);
      },
      &place));
  return place;
}

absl::StatusOr<std::string> WeightsFile(const SamplingFlags& flags, const checkpoint::Checkpoint& checkpoint) {
  const std::vector<std::string>& emas = checkpoint.manifest().ema_profiles;
  if (flags.raw || (emas.empty() && flags.ema.empty())) return std::string(checkpoint::kModelFile);
  if (flags.ema.empty()) return checkpoint::EmaFile(emas.front());
  if (std::find(emas.begin(), emas.end(), flags.ema) == emas.end()) {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.directory(), " has no average \"", flags.ema,
                                                   "\"; it has ", emas.empty() ? "none" : absl::StrJoin(emas, ", ")));
  }
  return checkpoint::EmaFile(flags.ema);
}

absl::StatusOr<std::shared_ptr<model::Unet>> LoadUnet(const TrainSpec& spec, const checkpoint::Checkpoint& checkpoint,
                                                      const std::string& file, at::Device device) {
  const torch::NoGradGuard no_grad;
  auto unet = std::make_shared<model::Unet>(spec.model);
  const optim::FlatLayout layout(*unet);
  const at::Tensor flat = layout.Allocate(at::kCPU);
  std::vector<checkpoint::MutableTensorView> views;
  for (const optim::FlatView& view : layout.views()) {
    views.push_back({view.name, view.sizes, {flat.data_ptr<float>() + view.offset, static_cast<size_t>(view.numel)}});
  }
  P2_RETURN_IF_ERROR(checkpoint.Read(file, views));
  layout.Bind(*unet, flat.to(device));
  return unet;
}

std::string Digest(const checkpoint::Checkpoint& checkpoint, const std::string& file) {
  for (const checkpoint::FileEntry& entry : checkpoint.manifest().files) {
    if (entry.path == file) return entry.sha256;
  }
  return "";
}

}  // namespace

void AddSamplingFlags(CLI::App& verb, SamplingFlags* flags) {
  verb.add_option("CHECKPOINT_DIR", flags->checkpoint, "A checkpoint, such as OUT/checkpoints/000000012800-e1")
      ->required();
  verb.add_option("--out", flags->out, "Where the images go; what is there of the same run is kept")
      ->type_name("DIR")
      ->required();
  verb.add_option("--steps", flags->steps, "Respacing: \"250\", \"130,60,60\", \"ddim25\"; default: every timestep")
      ->type_name("RESPACING");
  verb.add_option("--ddim", flags->ddim_eta, "DDIM with this eta (0: deterministic) instead of the ancestral sampler")
      ->type_name("ETA")
      ->check(CLI::Range(0.0, 1.0));
  CLI::Option* const ema =
      verb.add_option("--ema", flags->ema, "The average to draw from; default: the first one")->type_name("NAME");
  verb.add_flag("--raw", flags->raw, "Draw from the weights themselves")->excludes(ema);
  verb.add_option("--seed", flags->seed, "Seed of the noise; image I of a seed is always the same")->type_name("S");
  verb.add_option("--first", flags->first, "Index of the first image")->type_name("I");
  verb.add_option("--batch", flags->batch,
                  "At most this many images in progress at once; default: one a thread. No bit depends on it")
      ->type_name("B")
      ->check(CLI::PositiveNumber);
  verb.add_option("--device", flags->device, "cpu, cuda (the local rank's) or cuda:N; default: a GPU if there is one")
      ->type_name("D");
  verb.add_option("--threads", flags->threads, "CPU threads of this rank; default: cores / ranks on this machine")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  verb.add_flag("--no-clip", flags->no_clip, "Do not clamp the predicted image to [-1, 1] in each step");
}

absl::StatusOr<SamplingSetup> SetUpSampling(const SamplingFlags& flags) {
  SamplingSetup setup;
  P2_ASSIGN_OR_RETURN(setup.place, PlaceOf(flags));
  std::string directory = flags.checkpoint;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  P2_ASSIGN_OR_RETURN(const auto checkpoint, checkpoint::Checkpoint::Open(directory));
  const absl::StatusOr<TrainSpec> spec = SpecFromJson(checkpoint->spec_json());
  if (!spec.ok()) {
    return absl::Status(spec.status().code(),
                        absl::StrCat(directory, "/", checkpoint::kSpecFile, ": ", spec.status().message()));
  }
  setup.spec = *spec;
  P2_ASSIGN_OR_RETURN(const auto base, spec::MakeNoiseSchedule(setup.spec.noise_schedule, setup.spec.timesteps));
  P2_ASSIGN_OR_RETURN(setup.spaced, spec::MakeSpacedSchedule(base, flags.steps));
  P2_ASSIGN_OR_RETURN(const std::string weights, WeightsFile(flags, *checkpoint));

  const at::Device device = DeviceOf(setup.place);
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  // Images are drawn in fp32, whatever the model was trained in.
  const int threads = ConfigureNumerics(setup.place, TrainSpec{});
  P2_ASSIGN_OR_RETURN(setup.unet, LoadUnet(setup.spec, *checkpoint, weights, device));
  setup.diffusion = std::make_unique<diffusion::GaussianDiffusion>(
      setup.spaced,
      setup.spec.learn_sigma ? diffusion::VarianceKind::kLearnedRange : diffusion::VarianceKind::kFixedLarge, device);
  setup.sampler.sampler.clip_denoised = !flags.no_clip;
  setup.sampler.sampler.ddim_eta = flags.ddim_eta;
  setup.sampler.seed = flags.seed;
  setup.sampler.threads = static_cast<int>(flags.batch > 0 ? std::min<int64_t>(threads, flags.batch) : threads);
  setup.run = {
      {"weights", absl::StrCat(weights, " sha256:", Digest(*checkpoint, weights))},
      {"spec", absl::StrCat("sha256:", Digest(*checkpoint, checkpoint::kSpecFile))},
      {"steps", flags.steps.empty() ? "all" : flags.steps},
      {"sampler", flags.ddim_eta ? absl::StrCat("ddim eta ", *flags.ddim_eta) : "ancestral"},
      {"clip", flags.no_clip ? "no" : "yes"},
      {"seed", absl::StrCat(flags.seed)},
      {"device", device.is_cpu() ? "cpu" : "cuda"},
  };
  return setup;
}

absl::StatusOr<image::Image> ToImage(const torch::Tensor& x0, bool truncated) {
  if (!at::isfinite(x0).all().item<bool>()) {
    return absl::DataLossError("an image is not finite: the weights are broken, or --no-clip let it run away");
  }
  const torch::Tensor one = x0.unsqueeze(0);
  const torch::Tensor pixels = truncated ? sampling::ToUint8Truncated(one) : sampling::ToUint8(one);  // (1, H, W, C)
  const uint8_t* const data = pixels.const_data_ptr<uint8_t>();
  return image::Image{static_cast<int>(pixels.size(2)), static_cast<int>(pixels.size(1)),
                      static_cast<int>(pixels.size(3)), std::vector<uint8_t>(data, data + pixels.numel())};
}

int RunDrawing(const std::function<absl::StatusOr<bool>()>& draw) {
  bool done = false;
  const absl::Status status = RunTorch("sampling", [&]() -> absl::Status {
    P2_ASSIGN_OR_RETURN(done, draw());
    return absl::OkStatus();
  });
  if (status.ok()) return static_cast<int>(done ? ExitCode::kDone : ExitCode::kStopped);
  std::fprintf(stderr, "p2-trainer: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

}  // namespace p2::trainer

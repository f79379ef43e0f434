#include "worker/trainer/checkpoint_export.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "worker/checkpoint/diffusers_export.h"
#include "worker/checkpoint/pt_writer.h"
#include "worker/trainer/spec_seam.h"

namespace p2::trainer {
namespace {

using checkpoint::PublishedName;

// The rate as Python prints it, for the rates in use; of a power-function average, which has none, its name.
std::string RateText(const EmaProfile& ema) {
  if (ema.gamma) return ema.name;
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof(text), ema.rate).ptr);
}

struct Exporter {
  const ExportOptions& options;
  std::unique_ptr<checkpoint::Checkpoint> from;
  TrainSpec spec;
  std::vector<spec::ParameterShape> parameters;
  int64_t step = 0;  // Zero-based, of the published names.

  absl::StatusOr<checkpoint::TensorSet> ReadNet(const std::string& file) const {
    checkpoint::TensorSet tensors(parameters);
    P2_RETURN_IF_ERROR(from->Read(file, tensors.views()));
    return tensors;
  }

  const EmaProfile& Profile(const std::string& name) const {
    for (const EmaProfile& ema : spec.emas) {
      if (ema.name == name) return ema;
    }
    return spec.emas.front();  // Not reached: CheckProfile was called.
  }

  absl::Status CheckProfile(const std::string& name) const {
    std::vector<std::string> known;
    for (const EmaProfile& ema : spec.emas) known.push_back(ema.name);
    for (const std::string& one : known) {
      if (one == name) return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the checkpoint has no EMA \"", name, "\"; it has ", absl::StrJoin(known, ", ")));
  }

  absl::Status WriteNet(const std::string& file, const PublishedName& name) const {
    P2_ASSIGN_OR_RETURN(const checkpoint::TensorSet tensors, ReadNet(file));
    const bool pt = options.format == "pt";
    const std::string path =
        absl::StrCat(options.out, "/", checkpoint::PublishedFileName(name, pt ? ".pt" : ".safetensors"));
    P2_RETURN_IF_ERROR(pt ? checkpoint::WritePtModel(path, tensors.const_views())
                          : checkpoint::WriteSafetensors(path, tensors.const_views()));
    std::printf("%s\n", path.c_str());
    return absl::OkStatus();
  }

  absl::Status WriteOptimizer() const {
    checkpoint::TensorSet exp_avg(parameters, "exp_avg."), exp_avg_sq(parameters, "exp_avg_sq.");
    float step_in_file = 0;
    std::vector<checkpoint::MutableTensorView> views = exp_avg.views();
    views.insert(views.end(), exp_avg_sq.views().begin(), exp_avg_sq.views().end());
    views.push_back({"step", {}, absl::MakeSpan(&step_in_file, 1)});
    P2_RETURN_IF_ERROR(from->Read(checkpoint::kOptimizerFile, views));
    const checkpoint::PublishedOptimizer optimizer{static_cast<int64_t>(step_in_file),
                                                   spec.learning_rate,
                                                   spec.beta1,
                                                   spec.beta2,
                                                   spec.epsilon,
                                                   spec.weight_decay};
    const std::string path =
        absl::StrCat(options.out, "/", checkpoint::PublishedFileName({PublishedName::Kind::kOptimizer, "", step}));
    P2_RETURN_IF_ERROR(checkpoint::WritePtOptimizer(path, optimizer, exp_avg.const_views(), exp_avg_sq.const_views()));
    std::printf("%s\n", path.c_str());
    return absl::OkStatus();
  }

  absl::Status WriteDiffusersFolder() const {
    std::string file = checkpoint::kModelFile;
    if (!options.ema.empty()) {
      file = checkpoint::EmaFile(options.ema);
    } else if (!options.raw && !spec.emas.empty()) {
      file = checkpoint::EmaFile(spec.emas.front().name);
    }
    P2_ASSIGN_OR_RETURN(const checkpoint::TensorSet tensors, ReadNet(file));
    P2_RETURN_IF_ERROR(checkpoint::WriteDiffusers(
        options.out, {spec.model, spec.noise_schedule, spec.timesteps, spec.learn_sigma}, tensors.const_views()));
    std::printf("%s\n", options.out.c_str());
    return absl::OkStatus();
  }

  absl::Status Run() {
    if (!options.ema.empty()) P2_RETURN_IF_ERROR(CheckProfile(options.ema));
    std::error_code error;
    std::filesystem::create_directories(options.out, error);
    if (error) return absl::UnavailableError(absl::StrCat("cannot create ", options.out, ": ", error.message()));
    if (options.format == "diffusers") return WriteDiffusersFolder();

    const bool all = !options.raw && options.ema.empty();
    std::vector<std::string> profiles;
    if (!options.ema.empty()) profiles.push_back(options.ema);
    for (const EmaProfile& ema : spec.emas) {
      if (all) profiles.push_back(ema.name);
    }
    std::set<std::string> rates;
    for (const std::string& profile : profiles) {
      if (!rates.insert(RateText(Profile(profile))).second) {
        return absl::FailedPreconditionError(absl::StrCat("two EMAs have the rate of \"", profile,
                                                          "\", so their files would have one name: export each "
                                                          "by --ema NAME into its own --out"));
      }
    }
    if (all || options.raw) {
      P2_RETURN_IF_ERROR(WriteNet(checkpoint::kModelFile, {PublishedName::Kind::kModel, "", step}));
    }
    for (const std::string& profile : profiles) {
      P2_RETURN_IF_ERROR(
          WriteNet(checkpoint::EmaFile(profile), {PublishedName::Kind::kEma, RateText(Profile(profile)), step}));
    }
    return all && options.format == "pt" ? WriteOptimizer() : absl::OkStatus();
  }
};

}  // namespace

absl::Status ExportCheckpoint(const ExportOptions& options) {
  std::string directory = options.checkpoint;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  P2_ASSIGN_OR_RETURN(auto opened, checkpoint::Checkpoint::Open(directory));
  absl::StatusOr<TrainSpec> spec = SpecFromJson(opened->spec_json());
  if (!spec.ok()) {
    return absl::Status(spec.status().code(),
                        absl::StrCat(directory, "/", checkpoint::kSpecFile, ": ", spec.status().message()));
  }
  P2_ASSIGN_OR_RETURN(std::vector<spec::ParameterShape> parameters, spec::WalkUnet(spec->model));
  const int64_t step = std::max<int64_t>(opened->state().step - 1, 0);
  return Exporter{options, std::move(opened), *spec, std::move(parameters), step}.Run();
}

}  // namespace p2::trainer

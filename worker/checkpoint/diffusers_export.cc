#include "worker/checkpoint/diffusers_export.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/file_util.h"
#include "common/safetensors/safetensors.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace p2::checkpoint {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kDiffusersVersion[] = "0.42.1";  // Whose names and defaults these are.

spec::UnetOptions Resolved(spec::UnetOptions options) {
  if (options.channel_mult.empty()) options.channel_mult = spec::PublishedChannelMult(options.image_size);
  return options;
}

bool Attends(const spec::UnetOptions& unet, size_t level) {
  return std::any_of(unet.attention_resolutions.begin(), unet.attention_resolutions.end(),
                     [&](int pixels) { return unet.image_size / pixels == 1 << level; });
}

int64_t Width(const spec::UnetOptions& unet, size_t level) {
  return static_cast<int64_t>(unet.channel_mult[level] * unet.model_channels);
}

// Channels of a head, if all attention blocks agree.
absl::StatusOr<int64_t> HeadChannels(const spec::UnetOptions& unet) {
  if (unet.num_head_channels > 0) return unet.num_head_channels;
  const size_t last = unet.channel_mult.size() - 1;
  const int64_t middle = Width(unet, last) / unet.num_heads;
  for (size_t level = 0; level < last; ++level) {
    if (const int64_t here = Width(unet, level) / unet.num_heads; Attends(unet, level) && here != middle) {
      return absl::FailedPreconditionError(
          absl::StrCat("diffusers' UNet2DModel has one width of attention heads; this model has ", here, " and ",
                       middle, ": num_head_channels instead of num_heads makes them equal"));
    }
  }
  return middle;
}

class Renamer {
 public:
  Renamer(const spec::UnetOptions& unet, absl::Span<const TensorView> weights, int64_t head_channels)
      : unet_(unet), head_channels_(head_channels) {
    for (const TensorView& weight : weights) weights_[weight.name] = &weight;
  }

  absl::StatusOr<TensorSet> Run() {
    Layer("time_embed.0", "time_embedding.linear_1");
    Layer("time_embed.2", "time_embedding.linear_2");
    Layer("input_blocks.0.0", "conv_in");
    const size_t levels = unet_.channel_mult.size();
    size_t block = 1;
    for (size_t level = 0; level < levels; ++level) {
      const std::string to = absl::StrCat("down_blocks.", level);
      for (int i = 0; i < unet_.num_res_blocks; ++i, ++block) {
        const std::string from = absl::StrCat("input_blocks.", block);
        Residual(from + ".0", absl::StrCat(to, ".resnets.", i));
        if (Attends(unet_, level)) Attention(from + ".1", absl::StrCat(to, ".attentions.", i));
      }
      if (level + 1 == levels) break;
      Resampler(absl::StrCat("input_blocks.", block++, ".0"), "op", to + ".downsamplers.0");
    }
    Residual("middle_block.0", "mid_block.resnets.0");
    Attention("middle_block.1", "mid_block.attentions.0");
    Residual("middle_block.2", "mid_block.resnets.1");
    block = 0;
    for (size_t level = levels; level-- > 0;) {
      const std::string to = absl::StrCat("up_blocks.", levels - 1 - level);
      const bool attends = Attends(unet_, level);
      for (int i = 0; i <= unet_.num_res_blocks; ++i, ++block) {
        const std::string from = absl::StrCat("output_blocks.", block);
        Residual(from + ".0", absl::StrCat(to, ".resnets.", i));
        if (attends) Attention(from + ".1", absl::StrCat(to, ".attentions.", i));
        if (level > 0 && i == unet_.num_res_blocks)
          Resampler(from + (attends ? ".2" : ".1"), "conv", to + ".upsamplers.0");
      }
    }
    Layer("out.0", "conv_norm_out");
    Layer("out.2", "conv_out");
    if (!missing_.empty()) return absl::FailedPreconditionError(absl::StrCat("the weights have no ", missing_));
    if (!weights_.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the weights also have ", weights_.begin()->first, ", which the model has not"));
    }
    return std::move(renamed_);
  }

 private:
  const TensorView* Take(const std::string& name) {
    const auto found = weights_.find(name);
    if (found == weights_.end()) {
      if (missing_.empty()) missing_ = name;
      return nullptr;
    }
    const TensorView* const tensor = found->second;
    weights_.erase(found);
    return tensor;
  }

  void Layer(const std::string& from, const std::string& to) {
    for (const char* part : {".weight", ".bias"}) {
      const TensorView* const tensor = Take(from + part);
      if (tensor == nullptr) continue;
      const absl::Span<float> values = renamed_.Add(to + part, tensor->shape);
      std::copy(tensor->values.begin(), tensor->values.end(), values.begin());
    }
  }

  // The same without the trailing 1 of a convolution over one pixel: (O, C, 1) as (O, C).
  void Pointwise(const std::string& from, const std::string& to) {
    for (const char* part : {".weight", ".bias"}) {
      const TensorView* const tensor = Take(from + part);
      if (tensor == nullptr) continue;
      std::vector<int64_t> shape = tensor->shape;
      if (shape.size() == 3) shape.pop_back();
      const absl::Span<float> values = renamed_.Add(to + part, std::move(shape));
      std::copy(tensor->values.begin(), tensor->values.end(), values.begin());
    }
  }

  void Residual(const std::string& from, const std::string& to) {
    Layer(from + ".in_layers.0", to + ".norm1");
    Layer(from + ".in_layers.2", to + ".conv1");
    Layer(from + ".emb_layers.1", to + ".time_emb_proj");
    Layer(from + ".out_layers.0", to + ".norm2");
    Layer(from + ".out_layers.3", to + ".conv2");
    if (weights_.count(from + ".skip_connection.weight") != 0) Layer(from + ".skip_connection", to + ".conv_shortcut");
  }

  void Attention(const std::string& from, const std::string& to) {
    Layer(from + ".norm", to + ".group_norm");
    for (const char* part : {".weight", ".bias"}) {
      const TensorView* const qkv = Take(absl::StrCat(from, ".qkv", part));
      if (qkv == nullptr) continue;
      const size_t rows = static_cast<size_t>(qkv->shape[0]), columns = qkv->values.size() / rows;
      const size_t of_head = static_cast<size_t>(head_channels_) * columns,
                   heads = rows / 3 / static_cast<size_t>(head_channels_);
      std::vector<int64_t> shape = {qkv->shape[0] / 3};
      if (qkv->shape.size() > 1) shape.push_back(qkv->shape[1]);
      const char* const names[] = {".to_q", ".to_k", ".to_v"};
      for (size_t which = 0; which < 3; ++which) {
        const absl::Span<float> values = renamed_.Add(absl::StrCat(to, names[which], part), shape);
        for (size_t head = 0; head < heads; ++head) {
          const auto source = qkv->values.subspan((head * 3 + which) * of_head, of_head);
          std::copy(source.begin(), source.end(), values.subspan(head * of_head).begin());
        }
      }
    }
    Pointwise(from + ".proj_out", to + ".to_out.0");
  }

  void Resampler(const std::string& from, const std::string& conv, const std::string& to) {
    if (unet_.resblock_updown) {
      Residual(from, to);
    } else {
      Layer(absl::StrCat(from, ".", conv), to + ".conv");
    }
  }

  const spec::UnetOptions& unet_;
  const int64_t head_channels_;
  std::map<std::string, const TensorView*> weights_;  // Not yet taken.
  std::string missing_;
  TensorSet renamed_;
};

Json UnetConfig(const spec::UnetOptions& unet, int64_t head_channels) {
  const size_t levels = unet.channel_mult.size();
  Json widths = Json::array(), down = Json::array(), up = Json::array();
  for (size_t level = 0; level < levels; ++level) {
    widths.push_back(Width(unet, level));
    const char* const plain_down = unet.resblock_updown ? "ResnetDownsampleBlock2D" : "DownBlock2D";
    down.push_back(Attends(unet, level) ? "AttnDownBlock2D" : plain_down);
    const size_t from_below = levels - 1 - level;
    const char* const plain_up = unet.resblock_updown ? "ResnetUpsampleBlock2D" : "UpBlock2D";
    up.push_back(Attends(unet, from_below) ? "AttnUpBlock2D" : plain_up);
  }
  const char* const resample = unet.resblock_updown ? "resnet" : "conv";
  return {{"_class_name", "UNet2DModel"},
          {"_diffusers_version", kDiffusersVersion},
          {"sample_size", unet.image_size},
          {"in_channels", unet.in_channels},
          {"out_channels", unet.out_channels},
          {"center_input_sample", false},
          {"time_embedding_type", "positional"},
          {"freq_shift", 0},
          {"flip_sin_to_cos", true},
          {"down_block_types", down},
          {"up_block_types", up},
          {"block_out_channels", widths},
          {"layers_per_block", unet.num_res_blocks},
          {"mid_block_scale_factor", 1},
          {"downsample_padding", 1},
          {"downsample_type", resample},
          {"upsample_type", resample},
          {"dropout", unet.dropout},
          {"act_fn", "silu"},
          {"attention_head_dim", head_channels},
          {"norm_num_groups", 32},
          {"attn_norm_num_groups", 32},
          {"norm_eps", 1e-5},
          {"resnet_time_scale_shift", unet.use_scale_shift_norm ? "scale_shift" : "default"},
          {"add_attention", true}};
}

Json SchedulerConfig(const DiffusersModel& model) {
  const double scale = 1000.0 / model.timesteps;
  const bool linear = model.noise_schedule == spec::ScheduleKind::kLinear;
  return {{"_class_name", "DDPMScheduler"},
          {"_diffusers_version", kDiffusersVersion},
          {"num_train_timesteps", model.timesteps},
          {"beta_start", scale * 1e-4},
          {"beta_end", scale * 0.02},
          {"beta_schedule", linear ? "linear" : "squaredcos_cap_v2"},
          {"variance_type", model.learn_sigma ? "learned_range" : "fixed_large"},
          {"clip_sample", true},
          {"clip_sample_range", 1.0},
          {"prediction_type", "epsilon"}};
}

}  // namespace

absl::StatusOr<TensorSet> ToDiffusers(const spec::UnetOptions& given, absl::Span<const TensorView> weights) {
  const spec::UnetOptions unet = Resolved(given);
  if (unet.channel_mult.empty() || unet.channel_mult[0] != 1) {
    return absl::FailedPreconditionError(
        "diffusers' UNet2DModel takes its time embedding's width from the first level: channel_mult must begin with 1");
  }
  P2_ASSIGN_OR_RETURN(const int64_t head_channels, HeadChannels(unet));
  return Renamer(unet, weights, head_channels).Run();
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorView> tensors) {
  const std::string temporary = path + ".tmp";
  std::vector<safetensors::TensorInfo> infos;
  for (const TensorView& tensor : tensors) infos.push_back({tensor.name, safetensors::DType::kF32, tensor.shape});
  const auto write = [&]() -> absl::Status {
    P2_ASSIGN_OR_RETURN(auto writer, safetensors::Writer::Create(temporary, std::move(infos), {{"format", "pt"}}));
    for (const TensorView& tensor : tensors) {
      P2_RETURN_IF_ERROR(writer->Append(
          {reinterpret_cast<const std::byte*>(tensor.values.data()), tensor.values.size() * sizeof(float)}));
    }
    P2_RETURN_IF_ERROR(writer->Finish());
    return std::rename(temporary.c_str(), path.c_str()) == 0 ? absl::OkStatus() : FileError("rename", temporary);
  };
  const absl::Status status = write();
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(std::filesystem::path(path).parent_path());
}

absl::Status WriteDiffusers(const std::string& directory, const DiffusersModel& model,
                            absl::Span<const TensorView> weights) {
  const spec::UnetOptions unet = Resolved(model.unet);
  P2_ASSIGN_OR_RETURN(const TensorSet renamed, ToDiffusers(unet, weights));
  P2_ASSIGN_OR_RETURN(const int64_t head_channels, HeadChannels(unet));
  for (const char* part : {"/unet", "/scheduler"}) {
    std::error_code error;
    std::filesystem::create_directories(directory + part, error);
    if (error) return absl::UnavailableError(absl::StrCat("cannot create ", directory, part, ": ", error.message()));
  }
  P2_RETURN_IF_ERROR(WriteSafetensors(directory + "/unet/diffusion_pytorch_model.safetensors", renamed.const_views()));
  const Json index = {{"_class_name", "DDPMPipeline"},
                      {"_diffusers_version", kDiffusersVersion},
                      {"scheduler", {"diffusers", "DDPMScheduler"}},
                      {"unet", {"diffusers", "UNet2DModel"}}};
  const std::pair<const char*, Json> texts[] = {{"/unet/config.json", UnetConfig(unet, head_channels)},
                                                {"/scheduler/scheduler_config.json", SchedulerConfig(model)},
                                                {"/model_index.json", index}};
  for (const auto& [name, json] : texts) {
    P2_RETURN_IF_ERROR(ReplaceFile(directory + name, json.dump(2) + "\n"));
  }
  return absl::OkStatus();
}

}  // namespace p2::checkpoint

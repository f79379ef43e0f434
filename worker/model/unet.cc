#include "worker/model/unet.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/model/attention_block.h"
#include "worker/model/residual_block.h"
#include "worker/model/timestep_embedding.h"
#include "worker/random/random_tensors.h"
#include "worker/random/streams.h"

namespace p2::model {
namespace {

spec::UnetOptions Resolved(spec::UnetOptions options) {
  for (const spec::UnetProblem& problem : spec::CheckUnet(options)) {
    TORCH_CHECK(false, "the model cannot be built: ", problem.field, ": ", problem.description);
  }
  if (options.channel_mult.empty()) options.channel_mult = spec::PublishedChannelMult(options.image_size);
  return options;
}

// Makes the blocks that all stages of one model are composed of.
class BlockFactory {
 public:
  explicit BlockFactory(const spec::UnetOptions& options) : options_(options) {
    for (const int pixels : options.attention_resolutions) attention_factors_.push_back(options.image_size / pixels);
  }

  int64_t Width(size_t level) const {
    return static_cast<int64_t>(options_.channel_mult[level] * options_.model_channels);
  }

  bool Attends(int factor) const {
    return std::find(attention_factors_.begin(), attention_factors_.end(), factor) != attention_factors_.end();
  }

  std::shared_ptr<Block> Residual(int64_t in, int64_t out, const std::string& path,
                                  Resample resample = Resample::kNone) {
    dropout_streams_.push_back(ResidualBlock::DropoutStreamName(path));
    return std::make_shared<ResidualBlock>(ResidualOptions{.in_channels = in,
                                                           .out_channels = out,
                                                           .embedding_channels = 4 * options_.model_channels,
                                                           .scale_shift_norm = options_.use_scale_shift_norm,
                                                           .dropout = options_.dropout,
                                                           .resample = resample},
                                           path);
  }

  std::shared_ptr<Block> Attention(int64_t channels) const {
    const int64_t per_head = options_.num_head_channels;
    return std::make_shared<AttentionBlock>(channels, per_head > 0 ? channels / per_head : options_.num_heads);
  }

  std::shared_ptr<Block> Resampler(int64_t channels, const std::string& path, Resample resample) {
    if (options_.resblock_updown) return Residual(channels, channels, path, resample);
    if (resample == Resample::kDown) return std::make_shared<Downsample>(channels);
    return std::make_shared<Upsample>(channels);
  }

  const std::vector<std::string>& dropout_streams() const { return dropout_streams_; }

 private:
  const spec::UnetOptions& options_;
  std::vector<int> attention_factors_;
  std::vector<std::string> dropout_streams_;
};

}  // namespace

Unet::Unet(const spec::UnetOptions& options) : options_(Resolved(options)) {
  BlockFactory make(options_);
  const size_t levels = options_.channel_mult.size();
  const int64_t embedding = 4 * options_.model_channels;

  auto time_embed = register_module("time_embed", std::make_shared<torch::nn::Module>());
  time_in_ = time_embed->register_module("0", std::make_shared<Linear>(options_.model_channels, embedding));
  time_out_ = time_embed->register_module("2", std::make_shared<Linear>(embedding, embedding));

  int64_t channels = make.Width(0);
  auto inputs = register_module("input_blocks", std::make_shared<torch::nn::Module>());
  auto first = inputs->register_module("0", std::make_shared<torch::nn::Module>());
  input_conv_ = first->register_module("0", std::make_shared<Conv>(options_.in_channels, channels, 3));
  std::vector<int64_t> skip_channels = {channels};
  const auto add_input = [&](auto&& fill) {
    auto stage = std::make_shared<Stage>(options_.activation_recompute);
    const size_t index = input_blocks_.size() + 1;
    fill(*stage, absl::StrCat("input_blocks.", index, ".0"));
    input_blocks_.push_back(inputs->register_module(std::to_string(index), std::move(stage)));
    skip_channels.push_back(channels);
  };
  int factor = 1;
  for (size_t level = 0; level < levels; ++level) {
    for (int i = 0; i < options_.num_res_blocks; ++i) {
      add_input([&](Stage& stage, const std::string& path) {
        stage.Append(make.Residual(channels, make.Width(level), path));
        channels = make.Width(level);
        if (make.Attends(factor)) stage.Append(make.Attention(channels));
      });
    }
    if (level + 1 == levels) break;
    add_input(
        [&](Stage& stage, const std::string& path) { stage.Append(make.Resampler(channels, path, Resample::kDown)); });
    factor *= 2;
  }

  middle_block_ = register_module("middle_block", std::make_shared<Stage>(options_.activation_recompute));
  middle_block_->Append(make.Residual(channels, channels, "middle_block.0"));
  middle_block_->Append(make.Attention(channels));
  middle_block_->Append(make.Residual(channels, channels, "middle_block.2"));

  auto outputs = register_module("output_blocks", std::make_shared<torch::nn::Module>());
  for (size_t level = levels; level-- > 0;) {
    for (int i = 0; i <= options_.num_res_blocks; ++i) {
      auto stage = std::make_shared<Stage>(options_.activation_recompute);
      const std::string path = absl::StrCat("output_blocks.", output_blocks_.size());
      stage->Append(make.Residual(channels + skip_channels.back(), make.Width(level), path + ".0"));
      skip_channels.pop_back();
      channels = make.Width(level);
      const bool attends = make.Attends(factor);
      if (attends) stage->Append(make.Attention(channels));
      if (level > 0 && i == options_.num_res_blocks) {
        stage->Append(make.Resampler(channels, path + (attends ? ".2" : ".1"), Resample::kUp));
        factor /= 2;
      }
      output_blocks_.push_back(outputs->register_module(std::to_string(output_blocks_.size()), std::move(stage)));
    }
  }

  auto out = register_module("out", std::make_shared<torch::nn::Module>());
  out_norm_ = out->register_module("0", std::make_shared<GroupNorm>(channels));
  out_conv_ = out->register_module("2", std::make_shared<Conv>(channels, options_.out_channels, 3, Init::kZero));

  random::StreamRegistry streams;
  for (const auto& item : named_parameters()) {
    const absl::Status added = streams.Add(random::InitStreamName(item.key()));
    TORCH_CHECK(added.ok(), added.ToString());
  }
  for (const std::string& name : make.dropout_streams()) {
    const absl::Status added = streams.Add(name);
    TORCH_CHECK(added.ok(), added.ToString());
  }
}

torch::Tensor Unet::forward(const torch::Tensor& x, const torch::Tensor& timesteps, const DropoutContext* dropout) {
  torch::Tensor emb = time_in_->forward(TimestepEmbedding(timesteps, options_.model_channels));
  // Every block applies SiLU to the embedding first: once is enough.
  emb = ConsumingSilu(time_out_->forward(ConsumingSilu(std::move(emb))));  // (B, E)
  emb = emb.to(compute_type_);
  std::vector<torch::Tensor> skips = {input_conv_->forward(x.to(compute_type_))};
  for (const auto& stage : input_blocks_) skips.push_back(stage->forward(skips.back(), emb, dropout));
  torch::Tensor h = middle_block_->forward(skips.back(), emb, dropout);
  for (const auto& stage : output_blocks_) {
    h = stage->forward(at::cat({h, skips.back()}, 1), emb, dropout);
    skips.pop_back();
  }
  return out_conv_->forward(ConsumingSilu(out_norm_->forward(h.to(at::kFloat))));
}

void Unet::ComputeWith(const std::vector<torch::Tensor>& copies) {
  std::map<const void*, torch::Tensor> copy_of;
  const std::vector<torch::Tensor> all = parameters();
  TORCH_CHECK(copies.size() == all.size(), copies.size(), " copies for ", all.size(), " parameters");
  for (size_t i = 0; i < all.size(); ++i) copy_of[all[i].unsafeGetTensorImpl()] = copies[i];
  for (const auto& module : modules(/*include_self=*/false)) {
    auto* layer = dynamic_cast<AffineLayer*>(module.get());
    if (layer == nullptr || layer == time_in_.get() || layer == time_out_.get() || layer == out_conv_.get()) continue;
    layer->ComputeWith(copy_of.at(layer->weight.unsafeGetTensorImpl()), copy_of.at(layer->bias.unsafeGetTensorImpl()));
    compute_type_ = copies.front().scalar_type();
  }
}

void InitializeParameters(Unet& unet, std::uint64_t seed) {
  const torch::NoGradGuard no_grad;
  const auto draw = [seed](const std::string& name, torch::Tensor& parameter, double bound) {
    const random::RowKey key{seed, random::StreamId(random::InitStreamName(name)), 0};
    parameter.copy_(random::SymmetricUniform(key, parameter.sizes(), bound));
  };
  for (const auto& module : unet.named_modules("", /*include_self=*/false)) {
    if (auto* layer = dynamic_cast<AffineLayer*>(module.value().get())) {
      if (layer->init == Init::kZero) {
        layer->weight.zero_();
        layer->bias.zero_();
      } else {
        const double bound = 1.0 / std::sqrt(static_cast<double>(layer->weight[0].numel()));
        draw(module.key() + ".weight", layer->weight, bound);
        draw(module.key() + ".bias", layer->bias, bound);
      }
    } else if (auto* norm = dynamic_cast<GroupNorm*>(module.value().get())) {
      norm->weight.fill_(1);
      norm->bias.zero_();
    }
  }
}

}  // namespace p2::model

#include "worker/model/residual_block.h"

#include <ATen/ATen.h>

#include <utility>

#include "worker/model/resample.h"
#include "worker/random/random_tensors.h"
#include "worker/random/streams.h"

namespace p2::model {
namespace {

torch::Tensor Resampled(const torch::Tensor& x, Resample resample) {
  switch (resample) {
    case Resample::kUp:
      return UpsampleByTwo(x);
    case Resample::kDown:
      return DownsampleByTwo(x);
    case Resample::kNone:
      break;
  }
  return x;
}

}  // namespace

ResidualBlock::ResidualBlock(const ResidualOptions& options, const std::string& path)
    : options_(options),
      dropout_stream_(random::StreamId(DropoutStreamName(path))),
      dropout_rate_(random::DropoutRate::FromProbability(options.dropout)) {
  const int64_t in = options.in_channels, out = options.out_channels;
  auto in_layers = register_module("in_layers", std::make_shared<torch::nn::Module>());
  in_norm_ = in_layers->register_module("0", std::make_shared<GroupNorm>(in));
  in_conv_ = in_layers->register_module("2", std::make_shared<Conv>(in, out, 3));
  auto emb_layers = register_module("emb_layers", std::make_shared<torch::nn::Module>());
  embedding_ = emb_layers->register_module(
      "1", std::make_shared<Linear>(options.embedding_channels, options.scale_shift_norm ? 2 * out : out));
  auto out_layers = register_module("out_layers", std::make_shared<torch::nn::Module>());
  out_norm_ = out_layers->register_module("0", std::make_shared<GroupNorm>(out));
  out_conv_ = out_layers->register_module("3", std::make_shared<Conv>(out, out, 3, Init::kZero));
  if (in != out) skip_ = register_module("skip_connection", std::make_shared<Conv>(in, out, 1));
}

std::string ResidualBlock::DropoutStreamName(const std::string& path) {
  return random::DropoutStreamName(path + ".out_layers.2");
}

torch::Tensor ResidualBlock::forward(const torch::Tensor& x, const torch::Tensor& emb, const DropoutContext* dropout) {
  torch::Tensor h = Resampled(ConsumingSilu(in_norm_->forward(x)), options_.resample);
  h = in_conv_->forward(h);  // (B, out, H', W')
  const torch::Tensor e = embedding_->forward(emb).unsqueeze(2).unsqueeze(3);
  if (options_.scale_shift_norm) {
    const auto scale_and_shift = e.chunk(2, 1);
    h = at::addcmul(scale_and_shift[1], out_norm_->forward(h), scale_and_shift[0] + 1);
  } else {
    h = out_norm_->forward(h + e);
  }
  h = ConsumingSilu(std::move(h));
  if (dropout != nullptr) {
    h = random::Dropout(h, {dropout->seed, dropout_stream_, dropout->first_sample, dropout->device_sample},
                        dropout_rate_);
  }
  h = out_conv_->forward(h);
  torch::Tensor skip = Resampled(x, options_.resample);
  if (skip_ != nullptr) skip = skip_->forward(skip);
  return h.add_(skip);
}

Downsample::Downsample(int64_t channels) {
  op_ = register_module("op", std::make_shared<Conv>(channels, channels, 3, Init::kUniform, /*stride=*/2));
}

torch::Tensor Downsample::forward(const torch::Tensor& x, const torch::Tensor&, const DropoutContext*) {
  return op_->forward(x);
}

Upsample::Upsample(int64_t channels) { conv_ = register_module("conv", std::make_shared<Conv>(channels, channels, 3)); }

torch::Tensor Upsample::forward(const torch::Tensor& x, const torch::Tensor&, const DropoutContext*) {
  return conv_->forward(Resampled(x, Resample::kUp));
}

}  // namespace p2::model

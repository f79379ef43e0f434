#include "common/spec/unet_shape.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace p2::spec {
namespace {

constexpr int kGroups = 32;  // of every GroupNorm
constexpr int kMaxLevels = 8;
constexpr int kMaxModelChannels = 4096;
constexpr double kMaxMult = 32;
constexpr int64_t kFloat = 4;  // Bytes.

int64_t LevelChannels(double mult, int model_channels) { return static_cast<int64_t>(mult * model_channels); }

// Walks the modules in the published order, adding up parameters and what autograd keeps for one sample.
class Walker {
 public:
  explicit Walker(const UnetOptions& options, Precision precision = Precision::kFp32)
      : o_(options), embedding_(4 * options.model_channels), bytes_(precision == Precision::kBf16 ? 2 : kFloat) {}

  void Walk() {
    Linear("time_embed.0", o_.model_channels, embedding_);
    Linear("time_embed.2", embedding_, embedding_);
    const int levels = static_cast<int>(o_.channel_mult.size());
    const int input_channels = Width(0);
    size_ = o_.image_size;
    int channels = input_channels;
    int block = 0;
    std::vector<int> skips = {channels};
    Convolution("input_blocks.0.0", o_.in_channels, channels, 3);
    Keep(channels);
    for (int level = 0; level < levels; ++level) {
      const int width = Width(level);
      for (int i = 0; i < o_.num_res_blocks; ++i) {
        const std::string name = absl::StrCat("input_blocks.", ++block);
        Residual(name + ".0", channels, width);
        channels = width;
        if (Attends()) Attention(name + ".1", channels);
        skips.push_back(channels);
      }
      if (level + 1 == levels) break;
      const std::string name = absl::StrCat("input_blocks.", ++block, ".0");
      if (o_.resblock_updown) {
        Residual(name, channels, channels, size_ / 2);
      } else {
        Convolution(name + ".op", channels, channels, 3);
        size_ /= 2;
        Keep(channels);
      }
      factor_ *= 2;
      skips.push_back(channels);
    }

    Residual("middle_block.0", channels, channels);
    Attention("middle_block.1", channels);
    Residual("middle_block.2", channels, channels);

    block = -1;
    for (int level = levels - 1; level >= 0; --level) {
      const int width = Width(level);
      for (int i = 0; i <= o_.num_res_blocks; ++i) {
        const std::string name = absl::StrCat("output_blocks.", ++block);
        const int joined = channels + skips.back();
        skips.pop_back();
        Keep(joined);
        Residual(name + ".0", joined, width);
        channels = width;
        int next = 1;
        if (Attends()) Attention(absl::StrCat(name, ".", next++), channels);
        if (level == 0 || i < o_.num_res_blocks) continue;
        if (o_.resblock_updown) {
          Residual(absl::StrCat(name, ".", next), channels, channels, size_ * 2);
        } else {
          size_ *= 2;
          Keep(2 * channels);
          Convolution(absl::StrCat(name, ".", next, ".conv"), channels, channels, 3);
        }
        factor_ /= 2;
      }
    }
    Norm("out.0", channels);
    bytes_ = kFloat;
    Keep(2 * channels);
    Convolution("out.2", input_channels, o_.out_channels, 3);
  }

  // The modules that hold attention, by their channels; filled by Walk().
  const std::vector<int>& attention_channels() const { return attention_channels_; }
  std::vector<ParameterShape>& parameters() { return parameters_; }
  // What autograd keeps for one sample, with the inside of one block where that is computed again.
  int64_t kept_bytes() const { return kept_bytes_ + largest_inside_; }

 private:
  int Width(int level) const { return static_cast<int>(LevelChannels(o_.channel_mult[level], o_.model_channels)); }

  bool Attends() const {
    return std::any_of(o_.attention_resolutions.begin(), o_.attention_resolutions.end(),
                       [this](int r) { return o_.image_size / r == factor_; });
  }

  void Add(const std::string& module, std::vector<int64_t> weight_shape) {
    const int64_t out = weight_shape[0];
    parameters_.push_back({module + ".weight", std::move(weight_shape)});
    parameters_.push_back({module + ".bias", {out}});
  }
  void Linear(const std::string& module, int in, int out) { Add(module, {out, in}); }
  void Norm(const std::string& module, int channels) { Add(module, {channels}); }
  void Convolution(const std::string& module, int in, int out, int kernel) { Add(module, {out, in, kernel, kernel}); }

  // `channels` maps of the current size stay in memory until the backward pass.
  void Keep(int channels) { kept_bytes_ += bytes_ * channels * size_ * size_; }

  // What was kept since `before`, the inside of a block, is kept only while the block's gradients are computed.
  void EndInside(int64_t before) {
    if (!o_.activation_recompute) return;
    largest_inside_ = std::max(largest_inside_, kept_bytes_ - before);
    kept_bytes_ = before;
  }

  // A block whose output has `out_size` pixels a side (0: the input's size), which becomes the current size.
  void Residual(const std::string& name, int in, int out, int out_size = 0) {
    Norm(name + ".in_layers.0", in);
    Convolution(name + ".in_layers.2", in, out, 3);
    Linear(name + ".emb_layers.1", embedding_, o_.use_scale_shift_norm ? 2 * out : out);
    Norm(name + ".out_layers.0", out);
    Convolution(name + ".out_layers.3", out, out, 3);
    if (in != out) Convolution(name + ".skip_connection", in, out, 1);

    const int64_t before = kept_bytes_;
    Keep(2 * in);  // norm, SiLU
    if (out_size != 0) {
      size_ = out_size;
      Keep(in);  // resampled
    }
    Keep(4 * out);  // convolution, norm, scale and shift (or sum with the embedding), SiLU
    if (o_.dropout > 0) Keep(out);
    EndInside(before);
    Keep(out);
  }

  void Attention(const std::string& name, int channels) {
    Norm(name + ".norm", channels);
    Add(name + ".qkv", {3 * channels, channels, 1});
    Add(name + ".proj_out", {channels, channels, 1});

    attention_channels_.push_back(channels);
    const int64_t heads = o_.num_head_channels > 0 ? channels / o_.num_head_channels : o_.num_heads;
    const int64_t pixels = int64_t{size_} * size_;
    const int64_t before = kept_bytes_;
    Keep(5 * channels);  // norm, q, k, v, weighted sum
    // Softmax, in fp32; bf16 multiplies by a copy.
    kept_bytes_ += (kFloat + (bytes_ < kFloat ? bytes_ : 0)) * heads * pixels * pixels;
    EndInside(before);
    Keep(channels);
  }

  const UnetOptions& o_;
  const int embedding_;
  int size_ = 0;    // pixels a side, where the walk is
  int factor_ = 1;  // image_size / size_
  std::vector<int> attention_channels_;
  std::vector<ParameterShape> parameters_;
  int64_t bytes_;  // Of an element.
  int64_t kept_bytes_ = 0;
  int64_t largest_inside_ = 0;
};

UnetOptions WithChannelMult(UnetOptions options) {
  if (options.channel_mult.empty()) options.channel_mult = PublishedChannelMult(options.image_size);
  return options;
}

absl::Status CheckedStatus(const UnetOptions& options) {
  const std::vector<UnetProblem> problems = CheckUnet(options);
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems, "\n", [](std::string* out, const UnetProblem& problem) {
    absl::StrAppend(out, problem.field, ": ", problem.description);
  }));
}

}  // namespace

std::vector<double> PublishedChannelMult(int image_size) {
  switch (image_size) {
    case 512:
      return {0.5, 1, 1, 2, 2, 4, 4};
    case 256:
      return {1, 1, 2, 2, 4, 4};
    case 128:
      return {1, 1, 2, 3, 4};
    case 64:
      return {1, 2, 3, 4};
    default:
      return {};
  }
}

std::vector<UnetProblem> CheckUnet(const UnetOptions& given) {
  const UnetOptions o = WithChannelMult(given);
  std::vector<UnetProblem> problems;
  const auto fail = [&problems](std::string field, const auto&... what) {
    problems.push_back({std::move(field), absl::StrCat(what...)});
  };
  const auto in_range = [&fail](const char* field, int value, int low, int high) {
    if (value < low || value > high) fail(field, "is ", value, "; must be ", low, " to ", high);
  };
  in_range("image_size", o.image_size, 8, 1024);
  in_range("in_channels", o.in_channels, 1, 16);
  in_range("model_channels", o.model_channels, kGroups, kMaxModelChannels);
  if (o.model_channels % kGroups != 0) {
    fail("model_channels", "is ", o.model_channels, "; must be a multiple of ", kGroups,
         " (the groups of every GroupNorm)");
  }
  if (o.out_channels != o.in_channels && o.out_channels != 2 * o.in_channels) {
    fail("out_channels", "is ", o.out_channels, "; must be in_channels (", o.in_channels, ") or twice that");
  }
  const int levels = static_cast<int>(o.channel_mult.size());
  if (levels == 0) {
    fail("channel_mult", "is empty, and the published table has no entry for image_size ", o.image_size,
         " (only 64, 128, 256, 512): give one multiple a level, such as [1, 2, 2]");
  }
  if (levels > kMaxLevels) fail("channel_mult", "has ", levels, " levels; at most ", kMaxLevels);
  if (levels > 0 && levels <= kMaxLevels && o.image_size > 0 && o.image_size % (1 << (levels - 1)) != 0) {
    fail("image_size", "is ", o.image_size, "; ", levels, " levels need a multiple of ", 1 << (levels - 1));
  }
  for (const double mult : o.channel_mult) {
    if (!(mult > 0 && mult <= kMaxMult)) {
      fail("channel_mult", "holds ", mult, "; must be above 0 and at most ", kMaxMult);
    } else if (LevelChannels(mult, o.model_channels) % kGroups != 0 ||
               LevelChannels(mult, o.model_channels) < kGroups) {
      fail("channel_mult", "holds ", mult, ", which makes ", LevelChannels(mult, o.model_channels),
           " channels; must be a multiple of ", kGroups);
    }
  }
  in_range("num_res_blocks", o.num_res_blocks, 1, 8);
  for (const int r : o.attention_resolutions) {
    if (r < 1) fail("attention_resolutions", "holds ", r, "; must be at least 1 pixel");
  }
  if (o.num_head_channels < 0) fail("num_head_channels", "is ", o.num_head_channels, "; must be at least 0");
  if (o.num_head_channels == 0) in_range("num_heads", o.num_heads, 1, 1024);
  if (!(o.dropout >= 0 && o.dropout < 1)) fail("dropout", "is ", o.dropout, "; must be at least 0 and below 1");
  if (!problems.empty()) return problems;

  Walker walker(o);
  walker.Walk();
  for (const int channels : walker.attention_channels()) {
    if (o.num_head_channels > 0 && channels % o.num_head_channels != 0) {
      fail("num_head_channels", "is ", o.num_head_channels, ", which does not divide the ", channels,
           " channels of an attention block");
      break;
    }
    if (o.num_head_channels == 0 && channels % o.num_heads != 0) {
      fail("num_heads", "is ", o.num_heads, ", which does not divide the ", channels,
           " channels of an attention block");
      break;
    }
  }
  return problems;
}

int64_t ParameterShape::num_elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

absl::StatusOr<std::vector<ParameterShape>> WalkUnet(const UnetOptions& options) {
  P2_RETURN_IF_ERROR(CheckedStatus(options));
  const UnetOptions resolved = WithChannelMult(options);
  Walker walker(resolved);
  walker.Walk();
  return std::move(walker.parameters());
}

int64_t CountParameters(absl::Span<const ParameterShape> parameters) {
  return std::accumulate(parameters.begin(), parameters.end(), int64_t{0},
                         [](int64_t sum, const ParameterShape& p) { return sum + p.num_elements(); });
}

absl::StatusOr<TrainingMemory> EstimateTrainingMemory(const UnetOptions& options, int num_emas, Precision precision) {
  P2_RETURN_IF_ERROR(CheckedStatus(options));
  const UnetOptions resolved = WithChannelMult(options);
  Walker walker(resolved, precision);
  walker.Walk();
  const int64_t buffer = kFloat * CountParameters(walker.parameters());
  return TrainingMemory{.parameters = buffer,
                        .bf16_parameters = precision == Precision::kBf16 ? buffer / 2 : 0,
                        .gradients = buffer,
                        .optimizer = 2 * buffer,
                        .emas = num_emas * buffer,
                        .activations_per_sample = walker.kept_bytes()};
}

}  // namespace p2::spec

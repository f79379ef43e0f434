#include "common/spec/validate.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/label_text.h"
#include "common/spec/power_ema.h"
#include "common/spec/random_crop.h"
#include "common/spec/respacing.h"
#include "common/spec/scalar_text.h"
#include "common/spec/weighting.h"

namespace p2::spec {
namespace {

using p2::v1::DiffusionSpec;
using p2::v1::EmaSpec;
using p2::v1::TrainingSpec;

constexpr int kMaxEmas = 8;
constexpr int kMostBest = 100;
constexpr size_t kMaxSelectorTerms = 32;
constexpr absl::Duration kLongestWait = absl::Hours(24 * 365);

bool IsLowerOrDigit(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }

// [a-z]([a-z0-9-]{0,48}[a-z0-9])?
bool IsJobName(absl::string_view name) {
  if (name.empty() || name.size() > 50 || !absl::ascii_islower(name.front()) || !IsLowerOrDigit(name.back()))
    return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return IsLowerOrDigit(c) || c == '-'; });
}

// [a-z0-9][a-z0-9._-]{0,62}
bool IsResourceName(absl::string_view name) {
  if (name.empty() || name.size() > 63 || !IsLowerOrDigit(name.front())) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return IsLowerOrDigit(c) || c == '.' || c == '_' || c == '-'; });
}

// [a-z0-9.]{1,32}, and a file name: no "." or "..".
bool IsEmaName(absl::string_view name) {
  if (name.empty() || name.size() > 32 || name.find_first_not_of('.') == absl::string_view::npos) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return IsLowerOrDigit(c) || c == '.'; });
}

class Validator {
 public:
  Validator(const TrainingSpec& spec, bool require_dataset) : spec_(spec), require_dataset_(require_dataset) {}

  std::vector<FieldViolation> Run() {
    if (!spec_.name().empty() && !IsJobName(spec_.name())) {
      Fail("name", "is ", Quoted(spec_.name()), "; must be [a-z]([a-z0-9-]{0,48}[a-z0-9])?");
    }
    AtMost("description", spec_.description().size(), 1000, " bytes long");
    CheckData();
    for (const UnetProblem& problem : CheckUnet(ToUnetOptions(spec_)))
      Fail("model." + problem.field, problem.description);
    CheckObjective();
    CheckTraining();
    CheckEmas();
    CheckService();
    return std::move(violations_);
  }

 private:
  template <typename... Parts>
  void Fail(std::string field, const Parts&... parts) {
    violations_.push_back({std::move(field), absl::StrCat(parts...), ""});
  }
  template <typename T>
  void AtLeast(const char* field, T value, T low) {
    if (value < low) Fail(field, "is ", value, "; must be at least ", low);
  }
  void AtMost(const char* field, size_t value, size_t high, const char* unit) {
    if (value > high) Fail(field, "is ", value, unit, "; at most ", high);
  }
  // The comparisons are written so that NaN fails them.
  void Positive(const char* field, double value) {
    if (!(value > 0) || std::isinf(value)) Fail(field, "is ", value, "; must be finite and above 0");
  }
  bool NonNegative(const char* field, double value) {
    const bool good = value >= 0 && !std::isinf(value);
    if (!good) Fail(field, "is ", value, "; must be finite and at least 0");
    return good;
  }
  void BelowOne(const char* field, double value) {
    if (!(value >= 0 && value < 1)) Fail(field, "is ", value, "; must be at least 0 and below 1");
  }
  absl::Duration Wait(const char* field, const google::protobuf::Duration& proto) {
    const absl::Duration wait = absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
    if (wait <= absl::ZeroDuration() || wait > kLongestWait) {
      Fail(field, "is ", absl::FormatDuration(wait), "; must be above 0 and at most ",
           absl::FormatDuration(kLongestWait));
    }
    return wait;
  }

  void CheckCrop() {
    const p2::v1::DataSpec& data = spec_.data();
    if (!data.random_crop()) return;
    if (!(data.max_crop_fraction() > 0 && data.max_crop_fraction() <= 1)) {
      Fail("data.max_crop_fraction", "is ", data.max_crop_fraction(), "; must be above 0 and at most 1");
    } else if (!(data.min_crop_fraction() >= 0.01 && data.min_crop_fraction() <= data.max_crop_fraction())) {
      Fail("data.min_crop_fraction", "is ", data.min_crop_fraction(), "; must be 0.01 to max_crop_fraction (",
           data.max_crop_fraction(), ")");
    }
  }

  void CheckData() {
    CheckCrop();
    const std::string& dataset = spec_.data().dataset();
    if (dataset.empty()) {
      if (require_dataset_) Fail("data.dataset", "is missing; name a registered dataset (--dataset NAME)");
    } else if (!IsResourceName(dataset)) {
      Fail("data.dataset", "is ", Quoted(dataset), "; must be [a-z0-9][a-z0-9._-]{0,62}");
    }
  }

  // The schedule, and what needs one: the weight at every t, the previews' respacing.
  void CheckObjective() {
    const DiffusionSpec& diffusion = spec_.diffusion();
    const bool gamma = NonNegative("objective.gamma", spec_.objective().gamma());
    const bool k = NonNegative("objective.k", spec_.objective().k());
    if (diffusion.noise_schedule() != DiffusionSpec::LINEAR && diffusion.noise_schedule() != DiffusionSpec::COSINE) {
      return Fail("diffusion.noise_schedule", "is not set; must be linear or cosine");
    }
    const absl::StatusOr<NoiseSchedule> schedule = ToNoiseSchedule(diffusion);
    if (!schedule.ok()) {
      return Fail("diffusion.timesteps", "is ", diffusion.timesteps(), ": ", schedule.status().message());
    }
    // One that cannot be counts as 1 here, so that the weight's own error is told with it.
    const absl::Status weight = ObjectiveWeights(spec_.objective().weight(), gamma ? spec_.objective().gamma() : 1,
                                                 k ? spec_.objective().k() : 1, *schedule)
                                    .status();
    if (!weight.ok()) Fail("objective.weight", weight.message());
    const absl::Status respacing = MakeSpacedSchedule(*schedule, spec_.preview().steps()).status();
    if (!respacing.ok()) Fail("preview.steps", respacing.message());
  }

  void CheckTraining() {
    const p2::v1::TrainingOptions& t = spec_.training();
    AtLeast<int64_t>("training.images", t.images(), 1);
    AtLeast("training.batch", t.batch(), 1);
    if (t.microbatch() < kAutoMicrobatch) {
      Fail("training.microbatch", "is ", t.microbatch(), "; must be auto, or at least 0 (the device's whole share)");
    }
    CheckReduction(t);
    CheckBitwise(t);
    Positive("training.learning_rate", t.learning_rate());
    BelowOne("training.beta1", t.beta1());
    BelowOne("training.beta2", t.beta2());
    Positive("training.epsilon", t.epsilon());
    NonNegative("training.weight_decay", t.weight_decay());
    AtLeast<int64_t>("training.log_every_images", t.log_every_images(), 1);
    NonNegative("training.clip_grad_norm", t.clip_grad_norm());
  }

  void CheckReduction(const p2::v1::TrainingOptions& t) {
    const int shards = t.shards();
    if (t.reduction() == p2::v1::TrainingOptions::EXACT && t.cudnn_autotune()) {
      Fail("training.cudnn_autotune", "is true; with reduction: exact leave it out, or bits would depend on timing");
    }
    if (t.reduction() != p2::v1::TrainingOptions::EXACT) {
      if (shards != 0) Fail("training.shards", "is ", shards, ", but only reduction: exact has shards; set that too");
      return;
    }
    if (shards < 1 || (shards & (shards - 1)) != 0 || t.batch() % shards != 0) {
      Fail("training.shards", "is ", shards, "; must be a power of two that divides training.batch (", t.batch(), ")");
    } else if (spec_.resources().devices() > shards) {
      Fail("resources.devices", "is ", spec_.resources().devices(), ", more than training.shards (", shards,
           "); with reduction: exact every device needs a shard");
    } else if (t.microbatch() != 0 && t.microbatch() != t.batch() / shards) {
      Fail("training.microbatch", "is ", t.microbatch() == kAutoMicrobatch ? kAutoWord : absl::StrCat(t.microbatch()),
           "; with reduction: exact it is training.batch / training.shards (", t.batch() / shards, "): leave it out");
    }
  }

  void CheckBitwise(const p2::v1::TrainingOptions& t) {
    if (t.bitwise() != p2::v1::TrainingOptions::REQUIRED) return;
    if (t.cudnn_autotune()) {
      Fail("training.cudnn_autotune", "is true; with bitwise: required leave it out, or bits would depend on timing");
    }
    if (t.microbatch() == kAutoMicrobatch) {
      Fail("training.microbatch",
           "is auto, which may differ from attempt to attempt; with bitwise: required give a number, or 0 for the "
           "device's whole share");
    }
    if (spec_.resources().threads() == 0 && spec_.resources().kind() != "cuda") {
      Fail("resources.threads", "is 0, the machine's share; with bitwise: required give the threads of a CPU rank");
    }
  }

  void CheckEmas() {
    if (spec_.ema_size() < 1 || spec_.ema_size() > kMaxEmas) {
      Fail("ema", "holds ", spec_.ema_size(), " averages; must be 1 to ", kMaxEmas, " (the first draws the previews)");
    }
    std::set<std::string> names;
    for (int i = 0; i < spec_.ema_size(); ++i) {
      const EmaSpec& ema = spec_.ema(i);
      const std::string path = absl::StrCat("ema.", i);
      if (!IsEmaName(ema.name())) {
        Fail(path + ".name", "is ", Quoted(ema.name()), "; must be 1 to 32 of a-z, 0-9 and '.'");
      } else if (!names.insert(ema.name()).second) {
        Fail(path + ".name", "is ", Quoted(ema.name()), " for the second time; names must differ");
      }
      const int rules = ema.has_rate() + ema.has_half_life_images() + ema.has_sigma_rel();
      if (rules != 1) {
        Fail(path, "sets ",
             rules == 0   ? "none"
             : rules == 2 ? "two"
                          : "all",
             " of rate, half_life_images and sigma_rel; must set exactly one");
      } else if (ema.has_rate() && !(ema.rate() > 0 && ema.rate() < 1)) {
        Fail(path + ".rate", "is ", ema.rate(), "; must be above 0 and below 1");
      } else if (ema.has_half_life_images()) {
        Positive((path + ".half_life_images").c_str(), ema.half_life_images());
      } else if (ema.has_sigma_rel() && !(ema.sigma_rel() >= kLeastSigmaRel && ema.sigma_rel() <= kMostSigmaRel)) {
        Fail(path + ".sigma_rel", "is ", ema.sigma_rel(), "; must be ", kLeastSigmaRel, " to ", kMostSigmaRel);
      } else if (ema.has_sigma_rel() && ema.warmup()) {
        Fail(path + ".warmup",
             "is true, but an average with sigma_rel starts from the first update by itself; leave it out");
      }
    }
    CheckSnapshots();
  }

  void CheckSnapshots() {
    const p2::v1::EmaSnapshotSpec& snapshots = spec_.ema_snapshots();
    AtLeast<int64_t>("ema_snapshots.every_images", snapshots.every_images(), 0);
    if (snapshots.every_images() <= 0) return;
    if (snapshots.most() < 2 || snapshots.most() > 1024) {
      Fail("ema_snapshots.most", "is ", snapshots.most(), "; must be 2 to 1024");
    }
    if (CountPowerEmas(spec_) == 0) {
      Fail("ema_snapshots.every_images", "is ", snapshots.every_images(),
           ", but no average has sigma_rel, and of the others nothing can be reconstructed; add some, such as ema: "
           "[{sigma_rel: 0.05}, {sigma_rel: 0.10}]");
    }
  }

  void CheckRetention() {
    const p2::v1::CheckpointSpec& checkpoint = spec_.checkpoint();
    AtLeast<int64_t>("checkpoint.keep_every_images", checkpoint.keep_every_images(), 0);
    if (checkpoint.keep_best() < 0 || checkpoint.keep_best() > kMostBest) {
      Fail("checkpoint.keep_best", "is ", checkpoint.keep_best(), "; must be 0 to ", kMostBest);
    } else if (checkpoint.keep_best() > 0 && checkpoint.keep_best_metric().empty()) {
      Fail(
          "checkpoint.keep_best", "is ", checkpoint.keep_best(),
          ", but keep_best_metric does not say best by what; add the name of a metric, such as keep_best_metric: loss");
    }
    AtMost("checkpoint.keep_best_metric", checkpoint.keep_best_metric().size(), 100, " bytes long");
  }

  void CheckNodeSelector() {
    const auto& selector = spec_.resources().node_selector();
    AtMost("resources.node_selector", selector.size(), kMaxSelectorTerms, " entries long");
    for (const auto& [key, value] : std::map<std::string, std::string>(selector.begin(), selector.end())) {
      if (!IsLabelKey(key)) {
        Fail("resources.node_selector", "has the key ", Quoted(key), "; must be [a-z0-9][a-z0-9._/-]{0,62}");
      } else if (!IsLabelText(value, /*upper=*/true)) {
        Fail(absl::StrCat("resources.node_selector.", key), "is ", Quoted(value), "; must be [A-Za-z0-9._/-]{0,63}");
      }
    }
  }

  void CheckService() {
    AtLeast<int64_t>("checkpoint.every_images", spec_.checkpoint().every_images(), 1);
    AtLeast("checkpoint.keep_last", spec_.checkpoint().keep_last(), 2);
    if (const std::string& root = spec_.checkpoint().root(); !root.empty() && !IsResourceName(root)) {
      Fail("checkpoint.root", "is ", Quoted(root), "; must be a root's name, [a-z0-9][a-z0-9._-]{0,62}");
    }
    CheckRetention();
    AtLeast<int64_t>("preview.every_images", spec_.preview().every_images(), -1);
    if (spec_.preview().count() < 1 || spec_.preview().count() > 256) {
      Fail("preview.count", "is ", spec_.preview().count(), "; must be 1 to 256");
    }

    const p2::v1::ResourceSpec& resources = spec_.resources();
    AtLeast("resources.devices", resources.devices(), 1);
    if (spec_.training().batch() >= 1 && resources.devices() > spec_.training().batch()) {
      Fail("resources.devices", "is ", resources.devices(), ", more than the ", spec_.training().batch(),
           " samples of training.batch; every device needs at least one");
    }
    if (resources.min_devices() < 0 || resources.min_devices() > std::max(resources.devices(), 1)) {
      Fail("resources.min_devices", "is ", resources.min_devices(), "; must be 0 (not elastic) to resources.devices (",
           resources.devices(), ")");
    }
    AtLeast<int64_t>("resources.min_device_memory", resources.min_device_memory(), 0);
    CheckNodeSelector();
    if (resources.kind() != "" && resources.kind() != "cpu" && resources.kind() != "cuda") {
      Fail("resources.kind", "is ", Quoted(resources.kind()), "; must be cpu, cuda or empty for either");
    }
    if (resources.threads() < 0 || resources.threads() > 1024) {
      Fail("resources.threads", "is ", resources.threads(), "; must be 0 to 1024");
    }

    AtLeast("restart.budget", spec_.restart().budget(), 0);
    const absl::Duration initial = Wait("restart.backoff_initial", spec_.restart().backoff_initial());
    const absl::Duration most = Wait("restart.backoff_max", spec_.restart().backoff_max());
    if (most < initial) {
      Fail("restart.backoff_max", "is ", absl::FormatDuration(most), "; must be at least backoff_initial (",
           absl::FormatDuration(initial), ")");
    }
    Wait("deadlines.start", spec_.deadlines().start());
    Wait("deadlines.step", spec_.deadlines().step());
    Wait("deadlines.preview", spec_.deadlines().preview());
    Wait("deadlines.save", spec_.deadlines().save());
    Wait("deadlines.stop", spec_.deadlines().stop());
    if (spec_.deadlines().has_fence_after()) Wait("deadlines.fence_after", spec_.deadlines().fence_after());
  }

  const TrainingSpec& spec_;
  const bool require_dataset_;
  std::vector<FieldViolation> violations_;
};

}  // namespace

std::vector<FieldViolation> ValidateSpec(const TrainingSpec& spec, bool require_dataset) {
  return Validator(spec, require_dataset).Run();
}

std::vector<std::string> SpecWarnings(const TrainingSpec& spec) {
  std::vector<std::string> warnings;
  const p2::v1::ObjectiveSpec& objective = spec.objective();
  if (!UsesGammaAndK(objective.weight())) return warnings;
  if (objective.gamma() > 2) {
    warnings.push_back(
        absl::StrCat("objective.gamma is ", objective.gamma(), "; above 2 the paper saw noise artifacts in samples"));
  }
  if (objective.k() == 0) {
    warnings.push_back("objective.k is 0; the weight then grows without bound as the SNR falls (the paper uses 1)");
  }
  return warnings;
}

UnetOptions ToUnetOptions(const TrainingSpec& spec) {
  const p2::v1::ModelSpec& model = spec.model();
  return {.image_size = model.image_size(),
          .in_channels = model.in_channels(),
          .model_channels = model.model_channels(),
          .out_channels = (spec.diffusion().learn_sigma() ? 2 : 1) * model.in_channels(),
          .channel_mult = {model.channel_mult().begin(), model.channel_mult().end()},
          .num_res_blocks = model.num_res_blocks(),
          .attention_resolutions = {model.attention_resolutions().begin(), model.attention_resolutions().end()},
          .num_heads = model.num_heads(),
          .num_head_channels = model.num_head_channels(),
          .resblock_updown = model.resblock_updown(),
          .use_scale_shift_norm = model.use_scale_shift_norm(),
          .dropout = model.dropout(),
          .activation_recompute = model.activation_recompute()};
}

absl::StatusOr<NoiseSchedule> ToNoiseSchedule(const DiffusionSpec& diffusion) {
  return MakeNoiseSchedule(
      diffusion.noise_schedule() == DiffusionSpec::COSINE ? ScheduleKind::kCosine : ScheduleKind::kLinear,
      diffusion.timesteps());
}

double LearningRate(const p2::v1::TrainingOptions& training) {
  const double ratio = training.batch() / static_cast<double>(kPaperBatch);
  switch (training.learning_rate_rule()) {
    case p2::v1::TrainingOptions::LINEAR_SCALING:
      return training.learning_rate() * ratio;
    case p2::v1::TrainingOptions::SQRT:
      return training.learning_rate() * std::sqrt(ratio);
    default:
      return training.learning_rate();
  }
}

double EmaRate(const EmaSpec& ema, int batch) {
  return ema.has_rate() ? ema.rate() : std::exp2(-batch / ema.half_life_images());
}

int CountPowerEmas(const TrainingSpec& spec) {
  return static_cast<int>(
      std::count_if(spec.ema().begin(), spec.ema().end(), [](const EmaSpec& ema) { return ema.has_sigma_rel(); }));
}

int LeastDatasetResolution(const TrainingSpec& spec) {
  const int size = spec.model().image_size();
  if (!spec.data().random_crop()) return size;
  return RandomCropSides(size, spec.data().min_crop_fraction(), spec.data().max_crop_fraction()).most;
}

}  // namespace p2::spec

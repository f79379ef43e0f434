#include "worker/trainer/spec_seam.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/spec/power_ema.h"
#include "common/spec/resolve.h"
#include "common/spec/scalar_text.h"
#include "common/spec/unknown_fields.h"
#include "common/spec/validate.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "google/protobuf/util/json_util.h"
#include "p2/trainer/v1/pipes.pb.h"
#include "p2/v1/launch.pb.h"

namespace p2::trainer {
namespace {

namespace pb = ::p2::trainer::v1;

void Take(const google::protobuf::Duration& from, bool set, absl::Duration* to) {
  if (set) *to = absl::Seconds(from.seconds()) + absl::Nanoseconds(from.nanos());
}

TrainSpec SpecFromProto(const ::p2::v1::TrainingSpec& from) {
  TrainSpec to;
  const auto& model = from.model();
  to.learn_sigma = from.diffusion().learn_sigma();
  to.model.image_size = model.image_size();
  to.model.in_channels = model.in_channels();
  to.model.out_channels = model.in_channels() * (to.learn_sigma ? 2 : 1);
  to.model.model_channels = model.model_channels();
  to.model.channel_mult.assign(model.channel_mult().begin(), model.channel_mult().end());
  to.model.num_res_blocks = model.num_res_blocks();
  to.model.attention_resolutions.assign(model.attention_resolutions().begin(), model.attention_resolutions().end());
  to.model.num_heads = model.num_heads();
  to.model.num_head_channels = model.num_head_channels();
  to.model.resblock_updown = model.resblock_updown();
  to.model.use_scale_shift_norm = model.use_scale_shift_norm();
  to.model.dropout = model.dropout();
  to.model.activation_recompute = model.activation_recompute();

  to.noise_schedule = from.diffusion().noise_schedule() == ::p2::v1::DiffusionSpec::COSINE
                          ? spec::ScheduleKind::kCosine
                          : spec::ScheduleKind::kLinear;
  to.timesteps = from.diffusion().timesteps();
  to.rescale_learned_sigmas = from.diffusion().rescale_learned_sigmas();
  to.weight = from.objective().weight();
  to.gamma = from.objective().gamma();
  to.k = from.objective().k();
  to.random_flip = from.data().random_flip();
  to.random_crop = from.data().random_crop();
  to.min_crop_fraction = from.data().min_crop_fraction();
  to.max_crop_fraction = from.data().max_crop_fraction();

  const auto& training = from.training();
  to.images = training.images();
  to.batch = training.batch();
  const bool exact = training.reduction() == ::p2::v1::TrainingOptions::EXACT;
  to.leaves = exact ? training.shards() : 0;
  to.microbatch = exact ? 0 : training.microbatch();  // The leaf is the microbatch.
  to.anneal_linearly = training.learning_rate_schedule() == ::p2::v1::TrainingOptions::LINEAR;
  to.clip_grad_norm = training.clip_grad_norm();
  to.learning_rate = spec::LearningRate(training);
  to.beta1 = training.beta1();
  to.beta2 = training.beta2();
  to.epsilon = training.epsilon();
  to.weight_decay = training.weight_decay();
  to.seed = training.seed();
  to.precision = training.precision() == ::p2::v1::TrainingOptions::BF16   ? spec::Precision::kBf16
                 : training.precision() == ::p2::v1::TrainingOptions::TF32 ? spec::Precision::kTf32
                                                                           : spec::Precision::kFp32;
  to.cuda_graph = training.cuda_graph() == ::p2::v1::TrainingOptions::AUTO;
  to.cudnn_autotune = training.cudnn_autotune();
  to.bitwise_required = training.bitwise() == ::p2::v1::TrainingOptions::REQUIRED;
  to.log_every_images = training.log_every_images();
  for (const auto& ema : from.ema()) {
    EmaProfile& profile = to.emas.emplace_back(EmaProfile{.name = ema.name(), .warmup = ema.warmup()});
    if (ema.has_sigma_rel()) {
      profile.gamma = spec::PowerEmaGamma(ema.sigma_rel());
    } else {
      profile.rate = spec::EmaRate(ema, training.batch());
    }
  }
  to.snapshot_every_images = from.ema_snapshots().every_images();
  to.most_snapshots = from.ema_snapshots().most();

  to.checkpoint_every_images = from.checkpoint().every_images();
  to.keep_last = from.checkpoint().keep_last();
  to.preview_every_images = from.preview().every_images();
  to.preview_count = from.preview().count();
  to.preview_steps = from.preview().steps();
  const auto& deadlines = from.deadlines();
  Take(deadlines.start(), deadlines.has_start(), &to.deadlines.start);
  Take(deadlines.step(), deadlines.has_step(), &to.deadlines.step);
  Take(deadlines.preview(), deadlines.has_preview(), &to.deadlines.preview);
  Take(deadlines.save(), deadlines.has_save(), &to.deadlines.save);
  Take(deadlines.stop(), deadlines.has_stop(), &to.deadlines.stop);
  return to;
}

absl::StatusOr<std::string> SpecJson(const ::p2::v1::TrainingSpec& spec) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string json;
  if (const auto status = google::protobuf::util::MessageToJsonString(spec, &json, options); !status.ok()) {
    return absl::InternalError(absl::StrCat("spec to JSON: ", std::string(status.message())));
  }
  return json;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void AddRanges(const std::vector<SkippedSamples>& from, google::protobuf::RepeatedPtrField<pb::SampleRange>* to) {
  for (const SkippedSamples& range : from) {
    pb::SampleRange* const added = to->Add();
    added->set_begin(range.begin);
    added->set_end(range.end);
  }
}

void Fill(const Started& from, pb::TrainerEvent* to) {
  pb::Started& event = *to->mutable_started();
  event.set_images_seen(from.images_seen);
  event.set_resumed_from(from.resumed_from);
  event.mutable_fingerprint()->insert(from.fingerprint.begin(), from.fingerprint.end());
  event.set_parameters(from.parameters);
}

void Fill(const Progress& from, pb::TrainerEvent* to) {
  pb::Progress& event = *to->mutable_progress();
  event.set_phase(static_cast<pb::Progress::Phase>(from.phase));
  event.set_images_seen(from.images_seen);
  event.set_tick(from.tick);
  event.set_images_per_second(from.images_per_second);
}

void Fill(const MetricPoints& from, pb::TrainerEvent* to) {
  pb::MetricPoints& event = *to->mutable_metrics();
  event.set_images_seen(from.images_seen);
  event.set_step(from.step);
  event.mutable_values()->insert(from.values.begin(), from.values.end());
}

void Fill(const CheckpointSaved& from, pb::TrainerEvent* to) {
  pb::CheckpointSaved& event = *to->mutable_checkpoint();
  event.set_images_seen(from.images_seen);
  event.set_path(from.path);
  for (const checkpoint::FileEntry& entry : from.files) {
    pb::CheckpointFile* const file = event.add_files();
    file->set_path(entry.path);
    file->set_size_bytes(entry.size_bytes);
    file->set_sha256(entry.sha256);
  }
  for (const std::string& profile : from.ema_profiles) event.add_ema_profiles(profile);
  event.set_manifest_sha256(from.manifest_sha256);
}

void Fill(const ArtifactWritten& from, pb::TrainerEvent* to) {
  pb::ArtifactWritten& event = *to->mutable_artifact();
  event.set_file_name(from.file_name);
  event.set_kind(from.kind);
  event.set_content_type(from.content_type);
  event.set_images_seen(from.images_seen);
}

void Fill(const Finished& from, pb::TrainerEvent* to) {
  pb::Finished& event = *to->mutable_finished();
  event.set_outcome(static_cast<pb::Finished::Outcome>(from.outcome));
  event.set_exit_code(from.exit_code);
  event.set_images_seen(from.images_seen);
  event.set_message(ToValidUtf8(from.message));
}

void Fill(const Notice& from, pb::TrainerEvent* to) {
  pb::Notice& event = *to->mutable_notice();
  event.set_reason(from.reason);
  event.set_message(ToValidUtf8(from.message));  // It may quote a damaged file.
  AddRanges(from.skipped, event.mutable_skipped_ranges());
}

absl::StatusOr<Task> TaskFromProto(const ::p2::v1::TaskSpec& from) {
  using ::p2::v1::TaskSpec;
  switch (from.task_case()) {
    case TaskSpec::kSample: {
      const ::p2::v1::SampleTask& sample = from.sample();
      SampleTask to{sample.count(), sample.first(), sample.seed(), sample.steps()};
      if (sample.has_ddim_eta()) to.ddim_eta = sample.ddim_eta();
      to.ema = sample.ema();
      to.raw = sample.raw();
      to.no_clip = sample.no_clip();
      if (sample.format() == ::p2::v1::SampleTask::NPZ) to.format = "npz";
      if (sample.format() == ::p2::v1::SampleTask::GRID) to.format = "grid";
      if (sample.has_reconstruct()) {
        const ::p2::v1::Reconstruction& reconstruct = sample.reconstruct();
        to.reconstruct = Reconstruction{{reconstruct.snrs().begin(), reconstruct.snrs().end()},
                                        {reconstruct.timesteps().begin(), reconstruct.timesteps().end()}};
      }
      return to;
    }
    case TaskSpec::kImport:
      return ImportTask{from.import().has_step() ? std::make_optional(from.import().step()) : std::nullopt,
                        from.import().partial()};
    case TaskSpec::kExport: {
      const ::p2::v1::ExportTask& task = from.export_();
      const std::string format = task.format() == ::p2::v1::ExportTask::PT            ? "pt"
                                 : task.format() == ::p2::v1::ExportTask::SAFETENSORS ? "safetensors"
                                                                                      : "diffusers";
      return ExportTask{format, task.ema(), task.raw()};
    }
    case TaskSpec::kAverage:
      return AverageTask{from.average().sigma_rel(), from.average().images_seen()};
    default:
      return absl::InvalidArgumentError("the launch file names a task that this p2-trainer does not know");
  }
}

}  // namespace

absl::StatusOr<TrainOptions> OptionsFromLaunchFile(const std::string& path) {
  P2_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  p2::v1::Launch launch;
  if (!launch.ParseFromString(bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is no launch file: p2-worker writes it; by hand use --standalone"));
  }
  if (const std::string unknown = spec::FirstUnknownField(launch); !unknown.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the coordinator asks for what this p2-trainer does not know (",
                                                   unknown, "): bring this node to its version"));
  }
  TrainOptions options;
  options.spec = SpecFromProto(launch.spec());
  P2_ASSIGN_OR_RETURN(options.spec_json, SpecJson(launch.spec()));
  options.job_id = launch.job_id();
  options.attempt = launch.attempt();
  options.epoch = launch.epoch();
  options.dataset_dir = launch.dataset_dir();
  options.dataset_fingerprint = launch.dataset_fingerprint();
  options.checkpoint_dir = launch.checkpoint_dir();
  options.checkpoint_root = launch.checkpoint_root();
  options.resume_candidates.assign(launch.resume_candidates().begin(), launch.resume_candidates().end());
  for (const p2::v1::SampleRange& range : launch.skipped_ranges())
    options.skipped.push_back({range.begin(), range.end()});
  options.work_dir = launch.work_dir();
  options.source = launch.source();
  options.source_is_run = launch.source_is_run();
  options.output_dir = launch.output_dir();
  if (launch.has_task()) {
    P2_ASSIGN_OR_RETURN(options.task, TaskFromProto(launch.task()));
  }
  options.place.rendezvous_nonce = launch.rendezvous_nonce();
  options.place.threads = launch.threads() != 0 ? launch.threads() : launch.spec().resources().threads();
  return options;
}

absl::StatusOr<TrainOptions> OptionsFromSpec(const std::string& preset_or_file,
                                             absl::Span<const std::string> assignments,
                                             std::vector<std::string>* warnings) {
  spec::ResolveRequest request;
  request.require_dataset = false;
  if (std::filesystem::is_regular_file(preset_or_file)) {
    request.file_name = preset_or_file;
    P2_ASSIGN_OR_RETURN(request.file_yaml, ReadFile(preset_or_file));
  } else {
    request.preset = preset_or_file;
  }
  for (const std::string& assignment : assignments) {
    P2_ASSIGN_OR_RETURN(spec::Override value, spec::ParseOverride(assignment));
    request.overrides.push_back(std::move(value));
  }
  P2_ASSIGN_OR_RETURN(const spec::ResolvedSpec resolved, spec::Resolve(request));
  *warnings = resolved.warnings;
  TrainOptions options;
  options.spec = SpecFromProto(resolved.spec);
  P2_ASSIGN_OR_RETURN(options.spec_json, SpecJson(resolved.spec));
  options.place.threads = resolved.spec.resources().threads();
  return options;
}

absl::StatusOr<TrainSpec> SpecFromJson(absl::string_view json) {
  p2::v1::TrainingSpec spec;
  const std::string text(json);
  if (const auto strict = google::protobuf::util::JsonStringToMessage(text, &spec); !strict.ok()) {
    google::protobuf::util::JsonParseOptions lenient;
    lenient.ignore_unknown_fields = true;
    const std::string why(strict.message());
    if (google::protobuf::util::JsonStringToMessage(text, &spec, lenient).ok()) {
      return absl::FailedPreconditionError(absl::StrCat("a newer p2 wrote this spec: ", why));
    }
    return absl::DataLossError(absl::StrCat("this is no spec: ", why));
  }
  return SpecFromProto(spec);
}

absl::StatusOr<int64_t> ImagesFromText(absl::string_view text) {
  p2::v1::TrainingOptions options;
  P2_RETURN_IF_ERROR(spec::SetFromText(text, *options.GetDescriptor()->FindFieldByName("images"), options));
  return options.images();
}

bool HoldsStop(absl::string_view bytes) {
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  for (bool clean_end = false; !clean_end;) {
    pb::TrainerCommand command;
    if (!google::protobuf::util::ParseDelimitedFromZeroCopyStream(&command, &stream, &clean_end)) return false;
    if (command.has_stop()) return true;
  }
  return false;
}

std::string EncodeEvent(uint64_t sequence, int64_t wall_time_ns, const Event& event) {
  pb::TrainerEvent message;
  message.set_sequence(sequence);
  message.set_wall_time_ns(wall_time_ns);
  std::visit([&](const auto& value) { Fill(value, &message); }, event);
  std::string frame;
  {
    google::protobuf::io::StringOutputStream stream(&frame);
    google::protobuf::util::SerializeDelimitedToZeroCopyStream(message, &stream);
  }
  return frame;
}

}  // namespace p2::trainer

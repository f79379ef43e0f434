// samples make, ckpt import|export|ema: jobs that do not train.
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/source_ref.h"
#include "client/p2ctl/spec_file.h"
#include "client/p2ctl/submit_flow.h"
#include "client/p2ctl/units.h"
#include "common/resource_name.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr char kReconstructionsByDefault[] = "8";

struct SampleOptions : SubmitFlow {
  std::string from, count, format = "png", steps, ema, dataset;
  std::optional<double> ddim_eta;
  uint64_t seed = 0, first = 0;
  bool raw = false, no_clip = false, reconstruct = false;
  std::vector<double> snrs;
  std::vector<int> timesteps;
};
struct ImportOptions : SubmitFlow {
  std::string directory, preset, file;
  std::optional<int64_t> step;
  bool partial = false;
};
struct ExportOptions : SubmitFlow {
  std::string from, format, ema;
  bool raw = false;
};
struct AverageOptions : SubmitFlow {
  std::string job, at;
  double sigma_rel = 0;
};

absl::StatusOr<int> MakeSamples(Context& context, const SampleOptions& options) {
  v1::CreateJobRequest request;
  v1::SampleTask& task = *request.mutable_task()->mutable_sample();
  if (options.count.empty() && !options.reconstruct) return UsageError("--count is missing: how many images?");
  P2_ASSIGN_OR_RETURN(const int64_t count,
                      ParseCount(options.count.empty() ? kReconstructionsByDefault : options.count));
  task.set_count(count);
  task.set_first(options.first);
  task.set_seed(options.seed);
  task.set_steps(options.steps);
  if (options.ddim_eta.has_value()) task.set_ddim_eta(*options.ddim_eta);
  task.set_ema(options.ema);
  task.set_raw(options.raw);
  task.set_no_clip(options.no_clip);
  v1::SampleTask::Format format{};
  v1::SampleTask::Format_Parse(absl::AsciiStrToUpper(options.format), &format);  // CLI11 checked the name.
  task.set_format(format);
  if (options.reconstruct) {
    v1::Reconstruction& reconstruct = *task.mutable_reconstruct();
    reconstruct.mutable_snrs()->Add(options.snrs.begin(), options.snrs.end());
    reconstruct.mutable_timesteps()->Add(options.timesteps.begin(), options.timesteps.end());
    if (!options.dataset.empty()) reconstruct.set_dataset(absl::StrCat(kDatasets, "/", options.dataset));
  }
  P2_RETURN_IF_ERROR(FillRequest(context, options, request));
  P2_ASSIGN_OR_RETURN(*request.mutable_source(), CheckpointSource(context, options.from));
  return Submit(context, request, options);
}

absl::StatusOr<int> ImportFiles(Context& context, const ImportOptions& options) {
  v1::CreateJobRequest request;
  v1::ImportTask& task = *request.mutable_task()->mutable_import();
  P2_RETURN_IF_ERROR(FillSpec("ckpt import", options.preset, options.file, request));
  if (options.step.has_value()) task.set_step(*options.step);
  task.set_partial(options.partial);
  P2_RETURN_IF_ERROR(FillRequest(context, options, request));
  P2_ASSIGN_OR_RETURN(*request.mutable_source(), FilesSource(context, options.directory));
  return Submit(context, request, options);
}

absl::StatusOr<int> ExportFiles(Context& context, const ExportOptions& options) {
  v1::CreateJobRequest request;
  v1::ExportTask& task = *request.mutable_task()->mutable_export_();
  v1::ExportTask::Format format{};
  v1::ExportTask::Format_Parse(absl::AsciiStrToUpper(options.format), &format);  // CLI11 checked the name.
  task.set_format(format);
  task.set_ema(options.ema);
  task.set_raw(options.raw);
  P2_RETURN_IF_ERROR(FillRequest(context, options, request));
  P2_ASSIGN_OR_RETURN(*request.mutable_source(), CheckpointSource(context, options.from));
  return Submit(context, request, options);
}

absl::StatusOr<int> MakeAverage(Context& context, const AverageOptions& options) {
  v1::CreateJobRequest request;
  v1::AverageTask& task = *request.mutable_task()->mutable_average();
  task.set_sigma_rel(options.sigma_rel);
  if (!options.at.empty()) {
    P2_ASSIGN_OR_RETURN(const int64_t images, ParseCount(options.at));
    task.set_images_seen(images);
  }
  P2_RETURN_IF_ERROR(FillRequest(context, options, request));
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  request.set_source(job.name());
  return Submit(context, request, options);
}

constexpr char kCheckpointHelp[] = "JOB (its newest checkpoint), JOB@IMAGES, or JOB/CHECKPOINT";

}  // namespace

void AddMakeSamples(CLI::App& samples, Context& context) {
  const auto options = std::make_shared<SampleOptions>();
  CLI::App* verb = AddVerb(samples, context, "make",
                           "Draw images from a checkpoint: a job of its own, which goes on where it was after a stop",
                           "  p2ctl samples make ffhq-gamma0-5-abcde@500k --count 50k --steps 250 --format npz --wait\n"
                           "  p2ctl samples make mnist-demo-abcde --count 64 --format grid --follow\n"
                           "  p2ctl samples make mnist-demo-abcde --reconstruct --snr 0.01,0.1,1\n"
                           "The images lie in the job's output (`p2ctl describe`); a grid also comes by "
                           "`p2ctl samples get`.",
                           options, MakeSamples);
  verb->add_option("CKPT", options->from, kCheckpointHelp)->required();
  verb->add_option("--count", options->count,
                   "Images; image I of a seed is always the same. Required, but with --reconstruct: 8")
      ->type_name("N");
  verb->add_option("--format", options->format,
                   "png: a file an image; npz: one file for evaluators; grid: one sheet. Default: png")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"png", "npz", "grid"}).description(""));
  verb->add_option("--steps", options->steps, "Respacing: 250, 130,60,60, ddim25; default: every timestep")
      ->type_name("RESPACING");
  verb->add_option("--ddim", options->ddim_eta,
                   "DDIM with this eta (0: deterministic) instead of the ancestral sampler")
      ->type_name("ETA")
      ->check(CLI::Range(0.0, 1.0).description(""));
  CLI::Option* ema =
      verb->add_option("--ema", options->ema, "The average to draw from; default: the first one")->type_name("NAME");
  verb->add_flag("--raw", options->raw, "Draw from the weights themselves")->excludes(ema);
  verb->add_option("--seed", options->seed, "Seed of the noise")->type_name("S");
  verb->add_option("--first", options->first, "Index of the first image")->type_name("I");
  verb->add_flag("--no-clip", options->no_clip, "Do not clamp the predicted image to [-1, 1] in each step");
  CLI::Option* reconstruct = verb->add_flag(
      "--reconstruct", options->reconstruct,
      "Noise images --first … of a dataset and denoise them again (the paper's Fig. 2), by --snr and --timestep");
  verb->add_option("--snr", options->snrs, "Signal-to-noise ratios; the timestep with the nearest one is taken")
      ->type_name("X[,Y…]")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->needs(reconstruct);
  verb->add_option("--timestep", options->timesteps, "Timesteps, counted from 0; they come before the ratios")
      ->type_name("T[,U…]")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->needs(reconstruct);
  verb->add_option("--dataset", options->dataset, "Where the images come from; default: what the job was trained with")
      ->type_name("NAME")
      ->needs(reconstruct);
  AddSubmitFlow(*verb, *options);
}

void AddCheckpointTasks(CLI::App& ckpt, Context& context) {
  const auto import = std::make_shared<ImportOptions>();
  CLI::App* verb =
      AddVerb(ckpt, context, "import",
              "Make a checkpoint of the published code's files (modelNNNNNN.pt, ema_*.pt, optNNNNNN.pt): a "
              "job whose one checkpoint it is",
              "  p2ctl ckpt import /data/root/published/ffhq --preset ffhq-gamma0.5 --wait\n"
              "  p2ctl ckpt import main:published/ffhq --preset ffhq-gamma0.5 --step 500000\n"
              "Then: `p2ctl submit … --init-from JOB`, `p2ctl samples make JOB`.",
              import, ImportFiles);
  verb->add_option("DIR", import->directory, "Directory below a storage root: its path on this machine, or ROOT:PATH")
      ->required();
  CLI::Option* preset =
      verb->add_option("--preset", import->preset, "What the model is; the rates of its averages choose the ema files");
  verb->add_option("-f,--file", import->file, "Spec file (YAML) instead of a preset")
      ->type_name("FILE")
      ->excludes(preset);
  verb->add_option("--step", import->step, "The save NNNNNN; default: the highest")
      ->type_name("NNNNNN")
      ->check(CLI::NonNegativeNumber.description(""));
  verb->add_flag("--partial", import->partial, "Load the keys that fit; the job's log tells the others");
  AddSubmitFlow(*verb, *import);

  const auto exported = std::make_shared<ExportOptions>();
  verb = AddVerb(ckpt, context, "export",
                 "Write a checkpoint as .pt files of the published code, as safetensors, or as a diffusers folder",
                 "  p2ctl ckpt export mnist-demo-abcde --format safetensors --wait\n"
                 "  p2ctl ckpt export ffhq-gamma0-5-abcde@500k --format diffusers --ema 0.9999\n"
                 "The files lie in the job's output (`p2ctl describe`).",
                 exported, ExportFiles);
  verb->add_option("CKPT", exported->from, kCheckpointHelp)->required();
  verb->add_option("--format", exported->format,
                   "pt: model, every EMA and the optimizer; safetensors: model and every EMA; diffusers: the first EMA")
      ->type_name("FORMAT")
      ->required()
      ->check(CLI::IsMember({"pt", "safetensors", "diffusers"}).description(""));
  CLI::Option* ema = verb->add_option("--ema", exported->ema, "Only this average")->type_name("NAME");
  verb->add_flag("--raw", exported->raw, "Only the weights themselves")->excludes(ema);
  AddSubmitFlow(*verb, *exported);

  const auto average = std::make_shared<AverageOptions>();
  verb =
      AddVerb(ckpt, context, "ema",
              "Make an average that was not kept while training, from the snapshots of those that were (post-hoc EMA)",
              "  p2ctl ckpt ema ffhq-gamma0-5-abcde --at 500k --sigma-rel 0.07 --wait\n"
              "The weights lie in the job's output (`p2ctl describe`).",
              average, MakeAverage);
  verb->add_option("JOB", average->job, "ID, or a unique prefix")->required();
  verb->add_option("--at", average->at, "Position in images seen; default: the newest snapshot's")->type_name("IMAGES");
  verb->add_option("--sigma-rel", average->sigma_rel, "Relative width of the power-function average, as 0.07")
      ->type_name("WIDTH")
      ->required();
  AddSubmitFlow(*verb, *average);
}

}  // namespace p2::ctl

// p2-trainer sample: images from a checkpoint, by index. Under torchrun's or Slurm's variables each rank draws its
// share.
#include <cstdio>
#include <memory>

#include "CLI/CLI.hpp"
#include "common/status_macros.h"
#include "worker/trainer/draw_samples.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

absl::StatusOr<bool> Draw(const SampleOptions& options, const std::atomic<bool>& stop) {
  P2_ASSIGN_OR_RETURN(const SampleResult result, DrawSamples(options, {.stopping = [&stop] { return stop.load(); }}));
  std::puts(Describe(result).c_str());
  return result.done;
}

}  // namespace

void AddSampleVerb(CLI::App& app, const std::atomic<bool>& stop, Verb* chosen) {
  CLI::App* const verb = app.add_subcommand("sample", "Draw images from a checkpoint");
  const auto flags = std::make_shared<SampleOptions>();
  AddSamplingFlags(*verb, flags.get());
  verb->add_option("--count", flags->count, "Images, over all ranks")
      ->type_name("N")
      ->required()
      ->check(CLI::PositiveNumber);
  verb->add_option("--format", flags->format,
                   "png: a file an image; npz: one file for evaluators; grid: one sheet. Default: png")
      ->check(CLI::IsMember({"png", "npz", "grid"}));
  verb->footer("Exit codes: 0 done, 1 error, 2 usage, 40 stopped (the same command goes on).");
  verb->callback(
      [flags, &stop, chosen] { *chosen = [flags, &stop] { return RunDrawing([&] { return Draw(*flags, stop); }); }; });
}

}  // namespace p2::trainer

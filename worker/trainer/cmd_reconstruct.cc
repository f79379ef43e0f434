// p2-trainer reconstruct: images noised to chosen SNRs and denoised again (the paper's Fig. 2).
#include <cstdio>
#include <memory>

#include "CLI/CLI.hpp"
#include "common/status_macros.h"
#include "worker/trainer/draw_reconstructions.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

absl::StatusOr<bool> Draw(const ReconstructOptions& options, const std::atomic<bool>& stop) {
  P2_ASSIGN_OR_RETURN(const SampleResult result,
                      DrawReconstructions(options, {.stopping = [&stop] { return stop.load(); }}));
  std::puts(Describe(result).c_str());
  return result.done;
}

}  // namespace

void AddReconstructVerb(CLI::App& app, const std::atomic<bool>& stop, Verb* chosen) {
  CLI::App* const verb =
      app.add_subcommand("reconstruct", "Noise images to a chosen SNR and denoise them again (the paper's Fig. 2)");
  const auto flags = std::make_shared<ReconstructOptions>();
  AddSamplingFlags(*verb, flags.get());
  verb->add_option("--images", flags->images, "A prepared dataset, or PNG and JPEG files")
      ->type_name("DIR|FILE…")
      ->required()
      ->expected(1, CLI::detail::expected_max_vector_size);
  CLI::Option_group* const where = verb->add_option_group("where to");
  where->add_option("--snr", flags->snrs, "Signal-to-noise ratios; the timestep with the nearest one is taken")
      ->type_name("X[,Y…]")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::PositiveNumber);
  where->add_option("--timestep", flags->timesteps, "Timesteps, counted from 0; they come before the ratios")
      ->type_name("T[,U…]")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::NonNegativeNumber);
  where->require_option(1, 2);
  verb->add_option("--count", flags->count, "Images; default: all files, 8 of a dataset")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  verb->footer("Exit codes: 0 done, 1 error, 2 usage, 40 stopped (the same command goes on).");
  verb->callback(
      [flags, &stop, chosen] { *chosen = [flags, &stop] { return RunDrawing([&] { return Draw(*flags, stop); }); }; });
}

}  // namespace p2::trainer

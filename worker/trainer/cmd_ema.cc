// p2-trainer ema: the average of any width, from the snapshots that a run left.
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/trainer/ema_reconstruction.h"
#include "worker/trainer/spec_seam.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

struct EmaFlags {
  std::string snapshots;
  std::string at;
  double sigma_rel = 0;
  std::string out;
};

absl::Status Reconstruct(const EmaFlags& flags) {
  EmaReconstructionOptions options{.snapshots = flags.snapshots, .sigma_rel = flags.sigma_rel, .out = flags.out};
  if (!flags.at.empty()) {
    const absl::StatusOr<int64_t> at = ImagesFromText(flags.at);
    if (!at.ok() || *at < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("--at is \"", flags.at, "\"; must be a number of images such as 500k, at least 1"));
    }
    options.at_images = *at;
  }
  P2_ASSIGN_OR_RETURN(const EmaReconstructionReport report, ReconstructEmaFile(options));
  std::fputs(Describe(report, options).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddEma(CLI::App& app, Verb* chosen) {
  const auto flags = std::make_shared<EmaFlags>();
  CLI::App* const verb = app.add_subcommand(
      "ema", "Make an average of the weights of any width from the snapshots of a run (ema_snapshots in its spec)");
  verb->add_option("--snapshots", flags->snapshots,
                   "A run's ema-snapshots/, or the directory that holds it: a job's, or --out of a standalone run")
      ->type_name("DIR")
      ->required();
  verb->add_option("--at", flags->at, "Position in images seen, such as 500k; default: the newest snapshot's")
      ->type_name("IMAGES");
  verb->add_option("--sigma-rel", flags->sigma_rel,
                   "Width relative to the length of the run so far, 0.001 to 0.288; best near those of the run")
      ->type_name("S")
      ->required();
  verb->add_option("--out", flags->out, "The safetensors file to write")->type_name("FILE")->required();
  verb->callback([flags, chosen] { *chosen = [flags] { return VerbExitCode(Reconstruct(*flags)); }; });
}

}  // namespace p2::trainer

// p2-trainer import: published files as a p2 checkpoint that training goes on from.
#include <cstdio>
#include <memory>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/published_import.h"
#include "worker/trainer/spec_seam.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

struct ImportFlags : ImportOptions {
  std::string spec;
  std::vector<std::string> set;
  std::string out;
};

absl::Status Import(ImportFlags flags) {
  std::vector<std::string> warnings;
  P2_ASSIGN_OR_RETURN(const TrainOptions run, OptionsFromSpec(flags.spec, flags.set, &warnings));
  for (const std::string& warning : warnings) std::fprintf(stderr, "p2-trainer: %s\n", warning.c_str());
  flags.parent = flags.out + "/checkpoints";
  if (!checkpoint::ListCheckpoints(flags.parent).empty()) {
    return absl::FailedPreconditionError(absl::StrCat(flags.parent, " already holds checkpoints; name another --out"));
  }
  return ImportPublished(run, flags).status();
}

}  // namespace

void AddImport(CLI::App& app, Verb* chosen) {
  const auto flags = std::make_shared<ImportFlags>();
  CLI::App* const verb = app.add_subcommand(
      "import", "Make a p2 checkpoint of the published code's .pt files; --standalone --resume goes on from it");
  verb->add_option("--model", flags->files.model,
                   "modelNNNNNN.pt; its number is the zero-based step, so it holds one update more")
      ->type_name("FILE")
      ->required();
  verb->add_option("--ema", flags->files.emas,
                   "ema_RATE_NNNNNN.pt of a rate that the spec keeps, or NAME=FILE; may be repeated")
      ->type_name("FILE");
  verb->add_option("--opt", flags->files.opt, "optNNNNNN.pt")->type_name("FILE");
  verb->add_option("--spec", flags->spec, "What the model is and how training goes on")
      ->type_name("PRESET|FILE")
      ->required();
  verb->add_option("--set", flags->set, "Override a value of the spec; may be repeated")->type_name("K=V");
  verb->add_option("--updates", flags->updates,
                   "Updates behind the files; default: what --opt says, else the model's name")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--out", flags->out, "The run's directory; DIR/checkpoints is written")
      ->type_name("DIR")
      ->required();
  verb->add_flag("--partial", flags->partial,
                 "Load the keys that fit and report the others, which stay as a new run of the spec's seed has them");
  verb->callback([flags, chosen] { *chosen = [flags] { return VerbExitCode(Import(*flags)); }; });
}

}  // namespace p2::trainer

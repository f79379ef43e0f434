// p2-trainer export: a p2 checkpoint as files of others.
#include <memory>

#include "CLI/CLI.hpp"
#include "worker/trainer/checkpoint_export.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {

void AddExport(CLI::App& app, Verb* chosen) {
  const auto flags = std::make_shared<ExportOptions>();
  CLI::App* const verb = app.add_subcommand(
      "export", "Write a checkpoint as .pt files of the published code, as safetensors, or as a diffusers folder");
  verb->add_option("checkpoint", flags->checkpoint, "Directory of a p2 checkpoint")->type_name("DIR")->required();
  verb->add_option("--format", flags->format,
                   "pt: model, every EMA and the optimizer; safetensors: model and every EMA; diffusers: the first EMA")
      ->check(CLI::IsMember({"pt", "safetensors", "diffusers"}))
      ->required();
  verb->add_option("--out", flags->out, "Where to write; made if need be")->type_name("DIR")->required();
  CLI::Option* const ema = verb->add_option("--ema", flags->ema, "Only this EMA")->type_name("NAME");
  verb->add_flag("--raw", flags->raw, "Only the weights themselves")->excludes(ema);
  verb->callback([flags, chosen] { *chosen = [flags] { return VerbExitCode(ExportCheckpoint(*flags)); }; });
}

}  // namespace p2::trainer

// p2-trainer import: published files as a p2 checkpoint that training goes on from.
#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "worker/checkpoint/published_files.h"
#include "worker/checkpoint/tensor_set.h"
#include "worker/trainer/initial_weights.h"
#include "worker/trainer/spec_seam.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

using checkpoint::PublishedName;
using checkpoint::TensorSet;

struct ImportFlags {
  std::string model;
  std::vector<std::string> emas;
  std::string opt;
  std::string spec;
  std::vector<std::string> set;
  std::string out;
  int64_t updates = -1;
  bool partial = false;
};

absl::Status ReadNet(const std::string& path, const TensorSet& net, bool partial) {
  P2_ASSIGN_OR_RETURN(const auto archive, checkpoint::PtArchive::Open(path));
  P2_ASSIGN_OR_RETURN(const checkpoint::KeyReport report,
                      checkpoint::ReadPublishedModel(*archive, net.views(), partial));
  std::printf("%s: %zu tensors loaded\n", path.c_str(), report.loaded.size());
  if (!report.complete()) std::printf("%s\n", report.ToString().c_str());
  return absl::OkStatus();
}

// Which of the spec's averages a file is for: by the rate in its name, or as NAME=FILE.
absl::StatusOr<std::pair<std::string, std::string>> ProfileOf(const std::string& given, const TrainSpec& spec) {
  std::vector<std::string> known;
  for (const EmaProfile& ema : spec.emas) {
    if (given.rfind(ema.name + "=", 0) == 0) return std::pair(ema.name, given.substr(ema.name.size() + 1));
    known.push_back(absl::StrCat(ema.name, " (rate ", ema.rate, ")"));
  }
  const auto name = checkpoint::ParsePublishedName(given);
  double rate = 0;
  if (!name.has_value() || name->kind != PublishedName::Kind::kEma || !absl::SimpleAtod(name->rate, &rate)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ema ", given, ": its name is not ema_RATE_NNNNNN.pt; give it as NAME=FILE"));
  }
  for (const EmaProfile& ema : spec.emas) {
    if (ema.rate == rate) return std::pair(ema.name, given);
  }
  return absl::InvalidArgumentError(absl::StrCat("--ema ", given, ": the spec keeps no average of rate ", name->rate,
                                                 ", but ", absl::StrJoin(known, ", ")));
}

absl::Status Import(const ImportFlags& flags) {
  std::vector<std::string> warnings;
  P2_ASSIGN_OR_RETURN(const TrainOptions options, OptionsFromSpec(flags.spec, flags.set, &warnings));
  for (const std::string& warning : warnings) std::fprintf(stderr, "p2-trainer: %s\n", warning.c_str());
  const TrainSpec& spec = options.spec;
  P2_ASSIGN_OR_RETURN(const std::vector<spec::ParameterShape> parameters, spec::WalkUnet(spec.model));
  const std::string parent = flags.out + "/checkpoints";
  if (!checkpoint::ListCheckpoints(parent).empty()) {
    return absl::FailedPreconditionError(absl::StrCat(parent, " already holds checkpoints; name another --out"));
  }

  const TensorSet model(parameters), exp_avg(parameters, "exp_avg."), exp_avg_sq(parameters, "exp_avg_sq.");
  if (flags.partial) P2_RETURN_IF_ERROR(InitialWeights(spec, model.views()));
  P2_RETURN_IF_ERROR(ReadNet(flags.model, model, flags.partial));
  checkpoint::Snapshot snapshot;
  snapshot.epoch = 1;
  snapshot.attempt = 1;
  snapshot.spec_json = options.spec_json;
  snapshot.tensors.push_back({checkpoint::kModelFile, model.const_views()});

  std::map<std::string, std::string> ema_files;
  for (const std::string& given : flags.emas) {
    P2_ASSIGN_OR_RETURN(const auto profile, ProfileOf(given, spec));
    if (!ema_files.insert(profile).second) {
      return absl::InvalidArgumentError(absl::StrCat("two files for the average ", profile.first));
    }
  }
  std::deque<TensorSet> emas;
  for (const EmaProfile& ema : spec.emas) {
    const TensorSet& average = emas.emplace_back(parameters);
    for (size_t i = 0; i < parameters.size(); ++i) {
      std::copy(model.views()[i].values.begin(), model.views()[i].values.end(), average.views()[i].values.begin());
    }
    if (const auto file = ema_files.find(ema.name); file != ema_files.end()) {
      P2_RETURN_IF_ERROR(ReadNet(file->second, average, flags.partial));
    } else {
      std::printf("EMA %s starts from the model's weights: no file was given\n", ema.name.c_str());
    }
    snapshot.ema_profiles.push_back(ema.name);
    snapshot.tensors.push_back({checkpoint::EmaFile(ema.name), average.const_views()});
  }

  const auto name = checkpoint::ParsePublishedName(flags.model);
  int64_t updates = flags.updates >= 0 ? flags.updates : name.has_value() ? name->step + 1 : 0;
  float optimizer_step = 0;
  if (!flags.opt.empty()) {
    P2_ASSIGN_OR_RETURN(const auto archive, checkpoint::PtArchive::Open(flags.opt));
    P2_ASSIGN_OR_RETURN(const checkpoint::PublishedOptimizer optimizer,
                        checkpoint::ReadPublishedOptimizer(*archive, exp_avg.views(), exp_avg_sq.views()));
    std::printf("%s: step %lld, learning rate %g\n", flags.opt.c_str(), static_cast<long long>(optimizer.step),
                optimizer.learning_rate);
    if (optimizer.learning_rate != spec.learning_rate || optimizer.weight_decay != spec.weight_decay) {
      std::printf("the spec's learning rate %g and weight decay %g are used, not the file's %g and %g\n",
                  spec.learning_rate, spec.weight_decay, optimizer.learning_rate, optimizer.weight_decay);
    }
    if (optimizer.step >= 1 << 24) {
      return absl::InvalidArgumentError(absl::StrCat(flags.opt, ": step ", optimizer.step, "; p2 counts to 2^24"));
    }
    optimizer_step = static_cast<float>(optimizer.step);
    // It knows better than the name: only the last save of an annealed run is named by the count itself.
    if (flags.updates < 0) updates = optimizer.step;
  } else {
    std::printf("the optimizer starts anew: no --opt was given\n");
  }
  std::vector<checkpoint::TensorView> moments = exp_avg.const_views();
  for (checkpoint::TensorView& view : exp_avg_sq.const_views()) moments.push_back(std::move(view));
  moments.push_back({"step", {}, absl::MakeConstSpan(&optimizer_step, 1)});
  snapshot.tensors.push_back({checkpoint::kOptimizerFile, std::move(moments)});

  snapshot.state.seed = spec.seed;
  snapshot.state.batch = spec.batch;
  snapshot.state.step = updates;
  snapshot.state.updates = static_cast<int64_t>(optimizer_step);
  if (__builtin_mul_overflow(updates, snapshot.state.batch, &snapshot.state.images_seen) ||
      snapshot.state.images_seen > int64_t{999'999'999'999}) {
    return absl::InvalidArgumentError(absl::StrCat(updates, " updates are too many"));
  }
  P2_ASSIGN_OR_RETURN(const checkpoint::WrittenCheckpoint written, checkpoint::WriteCheckpoint(parent, snapshot));
  std::printf("%s/%s: %lld updates of batch %d, %lld images seen\n", parent.c_str(), written.name.c_str(),
              static_cast<long long>(updates), spec.batch, static_cast<long long>(snapshot.state.images_seen));
  return absl::OkStatus();
}

}  // namespace

void AddImport(CLI::App& app, Verb* chosen) {
  const auto flags = std::make_shared<ImportFlags>();
  CLI::App* const verb = app.add_subcommand(
      "import", "Make a p2 checkpoint of the published code's .pt files; --standalone --resume goes on from it");
  verb->add_option("--model", flags->model,
                   "modelNNNNNN.pt; its number is the zero-based step, so it holds one update more")
      ->type_name("FILE")
      ->required();
  verb->add_option("--ema", flags->emas,
                   "ema_RATE_NNNNNN.pt of a rate that the spec keeps, or NAME=FILE; may be repeated")
      ->type_name("FILE");
  verb->add_option("--opt", flags->opt, "optNNNNNN.pt")->type_name("FILE");
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

#include "worker/trainer/published_import.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "worker/checkpoint/published_files.h"
#include "worker/checkpoint/tensor_set.h"
#include "worker/trainer/initial_weights.h"

namespace p2::trainer {
namespace {

using checkpoint::PublishedName;
using checkpoint::TensorSet;

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
    known.push_back(ema.gamma ? ema.name : absl::StrCat(ema.name, " (rate ", ema.rate, ")"));
  }
  const auto name = checkpoint::ParsePublishedName(given);
  double rate = 0;
  if (!name.has_value() || name->kind != PublishedName::Kind::kEma || !absl::SimpleAtod(name->rate, &rate)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ema ", given, ": its name is not ema_RATE_NNNNNN.pt; give it as NAME=FILE"));
  }
  for (const EmaProfile& ema : spec.emas) {
    if (!ema.gamma && ema.rate == rate) return std::pair(ema.name, given);
  }
  return absl::InvalidArgumentError(absl::StrCat("--ema ", given, ": the spec keeps no average of rate ", name->rate,
                                                 ", but ", absl::StrJoin(known, ", ")));
}

}  // namespace

absl::StatusOr<PublishedFiles> FindPublishedFiles(const std::string& directory, std::optional<int64_t> step,
                                                  const TrainSpec& spec) {
  std::vector<std::string> names = checkpoint::NamesIn(directory);
  std::sort(names.begin(), names.end());
  std::vector<std::string> models;
  for (const std::string& name : names) {
    const auto published = checkpoint::ParsePublishedName(name);
    if (!published.has_value() || published->kind != PublishedName::Kind::kModel) continue;
    models.push_back(name);
  }
  int64_t wanted = step.value_or(-1);
  for (const std::string& model : models) {
    if (!step.has_value()) wanted = std::max(wanted, checkpoint::ParsePublishedName(model)->step);
  }
  PublishedFiles files;
  for (const std::string& name : names) {
    const auto published = checkpoint::ParsePublishedName(name);
    if (!published.has_value() || published->step != wanted || !absl::EndsWith(name, ".pt")) continue;
    const std::string path = absl::StrCat(directory, "/", name);
    P2_RETURN_IF_ERROR(checkpoint::RefuseLink(path));
    double rate = 0;
    switch (published->kind) {
      case PublishedName::Kind::kModel:
        files.model = path;
        break;
      case PublishedName::Kind::kOptimizer:
        files.opt = path;
        break;
      case PublishedName::Kind::kEma:
        if (absl::SimpleAtod(published->rate, &rate) &&
            std::any_of(spec.emas.begin(), spec.emas.end(),
                        [&](const EmaProfile& ema) { return !ema.gamma && ema.rate == rate; })) {
          files.emas.push_back(path);
        } else {
          std::printf("%s is left: the spec keeps no average of rate %s\n", name.c_str(), published->rate.c_str());
        }
    }
  }
  if (files.model.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, step.has_value() ? absl::StrCat(" holds no save ", *step) : " holds no modelNNNNNN.pt",
                     models.empty() ? "" : absl::StrCat("; it has ", absl::StrJoin(models, ", "))));
  }
  return files;
}

absl::StatusOr<checkpoint::WrittenCheckpoint> ImportPublished(const TrainOptions& run, const ImportOptions& options) {
  const TrainSpec& spec = run.spec;
  const PublishedFiles& files = options.files;
  P2_ASSIGN_OR_RETURN(const std::vector<spec::ParameterShape> parameters, spec::WalkUnet(spec.model));

  const TensorSet model(parameters), exp_avg(parameters, "exp_avg."), exp_avg_sq(parameters, "exp_avg_sq.");
  if (options.partial) P2_RETURN_IF_ERROR(InitialWeights(spec, model.views()));
  P2_RETURN_IF_ERROR(ReadNet(files.model, model, options.partial));
  checkpoint::Snapshot snapshot;
  snapshot.epoch = options.epoch;
  snapshot.attempt = options.attempt;
  snapshot.spec_json = run.spec_json;
  snapshot.tensors.push_back({checkpoint::kModelFile, model.const_views()});

  std::map<std::string, std::string> ema_files;
  for (const std::string& given : files.emas) {
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
      P2_RETURN_IF_ERROR(ReadNet(file->second, average, options.partial));
    } else if (ema.gamma) {
      return absl::InvalidArgumentError(
          absl::StrCat("EMA ", ema.name,
                       " goes by sigma_rel: it is an average over the whole run, whose history the files do not "
                       "hold; give it a rate or half_life_images, or begin a new run from the weights (--init-from)"));
    } else {
      std::printf("EMA %s starts from the model's weights: no file was given\n", ema.name.c_str());
    }
    snapshot.ema_profiles.push_back(ema.name);
    snapshot.tensors.push_back({checkpoint::EmaFile(ema.name), average.const_views()});
  }

  const auto name = checkpoint::ParsePublishedName(files.model);
  int64_t updates = options.updates >= 0 ? options.updates : name.has_value() ? name->step + 1 : 0;
  float optimizer_step = 0;
  if (!files.opt.empty()) {
    P2_ASSIGN_OR_RETURN(const auto archive, checkpoint::PtArchive::Open(files.opt));
    P2_ASSIGN_OR_RETURN(const checkpoint::PublishedOptimizer optimizer,
                        checkpoint::ReadPublishedOptimizer(*archive, exp_avg.views(), exp_avg_sq.views()));
    std::printf("%s: step %lld, learning rate %g\n", files.opt.c_str(), static_cast<long long>(optimizer.step),
                optimizer.learning_rate);
    if (optimizer.learning_rate != spec.learning_rate || optimizer.weight_decay != spec.weight_decay) {
      std::printf("the spec's learning rate %g and weight decay %g are used, not the file's %g and %g\n",
                  spec.learning_rate, spec.weight_decay, optimizer.learning_rate, optimizer.weight_decay);
    }
    if (optimizer.step >= 1 << 24) {
      return absl::InvalidArgumentError(absl::StrCat(files.opt, ": step ", optimizer.step, "; p2 counts to 2^24"));
    }
    optimizer_step = static_cast<float>(optimizer.step);
    // It knows better than the name: only the last save of an annealed run is named by the count itself.
    if (options.updates < 0) updates = optimizer.step;
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
  P2_ASSIGN_OR_RETURN(checkpoint::WrittenCheckpoint written, checkpoint::WriteCheckpoint(options.parent, snapshot));
  std::printf("%s/%s: %lld updates of batch %d, %lld images seen\n", options.parent.c_str(), written.name.c_str(),
              static_cast<long long>(updates), spec.batch, static_cast<long long>(snapshot.state.images_seen));
  return written;
}

}  // namespace p2::trainer

#include "worker/trainer/source_weights.h"

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/safetensors/safetensors.h"
#include "common/status_macros.h"
#include "worker/checkpoint/published_files.h"

namespace p2::trainer {
namespace {

using checkpoint::MutableTensorView;

absl::Status ReadPt(const std::string& path, const std::vector<MutableTensorView>& into) {
  P2_RETURN_IF_ERROR(checkpoint::RefuseLink(path));
  P2_ASSIGN_OR_RETURN(const auto archive, checkpoint::PtArchive::Open(path));
  return checkpoint::ReadPublishedModel(*archive, into, /*partial=*/false).status();
}

void BeginAtModel(const SourceWeights& into, const EmaProfile& ema, const std::vector<MutableTensorView>& average) {
  P2_LOG(kInfo) << "EMA " << ema.name << " begins at the model's weights";
  for (size_t i = 0; i < average.size(); ++i) {
    std::copy(into.model[i].values.begin(), into.model[i].values.end(), average[i].values.begin());
  }
}

absl::Status ReadDirectory(const std::string& source, const SourceWeights& into) {
  P2_ASSIGN_OR_RETURN(const auto from, checkpoint::Checkpoint::Open(source));
  P2_RETURN_IF_ERROR(from->Read(checkpoint::kModelFile, into.model));
  const std::vector<std::string>& has = from->manifest().ema_profiles;
  for (const auto& [ema, average] : into.averages) {
    if (std::find(has.begin(), has.end(), ema->name) == has.end()) {
      BeginAtModel(into, *ema, average);
    } else {
      P2_RETURN_IF_ERROR(from->Read(checkpoint::EmaFile(ema->name), average));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadPublished(const std::string& source, const SourceWeights& into) {
  P2_RETURN_IF_ERROR(ReadPt(source, into.model));
  const auto saved = checkpoint::ParsePublishedName(source);
  const std::string directory = source.substr(0, source.rfind('/'));
  for (const auto& [ema, average] : into.averages) {
    const std::string file = saved.has_value() && !ema->gamma
                                 ? checkpoint::FindPublishedEma(directory, saved->step, ema->rate)
                                 : std::string();
    if (file.empty()) {
      BeginAtModel(into, *ema, average);
    } else {
      P2_RETURN_IF_ERROR(ReadPt(file, average));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSourceWeights(const std::string& source, const SourceWeights& into) {
  P2_LOG(kInfo) << "a new run that begins with the weights of " << source;
  if (absl::EndsWith(source, ".pt")) return ReadPublished(source, into);
  if (!absl::EndsWith(source, ".safetensors")) return ReadDirectory(source, into);
  P2_RETURN_IF_ERROR(checkpoint::RefuseLink(source));
  P2_RETURN_IF_ERROR(checkpoint::ReadTensors(source, into.model));
  for (const auto& [ema, average] : into.averages) BeginAtModel(into, *ema, average);
  return absl::OkStatus();
}

}  // namespace p2::trainer

#include "worker/checkpoint/published_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/file_util.h"
#include "common/status_macros.h"

namespace p2::checkpoint {
namespace {

using Kind = PickleObject::Kind;

constexpr size_t kMaxListed = 10;

std::string ShapeText(absl::Span<const int64_t> shape) { return absl::StrCat("(", absl::StrJoin(shape, ", "), ")"); }

// The digits of %06d: six, or more without a leading zero.
bool ParseStep(absl::string_view digits, int64_t* step) {
  if (digits.size() < 6 || (digits.size() > 6 && digits[0] == '0')) return false;
  if (digits.find_first_not_of("0123456789") != absl::string_view::npos) return false;
  return absl::SimpleAtoi(digits, step);
}

void AppendKeys(absl::string_view what, const std::vector<std::string>& keys, std::string* text) {
  if (keys.empty()) return;
  const size_t listed = std::min(keys.size(), kMaxListed);
  absl::StrAppend(text, text->empty() ? "" : "\n", keys.size(), " ", what, ": ",
                  absl::StrJoin(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(listed), ", "),
                  listed < keys.size() ? ", …" : "");
}

double Number(const PickleObject* object) {
  if (object == nullptr) return NAN;
  if (object->kind == Kind::kFloat) return object->number;
  return object->kind == Kind::kInt ? static_cast<double>(object->integer) : NAN;
}

// `step` of one parameter: an int, or a tensor of one element.
absl::StatusOr<int64_t> ReadStep(PtArchive& archive, const PickleObject* step) {
  double value = Number(step);
  if (step != nullptr && step->kind == Kind::kTensor && NumElements(*step) == 1) {
    float tensor = 0;
    P2_RETURN_IF_ERROR(archive.ReadFloats(*step, absl::MakeSpan(&tensor, 1)));
    value = static_cast<double>(tensor);
  }
  if (!(value >= 0 && value < 0x1p53) || value != std::floor(value)) {
    return absl::InvalidArgumentError(absl::StrCat(archive.path(), ": step is no count of updates"));
  }
  return static_cast<int64_t>(value);
}

}  // namespace

std::optional<PublishedName> ParsePublishedName(absl::string_view path) {
  absl::string_view name = path.substr(path.rfind('/') + 1);  // npos + 1 is 0.
  if (!absl::ConsumeSuffix(&name, ".pt")) return std::nullopt;
  PublishedName parsed;
  if (absl::ConsumePrefix(&name, "model")) {
    parsed.kind = PublishedName::Kind::kModel;
  } else if (absl::ConsumePrefix(&name, "opt")) {
    parsed.kind = PublishedName::Kind::kOptimizer;
  } else if (absl::ConsumePrefix(&name, "ema_")) {
    parsed.kind = PublishedName::Kind::kEma;
    const size_t end = name.rfind('_');
    if (end == absl::string_view::npos || end == 0) return std::nullopt;
    parsed.rate = std::string(name.substr(0, end));
    name.remove_prefix(end + 1);
  } else {
    return std::nullopt;
  }
  if (!ParseStep(name, &parsed.step)) return std::nullopt;
  return parsed;
}

std::string PublishedFileName(const PublishedName& name, absl::string_view extension) {
  const std::string number = absl::StrFormat("%06d", name.step);
  switch (name.kind) {
    case PublishedName::Kind::kModel:
      return absl::StrCat("model", number, extension);
    case PublishedName::Kind::kEma:
      return absl::StrCat("ema_", name.rate, "_", number, extension);
    case PublishedName::Kind::kOptimizer:
      return absl::StrCat("opt", number, extension);
  }
  return "";
}

std::string KeyReport::ToString() const {
  std::string text;
  AppendKeys("missing", missing, &text);
  AppendKeys("unexpected", unexpected, &text);
  AppendKeys("of another shape", wrong_shape, &text);
  return text;
}

absl::StatusOr<std::vector<std::pair<std::string, const PickleObject*>>> StateDict(const PtArchive& archive) {
  const PickleObject& root = archive.root();
  const auto refused = [&archive](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(archive.path(), " holds no state dict: ", what...));
  };
  if (root.kind != Kind::kDict) return refused("it is a ", KindName(root.kind));
  std::vector<std::pair<std::string, const PickleObject*>> entries;
  std::set<absl::string_view> names;
  for (size_t i = 0; i < root.items.size(); i += 2) {
    const PickleObject& key = *root.items[i];
    const PickleObject* const value = root.items[i + 1];
    if (key.kind != Kind::kString) return refused("a key is a ", KindName(key.kind));
    const std::string shown = absl::CHexEscape(key.text.substr(0, 200));
    if (value->kind != Kind::kTensor) return refused("\"", shown, "\" is a ", KindName(value->kind));
    if (!names.insert(key.text).second) return refused("\"", shown, "\" comes twice");
    entries.emplace_back(key.text, value);
  }
  return entries;
}

absl::StatusOr<KeyReport> ReadPublishedModel(PtArchive& archive, absl::Span<const MutableTensorView> model,
                                             bool partial) {
  P2_ASSIGN_OR_RETURN(const auto entries, StateDict(archive));
  std::map<absl::string_view, const PickleObject*> by_name(entries.begin(), entries.end());
  KeyReport report;
  std::vector<std::pair<const MutableTensorView*, const PickleObject*>> fitting;
  for (const MutableTensorView& parameter : model) {
    const auto found = by_name.find(parameter.name);
    if (found == by_name.end()) {
      report.missing.push_back(parameter.name);
      continue;
    }
    if (found->second->shape == parameter.shape) {
      fitting.emplace_back(&parameter, found->second);
      report.loaded.push_back(parameter.name);
    } else {
      report.wrong_shape.push_back(absl::StrCat(parameter.name, ": ", ShapeText(found->second->shape), " in the file, ",
                                                ShapeText(parameter.shape), " in the model"));
    }
    by_name.erase(found);
  }
  for (const auto& [name, tensor] : entries) {
    if (by_name.count(name) != 0) report.unexpected.push_back(absl::CHexEscape(name));
  }
  if ((!partial && !report.complete()) || fitting.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(archive.path(), " does not fit the model:\n", report.ToString()));
  }
  std::vector<std::vector<float>> values;
  for (const auto& [parameter, tensor] : fitting) {
    P2_RETURN_IF_ERROR(archive.ReadFloats(*tensor, absl::MakeSpan(values.emplace_back(parameter->values.size()))));
  }
  for (size_t i = 0; i < fitting.size(); ++i) {
    std::copy(values[i].begin(), values[i].end(), fitting[i].first->values.begin());
  }
  return report;
}

absl::StatusOr<PublishedOptimizer> ReadPublishedOptimizer(PtArchive& archive,
                                                          absl::Span<const MutableTensorView> exp_avg,
                                                          absl::Span<const MutableTensorView> exp_avg_sq) {
  const auto refused = [&archive](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(archive.path(), " holds no AdamW state: ", what...));
  };
  const auto unfit = [&archive](const auto&... what) {
    return absl::FailedPreconditionError(absl::StrCat(archive.path(), " does not fit the model: ", what...));
  };
  const PickleObject* const state = archive.root().Find("state");
  const PickleObject* const groups = archive.root().Find("param_groups");
  if (state == nullptr || state->kind != Kind::kDict || groups == nullptr || groups->kind != Kind::kList ||
      groups->items.empty()) {
    return refused("it is no dict of state and param_groups");
  }
  int64_t next = 0;
  for (const PickleObject* group : groups->items) {
    const PickleObject* const params = group->Find("params");
    if (params == nullptr || params->kind != Kind::kList) return refused("a group has no params");
    if (const PickleObject* amsgrad = group->Find("amsgrad"); amsgrad != nullptr && amsgrad->integer != 0) {
      return refused("it was written with amsgrad, which p2 has not");
    }
    for (const PickleObject* index : params->items) {
      if (index->kind != Kind::kInt || index->integer != next++) return refused("params are not 0, 1, 2, …");
    }
  }
  if (next != static_cast<int64_t>(exp_avg.size())) {
    return unfit(next, " parameters in the file, ", exp_avg.size(), " in the model");
  }
  PublishedOptimizer optimizer;
  const PickleObject& first = *groups->items[0];
  optimizer.learning_rate = Number(first.Find("lr"));
  optimizer.epsilon = Number(first.Find("eps"));
  optimizer.weight_decay = Number(first.Find("weight_decay"));
  const PickleObject* const betas = first.Find("betas");
  if (betas == nullptr || betas->kind != Kind::kTuple || betas->items.size() != 2) return refused("no betas");
  optimizer.beta1 = Number(betas->items[0]);
  optimizer.beta2 = Number(betas->items[1]);
  for (const double value :
       {optimizer.learning_rate, optimizer.epsilon, optimizer.weight_decay, optimizer.beta1, optimizer.beta2}) {
    if (!std::isfinite(value)) return refused("lr, betas, eps or weight_decay is no number");
  }

  std::map<int64_t, const PickleObject*> by_index;
  for (size_t i = 0; i < state->items.size(); i += 2) {
    if (state->items[i]->kind != Kind::kInt) return refused("a key of its state is no index");
    by_index[state->items[i]->integer] = state->items[i + 1];
  }
  if (by_index.empty()) {
    for (const auto& moments : {exp_avg, exp_avg_sq}) {
      for (const MutableTensorView& view : moments) std::fill(view.values.begin(), view.values.end(), 0.0f);
    }
    return optimizer;
  }
  if (by_index.size() != exp_avg.size()) {
    return unfit("state of ", by_index.size(), " parameters, of ", exp_avg.size());
  }
  for (size_t i = 0; i < exp_avg.size(); ++i) {
    const auto found = by_index.find(static_cast<int64_t>(i));
    if (found == by_index.end()) return unfit("no state of parameter ", i, " (", exp_avg[i].name, ")");
    P2_ASSIGN_OR_RETURN(const int64_t step, ReadStep(archive, found->second->Find("step")));
    if (i == 0) optimizer.step = step;
    if (step != optimizer.step) {
      return unfit(exp_avg[i].name, " is at step ", step, ", ", exp_avg[0].name, " at ", optimizer.step);
    }
    const std::pair<const char*, const MutableTensorView*> moments[] = {{"exp_avg", &exp_avg[i]},
                                                                        {"exp_avg_sq", &exp_avg_sq[i]}};
    for (const auto& [key, view] : moments) {
      const PickleObject* const tensor = found->second->Find(key);
      if (tensor == nullptr || tensor->kind != Kind::kTensor) return unfit("no ", key, " of ", exp_avg[i].name);
      if (tensor->shape != view->shape) {
        return unfit(key, " of ", exp_avg[i].name, " is ", ShapeText(tensor->shape), " in the file, ",
                     ShapeText(view->shape), " in the model");
      }
      P2_RETURN_IF_ERROR(archive.ReadFloats(*tensor, view->values));
    }
  }
  return optimizer;
}

absl::Status RefuseLink(const std::string& path) {
  struct stat info = {};
  if (::lstat(path.c_str(), &info) != 0) return FileError("look at", path);
  if (!S_ISLNK(info.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, " is a symbolic link; put the file itself below the root"));
}

std::string FindPublishedEma(const std::string& directory, int64_t step, double rate) {
  for (const std::string& name : NamesIn(directory)) {
    const auto published = ParsePublishedName(name);
    double of_file = 0;
    if (published.has_value() && published->kind == PublishedName::Kind::kEma && published->step == step &&
        absl::EndsWith(name, ".pt") && absl::SimpleAtod(published->rate, &of_file) && of_file == rate)
      return absl::StrCat(directory, "/", name);
  }
  return "";
}

}  // namespace p2::checkpoint

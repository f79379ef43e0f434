// Section 10: the published code's files: keys, shapes and order, every tensor's stat block, the optimizer's layout.
// Float32 values are read exactly; what a stat block leaves is its 10 digits.
#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/check/published.h"
#include "worker/check/sections.h"

namespace p2::check {
namespace {

constexpr double kStats = 2e-9;

std::vector<NamedShape> ShapesOf(const nlohmann::json& keys) {
  std::vector<NamedShape> shapes;
  for (const nlohmann::json& entry : keys) shapes.push_back({entry.at(0), entry.at(1).get<std::vector<int64_t>>()});
  return shapes;
}

void CheckSize(const std::string& path, const nlohmann::json& entry, const std::string& name, Report& report) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  TORCH_CHECK(!error, path, ": ", error.message());
  report.Add(name + "/size", std::abs(static_cast<double>(size) - entry.at("size").get<double>()), 0);
}

void CheckStateDict(const std::string& path, const nlohmann::json& entry, const std::string& name, Report& report) {
  const StateDictFile file = ReadStateDictFile(path);
  const std::vector<NamedShape> want = ShapesOf(entry.at("keys"));
  std::string difference = file.order.size() == want.size() ? "" : absl::StrCat(file.order.size(), " keys");
  for (size_t i = 0; difference.empty() && i < want.size(); ++i) {
    const std::string& key = file.order[i];
    if (key != want[i].name || file.tensors.at(key).sizes().vec() != want[i].shape) difference = key;
  }
  report.Equal(name + "/keys", difference.empty(), difference);
  Worst worst;
  for (const auto& [key, stats] : entry.at("stats").items()) {
    const auto found = file.tensors.find(key);
    worst.Add(key, found == file.tensors.end() ? INFINITY : StatError(found->second, stats), kStats);
  }
  for (const std::string& key : file.order) {
    if (!entry.at("stats").contains(key)) worst.Add(key + " (no stat block)", 1, 0);
  }
  report.Add(name + "/values", worst);
}

void AddSettings(const checkpoint::PublishedOptimizer& got, const nlohmann::json& group, Worst& worst) {
  worst.Add("lr", RelativeError(got.learning_rate, group.at("lr")), 0);
  worst.Add("beta1", RelativeError(got.beta1, group.at("betas").at(0)), 0);
  worst.Add("beta2", RelativeError(got.beta2, group.at("betas").at(1)), 0);
  worst.Add("eps", RelativeError(got.epsilon, group.at("eps")), 0);
  worst.Add("weight_decay", RelativeError(got.weight_decay, group.at("weight_decay")), 0);
}

// `keys`: of the model beside it, whose order is that of the optimizer's indices.
void CheckOptimizer(const std::string& path, const nlohmann::json& entry, const nlohmann::json& keys,
                    const std::string& name, Report& report) {
  const std::vector<NamedShape> parameters = ShapesOf(keys);
  const OptimizerFile file = ReadOptimizerFile(path, parameters);
  const nlohmann::json& layout = entry.at("layout");
  Worst settings;
  AddSettings(file.settings, layout.at("param_groups").at(0), settings);
  settings.Add("step", std::abs(static_cast<double>(file.settings.step) - layout.at("step").get<double>()), 0);
  settings.Add("number of param_groups", layout.at("param_groups").size() == 1 ? 0 : 1, 0);
  // First, last and number of the indices; the same of the state's.
  const int64_t count = static_cast<int64_t>(parameters.size());
  settings.Add("params", layout.at("param_groups").at(0).at("params") == nlohmann::json({0, count - 1, count}) ? 0 : 1,
               0);
  settings.Add("state_keys", layout.at("state_keys") == nlohmann::json({0, count - 1}) ? 0 : 1, 0);
  const auto shape = layout.at("state_entry").at("exp_avg").at("shape").get<std::vector<int64_t>>();
  settings.Add("state_entry", shape == parameters.at(0).shape ? 0 : 1, 0);
  report.Add(name + "/settings", settings);
  Worst moments;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const std::string& key = parameters[i].name;
    const nlohmann::json& stats = entry.at("stats").at(key);
    moments.Add(key + " index", std::abs(static_cast<double>(i) - stats.at("index").get<double>()), 0);
    moments.Add(key + " exp_avg", StatError(file.exp_avg.at(key), stats.at("exp_avg")), kStats);
    moments.Add(key + " exp_avg_sq", StatError(file.exp_avg_sq.at(key), stats.at("exp_avg_sq")), kStats);
  }
  report.Add(name + "/moments", moments);
}

void CheckLegacyOptimizer(const std::string& path, const nlohmann::json& entry, const std::string& name,
                          Report& report) {
  const nlohmann::json& values = entry.at("values");
  std::vector<NamedShape> parameters;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string index = absl::StrCat(i);
    parameters.push_back({index, TensorOf(values.at(index).at("exp_avg")).sizes().vec()});
  }
  const OptimizerFile file = ReadOptimizerFile(path, parameters);
  Worst worst;
  const auto add_step = [&](const std::string& where, const nlohmann::json& step) {
    worst.Add(where, std::abs(static_cast<double>(file.settings.step) - step.get<double>()), 0);
  };
  add_step("step", entry.at("step"));
  for (const auto& [index, want] : values.items()) {
    add_step(index + " step", want.at("step"));
    worst.Add(index + " exp_avg", MaxDifference(file.exp_avg.at(index), TensorOf(want.at("exp_avg"))), 1e-9);
    worst.Add(index + " exp_avg_sq", MaxDifference(file.exp_avg_sq.at(index), TensorOf(want.at("exp_avg_sq"))), 1e-9);
  }
  report.Add(name + "/values", worst);
}

// A state dict of plain tensors: an excerpt of the tiny weights.
void CheckExcerpt(const Fixtures& fixtures, const std::string& name, Report& report) {
  const StateDictFile file = ReadStateDictFile(fixtures.Path(name));
  const auto unet = TinyUnet(fixtures);
  const auto parameters = unet->named_parameters();
  Worst worst;
  for (const auto& [key, value] : file.tensors) {
    const torch::Tensor* want = parameters.find(key);
    worst.Add(key, want == nullptr ? INFINITY : MaxDifference(value, want->detach()), 0);
  }
  report.Add(name, worst);
}

}  // namespace

void CheckCheckpoint(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("checkpoint.json");
  const nlohmann::json& files = json.at("files");
  std::set<std::string> kinds;
  for (const auto& [name, entry] : files.items()) {
    report.Case(name, [&, name = name, entry = entry] {
      const auto parsed = checkpoint::ParsePublishedName(name);
      TORCH_CHECK(parsed.has_value(), name, " is no name of the published code's");
      const std::string path = fixtures.Path("checkpoint/" + name);
      CheckSize(path, entry, name, report);
      // It holds one update more than its number says: the number is the zero-based step.
      report.Equal(name + "/updates", json.at("updates_in_file").at(name).get<int64_t>() == parsed->step + 1,
                   "another number of updates than the name says");
      if (parsed->kind == checkpoint::PublishedName::Kind::kOptimizer) {
        const std::string model =
            checkpoint::PublishedFileName({checkpoint::PublishedName::Kind::kModel, "", parsed->step});
        CheckOptimizer(path, entry, files.at(model).at("keys"), name, report);
      } else {
        CheckStateDict(path, entry, name, report);
      }
    });
  }
  report.Case("opt_legacy_layout.pt", [&] {
    const nlohmann::json& legacy = json.at("opt_legacy_layout");
    const std::string path = fixtures.Path("checkpoint/opt_legacy_layout.pt");
    CheckSize(path, legacy, "opt_legacy_layout.pt", report);
    CheckLegacyOptimizer(path, legacy, "opt_legacy_layout.pt", report);
  });
  report.Case("tiny_excerpt_plain.pt", [&] { CheckExcerpt(fixtures, "tiny_excerpt_plain.pt", report); });
}

}  // namespace p2::check

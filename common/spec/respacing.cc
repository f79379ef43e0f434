#include "common/spec/respacing.h"

#include <cmath>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"

namespace p2::spec {
namespace {

absl::StatusOr<int> ParseCount(absl::string_view text, absl::string_view spec) {
  int count;
  if (!absl::SimpleAtoi(text, &count)) {
    return absl::InvalidArgumentError(absl::StrCat("respacing \"", spec, "\": \"", text,
                                                   "\" is no integer: use a count (\"50\"), counts of sections "
                                                   "(\"130,60,60\") or \"ddimN\""));
  }
  return count;
}

absl::StatusOr<std::vector<int>> StridedTimesteps(int num_timesteps, absl::string_view spec) {
  P2_ASSIGN_OR_RETURN(const int wanted, ParseCount(spec.substr(4), spec));
  for (int stride = 1; stride < num_timesteps; ++stride) {
    if ((num_timesteps - 1) / stride + 1 != wanted) continue;
    std::vector<int> steps;
    for (int t = 0; t < num_timesteps; t += stride) steps.push_back(t);
    return steps;
  }
  return absl::InvalidArgumentError(absl::StrCat("respacing \"", spec, "\": no integer stride keeps exactly ", wanted,
                                                 " of ", num_timesteps, " timesteps"));
}

}  // namespace

absl::StatusOr<std::vector<int>> SpaceTimesteps(int num_timesteps, absl::string_view spec) {
  if (absl::StartsWith(spec, "ddim")) return StridedTimesteps(num_timesteps, spec);

  const std::vector<absl::string_view> sections = absl::StrSplit(spec, ',');
  const int num_sections = static_cast<int>(sections.size());
  std::vector<int> steps;
  int begin = 0;
  for (int i = 0; i < num_sections; ++i) {
    P2_ASSIGN_OR_RETURN(const int count, ParseCount(sections[i], spec));
    const int size = num_timesteps / num_sections + (i < num_timesteps % num_sections ? 1 : 0);
    if (count > size) {
      return absl::InvalidArgumentError(absl::StrCat("respacing \"", spec, "\": a section of ", size,
                                                     " timesteps cannot give ", count, "; ask for at most ", size));
    }
    const double stride = count > 1 ? static_cast<double>(size - 1) / (count - 1) : 1.0;
    double offset = 0;
    for (int j = 0; j < count; ++j) {
      steps.push_back(begin + static_cast<int>(std::nearbyint(offset)));  // half to even
      offset += stride;
    }
    begin += size;
  }
  return steps;
}

absl::StatusOr<SpacedSchedule> MakeSpacedSchedule(const NoiseSchedule& base, absl::string_view spec) {
  SpacedSchedule spaced;
  if (spec.empty()) {
    spaced.timestep_map.resize(base.num_timesteps());
    std::iota(spaced.timestep_map.begin(), spaced.timestep_map.end(), 0);
  } else {
    P2_ASSIGN_OR_RETURN(spaced.timestep_map, SpaceTimesteps(base.num_timesteps(), spec));
  }
  if (spaced.timestep_map.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("respacing \"", spec, "\" keeps no timestep; ask for at least one"));
  }
  std::vector<double> betas;
  double last = 1.0;
  for (const int t : spaced.timestep_map) {
    betas.push_back(1 - base.alphas_cumprod[t] / last);
    last = base.alphas_cumprod[t];
  }
  P2_ASSIGN_OR_RETURN(spaced.schedule, MakeNoiseSchedule(betas));
  return spaced;
}

}  // namespace p2::spec

#include "worker/trainer/available_memory.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace p2::trainer {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::optional<int64_t> Number(absl::string_view text) {
  int64_t value = 0;
  return absl::SimpleAtoi(text, &value) ? std::make_optional(value) : std::nullopt;  // v2 writes "max" for no limit.
}

// The number behind `name` in a file of "name number [kB]" lines.
std::optional<int64_t> NumberNamed(const std::string& text, absl::string_view name) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() >= 2 && words[0] == name) return Number(words[1]);
  }
  return std::nullopt;
}

// What a control group's directory still allows.
std::optional<int64_t> LeftIn(const std::string& dir, const char* limit_file, const char* usage_file,
                              const char* droppable_name) {
  const std::optional<int64_t> limit = Number(ReadAll(dir + limit_file));
  const std::optional<int64_t> usage = Number(ReadAll(dir + usage_file));
  if (!limit || !usage) return std::nullopt;
  const int64_t droppable = NumberNamed(ReadAll(dir + "/memory.stat"), droppable_name).value_or(0);
  return *limit - std::max<int64_t>(0, *usage - droppable);
}

}  // namespace

std::optional<int64_t> AvailableMemory(const std::string& root) {
  std::optional<int64_t> least;
  const auto take = [&least](std::optional<int64_t> bytes) {
    if (bytes) least = std::max<int64_t>(0, std::min(least.value_or(*bytes), *bytes));
  };
  if (const auto kib = NumberNamed(ReadAll(root + "/proc/meminfo"), "MemAvailable:")) take(*kib * 1024);
  const std::string groups = ReadAll(root + "/proc/self/cgroup");  // "id:controllers:path" lines; v2: "0::path".
  for (const absl::string_view line : absl::StrSplit(groups, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(parts[1], ',');
    const bool v1 = std::find(controllers.begin(), controllers.end(), "memory") != controllers.end();
    if (!v1 && !parts[1].empty()) continue;
    // Inside a container the path may be the host's, which is not there: the mount's own directory is then the group.
    for (std::string path(absl::StripSuffix(parts[2], "/"));; path.resize(path.rfind('/'))) {
      const std::string dir = absl::StrCat(root, v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup", path);
      take(v1 ? LeftIn(dir, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file")
              : LeftIn(dir, "/memory.max", "/memory.current", "inactive_file"));
      if (path.empty()) break;
    }
  }
  return least;
}

}  // namespace p2::trainer

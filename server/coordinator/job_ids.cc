#include "server/coordinator/job_ids.h"

#include "absl/strings/str_cat.h"

namespace p2::coordinator {
namespace {

constexpr char kBase32[] = "abcdefghijklmnopqrstuvwxyz234567";
constexpr int kShort = 5, kLong = 7;
constexpr size_t kMaxPrefix = 63 - 1 - kLong;

}  // namespace

std::string JobIds::Draw(absl::string_view prefix, absl::FunctionRef<bool(const std::string&)> taken) {
  prefix = prefix.substr(0, kMaxPrefix);
  for (int letters = kShort;; letters = kLong) {
    std::string id = absl::StrCat(prefix, "-");
    for (int i = 0; i < letters; ++i) id.push_back(kBase32[random_() % 32]);
    if (!taken(id)) return id;
  }
}

}  // namespace p2::coordinator

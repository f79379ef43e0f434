#include "server/rpc/resolved_specs.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/spec/estimate.h"
#include "common/status_macros.h"

namespace p2::rpc {
namespace {

// Both bound the memory: 64 files of 16 KiB, and what they resolve to.
constexpr size_t kMaxKnown = 64;
constexpr size_t kMaxKeyBytes = 16 << 10;

// All that Resolve looks at, each part behind its length, so that no two requests have the same key.
std::string KeyOf(const spec::ResolveRequest& request) {
  std::string key = request.require_dataset ? "d" : "n";
  const auto add = [&key](const std::string& part) { absl::StrAppend(&key, part.size(), ":", part); };
  add(request.preset);
  add(request.file_yaml);
  add(request.file_name);
  for (const spec::Override& change : request.overrides) {
    add(change.path);
    add(change.value);
    add(change.origin);
  }
  return key;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const KnownSpec>> ResolvedSpecs::Resolve(const spec::ResolveRequest& request) {
  std::string key = KeyOf(request);
  {
    absl::MutexLock lock(&mutex_);
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
  }
  auto known = std::make_shared<KnownSpec>();
  P2_ASSIGN_OR_RETURN(known->resolved, spec::Resolve(request));
  P2_ASSIGN_OR_RETURN(known->estimate, spec::EstimateResources(known->resolved.spec));
  if (key.size() <= kMaxKeyBytes) {
    absl::MutexLock lock(&mutex_);
    if (known_.size() >= kMaxKnown) known_.clear();
    known_.emplace(std::move(key), known);
  }
  return known;
}

}  // namespace p2::rpc

#include "server/rpc/resolved_specs.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/sha256.h"
#include "common/spec/estimate.h"
#include "common/spec/proto_bytes.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"

namespace p2::rpc {
namespace {

// Both bound the memory: 128 files of 16 KiB, and what they resolve to.
constexpr size_t kMaxKnown = 128;
constexpr size_t kMaxKeyBytes = 16 << 10;

// Each part stands behind its length, so that different parts never make the same key.
void Add(std::string& key, absl::string_view part) { absl::StrAppend(&key, part.size(), ":", part); }

// All that spec::Resolve looks at.
std::string KeyOf(const spec::ResolveRequest& request) {
  std::string key = request.require_dataset ? "d" : "n";
  Add(key, request.preset);
  Add(key, request.file_yaml);
  Add(key, request.file_name);
  for (const spec::Override& change : request.overrides) {
    Add(key, change.path);
    Add(key, change.value);
    Add(key, change.origin);
  }
  return key;
}

}  // namespace

absl::StatusOr<KnownSpecPtr> ResolvedSpecs::Resolve(const spec::ResolveRequest& request) {
  return FindOr(KeyOf(request), [&request] { return spec::Resolve(request); });
}

absl::StatusOr<KnownSpecPtr> ResolvedSpecs::WithCheckpointRoot(const KnownSpec& known, const std::string& root,
                                                               const std::string& origin) {
  const auto resolve = [&] {
    spec::ResolvedSpec resolved = known.resolved;
    resolved.spec.mutable_checkpoint()->set_root(root);
    resolved.origins["checkpoint.root"] = origin;
    return absl::StatusOr<spec::ResolvedSpec>(std::move(resolved));
  };
  if (known.key.empty()) return Make("", *resolve());
  std::string key = absl::StrCat(known.key, "r");
  Add(key, root);
  Add(key, origin);
  return FindOr(std::move(key), resolve);
}

absl::StatusOr<KnownSpecPtr> ResolvedSpecs::Make(std::string key, spec::ResolvedSpec resolved) {
  auto known = std::make_shared<KnownSpec>();
  known->key = std::move(key);
  P2_ASSIGN_OR_RETURN(known->estimate, spec::EstimateResources(resolved.spec));
  known->spec_bytes = spec::DeterministicBytes(resolved.spec);
  known->spec_sha256 = Sha256Hex(known->spec_bytes);
  known->origins_bytes = OriginsBytes(resolved.origins);
  known->origins_sha256 = Sha256Hex(known->origins_bytes);
  known->resolved = std::move(resolved);
  return known;
}

absl::StatusOr<KnownSpecPtr> ResolvedSpecs::FindOr(std::string key,
                                                   const std::function<absl::StatusOr<spec::ResolvedSpec>()>& resolve) {
  {
    absl::MutexLock lock(&mutex_);
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
  }
  P2_ASSIGN_OR_RETURN(spec::ResolvedSpec resolved, resolve());
  if (key.size() > kMaxKeyBytes) key.clear();
  P2_ASSIGN_OR_RETURN(KnownSpecPtr known, Make(std::move(key), std::move(resolved)));
  if (known->key.empty()) return known;
  absl::MutexLock lock(&mutex_);
  if (known_.size() >= kMaxKnown) known_.clear();
  known_.emplace(known->key, known);
  return known;
}

}  // namespace p2::rpc

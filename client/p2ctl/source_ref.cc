#include "client/p2ctl/source_ref.h"

#include <filesystem>
#include <iterator>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/storage_root.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {

absl::StatusOr<std::vector<v1::StorageRoot>> SeenRoots(Context& context) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(Page<v1::StorageRoot> page,
                      CollectPages(*client, &Client::ListRoots, &v1::ListRootsResponse::roots, v1::ListRootsRequest()));
  return std::move(page.items);
}

absl::StatusOr<std::string> CheckpointSource(Context& context, const std::string& ref, At at) {
  if (absl::StrContains(ref, "/checkpoints/")) return ref;
  if (const size_t slash = ref.find('/'); slash != std::string::npos && slash > 0 &&
                                          ref.find('/', slash + 1) == ref.npos && !absl::StartsWith(ref, "jobs/")) {
    P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(ref.substr(0, slash)));
    return absl::StrCat(job.name(), "/checkpoints/", ref.substr(slash + 1));
  }
  const std::pair<std::string, std::string> parts = absl::StrSplit(ref, absl::MaxSplits('@', 1));
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(parts.first));
  if (!absl::StrContains(ref, '@')) return job.name();
  P2_ASSIGN_OR_RETURN(const int64_t images, ParseCount(parts.second));
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ListCheckpointsRequest request;
  request.set_parent(job.name());
  P2_ASSIGN_OR_RETURN(
      const Page<v1::Checkpoint> page,
      CollectPages(*client, &Client::ListCheckpoints, &v1::ListCheckpointsResponse::checkpoints, request));
  std::map<int64_t, std::string> known;  // By position; of two there the newer one, which is listed first.
  for (const v1::Checkpoint& checkpoint : page.items) {
    if (checkpoint.state() == v1::Checkpoint::COMMITTED) known.emplace(checkpoint.images_seen(), checkpoint.name());
  }
  const auto above = known.upper_bound(images);
  if (above != known.begin()) {
    const auto& [position, name] = *std::prev(above);
    if (position == images || at == At::kOrBefore) return name;
  }
  const auto position = [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first); };
  return absl::NotFoundError(absl::StrCat(
      "job ", IdOf(job.name()), " has no good checkpoint at ", at == At::kOrBefore ? "or before " : "", images,
      " images; ", known.empty() ? "it has none" : "it has them at ", absl::StrJoin(known, ", ", position)));
}

absl::StatusOr<std::string> CheckpointName(Context& context, const std::string& ref) {
  if (!absl::StrContains(ref, '/') && !absl::StrContains(ref, '@')) {
    return UsageError(absl::StrCat("\"", ref, "\" names no checkpoint; write JOB/CHECKPOINT (`p2ctl ckpt list ", ref,
                                   "`) or JOB@IMAGES"));
  }
  absl::StatusOr<std::string> name = CheckpointSource(context, ref);
  const std::vector<std::string> parts = absl::StrSplit(ref, '/');
  if (absl::IsNotFound(name.status()) && parts.size() == 2)
    return absl::StrCat("jobs/", parts[0], "/checkpoints/", parts[1]);
  return name;
}

absl::StatusOr<std::string> FilesSource(Context& context, const std::string& path) {
  std::error_code ignored;
  if (absl::StrContains(path, ':') && !std::filesystem::exists(path, ignored)) return path;
  if (!std::filesystem::exists(path, ignored)) {
    return absl::NotFoundError(
        absl::StrCat(path, " is not there; on another machine's root it is named ROOT:PATH (`p2ctl root list`)"));
  }
  P2_ASSIGN_OR_RETURN(const RootedPath where, FindRootAbove(path));
  P2_ASSIGN_OR_RETURN(const std::vector<v1::StorageRoot> seen, SeenRoots(context));
  for (const v1::StorageRoot& root : seen) {
    if (root.id() == where.root_id) return absl::StrCat(root.name(), ":", where.relative);
  }
  return absl::FailedPreconditionError(absl::StrCat("no worker sees the root ", where.root, " (ID ", where.root_id,
                                                    ") that ", path,
                                                    " lies in; start p2-worker with --root NAME=", where.root));
}

absl::StatusOr<std::string> InitSource(Context& context, const std::string& ref) {
  std::error_code ignored;
  const bool files = absl::StrContains(ref, ':') || std::filesystem::exists(ref, ignored);
  return files ? FilesSource(context, ref) : CheckpointSource(context, ref);
}

}  // namespace p2::ctl

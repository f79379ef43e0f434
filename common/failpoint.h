// Failpoints: named places where the chaos tests make a process die, fail or wait (docs/reliability.md).
//
//   P2_RETURN_IF_ERROR(P2_FAILPOINT("store.before_write"));
//
// A process takes them up only if it is started with --enable-failpoints, and only those that its environment names:
//   P2_FAILPOINTS=store.before_write=kill@3,blob.before_sync=delay:50
//   NAME=kill[@n]        SIGKILL to the process itself
//   NAME=eio[@n]         INTERNAL, as a device's error
//   NAME=enospc[@n]      RESOURCE_EXHAUSTED, as a full disk's
//   NAME=delay:MS[@n]    waits for so many milliseconds, at most 60,000
// @n: at the n-th passage only, from 1; without it at every one. P2_TRAINER_FAILPOINTS is p2-trainer's variable, which
// p2-worker hands on. Without --enable-failpoints a passage costs one relaxed load; with -DP2_FAILPOINTS=OFF (preset
// `dist`) there is no code.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace p2::failpoint {

// All there are, by process and place. What stands here must be used somewhere (tests/common/failpoint_test.cc).
inline constexpr std::array kNames = {
    // p2d, one batch: bytes of logs and artifacts, the synced batch, its commit count, publishing, answers, acks.
    "blob.before_write", "blob.before_sync", "blob.before_rename", "blob.after_rename", "store.before_write",
    "store.before_commit_count", "commits.before_sync", "store.after_commit_count", "loop.before_publish",
    "loop.before_answer", "loop.before_ack",
    // p2-worker: the spool, an attempt's journal, a rank's start.
    "spool.before_write", "spool.before_sync", "spool.after_sync", "spool.before_drop", "journal.before_write",
    "journal.after_write", "agent.before_spawn", "agent.after_spawn",
    // p2-trainer: a checkpoint.
    "checkpoint.before_write", "checkpoint.before_manifest", "checkpoint.before_rename",
    "checkpoint.before_parent_sync", "checkpoint.after_parent_sync"};

// Position in kNames; an unknown name does not compile.
consteval size_t IndexOf(const char* name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    const char *a = kNames[i], *b = name;
    while (*a != '\0' && *a == *b) ++a, ++b;
    if (*a == *b) return i;
  }
  throw "not in kNames";
}

// Process-wide by nature, as a crash is. True once Enable has armed one.
extern std::atomic<bool> live;

// Before the first thread starts. `spec`: the environment's value, null if unset, which arms none. INVALID_ARGUMENT
// names what is wrong and the failpoints there are; FAILED_PRECONDITION in a build without failpoints.
absl::Status Enable(const char* spec);

// Does what is armed at kNames[index]; OK after a delay, or where nothing is. Thread-safe.
absl::Status Pass(size_t index);

}  // namespace p2::failpoint

#ifdef P2_WITHOUT_FAILPOINTS
#define P2_FAILPOINT(name) absl::OkStatus()
#else
// An absl::Status: the failure to take up, as if the next call had met it.
#define P2_FAILPOINT(name)                                                                                       \
  (::p2::failpoint::live.load(std::memory_order_relaxed) ? ::p2::failpoint::Pass(::p2::failpoint::IndexOf(name)) \
                                                         : absl::OkStatus())
#endif

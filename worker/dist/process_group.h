// The gang of one attempt: its store and its collectives (c10d; NCCL on GPUs, Gloo on CPUs).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/dist/job_store.h"

namespace p2::dist {

struct GroupOptions {
  int rank = 0;                // REQUIRES: 0 <= rank < world_size.
  int world_size = 1;          // 1: no network at all, the collectives return at once.
  std::string master_address;  // Where rank 0 serves the store.
  int master_port = 0;
  std::optional<int> listen_fd;  // Rank 0: a listening socket on that port; taken over.
  std::string key_prefix;        // "<epoch>/<nonce>": keeps attempts on one port apart.
  std::string data_interface;    // Address or interface that Gloo binds; empty: the one that reaches the master.
  absl::Duration start_timeout = absl::Seconds(300);      // Until all ranks have joined.
  absl::Duration operation_timeout = absl::Seconds(120);  // Of one collective: how long a frozen peer goes unseen.
  at::Device device = at::kCPU;                           // Of the tensors that are reduced.
  // "nccl" or "gloo"; empty: NCCL where `device` is a GPU, else Gloo. Named, a rank that is alone connects as well: the
  // way to try a backend on one device, and two ranks on one GPU (which NCCL refuses) by Gloo.
  std::string backend;
};

// Collectives are called by one thread, in the same order on all ranks. Each is UNAVAILABLE when a peer was killed (at
// once over Gloo) or frozen (after operation_timeout). On a GPU they are asynchronous, as any kernel.
class ProcessGroup {
 public:
  // Waits until all ranks have joined. UNAVAILABLE names the ranks that did not.
  static absl::StatusOr<std::unique_ptr<ProcessGroup>> Create(const GroupOptions& options);
  // After a failure the group's threads are left behind: they would only end with the operation's timeout.
  ~ProcessGroup();

  int rank() const { return options_.rank; }
  int world_size() const { return options_.world_size; }
  at::Device device() const { return options_.device; }

  // In place over the ranks; `tensor` is dense and lies on device().
  absl::Status AllReduceSum(at::Tensor& tensor);
  absl::Status AllReduceMax(at::Tensor& tensor);
  absl::Status Broadcast(at::Tensor& tensor, int root = 0);
  // Sends out_sizes[r] elements of `out`, in order, to rank r and receives in_sizes[r] from it into `in`; the sizes add
  // up to the tensors'. Both dense, on device().
  absl::Status AllToAll(const at::Tensor& out, std::vector<int64_t> out_sizes, at::Tensor& in,
                        std::vector<int64_t> in_sizes);
  // `gathered`: (world_size n), takes every rank's `part`, (n), in their order.
  absl::Status AllGather(const at::Tensor& part, at::Tensor& gathered);
  // Bytes of rank 0 for all ranks.
  absl::StatusOr<std::string> BroadcastBytes(const std::string& bytes);

  // Drops the connections to the other ranks and joins them anew; the store stays. Whoever waits in a collective with
  // this rank then fails (over Gloo at once), and shall call it too. REQUIRES: nothing else holds c10d(). UNAVAILABLE
  // as Create.
  absl::Status Rejoin();

  // A new connection to the gang's store.
  absl::StatusOr<std::unique_ptr<JobStore>> NewStore();

  // For the Reducer; null if world_size is 1 and no backend was named.
  const c10::intrusive_ptr<c10d::ProcessGroup>& c10d() const { return group_; }
  // Tells the group that a collective outside of this class failed.
  void MarkBroken() { broken_ = true; }

 private:
  explicit ProcessGroup(const GroupOptions& options) : options_(options) {}
  // Needs no network.
  bool IsAlone() const { return options_.world_size == 1 && options_.backend.empty(); }
  absl::Status Connect();
  absl::Status JoinAll();
  absl::Status ConnectPeers();
  void Leave();
  absl::Status AllReduce(const char* what, at::Tensor& tensor, c10d::ReduceOp op);
  // Runs a collective; one that failed breaks the group.
  template <typename F>
  absl::Status Collective(const char* what, F&& fn);

  const GroupOptions options_;
  c10::intrusive_ptr<c10d::Store> root_store_;  // Without the prefix.
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  bool broken_ = false;
  int generation_ = 0;  // Of the connections to the other ranks.
};

}  // namespace p2::dist

#include "worker/dist/process_group.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cstring>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "worker/dist/dist_status.h"

namespace p2::dist {
namespace {

std::chrono::milliseconds Millis(absl::Duration d) { return std::chrono::milliseconds(absl::ToInt64Milliseconds(d)); }

bool IsAddress(const std::string& text) {
  return text.find('.') != std::string::npos || text.find(':') != std::string::npos || text == "localhost";
}

// `interface`: an address, an interface's name, or empty. Connects eagerly: a lazy connect would ignore the timeout.
std::shared_ptr<::gloo::transport::Device> GlooDevice(const std::string& interface, const std::string& master) {
  if (interface.empty()) {
    const bool loopback = master == "localhost" || master == "::1" || master.rfind("127.", 0) == 0;
    return loopback ? c10d::ProcessGroupGloo::createDeviceForHostname(master)
                    : c10d::ProcessGroupGloo::createDefaultDevice();
  }
  return IsAddress(interface) ? c10d::ProcessGroupGloo::createDeviceForHostname(interface)
                              : c10d::ProcessGroupGloo::createDeviceForInterface(interface);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProcessGroup>> ProcessGroup::Create(const GroupOptions& options) {
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", options.rank, " of ", options.world_size,
                                                   " ranks: RANK must be from 0 to WORLD_SIZE - 1"));
  }
  if (!options.backend.empty() && options.backend != "gloo" &&
      (options.backend != "nccl" || !options.device.is_cuda())) {
    return absl::InvalidArgumentError(
        absl::StrCat("backend \"", options.backend, "\" for ", options.device.str(), ": gloo, or nccl on a GPU"));
  }
  std::unique_ptr<ProcessGroup> group(new ProcessGroup(options));
  if (group->IsAlone()) {
    group->root_store_ = c10::make_intrusive<c10d::HashStore>();
    return group;
  }
  P2_RETURN_IF_ERROR(group->Connect());
  return group;
}

ProcessGroup::~ProcessGroup() { Leave(); }

void ProcessGroup::Leave() {
  if (std::exchange(broken_, false)) group_.release();
  group_.reset();
}

absl::Status ProcessGroup::Rejoin() {
  if (IsAlone()) return absl::OkStatus();
  Leave();
  ++generation_;
  return ConnectPeers();
}

absl::Status ProcessGroup::Connect() {
  c10d::TCPStoreOptions store;
  store.port = static_cast<uint16_t>(options_.master_port);
  store.isServer = options_.rank == 0;
  store.numWorkers = options_.world_size;
  store.waitWorkers = false;
  store.timeout = Millis(options_.start_timeout);
  if (options_.rank == 0) store.masterListenFd = options_.listen_fd;
  P2_RETURN_IF_ERROR(
      RunDist(absl::StrCat("rank ", options_.rank, ": no store at ", options_.master_address, ":", options_.master_port,
                           " within ", absl::FormatDuration(options_.start_timeout),
                           " (is rank 0 running, and reachable from here?)"),
              [&] { root_store_ = c10::make_intrusive<c10d::TCPStore>(options_.master_address, store); }));
  return ConnectPeers();
}

absl::Status ProcessGroup::ConnectPeers() {
  P2_RETURN_IF_ERROR(JoinAll());
  return RunDist(absl::StrCat("rank ", options_.rank, ": cannot connect to the other ranks"), [&] {
    auto prefixed =
        c10::make_intrusive<c10d::PrefixStore>(absl::StrCat(options_.key_prefix, "/group/", generation_), root_store_);
    auto group = c10::make_intrusive<c10d::ProcessGroup>(prefixed, options_.rank, options_.world_size);
    if (options_.device.is_cuda() && options_.backend != "gloo") {
      auto nccl = c10d::ProcessGroupNCCL::Options::create();
      nccl->timeout = Millis(options_.operation_timeout);
      auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(prefixed, options_.rank, options_.world_size, nccl);
      group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
      group->setBackend(at::kCUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
    } else {
      auto gloo = c10d::ProcessGroupGloo::Options::create(Millis(options_.start_timeout));
      gloo->devices.push_back(GlooDevice(options_.data_interface, options_.master_address));
      auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(prefixed, options_.rank, options_.world_size, gloo);
      backend->setTimeout(Millis(options_.operation_timeout));
      group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
      group->setBackend(options_.device.type(), c10d::ProcessGroup::BackendType::GLOO, backend);
    }
    group_ = std::move(group);
  });
}

absl::Status ProcessGroup::JoinAll() {
  P2_ASSIGN_OR_RETURN(std::unique_ptr<JobStore> store, NewStore());
  P2_RETURN_IF_ERROR(store->Set(absl::StrCat("joined/", generation_, "/", options_.rank), "1"));
  std::vector<std::string> missing;
  for (int rank = 0; rank < options_.world_size; ++rank) {
    const std::string key = absl::StrCat("joined/", generation_, "/", rank);
    // The first absent rank is waited for; the others had the same time by then.
    const absl::Duration patience = missing.empty() ? options_.start_timeout : absl::ZeroDuration();
    const absl::Status joined = store->Get(key, patience).status();
    if (absl::IsDeadlineExceeded(joined)) {
      missing.push_back(absl::StrCat(rank));
    } else if (!joined.ok()) {
      return joined;
    }
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("rank ", options_.rank, ": of ", options_.world_size, " ranks, rank ",
                                             absl::StrJoin(missing, ", "), " did not join within ",
                                             absl::FormatDuration(options_.start_timeout)));
}

template <typename F>
absl::Status ProcessGroup::Collective(const char* what, F&& fn) {
  const absl::Status status = RunDist(what, std::forward<F>(fn));
  broken_ |= !status.ok();
  return status;
}

absl::Status ProcessGroup::AllReduce(const char* what, at::Tensor& tensor, c10d::ReduceOp op) {
  if (!group_) return absl::OkStatus();
  return Collective(what, [&] {
    std::vector<at::Tensor> tensors{tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = std::move(op);
    group_->allreduce(tensors, options)->wait();
  });
}

absl::Status ProcessGroup::AllReduceSum(at::Tensor& tensor) {
  return AllReduce("sum over ranks", tensor, c10d::ReduceOp::SUM);
}

absl::Status ProcessGroup::AllReduceMax(at::Tensor& tensor) {
  return AllReduce("maximum over ranks", tensor, c10d::ReduceOp::MAX);
}

absl::Status ProcessGroup::Broadcast(at::Tensor& tensor, int root) {
  if (!group_) return absl::OkStatus();
  return Collective("broadcast", [&] {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group_->broadcast(tensors, options)->wait();
  });
}

absl::Status ProcessGroup::AllToAll(const at::Tensor& out, std::vector<int64_t> out_sizes, at::Tensor& in,
                                    std::vector<int64_t> in_sizes) {
  if (!group_) {
    in.copy_(out);
    return absl::OkStatus();
  }
  return Collective("exchange between ranks", [&] {
    at::Tensor from = out;
    group_->alltoall_base(in, from, in_sizes, out_sizes)->wait();
  });
}

absl::Status ProcessGroup::AllGather(const at::Tensor& part, at::Tensor& gathered) {
  if (!group_) {
    gathered.copy_(part);
    return absl::OkStatus();
  }
  return Collective("gathering from ranks", [&] {
    at::Tensor from = part;
    group_->_allgather_base(gathered, from)->wait();
  });
}

absl::StatusOr<std::string> ProcessGroup::BroadcastBytes(const std::string& bytes) {
  at::Tensor size = at::full({1}, static_cast<int64_t>(bytes.size()), at::TensorOptions(at::kLong).device(device()));
  P2_RETURN_IF_ERROR(Broadcast(size));
  at::Tensor data = at::empty({size.item<int64_t>()}, at::kByte);
  if (rank() == 0) std::memcpy(data.data_ptr(), bytes.data(), bytes.size());
  data = data.to(device());
  P2_RETURN_IF_ERROR(Broadcast(data));
  data = data.cpu();
  return std::string(static_cast<const char*>(data.data_ptr()), static_cast<size_t>(data.numel()));
}

absl::StatusOr<std::unique_ptr<JobStore>> ProcessGroup::NewStore() {
  std::unique_ptr<JobStore> store;
  P2_RETURN_IF_ERROR(RunDist("store: connect", [&] {
    auto connection = IsAlone() ? root_store_ : root_store_->clone();
    store = std::make_unique<JobStore>(c10::make_intrusive<c10d::PrefixStore>(options_.key_prefix, connection));
  }));
  return store;
}

}  // namespace p2::dist

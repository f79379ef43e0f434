// A gang of ranks as threads of one test, over Gloo on loopback.
#pragma once

#include <ATen/ATen.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "worker/dist/process_group.h"

namespace p2::dist {

// A listening socket on a free loopback port: what rank 0's agent hands over.
struct Listener {
  Listener() : fd(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd, 64), 0);
    EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(address.sin_port);
  }
  int fd = -1;  // The store of rank 0 takes it over.
  int port = 0;
};

inline GroupOptions RankOptions(int rank, int world_size, const Listener& listener) {
  GroupOptions options;
  options.rank = rank;
  options.world_size = world_size;
  options.master_address = "127.0.0.1";
  options.master_port = listener.port;
  if (rank == 0) options.listen_fd = listener.fd;
  options.key_prefix = "1/nonce";
  options.start_timeout = absl::Seconds(20);
  options.operation_timeout = absl::Seconds(20);
  return options;
}

// Runs `body` once a rank, each in a thread with a group of its own.
inline void RunGang(int world_size, const std::function<void(ProcessGroup&)>& body) {
  const Listener listener;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world_size; ++rank) {
    ranks.emplace_back([&, rank] {
      auto group = ProcessGroup::Create(RankOptions(rank, world_size, listener));
      ASSERT_TRUE(group.ok()) << group.status();
      at::Tensor all_connected = at::ones({1});
      ASSERT_TRUE((*group)->AllReduceSum(all_connected).ok());
      body(**group);
      // Rank 0 serves the store: it leaves last.
      auto store = (*group)->NewStore();
      ASSERT_TRUE(store.ok());
      ASSERT_TRUE((*store)->Add("left", 1).ok());
      while (rank == 0 && *(*store)->Add("left", 0) < world_size) std::this_thread::yield();
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace p2::dist

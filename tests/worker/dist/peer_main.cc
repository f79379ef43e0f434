// Rank 1 of 2: joins the group of a test, takes part in one sum, and then waits to be killed or frozen.
//   p2_dist_peer PORT
#include <ATen/ATen.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "worker/dist/process_group.h"

int main(int argc, char** argv) {
  p2::dist::GroupOptions options;
  options.rank = 1;
  options.world_size = 2;
  options.master_address = "127.0.0.1";
  options.master_port = std::atoi(argv[1]);
  options.key_prefix = "1/nonce";
  options.start_timeout = absl::Seconds(20);
  auto group = p2::dist::ProcessGroup::Create(options);
  if (!group.ok()) return 1;
  at::Tensor one = at::ones({4});
  if (!(*group)->AllReduceSum(one).ok()) return 2;
  ::pause();
  return 0;
}

// The balanced binary tree in which an exact sum is added: its shape depends on the number of leaves alone, so the bits
// of the sum do not depend on who adds what.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace p2::dist {

// Leaves [begin, end) of V.
struct LeafRange {
  int begin = 0;
  int end = 0;
};

// The leaves that `rank` of `world_size` computes: [floor(r V / W), floor((r + 1) V / W)).
LeafRange LeavesOf(int rank, int world_size, int leaves);

// The node above leaves [begin, begin + size): size is a power of two that divides begin.
struct Subtree {
  int begin = 0;
  int size = 1;
};

// The largest nodes inside `range`, left to right: at most 2 log2 V.
std::vector<Subtree> SubtreesOf(LeafRange range);

// Sums of nodes, added left to right; two children become their parent, left + right in fp32, at once. Holds at most
// one buffer a subtree of what it was given, and one more. Thread-compatible.
class LeafTree {
 public:
  struct Node {
    Subtree subtree;
    at::Tensor sum;
  };

  // `values` are read before this returns. REQUIRES: the node begins where the last one ended; all of one shape.
  void Add(Subtree subtree, const at::Tensor& values);

  // What has no parent yet, left to right; the buffers live until Clear.
  const std::vector<Node>& nodes() const { return nodes_; }
  // Keeps the buffers for the next sum.
  void Clear();

 private:
  std::vector<Node> nodes_;
  std::vector<at::Tensor> free_;
};

}  // namespace p2::dist

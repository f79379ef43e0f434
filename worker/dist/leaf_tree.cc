#include "worker/dist/leaf_tree.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>

namespace p2::dist {
namespace {

bool AreSiblings(Subtree left, Subtree right) {
  return left.size == right.size && left.begin + left.size == right.begin && left.begin % (2 * left.size) == 0;
}

}  // namespace

LeafRange LeavesOf(int rank, int world_size, int leaves) {
  const auto bound = [&](int64_t r) { return static_cast<int>(r * leaves / world_size); };
  return {bound(rank), bound(rank + 1)};
}

std::vector<Subtree> SubtreesOf(LeafRange range) {
  std::vector<Subtree> subtrees;
  for (int leaf = range.begin; leaf < range.end; ++leaf) {
    subtrees.push_back({leaf, 1});
    while (subtrees.size() > 1 && AreSiblings(subtrees[subtrees.size() - 2], subtrees.back())) {
      subtrees.pop_back();
      subtrees.back().size *= 2;
    }
  }
  return subtrees;
}

void LeafTree::Add(Subtree subtree, const at::Tensor& values) {
  if (!nodes_.empty() && AreSiblings(nodes_.back().subtree, subtree)) {  // A right child needs no buffer.
    nodes_.back().sum.add_(values);
    nodes_.back().subtree.size *= 2;
  } else {
    if (free_.empty()) free_.push_back(at::empty_like(values));
    free_.back().copy_(values);
    nodes_.push_back({subtree, std::move(free_.back())});
    free_.pop_back();
  }
  while (nodes_.size() > 1 && AreSiblings(nodes_[nodes_.size() - 2].subtree, nodes_.back().subtree)) {
    Node& left = nodes_[nodes_.size() - 2];
    left.sum.add_(nodes_.back().sum);
    left.subtree.size *= 2;
    free_.push_back(std::move(nodes_.back().sum));
    nodes_.pop_back();
  }
}

void LeafTree::Clear() {
  for (Node& node : nodes_) free_.push_back(std::move(node.sum));
  nodes_.clear();
}

}  // namespace p2::dist

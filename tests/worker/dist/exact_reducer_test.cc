#include "worker/dist/exact_reducer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <mutex>
#include <vector>

#include "tests/worker/dist/gang.h"

namespace p2::dist {
namespace {

constexpr int kSize = 64 * 5;  // Three ranks' slices: 128, 128, 64.

// A gradient whose sum depends on the order: exponents from -12 to 12.
at::Tensor LeafGradient(int leaf) {
  const at::Tensor i = at::arange(kSize).to(at::kDouble);
  return (i.mul(leaf * 1.37 + 0.61).sin() * i.mul(0.37 + leaf).cos().mul(12).exp2()).to(at::kFloat);
}

// The definition: node = left + right.
at::Tensor Node(int begin, int size) {
  if (size == 1) return LeafGradient(begin);
  return Node(begin, size / 2) + Node(begin + size / 2, size / 2);
}

// `steps` sums on `ranks` ranks; every rank's result of the last one.
std::vector<at::Tensor> SumsOver(int ranks, int leaves, int steps = 1) {
  std::mutex mutex;
  std::vector<at::Tensor> sums;
  RunGang(ranks, [&](ProcessGroup& group) {
    at::Tensor grads = at::zeros({kSize});
    at::Tensor parameter = torch::zeros({kSize}, torch::requires_grad());
    parameter.mutable_grad() = grads;
    auto reducer = MakeExactReducer(group, grads, leaves);
    const LeafRange mine = LeavesOf(group.rank(), group.world_size(), leaves);
    for (int step = 0; step < steps; ++step) {
      for (int leaf = mine.begin; leaf < mine.end; ++leaf)
        ASSERT_TRUE(reducer->Backward((parameter * LeafGradient(leaf)).sum(), leaf + 1 == mine.end).ok());
    }
    std::lock_guard<std::mutex> lock(mutex);
    sums.push_back(grads);
  });
  return sums;
}

TEST(ExactReducerTest, GivesTheTreesBitsOnAnyNumberOfRanks) {
  const at::Tensor expected = Node(0, 8);
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const std::vector<at::Tensor> sums = SumsOver(ranks, 8);
    ASSERT_EQ(sums.size(), static_cast<size_t>(ranks));
    for (const at::Tensor& sum : sums) EXPECT_TRUE(at::equal(sum, expected)) << ranks << " ranks";
  }
}

TEST(ExactReducerTest, TheOrderMattersHere) {  // Else the test above would pass for any sum.
  at::Tensor sequential = LeafGradient(0);
  for (int leaf = 1; leaf < 8; ++leaf) sequential = sequential + LeafGradient(leaf);
  EXPECT_FALSE(at::equal(sequential, Node(0, 8)));
}

TEST(ExactReducerTest, StartsEveryStepAnew) {
  for (int ranks : {1, 3})
    for (const at::Tensor& sum : SumsOver(ranks, 4, /*steps=*/3)) EXPECT_TRUE(at::equal(sum, Node(0, 4)));
}

TEST(ExactReducerTest, OneLeafIsAPlainBackwardPass) { EXPECT_TRUE(at::equal(SumsOver(1, 1)[0], LeafGradient(0))); }

TEST(LeafTreeTest, SubtreesAreTheLargestInsideTheRange) {
  const auto sizes = [](LeafRange range) {
    std::vector<std::pair<int, int>> all;
    for (const Subtree& subtree : SubtreesOf(range)) all.emplace_back(subtree.begin, subtree.size);
    return all;
  };
  using Pairs = std::vector<std::pair<int, int>>;
  EXPECT_EQ(sizes({0, 8}), (Pairs{{0, 8}}));
  EXPECT_EQ(sizes({1, 8}), (Pairs{{1, 1}, {2, 2}, {4, 4}}));
  EXPECT_EQ(sizes({2, 5}), (Pairs{{2, 2}, {4, 1}}));
  EXPECT_EQ(sizes({3, 3}), (Pairs{}));
}

TEST(LeafTreeTest, LeavesCoverTheBatchOnce) {
  for (int ranks = 1; ranks <= 16; ++ranks) {
    int next = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const LeafRange range = LeavesOf(rank, ranks, 16);
      EXPECT_EQ(range.begin, next);
      EXPECT_GT(range.end, range.begin);
      next = range.end;
    }
    EXPECT_EQ(next, 16);
  }
}

}  // namespace
}  // namespace p2::dist

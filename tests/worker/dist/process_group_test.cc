#include "worker/dist/process_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <torch/torch.h>

#include <csignal>

#include "absl/time/clock.h"
#include "tests/worker/dist/gang.h"

namespace p2::dist {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ProcessGroupTest, SumsAndTakesTheMaximumOverRanks) {
  RunGang(3, [](ProcessGroup& group) {
    at::Tensor sum = at::full({5}, static_cast<double>(group.rank() + 1), at::kDouble);
    ASSERT_TRUE(group.AllReduceSum(sum).ok());
    EXPECT_EQ(sum[4].item<double>(), 6.0);
    at::Tensor flag = at::full({}, group.rank() == 1 ? 1.0f : 0.0f);
    ASSERT_TRUE(group.AllReduceMax(flag).ok());
    EXPECT_EQ(flag.item<float>(), 1.0f);
  });
}

TEST(ProcessGroupTest, GivesEveryRankTheBytesOfRankZero) {
  RunGang(2, [](ProcessGroup& group) {
    auto bytes = group.BroadcastBytes(group.rank() == 0 ? std::string("state\0of rank 0", 15) : "mine");
    ASSERT_TRUE(bytes.ok());
    EXPECT_EQ(*bytes, std::string("state\0of rank 0", 15));
  });
}

TEST(ProcessGroupTest, SharesWordsBetweenRanksThroughTheStore) {
  RunGang(2, [](ProcessGroup& group) {
    auto store = group.NewStore();
    ASSERT_TRUE(store.ok());
    if (group.rank() == 0) {
      ASSERT_TRUE((*store)->Set("stop", "yes").ok());
    }
    auto value = (*store)->Get("stop", absl::Seconds(10));
    ASSERT_TRUE(value.ok()) << value.status();
    EXPECT_EQ(*value, "yes");
    EXPECT_FALSE(*(*store)->Has({"stop", "never"}));
  });
}

TEST(ProcessGroupTest, JoinsAnewAfterARankLeftWhileTheStoreStays) {
  RunGang(3, [](ProcessGroup& group) {
    auto store = group.NewStore();
    ASSERT_TRUE(store.ok());
    at::Tensor sum = at::ones({2});
    if (group.rank() == 1) {
      ASSERT_TRUE((*store)->Set("why", "I had to").ok());
    } else {
      EXPECT_EQ(group.AllReduceSum(sum).code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ((*store)->Get("why", absl::ZeroDuration()).value_or(""), "I had to");
    }
    ASSERT_TRUE(group.Rejoin().ok());
    at::Tensor again = at::full({2}, static_cast<double>(group.rank()));
    ASSERT_TRUE(group.AllReduceSum(again).ok());
    EXPECT_EQ(again[1].item<float>(), 3);
  });
}

TEST(ProcessGroupTest, NeedsNoNetworkForOneRank) {
  auto group = ProcessGroup::Create({});
  ASSERT_TRUE(group.ok());
  at::Tensor x = at::ones({2});
  EXPECT_TRUE((*group)->AllReduceSum(x).ok());
  EXPECT_EQ(x[0].item<float>(), 1);
  auto store = (*group)->NewStore();
  ASSERT_TRUE((*store)->Set("a", "b").ok());
  EXPECT_EQ(*(*store)->Get("a", absl::ZeroDuration()), "b");
}

TEST(ProcessGroupTest, ANamedBackendServesOneRankToo) {
  GroupOptions options;
  options.backend = "gloo";
  options.master_address = "127.0.0.1";
  options.start_timeout = absl::Seconds(20);
  auto group = ProcessGroup::Create(options);
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_TRUE((*group)->c10d());
  at::Tensor x = at::full({2}, 3.0);
  EXPECT_TRUE((*group)->AllReduceSum(x).ok());
  EXPECT_EQ(x[0].item<float>(), 3);
  ASSERT_TRUE((*group)->Rejoin().ok());
  EXPECT_TRUE((*group)->AllReduceMax(x).ok());
}

TEST(ProcessGroupTest, RefusesABackendThatTheDeviceHasNot) {
  GroupOptions options;
  options.backend = "nccl";
  const absl::Status status = ProcessGroup::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("backend \"nccl\" for cpu: gloo, or nccl on a GPU"));
}

TEST(ProcessGroupTest, NamesTheRanksThatDidNotJoin) {
  const Listener listener;
  GroupOptions options = RankOptions(0, 3, listener);
  options.start_timeout = absl::Milliseconds(300);
  const absl::Status status = ProcessGroup::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1, 2 did not join within 300ms"));
}

// Rank 0 here, rank 1 in a process that receives `signal` before the second sum; how long until rank 0 knows?
absl::Status SumWithPeerThatGot(int signal, absl::Duration operation_timeout, absl::Duration* took) {
  const Listener listener;
  const std::string port = std::to_string(listener.port);
  char* argv[] = {const_cast<char*>(P2_DIST_PEER), const_cast<char*>(port.c_str()), nullptr};
  pid_t pid = 0;
  EXPECT_EQ(::posix_spawn(&pid, P2_DIST_PEER, nullptr, nullptr, argv, environ), 0);
  GroupOptions options = RankOptions(0, 2, listener);
  options.operation_timeout = operation_timeout;
  auto group = ProcessGroup::Create(options);
  if (!group.ok()) return group.status();
  at::Tensor x = at::ones({4});
  EXPECT_TRUE((*group)->AllReduceSum(x).ok());
  EXPECT_EQ(::kill(pid, signal), 0);
  const absl::Time start = absl::Now();
  const absl::Status status = (*group)->AllReduceSum(x);
  *took = absl::Now() - start;
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return status;
}

TEST(ProcessGroupTest, FindsAKilledPeerUnavailableLongBeforeTheTimeout) {
  absl::Duration took;
  const absl::Status status = SumWithPeerThatGot(SIGKILL, absl::Seconds(60), &took);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_LT(took, absl::Seconds(5));
}

TEST(ProcessGroupTest, FindsAFrozenPeerUnavailableAtTheTimeout) {
  absl::Duration took;
  const absl::Status status = SumWithPeerThatGot(SIGSTOP, absl::Seconds(1), &took);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_GT(took, absl::Milliseconds(900));
  EXPECT_LT(took, absl::Seconds(6));
}

TEST(ProcessGroupTest, RefusesARankOutsideOfTheGang) {
  const absl::Status status = ProcessGroup::Create({.rank = 2, .world_size = 2}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace p2::dist

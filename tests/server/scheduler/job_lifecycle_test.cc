#include "server/scheduler/job_lifecycle.h"

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/v1/checkpoint_service.pb.h"
#include "p2/v1/cluster_service.pb.h"
#include "p2/v1/job.pb.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {
namespace {

std::string Row(absl::string_view from, absl::string_view to, absl::string_view cause) {
  return absl::StrCat(from, " -> ", to, ": ", cause);
}

// Rows of the first table of docs/job-lifecycle.md, whose cells are states and a cause.
std::vector<std::string> RowsOfDoc() {
  std::ifstream file(absl::StrCat(P2_SOURCE_DIR, "/docs/job-lifecycle.md"));
  std::vector<std::string> rows;
  std::string line;
  while (std::getline(file, line) && line != "## Attempts") {
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    if (cells.size() != 5) continue;
    const auto cell = [&](int i) { return absl::StripAsciiWhitespace(cells[i]); };
    if (cell(1) != "from" && cell(1) != "---") rows.push_back(Row(cell(1), cell(2), cell(3)));
  }
  return rows;
}

TEST(JobLifecycleTest, HasTheRowsOfItsDocument) {
  std::vector<std::string> rows;
  for (const JobMove& move : LegalMoves())
    rows.push_back(Row(JobStateName(move.from), JobStateName(move.to), move.cause));
  EXPECT_THAT(rows, testing::ElementsAreArray(RowsOfDoc()));
}

// The drawing above the enum: one line a state, x where it may go.
TEST(JobLifecycleTest, HasTheMovesThatAreDrawnAboveTheEnum) {
  std::ifstream file(absl::StrCat(P2_SOURCE_DIR, "/server/scheduler/job_lifecycle.h"));
  std::vector<std::string> columns, drawn;
  std::string line;
  while (std::getline(file, line)) {
    std::vector<std::string> cells = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (cells.size() == 13 && cells[1] == "from") columns.assign(cells.begin() + 4, cells.end());
    if (cells.size() != 11 || cells[0] != "//" || columns.empty()) continue;
    for (size_t i = 0; i < columns.size(); ++i) {
      if (cells[i + 2] == "x") drawn.push_back(absl::StrCat(cells[1], " -> ", columns[i]));
    }
  }
  std::vector<std::string> moves;
  for (const JobMove& move : LegalMoves()) {
    moves.push_back(absl::StrCat(JobStateName(move.from), " -> ", JobStateName(move.to)));
  }
  EXPECT_THAT(drawn, testing::UnorderedElementsAreArray(moves));
}

TEST(JobLifecycleTest, NeverLeavesATerminalState) {
  for (const JobMove& move : LegalMoves()) EXPECT_FALSE(IsTerminal(move.from)) << JobStateName(move.from);
}

TEST(JobLifecycleTest, ReachesATerminalStateFromEveryState) {
  for (int i = 1; i <= 9; ++i) {
    std::set<JobState> reached = {static_cast<JobState>(i)};
    for (size_t before = 0; before != reached.size();) {
      before = reached.size();
      for (const JobMove& move : LegalMoves()) {
        if (reached.count(move.from) > 0) reached.insert(move.to);
      }
    }
    EXPECT_TRUE(std::any_of(reached.begin(), reached.end(), IsTerminal)) << i;
  }
}

TEST(JobLifecycleTest, NumbersAndNamesStatesLikeTheProto) {
  for (int i = 1; i <= 9; ++i) {
    EXPECT_EQ(v1::Job::State_Name(i), std::string(JobStateName(static_cast<JobState>(i))));
  }
  EXPECT_FALSE(v1::Job::State_IsValid(10));
}

TEST(JobLifecycleTest, NumbersAndNamesReasonsLikeTheProto) {
  for (int i = 0; i < v1::StatusReason_ARRAYSIZE; ++i) {
    EXPECT_EQ(v1::StatusReason_Name(i), std::string(ReasonName(static_cast<StatusReason>(i))));
  }
}

TEST(JobLifecycleTest, NumbersOutcomesAndOtherStatesLikeTheProto) {
  EXPECT_EQ(static_cast<int>(Outcome::kAbandoned), v1::Attempt::ABANDONED);
  EXPECT_EQ(static_cast<int>(Outcome::kSucceeded), v1::Attempt::SUCCEEDED);
  EXPECT_EQ(static_cast<int>(Outcome::kStopped), v1::Attempt::STOPPED);
  EXPECT_EQ(static_cast<int>(Outcome::kFailed), v1::Attempt::FAILED);
  EXPECT_EQ(static_cast<int>(Outcome::kLive), v1::Attempt::LIVE);
  EXPECT_EQ(static_cast<int>(WorkerState::kLost), v1::Worker::LOST);
  EXPECT_EQ(static_cast<int>(WorkerState::kSuspect), v1::Worker::SUSPECT);
  EXPECT_EQ(static_cast<int>(WorkerState::kReady), v1::Worker::READY);
  EXPECT_EQ(static_cast<int>(CheckpointState::kDeleting), v1::Checkpoint::DELETING);
  EXPECT_EQ(static_cast<int>(CheckpointState::kCorrupt), v1::Checkpoint::CORRUPT);
  EXPECT_EQ(static_cast<int>(CheckpointState::kCommitted), v1::Checkpoint::COMMITTED);
}

}  // namespace
}  // namespace p2::scheduler

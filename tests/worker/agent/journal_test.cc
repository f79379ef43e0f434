#include "worker/agent/journal.h"

#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "gtest/gtest.h"
#include "tests/worker/agent/temp_dir.h"

namespace p2::agent {
namespace {

TEST(JournalTest, ReadsBackWhatItWrote) {
  TempDir dir;
  const JournalEntry entry{
      .job = "mnist-abcde",
      .epoch = 7,
      .attempt = 3,
      .boot_id = BootId(),
      .stop_deadline = absl::Milliseconds(1500),
      .ranks = {{.rank = 0, .process = {12, 3456}, .event_sequence = 9, .log_offset = 77}, {.rank = 1}},
      .ended_sequence = 41};
  ASSERT_TRUE(WriteJournal(dir.path(), entry).ok());
  const auto read = ReadJournal(dir.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, entry);
}

TEST(JournalTest, RefusesAFileThatIsNoJournal) {
  TempDir dir;
  EXPECT_EQ(ReadJournal(dir.path()).status().code(), absl::StatusCode::kNotFound);
  for (const char* text :
       {"", "{", "[]", R"({"job": 3})",
        R"({"job":"../x","epoch":1,"attempt":1,"boot_id":"","stop_deadline_ms":1,"ended_sequence":0,"ranks":[]})"}) {
    std::ofstream(dir / "journal.json", std::ios::trunc) << text;
    EXPECT_EQ(ReadJournal(dir.path()).status().code(), absl::StatusCode::kDataLoss) << text;
  }
}

TEST(JournalTest, TellsAProcessFromALaterOneWithTheSamePid) {
  const auto self = ReadProcess(getpid());
  ASSERT_TRUE(self.ok()) << self.status();
  EXPECT_GT(self->start_time, 0u);
  EXPECT_EQ(*self, *ReadProcess(getpid()));
  EXPECT_NE(*self, (ProcessId{getpid(), self->start_time - 1}));
}

TEST(JournalTest, CountsAnEndedProcessAsNone) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(ReadProcess(child).status().code(), absl::StatusCode::kNotFound) << "a zombie";
  waitpid(child, nullptr, 0);
  EXPECT_EQ(ReadProcess(child).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace p2::agent

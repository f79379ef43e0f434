#include "worker/trainer/event_pipe.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "tests/worker/trainer/tiny_dataset.h"

namespace p2::trainer {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(uint64_t sequence, int64_t, const Event& event) {
  if (const Notice* notice = std::get_if<Notice>(&event)) return absl::StrCat(sequence, ":", notice->reason, "\n");
  return absl::StrCat(sequence, ":event", event.index(), "\n");
}

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe2(fds, O_NONBLOCK), 0); }
  ~Pipe() {
    if (fds[0] >= 0) ::close(fds[0]);
    ::close(fds[1]);
  }
  std::string Read() {
    std::string all;
    char bytes[65536];
    for (ssize_t n; (n = ::read(fds[0], bytes, sizeof(bytes))) > 0;) all.append(bytes, static_cast<size_t>(n));
    return all;
  }
  int fds[2];
};

std::string FileText(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(EventPipeTest, SendsEachEventToThePipeAndTheLogNumberedFromOne) {
  Pipe pipe;
  const std::string log = FreshDir() + "/events";
  EventPipe sink(pipe.fds[1], log, Text);
  sink.Emit(Notice{"A", "", {}});
  sink.Emit(Notice{"B", "", {}});
  EXPECT_EQ(pipe.Read(), "1:A\n2:B\n");
  EXPECT_EQ(FileText(log), "1:A\n2:B\n");
}

TEST(EventPipeTest, NeverBlocksOnAnAgentThatDoesNotReadAndLosesOnlyProgress) {
  Pipe pipe;
  const std::string log = FreshDir() + "/events";
  std::string expected, received;
  {
    EventPipe sink(pipe.fds[1], log, Text);
    const std::string reason(1000, 'x');
    for (int i = 1; i <= 200; ++i) {  // 200 kB; a pipe takes 64.
      sink.Emit(Notice{reason, "", {}});
      sink.Emit(Progress{});
      if (i < 50) received += pipe.Read();
    }
    const size_t sent = FileText(log).size();
    while (received.size() < sent) {
      received += pipe.Read();
      sink.Emit(Progress{});  // Takes the occasion to send the rest.
    }
    received += pipe.Read();
  }
  received += pipe.Read();
  EXPECT_EQ(received, FileText(log));
  EXPECT_THAT(received, HasSubstr("\n250:"));
}

TEST(EventPipeTest, DoesNotWaitForeverForAnAgentThatNeverReads) {
  Pipe pipe;
  const absl::Time begin = Clock::Real().Monotonic();
  {
    EventPipe sink(pipe.fds[1], "", Text, kEventFlushTimeout / 10);
    sink.Emit(Notice{std::string(200'000, 'x'), "", {}});
  }
  const absl::Duration taken = Clock::Real().Monotonic() - begin;
  EXPECT_GE(taken, kEventFlushTimeout / 10 - absl::Milliseconds(1));
  EXPECT_LT(taken, kEventFlushTimeout);
}

TEST(EventPipeTest, GoesOnIntoTheLogWhenTheAgentIsGone) {
  ::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  const std::string log = FreshDir() + "/events";
  EventPipe sink(pipe.fds[1], log, Text);
  ::close(std::exchange(pipe.fds[0], -1));
  sink.Emit(Notice{"A", "", {}});
  sink.Emit(Notice{"B", "", {}});
  EXPECT_EQ(FileText(log), "1:A\n2:B\n");
}

}  // namespace
}  // namespace p2::trainer

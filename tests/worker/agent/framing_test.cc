#include "worker/agent/framing.h"

#include <sstream>

#include "gmock/gmock.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "gtest/gtest.h"
#include "p2/trainer/v1/pipes.pb.h"

namespace p2::agent {
namespace {

using p2::trainer::v1::TrainerEvent;
using ::testing::HasSubstr;

TrainerEvent Event(uint64_t sequence, size_t text_bytes) {
  TrainerEvent event;
  event.set_sequence(sequence);
  event.mutable_notice()->set_message(std::string(text_bytes, 'x'));
  return event;
}

TEST(FramingTest, WritesProtobufsDelimitedForm) {
  for (const size_t size : {0, 1, 100, 127, 128, 300, 70000}) {
    std::ostringstream expected;
    ASSERT_TRUE(google::protobuf::util::SerializeDelimitedToOstream(Event(1, size), &expected));
    EXPECT_EQ(EncodeFrame(Event(1, size)), expected.str()) << size;
  }
  EXPECT_EQ(EncodeFrame(TrainerEvent()), std::string(1, '\0'));
}

TEST(FramingTest, ReadsFramesHoweverTheBytesArrive) {
  const std::string stream = EncodeFrame(Event(1, 5)) + EncodeFrame(TrainerEvent()) + EncodeFrame(Event(2, 300));
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{7}, stream.size()}) {
    FrameReader reader;
    std::vector<std::string> frames;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.Append(absl::string_view(stream).substr(at, piece));
      while (true) {
        const auto frame = reader.Next();
        ASSERT_TRUE(frame.ok());
        if (!frame->has_value()) break;
        frames.push_back(**frame);
      }
    }
    ASSERT_EQ(frames.size(), 3u);
    EXPECT_EQ(frames[2], Event(2, 300).SerializeAsString());
    EXPECT_FALSE(reader.partial());
  }
}

TEST(FramingTest, RefusesALengthThatNoEventHas) {
  FrameReader reader;
  reader.Append("\xff\xff\xff\x7f");
  const auto frame = reader.Next();
  ASSERT_FALSE(frame.ok());
  EXPECT_THAT(std::string(frame.status().message()), HasSubstr("exceeds 1048576"));
  EXPECT_FALSE(reader.Next().ok()) << "and stays refused";
}

TEST(FramingTest, RefusesALengthThatDoesNotEnd) {
  FrameReader reader;
  reader.Append(std::string(12, '\xff'));
  EXPECT_FALSE(reader.Next().ok());
}

TEST(FramingTest, KnowsThatAFrameIsUnfinished) {
  FrameReader reader;
  const std::string frame = EncodeFrame(Event(1, 50));
  reader.Append(absl::string_view(frame).substr(0, 20));
  EXPECT_FALSE(reader.Next()->has_value());
  EXPECT_TRUE(reader.partial());
}

}  // namespace
}  // namespace p2::agent

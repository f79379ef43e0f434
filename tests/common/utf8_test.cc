#include "common/utf8.h"

#include "gtest/gtest.h"

namespace p2 {
namespace {

TEST(Utf8Test, LeavesWhatIsValid) {
  for (const char* text : {"", "plain\nlines", "gr\u00fc\u00df \u20ac \U0001F600"}) EXPECT_EQ(ToValidUtf8(text), text);
}

TEST(Utf8Test, EscapesWhatIsNot) {
  EXPECT_EQ(ToValidUtf8("a\xff\nb"), "a\\xff\nb");
  EXPECT_EQ(ToValidUtf8("\xe2\x82"), "\\xe2\\x82");           // Cut off.
  EXPECT_EQ(ToValidUtf8("\xc0\xaf"), "\\xc0\\xaf");           // Overlong.
  EXPECT_EQ(ToValidUtf8("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // A surrogate.
  EXPECT_EQ(ToValidUtf8("\xc3\xbc\x80"), "\xc3\xbc\\x80");
}

}  // namespace
}  // namespace p2

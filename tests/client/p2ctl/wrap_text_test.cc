#include "client/p2ctl/wrap_text.h"

#include <gtest/gtest.h>

#include "client/p2ctl/help_formatter.h"
#include "client/p2ctl/table_printer.h"

namespace p2::ctl {
namespace {

TEST(WrapTextTest, BreaksBetweenWords) {
  EXPECT_EQ(WrapText("one two three", 7), "one two\nthree");
  EXPECT_EQ(WrapText("ä … ö", 5), "ä … ö");
  EXPECT_EQ(WrapText("a  b\n\nc", 80), "a  b\n\nc");
  EXPECT_EQ(WrapText("averylongword b", 5), "averylongword\nb");
  EXPECT_EQ(WrapText("one two", 0), "one two");
  EXPECT_EQ(WrapText("", 5), "");
}

TEST(WrapHelpTest, GoesOnUnderTheDescriptionElseTwoColumnsIn) {
  const std::string name = "  --flag" + std::string(26, ' '), under(34, ' ');
  EXPECT_EQ(WrapHelp(name + "one two three", 42), name + "one two\n" + under + "three");
  EXPECT_EQ(WrapHelp(under + "one two three", 42), under + "one two\n" + under + "three");
  EXPECT_EQ(WrapHelp("  p2ctl local --any", 16), "  p2ctl local\n    --any");
  // By chance a word begins where descriptions do.
  EXPECT_EQ(WrapHelp("  p2ctl submit mnist-demo aaaaaaa bbbbbbb", 36),
            "  p2ctl submit mnist-demo aaaaaaa\n    bbbbbbb");
  EXPECT_EQ(WrapHelp("Ctrl-C never cancels a job.", 14), "Ctrl-C never\ncancels a job.");
}

TEST(RenderTableTest, WrapsItsColumnBetweenWords) {
  const std::vector<TableColumn> columns = {{.title = "A"}, {.title = "NOTE", .wrap = true}, {.title = "B"}};
  const std::vector<std::vector<TableCell>> rows = {{{"1"}, {"the quick brown fox jumps over the lazy dog"}, {"2"}}};
  TableStyle style;
  EXPECT_EQ(RenderTable(columns, rows, style),
            "A  NOTE                                         B\n1  the quick brown fox jumps over the lazy dog  2\n");
  style.width = 39;
  EXPECT_EQ(RenderTable(columns, rows, style),
            "A  NOTE                            B\n1  the quick brown fox jumps over  2\n   the lazy dog\n");
}

}  // namespace
}  // namespace p2::ctl

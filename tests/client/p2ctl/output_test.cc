#include "client/p2ctl/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/p2ctl/errors.h"
#include "p2/v1/job.pb.h"

namespace p2::ctl {
namespace {

using ::testing::HasSubstr;

Listing Jobs() {
  Listing listing({{.name = "id"}, {.name = "images", .right = true}, {.name = "note", .wide = true}});
  listing.Add({{"name", "jobs/a"}, {"spec", {{"training", {{"learningRate", 0.5}}}}}}, "a",
              {"a", CountCell(8100), "says \"hi\", twice"});
  listing.Add({{"name", "jobs/bb"}, {"spec", {{"training", {{"learningRate", 0.25}}}}}}, "bb",
              {"bb", CountCell(5), ""});
  return listing;
}

std::string Text(OutputFormat format, std::vector<std::string> fields = {}) {
  OutputStyle style;
  style.format = format;
  style.fields = std::move(fields);
  return *Jobs().Format(style, "more");
}

TEST(ListingTest, AlignsTables) {
  EXPECT_EQ(Text(OutputFormat::kTable), "ID  IMAGES\na    8,100\nbb       5\n");
  EXPECT_EQ(Text(OutputFormat::kWide), "ID  IMAGES  NOTE\na    8,100  says \"hi\", twice\nbb       5  -\n");
}

TEST(ListingTest, QuotesCsvAndKeepsNumbersPlain) {
  EXPECT_EQ(Text(OutputFormat::kCsv), "id,images,note\na,8100,\"says \"\"hi\"\", twice\"\nbb,5,\n");
}

TEST(ListingTest, ListsAreItemsAndAToken) {
  const Json json = Json::parse(Text(OutputFormat::kJson));
  EXPECT_EQ(json["items"].size(), 2u);
  EXPECT_EQ(json["nextPageToken"], "more");
  EXPECT_THAT(Text(OutputFormat::kYaml), HasSubstr("nextPageToken: more"));
}

TEST(ListingTest, TakesFieldsByColumnOrPathInAnyFormat) {
  EXPECT_EQ(Text(OutputFormat::kTable, {"ID", "spec.training.learning_rate"}),
            "ID  SPEC.TRAINING.LEARNING_RATE\na   0.5\nbb  0.25\n");
  EXPECT_EQ(Text(OutputFormat::kJsonLines, {"images", "spec.training.learningRate"}),
            "{\"images\":\"8100\",\"spec.training.learningRate\":0.5}\n{\"images\":\"5\",\"spec.training."
            "learningRate\":0.25}\n");
}

TEST(ListingTest, SaysWhichFieldsThereAre) {
  OutputStyle style;
  style.fields = {"imagse"};
  EXPECT_THAT(std::string(Jobs().Format(style).status().message()), HasSubstr("id, images, note"));
}

TEST(ListingTest, LeavesOutOptionalColumnsWhereTheTerminalIsNarrow) {
  Listing listing({{.name = "id"}, {.name = "step", .optional = true}, {.name = "time", .optional = true}});
  listing.Add({{"name", "a"}}, "a", {"a", "1234567", "12:13:07"});
  const auto lines = [&listing](int width, OutputFormat format, std::vector<std::string> fields = {}) {
    OutputStyle style;
    style.format = format;
    style.fields = std::move(fields);
    style.table.width = width;
    return *listing.Format(style);
  };
  EXPECT_EQ(lines(21, OutputFormat::kTable), "ID  STEP     TIME\na   1234567  12:13:07\n");
  EXPECT_EQ(lines(20, OutputFormat::kTable), "ID  STEP\na   1234567\n");
  EXPECT_EQ(lines(10, OutputFormat::kTable), "ID\na\n");
  EXPECT_EQ(lines(0, OutputFormat::kTable), lines(21, OutputFormat::kTable));
  EXPECT_THAT(lines(10, OutputFormat::kWide), HasSubstr("TIME"));
  EXPECT_THAT(lines(10, OutputFormat::kTable, {"id", "time"}), HasSubstr("TIME"));
  OutputStyle narrow;
  narrow.table.width = 4;
  EXPECT_EQ(*Listing({{.name = "id"}, {.name = "step", .optional = true}}).Format(narrow), "ID\n");
}

TEST(ListingTest, PrintsHeadersWithoutRows) {
  EXPECT_EQ(*Listing({{.name = "id"}, {.name = "state"}}).Format({}), "ID  STATE\n");
}

TEST(ToJsonTest, WritesEveryFieldInLowerCamel) {
  v1::Job job;
  job.set_name("jobs/a");
  const Json json = ToJson(job);
  EXPECT_EQ(json["restartsUsed"], 0);
  EXPECT_EQ(json["epoch"], "0");
  EXPECT_EQ(json["state"], "STATE_UNSPECIFIED");
}

TEST(YamlTextTest, KeepsStringsThatLookLikeOtherThings) {
  EXPECT_EQ(YamlText({{"a", "12"}, {"b", 12}, {"c", "true"}, {"d", ""}, {"e", nullptr}}),
            "a: \"12\"\nb: 12\nc: \"true\"\nd: \"\"\ne: ~\n");
}

TEST(ErrorTest, KeepsTheLinesOfASpecsErrors) {
  EXPECT_EQ(ErrorText(absl::InvalidArgumentError("a: bad\nb: worse")), "error:\n  a: bad\n  b: worse");
  EXPECT_EQ(ErrorText(absl::NotFoundError("no job")), "error: no job");
}

TEST(ErrorTest, IsNeverEmpty) {
  EXPECT_EQ(ErrorText(absl::InternalError("")), "error: INTERNAL");
  EXPECT_EQ(ErrorText(absl::NotFoundError("\n")), "error: NOT_FOUND");
  EXPECT_EQ(Json::parse(ErrorJson(absl::AbortedError("")))["message"], "ABORTED");
}

}  // namespace
}  // namespace p2::ctl

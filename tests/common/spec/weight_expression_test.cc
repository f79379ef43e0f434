#include "common/spec/weight_expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace p2::spec {
namespace {

using ::testing::HasSubstr;

constexpr WeightVariables kAt = {
    .snr = 3, .abar = 0.75, .beta = 0.01, .lambda = 24.75, .t = 10, .T = 1000, .k = 1, .gamma = 0.5};

double Value(absl::string_view text) {
  const auto expression = WeightExpression::Parse(text);
  EXPECT_TRUE(expression.ok()) << expression.status();
  return expression.ok() ? expression->Evaluate(kAt) : NAN;
}

std::string Error(absl::string_view text) {
  const auto expression = WeightExpression::Parse(text);
  EXPECT_EQ(expression.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(expression.status().message());
}

TEST(WeightExpressionTest, FollowsTheUsualPrecedence) {
  EXPECT_EQ(Value("1 + 2 * 3"), 7);
  EXPECT_EQ(Value("(1 + 2) * 3"), 9);
  EXPECT_EQ(Value("8 / 4 / 2"), 1);
  EXPECT_EQ(Value("8 - 4 - 2"), 2);
  EXPECT_EQ(Value("-2 * -3"), 6);
  EXPECT_EQ(Value("2 - -3"), 5);
  EXPECT_EQ(Value("1.5e2+.5"), 150.5);
}

TEST(WeightExpressionTest, KnowsItsVariablesAndFunctions) {
  EXPECT_EQ(Value("pow(k+snr,-gamma)"), 0.5);
  EXPECT_EQ(Value("abar + beta + lambda + t / T"), 0.75 + 0.01 + 24.75 + 0.01);
  EXPECT_EQ(Value("min(snr, 1) + max(snr, 5)"), 6);
  EXPECT_EQ(Value("sqrt(4) + exp(0) + log(1)"), 3);
}

TEST(WeightExpressionTest, PointsAtWhatItCannotRead) {
  EXPECT_THAT(Error("1 + snrr"), HasSubstr("column 5: unknown name \"snrr\"; did you mean \"snr\"?"));
  EXPECT_THAT(Error("1 +"), HasSubstr("column 4: the text ends where a number, a name or '(' must stand"));
  EXPECT_THAT(Error("(1 + 2"), HasSubstr("column 7: the text ends where ')' must stand"));
  EXPECT_THAT(Error("1 2"), HasSubstr("column 3: '2' stands where an operator or the end must"));
  EXPECT_THAT(Error("pow(snr)"), HasSubstr("column 8: ')' stands where ',' must"));
  EXPECT_THAT(Error("snr ^ 2"), HasSubstr("column 5: '^'"));
  EXPECT_THAT(Error("1 \xe2\x88\x92 2"), HasSubstr("column 3: '\\xe2'"));
  EXPECT_THAT(Error("1e999"), HasSubstr("out of range"));
  EXPECT_THAT(Error(""), HasSubstr("column 1"));
  EXPECT_THAT(Error("."), HasSubstr("not a number"));
  EXPECT_THAT(Error(absl::string_view("1\0002", 3)), HasSubstr("\\x00"));
}

TEST(WeightExpressionTest, EndsRecursionBeforeTheStackDoes) {
  EXPECT_THAT(Error(std::string(500, '(')), HasSubstr("nested more than 64 deep"));
  EXPECT_THAT(Error(std::string(500, '-')), HasSubstr("nested more than 64 deep"));
  EXPECT_THAT(Error(std::string(100'000, '(')), HasSubstr("has 100000 bytes"));
  std::string sum = "1";
  for (int i = 0; i < 500; ++i) sum += "+1";
  EXPECT_EQ(Value(sum), 501);
}

TEST(WeightExpressionTest, ReadsAnyTextWithoutHarm) {
  const std::vector<std::string> tokens = {"snr", "abar",  "(",    ")",    ",",     "+",  "-",      "*",
                                           "/",   "pow(",  "min(", "log(", "sqrt(", "1",  "2.5e-3", "e",
                                           "k",   "gamma", " ",    "T",    "t",     "..", "\xff",   "x"};
  std::mt19937 random(7);
  int parsed = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (unsigned n = random() % 12; n > 0; --n) text += tokens[random() % tokens.size()];
    const auto expression = WeightExpression::Parse(text);
    if (!expression.ok()) continue;
    expression->Evaluate(kAt);
    ++parsed;
  }
  EXPECT_GT(parsed, 500);
}

}  // namespace
}  // namespace p2::spec

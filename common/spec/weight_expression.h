// Safe arithmetic for a custom objective weight, evaluated once per timestep at submit:
//   expression = term (('+' | '-') term)*      term  = unary (('*' | '/') unary)*
//   unary      = '-' unary | primary           primary = number | variable | function '(' … ')' | '(' expression ')'
//   variables: snr abar beta lambda t T k gamma      functions: pow(x, y) min(x, y) max(x, y) exp(x) log(x) sqrt(x)
// No names beyond these, no loops, no memory: text from a stranger can do nothing but cost a bounded time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::spec {

// What an expression can see at one timestep.
struct WeightVariables {
  double snr = 0;
  double abar = 0;
  double beta = 0;
  double lambda = 0;  // (1 - beta)(1 - abar) / beta
  double t = 0;       // 0 … T-1
  double T = 0;
  double k = 0;
  double gamma = 0;
};

// A parsed expression. Immutable after Parse; thread-compatible.
class WeightExpression {
 public:
  static constexpr int kMaxLength = 1024;  // bytes
  static constexpr int kMaxDepth = 64;     // nested parentheses, calls and signs

  // INVALID_ARGUMENT with the column (from 1) and what was met; for an unknown name also the nearest known one.
  static absl::StatusOr<WeightExpression> Parse(absl::string_view text);

  // IEEE double arithmetic: division by zero, log of a negative number and the like come out as inf or NaN.
  double Evaluate(const WeightVariables& variables) const;

 private:
  friend class WeightExpressionParser;
  enum class Op : uint8_t {
    kNumber,
    kVariable,
    kNegate,
    kAdd,
    kSubtract,
    kMultiply,
    kDivide,
    kPow,
    kMin,
    kMax,
    kExp,
    kLog,
    kSqrt
  };
  struct Instruction {
    Op op;
    double number = 0;                            // kNumber
    double WeightVariables::*variable = nullptr;  // kVariable
  };

  std::vector<Instruction> program_;  // reverse Polish
};

}  // namespace p2::spec

#include "common/spec/weight_expression.h"

#include <cmath>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/charconv.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/spec/nearest_name.h"
#include "common/status_macros.h"

namespace p2::spec {
namespace {

struct Variable {
  const char* name;
  double WeightVariables::*member;
};
constexpr Variable kVariables[] = {{"snr", &WeightVariables::snr},   {"abar", &WeightVariables::abar},
                                   {"beta", &WeightVariables::beta}, {"lambda", &WeightVariables::lambda},
                                   {"t", &WeightVariables::t},       {"T", &WeightVariables::T},
                                   {"k", &WeightVariables::k},       {"gamma", &WeightVariables::gamma}};

}  // namespace

// Recursive descent, at most kMaxDepth deep; emits reverse Polish.
class WeightExpressionParser {
 public:
  using Op = WeightExpression::Op;

  explicit WeightExpressionParser(absl::string_view text) : text_(text) {}

  absl::StatusOr<WeightExpression> Parse() {
    if (text_.size() > WeightExpression::kMaxLength) {
      return absl::InvalidArgumentError(absl::StrCat("the weight expression has ", text_.size(), " bytes; at most ",
                                                     WeightExpression::kMaxLength, " are allowed"));
    }
    P2_RETURN_IF_ERROR(Sum());
    if (Peek() != '\0' || at_ < text_.size()) return Unexpected("an operator or the end");
    return std::move(expression_);
  }

 private:
  struct Function {
    const char* name;
    int arity;
    Op op;
  };
  static constexpr Function kFunctions[] = {{"pow", 2, Op::kPow}, {"min", 2, Op::kMin}, {"max", 2, Op::kMax},
                                            {"exp", 1, Op::kExp}, {"log", 1, Op::kLog}, {"sqrt", 1, Op::kSqrt}};

  char Peek() {
    while (at_ < text_.size() && absl::ascii_isspace(text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool Take(char c) {
    if (Peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }

  absl::Status Error(size_t at, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("weight expression, column ", at + 1, ": ", what));
  }

  absl::Status Unexpected(absl::string_view wanted) {
    Peek();
    if (at_ == text_.size()) return Error(at_, absl::StrCat("the text ends where ", wanted, " must stand"));
    const char c = text_[at_];
    const std::string met =
        absl::ascii_isprint(c) ? std::string(1, c) : absl::StrFormat("\\x%02x", static_cast<unsigned char>(c));
    return Error(at_, absl::StrCat("'", met, "' stands where ", wanted, " must"));
  }

  absl::Status Expect(char c) {
    return Take(c) ? absl::OkStatus() : Unexpected(absl::StrCat("'", std::string(1, c), "'"));
  }

  void Emit(Op op) { expression_.program_.push_back({op}); }

  absl::Status Sum() {
    P2_RETURN_IF_ERROR(Product());
    while (true) {
      if (Take('+')) {
        P2_RETURN_IF_ERROR(Product());
        Emit(Op::kAdd);
      } else if (Take('-')) {
        P2_RETURN_IF_ERROR(Product());
        Emit(Op::kSubtract);
      } else {
        return absl::OkStatus();
      }
    }
  }

  absl::Status Product() {
    P2_RETURN_IF_ERROR(Unary());
    while (true) {
      if (Take('*')) {
        P2_RETURN_IF_ERROR(Unary());
        Emit(Op::kMultiply);
      } else if (Take('/')) {
        P2_RETURN_IF_ERROR(Unary());
        Emit(Op::kDivide);
      } else {
        return absl::OkStatus();
      }
    }
  }

  absl::Status Unary() {
    if (depth_ == WeightExpression::kMaxDepth) {
      return Error(at_, absl::StrCat("nested more than ", WeightExpression::kMaxDepth, " deep"));
    }
    ++depth_;
    absl::Status status;
    if (Take('-')) {
      status = Unary();
      if (status.ok()) Emit(Op::kNegate);
    } else {
      status = Primary();
    }
    --depth_;
    return status;
  }

  absl::Status Primary() {
    const char c = Peek();
    if (absl::ascii_isdigit(c) || c == '.') return Number();
    if (absl::ascii_isalpha(c) || c == '_') return Name();
    if (!Take('(')) return Unexpected("a number, a name or '('");
    P2_RETURN_IF_ERROR(Sum());
    return Expect(')');
  }

  absl::Status Number() {
    double value;
    const char* begin = text_.data() + at_;
    const absl::from_chars_result result = absl::from_chars(begin, text_.data() + text_.size(), value);
    if (result.ec != std::errc()) {
      return Error(at_, result.ec == std::errc::result_out_of_range ? "the number is out of range" : "not a number");
    }
    at_ += result.ptr - begin;
    expression_.program_.push_back({Op::kNumber, value});
    return absl::OkStatus();
  }

  absl::Status Name() {
    const size_t begin = at_;
    while (at_ < text_.size() && (absl::ascii_isalnum(text_[at_]) || text_[at_] == '_')) ++at_;
    const absl::string_view name = text_.substr(begin, at_ - begin);
    for (const Variable& variable : kVariables) {
      if (name != variable.name) continue;
      expression_.program_.push_back({Op::kVariable, 0, variable.member});
      return absl::OkStatus();
    }
    for (const Function& function : kFunctions) {
      if (name == function.name) return Call(function);
    }
    std::vector<std::string> known;
    for (const Variable& variable : kVariables) known.push_back(variable.name);
    for (const Function& function : kFunctions) known.push_back(function.name);
    return Error(begin, absl::StrCat("unknown name \"", name, "\"", DidYouMean(name, known)));
  }

  absl::Status Call(const Function& function) {
    P2_RETURN_IF_ERROR(Expect('('));
    P2_RETURN_IF_ERROR(Sum());
    for (int i = 1; i < function.arity; ++i) {
      P2_RETURN_IF_ERROR(Expect(','));
      P2_RETURN_IF_ERROR(Sum());
    }
    P2_RETURN_IF_ERROR(Expect(')'));
    Emit(function.op);
    return absl::OkStatus();
  }

  const absl::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  WeightExpression expression_;
};

absl::StatusOr<WeightExpression> WeightExpression::Parse(absl::string_view text) {
  return WeightExpressionParser(text).Parse();
}

double WeightExpression::Evaluate(const WeightVariables& variables) const {
  absl::InlinedVector<double, 16> stack;
  const auto binary = [&stack](auto f) {
    const double right = stack.back();
    stack.pop_back();
    stack.back() = f(stack.back(), right);
  };
  const auto unary = [&stack](auto f) { stack.back() = f(stack.back()); };
  for (const Instruction& i : program_) {
    switch (i.op) {
      case Op::kNumber:
        stack.push_back(i.number);
        break;
      case Op::kVariable:
        stack.push_back(variables.*i.variable);
        break;
      case Op::kNegate:
        unary([](double x) { return -x; });
        break;
      case Op::kAdd:
        binary([](double x, double y) { return x + y; });
        break;
      case Op::kSubtract:
        binary([](double x, double y) { return x - y; });
        break;
      case Op::kMultiply:
        binary([](double x, double y) { return x * y; });
        break;
      case Op::kDivide:
        binary([](double x, double y) { return x / y; });
        break;
      case Op::kPow:
        binary([](double x, double y) { return std::pow(x, y); });
        break;
      case Op::kMin:
        binary([](double x, double y) { return y < x ? y : x; });
        break;
      case Op::kMax:
        binary([](double x, double y) { return x < y ? y : x; });
        break;
      case Op::kExp:
        unary([](double x) { return std::exp(x); });
        break;
      case Op::kLog:
        unary([](double x) { return std::log(x); });
        break;
      case Op::kSqrt:
        unary([](double x) { return std::sqrt(x); });
        break;
    }
  }
  return stack.back();
}

}  // namespace p2::spec

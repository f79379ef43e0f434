#include "common/spec/scalar_text.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/spec/nearest_name.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/duration.pb.h"

namespace p2::spec {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kQuotedLength = 60;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// The power of ten behind a count's suffix; nullopt for another letter.
std::optional<int> SuffixExponent(char suffix) {
  switch (suffix) {
    case 'k':
      return 3;
    case 'M':
      return 6;
    case 'G':
      return 9;
    default:
      return std::nullopt;
  }
}

// Exact decimal arithmetic: 4.4M is 4,400,000, never a rounded double.
template <typename T>
absl::StatusOr<T> ParseInteger(absl::string_view text) {
  const auto malformed = [text] {
    return Invalid("is ", Quoted(text), "; must be an integer (counts such as 500k and 10M are fine)");
  };
  absl::string_view rest = text;
  const bool negative = absl::ConsumePrefix(&rest, "-");
  if (!negative) absl::ConsumePrefix(&rest, "+");
  int exponent = 0;
  if (!rest.empty() && !absl::ascii_isdigit(rest.back())) {
    const std::optional<int> suffix = SuffixExponent(rest.back());
    if (!suffix) return malformed();
    exponent = *suffix;
    rest.remove_suffix(1);
  }
  absl::int128 value = 0;
  bool point = false;
  bool digits = false;
  constexpr int kMaxDigits = 28;  // times 10^9 still fits 128 bits
  if (rest.size() > kMaxDigits) return malformed();
  for (const char c : rest) {
    if (c == '.' && !point) {
      point = true;
    } else if (absl::ascii_isdigit(c)) {
      value = value * 10 + (c - '0');
      digits = true;
      if (point) --exponent;
    } else {
      return malformed();
    }
  }
  if (!digits) return malformed();
  for (; exponent > 0; --exponent) value *= 10;
  for (; exponent < 0; ++exponent) {
    if (value % 10 != 0) return Invalid("is ", text, "; must be a whole number");
    value /= 10;
  }
  if (negative) value = -value;
  if (value < absl::int128(std::numeric_limits<T>::min()) || value > absl::int128(std::numeric_limits<T>::max())) {
    return Invalid("is ", text, "; must be ", std::numeric_limits<T>::min(), " to ", std::numeric_limits<T>::max());
  }
  return static_cast<T>(value);
}

absl::StatusOr<double> ParseDouble(absl::string_view text) {
  double value;
  double scale = 1;
  absl::string_view number = text;
  if (!text.empty()) {
    if (const std::optional<int> suffix = SuffixExponent(text.back())) {
      scale = std::pow(10.0, *suffix);
      number.remove_suffix(1);
    }
  }
  if (!absl::SimpleAtod(number, &value)) return Invalid("is ", Quoted(text), "; must be a number");
  value *= scale;
  if (!std::isfinite(value)) return Invalid("is ", Quoted(text), "; must be a finite number");
  return value;
}

absl::StatusOr<bool> ParseBool(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "true") return true;
  if (lower == "false") return false;
  return Invalid("is ", Quoted(text), "; must be true or false");
}

absl::StatusOr<std::string> ParseString(absl::string_view text) {
  for (const char c : text) {
    if (absl::ascii_iscntrl(c)) return Invalid("is ", Quoted(text), "; must be one line without control characters");
  }
  return std::string(text);
}

absl::StatusOr<const EnumValueDescriptor*> ParseEnum(absl::string_view text, const FieldDescriptor& field) {
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    const EnumValueDescriptor* value = field.enum_type()->value(i);
    if (value->number() == 0 && absl::EndsWith(value->name(), "UNSPECIFIED")) continue;
    if (absl::EqualsIgnoreCase(text, value->name())) return value;
    names.push_back(absl::AsciiStrToLower(value->name()));
  }
  return Invalid("is ", Quoted(text), "; must be one of ", absl::StrJoin(names, ", "), DidYouMean(text, names));
}

absl::StatusOr<absl::Duration> ParseDurationText(absl::string_view text) {
  absl::Duration duration;
  absl::string_view days = text;
  double number;
  if (absl::ConsumeSuffix(&days, "d") && absl::SimpleAtod(days, &number)) {
    duration = number * absl::Hours(24);
  } else if (!absl::ParseDuration(text, &duration)) {
    return Invalid("is ", Quoted(text), "; must be a duration with a unit, such as 90s, 10m or 2h");
  }
  constexpr absl::Duration kLimit = absl::Hours(24 * 365 * 1000);
  if (!(duration <= kLimit && duration >= -kLimit)) return Invalid("is ", Quoted(text), "; is too long a duration");
  return duration;
}

// Reflection has a setter and an adder for every type; this calls the one that the field's label wants.
template <typename T, typename Set, typename Add>
absl::Status Store(absl::StatusOr<T> value, const FieldDescriptor& field, Message& message, Set set, Add add) {
  if (!value.ok()) return value.status();
  const Reflection& reflection = *message.GetReflection();
  if (field.is_repeated()) {
    (reflection.*add)(&message, &field, *std::move(value));
  } else {
    (reflection.*set)(&message, &field, *std::move(value));
  }
  return absl::OkStatus();
}

absl::Status StoreDuration(absl::string_view text, const FieldDescriptor& field, Message& message) {
  P2_ASSIGN_OR_RETURN(const absl::Duration duration, ParseDurationText(text));
  const Reflection& reflection = *message.GetReflection();
  Message* stored =
      field.is_repeated() ? reflection.AddMessage(&message, &field) : reflection.MutableMessage(&message, &field);
  google::protobuf::Duration proto;
  absl::Duration rest = duration;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  stored->CopyFrom(proto);
  return absl::OkStatus();
}

}  // namespace

std::string Quoted(absl::string_view text) {
  const std::string escaped = absl::Utf8SafeCEscape(text);
  if (escaped.size() <= kQuotedLength) return absl::StrCat("\"", escaped, "\"");
  size_t cut = kQuotedLength;
  while (cut > 0 && (static_cast<unsigned char>(escaped[cut]) & 0xC0) == 0x80) --cut;  // never inside a character
  return absl::StrCat("\"", escaped.substr(0, cut), "…\"");
}

bool IsValidUtf8(absl::string_view text) { return ValidUtf8Prefix(text) == text.size(); }

bool IsTextField(const FieldDescriptor& field) {
  return field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
         field.message_type()->full_name() == "google.protobuf.Duration";
}

absl::Status SetFromText(absl::string_view text, const FieldDescriptor& field, Message& message) {
  using R = Reflection;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      if (text == kAutoWord && field.full_name() == "p2.v1.TrainingOptions.microbatch") {
        return Store(absl::StatusOr<int32_t>(kAutoMicrobatch), field, message, &R::SetInt32, &R::AddInt32);
      }
      return Store(ParseInteger<int32_t>(text), field, message, &R::SetInt32, &R::AddInt32);
    case FieldDescriptor::CPPTYPE_INT64:
      return Store(ParseInteger<int64_t>(text), field, message, &R::SetInt64, &R::AddInt64);
    case FieldDescriptor::CPPTYPE_UINT32:
      return Store(ParseInteger<uint32_t>(text), field, message, &R::SetUInt32, &R::AddUInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return Store(ParseInteger<uint64_t>(text), field, message, &R::SetUInt64, &R::AddUInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Store(ParseDouble(text), field, message, &R::SetDouble, &R::AddDouble);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return Store(ParseDouble(text), field, message, &R::SetFloat, &R::AddFloat);
    case FieldDescriptor::CPPTYPE_BOOL:
      return Store(ParseBool(text), field, message, &R::SetBool, &R::AddBool);
    case FieldDescriptor::CPPTYPE_STRING:
      return Store(ParseString(text), field, message, &R::SetString, &R::AddString);
    case FieldDescriptor::CPPTYPE_ENUM:
      return Store(ParseEnum(text, field), field, message, &R::SetEnum, &R::AddEnum);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return StoreDuration(text, field, message);
  }
  return absl::InternalError("a field of no known type");
}

}  // namespace p2::spec

// YAML (and so JSON) into any proto message, guided by its descriptor.
//
// Keys are proto field names (or their lowerCamel JSON names). Scalars: integers take counts (`500k`, `10M`, `4.4M`);
// durations a unit (`90s`, `2h`, `3d`); enums a value's name in either case; `null` takes the default back. A repeated
// field is replaced whole; lists of scalars may also be written `16,8`. A field with a `min_…` beside it also takes
// `{min: 2, max: 8}`, which sets both.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/spec/violation.h"
#include "google/protobuf/message.h"

namespace p2::spec {

// Text above this, or nested or repeated through aliases into more than kMaxYamlNodes values, is refused.
inline constexpr size_t kMaxYamlBytes = 256 * 1024;
inline constexpr int kMaxYamlNodes = 10'000;
inline constexpr int kMaxYamlDepth = 32;

// Where each value of a message came from: leaf path -> "my.yaml:12". A list of scalars is one leaf; elements of a list
// of messages are `ema.0.rate`.
using Origins = std::map<std::string, std::string>;

// One layer: what is merged over the message, and what it may fall back to.
struct YamlLayer {
  absl::string_view text;
  // Label of the origin; with `label_lines` the line is added ("my.yaml:12").
  std::string label;
  bool label_lines = true;
  // Top-level keys that are not fields and are passed over ("extends").
  std::vector<std::string> ignored_keys;
  // What `null` takes back; may be null (then: the field is cleared). Same type as the message. Borrowed.
  const google::protobuf::Message* defaults = nullptr;
};

// Merges `layer` over `message` field by field and notes the origins. A bad value leaves the field as it was; every
// violation of the layer is appended to `violations`. Thread-compatible.
void MergeYaml(const YamlLayer& layer, google::protobuf::Message& message, Origins& origins,
               std::vector<FieldViolation>& violations);

// As MergeYaml for one `path=value` ("training.batch=16", "ema.0.rate=0.999", "ema=[{rate: 0.99}]"); the value is YAML.
void MergeAssignment(absl::string_view path, absl::string_view value, absl::string_view label,
                     const google::protobuf::Message* defaults, google::protobuf::Message& message, Origins& origins,
                     std::vector<FieldViolation>& violations);

}  // namespace p2::spec

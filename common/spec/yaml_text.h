// Text to a YAML node, safely: yaml-cpp throws, loops for ever over some malformed texts (`LoadAll(",")`), and takes
// any depth and size. This is the only place that parses.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "yaml-cpp/yaml.h"

namespace p2::spec {

struct YamlFault {
  YAML::Mark mark;  // null_mark() if the text as a whole is at fault
  std::string description;
};

// Parses the one document of `text` (null if there is none) into `root`. A fault: not UTF-8 or not YAML, above
// kMaxYamlBytes, more than kMaxYamlNodes values written, kMaxYamlDepth levels or one document. Aliases stay aliases: a
// walk over `root` must count what it visits.
std::optional<YamlFault> ParseYaml(absl::string_view text, YAML::Node& root);

}  // namespace p2::spec

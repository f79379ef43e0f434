#include "common/spec/yaml_to_proto.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/spec/nearest_name.h"
#include "common/spec/scalar_text.h"
#include "common/spec/yaml_text.h"
#include "google/protobuf/descriptor.h"
#include "yaml-cpp/yaml.h"

namespace p2::spec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string Join(const std::string& path, absl::string_view name) {
  return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
}

const FieldDescriptor* FindField(const Descriptor& type, const std::string& name) {
  const FieldDescriptor* field = type.FindFieldByName(name);
  return field != nullptr ? field : type.FindFieldByCamelcaseName(name);
}

// Where a misplaced name belongs: its path in a message below `type`, empty if nowhere.
std::string PathBelow(const Descriptor& type, const std::string& name, int depth = 0) {
  constexpr int kDepth = 2;
  for (int i = 0; i < type.field_count() && depth < kDepth; ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (IsTextField(field) || field.is_repeated()) continue;
    if (FindField(*field.message_type(), name) != nullptr) return absl::StrCat(field.name(), ".", name);
    if (const std::string below = PathBelow(*field.message_type(), name, depth + 1); !below.empty()) {
      return absl::StrCat(field.name(), ".", below);
    }
  }
  return "";
}

std::string UnknownField(const Descriptor& type, const std::string& name) {
  std::vector<std::string> known;
  for (int i = 0; i < type.field_count(); ++i) known.push_back(type.field(i)->name());
  std::string hint = DidYouMean(name, known);
  const std::string below = PathBelow(type, name);
  if (!below.empty()) hint = absl::StrCat("; did you mean \"", below, "\"?");
  return absl::StrCat("unknown field", hint);
}

// The field `min_devices` beside `devices`; null if there is none.
const FieldDescriptor* LeastOf(const FieldDescriptor& field) {
  return field.containing_type()->FindFieldByName(absl::StrCat("min_", field.name()));
}

class Merger {
 public:
  Merger(std::string label, bool label_lines, Origins& origins, std::vector<FieldViolation>& violations)
      : label_(std::move(label)), label_lines_(label_lines), origins_(origins), violations_(violations) {}

  void Fail(const YAML::Mark& mark, const std::string& path, std::string description) {
    violations_.push_back({path, std::move(description), Origin(mark)});
  }
  void Fail(const YAML::Node& node, const std::string& path, std::string description) {
    Fail(node.Mark(), path, std::move(description));
  }

  void MergeMessage(const YAML::Node& node, const std::string& path, const Message* defaults, Message& message,
                    const std::vector<std::string>& ignored_keys = {}) {
    if (!Visit(node, path) || node.IsNull()) return;
    if (!node.IsMap()) {
      return Fail(node, path, "must be a map of fields (`name: value`)");
    }
    if (depth_ == kMaxYamlDepth) return Fail(node, path, absl::StrCat("nested more than ", kMaxYamlDepth, " deep"));
    ++depth_;
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const YAML::Node& key = entry.first;
      const YAML::Node& value = entry.second;
      if (!key.IsScalar()) {
        Fail(key, path, "a field's name must be plain text");
        continue;
      }
      const std::string& name = key.Scalar();
      const bool ignored =
          path.empty() && std::find(ignored_keys.begin(), ignored_keys.end(), name) != ignored_keys.end();
      const FieldDescriptor* field = FindField(*message.GetDescriptor(), name);
      // Two spellings of one field are one field.
      const std::string& canonical = field != nullptr ? field->name() : name;
      const std::string field_path = Join(path, Printable(canonical));
      if (!seen.insert(canonical).second) {
        Fail(key, field_path, "is given twice in the same map; keep one");
      } else if (!ignored && field == nullptr) {
        Fail(key, field_path, UnknownField(*message.GetDescriptor(), name));
      } else if (!ignored) {
        MergeField(value, field_path, defaults, *field, message);
      }
    }
    --depth_;
  }

  // `defaults`: of the message that holds the field; may be null.
  void MergeField(const YAML::Node& node, const std::string& path, const Message* defaults,
                  const FieldDescriptor& field, Message& message) {
    if (!Visit(node, path)) return;
    const Reflection& reflection = *message.GetReflection();
    if (node.IsNull()) return TakeDefault(node, path, defaults, field, message);
    if (field.is_map()) return Replace(node, path, field, message, &Merger::AddMapEntries);
    if (const FieldDescriptor* least = LeastOf(field); least != nullptr && node.IsMap())
      return MergeRange(node, path, defaults, field, *least, message);
    if (field.is_repeated()) return Replace(node, path, field, message, &Merger::AddElements);
    if (!IsTextField(field)) {
      const bool has_defaults = defaults != nullptr && defaults->GetReflection()->HasField(*defaults, &field);
      const Message* below = has_defaults ? &defaults->GetReflection()->GetMessage(*defaults, &field) : nullptr;
      return MergeMessage(node, path, below, *reflection.MutableMessage(&message, &field));
    }
    if (SetText(node, path, field, message)) origins_[path] = Origin(node.Mark());
  }

 private:
  // Field names come from strangers too.
  static std::string Printable(const std::string& name) {
    const std::string quoted = Quoted(name);
    return quoted.substr(1, quoted.size() - 2);
  }

  std::string Origin(const YAML::Mark& mark) const {
    return label_lines_ && !mark.is_null() ? absl::StrCat(label_, ":", mark.line + 1) : label_;
  }

  // Aliases cost nothing to write and much to follow: the budget counts what is walked.
  bool Visit(const YAML::Node& node, const std::string& path) {
    if (++visited_ == kMaxYamlNodes) {
      Fail(node, path, absl::StrCat("the text has more than ", kMaxYamlNodes, " values"));
    }
    return visited_ < kMaxYamlNodes;
  }

  bool SetText(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (!node.IsScalar()) {
      Fail(node, path, absl::StrCat("is a ", node.IsMap() ? "map" : "list", "; must be one value"));
      return false;
    }
    return SetText(node.Scalar(), node, path, field, message);
  }

  bool SetText(absl::string_view text, const YAML::Node& node, const std::string& path, const FieldDescriptor& field,
               Message& message) {
    const absl::Status status = SetFromText(text, field, message);
    if (!status.ok()) Fail(node, path, std::string(status.message()));
    return status.ok();
  }

  // `devices: {min: 2, max: 8}` sets `field` and `least` beside it.
  void MergeRange(const YAML::Node& node, const std::string& path, const Message* defaults,
                  const FieldDescriptor& field, const FieldDescriptor& least, Message& message) {
    const std::string least_path = absl::StrCat(path.substr(0, path.size() - field.name().size()), least.name());
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string end = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if ((end != "min" && end != "max") || !seen.insert(end).second || entry.second.IsMap()) {
        Fail(entry.first, path, "is a map; must be one value, or {min: N, max: N}");
      } else if (end == "min") {
        MergeField(entry.second, least_path, defaults, least, message);
      } else {
        MergeField(entry.second, path, defaults, field, message);
      }
    }
    if (node.size() == 0) Fail(node, path, "is an empty map; must be one value, or {min: N, max: N}");
  }

  void ForgetOrigins(const std::string& path) {
    origins_.erase(path);
    const std::string prefix = path + ".";
    for (auto it = origins_.lower_bound(prefix); it != origins_.end() && absl::StartsWith(it->first, prefix);) {
      it = origins_.erase(it);
    }
  }

  void TakeDefault(const YAML::Node& node, const std::string& path, const Message* defaults,
                   const FieldDescriptor& field, Message& message) {
    const Reflection& reflection = *message.GetReflection();
    reflection.ClearField(&message, &field);
    ForgetOrigins(path);
    if (defaults != nullptr) {
      std::unique_ptr<Message> copy(defaults->New());
      copy->CopyFrom(*defaults);
      reflection.SwapFields(&message, copy.get(), {&field});
    }
    origins_[path] = Origin(node.Mark());
  }

  // Lists are replaced whole, and only by a list without a fault.
  void Replace(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message,
               bool (Merger::*add)(const YAML::Node&, const std::string&, const FieldDescriptor&, Message&)) {
    const Origins before = origins_;
    ForgetOrigins(path);
    std::unique_ptr<Message> scratch(message.New());
    const size_t violations = violations_.size();
    if (!(this->*add)(node, path, field, *scratch) || violations_.size() > violations) {
      origins_ = before;
      return;
    }
    message.GetReflection()->SwapFields(&message, scratch.get(), {&field});
    if (IsTextField(field) || field.is_map() || node.size() == 0) origins_[path] = Origin(node.Mark());
  }

  bool AddElements(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (IsTextField(field) && node.IsScalar()) {
      if (node.Scalar().empty()) return true;
      for (const absl::string_view text : absl::StrSplit(absl::string_view(node.Scalar()), ',')) {
        SetText(absl::StripAsciiWhitespace(text), node, path, field, message);
      }
      return true;
    }
    if (!node.IsSequence()) {
      Fail(node, path, "must be a list (`[a, b]`, or a line `- a` for each)");
      return false;
    }
    int index = 0;
    for (const YAML::Node& element : node) {
      const std::string element_path = Join(path, absl::StrCat(index++));
      if (IsTextField(field)) {
        if (Visit(element, element_path)) SetText(element, element_path, field, message);
      } else {
        MergeMessage(element, element_path, nullptr, *message.GetReflection()->AddMessage(&message, &field));
      }
    }
    return true;
  }

  bool AddMapEntries(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (!node.IsMap()) {
      Fail(node, path, "must be a map (`key: value`)");
      return false;
    }
    const Descriptor& entry_type = *field.message_type();
    std::set<std::string> seen;
    for (const auto& pair : node) {
      const YAML::Node& key = pair.first;
      const YAML::Node& value = pair.second;
      Message& entry = *message.GetReflection()->AddMessage(&message, &field);
      if (!Visit(key, path) || !SetText(key, path, *entry_type.map_key(), entry)) continue;
      const std::string entry_path = Join(path, Printable(key.Scalar()));
      if (!seen.insert(key.Scalar()).second) Fail(key, entry_path, "is given twice in the same map; keep one");
      MergeField(value, entry_path, nullptr, *entry_type.map_value(), entry);
    }
    return true;
  }

  const std::string label_;
  const bool label_lines_;
  Origins& origins_;
  std::vector<FieldViolation>& violations_;
  int visited_ = 0;
  int depth_ = 0;
};

// Calls `use` with the text's root, or notes why there is none.
template <typename F>
void WithYaml(absl::string_view text, Merger& merger, F&& use) {
  YAML::Node root;
  if (const std::optional<YamlFault> fault = ParseYaml(text, root))
    return merger.Fail(fault->mark, "", fault->description);
  use(root);
}

}  // namespace

void MergeYaml(const YamlLayer& layer, Message& message, Origins& origins, std::vector<FieldViolation>& violations) {
  Merger merger(layer.label, layer.label_lines, origins, violations);
  WithYaml(layer.text, merger,
           [&](const YAML::Node& node) { merger.MergeMessage(node, "", layer.defaults, message, layer.ignored_keys); });
}

void MergeAssignment(absl::string_view path, absl::string_view value, absl::string_view label, const Message* defaults,
                     Message& message, Origins& origins, std::vector<FieldViolation>& violations) {
  Merger merger(std::string(label), false, origins, violations);
  const auto fail = [&](const std::string& at, std::string what) {
    merger.Fail(YAML::Mark::null_mark(), at, std::move(what));
  };
  WithYaml(value, merger, [&](const YAML::Node& node) {
    Message* holder = &message;
    std::string walked;
    const std::vector<std::string> names = absl::StrSplit(path, '.');
    for (size_t i = 0; i < names.size(); ++i) {
      walked = Join(walked, names[i]);
      const FieldDescriptor* field = FindField(*holder->GetDescriptor(), names[i]);
      if (field == nullptr) return fail(walked, UnknownField(*holder->GetDescriptor(), names[i]));
      if (i + 1 == names.size()) return merger.MergeField(node, walked, defaults, *field, *holder);
      if (IsTextField(*field) || field->is_map()) return fail(walked, "has no fields below it");
      const Reflection& reflection = *holder->GetReflection();
      if (!field->is_repeated()) {
        defaults = defaults != nullptr ? &defaults->GetReflection()->GetMessage(*defaults, field) : nullptr;
        holder = reflection.MutableMessage(holder, field);
        continue;
      }
      const int size = reflection.FieldSize(*holder, field);
      int index;
      walked = Join(walked, names[++i]);
      if (!absl::SimpleAtoi(names[i], &index) || index < 0 || index >= size) {
        return fail(walked, absl::StrCat("no such element: the list has ", size, ", counted from 0"));
      }
      defaults = nullptr;
      holder = reflection.MutableRepeatedMessage(holder, field, index);
      if (i + 1 == names.size()) return merger.MergeMessage(node, walked, nullptr, *holder);
    }
  });
}

}  // namespace p2::spec

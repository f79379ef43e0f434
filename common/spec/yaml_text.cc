#include "common/spec/yaml_text.h"

#include <sstream>

#include "absl/strings/str_cat.h"
#include "common/spec/scalar_text.h"
#include "common/spec/yaml_to_proto.h"
#include "yaml-cpp/eventhandler.h"

namespace p2::spec {
namespace {

// Counts what a document holds before any of it is built.
class LimitHandler final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { Count(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { Count(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string&) override {
    Count(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    Enter(mark);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    Enter(mark);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void Count(const YAML::Mark& mark) {
    if (++values_ > kMaxYamlNodes)
      throw YAML::ParserException(mark, absl::StrCat("more than ", kMaxYamlNodes, " values"));
  }
  void Enter(const YAML::Mark& mark) {
    Count(mark);
    if (++depth_ > kMaxYamlDepth)
      throw YAML::ParserException(mark, absl::StrCat("nested more than ", kMaxYamlDepth, " deep"));
  }

  int values_ = 0;
  int depth_ = 0;
};

}  // namespace

std::optional<YamlFault> ParseYaml(absl::string_view text, YAML::Node& root) {
  if (text.size() > kMaxYamlBytes) {
    return YamlFault{YAML::Mark::null_mark(),
                     absl::StrCat("the text has ", text.size(), " bytes; at most ", kMaxYamlBytes, " are allowed")};
  }
  if (!IsValidUtf8(text)) return YamlFault{YAML::Mark::null_mark(), "the text is not valid UTF-8"};
  try {
    const std::string copy(text);
    std::istringstream stream(copy);
    YAML::Parser parser(stream);
    LimitHandler limits;
    if (parser.HandleNextDocument(limits) && parser.HandleNextDocument(limits)) {
      return YamlFault{YAML::Mark::null_mark(), "the text is not one YAML document: something stands behind its end"};
    }
    root.reset(YAML::Load(copy));
    return std::nullopt;
  } catch (const YAML::Exception& e) {
    return YamlFault{e.mark, absl::StrCat("not valid YAML: ", e.msg)};
  }
}

}  // namespace p2::spec

// YAML of strangers over a TrainingSpec: a file's layer, then the same text as `path=value`.
#include "common/spec/yaml_to_proto.h"
#include "p2/v1/training_spec.pb.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text = p2::fuzz::Text(data, size);
  p2::v1::TrainingSpec defaults, spec;
  defaults.mutable_training()->set_batch(8);
  p2::spec::Origins origins;
  std::vector<p2::spec::FieldViolation> violations;
  p2::spec::MergeYaml({.text = text, .label = "in.yaml", .ignored_keys = {"extends"}, .defaults = &defaults}, spec,
                      origins, violations);
  if (const size_t equals = text.find('='); equals != absl::string_view::npos) {
    p2::spec::MergeAssignment(text.substr(0, equals), text.substr(equals + 1), "--set", &defaults, spec, origins,
                              violations);
  }
  for (const p2::spec::FieldViolation& violation : violations) {
    p2::fuzz::Require(!violation.description.empty(), "a violation says what is wrong");
  }
  p2::v1::TrainingSpec again;
  p2::fuzz::Require(again.ParseFromString(spec.SerializeAsString()), "a merged spec can be sent");
  return 0;
}

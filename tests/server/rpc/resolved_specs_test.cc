#include "server/rpc/resolved_specs.h"

#include "absl/strings/str_cat.h"
#include "common/sha256.h"
#include "common/spec/estimate.h"
#include "common/spec/proto_bytes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/convert.h"

namespace p2::rpc {
namespace {

spec::ResolveRequest Request() {
  spec::ResolveRequest request;
  request.preset = "mnist-demo";
  request.overrides = {{.path = "data.dataset", .value = "digits", .origin = "--dataset"}};
  return request;
}

// What was kept and what is computed anew are the same in every part.
void ExpectAsResolved(ResolvedSpecs& specs, const spec::ResolveRequest& request) {
  const auto known = specs.Resolve(request);
  const auto resolved = spec::Resolve(request);
  ASSERT_EQ(known.status(), resolved.status());
  if (!resolved.ok()) return;
  EXPECT_EQ((*known)->resolved.spec.DebugString(), resolved->spec.DebugString());
  EXPECT_EQ((*known)->resolved.origins, resolved->origins);
  EXPECT_EQ((*known)->resolved.warnings, resolved->warnings);
  EXPECT_EQ((*known)->resolved.sha256, resolved->sha256);
  EXPECT_EQ((*known)->estimate.DebugString(), spec::EstimateResources(resolved->spec)->DebugString());
  EXPECT_EQ((*known)->spec_bytes, spec::DeterministicBytes(resolved->spec));
  EXPECT_EQ((*known)->spec_sha256, resolved->sha256);
  EXPECT_EQ((*known)->origins_bytes, OriginsBytes(resolved->origins));
  EXPECT_EQ((*known)->origins_sha256, Sha256Hex((*known)->origins_bytes));
}

TEST(ResolvedSpecsTest, ResolvesTheSameRequestOnce) {
  ResolvedSpecs specs;
  const auto first = specs.Resolve(Request());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(*specs.Resolve(Request()), *first);
  ExpectAsResolved(specs, Request());
}

TEST(ResolvedSpecsTest, EveryPartOfARequestCounts) {
  std::vector<spec::ResolveRequest> requests(8, Request());
  requests[1].overrides[0].value = "faces";
  requests[2].overrides[0].origin = "--set";
  requests[3].overrides.push_back({.path = "training.batch", .value = "16"});
  requests[4].preset = "own-64";
  requests[5].preset = "";
  requests[5].file_yaml = "model: {image_size: 32}\n";
  requests[6] = requests[5];
  requests[6].file_name = "mine.yaml";
  requests[7].overrides.clear();
  requests[7].require_dataset = false;
  ResolvedSpecs specs;
  for (int round = 0; round < 2; ++round) {
    for (const spec::ResolveRequest& request : requests) ExpectAsResolved(specs, request);
  }
}

TEST(ResolvedSpecsTest, ACheckpointRootMakesAnotherSpec) {
  ResolvedSpecs specs;
  const KnownSpecPtr known = *specs.Resolve(Request());
  const KnownSpecPtr here = *specs.WithCheckpointRoot(*known, "here", "dataset digits");
  EXPECT_EQ(here->resolved.spec.checkpoint().root(), "here");
  EXPECT_EQ(here->resolved.origins.at("checkpoint.root"), "dataset digits");
  EXPECT_EQ(here->spec_sha256, spec::SpecSha256(here->resolved.spec));
  EXPECT_EQ(here->origins_bytes, OriginsBytes(here->resolved.origins));
  EXPECT_NE(here->spec_sha256, known->spec_sha256);
  EXPECT_EQ(*specs.WithCheckpointRoot(*known, "here", "dataset digits"), here);
  const KnownSpecPtr there = *specs.WithCheckpointRoot(*known, "there", "dataset digits");
  EXPECT_EQ(there->resolved.spec.checkpoint().root(), "there");
  const KnownSpecPtr otherwise = *specs.WithCheckpointRoot(*known, "here", "dataset faces");
  EXPECT_EQ(otherwise->resolved.origins.at("checkpoint.root"), "dataset faces");
  // One that is not kept is right all the same.
  const KnownSpecPtr loose = *ResolvedSpecs::Of(known->resolved);
  EXPECT_EQ((*specs.WithCheckpointRoot(*loose, "here", "dataset digits"))->spec_sha256, here->spec_sha256);
}

TEST(ResolvedSpecsTest, KeepsNoError) {
  ResolvedSpecs specs;
  spec::ResolveRequest request = Request();
  request.overrides.push_back({.path = "training.batch", .value = "none"});
  ExpectAsResolved(specs, request);
  ExpectAsResolved(specs, request);
  ExpectAsResolved(specs, Request());
}

TEST(ResolvedSpecsTest, GivesTheRightOneAmongMoreThanItKeeps) {
  ResolvedSpecs specs;
  for (int i = 0; i < 200; ++i) {
    spec::ResolveRequest request = Request();
    request.overrides.push_back({.path = "training.seed", .value = absl::StrCat(i % 70)});
    const auto known = specs.Resolve(request);
    ASSERT_TRUE(known.ok()) << known.status();
    EXPECT_EQ((*known)->resolved.spec.training().seed(), i % 70);
  }
}

}  // namespace
}  // namespace p2::rpc

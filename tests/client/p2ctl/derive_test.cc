// fork, clone, extend; submit's place in the queue, its forecast, and files of several specs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using Json = nlohmann::json;

class DeriveTest : public P2ctlTest {
 protected:
  DeriveTest() {
    server_.SetJob(MakeJob("ffhq-abcde", v1::Job::SUCCEEDED));
    server_.With([](FakeState& s) {
      for (const auto& [id, images, state] : {std::tuple("000000800000-e1", 800'000, v1::Checkpoint::CORRUPT),
                                              {"000000600000-e1", 600'000, v1::Checkpoint::COMMITTED},
                                              {"000000400000-e1", 400'000, v1::Checkpoint::COMMITTED}}) {
        v1::Checkpoint& checkpoint = s.checkpoints["jobs/ffhq-abcde"].emplace_back();
        checkpoint.set_name(absl::StrCat("jobs/ffhq-abcde/checkpoints/", id));
        checkpoint.set_images_seen(images);
        checkpoint.set_state(state);
      }
    });
  }
  v1::CreateJobRequest Sent(std::vector<std::string> arguments) {
    const P2ctlResult result = P2ctl(std::move(arguments));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    v1::CreateJobRequest request;
    server_.With([&](FakeState& s) { request = s.last_create; });
    return request;
  }
  std::string File(const std::string& text) {
    const std::string path = MakeTempDir() + "/many.yaml";
    std::ofstream(path) << text;
    return path;
  }
};

TEST_F(DeriveTest, ForkGoesOnFromTheCheckpointUntilThere) {
  const auto from = [this](const std::string& ref) { return Sent({"fork", ref}).derive_from().name(); };
  EXPECT_EQ(from("ffhq"), "jobs/ffhq-abcde");
  EXPECT_EQ(from("ffhq@500k"), "jobs/ffhq-abcde/checkpoints/000000400000-e1");
  EXPECT_EQ(from("ffhq@600k"), "jobs/ffhq-abcde/checkpoints/000000600000-e1");
  EXPECT_EQ(from("ffhq@2M"), "jobs/ffhq-abcde/checkpoints/000000600000-e1");  // That at 800k is damaged.
  EXPECT_EQ(from("ffhq/000000400000-e1"), "jobs/ffhq-abcde/checkpoints/000000400000-e1");
  EXPECT_EQ(from("jobs/x/checkpoints/y"), "jobs/x/checkpoints/y");
  const P2ctlResult none = P2ctl({"fork", "ffhq@100k"});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_THAT(none.err, HasSubstr("no good checkpoint at or before 100000 images; it has them at 400000, 600000"));
  EXPECT_EQ(P2ctl({"fork", "no-such@1k"}).exit_code, 3);
}

TEST_F(DeriveTest, TakesTheFlagsOfSubmit) {
  const v1::CreateJobRequest fork =
      Sent({"fork", "ffhq", "--set", "objective.gamma=0.5", "--images", "2M", "--devices", "2:8", "--priority", "7",
            "--queue", "h100", "--project", "faces", "--note", "gamma", "--label", "a=b"});
  EXPECT_EQ(fork.derive_from().kind(), v1::Lineage::FORK);
  EXPECT_THAT(fork.overrides(), ElementsAre("objective.gamma=0.5"));
  std::vector<std::string> flags;
  for (const v1::FlagOverride& flag : fork.flags())
    flags.push_back(absl::StrCat(flag.flag(), " ", flag.path(), " ", flag.value()));
  EXPECT_THAT(flags, UnorderedElementsAre("--images training.images 2M", "--devices resources.devices 8",
                                          "--devices resources.min_devices 2"));
  EXPECT_EQ(fork.priority(), 7);
  EXPECT_EQ(fork.queue(), "queues/h100");
  EXPECT_EQ(fork.project(), "faces");
  EXPECT_EQ(fork.note(), "gamma");
  EXPECT_EQ(fork.labels().at("a"), "b");
}

TEST_F(DeriveTest, CloneTakesTheSpecAndExtendWantsImages) {
  EXPECT_EQ(Sent({"clone", "ffhq"}).derive_from().kind(), v1::Lineage::CLONE);
  const v1::CreateJobRequest extend = Sent({"extend", "ffhq", "--images", "20M"});
  EXPECT_EQ(extend.derive_from().kind(), v1::Lineage::EXTEND);
  EXPECT_EQ(extend.derive_from().name(), "jobs/ffhq-abcde");
  EXPECT_EQ(extend.flags(0).value(), "20M");
  EXPECT_EQ(P2ctl({"extend", "ffhq"}).exit_code, 2);
}

TEST_F(DeriveTest, DescribeTellsWhereAJobComesFrom) {
  v1::Job job = MakeJob("fork-1", v1::Job::RUNNING);
  job.mutable_lineage()->set_kind(v1::Lineage::FORK);
  job.mutable_lineage()->set_job("jobs/ffhq-abcde");
  job.mutable_lineage()->set_checkpoint("jobs/ffhq-abcde/checkpoints/000000400000-e1");
  job.set_note("with less dropout");
  job.set_priority(10);
  job.set_project("faces");
  job.set_queue("queues/h100");
  job.set_preemptions(2);
  job.mutable_spec()->mutable_resources()->set_min_devices(1);
  job.set_devices_held(1);
  job.mutable_spec()->mutable_model()->set_image_size(64);
  (*job.mutable_spec_origins())["model"] = "job ffhq-abcde";
  server_.SetJob(job);
  const std::string out = P2ctl({"describe", "fork-1"}).out;
  for (const char* part : {"Made from:    fork of ffhq-abcde at 000000400000-e1\n", "Note:         with less dropout\n",
                           "Priority:     10\n", "Queue:        h100\n", "Project:      faces\n",
                           "Preempted:    2 times\n", "Devices:      1 to 2 (elastic), holds 1\n"}) {
    EXPECT_THAT(out, HasSubstr(part));
  }
  EXPECT_THAT(out, ::testing::ContainsRegex("model.image_size +64 +job ffhq-abcde\n"));
  job.mutable_spec()->mutable_resources()->set_min_devices(0);
  server_.SetJob(job);
  EXPECT_THAT(P2ctl({"describe", "fork-1"}).out, HasSubstr("Devices:      2, holds 1\n"));
  EXPECT_THAT(P2ctl({"describe", "ffhq"}).out,
              AllOf(Not(HasSubstr("Made from")), Not(HasSubstr("Preempted")), HasSubstr("Devices:      2\n")));
}

TEST_F(DeriveTest, ADryRunOfTheServerForetellsTheStart) {
  server_.With([](FakeState& s) {
    s.forecast.set_state(v1::Job::STARTING);
    for (const auto& [worker, slot] : {std::pair("w0", "cuda:0"), {"w0", "cuda:1"}, {"w1", "cuda:0"}}) {
      v1::RankPlacement& rank = *s.forecast.add_placement();
      rank.set_worker(absl::StrCat("workers/", worker));
      rank.set_slot(slot);
    }
  });
  EXPECT_THAT(P2ctl({"submit", "mnist-demo", "--dry-run=server", "--request-id", "1"}).out,
              HasSubstr("Forecast:     would start now on w0 (cuda:0, cuda:1), w1 (cuda:0)\n\nNothing was submitted."));
  server_.With([](FakeState& s) {
    s.forecast.Clear();
    s.forecast.set_state(v1::Job::QUEUED);
    s.forecast.set_reason(v1::WAITING_FOR_DEVICES);
    s.forecast.set_message("needs 2 devices");
    s.forecast.set_position(2);
    s.forecast.set_waiting(2);
  });
  const P2ctlResult waits = P2ctl({"fork", "ffhq", "--dry-run", "--request-id", "2"});
  EXPECT_THAT(waits.out, HasSubstr("Forecast:     would wait (WAITING_FOR_DEVICES): needs 2 devices\n"
                                   "Position:     2 of 2 that wait for devices\nStarts:       not known\n"));
  server_.With([](FakeState& s) {
    EXPECT_TRUE(s.last_create.validate_only());
    EXPECT_THAT(s.jobs, SizeIs(1));
  });
}

TEST_F(DeriveTest, SubmitNamesItsPlaceInTheQueue) {
  const v1::CreateJobRequest request = Sent({"submit", "mnist-demo", "--priority", "-1", "--queue", "h100"});
  EXPECT_EQ(request.priority(), -1);
  EXPECT_EQ(request.queue(), "queues/h100");
  EXPECT_EQ(request.project(), "");
  EXPECT_EQ(Sent({"clone", "ffhq", "--project", "faces"}).project(), "faces");
  for (const char* bad : {"0", "2:", ":2", "8:2", "2:x", "-1", "0:2"}) {
    const P2ctlResult result = P2ctl({"submit", "mnist-demo", absl::StrCat("--devices=", bad)});
    EXPECT_EQ(result.exit_code, 2) << bad;
    EXPECT_THAT(result.err, HasSubstr("MIN:MAX")) << bad;
  }
}

TEST_F(DeriveTest, SeveralDocumentsAreSeveralJobsOrNone) {
  const std::string path =
      File("# two runs\n---\nextends: mnist-demo\nobjective: {gamma: 0}\n---\nextends: mnist-demo\n---\n# nothing\n");
  const P2ctlResult result = P2ctl({"submit", "-f", path, "--label", "sweep=a", "--request-id", "r"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "batch-0\nbatch-1\n");
  server_.With([](FakeState& s) {
    ASSERT_EQ(s.last_batch.requests_size(), 2);
    EXPECT_EQ(s.last_batch.request_id(), "r");
    EXPECT_EQ(s.last_batch.requests(0).spec_yaml(), "# two runs\n---\nextends: mnist-demo\nobjective: {gamma: 0}\n");
    EXPECT_EQ(s.last_batch.requests(1).spec_file_name(), "many.yaml#2");
    EXPECT_EQ(s.last_batch.requests(1).labels().at("sweep"), "a");
    EXPECT_NE(s.last_batch.requests(1).owner(), "");
  });
  EXPECT_THAT(Json::parse(P2ctl({"submit", "-f", path, "-o", "json"}).out)["items"], SizeIs(2));
  const P2ctlResult dry = P2ctl({"submit", "-f", path, "--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_THAT(dry.out, AllOf(HasSubstr("many.yaml#1:\n"), HasSubstr("many.yaml#1:4"), HasSubstr("many.yaml#2:\n")));
}

TEST_F(DeriveTest, OneDocumentIsSentAsItIs) {
  for (const char* text : {"---\nextends: mnist-demo\n", "# x\n---\nextends: mnist-demo\n"})
    EXPECT_EQ(Sent({"submit", "-f", File(text)}).spec_yaml(), text);
  const v1::CreateJobRequest request = Sent({"submit", "-f", File("# x\n---\nextends: mnist-demo\n---\n---\n# end\n")});
  EXPECT_EQ(request.spec_yaml(), "# x\n---\nextends: mnist-demo\n");
  EXPECT_EQ(request.spec_file_name(), "many.yaml");
}

TEST_F(DeriveTest, WaitsForAllOfABatch) {
  const std::string path = File("extends: mnist-demo\n---\nextends: mnist-demo\n");
  const auto submit = Start({"submit", "-f", path, "--wait"});
  ASSERT_TRUE(submit->ReadUntil("batch-1\n"));
  server_.SetJob(MakeJob("batch-0", v1::Job::SUCCEEDED));
  server_.SetJob(MakeJob("batch-1", v1::Job::FAILED));
  EXPECT_EQ(submit->Wait().exit_code, 10);
}

}  // namespace
}  // namespace p2::testing

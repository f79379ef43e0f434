// why, queue and quota: where a job stands, and what decides it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/error_reason.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

class QueueTest : public P2ctlTest {
 protected:
  QueueTest() {
    server_.SetJob(MakeJob("mnist-demo-abcde", v1::Job::QUEUED));
    v1::JobExplanation waits;
    waits.set_state(v1::Job::QUEUED);
    waits.set_reason(v1::WAITING_FOR_DEVICES);
    waits.set_message("needs 4 devices of kind cuda; 1 of 8 are free");
    waits.set_position(3);
    waits.set_waiting(7);
    waits.set_devices_exist(8);
    waits.set_devices_free(1);
    waits.set_earliest_seconds(170);
    waits.set_latest_seconds(720);
    waits.set_unblock("starts when 4 devices that suit are free and it is its turn");
    v1::JobExplanation::Blocker& blocker = *waits.add_blockers();
    blocker.set_resource("jobs/other-fghij");
    blocker.set_why("holds 4 devices, priority 0, ends in about 3 min");
    v1::FairShare& share = *waits.add_shares();
    share.set_id("faces/ada");
    share.set_usage(7200);
    share.set_devices(2);
    share.set_weight(2);
    share.set_score(4200);
    server_.With([&](FakeState& s) {
      s.explanations["jobs/mnist-demo-abcde"] = waits;
      v1::Queue& queue = s.queues["queues/default"];
      queue.set_name("queues/default");
      queue.set_devices(8);
      queue.set_free_devices(1);
      queue.set_queued_jobs(1);
    });
  }

  // What `why` says about the start.
  std::string Starts(std::optional<double> earliest, std::optional<double> latest) {
    server_.With([&](FakeState& s) {
      v1::JobExplanation& explanation = s.explanations["jobs/mnist-demo-abcde"];
      explanation.clear_earliest_seconds();
      explanation.clear_latest_seconds();
      if (earliest.has_value()) explanation.set_earliest_seconds(*earliest);
      if (latest.has_value()) explanation.set_latest_seconds(*latest);
    });
    const std::string out = P2ctl({"why", "mnist"}).out;
    const size_t at = out.find("Starts:       ") + 14;
    return out.substr(at, out.find('\n', at) - at);
  }
};

TEST_F(QueueTest, WhyTellsPlaceBlockersAndWhenItStarts) {
  const P2ctlResult result = P2ctl({"why", "mnist"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "Job:          mnist-demo-abcde\n"
            "State:        QUEUED (WAITING_FOR_DEVICES)\n"
            "Why:          needs 4 devices of kind cuda; 1 of 8 are free\n"
            "Position:     3 of 7 that wait for devices\n"
            "Devices:      1 free of 8 that suit it\n"
            "Starts:       in 3 to 12 min\n"
            "What helps:   starts when 4 devices that suit are free and it is its turn\n"
            "\n"
            "Blockers:\n"
            "  WHO          WHY\n"
            "  other-fghij  holds 4 devices, priority 0, ends in about 3 min\n"
            "\n"
            "Shares (device-hours, halved every 24 h; of equal priority the lower score goes first):\n"
            "  PROJECT[/OWNER]  DEVICES    USED  WEIGHT   SCORE\n"
            "  faces/ada              2  2.00 h       2  1.17 h\n");
  EXPECT_EQ(P2ctl({"why", "no-such"}).exit_code, 3);
}

TEST_F(QueueTest, TheBandIsAsCoarseAsAPrediction) {
  EXPECT_EQ(Starts(std::nullopt, std::nullopt), "not known");
  EXPECT_EQ(Starts(40, std::nullopt), "in 40 s at the earliest");
  EXPECT_EQ(Starts(40, 720), "in 40 s to 12 min");
  EXPECT_EQ(Starts(179, 181), "in about 3 min");
  EXPECT_EQ(Starts(0, 3600 * 5), "within 5 h");
  EXPECT_EQ(Starts(0, 0), "now");
  EXPECT_EQ(Starts(86400 * 2, 86400 * 4), "in 2 to 4 days");
}

TEST_F(QueueTest, WhyOfARunningJobNamesNoPlace) {
  server_.With([](FakeState& s) {
    v1::JobExplanation& explanation = s.explanations["jobs/mnist-demo-abcde"];
    explanation.Clear();
    explanation.set_state(v1::Job::RUNNING);
  });
  EXPECT_EQ(P2ctl({"why", "mnist"}).out, "Job:          mnist-demo-abcde\nState:        RUNNING\n");
}

TEST_F(QueueTest, WhyIsProtoJsonForPrograms) {
  const Json json = Json::parse(P2ctl({"why", "mnist", "-o", "json"}).out);
  EXPECT_EQ(json["reason"], "WAITING_FOR_DEVICES");
  EXPECT_EQ(json["earliestSeconds"], 170);
  EXPECT_EQ(json["blockers"][0]["resource"], "jobs/other-fghij");
  EXPECT_EQ(P2ctl({"why", "mnist", "-o", "csv", "--no-headers", "--fields", "id,reason,position"}).out,
            "mnist-demo-abcde,WAITING_FOR_DEVICES,3\n");
}

TEST_F(QueueTest, DescribeShowsWhoWaitsInOrder) {
  server_.With([](FakeState& s) {
    v1::QueueDescription::WaitingJob& first = *s.description.add_jobs();
    first.set_name("jobs/a");
    first.set_position(1);
    first.set_priority(10);
    first.set_owner("ada");
    first.set_project("faces");
    first.set_devices(4);
    first.set_reason(v1::WAITING_FOR_DEVICES);
    first.mutable_create_time()->set_seconds(absl::ToUnixSeconds(absl::Now()) - 5 * 3600 - 1800);
    first.set_reserved(true);
    first.mutable_predicted_start()->set_seconds(absl::ToUnixSeconds(absl::Now()) + 3 * 86400 + 1800);
    v1::QueueDescription::WaitingJob& second = *s.description.add_jobs();
    second.set_name("jobs/b");
    second.set_position(4);
    second.set_reason(v1::QUOTA_EXCEEDED);
    second.mutable_create_time()->set_seconds(absl::ToUnixSeconds(absl::Now()) - 51 * 3600 - 1800);
    s.description.add_shares()->set_id("faces");
  });
  const std::string out = P2ctl({"queue", "describe"}).out;
  EXPECT_THAT(out, StartsWith("Queue:        default\nRuns on:      all workers\nDevices:      1 free of 8\n"));
  EXPECT_THAT(out, HasSubstr("#  JOB  PRIORITY  OWNER  PROJECT  DEVICES  REASON                 AGE  STARTS\n"));
  EXPECT_THAT(out, HasSubstr("1  a          10  ada    faces          4  WAITING_FOR_DEVICES  5h30m  in 3d00h\n"));
  EXPECT_THAT(out, HasSubstr("4  b           0  -      -              0  QUOTA_EXCEEDED       2d03h  -\n"));
  EXPECT_THAT(out, HasSubstr("\nShares ("));
  EXPECT_EQ(Json::parse(P2ctl({"queue", "describe", "default", "-o", "json"}).out)["jobs"][1]["position"], 4);
  EXPECT_EQ(P2ctl({"queue", "describe", "no-such"}).exit_code, 3);
}

TEST_F(QueueTest, QueuesAreMadeChangedAndDeleted) {
  EXPECT_EQ(P2ctl({"queue", "create", "h100", "--selector", "kind=h100,zone=a", "--description", "large"}).exit_code,
            0);
  EXPECT_EQ(P2ctl({"queue", "create", "h100"}).exit_code, 6);
  EXPECT_THAT(P2ctl({"queue", "list"}).out,
              AllOf(StartsWith("NAME "), HasSubstr("kind=h100,zone=a"), HasSubstr("large")));
  EXPECT_EQ(P2ctl({"queue", "list", "-q"}).out, "default\nh100\n");
  // What is not named stays.
  EXPECT_EQ(P2ctl({"queue", "update", "h100", "--selector", "kind=h200"}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_EQ(s.queues["queues/h100"].description(), "large");
    EXPECT_EQ(s.queues["queues/h100"].node_selector_size(), 1);
    EXPECT_EQ(s.queues["queues/h100"].node_selector().at("kind"), "h200");
  });
  EXPECT_EQ(P2ctl({"queue", "update", "h100", "--selector", "", "--description", ""}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_EQ(s.queues["queues/h100"].description(), "");
    EXPECT_EQ(s.queues["queues/h100"].node_selector_size(), 0);
  });
  EXPECT_EQ(P2ctl({"queue", "update", "h100"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"queue", "update", "h100", "--selector", "kind"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"queue", "delete", "h100"}).exit_code, 0);
  EXPECT_EQ(P2ctl({"queue", "delete", "h100"}).exit_code, 3);
  const P2ctlResult in_use = P2ctl({"queue", "delete", "default", "-o", "json"});
  EXPECT_EQ(in_use.exit_code, 6);
  EXPECT_EQ(Json::parse(in_use.err)["reason"], "QUEUE_IN_USE");
}

TEST_F(QueueTest, MoveNamesOnePlace) {
  server_.SetJob(MakeJob("other", v1::Job::QUEUED));
  EXPECT_EQ(P2ctl({"queue", "move", "mnist", "--before", "oth"}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_EQ(s.last_move.name(), "jobs/mnist-demo-abcde");
    EXPECT_EQ(s.last_move.where(), v1::MoveJobRequest::BEFORE);
    EXPECT_EQ(s.last_move.other(), "jobs/other");
  });
  EXPECT_THAT(P2ctl({"queue", "move", "mnist", "--first"}).err, HasSubstr("it is 3 of 7 that wait for devices"));
  server_.With([](FakeState& s) { EXPECT_EQ(s.last_move.where(), v1::MoveJobRequest::FIRST); });
  EXPECT_EQ(P2ctl({"queue", "move", "mnist"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"queue", "move", "mnist", "--first", "--last"}).exit_code, 2);
}

TEST_F(QueueTest, QuotasKeepTheLimitsThatAreNotNamed) {
  EXPECT_EQ(P2ctl({"quota", "set", "users/ada", "--devices", "4", "--borrow", "any", "--queued-jobs", "9"}).exit_code,
            0);
  EXPECT_EQ(P2ctl({"quota", "set", "users/ada", "--borrow", "2"}).exit_code, 0);
  server_.With([](FakeState& s) {
    const v1::Quota& quota = s.quotas["users/ada"];
    EXPECT_EQ(quota.devices(), 4);
    EXPECT_EQ(quota.borrow(), 2);
    EXPECT_EQ(quota.queued_jobs(), 9);
  });
  EXPECT_EQ(P2ctl({"quota", "set", "projects/faces", "--devices", "0"}).exit_code, 0);
  EXPECT_EQ(P2ctl({"quota", "list"}).out,
            "ACCOUNT         DEVICES  HELD  BORROW  QUEUED-JOBS  QUEUED\n"
            "projects/faces        0     0       0         none       0\n"
            "users/ada             4     0       2            9       0\n");
  EXPECT_EQ(P2ctl({"quota", "set", "users/ada", "--devices", "none", "--queued-jobs", "none"}).exit_code, 0);
  server_.With([](FakeState& s) {
    EXPECT_FALSE(s.quotas["users/ada"].has_devices());
    EXPECT_FALSE(s.quotas["users/ada"].has_queued_jobs());
  });
  for (const std::vector<std::string>& bad :
       std::vector<std::vector<std::string>>{{"quota", "set", "ada", "--devices", "4"},
                                             {"quota", "set", "users/ada"},
                                             {"quota", "set", "users/ada", "--devices", "-1"},
                                             {"quota", "set", "users/ada", "--borrow", "none"}}) {
    EXPECT_EQ(P2ctl(bad).exit_code, 2) << bad.back();
  }
}

TEST_F(QueueTest, AWeightIsShownWithItsShare) {
  EXPECT_EQ(P2ctl({"quota", "weight", "faces/ada", "2"}).out,
            "SHARE      DEVICES    USED  WEIGHT   SCORE\nfaces/ada        0  2.00 h       2  1.00 h\n");
  EXPECT_EQ(P2ctl({"quota", "weight", "faces"}).exit_code, 2);
}

TEST_F(QueueTest, BeyondAQuotaIsFive) {
  server_.FailNext(1, Error(ErrorReason::kQuotaExceeded, "users/ada has 9 queued jobs, as many as its quota allows"));
  const P2ctlResult result = P2ctl({"submit", "mnist-demo", "-o", "json"});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_EQ(Json::parse(result.err)["reason"], "QUOTA_EXCEEDED");
}

TEST_F(QueueTest, ListsKnowProjectsAndQueues) {
  v1::Job job = MakeJob("faces-1", v1::Job::QUEUED);
  job.set_project("faces");
  job.set_queue("queues/h100");
  job.set_priority(-5);
  server_.SetJob(job);
  EXPECT_EQ(P2ctl({"list", "--project", "faces", "-q"}).out, "faces-1\n");
  EXPECT_EQ(P2ctl({"list", "-q"}, {{"P2_PROJECT", "faces"}}).out, "faces-1\n");
  EXPECT_EQ(P2ctl({"list", "-q", "--all-projects"}, {{"P2_PROJECT", "faces"}}).out, "faces-1\nmnist-demo-abcde\n");
  EXPECT_EQ(P2ctl({"list", "-q", "--queue", "h100"}).out, "faces-1\n");
  EXPECT_EQ(P2ctl({"list", "--queue", "h100", "--fields", "id,priority,queue,project", "-o", "csv"}).out,
            "id,priority,queue,project\nfaces-1,-5,h100,faces\n");
  EXPECT_THAT(P2ctl({"list"}).out, Not(HasSubstr("PRIORITY")));
  EXPECT_EQ(P2ctl({"get", "faces", "mnist", "--project", "faces", "-q"}).out, "faces-1\n");
}

}  // namespace
}  // namespace p2::testing

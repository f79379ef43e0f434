// ckpt pin, unpin, delete and gc; audit list.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class CheckpointTest : public P2ctlTest {
 protected:
  CheckpointTest() {
    server_.SetJob(MakeJob("ffhq-abcde", v1::Job::RUNNING));
    server_.With([](FakeState& s) {
      v1::Checkpoint& checkpoint = s.checkpoints["jobs/ffhq-abcde"].emplace_back();
      checkpoint.set_name("jobs/ffhq-abcde/checkpoints/000000400000-e1");
      checkpoint.set_images_seen(400'000);
      checkpoint.set_state(v1::Checkpoint::COMMITTED);
    });
  }
};

TEST_F(CheckpointTest, PinsAreSetShownAndTakenAway) {
  const P2ctlResult pinned = P2ctl({"ckpt", "pin", "ffhq/000000400000-e1", "--note", "best FID"});
  EXPECT_EQ(pinned.exit_code, 0) << pinned.err;
  EXPECT_THAT(pinned.out, ::testing::ContainsRegex("000000400000-e1 .* yes"));
  EXPECT_THAT(P2ctl({"ckpt", "list", "ffhq", "-o", "wide"}).out, HasSubstr("best FID"));
  const P2ctlResult in_use = P2ctl({"ckpt", "delete", "ffhq@400k", "-o", "json"});
  EXPECT_EQ(in_use.exit_code, 6);
  EXPECT_EQ(Json::parse(in_use.err)["reason"], "CHECKPOINT_IN_USE");
  EXPECT_EQ(P2ctl({"ckpt", "unpin", "ffhq@400k"}).exit_code, 0);
  const P2ctlResult deleted = P2ctl({"ckpt", "delete", "ffhq@400k"});
  EXPECT_EQ(deleted.exit_code, 0);
  EXPECT_THAT(deleted.err, HasSubstr("deleted jobs/ffhq-abcde/checkpoints/000000400000-e1"));
  EXPECT_EQ(P2ctl({"ckpt", "delete", "ffhq/000000400000-e1"}).exit_code, 3);
  const P2ctlResult vague = P2ctl({"ckpt", "pin", "ffhq"});
  EXPECT_EQ(vague.exit_code, 2);
  EXPECT_THAT(vague.err, HasSubstr("p2ctl ckpt list ffhq"));
}

TEST_F(CheckpointTest, APinOfADeletedJobCanBeTakenAway) {
  server_.With([](FakeState& s) { s.jobs.clear(); });
  EXPECT_EQ(P2ctl({"ckpt", "unpin", "ffhq-abcde/000000400000-e1"}).exit_code, 0);
}

TEST_F(CheckpointTest, GcSaysWhatGoesAndWhy) {
  server_.With([](FakeState& s) {
    for (const auto& [id, keep, why] :
         {std::tuple("000000400000-e1", true, "the newest 3"), {"000000100000-e1", false, "none"}}) {
      v1::CollectCheckpointsResponse::Verdict& verdict = *s.verdicts.add_verdicts();
      verdict.set_name(absl::StrCat("jobs/ffhq-abcde/checkpoints/", id));
      verdict.set_keep(keep);
      verdict.set_why(why);
      verdict.set_size_bytes(3 << 20);
    }
  });
  const P2ctlResult dry = P2ctl({"ckpt", "gc", "ffhq", "--dry-run"});
  EXPECT_EQ(dry.out,
            "ID               VERDICT     SIZE  WHY\n"
            "000000400000-e1  keep     3.0 MiB  the newest 3\n"
            "000000100000-e1  go       3.0 MiB  none\n");
  EXPECT_EQ(dry.err, "would delete 1 of 2, 3.0 MiB\n");
  server_.With([](FakeState& s) { EXPECT_TRUE(s.last_collect.validate_only()); });
  EXPECT_EQ(P2ctl({"ckpt", "gc", "ffhq"}).err, "deleted 1 of 2, 3.0 MiB\n");
  server_.With([](FakeState& s) {
    EXPECT_FALSE(s.last_collect.validate_only());
    EXPECT_EQ(s.last_collect.parent(), "jobs/ffhq-abcde");
  });
  EXPECT_EQ(Json::parse(P2ctl({"ckpt", "gc", "ffhq", "-o", "json"}).out)["items"][1]["keep"], false);
}

TEST_F(CheckpointTest, AuditTellsWhoChangedWhatFromWhatToWhat) {
  server_.With([](FakeState& s) {
    const int64_t now = absl::ToUnixSeconds(absl::Now());
    for (const auto& [actor, reason, age] :
         {std::tuple("user:ada", "JOB_UPDATED", 3600), {"p2d", "JOB_STATE", 30}, {"user:bob", "JOB_MOVED", 20}}) {
      v1::Event& event = s.events.emplace_back();
      event.set_actor(actor);
      event.set_reason(reason);
      event.mutable_time()->set_seconds(now - age);
      event.set_resource("jobs/ffhq-abcde");
      event.set_request_id(absl::StrCat("request-of-", actor));
    }
    s.events[0].set_before("priority 0");
    s.events[0].set_after("priority 5");
    s.events[0].set_message("priority 5");
    s.events[2].set_message("to the front of its line");
  });
  const std::string out = P2ctl({"audit", "list"}).out;
  EXPECT_THAT(out, AllOf(HasSubstr("RESOURCE         CHANGE"), Not(HasSubstr("JOB_STATE")),
                         HasSubstr("priority 0 -> priority 5"), HasSubstr("to the front of its line"),
                         HasSubstr("request-of-user:ada")));
  EXPECT_EQ(P2ctl({"audit", "list", "--fields", "who,what,before,after,request", "-o", "csv", "--no-headers"}).out,
            "user:ada,JOB_UPDATED,priority 0,priority 5,request-of-user:ada\n"
            "user:bob,JOB_MOVED,,,request-of-user:bob\n");
  const std::string bob = P2ctl({"audit", "list", "--user", "bob", "--resource", "ffhq"}).out;
  EXPECT_THAT(bob, AllOf(HasSubstr("JOB_MOVED"), Not(HasSubstr("JOB_UPDATED"))));
  server_.With([](FakeState& s) {
    EXPECT_TRUE(s.last_list_events.audit());
    EXPECT_EQ(s.last_list_events.actor(), "user:bob");
    EXPECT_EQ(s.last_list_events.resource(), "jobs/ffhq-abcde");
  });
  EXPECT_THAT(P2ctl({"audit", "list", "--since", "10m"}).out,
              AllOf(HasSubstr("JOB_MOVED"), Not(HasSubstr("JOB_UPDATED"))));
  EXPECT_EQ(P2ctl({"audit", "list", "--since", "then"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"audit", "list", "--resource", "queues/h100"}).exit_code, 0);
  server_.With([](FakeState& s) { EXPECT_EQ(s.last_list_events.resource(), "queues/h100"); });
}

}  // namespace
}  // namespace p2::testing

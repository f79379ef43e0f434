// `p2ctl admin …` against the fake server; restore with a shell script in the place of p2d.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::json;

class AdminTest : public P2ctlTest {
 protected:
  AdminTest() {
    server_.With([](FakeState& s) {
      s.status.set_version("0.1.0");
      s.status.set_data_dir("/var/lib/p2d");
      s.status.set_free_bytes(int64_t{3} << 30);
      s.status.set_commits(1234);
      (*s.status.mutable_jobs())["RUNNING"] = 2;
      (*s.status.mutable_jobs())["QUEUED"] = 1;
      (*s.status.mutable_workers())["READY"] = 1;
      s.backup.set_name("backups/20261128-134500-123");
      s.backup.set_size_bytes(4096);
      s.backup.set_path("/var/lib/p2d/backups/20261128-134500-123");
      (*s.check.mutable_records())["job"] = 5;
      (*s.check.mutable_records())["event"] = 7;
    });
  }
  // A p2ctl with a p2d beside it that prints its arguments and ends so.
  P2ctlResult Restore(int p2d_exit_code) {
    const std::string directory = MakeTempDir();
    fs::copy_file(std::string(P2_BIN_DIR) + "/p2ctl", directory + "/p2ctl");
    std::ofstream(directory + "/p2d") << "#!/bin/sh\necho \"$@\"\nexit " << p2d_exit_code << "\n";
    fs::permissions(directory + "/p2d", fs::perms::owner_all);
    P2ctlProcess process({"admin", "restore", "old/20261128-134500-123", "--data-dir", "new dir"}, {},
                         directory + "/p2ctl");
    return process.Wait();
  }
};

TEST_F(AdminTest, StatusIsATableForPeopleAndTheWholeMessageForPrograms) {
  EXPECT_THAT(P2ctl({"admin", "status"}).out,
              AllOf(HasSubstr("QUEUED 1, RUNNING 2"), HasSubstr("READY 1"), HasSubstr("ok"), HasSubstr("none")));
  server_.With([](FakeState& s) {
    *s.status.mutable_last_backup() = s.backup;
    s.status.set_disk_full(true);
  });
  EXPECT_THAT(P2ctl({"admin", "status", "-o", "wide"}).out,
              AllOf(HasSubstr("20261128-134500-123"), HasSubstr("full"), HasSubstr("/var/lib/p2d")));
  const Json json = Json::parse(P2ctl({"admin", "status", "-o", "json"}).out);
  EXPECT_EQ(json["commits"], "1234");
  EXPECT_EQ(json["jobs"]["RUNNING"], 2);
  EXPECT_EQ(json["lastBackup"]["name"], "backups/20261128-134500-123");
}

TEST_F(AdminTest, BackupShowsWhereItIsAndIsAskedForOnce) {
  EXPECT_THAT(P2ctl({"admin", "backup"}).out, HasSubstr("/var/lib/p2d/backups/20261128-134500-123"));
  EXPECT_EQ(P2ctl({"admin", "backup", "-o", "name", "--request-id", "r-1"}).out, "20261128-134500-123\n");
  server_.With([](FakeState& s) {
    ASSERT_EQ(s.request_ids.size(), 2u);
    EXPECT_THAT(s.request_ids[0], Not(IsEmpty()));
    EXPECT_EQ(s.request_ids[1], "r-1");
  });
}

TEST_F(AdminTest, BackupAndCheckWaitAnHourUnlessTheyAreToldOtherwise) {
  P2ctl({"admin", "backup"});
  server_.With([](FakeState& s) { EXPECT_GT(s.admin_patience, absl::Minutes(59)); });
  P2ctl({"admin", "check", "--timeout", "20s"});
  server_.With([](FakeState& s) { EXPECT_LE(s.admin_patience, absl::Seconds(20)); });
}

TEST_F(AdminTest, CheckOfAWholeStoreEndsWithZero) {
  const P2ctlResult result = P2ctl({"admin", "check"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("whole"), HasSubstr("12")));
}

TEST_F(AdminTest, CheckOfADamagedStoreListsTheFindingsAndEndsWithTwelve) {
  server_.With([](FakeState& s) {
    v1::StoreFinding& finding = *s.check.add_findings();
    finding.set_subject("jobs/a");
    finding.set_message("its spec is missing");
    s.check.set_finding_count(1);
  });
  const P2ctlResult result = P2ctl({"admin", "check"});
  EXPECT_EQ(result.exit_code, 12);
  EXPECT_THAT(result.out, AllOf(HasSubstr("jobs/a"), HasSubstr("its spec is missing"), HasSubstr("DAMAGED")));
  EXPECT_THAT(result.err, HasSubstr("p2ctl admin restore"));
  const P2ctlResult json = P2ctl({"admin", "check", "-o", "json"});
  EXPECT_EQ(json.exit_code, 12);
  EXPECT_EQ(Json::parse(json.out)["findings"][0]["subject"], "jobs/a");
}

TEST_F(AdminTest, RestoreRunsTheServerBesideItAndEndsAsThatDoes) {
  const P2ctlResult done = Restore(0);
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.out, "--restore old/20261128-134500-123 --data-dir new dir\n");
  EXPECT_EQ(Restore(6).exit_code, 6);
  EXPECT_EQ(Restore(70).exit_code, 12);  // Damaged.
  EXPECT_EQ(P2ctl({"admin", "restore", "old"}).exit_code, 2);
}

}  // namespace
}  // namespace p2::testing

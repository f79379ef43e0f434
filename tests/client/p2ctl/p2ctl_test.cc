// The binary as a person or a script meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;
using Json = nlohmann::json;

TEST_F(P2ctlTest, TakesAUniquePrefixOfAJobsId) {
  server_.SetJob(MakeJob("mnist-demo-abcde", v1::Job::RUNNING));
  server_.SetJob(MakeJob("own-256-fghij", v1::Job::RUNNING));
  EXPECT_EQ(P2ctl({"get", "mnist", "-o", "name"}).out, "mnist-demo-abcde\n");
  EXPECT_EQ(P2ctl({"stop", "own", "-o", "name"}).out, "own-256-fghij\n");
  EXPECT_EQ(State("own-256-fghij").state(), v1::Job::CANCELLED);
}

TEST_F(P2ctlTest, ShowsJobsAsATable) {
  server_.SetJob(MakeJob("mnist-demo-abcde", v1::Job::RUNNING, 8100));
  const std::vector<std::string> lines = absl::StrSplit(P2ctl({"list"}).out, '\n');
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(lines[0], StartsWith("ID                STATE    DONE  IMAGES  IMAGES/S    LOSS    ETA  CREATED"));
  EXPECT_THAT(lines[1], StartsWith("mnist-demo-abcde  RUNNING   45%   8,100     112.5  0.0532  1m28s"));
  EXPECT_THAT(lines[1], HasSubstr("2026-11-23 08:54:37"));
  EXPECT_THAT(P2ctl({"list", "--no-headers"}).out, StartsWith("mnist-demo-abcde"));
}

TEST_F(P2ctlTest, ListsAreItemsAndATokenInJson) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING, 8100));
  server_.SetJob(MakeJob("b", v1::Job::QUEUED));
  const Json all = Json::parse(P2ctl({"list", "-o", "json"}).out);
  ASSERT_THAT(all["items"], SizeIs(2));
  EXPECT_EQ(all["nextPageToken"], "");
  EXPECT_EQ(all["items"][0]["name"], "jobs/a");
  EXPECT_EQ(all["items"][0]["progress"]["imagesSeen"], "8100");
  EXPECT_EQ(all["items"][0]["createTime"], "2026-11-23T08:54:37Z");
  EXPECT_EQ(all["items"][0]["ownerVerified"], false);
  const Json first = Json::parse(P2ctl({"list", "-o", "json", "--limit", "1"}).out);
  ASSERT_THAT(first["items"], SizeIs(1));
  const Json rest = Json::parse(P2ctl({"list", "-o", "json", "--page-token", first["nextPageToken"]}).out);
  ASSERT_THAT(rest["items"], SizeIs(1));
  EXPECT_EQ(rest["items"][0]["name"], "jobs/b");
  EXPECT_EQ(Json::parse(P2ctl({"node", "list", "-o", "json"}).out), Json::parse(R"({"items":[],"nextPageToken":""})"));
  EXPECT_EQ(Json::parse(P2ctl({"get", "a", "-o", "json"}).out)["name"], "jobs/a");
}

TEST_F(P2ctlTest, KnowsTheOtherFormats) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING, 8100));
  EXPECT_EQ(P2ctl({"list", "-o", "csv", "--fields", "id,state,images,spec.training.batch"}).out,
            "id,state,images,spec.training.batch\na,RUNNING,8100,32\n");
  EXPECT_EQ(P2ctl({"list", "--fields", "id,created", "-o", "csv", "--no-headers"}).out, "a,2026-11-23T08:54:37Z\n");
  EXPECT_EQ(P2ctl({"list", "-o", "jsonl", "--fields", "name,state"}).out,
            "{\"name\":\"jobs/a\",\"state\":\"RUNNING\"}\n");
  EXPECT_THAT(P2ctl({"get", "a", "-o", "yaml"}).out,
              AllOf(StartsWith("name: jobs/a\n"), HasSubstr("imagesSeen: \"8100\"")));
  EXPECT_EQ(P2ctl({"list"}, {{"P2_OUTPUT", "name"}}).out, "a\n");
  EXPECT_EQ(P2ctl({"list", "-q"}).out, "a\n");
  EXPECT_EQ(P2ctl({"list", "--fields", "no.such"}).exit_code, 2);
}

TEST_F(P2ctlTest, ErrorsAreJsonOnStderrWithOutputJson) {
  const P2ctlResult result = P2ctl({"submit", "bad", "-o", "json"});
  EXPECT_THAT(result.out, IsEmpty());
  const Json error = Json::parse(result.err);
  EXPECT_EQ(error["code"], "INVALID_ARGUMENT");
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("training.batch"));
  EXPECT_EQ(error["reason"], "INVALID_REQUEST");
  const auto is_bad_request = [](const Json& detail) { return detail.contains("fieldViolations"); };
  const auto detail = std::find_if(error["details"].begin(), error["details"].end(), is_bad_request);
  ASSERT_NE(detail, error["details"].end());
  EXPECT_EQ((*detail)["fieldViolations"][0]["field"], "training.batch");
  EXPECT_EQ(Json::parse(P2ctl({"lst", "-o", "json"}).err)["code"], "INVALID_ARGUMENT");
}

TEST_F(P2ctlTest, FlagBeatsEnvironmentAndEnvironmentBeatsLocal) {
  const P2ctlResult result = P2ctl({"list", "--addr", server_.address()}, {{"P2_ADDR", "127.0.0.1:1"}});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const std::string state = MakeTempDir();
  std::filesystem::create_directories(state + "/p2");
  std::ifstream stat("/proc/self/stat");
  const std::vector<std::string> fields = absl::StrSplit(std::string((std::istreambuf_iterator<char>(stat)), {}), ' ');
  const Json local = {{"pid", getpid()},
                      {"processStarted", fields[21]},
                      {"address", server_.address()},
                      {"httpAddress", ""},
                      {"workerHttpAddress", ""},
                      {"serverPid", 0},
                      {"workerPid", 0},
                      {"dataDir", ""},
                      {"roots", Json::array()}};
  std::ofstream(state + "/p2/local.json") << local;
  EXPECT_EQ(P2ctl({"list"}, {{"P2_ADDR", ""}, {"XDG_STATE_HOME", state}}).exit_code, 0);
}

TEST_F(P2ctlTest, WaitSeesTheEndThroughARestartOfTheServer) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  const auto wait = Start({"wait", "a", "--follow"});
  ASSERT_TRUE(wait->ReadUntil("a RUNNING", true));
  server_.Stop();
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED));
  server_.Start();
  EXPECT_EQ(wait->Wait().exit_code, 0);
}

TEST_F(P2ctlTest, WaitsForPositionsAndValues) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING, 8100));
  EXPECT_EQ(P2ctl({"wait", "a", "--for", "images=8k"}).exit_code, 0);
  server_.With([](FakeState& s) { (*s.metrics["jobs/a"].emplace_back().mutable_values())["kid"] = 0.02; });
  EXPECT_EQ(P2ctl({"wait", "a", "--for", "metric:kid<=0.03"}).exit_code, 0);
  EXPECT_EQ(P2ctl({"wait", "a", "--for", "metric:kid<0.01", "--timeout", "100ms"}).exit_code, 8);
  server_.SetJob(MakeJob("b", v1::Job::SUCCEEDED, 18000));
  EXPECT_EQ(P2ctl({"wait", "a", "b", "--for", "SUCCEEDED", "--any"}).exit_code, 0);
}

TEST_F(P2ctlTest, LogsShowRanksAndFilter) {
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED));
  server_.With([](FakeState& s) {
    for (const auto& [rank, line] : {std::pair{0, "loading"}, {1, "error: x"}, {0, "done"}}) {
      v1::LogEntry& entry = s.logs["jobs/a"].emplace_back();
      entry.set_rank(rank);
      entry.set_attempt(1);
      entry.set_offset(static_cast<int64_t>(s.logs["jobs/a"].size()));
      entry.set_line(line);
    }
  });
  EXPECT_EQ(P2ctl({"logs", "a"}).out, "rank 0  loading\nrank 1  error: x\nrank 0  done\n");
  EXPECT_EQ(P2ctl({"logs", "a", "--rank", "0"}).out, "loading\ndone\n");
  EXPECT_EQ(P2ctl({"logs", "a", "--grep", "err|done"}).out, "rank 1  error: x\nrank 0  done\n");
  EXPECT_EQ(P2ctl({"logs", "a", "--grep", "("}).exit_code, 2);
  const P2ctlResult no_rank = P2ctl({"logs", "a", "--rank", "2"});
  EXPECT_EQ(no_rank.exit_code, 2);
  EXPECT_THAT(no_rank.err, HasSubstr("job a has ranks 0 to 1"));
}

TEST_F(P2ctlTest, LogsAreRenderedForPeopleAndRawForPrograms) {
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED));
  const auto json = [](const std::string& time, const std::string& level, const std::string& message) {
    return absl::StrCat(R"({"ts":"2026-11-25T)", time, R"(.5Z","level":")", level,
                        R"(","component":"p2-trainer","job":"a","rank":"0","msg":")", message, "\"}");
  };
  const std::string info = json("12:13:07", "info", "1024 images: loss 0.5"),
                    warning = json("12:14:00", "warning", "slow disk");
  server_.With([&](FakeState& s) {
    for (const std::string& line : {info, warning, std::string("terminate called")}) {
      v1::LogEntry& entry = s.logs["jobs/a"].emplace_back();
      entry.set_attempt(1);
      entry.set_offset(static_cast<int64_t>(s.logs["jobs/a"].size()));
      entry.set_line(line);
    }
  });
  EXPECT_EQ(
      P2ctl({"logs", "a"}).out,
      "12:13:07 info rank 0  1024 images: loss 0.5\n12:14:00 warning rank 0  slow disk\nrank 0  terminate called\n");
  EXPECT_THAT(P2ctl({"logs", "a", "-o", "wide", "--attempt", "all"}).out,
              StartsWith("2026-11-25 12:13:07 info attempt 1 rank 0  1024 images"));
  EXPECT_EQ(P2ctl({"logs", "a", "-o", "name"}).out, absl::StrCat(info, "\n", warning, "\nterminate called\n"));
  EXPECT_EQ(Json::parse(P2ctl({"logs", "a", "-o", "jsonl", "--grep", "slow"}).out)["line"], warning);
  EXPECT_THAT(P2ctl({"logs", "a", "-o", "csv"}).out, StartsWith("attempt,rank,line\n1,0,\"{"));
  const std::string late = "12:14:00 warning rank 0  slow disk\nrank 0  terminate called\n";
  EXPECT_EQ(P2ctl({"logs", "a", "--level", "warning"}).out, late);
  EXPECT_EQ(P2ctl({"logs", "a", "--since", "2026-11-25T12:13:30Z"}).out, late);
  EXPECT_EQ(P2ctl({"logs", "a", "--level", "loud"}).exit_code, 2);
  EXPECT_EQ(P2ctl({"logs", "a", "--since", "then"}).exit_code, 2);
}

TEST_F(P2ctlTest, DescribeShowsTheTellingLinesOfAFailedJob) {
  v1::Job job = MakeJob("a", v1::Job::FAILED);
  job.set_reason(v1::RANK_DIED);
  const auto line = [](const std::string& level, const std::string& message) {
    return absl::StrCat(R"({"ts":"2026-11-25T12:13:07.5Z","level":")", level, R"(","component":"p2-trainer","msg":")",
                        message, "\"}\n");
  };
  job.set_message(
      absl::StrCat("rank 0 died\n", "ut off\"}\n", line("info", "all is well"), line("error", "no memory")));
  v1::Attempt& first = *job.add_attempts();
  first.set_number(1);
  first.set_outcome(v1::Attempt::FAILED);
  first.set_message("rank 1 died\n" + line("info", "only this"));
  v1::Attempt& second = *job.add_attempts();
  second.set_number(2);
  second.set_outcome(v1::Attempt::FAILED);
  second.set_message("rank 0 died\n" + line("info", "all is well"));
  server_.SetJob(job);
  const std::string out = P2ctl({"describe", "a"}).out;
  EXPECT_THAT(out, HasSubstr("State:        FAILED (RANK_DIED): rank 0 died\nProgress"));
  EXPECT_THAT(out, ::testing::EndsWith("\nLast errors:\n  attempt 1: rank 1 died\n    12:13:07 info  only this\n"
                                       "  attempt 2: rank 0 died\n    12:13:07 error  no memory\n"));
  EXPECT_THAT(P2ctl({"wait", "a"}).err, ::testing::Not(HasSubstr("no memory")));
}

TEST_F(P2ctlTest, TellsItsVersionAndItsHelpWithoutAServer) {
  server_.Stop();
  const P2ctlResult version = P2ctl({"version"});
  EXPECT_EQ(version.exit_code, 7);
  EXPECT_THAT(version.out, HasSubstr("p2ctl"));
  EXPECT_THAT(P2ctl({"--version"}).out, StartsWith("p2ctl 0."));
  const P2ctlResult bare = P2ctl({});
  EXPECT_EQ(bare.exit_code, 2);
  EXPECT_THAT(bare.err, AllOf(HasSubstr("submit"), HasSubstr("Exit codes")));
}

TEST_F(P2ctlTest, NumbersBelowNoughtAreRefusedShortly) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"list", "--limit", "-1"}, {"logs", "a", "--tail", "-1"}, {"events", "--tail", "-1"}}) {
    const P2ctlResult result = P2ctl(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("is -1; must be 0 or more"));
    EXPECT_LT(result.err.size(), 150u);
  }
}

TEST_F(P2ctlTest, ListSinceHasNoLimitUnlessOneIsGiven) {
  for (int i = 0; i < 300; ++i) {
    v1::Job job = MakeJob(absl::StrCat("a", 100 + i), v1::Job::RUNNING);
    if (i < 230) job.mutable_create_time()->set_seconds(1795600000);
    server_.SetJob(job);
  }
  const std::vector<std::string> list = {"list", "--since", "2026-11-25T00:00:00Z", "-o", "name"};
  const std::vector<std::string> all = absl::StrSplit(P2ctl(list).out, '\n', absl::SkipEmpty());
  ASSERT_THAT(all, SizeIs(230));
  EXPECT_EQ(all.back(), "a329");
  EXPECT_EQ(P2ctl({"list", "--since", "2026-11-25T00:00:00Z", "--limit", "2", "-o", "name"}).out, "a100\na101\n");
  EXPECT_EQ(P2ctl({"list", "--since", "2026-11-26T00:00:00Z", "-o", "name"}).out, "");
}

TEST_F(P2ctlTest, ControlVerbsChangeJobs) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  server_.SetJob(MakeJob("b", v1::Job::SUCCEEDED));
  EXPECT_EQ(P2ctl({"pause", "a"}).exit_code, 0);
  EXPECT_EQ(State("a").state(), v1::Job::PAUSED);
  EXPECT_EQ(P2ctl({"resume", "a"}).exit_code, 0);
  EXPECT_EQ(State("a").state(), v1::Job::QUEUED);
  EXPECT_EQ(P2ctl({"kill", "a", "-o", "name"}).out, "a\n");
  EXPECT_EQ(P2ctl({"delete", "b", "-o", "name"}).out, "b\n");
  EXPECT_EQ(P2ctl({"get", "b"}).exit_code, 3);
  EXPECT_EQ(P2ctl({"stop"}).exit_code, 2);
}

TEST_F(P2ctlTest, DescribeTellsAllAboutAJob) {
  v1::Job job = MakeJob("a", v1::Job::QUEUED, 8100);
  job.set_reason(v1::BACKOFF);
  job.set_message("waits 2 s after RANK_DIED");
  v1::Attempt& attempt = *job.add_attempts();
  attempt.set_number(1);
  attempt.set_outcome(v1::Attempt::FAILED);
  attempt.set_reason(v1::RANK_DIED);
  attempt.set_exit_code(137);
  attempt.set_message("rank 1 was killed\nlast line of its log");
  v1::RankPlacement& rank = *attempt.add_ranks();
  rank.set_worker("workers/w0");
  rank.set_slot("cpu:0");
  server_.SetJob(job);
  server_.With([](FakeState& s) {
    v1::Checkpoint& checkpoint = s.checkpoints["jobs/a"].emplace_back();
    checkpoint.set_name("jobs/a/checkpoints/000000008000-e1");
    checkpoint.set_root("local");
    v1::StorageRoot& root = s.roots.emplace_back();
    root.set_name("local");
    root.add_workers("workers/w0");
    v1::Event& event = s.events.emplace_back();
    event.set_resource("jobs/a");
    event.set_reason("ATTEMPT_ENDED");
  });
  const std::string out = P2ctl({"describe", "a"}).out;
  for (const char* part :
       {"BACKOFF", "waits 2 s after RANK_DIED", "8,100 of 18,000", "0:w0/cpu:0", "137", "000000008000-e1",
        "seen by worker w0 alone", "training.batch", "preset mnist-demo", "ATTEMPT_ENDED", "last line of its log"}) {
    EXPECT_THAT(out, HasSubstr(part));
  }
  const Json json = Json::parse(P2ctl({"describe", "a", "-o", "json"}).out);
  EXPECT_EQ(json["job"]["reason"], "BACKOFF");
  EXPECT_THAT(json["checkpoints"], SizeIs(1));
}

TEST_F(P2ctlTest, SamplesGetDownloadsTheNewest) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  for (const std::string id : {"samples-1.png", "samples-2.png"}) {
    v1::Artifact artifact;
    artifact.set_name(absl::StrCat("jobs/a/artifacts/", id));
    artifact.set_kind("samples");
    artifact.set_size_bytes(static_cast<int64_t>(id.size()));
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(reinterpret_cast<const unsigned char*>(id.data()), id.size(), digest);
    artifact.set_sha256(absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), sizeof(digest))));
    server_.With([&](FakeState& s) { s.artifacts[artifact.name()] = {artifact, id}; });
  }
  const std::string directory = MakeTempDir();
  EXPECT_EQ(P2ctl({"samples", "get", "a", "--out", directory}).out, directory + "/samples-2.png\n");
  EXPECT_EQ(P2ctl({"samples", "get", "a", "--all", "--out", directory + "/all/"}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::exists(directory + "/all/samples-1.png"));
  EXPECT_THAT(P2ctl({"artifact", "list", "a", "-o", "name"}).out, HasSubstr("samples-1.png\nsamples-2.png\n"));
}

TEST_F(P2ctlTest, NodesCanBeCordoned) {
  server_.With([](FakeState& s) { s.workers.emplace_back().set_name("workers/w0"); });
  EXPECT_THAT(P2ctl({"node", "cordon", "w0", "--reason", "new disk"}).out, HasSubstr("CORDONED"));
  EXPECT_EQ(P2ctl({"node", "cordon", "w9"}).exit_code, 3);
}

TEST_F(P2ctlTest, EventsFollowWithoutAGap) {
  const auto add = [this](int64_t revision) {
    server_.With([&](FakeState& s) {
      v1::Event& event = s.events.emplace_back();
      event.set_revision(revision);
      event.set_reason(absl::StrCat("EVENT_", revision));
    });
  };
  add(1);
  const auto events = Start({"events", "-f", "-o", "jsonl"});
  ASSERT_TRUE(events->ReadUntil("EVENT_1"));
  server_.Stop();
  add(2);
  server_.Start();
  ASSERT_TRUE(events->ReadUntil("EVENT_2"));
  events->Signal(SIGINT);
  const P2ctlResult result = events->Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(std::vector<std::string>(absl::StrSplit(result.out, '\n')), SizeIs(3));
}

TEST_F(P2ctlTest, RootInitIsHarmlessTwice) {
  const std::string directory = MakeTempDir() + "/root";
  const Json first = Json::parse(P2ctl({"root", "init", directory, "-o", "json"}).out);
  const Json second = Json::parse(P2ctl({"root", "init", directory, "-o", "json"}).out);
  EXPECT_EQ(first["id"], second["id"]);
}

TEST_F(P2ctlTest, EveryVerbHasHelpWithAnExample) {
  const absl::string_view verbs =
      "local, submit, list, get, describe, wait, logs, metrics, stop, kill, pause, resume, delete, "
      "ckpt list, samples list, samples get, artifact list, artifact get, dataset prepare, "
      "dataset register, dataset list, root init, root list, preset list, preset show, node list, "
      "node cordon, node uncordon, node drain, why, fork, clone, extend, update, queue list, "
      "queue describe, queue create, queue update, queue delete, queue move, quota list, quota set, "
      "quota weight, ckpt pin, ckpt unpin, ckpt delete, ckpt gc, audit list, events, "
      "admin status, admin backup, admin check, admin restore, version";
  for (absl::string_view verb : absl::StrSplit(verbs, ", ")) {
    std::vector<std::string> arguments = absl::StrSplit(verb, ' ');
    arguments.push_back("--help");
    const P2ctlResult result = P2ctl(arguments);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, HasSubstr(absl::StrCat("Examples:\n  p2ctl ", verb)));
  }
}

TEST_F(P2ctlTest, OutputThatCannotBeWrittenIsAnError) {
  EXPECT_EQ(system("'" P2_BIN_DIR "/p2ctl' version --client > /dev/full 2> /dev/null"), 1 << 8);
}

}  // namespace
}  // namespace p2::testing

// Backup, restore, check and status of a real p2d, with a worker that runs through all of it.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/v1/admin_service.grpc.pb.h"
#include "p2/v1/checkpoint_service.grpc.pb.h"
#include "server/offline.h"
#include "server/store/restore.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

namespace fs = std::filesystem;
using p2::v1::AdminService;
using p2::v1::ConnectResponse;
using p2::v1::Job;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::StartsWith;

// What p2d sent to a worker.
class Inbox {
 public:
  FakeWorker::OnMessage Taker() {
    return [this](FakeWorker&, const ConnectResponse& message) {
      absl::MutexLock lock(&mutex_);
      messages_.push_back(message);
    };
  }
  // The first one that `wanted` takes, within 20 s; else an empty one.
  ConnectResponse Await(const std::function<bool(const ConnectResponse&)>& wanted) {
    ConnectResponse found;
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      for (const ConnectResponse& message : messages_) {
        if (!wanted(message)) continue;
        found = message;
        return true;
      }
      return false;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(20));
    return found;
  }

 private:
  absl::Mutex mutex_;
  std::vector<ConnectResponse> messages_ ABSL_GUARDED_BY(mutex_);
};

class AdminServiceTest : public ServerFixture {
 protected:
  AdminServiceTest() { free_bytes_ = int64_t{1} << 40; }

  absl::StatusOr<p2::v1::Backup> Backup(const std::string& request_id = "") {
    p2::v1::CreateBackupRequest request;
    request.set_request_id(request_id);
    return Call(*AdminService::NewStub(channel_), &AdminService::Stub::CreateBackup, request);
  }
  absl::StatusOr<p2::v1::Status> Status() {
    return Call(*AdminService::NewStub(channel_), &AdminService::Stub::GetStatus, p2::v1::GetStatusRequest());
  }
  absl::StatusOr<p2::v1::CheckStoreResponse> Check() {
    return Call(*AdminService::NewStub(channel_), &AdminService::Stub::CheckStore, p2::v1::CheckStoreRequest());
  }
  absl::StatusOr<p2::v1::ListCheckpointsResponse> Checkpoints(const std::string& job) {
    const auto stub = p2::v1::CheckpointService::NewStub(channel_);
    p2::v1::ListCheckpointsRequest request;
    request.set_parent(job);
    return Call(*stub, &p2::v1::CheckpointService::Stub::ListCheckpoints, request);
  }

  // --- A worker's part, of the job that it was given last. ---
  p2::v1::SpoolRecord Record(const p2::v1::Prepare& attempt) const {
    p2::v1::SpoolRecord record;
    record.set_job(attempt.job());
    record.set_epoch(attempt.epoch());
    record.set_attempt(attempt.attempt());
    return record;
  }
  static void Send(FakeWorker& worker, uint64_t sequence, p2::v1::SpoolRecord record) {
    p2::v1::ConnectRequest message;
    record.set_sequence(sequence);
    *message.mutable_spool() = std::move(record);
    worker.Send(message);
  }
  p2::v1::SpoolRecord Checkpoint(const p2::v1::Prepare& attempt, int images_seen) const {
    p2::v1::SpoolRecord record = Record(attempt);
    record.mutable_trainer_event()->set_sequence(1);
    p2::trainer::v1::CheckpointSaved& saved = *record.mutable_trainer_event()->mutable_checkpoint();
    saved.set_images_seen(images_seen);
    saved.set_path(absl::StrCat("jobs/", attempt.job(), "/checkpoints/000000000", images_seen, "-e1"));
    saved.set_manifest_sha256(std::string(64, 'b'));
    return record;
  }
  // Takes the job's gang and reports it as started: spool record 1.
  p2::v1::Prepare StartGang(FakeWorker& worker, Inbox& inbox) {
    const p2::v1::Prepare prepare =
        inbox.Await([](const ConnectResponse& message) { return message.has_prepare(); }).prepare();
    p2::v1::ConnectRequest reply;
    reply.mutable_prepare_reply()->set_job(prepare.job());
    reply.mutable_prepare_reply()->set_epoch(prepare.epoch());
    reply.mutable_prepare_reply()->set_ok(true);
    reply.mutable_prepare_reply()->set_master_address("127.0.0.1");
    reply.mutable_prepare_reply()->set_master_port(4000);
    worker.Send(reply);
    inbox.Await([](const ConnectResponse& message) { return message.has_start(); });
    p2::v1::SpoolRecord record = Record(prepare);
    record.mutable_started();
    Send(worker, 1, record);
    Acked(inbox, 1);
    return prepare;
  }
  static void Acked(Inbox& inbox, uint64_t sequence) {
    const auto ack = inbox.Await([&](const ConnectResponse& message) {
      return message.has_spool_ack() && message.spool_ack().sequence() >= sequence;
    });
    ASSERT_TRUE(ack.has_spool_ack()) << "record " << sequence << " was not taken";
  }
};

TEST_F(AdminServiceTest, WhatRanBeforeARestoreIsKilledAndItsReportsAreRefused) {
  std::string name;
  p2::v1::Prepare before;
  absl::StatusOr<p2::v1::Backup> backup;
  {
    Inbox inbox;
    const auto worker = Prepare(inbox.Taker());
    const auto created = Create(TinyRequest(/*paused=*/false));
    ASSERT_TRUE(created.ok()) << created.status();
    name = created->job().name();
    before = StartGang(*worker, inbox);
    backup = Backup();
    ASSERT_TRUE(backup.ok()) << backup.status();
    // After the backup: acknowledged, so the worker's spool drops them, and lost to the restored store.
    Send(*worker, 2, Checkpoint(before, 400));
    Acked(inbox, 2);
    ASSERT_THAT(Checkpoints(name)->checkpoints(), SizeIs(1));
    StopServer();
  }

  const std::string restored_dir = directory_.path() + "/restored";
  const auto restored = store::RestoreBackup(backup->path(), restored_dir);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->live_jobs, 1);
  options_.data_dir = restored_dir;
  StartServer();
  ASSERT_TRUE(Get(name).ok());

  // The worker still runs the attempt.
  p2::v1::ConnectRequest hello = HelloMessage();
  hello.mutable_hello()->set_spool_first(3);
  hello.mutable_hello()->set_spool_last(3);
  p2::v1::RunningAttempt& running = *hello.mutable_hello()->add_running();
  running.set_job(before.job());
  running.set_epoch(before.epoch());
  running.set_attempt(before.attempt());
  running.add_ranks(0);
  Inbox inbox;
  FakeWorker worker(channel_, hello, inbox.Taker());
  ASSERT_TRUE(worker.welcomed());
  const p2::v1::StopAttempt stop =
      inbox.Await([](const ConnectResponse& message) { return message.has_stop(); }).stop();
  EXPECT_EQ(stop.job(), before.job());
  EXPECT_EQ(stop.epoch(), before.epoch());
  EXPECT_EQ(stop.mode(), p2::v1::StopAttempt::KILL);
  Send(worker, 3, Checkpoint(before, 800));
  Acked(inbox, 3);  // Taken from the spool, without effect.
  EXPECT_THAT(Checkpoints(name)->checkpoints(), IsEmpty());
  p2::v1::SpoolRecord ended = Record(before);
  ended.mutable_ended()->add_ranks()->set_exit_code(137);
  Send(worker, 4, ended);
  // It runs again, at an epoch that nothing before the restore had.
  const p2::v1::Prepare after =
      inbox.Await([](const ConnectResponse& message) { return message.has_prepare(); }).prepare();
  EXPECT_EQ(after.job(), before.job());
  EXPECT_GT(after.epoch(), store::kRestoreEpochs);
  EXPECT_THAT(Check()->findings(), IsEmpty());
  StopServer();
}

TEST_F(AdminServiceTest, ABackupIsMadeOnceForARequestAndStatusShowsTheLastOne) {
  EXPECT_FALSE(Status()->has_last_backup());
  const auto worker = Prepare();
  ASSERT_TRUE(Create(TinyRequest()).ok());
  const auto backup = Backup("r-1");
  ASSERT_TRUE(backup.ok()) << backup.status();
  EXPECT_THAT(backup->path(), StartsWith(options_.data_dir + "/backups/"));
  EXPECT_GT(backup->size_bytes(), 0);
  EXPECT_EQ(Backup("r-1")->name(), backup->name());

  const auto status = Status();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->last_backup().name(), backup->name());
  EXPECT_EQ(status->last_backup().commits(), backup->commits());
  EXPECT_GE(status->last_backup().verify_time().seconds(), status->start_time().seconds());
  EXPECT_THAT(status->jobs(), ElementsAre(Pair("PAUSED", 1)));
  EXPECT_THAT(status->workers(), ElementsAre(Pair("READY", 1)));
  EXPECT_EQ(status->free_bytes(), int64_t{1} << 40);
  EXPECT_FALSE(status->disk_full());
  EXPECT_GT(status->database_bytes(), 0);
  EXPECT_GE(status->commits(), backup->commits());
  EXPECT_EQ(status->schema_version(), 2);
  StopServer();
}

TEST_F(AdminServiceTest, ABackupThatWouldFillTheDiskIsRefusedWithTheReason) {
  free_bytes_ = 60;
  const absl::Status status = Backup().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonSeen(status), "DISK_FULL");
}

TEST_F(AdminServiceTest, CheckCountsWhatAServerHasWrittenAndFindsItWhole) {
  const auto worker = Prepare();
  ASSERT_TRUE(Create(TinyRequest()).ok());
  const auto check = Check();
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_THAT(check->findings(), IsEmpty());
  EXPECT_EQ(check->finding_count(), 0);
  EXPECT_EQ(check->records().at("job"), 1);
  EXPECT_EQ(check->records().at("worker"), 1);
  EXPECT_EQ(check->records().at("dataset"), 1);
  EXPECT_GT(check->records().at("event"), 0);
  StopServer();
}

TEST_F(AdminServiceTest, ACheckWithoutServerNeedsTheDirectoryForItself) {
  const absl::Status in_use = CheckOffline(options_).status();
  EXPECT_EQ(in_use.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(in_use.message(), HasSubstr("in use"));
  StopServer();
  const auto check = CheckOffline(options_);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_TRUE(check->whole) << check->text;
  EXPECT_THAT(check->text, HasSubstr("whole"));
  options_.data_dir = directory_.path() + "/none";
  EXPECT_EQ(CheckOffline(options_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(options_.data_dir));
}

TEST_F(AdminServiceTest, ARestoreSaysWhatItDid) {
  const auto backup = Backup();
  ASSERT_TRUE(backup.ok()) << backup.status();
  options_.restore = backup->path();
  EXPECT_EQ(RestoreOffline(options_).status().code(), absl::StatusCode::kFailedPrecondition);  // The live directory.
  options_.data_dir = directory_.path() + "/restored";
  const auto said = RestoreOffline(options_);
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_THAT(*said, HasSubstr("0 live jobs"));
  StopServer();
  StartServer();  // On what was restored.
  EXPECT_EQ(Status()->data_dir(), options_.data_dir);
}

}  // namespace
}  // namespace p2::server

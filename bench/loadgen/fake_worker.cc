#include "bench/loadgen/fake_worker.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/loadgen/unary.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "p2/client.h"

namespace p2::loadgen {
namespace {

constexpr int kProtocolVersion = 1;

void SetRoot(p2::v1::StorageRoot& root) {
  root.set_name(kRootName);
  root.set_id(kRootId);
  root.set_path("/nowhere");
  root.set_free_bytes(int64_t{1} << 40);
  root.set_total_bytes(int64_t{1} << 40);
}

p2::v1::ConnectRequest HelloOf(const FakeWorkerOptions& options) {
  p2::v1::ConnectRequest message;
  p2::v1::Hello& hello = *message.mutable_hello();
  hello.set_worker(options.name);
  hello.set_instance(absl::StrCat(options.name, "-", absl::ToUnixNanos(absl::Now())));
  hello.set_protocol_version(kProtocolVersion);
  hello.set_version(std::string(ClientVersion()));
  hello.set_host("localhost");
  hello.set_data_address("127.0.0.1");
  hello.set_spool_id(hello.instance());
  hello.set_spool_first(1);
  for (int i = 0; i < options.slots; ++i) {
    p2::v1::Slot& slot = *hello.add_slots();
    slot.set_id(absl::StrCat("cpu:", i));
    slot.set_kind("cpu");
    slot.set_device_name("fake");
    slot.set_threads(1);
  }
  SetRoot(*hello.add_roots());
  return message;
}

bool HasRankZero(const p2::v1::Prepare& prepare) {
  for (const p2::v1::PlacedRank& rank : prepare.ranks()) {
    if (rank.rank() == 0) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FakeWorker>> FakeWorker::Connect(const FakeWorkerOptions& options, Gang& gang) {
  P2_ASSIGN_OR_RETURN(const auto channel, loadgen::Connect(options.address));
  std::unique_ptr<FakeWorker> worker(new FakeWorker(gang));
  worker->stub_ = p2::v1::WorkerService::NewStub(channel);
  worker->stream_ = worker->stub_->Connect(&worker->context_);
  p2::v1::ConnectResponse message;
  worker->stream_->Write(HelloOf(options));
  if (!worker->stream_->Read(&message) || !message.has_welcome()) {
    const absl::Status status = FromGrpcStatus(worker->stream_->Finish());
    worker->stream_ = nullptr;
    return status.ok() ? absl::InternalError("p2d did not answer Hello with Welcome") : status;
  }
  worker->reader_ = std::thread([raw = worker.get()] { raw->Read(); });
  const absl::Duration interval = absl::Milliseconds(message.welcome().heartbeat_interval_ms());
  worker->heart_ = std::thread([raw = worker.get(), interval] { raw->Beat(interval); });
  return worker;
}

FakeWorker::~FakeWorker() {
  stop_.Ring();
  if (heart_.joinable()) heart_.join();
  context_.TryCancel();
  if (reader_.joinable()) reader_.join();
  if (stream_ != nullptr) stream_->Finish();
}

void FakeWorker::Write(const p2::v1::ConnectRequest& message) {
  if (!stream_->Write(message)) broken_ = true;
}

void FakeWorker::Send(const p2::v1::ConnectRequest& message) {
  absl::MutexLock lock(&mutex_);
  Write(message);
}

uint64_t FakeWorker::Spool(p2::v1::SpoolRecord record) {
  p2::v1::ConnectRequest message;
  *message.mutable_spool() = std::move(record);
  absl::MutexLock lock(&mutex_);
  message.mutable_spool()->set_sequence(++sequence_);
  Write(message);
  return sequence_;
}

p2::v1::SpoolRecord FakeWorker::RecordOf(const p2::v1::Start& start) const {
  p2::v1::SpoolRecord record;
  record.set_job(start.job());
  record.set_epoch(start.epoch());
  record.set_attempt(start.launch().attempt());
  return record;
}

p2::v1::SpoolRecord FakeWorker::EventOf(const p2::v1::Start& start) {
  p2::v1::SpoolRecord record = RecordOf(start);
  p2::trainer::v1::TrainerEvent& event = *record.mutable_trainer_event();
  event.set_wall_time_ns(absl::ToUnixNanos(absl::Now()));
  absl::MutexLock lock(&mutex_);
  event.set_sequence(++trainer_sequence_[start.job()]);
  return record;
}

std::vector<p2::v1::PlacedRank> FakeWorker::RanksOf(const p2::v1::Start& start) {
  absl::MutexLock lock(&mutex_);
  const auto& ranks = prepared_[start.job()].ranks();
  return {ranks.begin(), ranks.end()};
}

void FakeWorker::Finish(const p2::v1::Start& start) {
  p2::v1::Prepare prepared;
  {
    absl::MutexLock lock(&mutex_);
    prepared = std::move(prepared_[start.job()]);
    prepared_.erase(start.job());
  }
  if (HasRankZero(prepared)) {
    p2::v1::SpoolRecord record = EventOf(start);
    p2::trainer::v1::Finished& finished = *record.mutable_trainer_event()->mutable_finished();
    finished.set_outcome(p2::trainer::v1::Finished::DONE);
    finished.set_images_seen(start.launch().spec().training().images());
    Spool(std::move(record));
  }
  p2::v1::SpoolRecord record = RecordOf(start);
  for (const p2::v1::PlacedRank& rank : prepared.ranks()) record.mutable_ended()->add_ranks()->set_rank(rank.rank());
  Spool(std::move(record));
  absl::MutexLock lock(&mutex_);
  trainer_sequence_.erase(start.job());
}

void FakeWorker::OnPrepare(const p2::v1::Prepare& prepare) {
  p2::v1::ConnectRequest message;
  p2::v1::PrepareReply& reply = *message.mutable_prepare_reply();
  reply.set_job(prepare.job());
  reply.set_epoch(prepare.epoch());
  reply.set_ok(true);
  if (HasRankZero(prepare)) {
    reply.set_master_address("127.0.0.1");
    reply.set_master_port(29500);
  }
  absl::MutexLock lock(&mutex_);
  prepared_[prepare.job()] = prepare;
  Write(message);
}

void FakeWorker::Read() {
  p2::v1::ConnectResponse message;
  while (stream_->Read(&message)) {
    if (message.has_prepare()) OnPrepare(message.prepare());
    if (message.has_start()) {
      p2::v1::SpoolRecord record = RecordOf(message.start());
      record.mutable_started();
      Spool(std::move(record));
      gang_.OnStart(*this, message.start());
    }
    if (message.has_spool_ack()) gang_.OnAck(message.spool_ack().sequence());
  }
  broken_ = true;
  gang_.OnEnd();
}

void FakeWorker::Beat(absl::Duration interval) {
  while (!stop_.WaitFor(interval / 2)) {
    p2::v1::ConnectRequest message;
    SetRoot(*message.mutable_heartbeat()->add_roots());
    Send(message);
  }
}

}  // namespace p2::loadgen

#include "server/rpc/job_views.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/wire_format_lite.h"
#include "server/rpc/convert.h"

namespace p2::rpc {
namespace {

constexpr size_t kSpecsKept = 64;

}  // namespace

absl::StatusOr<std::shared_ptr<const JobViews::Specs>> JobViews::SpecsOf(const scheduler::JobRecord& record) const {
  std::string key = absl::StrCat(record.details->spec_sha256, " ", record.details->origins_sha256);
  {
    absl::MutexLock lock(&mutex_);
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
  }
  auto specs = std::make_shared<Specs>();
  P2_ASSIGN_OR_RETURN(const std::string spec, store_.GetSpec(record.details->spec_sha256));
  bool parsed = specs->message.mutable_spec()->ParseFromString(spec);
  if (!record.details->origins_sha256.empty()) {
    P2_ASSIGN_OR_RETURN(const std::string bytes, store_.GetSpec(record.details->origins_sha256));
    p2::v1::Job origins;
    parsed = parsed && origins.ParseFromString(bytes);
    specs->message.mutable_spec_origins()->swap(*origins.mutable_spec_origins());
  }
  if (!parsed) return absl::DataLossError(absl::StrCat("spec of job ", record.id, " cannot be parsed"));
  specs->bytes = grpc::Slice(specs->message.SerializeAsString());
  absl::MutexLock lock(&mutex_);
  if (known_.size() >= kSpecsKept) known_.clear();
  known_.emplace(std::move(key), specs);
  return std::shared_ptr<const Specs>(std::move(specs));
}

absl::StatusOr<p2::v1::Job> JobViews::View(const scheduler::JobRecord& record) const {
  P2_ASSIGN_OR_RETURN(const std::shared_ptr<const Specs> specs, SpecsOf(record));
  p2::v1::Job job = ToProto(record);
  job.MergeFrom(specs->message);
  return job;
}

absl::StatusOr<grpc::ByteBuffer> JobViews::Embed(absl::string_view before, int number,
                                                 absl::Span<const scheduler::JobPtr> jobs) const {
  using google::protobuf::internal::WireFormatLite;
  std::vector<grpc::Slice> slices;
  std::string own(before);
  for (const scheduler::JobPtr& record : jobs) {
    P2_ASSIGN_OR_RETURN(const std::shared_ptr<const Specs> specs, SpecsOf(*record));
    const p2::v1::Job job = ToProto(*record);
    // Fields of a message may stand in any order: those that are the job's own, then those of its spec.
    const size_t own_size = job.ByteSizeLong();
    {
      google::protobuf::io::StringOutputStream stream(&own);
      google::protobuf::io::CodedOutputStream coded(&stream);
      coded.WriteTag(WireFormatLite::MakeTag(number, WireFormatLite::WIRETYPE_LENGTH_DELIMITED));
      coded.WriteVarint32(static_cast<uint32_t>(own_size + specs->bytes.size()));
      job.SerializeWithCachedSizes(&coded);
    }
    slices.emplace_back(own);
    slices.push_back(specs->bytes);
    own.clear();
  }
  if (!own.empty()) slices.emplace_back(own);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace p2::rpc

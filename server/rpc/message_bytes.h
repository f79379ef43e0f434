// Messages of methods that take or give bytes: those whose answers are mostly made already.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/error_reason.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/support/byte_buffer.h"

namespace p2::rpc {

template <typename Message>
grpc::ByteBuffer ToBytes(const Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

// INVALID_ARGUMENT; CANCELLED if the client left before its request had come.
template <typename Message>
absl::StatusOr<Message> FromBytes(const grpc::ByteBuffer& bytes) {
  if (!bytes.Valid()) return absl::CancelledError("no request came");
  Message message;
  grpc::ByteBuffer copy = bytes;  // Of the references to its slices.
  if (!grpc::SerializationTraits<Message>::Deserialize(&copy, &message).ok())
    return Error(ErrorReason::kInvalidRequest, "the message cannot be read; is all of its text UTF-8?");
  return message;
}

}  // namespace p2::rpc

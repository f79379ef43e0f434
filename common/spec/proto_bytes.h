// A message's bytes, the same in every process: maps in the order of their keys. What hashes of messages are made of.
#pragma once

#include <string>

#include "google/protobuf/message_lite.h"

namespace p2::spec {

std::string DeterministicBytes(const google::protobuf::MessageLite& message);

}  // namespace p2::spec

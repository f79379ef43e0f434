// What a message of a newer p2 says that this one does not know.
#pragma once

#include <string>

#include "google/protobuf/message.h"

namespace p2::spec {

// The path of the first field that is not known, of `message` or any message in it: "spec.training.field 19". Empty:
// none.
std::string FirstUnknownField(const google::protobuf::Message& message);

}  // namespace p2::spec

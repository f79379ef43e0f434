#include "server/scheduler/exit_class.h"

namespace p2::scheduler {

StatusReason ClassifyExit(int exit_code) {
  switch (exit_code) {
    case 0:
    case 40:
    case 41:
      return StatusReason::kUnspecified;
    case 50:
      return StatusReason::kCommunication;
    case 51:
      return StatusReason::kDeviceError;
    case 52:
      return StatusReason::kOutOfMemory;
    case 53:
      return StatusReason::kNumeric;
    case 54:
      return StatusReason::kData;
    case 55:
      return StatusReason::kStorage;
    case 64:
      return StatusReason::kBadSpec;
    default:
      return StatusReason::kRankDied;
  }
}

bool IsStoppedExit(int exit_code) { return exit_code == 40 || exit_code == 41; }

int Severity(StatusReason reason) {
  switch (reason) {
    case StatusReason::kBadSpec:
      return 12;
    case StatusReason::kNumeric:
      return 11;
    case StatusReason::kData:
      return 10;
    case StatusReason::kStorage:
      return 9;
    case StatusReason::kOutOfMemory:
      return 8;
    case StatusReason::kRankFrozen:
      return 7;
    case StatusReason::kDeviceError:
      return 6;
    case StatusReason::kWorkerLost:
      return 5;
    case StatusReason::kWorkerStopped:
      return 4;
    case StatusReason::kGangNotFormed:
      return 3;
    case StatusReason::kRankDied:
      return 2;
    case StatusReason::kCommunication:
      return 1;
    default:
      return 0;
  }
}

bool IsFatal(StatusReason reason) { return reason == StatusReason::kNumeric || reason == StatusReason::kBadSpec; }

bool IsCounted(StatusReason reason, int consecutive_failures) {
  switch (reason) {
    case StatusReason::kRankDied:
    case StatusReason::kOutOfMemory:
    case StatusReason::kData:
    case StatusReason::kStorage:
      return true;
    case StatusReason::kCommunication:
    case StatusReason::kDeviceError:
    case StatusReason::kRankFrozen:
      return consecutive_failures > kFreeSuspects;
    default:
      return false;
  }
}

}  // namespace p2::scheduler

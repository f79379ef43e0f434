// Early returns for absl::Status and absl::StatusOr.
//
//   P2_RETURN_IF_ERROR(store.Open(path));
//   P2_ASSIGN_OR_RETURN(Spec spec, ParseSpec(text));
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define P2_STATUS_CONCAT_INNER(a, b) a##b
#define P2_STATUS_CONCAT(a, b) P2_STATUS_CONCAT_INNER(a, b)

#define P2_RETURN_IF_ERROR(expr)                                            \
  do {                                                                      \
    if (absl::Status p2_status = (expr); !p2_status.ok()) return p2_status; \
  } while (false)

#define P2_ASSIGN_OR_RETURN(lhs, expr) P2_ASSIGN_OR_RETURN_IMPL(P2_STATUS_CONCAT(p2_status_or_, __LINE__), lhs, expr)

#define P2_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                             \
  if (!result.ok()) return result.status();         \
  lhs = std::move(*result)

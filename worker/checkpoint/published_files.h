// The files of the published training code: model000001.pt, ema_0.9999_000001.pt, opt000001.pt.
//
// The number is the zero-based step at which the file was saved: 000001 holds two updates (only the save at the very
// end of an annealed run is named by the count itself). Model and EMA hold a state dict; opt holds
//   {state: {i: {step, exp_avg, exp_avg_sq}}, param_groups: [{lr, betas, eps, weight_decay, …, params: [i, …]}]}
// with i the parameter's place in the model's order, step a tensor or, from older torch, an int.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/checkpoint/pt_archive.h"

namespace p2::checkpoint {

struct PublishedName {
  enum class Kind { kModel, kEma, kOptimizer };
  Kind kind = Kind::kModel;
  std::string rate;  // kEma: as it stands in the name.
  int64_t step = 0;  // Zero-based.

  friend bool operator==(const PublishedName&, const PublishedName&) = default;
};

// Of the last part of `path`; nothing if it is not of the published form.
std::optional<PublishedName> ParsePublishedName(absl::string_view path);
// `model000001.pt`, with another extension if asked for.
std::string PublishedFileName(const PublishedName& name, absl::string_view extension = ".pt");

// INVALID_ARGUMENT if `path` is a symbolic link: files of others are read where they are, below their root.
absl::Status RefuseLink(const std::string& path);

// The `ema_RATE_NNNNNN.pt` of `step` in `directory` whose rate is `rate`; empty if there is none.
std::string FindPublishedEma(const std::string& directory, int64_t step, double rate);

// What became of each key of a state dict.
struct KeyReport {
  std::vector<std::string> loaded;
  std::vector<std::string> missing;      // In the model, not in the file.
  std::vector<std::string> unexpected;   // In the file, not in the model.
  std::vector<std::string> wrong_shape;  // "NAME: (2, 3) in the file, (3, 2) in the model"

  bool complete() const { return missing.empty() && unexpected.empty() && wrong_shape.empty(); }
  // One line a kind that is not empty; at most 10 names each.
  std::string ToString() const;
};

// The entries of a state dict in the file's order, name and tensor. INVALID_ARGUMENT if the file holds something else,
// saying what.
absl::StatusOr<std::vector<std::pair<std::string, const PickleObject*>>> StateDict(const PtArchive& archive);

// Fills `model` from a state dict. Unless `partial`, FAILED_PRECONDITION with the report if it is not complete, and
// nothing is changed; with `partial` the keys that do not fit keep their values, but at least one must fit.
absl::StatusOr<KeyReport> ReadPublishedModel(PtArchive& archive, absl::Span<const MutableTensorView> model,
                                             bool partial);

struct PublishedOptimizer {
  int64_t step = 0;  // Updates behind it.
  // Of the first parameter group.
  double learning_rate = 0;
  double beta1 = 0;
  double beta2 = 0;
  double epsilon = 0;
  double weight_decay = 0;
};

// Fills both moments, given in the model's order with its names and shapes. Strict: every parameter has a state of its
// shape and one common step, or (before the first update) none has and all become zero. FAILED_PRECONDITION naming the
// parameter otherwise, INVALID_ARGUMENT if the file holds no AdamW state (AMSGrad's third moment included).
absl::StatusOr<PublishedOptimizer> ReadPublishedOptimizer(PtArchive& archive,
                                                          absl::Span<const MutableTensorView> exp_avg,
                                                          absl::Span<const MutableTensorView> exp_avg_sq);

}  // namespace p2::checkpoint

// TensorBoard's event files, written without its library: TFRecord frames (length, masked CRC-32C, bytes, masked
// CRC-32C) of the protobuf message tensorflow.Event, whose few fields are encoded here by hand.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/file_util.h"

namespace p2::trainer {

// One event file. Each call appends whole records by one write; nothing is fsynced. Errors name the file.
// Thread-compatible.
class TensorboardWriter {
 public:
  // Makes `directory` if need be and in it `events.out.tfevents.SECONDS.HOST.PID.p2`, whose name sorts behind those of
  // the files that are there: readers take them in that order.
  static absl::StatusOr<std::unique_ptr<TensorboardWriter>> Create(const std::string& directory);

  // From here on a run tells steps from `step` on anew: readers drop what earlier records say of them.
  absl::Status Restart(int64_t step);
  absl::Status AddScalars(int64_t step, const std::vector<std::pair<std::string, double>>& values);
  // `png`: the bytes of a PNG file; INVALID_ARGUMENT if they are none.
  absl::Status AddPng(int64_t step, absl::string_view tag, absl::string_view png);
  // Markdown, shown by the text plugin.
  absl::Status AddText(int64_t step, absl::string_view tag, absl::string_view text);

  const std::string& path() const { return path_; }

 private:
  TensorboardWriter(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  // `fields`: encoded fields of the Event besides its time and step.
  absl::Status Append(int64_t step, absl::string_view fields);

  const std::string path_;
  const UniqueFd fd_;
};

}  // namespace p2::trainer

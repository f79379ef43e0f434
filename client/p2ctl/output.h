// One list or resource in every output format: table|wide|json|jsonl|yaml|csv|name.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/p2ctl/table_printer.h"
#include "google/protobuf/timestamp.pb.h"

namespace p2::ctl {

using Json = nlohmann::ordered_json;

enum class OutputFormat { kTable, kWide, kJson, kJsonLines, kYaml, kCsv, kName };

// INVALID_ARGUMENT that lists the formats.
absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view name);

struct OutputStyle {
  OutputFormat format = OutputFormat::kTable;
  // Columns by name, or paths into the JSON ("spec.training.batch"); empty: all.
  std::vector<std::string> fields;
  TableStyle table;
};

// Stable lowerCamel proto JSON: every field without presence is written, 64-bit integers are strings, times RFC 3339
// UTC.
Json ToJson(const google::protobuf::Message& message);

// What a table shows and what CSV holds for it.
struct Cell {
  Cell(std::string both) : text(both), raw(std::move(both)) {}  // NOLINT: cells are written as plain strings.
  Cell(const char* both) : Cell(std::string(both)) {}           // NOLINT
  Cell(std::string shown, std::string plain, std::string shown_color = "")
      : text(std::move(shown)), raw(std::move(plain)), color(std::move(shown_color)) {}

  std::string text;
  std::string raw;
  std::string color;
};
Cell CountCell(int64_t count);
Cell BytesCell(int64_t bytes);
// Local in tables, RFC 3339 UTC in CSV.
Cell TimeCell(const google::protobuf::Timestamp& timestamp);

struct Column {
  std::string name;  // "images": the CSV header; upper case in tables.
  bool right = false;
  bool wide = false;  // Shown by `wide` and `csv` only.
  bool truncate = false;
  bool optional = false;  // Left out of `table` when the terminal is too narrow.
};

// Rows in the order of Add. Thread-compatible.
class Listing {
 public:
  explicit Listing(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // `name`: what `-o name` prints, and other commands accept. REQUIRES: one cell a column.
  void Add(Json json, std::string name, std::vector<Cell> cells);

  // All of it; `page_token` of the next page in JSON and YAML. INVALID_ARGUMENT: a field that no row has.
  absl::StatusOr<std::string> Format(const OutputStyle& style, absl::string_view page_token = "") const;

  // The only row by itself: the object in JSON and YAML, else as Format. REQUIRES: one row.
  absl::StatusOr<std::string> FormatOne(const OutputStyle& style) const;

  // The rows without headers, as a stream prints them: one JSON object a line for json and jsonl, a document each for
  // yaml.
  absl::StatusOr<std::string> FormatRows(const OutputStyle& style) const;

  bool empty() const { return rows_.empty(); }

 private:
  struct Row {
    Json json;
    std::string name;
    std::vector<Cell> cells;
  };
  // The cell of column `field` (raw: as in CSV), or the JSON value at that path.
  Cell CellOf(const Row& row, absl::string_view field) const;
  absl::Status CheckFields(const OutputStyle& style) const;
  Json JsonOf(const Row& row, const OutputStyle& style) const;
  std::string TableText(const OutputStyle& style) const;
  std::string CsvText(const OutputStyle& style) const;
  std::string NamesText() const;

  const std::vector<Column> columns_;
  std::vector<Row> rows_;
};

std::string YamlText(const Json& json);
// RFC 4180: quoted where needed.
std::string CsvField(absl::string_view text);

}  // namespace p2::ctl

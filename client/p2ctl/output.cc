#include "client/p2ctl/output.h"

#include <google/protobuf/util/json_util.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/errors.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

std::string Dump(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

// "spec.training.batch", "spec.training.learning_rate", "attempts.0.outcome".
std::vector<std::string> PathParts(absl::string_view field) {
  std::vector<std::string> parts = absl::StrSplit(field, '.');
  for (std::string& part : parts) {
    for (size_t i = 0; i + 1 < part.size(); ++i) {
      if (part[i] == '_') {
        part.erase(i, 1);
        part[i] = absl::ascii_toupper(part[i]);
      }
    }
  }
  return parts;
}

const Json* Find(const Json& json, absl::string_view field) {
  const Json* at = &json;
  for (const std::string& part : PathParts(field)) {
    size_t index = 0;
    if (at->is_object() && at->contains(part)) {
      at = &(*at)[part];
    } else if (at->is_array() && absl::SimpleAtoi(part, &index) && index < at->size()) {
      at = &(*at)[index];
    } else {
      return nullptr;
    }
  }
  return at;
}

void Emit(YAML::Emitter& out, const Json& json) {
  switch (json.type()) {
    case Json::value_t::object:
      out << YAML::BeginMap;
      for (const auto& [key, value] : json.items()) {
        out << YAML::Key << key << YAML::Value;
        Emit(out, value);
      }
      out << YAML::EndMap;
      break;
    case Json::value_t::array:
      out << YAML::BeginSeq;
      for (const Json& value : json) Emit(out, value);
      out << YAML::EndSeq;
      break;
    case Json::value_t::string: {
      const std::string& text = json.get_ref<const std::string&>();
      // "true", "12" and "" stay strings.
      double number = 0;
      const bool ambiguous = text.empty() || absl::SimpleAtod(text, &number) || text == "true" || text == "false" ||
                             text == "null" || text == "~" || text == "yes" || text == "no" || text == "on" ||
                             text == "off";
      if (absl::StrContains(text, '\n')) {
        out << YAML::Literal << text;
      } else if (ambiguous) {
        out << YAML::DoubleQuoted << text;
      } else {
        out << text;
      }
      break;
    }
    case Json::value_t::null:
      out << YAML::Null;
      break;
    default:
      out << Dump(json, -1);
  }
}

}  // namespace

absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view name) {
  constexpr std::pair<absl::string_view, OutputFormat> kFormats[] = {
      {"table", OutputFormat::kTable},     {"wide", OutputFormat::kWide}, {"json", OutputFormat::kJson},
      {"jsonl", OutputFormat::kJsonLines}, {"yaml", OutputFormat::kYaml}, {"csv", OutputFormat::kCsv},
      {"name", OutputFormat::kName}};
  for (const auto& [known, format] : kFormats) {
    if (name == known) return format;
  }
  if (name == "md" || name == "latex") {
    return WithReason(absl::InvalidArgumentError(absl::StrCat(
                          "output format ", name, " is not there yet: it comes with tables of ablations (ROADMAP.md)")),
                      "NOT_SUPPORTED_YET");
  }
  return UsageError(
      absl::StrCat("output format \"", name, "\" is unknown; one of table, wide, json, jsonl, yaml, csv, name"));
}

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  return status.ok() ? Json::parse(text) : Json{{"error", status.ToString()}};
}

Cell CountCell(int64_t count) { return Cell(FormatCount(count), absl::StrCat(count)); }
Cell BytesCell(int64_t bytes) { return Cell(FormatBytes(bytes), absl::StrCat(bytes)); }
Cell TimeCell(const google::protobuf::Timestamp& timestamp) {
  return Cell(FormatLocalTime(timestamp), FormatUtcTime(timestamp));
}

std::string CsvField(absl::string_view text) {
  if (text.find_first_of(",\"\r\n") == absl::string_view::npos) return std::string(text);
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

std::string YamlText(const Json& json) {
  YAML::Emitter out;
  Emit(out, json);
  return absl::StrCat(out.c_str(), "\n");
}

void Listing::Add(Json json, std::string name, std::vector<Cell> cells) {
  rows_.push_back({std::move(json), std::move(name), std::move(cells)});
}

Cell Listing::CellOf(const Row& row, absl::string_view field) const {
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (absl::EqualsIgnoreCase(columns_[i].name, field)) return row.cells[i];
  }
  const Json* value = Find(row.json, field);
  if (value == nullptr) return Cell("");
  return Cell(value->is_string() ? value->get<std::string>() : Dump(*value, -1));
}

absl::Status Listing::CheckFields(const OutputStyle& style) const {
  if (rows_.empty()) return absl::OkStatus();
  for (const std::string& field : style.fields) {
    const bool known =
        std::any_of(columns_.begin(), columns_.end(),
                    [&](const Column& c) { return absl::EqualsIgnoreCase(c.name, field); }) ||
        std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) { return Find(row.json, field) != nullptr; });
    if (!known) {
      const auto name = [](std::string* out, const Column& column) { out->append(column.name); };
      return UsageError(absl::StrCat("--fields: no \"", field, "\" here; columns are ",
                                     absl::StrJoin(columns_, ", ", name),
                                     "; any path of `-o json` serves too (spec.training.batch)"));
    }
  }
  return absl::OkStatus();
}

Json Listing::JsonOf(const Row& row, const OutputStyle& style) const {
  if (style.fields.empty()) return row.json;
  Json chosen = Json::object();
  for (const std::string& field : style.fields) {
    if (const Json* value = Find(row.json, field)) {
      chosen[absl::StrJoin(PathParts(field), ".")] = *value;
    } else {
      chosen[field] = CellOf(row, field).raw;
    }
  }
  return chosen;
}

std::string Listing::TableText(const OutputStyle& style) const {
  std::vector<TableColumn> columns;
  std::vector<std::string> names;
  if (style.fields.empty()) {
    for (const Column& column : columns_) {
      if (column.wide && style.format == OutputFormat::kTable) continue;
      columns.push_back({.title = absl::AsciiStrToUpper(column.name),
                         .right = column.right,
                         .truncate = column.truncate,
                         .optional = column.optional && style.format == OutputFormat::kTable});
      names.push_back(column.name);
    }
  } else {
    for (const std::string& field : style.fields) columns.push_back({absl::AsciiStrToUpper(field)});
    names = style.fields;
  }
  std::vector<std::vector<TableCell>> rows;
  for (const Row& row : rows_) {
    std::vector<TableCell>& cells = rows.emplace_back();
    for (const std::string& name : names) {
      Cell cell = CellOf(row, name);
      cells.push_back({std::move(cell.text), std::move(cell.color)});
    }
  }
  TableStyle table = style.table;
  if (style.format == OutputFormat::kWide) table.width = 0;  // Nothing is left out or cut.
  return RenderTable(columns, rows, table);
}

std::string Listing::CsvText(const OutputStyle& style) const {
  std::vector<std::string> names = style.fields;
  if (names.empty()) {
    for (const Column& column : columns_) names.push_back(column.name);
  }
  const auto quoted = [](std::string* out, absl::string_view text) { out->append(CsvField(text)); };
  std::string out;
  if (style.table.headers) absl::StrAppend(&out, absl::StrJoin(names, ",", quoted), "\n");
  for (const Row& row : rows_) {
    std::vector<std::string> values;
    for (const std::string& name : names) values.push_back(CellOf(row, name).raw);
    absl::StrAppend(&out, absl::StrJoin(values, ",", quoted), "\n");
  }
  return out;
}

std::string Listing::NamesText() const {
  std::string out;
  for (const Row& row : rows_) absl::StrAppend(&out, row.name, "\n");
  return out;
}

absl::StatusOr<std::string> Listing::Format(const OutputStyle& style, absl::string_view page_token) const {
  P2_RETURN_IF_ERROR(CheckFields(style));
  switch (style.format) {
    case OutputFormat::kTable:
    case OutputFormat::kWide:
      return TableText(style);
    case OutputFormat::kCsv:
      return CsvText(style);
    case OutputFormat::kName:
      return NamesText();
    case OutputFormat::kJsonLines:
      return FormatRows(style);
    case OutputFormat::kJson:
    case OutputFormat::kYaml:
      break;
  }
  Json list;
  list["items"] = Json::array();
  for (const Row& row : rows_) list["items"].push_back(JsonOf(row, style));
  list["nextPageToken"] = std::string(page_token);
  return style.format == OutputFormat::kYaml ? YamlText(list) : Dump(list, 2) + "\n";
}

absl::StatusOr<std::string> Listing::FormatOne(const OutputStyle& style) const {
  if (style.format != OutputFormat::kJson && style.format != OutputFormat::kYaml) return Format(style);
  P2_RETURN_IF_ERROR(CheckFields(style));
  const Json json = JsonOf(rows_.front(), style);
  return style.format == OutputFormat::kYaml ? YamlText(json) : Dump(json, 2) + "\n";
}

absl::StatusOr<std::string> Listing::FormatRows(const OutputStyle& style) const {
  std::string out;
  if (style.format == OutputFormat::kJson || style.format == OutputFormat::kJsonLines) {
    P2_RETURN_IF_ERROR(CheckFields(style));
    for (const Row& row : rows_) absl::StrAppend(&out, Dump(JsonOf(row, style), -1), "\n");
    return out;
  }
  if (style.format == OutputFormat::kYaml) {
    for (const Row& row : rows_) absl::StrAppend(&out, "---\n", YamlText(JsonOf(row, style)));
    return out;
  }
  OutputStyle bare = style;
  bare.table.headers = false;
  return Format(bare);
}

}  // namespace p2::ctl

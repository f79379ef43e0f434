// p2-trainer inspect: what a file or directory holds, by the readers that training uses.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/file_util.h"
#include "common/image/prepare.h"
#include "common/image/shard.h"
#include "common/safetensors/safetensors.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/checkpoint/pt_archive.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

using Json = nlohmann::ordered_json;
using checkpoint::PickleObject;

constexpr int kMaxDepth = 4;  // Of {state: {0: {exp_avg: …}}}, one to spare.
constexpr size_t kPieceBytes = 1 << 20;
// For names from strangers' files: no control characters reach the terminal or break the JSON.
std::string Shown(absl::string_view text) { return absl::Utf8SafeCHexEscape(text); }

Json TensorJson(absl::string_view name, absl::string_view dtype, const std::vector<int64_t>& shape, uint64_t bytes,
                const std::string& sha256) {
  return {{"name", Shown(name)}, {"dtype", std::string(dtype)}, {"shape", shape}, {"bytes", bytes}, {"sha256", sha256}};
}

// Tensors into `tensors`, by their path ("state.0.exp_avg"); other leaves into `values`.
absl::Status WalkPt(checkpoint::PtArchive& archive, const PickleObject& object, const std::string& path, int depth,
                    Json* tensors, Json* values) {
  using Kind = PickleObject::Kind;
  if (object.kind == Kind::kTensor) {
    P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, archive.Read(object));
    Sha256 sha256;
    sha256.Update(bytes);
    tensors->push_back(
        TensorJson(path, safetensors::DTypeName(object.dtype), object.shape, bytes.size(), Hex(sha256.Finish())));
    return absl::OkStatus();
  }
  if (object.kind == Kind::kDict || object.kind == Kind::kList || object.kind == Kind::kTuple) {
    if (depth == kMaxDepth) return absl::OkStatus();
    const bool dict = object.kind == Kind::kDict;
    const bool plain = std::all_of(object.items.begin(), object.items.end(), [](const PickleObject* item) {
      return item->kind == Kind::kInt || item->kind == Kind::kFloat;
    });
    if (!dict && plain) {
      Json list = Json::array();
      for (const PickleObject* item : object.items) {
        list.push_back(item->kind == Kind::kInt ? Json(item->integer) : Json(item->number));
      }
      (*values)[Shown(path)] = std::move(list);
      return absl::OkStatus();
    }
    for (size_t i = 0; i < object.items.size(); i += dict ? 2 : 1) {
      const PickleObject& key = *object.items[i];
      const std::string name = !dict                       ? absl::StrCat(i)
                               : key.kind == Kind::kString ? key.text
                                                           : absl::StrCat(key.integer);
      P2_RETURN_IF_ERROR(WalkPt(archive, *object.items[dict ? i + 1 : i],
                                path.empty() ? name : absl::StrCat(path, ".", name), depth + 1, tensors, values));
    }
    return absl::OkStatus();
  }
  Json value;
  if (object.kind == Kind::kBool) value = object.integer != 0;
  if (object.kind == Kind::kInt) value = object.integer;
  if (object.kind == Kind::kFloat) value = object.number;
  if (object.kind == Kind::kString) value = Shown(object.text);
  (*values)[Shown(path)] = std::move(value);
  return absl::OkStatus();
}

absl::StatusOr<Json> InspectPt(const std::string& path) {
  P2_ASSIGN_OR_RETURN(const auto archive, checkpoint::PtArchive::Open(path));
  Json tensors = Json::array(), values = Json::object();
  P2_RETURN_IF_ERROR(WalkPt(*archive, archive->root(), "", 0, &tensors, &values));
  return Json{{"kind", "pt"}, {"metadata", values}, {"tensors", tensors}};
}

absl::StatusOr<Json> InspectSafetensors(const std::string& path) {
  P2_ASSIGN_OR_RETURN(const auto reader, safetensors::Reader::Open(path));
  Json tensors = Json::array(), metadata = Json::object();
  for (const auto& [key, value] : reader->metadata()) metadata[Shown(key)] = Shown(value);
  std::vector<std::byte> piece(kPieceBytes);
  for (const safetensors::TensorInfo& info : reader->tensors()) {
    Sha256 sha256;
    for (uint64_t at = 0; at < info.size;) {
      const auto part = absl::MakeSpan(piece).subspan(0, std::min<uint64_t>(kPieceBytes, info.size - at));
      P2_RETURN_IF_ERROR(reader->Read(info.name, at, part));
      sha256.Update({reinterpret_cast<const uint8_t*>(part.data()), part.size()});
      at += part.size();
    }
    tensors.push_back(
        TensorJson(info.name, safetensors::DTypeName(info.dtype), info.shape, info.size, Hex(sha256.Finish())));
  }
  return Json{{"kind", "safetensors"}, {"metadata", metadata}, {"tensors", tensors}};
}

absl::StatusOr<Json> InspectCheckpoint(const std::string& directory) {
  P2_ASSIGN_OR_RETURN(const auto opened, checkpoint::Checkpoint::Open(directory));
  const checkpoint::Manifest& manifest = opened->manifest();
  const checkpoint::TrainState& state = opened->state();
  Json files = Json::array(), tensors = Json::array();
  for (const checkpoint::FileEntry& file : manifest.files) {
    files.push_back({{"path", file.path}, {"bytes", file.size_bytes}, {"sha256", file.sha256}});
    if (!absl::EndsWith(file.path, ".safetensors")) continue;
    P2_ASSIGN_OR_RETURN(Json inside, InspectSafetensors(absl::StrCat(directory, "/", file.path)));
    for (Json& tensor : inside["tensors"]) {
      tensor["name"] = absl::StrCat(file.path, ": ", tensor["name"].get<std::string>());
      tensors.push_back(std::move(tensor));
    }
  }
  const Json metadata = {{"images_seen", manifest.images_seen},
                         {"step", state.step},
                         {"updates", state.updates},
                         {"epoch", manifest.epoch},
                         {"attempt", manifest.attempt},
                         {"seed", state.seed},
                         {"batch", state.batch},
                         {"ema_profiles", manifest.ema_profiles},
                         {"dataset", state.dataset_fingerprint},
                         {"fingerprint", state.fingerprint}};
  return Json{{"kind", "checkpoint"}, {"metadata", metadata}, {"files", files}, {"tensors", tensors}};
}

absl::StatusOr<Json> InspectDataset(const std::string& directory) {
  P2_ASSIGN_OR_RETURN(const image::DatasetManifest manifest, image::VerifyDataset(directory));
  Json files = Json::array();
  for (const image::ShardInfo& shard : manifest.shards) {
    files.push_back({{"path", shard.file}, {"bytes", shard.bytes}, {"sha256", shard.sha256}});
  }
  const Json metadata = {{"name", Shown(manifest.name)},        {"resolution", manifest.resolution},
                         {"channels", manifest.channels},       {"count", manifest.count},
                         {"fingerprint", manifest.fingerprint}, {"bad_images", manifest.bad_count}};
  return Json{{"kind", "dataset"}, {"metadata", metadata}, {"files", files}};
}

absl::StatusOr<Json> InspectShard(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return FileError("open", path);
  std::vector<uint8_t> bytes(image::kShardHeaderBytes);
  P2_RETURN_IF_ERROR(PReadAll(fd.get(), path, 0, absl::MakeSpan(bytes)));
  const absl::StatusOr<image::ShardHeader> header = image::DecodeShardHeader(bytes);
  if (!header.ok()) {
    return absl::Status(header.status().code(), absl::StrCat(path, ": ", header.status().message()));
  }
  const uint64_t size = std::filesystem::file_size(path), record = header->record_bytes();
  if (header->count > image::MaxRecords(record) || size != image::ShardBytes(header->version, header->count, record)) {
    return absl::DataLossError(
        absl::StrCat(path, " has ", size, " bytes; its header promises ", header->count, " records of ", record));
  }
  P2_ASSIGN_OR_RETURN(const std::vector<uint32_t> checksums, image::ReadChecksums(fd.get(), path, *header));
  std::vector<uint8_t> pixels(record);
  for (uint64_t i = 0; i < checksums.size(); ++i) {
    P2_RETURN_IF_ERROR(PReadAll(fd.get(), path, image::kShardHeaderBytes + i * record, absl::MakeSpan(pixels)));
    P2_RETURN_IF_ERROR(image::CheckRecord(pixels, checksums[i], path, i));
  }
  const Json metadata = {{"version", header->version}, {"channels", header->channels}, {"height", header->height},
                         {"width", header->width},     {"count", header->count},       {"first", header->first}};
  return Json{{"kind", "shard"}, {"metadata", metadata}};
}

absl::StatusOr<Json> InspectOne(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return FileError("open", path);
  if (S_ISDIR(info.st_mode)) {
    if (::access(absl::StrCat(path, "/", image::kManifestFile).c_str(), F_OK) == 0) return InspectDataset(path);
    if (::access(absl::StrCat(path, "/", checkpoint::kManifestFile).c_str(), F_OK) == 0) return InspectCheckpoint(path);
    return absl::InvalidArgumentError(absl::StrCat(path, " is a directory without ", image::kManifestFile, " or ",
                                                   checkpoint::kManifestFile, ": neither a dataset nor a checkpoint"));
  }
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, " is no regular file"));
  absl::StatusOr<Json> inside = absl::InvalidArgumentError(
      absl::StrCat(path, " is not named .pt, .safetensors or .p2s: nothing that inspect knows"));
  if (absl::EndsWith(path, ".pt") || absl::EndsWith(path, ".pth")) inside = InspectPt(path);
  if (absl::EndsWith(path, ".safetensors")) inside = InspectSafetensors(path);
  if (absl::EndsWith(path, ".p2s")) inside = InspectShard(path);
  P2_RETURN_IF_ERROR(inside.status());
  const std::filesystem::path whole = path;
  P2_ASSIGN_OR_RETURN(
      const checkpoint::FileEntry digest,
      checkpoint::DigestFile(whole.has_parent_path() ? whole.parent_path().string() : ".", whole.filename()));
  (*inside)["bytes"] = digest.size_bytes;
  (*inside)["sha256"] = digest.sha256;
  return inside;
}

std::string Table(const std::string& path, const Json& inside) {
  std::string text = absl::StrCat(path, ": ", inside["kind"].get<std::string>());
  if (inside.contains("bytes")) {
    absl::StrAppend(&text, ", ", inside["bytes"].get<uint64_t>(), " bytes, SHA-256 ",
                    inside["sha256"].get<std::string>());
  }
  text += "\n";
  for (const auto& [key, value] : inside["metadata"].items()) absl::StrAppend(&text, key, ": ", value.dump(), "\n");
  if (inside.contains("files")) {
    absl::StrAppendFormat(&text, "\n%-32s %14s  %s\n", "FILE", "BYTES", "SHA-256");
    for (const Json& file : inside["files"]) {
      absl::StrAppendFormat(&text, "%-32s %14d  %s\n", file["path"].get<std::string>(), file["bytes"].get<uint64_t>(),
                            file["sha256"].get<std::string>());
    }
  }
  if (!inside.contains("tensors")) return text;
  size_t width = 4;
  uint64_t elements = 0;
  for (const Json& tensor : inside["tensors"]) width = std::max(width, tensor["name"].get<std::string>().size());
  absl::StrAppendFormat(&text, "\n%-*s  %-6s %-20s  %s\n", static_cast<int>(width), "NAME", "DTYPE", "SHAPE",
                        "SHA-256");
  for (const Json& tensor : inside["tensors"]) {
    uint64_t count = 1;
    for (const Json& size : tensor["shape"]) count *= size.get<uint64_t>();
    elements += count;
    absl::StrAppendFormat(&text, "%-*s  %-6s %-20s  %s\n", static_cast<int>(width), tensor["name"].get<std::string>(),
                          tensor["dtype"].get<std::string>(), tensor["shape"].dump(),
                          tensor["sha256"].get<std::string>().substr(0, 16));
  }
  absl::StrAppend(&text, inside["tensors"].size(), " tensors, ", elements, " elements\n");
  return text;
}

// Everything that is refused is an error of the same kind here.
int Inspect(std::string path, bool json) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  absl::StatusOr<Json> inside = InspectOne(path);
  if (!inside.ok()) return VerbExitCode(inside.status());
  Json named = {{"path", path}};
  named.update(*inside);
  const std::string text = json ? named.dump(2, ' ', false, Json::error_handler_t::replace) + "\n" : Table(path, named);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace

void AddInspect(CLI::App& app, Verb* chosen) {
  struct Flags {
    std::string path;
    std::string output = "table";
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* const verb = app.add_subcommand(
      "inspect",
      "Show what a .pt, .safetensors or shard (.p2s) file, a checkpoint or a dataset holds; 1 if it is refused");
  verb->add_option("path", flags->path, "File or directory")->type_name("FILE|DIR")->required();
  verb->add_option("-o,--output", flags->output, "table or json")->check(CLI::IsMember({"table", "json"}));
  verb->callback([flags, chosen] { *chosen = [flags] { return Inspect(flags->path, flags->output == "json"); }; });
}

}  // namespace p2::trainer

#include "worker/checkpoint/pt_writer.h"

#include <zip.h>

#include <bit>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <memory>

#include "absl/base/internal/endian.h"
#include "absl/strings/str_cat.h"
#include "common/file_util.h"
#include "common/status_macros.h"

namespace p2::checkpoint {
namespace {

// Protocol 2, without the memo: torch's readers need none.
class PickleWriter {
 public:
  PickleWriter() : text_("\x80\x02") {}

  void Raw(absl::string_view opcodes) { text_.append(opcodes.data(), opcodes.size()); }
  void Global(absl::string_view module, absl::string_view name) { absl::StrAppend(&text_, "c", module, "\n", name, "\n"); }
  void String(absl::string_view text) {
    Raw("X");
    Word(static_cast<uint32_t>(text.size()));
    Raw(text);
  }
  void Int(int64_t value) {
    if (value >= 0 && value < 256) {
      Raw("K");
      text_.push_back(static_cast<char>(value));
    } else if (value >= 0 && value <= std::numeric_limits<int32_t>::max()) {
      Raw("J");
      Word(static_cast<uint32_t>(value));
    } else {
      char bytes[8];
      absl::little_endian::Store64(bytes, static_cast<uint64_t>(value));
      Raw("\x8a\x08");
      Raw({bytes, sizeof(bytes)});
    }
  }
  void Float(double value) {
    char bytes[8];
    absl::big_endian::Store64(bytes, std::bit_cast<uint64_t>(value));
    Raw("G");
    Raw({bytes, sizeof(bytes)});
  }
  void EmptyOrderedDict() {
    Global("collections", "OrderedDict");
    Raw(")R");
  }
  void Tensor(absl::Span<const int64_t> shape, absl::Span<const float> values) {
    Global("torch._utils", "_rebuild_tensor_v2");
    Raw("((");
    String("storage");
    Global("torch", "FloatStorage");
    String(absl::StrCat(storages_.size()));
    String("cpu");
    Int(static_cast<int64_t>(values.size()));
    Raw("tQ");
    Int(0);
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    for (const absl::Span<const int64_t> lengths : {shape, absl::MakeConstSpan(strides)}) {
      Raw("(");
      for (const int64_t length : lengths) Int(length);
      Raw("t");
    }
    Raw("\x89");
    EmptyOrderedDict();
    Raw("tR");
    storages_.push_back(values);
  }

  const std::string& text() const { return text_; }
  const std::vector<absl::Span<const float>>& storages() const { return storages_; }

 private:
  void Word(uint32_t value) {
    char bytes[4];
    absl::little_endian::Store32(bytes, value);
    Raw({bytes, sizeof(bytes)});
  }

  std::string text_;
  std::vector<absl::Span<const float>> storages_;
};

// libzip's error as a Status: its errno where it has one.
absl::Status ZipError(const std::string& path, zip_error_t* error) {
  if (zip_error_system_type(error) == ZIP_ET_SYS) {
    errno = zip_error_code_system(error);
    return FileError("write", path);
  }
  return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", zip_error_strerror(error)));
}

absl::Status WriteArchive(const std::string& path, const PickleWriter& pickle) {
  int code = 0;
  zip_t* const zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  if (zip == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const absl::Status status = ZipError(path, &error);
    zip_error_fini(&error);
    return status;
  }
  const auto add = [zip](const std::string& name, const void* bytes, size_t size) {
    zip_source_t* const source = zip_source_buffer(zip, bytes, size, /*freep=*/0);
    if (source == nullptr) return false;
    const zip_int64_t index = zip_file_add(zip, absl::StrCat("archive/", name).c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      return false;
    }
    constexpr zip_uint16_t kFirstDay = 0x21;  // 1980-01-01
    return zip_set_file_compression(zip, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0) == 0 &&
           zip_file_set_dostime(zip, static_cast<zip_uint64_t>(index), 0, kFirstDay, 0) == 0;
  };
  bool added = add("data.pkl", pickle.text().data(), pickle.text().size()) && add("byteorder", "little", 6);
  for (size_t i = 0; i < pickle.storages().size(); ++i) {
    const absl::Span<const float> storage = pickle.storages()[i];
    added = added && add(absl::StrCat("data/", i), storage.data(), storage.size() * sizeof(float));
  }
  added = added && add("version", "3\n", 2);
  if (!added || zip_close(zip) != 0) {
    const absl::Status status = ZipError(path, zip_get_error(zip));
    zip_discard(zip);
    return status;
  }
  const std::string parent = std::filesystem::path(path).parent_path();
  return SyncDirectory(parent.empty() ? "." : parent);
}

}  // namespace

absl::Status WritePtModel(const std::string& path, absl::Span<const TensorView> tensors) {
  PickleWriter pickle;
  pickle.EmptyOrderedDict();
  pickle.Raw("(");
  for (const TensorView& tensor : tensors) {
    pickle.String(tensor.name);
    pickle.Tensor(tensor.shape, tensor.values);
  }
  pickle.Raw("u.");
  return WriteArchive(path, pickle);
}

absl::Status WritePtOptimizer(const std::string& path, const PublishedOptimizer& optimizer,
                              absl::Span<const TensorView> exp_avg, absl::Span<const TensorView> exp_avg_sq) {
  const auto step = static_cast<float>(optimizer.step);
  PickleWriter pickle;
  const auto flag = [&pickle](absl::string_view key, absl::string_view opcode) {
    pickle.String(key);
    pickle.Raw(opcode);
  };
  const auto number = [&pickle](absl::string_view key, double value) {
    pickle.String(key);
    pickle.Float(value);
  };
  constexpr char kNone[] = "N", kTrue[] = "\x88", kFalse[] = "\x89";
  pickle.Raw("}(");
  pickle.String("state");
  pickle.Raw("}(");
  for (size_t i = 0; i < exp_avg.size(); ++i) {
    pickle.Int(static_cast<int64_t>(i));
    pickle.Raw("}(");
    pickle.String("step");
    pickle.Tensor({}, absl::MakeConstSpan(&step, 1));
    pickle.String("exp_avg");
    pickle.Tensor(exp_avg[i].shape, exp_avg[i].values);
    pickle.String("exp_avg_sq");
    pickle.Tensor(exp_avg_sq[i].shape, exp_avg_sq[i].values);
    pickle.Raw("u");
  }
  pickle.Raw("u");
  pickle.String("param_groups");
  pickle.Raw("](}(");
  number("lr", optimizer.learning_rate);
  pickle.String("betas");
  pickle.Float(optimizer.beta1);
  pickle.Float(optimizer.beta2);
  pickle.Raw("\x86");
  number("eps", optimizer.epsilon);
  number("weight_decay", optimizer.weight_decay);
  flag("amsgrad", kFalse);
  flag("maximize", kFalse);
  flag("foreach", kNone);
  flag("capturable", kFalse);
  flag("differentiable", kFalse);
  flag("fused", kNone);
  flag("decoupled_weight_decay", kTrue);
  pickle.String("params");
  pickle.Raw("](");
  for (size_t i = 0; i < exp_avg.size(); ++i) pickle.Int(static_cast<int64_t>(i));
  pickle.Raw("eueu.");
  return WriteArchive(path, pickle);
}

}  // namespace p2::checkpoint

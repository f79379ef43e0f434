#include "common/safetensors/safetensors.h"

#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::safetensors {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SafetensorsTest : public ::testing::Test {
 protected:
  SafetensorsTest() {
    static std::atomic<int> next = 0;
    path_ = absl::StrCat(::testing::TempDir(), "/p2-", getpid(), "-", next++, ".safetensors");
  }
  ~SafetensorsTest() override { std::filesystem::remove(path_); }

  std::string FileText() const {
    std::ifstream in(path_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  void WriteText(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }
  // A file of this header and this many bytes of data.
  void WriteFile(const std::string& header, size_t data_bytes) const {
    std::string text(8, '\0');
    const uint64_t size = header.size();
    std::memcpy(text.data(), &size, 8);
    WriteText(text + header + std::string(data_bytes, 'x'));
  }
  std::string OpenError() const {
    const auto reader = Reader::Open(path_);
    if (reader.ok()) return "no error";
    EXPECT_EQ(reader.status().code(), absl::StatusCode::kDataLoss) << reader.status();
    EXPECT_THAT(std::string(reader.status().message()), HasSubstr(path_));
    return std::string(reader.status().message());
  }

  std::string path_;
};

template <typename T>
absl::Span<const std::byte> Bytes(const std::vector<T>& values) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T));
}

TEST_F(SafetensorsTest, ReadsWhatItWrote) {
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> b = {-7};
  auto writer =
      Writer::Create(path_, {{"a", DType::kF32, {2, 3}}, {"empty", DType::kBF16, {0, 4}}, {"b", DType::kI64, {}}},
                     {{"format", "pt"}, {"é", "ü"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Append(Bytes(a).first(10)).ok());
  ASSERT_TRUE((*writer)->Append(Bytes(a).subspan(10)).ok());
  ASSERT_TRUE((*writer)->Append(Bytes(b)).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_EQ((*writer)->bytes_written(), std::filesystem::file_size(path_));

  const auto reader = Reader::Open(path_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_THAT((*reader)->metadata(), ElementsAre(std::pair<const std::string, std::string>("format", "pt"),
                                                 std::pair<const std::string, std::string>("é", "ü")));
  EXPECT_THAT((*reader)->tensors(),
              ElementsAre(TensorInfo{"a", DType::kF32, {2, 3}, 0, 24}, TensorInfo{"empty", DType::kBF16, {0, 4}, 24, 0},
                          TensorInfo{"b", DType::kI64, {}, 24, 8}));
  std::vector<float> back(6);
  ASSERT_TRUE((*reader)->Read("a", absl::MakeSpan(reinterpret_cast<std::byte*>(back.data()), 24)).ok());
  EXPECT_EQ(back, a);
  ASSERT_TRUE((*reader)->Read("a", 8, absl::MakeSpan(reinterpret_cast<std::byte*>(back.data()), 4)).ok());
  EXPECT_EQ(back[0], 3);
}

TEST_F(SafetensorsTest, WritesTheReferenceImplementationsBytes) {
  auto writer = Writer::Create(path_, {{"w", DType::kU8, {3}}}, {{"k", "v"}});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(Bytes(std::vector<uint8_t>{1, 2, 3})).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  std::string header = R"({"__metadata__":{"k":"v"},"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})";
  header.resize(80, ' ');
  EXPECT_EQ(FileText(), std::string("\x50\0\0\0\0\0\0\0", 8) + header + "\1\2\3");
}

TEST_F(SafetensorsTest, ReadsTheGoldenFiles) {
  const auto reader = Reader::Open(P2_SOURCE_DIR "/tests/golden/preprocess.safetensors");
  ASSERT_TRUE(reader.ok()) << reader.status();
  const TensorInfo* info = (*reader)->Find("round_70x64.png.res48");
  ASSERT_NE(info, nullptr);
  EXPECT_EQ(info->dtype, DType::kU8);
  EXPECT_THAT(info->shape, ElementsAre(48, 48, 3));
  std::vector<std::byte> bytes(info->size);
  ASSERT_TRUE((*reader)->Read(info->name, absl::MakeSpan(bytes)).ok());
  uint64_t sum = 0;
  for (std::byte value : bytes) sum += static_cast<uint8_t>(value);
  EXPECT_EQ(sum, 891605u);
}

TEST_F(SafetensorsTest, KnowsItsDtypes) {
  for (const char* name : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "U16", "I16", "F16", "BF16", "U32", "I32", "F32",
                           "U64", "I64", "F64"}) {
    const std::optional<DType> dtype = ParseDType(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(DTypeName(*dtype), name);
  }
  EXPECT_EQ(DTypeSize(DType::kBF16), 2u);
  EXPECT_FALSE(ParseDType("f32").has_value());
}

TEST_F(SafetensorsTest, NamesTheTensorThatIsWrong) {
  const struct {
    const char *header, *message;
  } kCases[] = {
      {R"({"t":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", "tensor \"t\": dtype \"F33\" is not known"},
      {R"({"t":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", "dtype 7 is not known"},
      {R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "needs 8 bytes, data_offsets hold 4"},
      {R"({"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "not a size"},
      {R"({"t":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "not a size"},
      {R"({"t":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", "shape is not a list"},
      {R"({"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "too large"},
      {R"({"t":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}})", "not a size"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,5]}})", "leave the data"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "leave the data"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}})", "leave the data"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "not a pair"},
      {R"({"t":{"dtype":"F32","shape":[1]}})", "wants exactly dtype, shape and data_offsets"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", "wants exactly"},
      {R"({"t":[]})", "wants exactly"},
      {R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})", "tensor \"t\" starts at 2, after a hole"},
      {R"({"t":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "take 3 bytes, the file holds 4"},
      {R"({"t":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"u":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "tensor \"u\" starts at 2, inside another one"},
      {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       "\"t\" twice"},
      {R"({"__metadata__":{"a":1}})", "__metadata__ \"a\" is not a string"},
      {R"({"__metadata__":[]})", "__metadata__ is not an object"},
      {R"([1,2])", "not a JSON object"},
      {R"({"t":)", "not a JSON object"},
      {"", "not a JSON object"},
      {R"(  {"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "not a JSON object"},
  };
  for (const auto& c : kCases) {
    WriteFile(c.header, 4);
    EXPECT_THAT(OpenError(), HasSubstr(c.message)) << c.header;
  }
}

TEST_F(SafetensorsTest, RefusesHeadersThatAreTooLong) {
  WriteText(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8));
  EXPECT_THAT(OpenError(), HasSubstr("header of 18446744073709551615 bytes"));
  WriteText("short");
  EXPECT_THAT(OpenError(), HasSubstr("too few"));
  WriteFile(std::string(kMaxHeaderBytes + 1, ' '), 0);
  EXPECT_THAT(OpenError(), HasSubstr("at most 16777216 are allowed"));
}

TEST_F(SafetensorsTest, RefusesEveryTruncationAndSurvivesEveryFlippedByte) {
  auto writer = Writer::Create(path_, {{"a", DType::kF32, {2}}, {"b", DType::kU8, {5}}}, {{"k", "v"}});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(Bytes(std::vector<uint8_t>(13, 1))).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  const std::string good = FileText();
  for (size_t size = 0; size < good.size(); ++size) {
    WriteText(good.substr(0, size));
    EXPECT_NE(OpenError(), "no error") << size;
  }
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] ^= static_cast<char>(1 << at % 8);
    WriteText(bad);
    OpenError();
  }
}

TEST_F(SafetensorsTest, SaysWhichTensorAReadLeaves) {
  auto writer = Writer::Create(path_, {{"a", DType::kU8, {4}}});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(Bytes(std::vector<uint8_t>(4))).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  const auto reader = Reader::Open(path_);
  ASSERT_TRUE(reader.ok());
  std::byte out[5];
  EXPECT_EQ((*reader)->Read("z", absl::MakeSpan(out)).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*reader)->Read("a", absl::MakeSpan(out)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*reader)->Read("a", 2, absl::MakeSpan(out).first(3)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*reader)->Read("a", UINT64_MAX, absl::MakeSpan(out).first(3)).code(), absl::StatusCode::kInvalidArgument);
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 1);
  EXPECT_EQ((*reader)->Read("a", absl::MakeSpan(out).first(4)).code(), absl::StatusCode::kDataLoss);
}

TEST_F(SafetensorsTest, RefusesToWriteWhatCannotBeRead) {
  const auto code = [&](std::vector<TensorInfo> tensors) {
    return Writer::Create(path_, std::move(tensors)).status().code();
  };
  EXPECT_EQ(code({{"__metadata__", DType::kU8, {1}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a\xff", DType::kU8, {1}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", DType::kU8, {-1}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", DType::kU8, {INT64_MAX}}, {"b", DType::kU8, {INT64_MAX}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Writer::Create("/nowhere/x", {}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SafetensorsTest, RefusesToFinishBeforeEveryTensorIsGiven) {
  auto writer = Writer::Create(path_, {{"a", DType::kU8, {2}}, {"b", DType::kU8, {2}}});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(Bytes(std::vector<uint8_t>(3))).ok());
  const absl::Status status = (*writer)->Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor \"b\" was not given in full"));
  EXPECT_EQ((*writer)->Append(Bytes(std::vector<uint8_t>(2))).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace p2::safetensors

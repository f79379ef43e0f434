#include "worker/checkpoint/published_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zip.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/pt_writer.h"

namespace p2::checkpoint {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kGolden = P2_SOURCE_DIR "/tests/golden/";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

const json& Golden() {
  static const json golden = json::parse(ReadFile(kGolden + "checkpoint.json"));
  return golden;
}

// Buffers of a model's shape, NaN where nothing was read.
struct Buffers {
  std::vector<std::vector<float>> values;
  std::vector<MutableTensorView> views;

  explicit Buffers(const json& keys) {
    values.reserve(keys.size());
    for (const json& key : keys) {
      int64_t count = 1;
      for (const int64_t size : key[1]) count *= size;
      values.emplace_back(count, NAN);
      views.push_back({key[0], key[1], absl::MakeSpan(values.back())});
    }
  }
  std::vector<TensorView> Const() const {
    std::vector<TensorView> all;
    for (const MutableTensorView& view : views) all.push_back({view.name, view.shape, view.values});
    return all;
  }
};

void ExpectStats(absl::Span<const float> values, const json& stats, const std::string& what) {
  double sum = 0, sum_abs = 0, squares = 0, max_abs = 0, proj = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double v = values[i];
    sum += v;
    sum_abs += std::fabs(v);
    squares += v * v;
    max_abs = std::max(max_abs, std::fabs(v));
    proj += v * std::cos(0.7 * static_cast<double>(i) + 0.3);
  }
  const double expected_abs = stats["sum_abs"], tolerance = 1e-8 * expected_abs;
  EXPECT_EQ(values.size(), stats["n"].get<size_t>()) << what;
  EXPECT_NEAR(sum, stats["sum"], tolerance) << what;
  EXPECT_NEAR(sum_abs, expected_abs, tolerance) << what;
  EXPECT_NEAR(std::sqrt(squares), stats["l2"], 1e-8 * stats["l2"].get<double>()) << what;
  EXPECT_NEAR(max_abs, stats["max_abs"], 1e-8 * stats["max_abs"].get<double>()) << what;
  EXPECT_NEAR(proj, stats["proj"], tolerance) << what;
}

std::unique_ptr<PtArchive> Open(const std::string& path) {
  absl::StatusOr<std::unique_ptr<PtArchive>> archive = PtArchive::Open(path);
  EXPECT_TRUE(archive.ok()) << archive.status();
  return archive.ok() ? *std::move(archive) : nullptr;
}

class PublishedFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = absl::StrCat(::testing::TempDir(), "/published-", ::getpid(), "-",
                              ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string WriteZip(const std::vector<std::pair<std::string, std::string>>& entries, int method = ZIP_CM_STORE) {
    const std::string path = directory_ + "/made.pt";
    int code = 0;
    zip_t* const zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
    for (const auto& [name, content] : entries) {
      const zip_int64_t index =
          zip_file_add(zip, name.c_str(), zip_source_buffer(zip, content.data(), content.size(), 0), 0);
      zip_set_file_compression(zip, static_cast<zip_uint64_t>(index), method, 0);
    }
    EXPECT_EQ(zip_close(zip), 0);
    return path;
  }

  std::string directory_;
};

TEST_F(PublishedFilesTest, NamesAreParsedAndWrittenAlike) {
  using Kind = PublishedName::Kind;
  EXPECT_EQ(ParsePublishedName("/runs/a_b/model000001.pt"), (PublishedName{Kind::kModel, "", 1}));
  EXPECT_EQ(ParsePublishedName("ema_0.9999_500000.pt"), (PublishedName{Kind::kEma, "0.9999", 500000}));
  EXPECT_EQ(ParsePublishedName("opt1234567.pt"), (PublishedName{Kind::kOptimizer, "", 1234567}));
  for (const char* name : {"model1.pt", "model000001.bin", "ema__000001.pt", "ema_000001.pt", "model0000001.pt", "best.pt",
                           "model00000x.pt", "model99999999999999999999.pt"}) {
    EXPECT_EQ(ParsePublishedName(name), std::nullopt) << name;
  }
  for (const char* name : {"model000001.pt", "ema_0.9999_500000.pt", "opt1234567.pt"}) {
    EXPECT_EQ(PublishedFileName(*ParsePublishedName(name)), name);
  }
}

TEST_F(PublishedFilesTest, ReadsTheModelAndTheAverageOfThePublishedCode) {
  for (const std::string file : {"model000001.pt", "ema_0.9999_000001.pt"}) {
    const json& golden = Golden()["files"][file];
    Buffers model(golden["keys"]);
    const auto archive = Open(kGolden + "checkpoint/" + file);
    ASSERT_NE(archive, nullptr);
    const absl::StatusOr<KeyReport> report = ReadPublishedModel(*archive, model.views, /*partial=*/false);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->loaded.size(), golden["keys"].size());
    for (const MutableTensorView& view : model.views) ExpectStats(view.values, golden["stats"][view.name], view.name);
  }
}

TEST_F(PublishedFilesTest, ReadsTheOptimizerOfThePublishedCode) {
  const json& keys = Golden()["files"]["model000001.pt"]["keys"];
  const json& golden = Golden()["files"]["opt000001.pt"];
  Buffers exp_avg(keys), exp_avg_sq(keys);
  const auto archive = Open(kGolden + "checkpoint/opt000001.pt");
  ASSERT_NE(archive, nullptr);
  const absl::StatusOr<PublishedOptimizer> optimizer =
      ReadPublishedOptimizer(*archive, exp_avg.views, exp_avg_sq.views);
  ASSERT_TRUE(optimizer.ok()) << optimizer.status();
  EXPECT_EQ(optimizer->step, Golden()["updates_in_file"]["opt000001.pt"]);
  EXPECT_EQ(optimizer->learning_rate, 1e-3);
  EXPECT_EQ(optimizer->beta2, 0.999);
  for (size_t i = 0; i < exp_avg.views.size(); ++i) {
    const json& stats = golden["stats"][exp_avg.views[i].name];
    ExpectStats(exp_avg.views[i].values, stats["exp_avg"], exp_avg.views[i].name);
    ExpectStats(exp_avg_sq.views[i].values, stats["exp_avg_sq"], exp_avg.views[i].name);
  }
}

TEST_F(PublishedFilesTest, ReadsTheOptimizerLayoutOfOlderTorch) {
  const json& golden = Golden()["opt_legacy_layout"];
  const json keys = json::parse(R"([["a", [2, 3]], ["b", [3]]])");
  Buffers exp_avg(keys), exp_avg_sq(keys);
  const auto archive = Open(kGolden + "checkpoint/opt_legacy_layout.pt");
  ASSERT_NE(archive, nullptr);
  const absl::StatusOr<PublishedOptimizer> optimizer =
      ReadPublishedOptimizer(*archive, exp_avg.views, exp_avg_sq.views);
  ASSERT_TRUE(optimizer.ok()) << optimizer.status();
  EXPECT_EQ(optimizer->step, golden["step"]);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(exp_avg.values[0][i + 3], golden["values"]["0"]["exp_avg"][1][i].get<float>());
    EXPECT_EQ(exp_avg_sq.values[1][i], golden["values"]["1"]["exp_avg_sq"][i].get<float>());
  }
}

TEST_F(PublishedFilesTest, ReadsPlainTensors) {
  const auto archive = Open(kGolden + "tiny_excerpt_plain.pt");
  ASSERT_NE(archive, nullptr);
  const auto entries = StateDict(*archive);
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ(entries->size(), 10u);
  EXPECT_EQ(entries->front().first, "time_embed.0.weight");
}

TEST_F(PublishedFilesTest, TellsWhichKeysDoNotFit) {
  const json keys = json::parse(R"([["time_embed.0.bias", [128]], ["time_embed.2.bias", [7]], ["other", [1]]])");
  Buffers model(keys);
  const auto archive = Open(kGolden + "checkpoint/model000001.pt");
  const absl::StatusOr<KeyReport> strict = ReadPublishedModel(*archive, model.views, /*partial=*/false);
  EXPECT_TRUE(absl::IsFailedPrecondition(strict.status())) << strict.status();
  EXPECT_THAT(std::string(strict.status().message()), HasSubstr("1 missing: other"));
  EXPECT_TRUE(std::isnan(model.values[0][0]));

  const absl::StatusOr<KeyReport> partial = ReadPublishedModel(*archive, model.views, /*partial=*/true);
  ASSERT_TRUE(partial.ok()) << partial.status();
  EXPECT_THAT(partial->loaded, ElementsAre("time_embed.0.bias"));
  EXPECT_THAT(partial->missing, ElementsAre("other"));
  EXPECT_THAT(partial->wrong_shape, ElementsAre("time_embed.2.bias: (128) in the file, (7) in the model"));
  EXPECT_EQ(partial->unexpected.size(), 86u);
  EXPECT_FALSE(std::isnan(model.values[0][0]));
  EXPECT_TRUE(std::isnan(model.values[1][0]));

  Buffers none(json::parse(R"([["other", [1]]])"));
  EXPECT_FALSE(ReadPublishedModel(*archive, none.views, /*partial=*/true).ok());
  EXPECT_FALSE(ReadPublishedOptimizer(*archive, none.views, none.views).ok());
  const auto optimizer = Open(kGolden + "checkpoint/opt000001.pt");
  EXPECT_TRUE(absl::IsInvalidArgument(StateDict(*optimizer).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadPublishedOptimizer(*optimizer, none.views, none.views).status()));
}

TEST_F(PublishedFilesTest, ReadsBackWhatItWrites) {
  const json& keys = Golden()["files"]["model000001.pt"]["keys"];
  Buffers model(keys), again(keys), second(keys), third(keys);
  ASSERT_TRUE(ReadPublishedModel(*Open(kGolden + "checkpoint/model000001.pt"), model.views, false).ok());
  const std::string path = directory_ + "/model000001.pt";
  ASSERT_TRUE(WritePtModel(path, model.Const()).ok());
  ASSERT_TRUE(ReadPublishedModel(*Open(path), again.views, false).ok());
  EXPECT_EQ(again.values, model.values);
  const std::string first = ReadFile(path);
  ASSERT_TRUE(WritePtModel(path, again.Const()).ok());
  EXPECT_EQ(ReadFile(path), first);

  const std::string opt = directory_ + "/opt000001.pt";
  const PublishedOptimizer written{70000, 2e-5, 0.9, 0.999, 1e-8, 0.5};
  ASSERT_TRUE(WritePtOptimizer(opt, written, model.Const(), again.Const()).ok());
  const auto optimizer = ReadPublishedOptimizer(*Open(opt), second.views, third.views);
  ASSERT_TRUE(optimizer.ok()) << optimizer.status();
  EXPECT_EQ(optimizer->step, 70000);
  EXPECT_EQ(optimizer->weight_decay, 0.5);
  EXPECT_EQ(third.values, model.values);
  EXPECT_TRUE(absl::IsNotFound(WritePtModel(directory_ + "/none/model.pt", {})));
}

TEST_F(PublishedFilesTest, RefusesWhatTorchSaveDoesNotWrite) {
  const std::string pickle = "\x80\x02}."s;
  const auto refusal = [&](const std::vector<std::pair<std::string, std::string>>& entries, int method = ZIP_CM_STORE) {
    const absl::Status status = PtArchive::Open(WriteZip(entries, method)).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("made.pt: "));
    return status.ToString();
  };
  EXPECT_TRUE(PtArchive::Open(WriteZip({{"any name/data.pkl", pickle}, {"any name/byteorder", "little"}})).ok());
  EXPECT_THAT(refusal({{"a/data.pkl", pickle}, {"a/byteorder", "big"}}), HasSubstr("byteorder"));
  EXPECT_THAT(refusal({{"a/x", pickle}}), HasSubstr("without data.pkl"));
  EXPECT_THAT(refusal({{"a/data.pkl", pickle}, {"b/data.pkl", pickle}}), HasSubstr("two data.pkl"));
  EXPECT_THAT(refusal({{"a/data.pkl", "\x80\x02" "cos\nsystem\nX\x02\0\0\0id\x85R."s}}), HasSubstr("os.system"));
  // A zip bomb: 10 MB of the same byte in a few kB.
  EXPECT_THAT(refusal({{"a/data.pkl", std::string(10'000'000, 'N')}}, ZIP_CM_DEFLATE), HasSubstr("is compressed"));
  EXPECT_THAT(refusal({{"a/data.pkl", std::string(kMaxPickleBytes + 1, 'N')}}), HasSubstr("at most"));
  EXPECT_TRUE(absl::IsNotFound(PtArchive::Open(directory_ + "/none.pt").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(PtArchive::Open(directory_).status()));
}

TEST_F(PublishedFilesTest, RefusesManyTensorsOfOneStorage) {
  std::string pickle = "\x80\x02](ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"s +
                       "0X\x03\0\0\0cpuJ\x00\x00\x04\x00tQK\x00J\x00\x00\x04\x00\x85K\x01\x85\x89"s +
                       "ccollections\nOrderedDict\n)RtRe("s;
  const size_t call = pickle.find("ctorch._utils");
  const std::string one = pickle.substr(call, pickle.size() - call - 2);
  for (int i = 0; i < 8; ++i) pickle += one;
  pickle += "e.";
  const std::string path = WriteZip({{"a/data.pkl", pickle}, {"a/data/0", std::string(1 << 20, '\0')}});
  EXPECT_THAT(PtArchive::Open(path).status().ToString(), HasSubstr("claim more than"));
}

TEST_F(PublishedFilesTest, ReadsViewsAndOtherTypesAsFloats) {
  const std::string head = "\x80\x02" "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"s;
  const std::string tail = "\nX\x01\0\0\0"s + "0X\x03\0\0\0cpuK\x06tQK\x00(K\x03K\x02t(K\x01K\x03t\x89"s +
                           "ccollections\nOrderedDict\n)RtR."s;  // (3, 2), transposed
  const auto read = [&](const std::string& storage_class, const std::string& bytes) {
    const auto archive = Open(WriteZip({{"a/data.pkl", head + storage_class + tail}, {"a/data/0", bytes}}));
    std::vector<float> values(6);
    const absl::Status status = archive->ReadFloats(archive->root(), absl::MakeSpan(values));
    EXPECT_TRUE(status.ok()) << status;
    return values;
  };
  EXPECT_THAT(read("ByteStorage", "\x00\x01\x02\x03\x04\x05"s), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(read("HalfStorage", "\x00\x3c\x00\xc0\xff\x7b\x01\x00\x00\x7c\x00\x80"s),
              ElementsAre(1, 0x1p-24f, -2, INFINITY, 65504, 0));
  EXPECT_THAT(read("BFloat16Storage", "\x80\x3f\x00\xc0\x00\x00\x00\x00\x00\x00\x00\x00"s), ElementsAre(1, 0, -2, 0, 0, 0));
  EXPECT_THAT(read("DoubleStorage", std::string(40, '\0') + "\0\0\0\0\0\0\xf0\x3f"s), ElementsAre(0, 0, 0, 0, 0, 1));
  EXPECT_THAT(read("LongStorage", std::string(40, '\0') + "\xff\xff\xff\xff\xff\xff\xff\xff"s), ElementsAre(0, 0, 0, 0, 0, -1));

  const auto archive = Open(WriteZip({{"a/data.pkl", head + "FloatStorage" + tail}, {"a/data/0", "short"}}));
  EXPECT_TRUE(absl::IsDataLoss(archive->Read(archive->root()).status()));
  const auto empty = Open(WriteZip({{"a/data.pkl", head + "FloatStorage" + tail}}));
  EXPECT_THAT(empty->Read(empty->root()).status().ToString(), HasSubstr("data/0 is missing"));
}

// What a damaged file's bytes come to: an error, or exactly what the whole file held.
class DamagedPtTest : public ::testing::TestWithParam<std::pair<const char*, size_t>> {
 protected:
  static std::vector<std::vector<uint8_t>> Content(absl::string_view bytes, bool* ok) {
    std::vector<std::vector<uint8_t>> content;
    const auto archive = PtArchive::OpenBytes(bytes, "input");
    *ok = archive.ok();
    if (!*ok) return content;
    for (const PickleObject* tensor : (*archive)->tensors()) {
      absl::StatusOr<std::vector<uint8_t>> values = (*archive)->Read(*tensor);
      if (!values.ok()) {
        *ok = false;
        return {};
      }
      content.push_back(*std::move(values));
    }
    return content;
  }
};

TEST_P(DamagedPtTest, IsAnErrorAtEveryLength) {
  const std::string bytes = ReadFile(kGolden + GetParam().first);
  ASSERT_TRUE(ReadPtBytes(bytes));
  for (size_t length = 0; length < bytes.size(); ++length) {
    ASSERT_FALSE(ReadPtBytes(absl::string_view(bytes).substr(0, length))) << length;
  }
}

TEST_P(DamagedPtTest, IsAnErrorOrUnchangedWithAnyBitFlipped) {
  const auto [name, stride] = GetParam();
  std::string bytes = ReadFile(kGolden + name);
  bool ok = false;
  const auto expected = Content(bytes, &ok);
  ASSERT_TRUE(ok);
  for (size_t bit = 0; bit < 8 * bytes.size(); bit += stride) {
    const char flip = static_cast<char>(1 << (bit % 8));
    char& byte = bytes[bit / 8];
    byte = static_cast<char>(byte ^ flip);
    const auto content = Content(bytes, &ok);
    ASSERT_TRUE(!ok || content == expected) << "bit " << bit;
    byte = static_cast<char>(byte ^ flip);
  }
}

// With the stride of the flips: every bit of the small file, a prime stride through the larger ones.
INSTANTIATE_TEST_SUITE_P(Golden, DamagedPtTest,
                         ::testing::Values(std::pair{"checkpoint/opt_legacy_layout.pt", size_t{1}},
                                           std::pair{"tiny_excerpt_plain.pt", size_t{31}},
                                           std::pair{"checkpoint/model000001.pt", size_t{3989}}),
                         [](const auto& info) { return absl::StrCat("File", info.index); });

}  // namespace
}  // namespace p2::checkpoint

#include "common/image/shard.h"

#include <fcntl.h>

#include "absl/strings/str_replace.h"
#include "common/file_util.h"
#include "common/sha256.h"
#include "gmock/gmock.h"
#include "tests/common/image/image_test_util.h"

namespace p2::image {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kDigest[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

DatasetManifest SomeManifest() {
  DatasetManifest manifest;
  manifest.name = "flowers";
  manifest.resolution = 2;
  manifest.channels = 3;
  manifest.count = 5;
  manifest.fingerprint = kDigest;
  manifest.shards = {{"shard-00000.p2s", 3, 64 + 36 + 16, kDigest}, {"shard-00001.p2s", 2, 64 + 24 + 12, kDigest}};
  manifest.bad_count = 1;
  manifest.bad_images = {{"a/b.png", "the file is empty"}};
  manifest.created_by = "p2 0.1.0";
  return manifest;
}

std::string LoadError(const TempDir& dir) { return std::string(LoadManifest(dir.path()).status().message()); }

TEST(ShardHeaderTest, SurvivesTheRoundTrip) {
  const ShardHeader header{3, 256, 128, 1'000'000'000'000, 42};
  const auto bytes = EncodeShardHeader(header);
  EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 8), "P2SHARD\n");
  const absl::StatusOr<ShardHeader> back = DecodeShardHeader(bytes);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, header);
}

TEST(ShardHeaderTest, NoticesEveryFlippedBit) {
  const auto bytes = EncodeShardHeader({1, 8, 8, 10, 0});
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    auto damaged = bytes;
    damaged[bit / 8] ^= 1 << bit % 8;
    EXPECT_EQ(DecodeShardHeader(damaged).status().code(), absl::StatusCode::kDataLoss) << bit;
  }
}

TEST(ShardHeaderTest, RefusesImpossibleShapes) {
  EXPECT_FALSE(DecodeShardHeader(EncodeShardHeader({2, 8, 8, 1, 0})).ok());
  EXPECT_FALSE(DecodeShardHeader(EncodeShardHeader({3, 0, 8, 1, 0})).ok());
  EXPECT_FALSE(DecodeShardHeader(EncodeShardHeader({3, 8, 100'000, 1, 0})).ok());
}

TEST(ShardWriterTest, WritesHeaderAndRecordsAndPromisesTheirDigest) {
  TempDir dir;
  auto writer = ShardWriter::Create(dir.path(), 7, {1, 1, 2, 0, 100});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Append(std::vector<uint8_t>{1, 2}).ok());
  ASSERT_TRUE((*writer)->Append(std::vector<uint8_t>{3, 4}).ok());
  EXPECT_FALSE((*writer)->Append(std::vector<uint8_t>{5}).ok());
  const absl::StatusOr<ShardInfo> info = (*writer)->Finish();
  ASSERT_TRUE(info.ok()) << info.status();
  const std::vector<uint8_t> file = ReadBytes(dir / "shard-00007.p2s");
  Sha256 sha;
  sha.Update(file);
  EXPECT_EQ(*info, (ShardInfo{"shard-00007.p2s", 2, 64 + 4 + 12, Hex(sha.Finish())}));
  EXPECT_THAT(std::vector<uint8_t>(file.begin() + 64, file.begin() + 68), ElementsAre(1, 2, 3, 4));
  const absl::StatusOr<ShardHeader> header = DecodeShardHeader(absl::MakeConstSpan(file).first(64));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(*header, (ShardHeader{1, 1, 2, 2, 100}));
}

TEST(ShardWriterTest, KeepsAChecksumOfEachRecordThatFindsEveryFlippedBit) {
  TempDir dir;
  auto writer = ShardWriter::Create(dir.path(), 0, {1, 3, 3, 0, 0});
  ASSERT_TRUE(writer.ok()) << writer.status();
  const std::vector<uint8_t> first = {'1', '2', '3', '4', '5', '6', '7', '8', '9'}, second(9, 7);
  ASSERT_TRUE((*writer)->Append(first).ok());
  ASSERT_TRUE((*writer)->Append(second).ok());
  const absl::StatusOr<ShardInfo> info = (*writer)->Finish();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->bytes, ShardBytes(2, 2, 9));
  const std::string path = dir / info->file;
  const ShardHeader header{1, 3, 3, 2, 0};
  const auto checksums = [&] {
    const UniqueFd fd(open(path.c_str(), O_RDONLY));
    return ReadChecksums(fd.get(), path, header);
  };
  ASSERT_TRUE(checksums().ok()) << checksums().status();
  ASSERT_EQ(checksums()->size(), 2u);
  EXPECT_EQ(checksums()->front(), 0xE3069283u);  // The published check value of CRC-32C.
  for (size_t bit = 0; bit < 8 * second.size(); ++bit) {
    std::vector<uint8_t> damaged = second;
    damaged[bit / 8] ^= 1 << bit % 8;
    const absl::Status status = CheckRecord(damaged, checksums()->back(), "x/shard-00000.p2s", 1);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << bit;
    EXPECT_THAT(std::string(status.message()), HasSubstr("x/shard-00000.p2s: record 1 (bytes 73 to 81) is damaged"));
  }
  // The checksums themselves: every bit of them, and every truncation.
  const std::vector<uint8_t> good = ReadBytes(path);
  for (size_t at = 64 + 18; at < good.size(); ++at) {
    std::vector<uint8_t> damaged = good;
    damaged[at] ^= 1;
    WriteBytes(path, damaged);
    EXPECT_THAT(std::string(checksums().status().message()), HasSubstr("(from byte 82) are damaged")) << at;
    WriteBytes(path, {good.begin(), good.begin() + at});
    EXPECT_THAT(std::string(checksums().status().message()), HasSubstr("too few for 2 records")) << at;
  }
}

TEST(ShardWriterTest, LeavesNothingWhenItIsNotFinished) {
  TempDir dir;
  {
    auto writer = ShardWriter::Create(dir.path(), 0, {1, 1, 1, 0, 0});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Append(std::vector<uint8_t>{1}).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(FingerprintTest, HasAKnownAnswer) {
  // python3: p = lambda *v: b"".join(x.to_bytes(8, "little") for x in v); s = lambda b: hashlib.sha256(b)
  //   s(p(1, 1, 3, 2) + s(b"\1\2\3").digest() + s(b"\4\5\6").digest()).hexdigest()
  Fingerprint fingerprint;
  fingerprint.Add(Fingerprint::OfRecord(std::vector<uint8_t>{1, 2, 3}));
  fingerprint.Add(Fingerprint::OfRecord(std::vector<uint8_t>{4, 5, 6}));
  EXPECT_EQ(fingerprint.Finish(1, 3), "41534093cdcc7d19439293888f9c5ff634441a209f7cf9771f10604827bebdce");
}

TEST(ManifestTest, SurvivesTheRoundTrip) {
  TempDir dir;
  const DatasetManifest manifest = SomeManifest();
  ASSERT_TRUE(SaveManifest(manifest, dir.path()).ok());
  const absl::StatusOr<DatasetManifest> back = LoadManifest(dir.path());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, manifest);
}

TEST(ManifestTest, KeepsWhatItCanOfANameThatIsNotUtf8) {
  TempDir dir;
  DatasetManifest manifest = SomeManifest();
  manifest.bad_images = {{"caf\xe9.png", "no \x01 picture"}};
  ASSERT_TRUE(SaveManifest(manifest, dir.path()).ok());
  const absl::StatusOr<DatasetManifest> back = LoadManifest(dir.path());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->bad_images[0].path, "caf\xef\xbf\xbd.png");
  EXPECT_EQ(back->bad_images[0].reason, "no \x01 picture");
}

TEST(ManifestTest, SaysThatADirectoryIsNoDataset) {
  TempDir dir;
  EXPECT_EQ(LoadManifest(dir.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(LoadError(dir), HasSubstr("p2ctl dataset prepare"));
  EXPECT_EQ(LoadManifest(dir / "missing").status().code(), absl::StatusCode::kNotFound);
}

TEST(ManifestTest, NamesTheFieldThatIsWrong) {
  TempDir dir;
  ASSERT_TRUE(SaveManifest(SomeManifest(), dir.path()).ok());
  const std::vector<uint8_t> bytes = ReadBytes(dir / kManifestFile);
  const std::string text(bytes.begin(), bytes.end());
  const struct {
    const char *from, *to, *message;
  } kCases[] = {
      {"\"resolution\": 2", "\"resolution\": \"2\"", "resolution is not a number"},
      {"\"resolution\": 2", "\"resolution\": -2", "resolution is not a number"},
      {"\"resolution\": 2", "\"resolution\": 0", "not possible"},
      {"\"channels\": 3", "\"channels\": 2", "not possible"},
      {"\"name\"", "\"nome\"", "name is missing"},
      {"\"created_by\"", "\"x\": 1, \"created_by\"", "x is not a field"},
      {"\"count\": 5", "\"count\": 6", "count is 6, the shards hold 5"},
      {"shard-00001.p2s", "../../etc/passwd", "shard 1 is not shard-00001.p2s"},
      {"\"bytes\": 100", "\"bytes\": 101", "2 records cannot take 101 bytes"},
      {"\"format\": \"p2-dataset\"", "\"format\": \"zip\"", "format is not"},
      {"00112233", "0011223X", "is not a SHA-256"},
      {"{", "[", "is not an object"},
  };
  for (const auto& c : kCases) {
    std::ofstream(dir / kManifestFile) << absl::StrReplaceAll(text, {{c.from, c.to}});
    EXPECT_EQ(LoadManifest(dir.path()).status().code(), absl::StatusCode::kDataLoss) << c.to;
    EXPECT_THAT(LoadError(dir), HasSubstr(c.message));
  }
  std::ofstream(dir / kManifestFile) << absl::StrReplaceAll(text, {{"\"version\": 2", "\"version\": 3"}});
  EXPECT_EQ(LoadManifest(dir.path()).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ManifestTest, ReadsSetsOfTheFirstVersion) {
  TempDir dir;
  DatasetManifest manifest = SomeManifest();
  manifest.version = 1;
  for (ShardInfo& shard : manifest.shards) shard.bytes = ShardBytes(1, shard.count, manifest.record_bytes());
  ASSERT_TRUE(SaveManifest(manifest, dir.path()).ok());
  const absl::StatusOr<DatasetManifest> back = LoadManifest(dir.path());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, manifest);
}

// 2^40 records of 2^24 bytes are 2^64: as if it were nothing.
TEST(ManifestTest, RefusesCountsWhoseBytesLeaveSixtyThreeBits) {
  TempDir dir;
  DatasetManifest manifest = SomeManifest();
  manifest.resolution = 4096;
  manifest.channels = 1;
  manifest.version = 1;
  manifest.count = uint64_t{1} << 40;
  manifest.shards = {{"shard-00000.p2s", manifest.count, 64, kDigest}};
  ASSERT_TRUE(SaveManifest(manifest, dir.path()).ok());
  EXPECT_EQ(LoadManifest(dir.path()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(LoadError(dir), HasSubstr("count is 1099511627776, at most"));
}

TEST(ManifestTest, RefusesEveryTruncation) {
  TempDir dir;
  ASSERT_TRUE(SaveManifest(SomeManifest(), dir.path()).ok());
  std::vector<uint8_t> bytes = ReadBytes(dir / kManifestFile);
  for (size_t size = 0; size + 2 < bytes.size(); size += 3) {
    WriteBytes(dir / kManifestFile, {bytes.begin(), bytes.begin() + size});
    EXPECT_EQ(LoadManifest(dir.path()).status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

}  // namespace
}  // namespace p2::image

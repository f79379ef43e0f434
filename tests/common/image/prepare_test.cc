#include "common/image/prepare.h"

#include <fcntl.h>
#include <sys/file.h>
#include <zip.h>

#include <algorithm>

#include "common/file_util.h"
#include "common/image/decode.h"
#include "common/image/pillow_resize.h"
#include "common/image/png_write.h"
#include "gmock/gmock.h"
#include "tests/common/image/image_test_util.h"

namespace p2::image {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A 4 x 4 grey picture of one value.
std::vector<uint8_t> Grey(uint8_t value) {
  Image image{4, 4, 1, std::vector<uint8_t>(16, value)};
  const std::string png = *EncodePng(image);
  return {png.begin(), png.end()};
}

PrepareOptions Options(const std::string& input, const std::string& output) {
  PrepareOptions options;
  options.input = input;
  options.output = output;
  options.name = "test";
  options.resolution = 4;
  options.channels = 1;
  options.threads = 2;
  return options;
}

// The first pixel of every record, in order.
std::vector<int> FirstPixels(const std::string& output) {
  const absl::StatusOr<DatasetManifest> manifest = LoadManifest(output);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  std::vector<int> firsts;
  for (const ShardInfo& shard : manifest->shards) {
    const std::vector<uint8_t> file = ReadBytes(output + "/" + shard.file);
    for (uint64_t i = 0; i < shard.count; ++i) firsts.push_back(file[kShardHeaderBytes + i * manifest->record_bytes()]);
  }
  return firsts;
}

void MakeZip(const std::string& path, const std::vector<std::pair<std::string, std::vector<uint8_t>>>& entries) {
  int error = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
  ASSERT_NE(zip, nullptr);
  for (const auto& [name, bytes] : entries) {
    zip_source_t* source = zip_source_buffer(zip, bytes.data(), bytes.size(), 0);
    ASSERT_GE(zip_file_add(zip, name.c_str(), source, ZIP_FL_OVERWRITE), 0);
  }
  ASSERT_EQ(zip_close(zip), 0);
}

TEST(PrepareDatasetTest, TakesADirectoryInTheOrderOfThePublishedCode) {
  TempDir dir;
  WriteBytes(dir / "in/b.png", Grey(20));
  WriteBytes(dir / "in/a/z.PNG", Grey(10));
  WriteBytes(dir / "in/a.png", Grey(15));  // After directory "a": names are compared, not paths.
  WriteBytes(dir / "in/c/1/x.png", Grey(30));
  WriteBytes(dir / "in/B.png", Grey(5));
  WriteBytes(dir / "in/notes.txt", {1});
  const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(Options(dir / "in", dir / "out"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_THAT(FirstPixels(dir / "out"), ElementsAre(5, 10, 15, 20, 30));
  EXPECT_EQ(manifest->count, 5u);
  EXPECT_EQ(manifest->bad_count, 0u);
  EXPECT_EQ(*LoadManifest(dir / "out"), *manifest);
  EXPECT_FALSE(fs::exists(dir / "out.tmp"));
  EXPECT_TRUE(VerifyDataset(dir / "out").ok()) << VerifyDataset(dir / "out").status();
}

TEST(PrepareDatasetTest, MakesTheSameBytesOfAZipWithAnyNumberOfThreads) {
  TempDir dir;
  std::vector<std::pair<std::string, std::vector<uint8_t>>> entries;
  for (int i = 0; i < 60; ++i) {
    entries.push_back({absl::StrCat("d", i % 7, "/", i, ".png"), Grey(static_cast<uint8_t>(i))});
    WriteBytes(dir / ("in/" + entries.back().first), entries.back().second);
  }
  std::reverse(entries.begin(), entries.end());
  MakeZip(dir / "in.zip", entries);
  PrepareOptions options = Options(dir / "in", dir / "one");
  options.threads = 1;
  options.shard_bytes = 16 * 16;
  ASSERT_TRUE(PrepareDataset(options).ok());
  options.input = dir / "in.zip";
  options.output = dir / "many";
  options.threads = 5;
  options.memory_budget_bytes = 1;
  const absl::StatusOr<DatasetManifest> many = PrepareDataset(options);
  ASSERT_TRUE(many.ok()) << many.status();
  EXPECT_EQ(*many, *LoadManifest(dir / "one"));
  EXPECT_EQ(many->shards.size(), 4u);
  EXPECT_EQ(FirstPixels(dir / "many"), FirstPixels(dir / "one"));
}

TEST(PrepareDatasetTest, StoresRgbAsPlanes) {
  TempDir dir;
  fs::create_directories(dir / "in");
  fs::copy(TestData("rgb_420.jpg"), dir / "in/1.jpeg");
  PrepareOptions options = Options(dir / "in", dir / "out");
  options.channels = 3;
  options.resolution = 8;
  ASSERT_TRUE(PrepareDataset(options).ok());
  const Image crop = *CenterCropAdm(*Decode(ReadBytes(TestData("rgb_420.jpg"))), 8);
  const std::vector<uint8_t> file = ReadBytes(dir / "out/shard-00000.p2s");
  ASSERT_EQ(file.size(), ShardBytes(kShardVersion, 1, 192));
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 64; ++i) ASSERT_EQ(file[64 + c * 64 + i], crop.pixels[i * 3 + c]);
  }
}

TEST(PrepareDatasetTest, HasAFingerprintOfContentAlone) {
  TempDir dir;
  WriteBytes(dir / "in/a.png", Grey(1));
  WriteBytes(dir / "in/b.png", Grey(2));
  WriteBytes(dir / "renamed/x/k.png", Grey(1));
  WriteBytes(dir / "renamed/y/k.png", Grey(2));
  WriteBytes(dir / "renamed/y/broken.png", {1, 2, 3});
  WriteBytes(dir / "swapped/a.png", Grey(2));
  WriteBytes(dir / "swapped/b.png", Grey(1));
  const auto fingerprint = [&](const std::string& input) {
    PrepareOptions options = Options(dir / input, dir / (input + ".out"));
    options.shard_bytes = input == "renamed" ? 1 : 1 << 20;
    options.name = input;
    const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(options);
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return manifest->fingerprint;
  };
  EXPECT_EQ(fingerprint("in"), fingerprint("renamed"));
  EXPECT_NE(fingerprint("in"), fingerprint("swapped"));
}

TEST(PrepareDatasetTest, ListsUnreadableFilesWithTheReason) {
  TempDir dir;
  WriteBytes(dir / "in/good.png", Grey(7));
  WriteBytes(dir / "in/text.png", {'h', 'e', 'l', 'l', 'o'});
  WriteBytes(dir / "in/empty.jpg", {});
  std::vector<uint8_t> cut = Grey(9);
  cut.resize(45);
  WriteBytes(dir / "in/cut.png", cut);
  const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(Options(dir / "in", dir / "out"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->count, 1u);
  EXPECT_EQ(manifest->bad_count, 3u);
  ASSERT_EQ(manifest->bad_images.size(), 3u);
  EXPECT_EQ(manifest->bad_images[0].path, "cut.png");
  EXPECT_THAT(manifest->bad_images[0].reason, HasSubstr("PNG: the file ends before"));
  EXPECT_THAT(manifest->bad_images[1].reason, HasSubstr("the file is empty"));
  EXPECT_THAT(manifest->bad_images[2].reason, HasSubstr("neither a JPEG nor a PNG"));
}

TEST(PrepareDatasetTest, FailsWithNumbersWhenNothingIsReadable) {
  TempDir dir;
  WriteBytes(dir / "in/text.png", {'h', 'e', 'l', 'l', 'o'});
  WriteBytes(dir / "in/more.png", {'h', 'e', 'l', 'l', 'o'});
  const absl::Status status = PrepareDataset(Options(dir / "in", dir / "out")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("none of the 2 images"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("more.png: neither"));
  EXPECT_FALSE(fs::exists(dir / "out"));
  EXPECT_FALSE(fs::exists(dir / "out.tmp"));
}

TEST(PrepareDatasetTest, NamesAnInputThatIsMissingEmptyOrNoZip) {
  TempDir dir;
  EXPECT_EQ(PrepareDataset(Options(dir / "nowhere", dir / "out")).status().code(), absl::StatusCode::kNotFound);
  WriteBytes(dir / "in/readme.txt", {1});
  const absl::Status empty = PrepareDataset(Options(dir / "in", dir / "out")).status();
  EXPECT_EQ(empty.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(empty.message()), HasSubstr("1 files, none named .jpg, .jpeg, .png, .gif or .webp"));
  WriteBytes(dir / "in.zip", {'P', 'K', 1, 2, 3});
  const absl::Status zip = PrepareDataset(Options(dir / "in.zip", dir / "out")).status();
  EXPECT_EQ(zip.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(zip.message()), HasSubstr("neither a directory nor a readable ZIP"));
}

TEST(PrepareDatasetTest, RefusesOptionsThatAreWrong) {
  TempDir dir;
  WriteBytes(dir / "in/a.png", Grey(1));
  const auto code = [&](auto change) {
    PrepareOptions options = Options(dir / "in", dir / "out");
    change(options);
    return PrepareDataset(options).status().code();
  };
  EXPECT_EQ(code([](PrepareOptions& o) { o.name = "../up"; }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](PrepareOptions& o) { o.resolution = 0; }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](PrepareOptions& o) { o.resolution = 5000; }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](PrepareOptions& o) { o.channels = 4; }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([&](PrepareOptions& o) { o.output = dir / "no/parent/out"; }), absl::StatusCode::kNotFound);
}

TEST(PrepareDatasetTest, KeepsAnEqualOutputAndRefusesAnother) {
  TempDir dir;
  WriteBytes(dir / "in/a.png", Grey(1));
  const absl::StatusOr<DatasetManifest> first = PrepareDataset(Options(dir / "in", dir / "out"));
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::StatusOr<DatasetManifest> again = PrepareDataset(Options(dir / "in", dir / "out"));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, *first);

  WriteBytes(dir / "in/b.png", Grey(2));
  const absl::Status other = PrepareDataset(Options(dir / "in", dir / "out")).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(other.message()), HasSubstr("holds other images"));
  EXPECT_EQ(*LoadManifest(dir / "out"), *first);

  fs::create_directories(dir / "mine");
  EXPECT_EQ(PrepareDataset(Options(dir / "in", dir / "mine")).status().code(), absl::StatusCode::kAlreadyExists);
}

// Stops after `done` images; what the stop said.
std::string StopAfter(PrepareOptions options, uint64_t done) {
  std::stop_source stop;
  options.stop = stop.get_token();
  options.progress_interval = absl::ZeroDuration();
  options.progress = [&](const PrepareProgress& progress) {
    if (progress.done >= done) stop.request_stop();
  };
  const absl::Status status = PrepareDataset(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  return std::string(status.message());
}

// Images done before this session, from the first call of progress.
uint64_t DoneAtStart(PrepareOptions options) {
  uint64_t first = 0;
  options.progress_interval = absl::ZeroDuration();
  options.progress = [&](const PrepareProgress& progress) { first = first == 0 ? progress.done : first; };
  const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(options);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  return first - 1;
}

TEST(PrepareDatasetTest, GoesOnAfterTheCompleteShardsOfAStoppedOne) {
  TempDir dir;
  for (int i = 0; i < 50; ++i) {
    WriteBytes(dir / absl::StrCat("in/", i + 10, ".png"),
               i % 9 == 4 ? std::vector<uint8_t>{1} : Grey(static_cast<uint8_t>(i)));
  }
  PrepareOptions options = Options(dir / "in", dir / "whole");
  options.shard_bytes = 16 * 6;
  ASSERT_TRUE(PrepareDataset(options).ok());
  options.output = dir / "out";
  EXPECT_THAT(StopAfter(options, 20), HasSubstr("complete shards"));
  EXPECT_TRUE(fs::exists(dir / "out.tmp/shard-00001.p2s"));
  WriteBytes(dir / "out.tmp/shard-00040.p2s", {1, 2, 3});
  StopAfter(options, 30);  // Once more.
  EXPECT_GE(DoneAtStart(options), 20u);
  EXPECT_FALSE(fs::exists(dir / "out.tmp"));
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(dir / "whole")) files.push_back(entry.path().filename());
  for (const std::string& file : files)
    EXPECT_EQ(ReadBytes(dir / ("out/" + file)), ReadBytes(dir / ("whole/" + file))) << file;
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / "out"), {}), static_cast<std::ptrdiff_t>(files.size()));
}

TEST(PrepareDatasetTest, StartsAnewWhereWhatWasKeptDoesNotFit) {
  TempDir dir;
  for (int i = 0; i < 30; ++i) WriteBytes(dir / absl::StrCat("in/", i + 10, ".png"), Grey(static_cast<uint8_t>(i)));
  PrepareOptions options = Options(dir / "in", dir / "out");
  options.shard_bytes = 16 * 5;
  const auto stop_and = [&](auto change) {
    fs::remove_all(dir / "out");
    StopAfter(options, 17);
    EXPECT_TRUE(fs::exists(dir / "out.tmp/partial.json"));
    PrepareOptions changed = options;
    change(changed);
    return DoneAtStart(changed);
  };
  EXPECT_GT(stop_and([](PrepareOptions&) {}), 0u);
  EXPECT_EQ(stop_and([](PrepareOptions& o) { o.channels = 3; }), 0u);
  EXPECT_EQ(stop_and([](PrepareOptions& o) { o.exif = true; }), 0u);
  EXPECT_EQ(stop_and([&](PrepareOptions&) { WriteBytes(dir / "in/new.png", Grey(1)); }), 0u);
  EXPECT_EQ(stop_and([&](PrepareOptions&) { WriteBytes(dir / "out.tmp/partial.json", {'{'}); }), 0u);
  EXPECT_EQ(stop_and([&](PrepareOptions&) {
              std::vector<uint8_t> shard = ReadBytes(dir / "out.tmp/shard-00000.p2s");
              shard.back() ^= 1;
              WriteBytes(dir / "out.tmp/shard-00000.p2s", shard);
            }),
            0u);
}

TEST(PrepareDatasetTest, ListsWhatPassesALimit) {
  TempDir dir;
  WriteBytes(dir / "in/a.png", Grey(1));
  const std::string large = *EncodePng(Image{8, 8, 1, std::vector<uint8_t>(64, 3)});
  WriteBytes(dir / "in/b.png", {large.begin(), large.end()});
  WriteBytes(dir / "in/c.png", std::vector<uint8_t>(3000, 1));
  PrepareOptions options = Options(dir / "in", dir / "out");
  options.limits = {.max_pixels = 63, .max_file_bytes = 2000};
  const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(options);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  ASSERT_EQ(manifest->bad_images.size(), 2u);
  EXPECT_THAT(manifest->bad_images[0].reason, HasSubstr("8 x 8 pixels; at most 63"));
  EXPECT_THAT(manifest->bad_images[1].reason, HasSubstr("2000"));
  options.limits.max_pixels = 0;
  EXPECT_EQ(PrepareDataset(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PrepareDatasetTest, ReplacesWhatAKilledPrepareLeft) {
  TempDir dir;
  WriteBytes(dir / "in/a.png", Grey(1));
  WriteBytes(dir / "out.tmp/shard-00009.p2s", {1, 2, 3});
  ASSERT_TRUE(PrepareDataset(Options(dir / "in", dir / "out")).ok());
  EXPECT_FALSE(fs::exists(dir / "out/shard-00009.p2s"));
}

TEST(PrepareDatasetTest, RefusesToShareAnOutputWithARunningPrepare) {
  TempDir dir;
  WriteBytes(dir / "in/a.png", Grey(1));
  fs::create_directories(dir / "out.tmp");
  const UniqueFd other(open((dir / "out.tmp").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(flock(other.get(), LOCK_EX), 0);
  EXPECT_EQ(PrepareDataset(Options(dir / "in", dir / "out")).status().code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(fs::exists(dir / "out.tmp"));
}

TEST(PrepareDatasetTest, FollowsLinksOnlyInsideTheInput) {
  TempDir dir;
  WriteBytes(dir / "secret.png", Grey(99));
  WriteBytes(dir / "in/d/real.png", Grey(1));
  fs::create_symlink("d/real.png", dir / "in/inside.png");
  fs::create_symlink("../secret.png", dir / "in/outside.png");
  fs::create_symlink(dir / "secret.png", dir / "in/absolute.png");
  fs::create_directory_symlink("..", dir / "in/loop");
  const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(Options(dir / "in", dir / "out"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_THAT(FirstPixels(dir / "out"), Not(::testing::Contains(99)));
  ASSERT_GE(manifest->bad_images.size(), 2u);
  EXPECT_EQ(manifest->bad_images[0].path, "absolute.png");
  EXPECT_THAT(manifest->bad_images[0].reason, HasSubstr("symbolic link"));
}

TEST(PrepareDatasetTest, NeverUsesAZipNameAsAPath) {
  TempDir dir;
  MakeZip(dir / "in.zip", {{"../../evil.png", Grey(1)}, {"/abs.png", Grey(2)}, {"ok.png", Grey(3)}});
  ASSERT_TRUE(PrepareDataset(Options(dir / "in.zip", dir / "out")).ok());
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(dir.path())) found.push_back(entry.path().filename());
  EXPECT_THAT(found, ::testing::UnorderedElementsAre("in.zip", "out", "dataset.json", "shard-00000.p2s"));
}

TEST(PrepareDatasetTest, ListsADamagedZipEntry) {
  TempDir dir;
  MakeZip(dir / "in.zip", {{"a.png", Grey(1)}, {"b.png", Grey(2)}});
  std::vector<uint8_t> zip = ReadBytes(dir / "in.zip");
  zip[60] ^= 0xff;
  WriteBytes(dir / "in.zip", zip);
  const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(Options(dir / "in.zip", dir / "out"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->count, 1u);
  ASSERT_EQ(manifest->bad_images.size(), 1u);
  EXPECT_THAT(manifest->bad_images[0].reason, HasSubstr("the ZIP entry is damaged"));
}

TEST(PrepareDatasetTest, ReportsProgressToTheEnd) {
  TempDir dir;
  for (int i = 0; i < 10; ++i)
    WriteBytes(dir / absl::StrCat("in/", i, ".png"), i == 3 ? std::vector<uint8_t>{1} : Grey(1));
  std::vector<PrepareProgress> seen;
  PrepareOptions options = Options(dir / "in", dir / "out");
  options.progress_interval = absl::ZeroDuration();
  options.progress = [&](const PrepareProgress& progress) { seen.push_back(progress); };
  ASSERT_TRUE(PrepareDataset(options).ok());
  ASSERT_EQ(seen.size(), 10u);
  EXPECT_EQ(seen.back().done, 10u);
  EXPECT_EQ(seen.back().total, 10u);
  EXPECT_EQ(seen.back().bad, 1u);
  EXPECT_EQ(seen.back().bytes, 9u * 16);
  EXPECT_GT(seen.back().images_per_second, 0);
  EXPECT_EQ(seen.back().eta, absl::ZeroDuration());
}

TEST(PrepareDatasetTest, StopsWhenAskedAndLeavesNothing) {
  TempDir dir;
  for (int i = 0; i < 50; ++i) WriteBytes(dir / absl::StrCat("in/", i, ".png"), Grey(1));
  std::stop_source stop;
  PrepareOptions options = Options(dir / "in", dir / "out");
  options.stop = stop.get_token();
  options.progress_interval = absl::ZeroDuration();
  options.progress = [&](const PrepareProgress& progress) {
    if (progress.done == 5) stop.request_stop();
  };
  EXPECT_EQ(PrepareDataset(options).status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(fs::exists(dir / "out"));
  EXPECT_FALSE(fs::exists(dir / "out.tmp"));
}

TEST(VerifyDatasetTest, NamesTheShardThatWasDamaged) {
  TempDir dir;
  for (int i = 0; i < 4; ++i) WriteBytes(dir / absl::StrCat("in/", i, ".png"), Grey(1));
  PrepareOptions options = Options(dir / "in", dir / "out");
  options.shard_bytes = 32;
  ASSERT_TRUE(PrepareDataset(options).ok());
  const std::string path = dir / "out/shard-00001.p2s";
  const std::vector<uint8_t> good = ReadBytes(path);
  for (size_t at : {size_t{0}, size_t{70}, good.size() - 1}) {
    std::vector<uint8_t> bad = good;
    bad[at] ^= 1;
    WriteBytes(path, bad);
    const absl::Status status = VerifyDataset(dir / "out").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("shard-00001.p2s"));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("shard-00000.p2s")));
  }
  fs::resize_file(path, good.size() - 1);
  EXPECT_THAT(std::string(VerifyDataset(dir / "out").status().message()), HasSubstr("too early"));
  fs::remove(path);
  EXPECT_THAT(std::string(VerifyDataset(dir / "out").status().message()), HasSubstr("is missing"));
}

}  // namespace
}  // namespace p2::image

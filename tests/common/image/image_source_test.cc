#include "common/image/image_source.h"

#include <archive.h>
#include <archive_entry.h>
#include <lmdb.h>
#include <zip.h>

#include <cstdlib>

#include "common/image/png_write.h"
#include "common/image/prepare.h"
#include "gmock/gmock.h"
#include "tests/common/image/image_test_util.h"

namespace p2::image {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Files = std::vector<std::pair<std::string, std::vector<uint8_t>>>;

std::vector<uint8_t> Grey(uint8_t value) {
  const std::string png = *EncodePng(Image{4, 4, 1, std::vector<uint8_t>(16, value)});
  return {png.begin(), png.end()};
}

// Not in order of names, in directories, one large enough for LMDB's overflow pages, one name beyond ustar's lengths.
Files SomeFiles() {
  Files files;
  for (int i = 40; i-- > 0;)
    files.push_back({absl::StrCat("d", i % 3, "/", i + 10, ".png"), Grey(static_cast<uint8_t>(i))});
  files.push_back({"d1.png", ReadBytes(TestData("rgb8.png"))});
  files.push_back({"d1/large.webp", ReadBytes(TestData("lossy_large.webp"))});
  files.push_back({absl::StrCat("d2/", std::string(200, 'n'), ".gif"), ReadBytes(TestData("plain.gif"))});
  return files;
}

void MakeTar(const std::string& path, const Files& files, const char* filter = "") {
  archive* a = archive_write_new();
  archive_write_set_format_pax_restricted(a);
  if (*filter != 0) {
    ASSERT_EQ(archive_write_add_filter_by_name(a, filter), ARCHIVE_OK);
  }
  ASSERT_EQ(archive_write_open_filename(a, path.c_str()), ARCHIVE_OK);
  for (const auto& [name, bytes] : files) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_size(entry, static_cast<la_int64_t>(bytes.size()));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    ASSERT_EQ(archive_write_header(a, entry), ARCHIVE_OK);
    ASSERT_EQ(archive_write_data(a, bytes.data(), bytes.size()), static_cast<la_ssize_t>(bytes.size()));
    archive_entry_free(entry);
  }
  ASSERT_EQ(archive_write_close(a), ARCHIVE_OK);
  archive_write_free(a);
}

void MakeZip(const std::string& path, const Files& files) {
  int error = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
  ASSERT_NE(zip, nullptr);
  for (const auto& [name, bytes] : files) {
    zip_source_t* source = zip_source_buffer(zip, bytes.data(), bytes.size(), 0);
    ASSERT_GE(zip_file_add(zip, name.c_str(), source, ZIP_FL_OVERWRITE), 0);
  }
  ASSERT_EQ(zip_close(zip), 0);
}

void MakeLmdb(const std::string& path, const Files& files) {
  fs::create_directories(path);
  MDB_env* env = nullptr;
  ASSERT_EQ(mdb_env_create(&env), 0);
  ASSERT_EQ(mdb_env_set_mapsize(env, size_t{16} << 20), 0);
  ASSERT_EQ(mdb_env_open(env, path.c_str(), 0, 0644), 0);
  MDB_txn* txn = nullptr;
  ASSERT_EQ(mdb_txn_begin(env, nullptr, 0, &txn), 0);
  MDB_dbi dbi;
  ASSERT_EQ(mdb_dbi_open(txn, nullptr, 0, &dbi), 0);
  for (const auto& [name, bytes] : files) {
    MDB_val key{name.size(), const_cast<char*>(name.data())};
    MDB_val value{bytes.size(), const_cast<uint8_t*>(bytes.data())};
    ASSERT_EQ(mdb_put(txn, dbi, &key, &value, 0), 0);
  }
  ASSERT_EQ(mdb_txn_commit(txn), 0);
  mdb_env_close(env);
}

std::vector<std::string> Names(const std::string& input, int resolution = 256) {
  const absl::StatusOr<std::unique_ptr<ImageSource>> source = ImageSource::Open(input, {.resolution = resolution});
  EXPECT_TRUE(source.ok()) << source.status();
  return source.ok() ? (*source)->names() : std::vector<std::string>();
}

// Lists and reads everything; nothing may crash. How many could be read.
size_t ReadAll(const std::string& input) {
  const absl::StatusOr<std::unique_ptr<ImageSource>> source = ImageSource::Open(input);
  if (!source.ok()) {
    EXPECT_THAT(source.status().code(), AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kDataLoss))
        << source.status();
    EXPECT_THAT(std::string(source.status().message()), HasSubstr(fs::path(input).filename().string()));
    return 0;
  }
  const absl::StatusOr<std::unique_ptr<ImageReader>> reader = (*source)->NewReader();
  EXPECT_TRUE(reader.ok()) << reader.status();
  size_t read = 0;
  for (size_t i = 0; i < (*source)->names().size(); ++i) read += (*reader)->Read(i).ok();
  return read;
}

TEST(ImageSourceTest, GivesTheSameDatasetInEveryKindOfInput) {
  TempDir dir;
  const Files files = SomeFiles();
  for (const auto& [name, bytes] : files) WriteBytes(dir / ("folder/" + name), bytes);
  MakeZip(dir / "a.zip", files);
  MakeTar(dir / "a.tar", files);
  MakeTar(dir / "a.tar.gz", files, "gzip");
  MakeTar(dir / "a.tar.zst", files, "zstd");
  MakeLmdb(dir / "lmdb", files);
  const std::vector<uint8_t> before = ReadBytes(dir / "lmdb/data.mdb");
  fs::remove(dir / "lmdb/lock.mdb");
  std::string fingerprint, sha256;
  for (const char* input : {"folder", "a.zip", "a.tar", "a.tar.gz", "a.tar.zst", "lmdb", "lmdb/data.mdb"}) {
    SCOPED_TRACE(input);
    PrepareOptions options;
    options.input = dir / input;
    options.output = dir / "out";
    options.name = "test";
    options.resolution = 4;
    options.threads = 3;
    const absl::StatusOr<DatasetManifest> manifest = PrepareDataset(options);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_EQ(manifest->count, 43u);
    EXPECT_EQ(manifest->bad_count, 0u);
    if (fingerprint.empty()) fingerprint = manifest->fingerprint, sha256 = manifest->shards[0].sha256;
    EXPECT_EQ(manifest->fingerprint, fingerprint);
    EXPECT_EQ(manifest->shards[0].sha256, sha256);
    fs::remove_all(dir / "out");
  }
  EXPECT_EQ(ReadBytes(dir / "lmdb/data.mdb"), before);
  EXPECT_FALSE(fs::exists(dir / "lmdb/lock.mdb"));
}

TEST(ImageSourceTest, SortsComponentByComponentAndSkipsWhatIsNoImage) {
  TempDir dir;
  const Files files = {
      {"./b.png", Grey(1)}, {"a.png", Grey(2)}, {"a/z.png", Grey(3)}, {"a/labels.json", {1}}, {"./a.png", Grey(4)}};
  MakeTar(dir / "x.tar", files);
  EXPECT_THAT(Names(dir / "x.tar"), ElementsAre("a/z.png", "a.png", "b.png"));
  const auto source = *ImageSource::Open(dir / "x.tar");
  EXPECT_EQ(source->others(), 2u);  // The label, and the a.png that a later one replaces.
  EXPECT_EQ(*(*source->NewReader())->Read(1), Grey(4));
}

TEST(ImageSourceTest, TakesADirectoryOfTarFilesOneAfterAnother) {
  TempDir dir;
  fs::create_directories(dir / "in");
  MakeTar(dir / "in/train-001.tar", {{"a.png", Grey(1)}});
  MakeTar(dir / "in/train-000.tar.gz", {{"c.png", Grey(1)}, {"b.png", Grey(2)}}, "gzip");
  EXPECT_THAT(Names(dir / "in"),
              ElementsAre("train-000.tar.gz/b.png", "train-000.tar.gz/c.png", "train-001.tar/a.png"));
}

TEST(ImageSourceTest, ReadsAnyLmdbKeyAndLeavesWhatIsNoImage) {
  TempDir dir;
  MakeLmdb(dir / "lsun", {{"f0a1", ReadBytes(TestData("lossy.webp"))},
                          {"00b2", ReadBytes(TestData("lossless.webp"))},
                          {std::string("\1\xff", 2), Grey(1)},
                          {"length", {'3'}}});
  EXPECT_THAT(Names(dir / "lsun"), ElementsAre("\\001\xff", "00b2", "f0a1"));
}

TEST(ImageSourceTest, TakesOneResolutionOfAnFfhqLmdb) {
  TempDir dir;
  Files files = {{"length", {'2'}}};
  for (int resolution : {8, 64, 128}) {
    for (int i = 0; i < 2; ++i)
      files.push_back({absl::StrCat(resolution, "-0000", i), Grey(static_cast<uint8_t>(resolution))});
  }
  MakeLmdb(dir / "ffhq", files);
  EXPECT_THAT(Names(dir / "ffhq", 64), ElementsAre("64-00000", "64-00001"));
  EXPECT_THAT(Names(dir / "ffhq", 100), ElementsAre("128-00000", "128-00001"));
  EXPECT_THAT(Names(dir / "ffhq", 256), ElementsAre("128-00000", "128-00001"));
}

TEST(ImageSourceTest, SurvivesATruncatedFile) {
  TempDir dir;
  const Files files = SomeFiles();
  MakeZip(dir / "a.zip", files);
  MakeTar(dir / "a.tar", files);
  MakeTar(dir / "a.tar.gz", files, "gzip");
  MakeTar(dir / "a.tar.zst", files, "zstd");
  MakeLmdb(dir / "lmdb", files);
  for (const char* name : {"a.zip", "a.tar", "a.tar.gz", "a.tar.zst", "lmdb/data.mdb"}) {
    const std::vector<uint8_t> whole = ReadBytes(dir / name);
    const std::string cut = dir / ("cut-" + fs::path(name).filename().string());
    EXPECT_EQ(ReadAll(dir / name), files.size());
    for (size_t size = 0; size < whole.size(); size += 1 + whole.size() / 97) {
      WriteBytes(cut, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
      EXPECT_LE(ReadAll(cut), files.size()) << name << " cut to " << size;
    }
  }
  // In the middle of an entry, the error names it.
  fs::resize_file(dir / "a.tar", fs::file_size(dir / "a.tar") / 2 + 100);
  EXPECT_THAT(std::string(ImageSource::Open(dir / "a.tar").status().message()), HasSubstr("is cut short"));
  fs::resize_file(dir / "lmdb/data.mdb", fs::file_size(dir / "lmdb/data.mdb") - 4096);
  EXPECT_THAT(std::string(ImageSource::Open(dir / "lmdb").status().message()), HasSubstr("is cut short"));
}

TEST(ImageSourceTest, SurvivesDamage) {
  TempDir dir;
  const Files files = SomeFiles();
  MakeTar(dir / "a.tar", files);
  MakeTar(dir / "a.tar.zst", files, "zstd");
  MakeLmdb(dir / "lmdb", files);
  std::srand(2);
  for (const char* name : {"a.tar", "a.tar.zst", "lmdb/data.mdb"}) {
    const std::vector<uint8_t> whole = ReadBytes(dir / name);
    const std::string damaged = dir / ("damaged-" + fs::path(name).filename().string());
    for (int round = 0; round < 300; ++round) {
      std::vector<uint8_t> bytes = whole;
      for (int i = 0; i < 20; ++i)
        bytes[static_cast<size_t>(std::rand()) % bytes.size()] = static_cast<uint8_t>(std::rand());
      WriteBytes(damaged, bytes);
      ReadAll(damaged);
    }
  }
}

}  // namespace
}  // namespace p2::image

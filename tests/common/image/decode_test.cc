#include "common/image/decode.h"

#include <cstdlib>
#include <set>

#include "absl/strings/match.h"
#include "common/sha256.h"
#include "gmock/gmock.h"
#include "tests/common/image/image_test_util.h"

namespace p2::image {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

std::string Digest(const Image& image) {
  Sha256 sha;
  sha.Update(image.pixels);
  return Hex(sha.Finish());
}

std::string Message(absl::Span<const uint8_t> file) {
  const absl::StatusOr<Image> image = Decode(file);
  if (image.ok()) return "an image";
  EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument) << image.status();
  return std::string(image.status().message());
}

void PutBigEndian32(std::vector<uint8_t>& bytes, size_t at, uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes[at + i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

uint32_t Crc32(absl::Span<const uint8_t> bytes) {
  uint32_t crc = ~0u;
  for (uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

std::vector<uint8_t> PngOfSize(uint32_t width, uint32_t height) {
  std::vector<uint8_t> file = ReadBytes(TestData("rgb8.png"));
  PutBigEndian32(file, 16, width);
  PutBigEndian32(file, 20, height);
  PutBigEndian32(file, 29, Crc32(absl::MakeConstSpan(file).subspan(12, 17)));
  return file;
}

std::set<std::string> AllFiles() {
  std::set<std::string> names;
  for (const auto& fact : PillowFacts("decode")) names.insert(fact[0]);
  return names;
}

TEST(DecodeTest, ReadsEveryKindOfFileAsPillowDoes) {
  for (const auto& fact : PillowFacts("decode")) {
    SCOPED_TRACE(fact[0]);
    const std::vector<uint8_t> file = ReadBytes(TestData(fact[0]));
    const absl::StatusOr<ImageSize> size = PeekSize(file);
    ASSERT_TRUE(size.ok()) << size.status();
    EXPECT_EQ(std::to_string(size->width), fact[2]);
    EXPECT_EQ(std::to_string(size->height), fact[3]);
    for (int channels : {3, 1}) {
      const absl::StatusOr<Image> image = Decode(file, channels);
      ASSERT_TRUE(image.ok()) << image.status();
      EXPECT_EQ(image->width, size->width);
      EXPECT_EQ(image->height, size->height);
      EXPECT_EQ(image->channels, channels);
      EXPECT_EQ(Digest(*image), fact[channels == 3 ? 4 : 5]) << channels << " channels";
    }
  }
}

TEST(DecodeTest, SaysThatATruncatedJpegIsCutShort) {
  for (const std::string& name : AllFiles()) {
    if (!absl::EndsWith(name, ".jpg")) continue;
    const std::vector<uint8_t> file = ReadBytes(TestData(name));
    for (size_t size = 3; size < file.size(); ++size) {
      EXPECT_THAT(
          Message(absl::MakeConstSpan(file).first(size)),
          AllOf(HasSubstr("JPEG: "), AnyOf(HasSubstr("the file ends before the picture does"), HasSubstr("marker"))))
          << name << " cut to " << size;
    }
  }
}

TEST(DecodeTest, RefusesATruncatedPng) {
  for (const std::string& name : AllFiles()) {
    if (!absl::EndsWith(name, ".png")) continue;
    const std::vector<uint8_t> file = ReadBytes(TestData(name));
    constexpr size_t kAfterPixels = 16;  // The checksum of the last IDAT, and IEND.
    for (size_t size = 8; size < file.size() - kAfterPixels; ++size) {
      EXPECT_THAT(Message(absl::MakeConstSpan(file).first(size)), HasSubstr("PNG: ")) << name << " cut to " << size;
    }
  }
}

TEST(DecodeTest, GivesAnErrorOrAnImageForAnyDamage) {
  std::srand(1);
  for (const std::string& name : AllFiles()) {
    const std::vector<uint8_t> file = ReadBytes(TestData(name));
    for (int round = 0; round < 400; ++round) {
      std::vector<uint8_t> damaged = file;
      for (int i = 0; i <= round % 4; ++i) damaged[std::rand() % damaged.size()] ^= 1 << std::rand() % 8;
      const absl::StatusOr<Image> image = Decode(damaged, round % 2 == 0 ? 3 : 1);
      if (image.ok()) {
        EXPECT_EQ(image->pixels.size(), image->row_bytes() * image->height) << name;
      } else {
        EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument) << name << ": " << image.status();
      }
    }
  }
}

TEST(DecodeTest, RefusesWhatIsNoPicture) {
  const std::string text = "This is a text, whatever its name says.";
  EXPECT_THAT(Message(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size())),
              HasSubstr("neither a JPEG nor a PNG"));
  EXPECT_THAT(Message({}), HasSubstr("empty"));
  const std::vector<uint8_t> file = ReadBytes(TestData("rgb8.png"));
  EXPECT_FALSE(Decode(file, 4).ok());
}

TEST(DecodeTest, RefusesHugeDimensionsBeforeItTakesMemory) {
  EXPECT_THAT(Message(PngOfSize(100'000, 100'000)), HasSubstr("100000 x 100000 pixels; at most 64000000"));
  EXPECT_THAT(Message(PngOfSize(2'000'000'000, 1)), HasSubstr("2000000000 x 1"));
  EXPECT_FALSE(PeekSize(PngOfSize(8001, 8000)).ok());
  EXPECT_TRUE(PeekSize(PngOfSize(8000, 8000)).ok());

  std::vector<uint8_t> jpeg = ReadBytes(TestData("grey.jpg"));
  size_t frame = 0;
  while (jpeg[frame] != 0xff || jpeg[frame + 1] != 0xc0) ++frame;
  for (size_t i = 5; i < 9; ++i) jpeg[frame + i] = 0xf0;
  EXPECT_THAT(Message(jpeg), HasSubstr("61680 x 61680 pixels"));
}

TEST(DecodeTest, RefusesAFileOfMoreThan64MiB) {
  std::vector<uint8_t> file = ReadBytes(TestData("rgb8.png"));
  file.resize(kMaxFileBytes + 1);
  EXPECT_THAT(Message(file), HasSubstr("at most 67108864 are read"));
}

TEST(DecodeTest, RefusesAJpegOfEndlessScans) {
  // The last scan of a progressive file, again and again: each one is valid.
  std::vector<uint8_t> file = ReadBytes(TestData("grey_progressive.jpg"));
  size_t scan = file.size() - 2;
  while (file[scan] != 0xff || file[scan + 1] != 0xda) --scan;
  const std::vector<uint8_t> body(file.begin() + scan, file.end() - 2), end(file.end() - 2, file.end());
  file.resize(file.size() - 2);
  for (int i = 0; i < 300; ++i) file.insert(file.end(), body.begin(), body.end());
  file.insert(file.end(), end.begin(), end.end());
  EXPECT_THAT(Message(file), HasSubstr("more scans than a real picture has"));
}

TEST(DecodeTest, SaysThatATruncatedWebpOrGifIsDamaged) {
  for (const std::string& name : AllFiles()) {
    const bool gif = absl::EndsWith(name, ".gif");
    if (!gif && !absl::EndsWith(name, ".webp")) continue;
    const std::vector<uint8_t> file = ReadBytes(TestData(name));
    for (size_t size = 1; size < file.size(); ++size) {
      // Of its own size: a read past the end shows under ASan.
      const std::vector<uint8_t> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
      const absl::StatusOr<Image> image = Decode(cut);
      // What follows the first frame may be missing, as with Pillow.
      if (image.ok()) {
        EXPECT_EQ(Digest(*image), Digest(*Decode(file))) << name << " cut to " << size;
      } else {
        EXPECT_THAT(Message(cut), AnyOf(HasSubstr(gif ? "GIF: " : "WebP: "), HasSubstr("neither a JPEG"))) << name;
      }
      EXPECT_FALSE(image.ok() && size < file.size() / 3) << name << " cut to " << size;
    }
  }
}

TEST(DecodeTest, TurnsAnImageAsItsExifSays) {
  for (const auto& fact : PillowFacts("exif")) {
    SCOPED_TRACE(fact[0]);
    const std::vector<uint8_t> file = ReadBytes(TestData(fact[0]));
    const int orientation = ExifOrientation(file);
    EXPECT_EQ(orientation, std::stoi(fact[1]) > 8 ? 1 : std::stoi(fact[1]));
    EXPECT_EQ(Digest(Upright(*Decode(file), orientation)), fact[2]);
  }
}

TEST(DecodeTest, KeepsToTheGivenLimits) {
  for (const char* name : {"rgb_444.jpg", "rgb8.png", "lossy.webp", "plain.gif", "animated_lossy.webp"}) {
    const std::vector<uint8_t> file = ReadBytes(TestData(name));
    EXPECT_TRUE(Decode(file, 3, {.max_pixels = 29 * 23, .max_file_bytes = file.size()}).ok()) << name;
    EXPECT_THAT(std::string(Decode(file, 3, {.max_pixels = 29 * 23 - 1}).status().message()),
                HasSubstr("29 x 23 pixels; at most 666 "))
        << name;
    EXPECT_THAT(std::string(PeekSize(file, {.max_file_bytes = file.size() - 1}).status().message()),
                HasSubstr(absl::StrCat("the file has ", file.size(), " bytes; at most ", file.size() - 1)))
        << name;
  }
}

}  // namespace
}  // namespace p2::image

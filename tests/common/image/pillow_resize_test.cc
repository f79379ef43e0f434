#include "common/image/pillow_resize.h"

#include "common/image/decode.h"
#include "common/safetensors/safetensors.h"
#include "common/sha256.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/common/image/image_test_util.h"

namespace p2::image {
namespace {

using ::testing::HasSubstr;

constexpr char kGolden[] = P2_SOURCE_DIR "/tests/golden/";

std::string Digest(const Image& image) {
  Sha256 sha;
  sha.Update(image.pixels);
  return Hex(sha.Finish());
}

Image Load(const std::string& path, int channels) {
  absl::StatusOr<Image> image = Decode(ReadBytes(path), channels);
  EXPECT_TRUE(image.ok()) << path << ": " << image.status();
  return image.value_or(Image{});
}

std::vector<uint8_t> GoldenBytes(const safetensors::Reader& reader, const std::string& key) {
  const safetensors::TensorInfo* info = reader.Find(key);
  EXPECT_NE(info, nullptr) << key;
  std::vector<uint8_t> bytes(info == nullptr ? 0 : info->size);
  EXPECT_TRUE(reader.Read(key, absl::MakeSpan(reinterpret_cast<std::byte*>(bytes.data()), bytes.size())).ok());
  return bytes;
}

TEST(PillowResizeTest, EqualsPillowByteForByte) {
  for (const auto& fact : PillowFacts("resize")) {
    SCOPED_TRACE(::testing::PrintToString(fact));
    const Image image = Load(TestData(fact[0]), fact[1] == "L" ? 1 : 3);
    const absl::StatusOr<Image> resized =
        PillowResize(image, std::stoi(fact[3]), std::stoi(fact[4]), fact[2] == "BOX" ? Filter::kBox : Filter::kBicubic);
    ASSERT_TRUE(resized.ok()) << resized.status();
    EXPECT_EQ(Digest(*resized), fact[5]);
  }
}

TEST(CenterCropAdmTest, EqualsThePublishedCodeOverPillow) {
  for (const auto& fact : PillowFacts("crop")) {
    SCOPED_TRACE(::testing::PrintToString(fact));
    const absl::StatusOr<Image> crop =
        CenterCropAdm(Load(TestData(fact[0]), fact[1] == "L" ? 1 : 3), std::stoi(fact[2]));
    ASSERT_TRUE(crop.ok()) << crop.status();
    EXPECT_EQ(Digest(*crop), fact[3]);
  }
}

TEST(CenterCropAdmTest, EqualsTheGoldenCropsExactly) {
  const auto golden = nlohmann::json::parse(ReadBytes(std::string(kGolden) + "preprocess.json"));
  auto reader = safetensors::Reader::Open(std::string(kGolden) + "preprocess.safetensors");
  ASSERT_TRUE(reader.ok()) << reader.status();
  int compared = 0;
  for (const auto& entry : golden["images"]) {
    const Image image = Load(kGolden + entry["file"].get<std::string>(), 3);
    EXPECT_EQ(image.width, entry["width"].get<int>());
    uint64_t sum = 0;
    for (uint8_t value : image.pixels) sum += value;
    EXPECT_EQ(sum, entry["decoded_rgb_sum"].get<uint64_t>()) << entry["file"];
    for (const auto& expected : entry["expected"]) {
      const std::string key = expected["key"].get<std::string>();
      const absl::StatusOr<Image> crop = CenterCropAdm(image, expected["res"].get<int>());
      ASSERT_TRUE(crop.ok()) << key << ": " << crop.status();
      EXPECT_EQ(crop->pixels, GoldenBytes(**reader, key)) << key;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 17);
  EXPECT_EQ(Load(std::string(kGolden) + "preprocess/photo_150x185.jpg", 3).pixels,
            GoldenBytes(**reader, "photo_150x185.jpg.decoded_rgb"));
}

TEST(CenterCropAdmTest, KeepsAnImageThatHasTheSizeAlready) {
  const Image image{2, 2, 1, {1, 2, 3, 4}};
  const absl::StatusOr<Image> crop = CenterCropAdm(image, 2);
  ASSERT_TRUE(crop.ok()) << crop.status();
  EXPECT_EQ(*crop, image);
}

TEST(CenterCropAdmTest, RefusesAStripThatWouldGrowBeyondTheLimit) {
  Image strip{100'000, 1, 1};
  strip.pixels.resize(100'000);
  const absl::StatusOr<Image> crop = CenterCropAdm(strip, 1024);
  EXPECT_EQ(crop.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(crop.status().message()), HasSubstr("102400000 x 1024 pixels"));
}

TEST(PillowResizeTest, RefusesImpossibleSizes) {
  const Image image{2, 2, 1, {1, 2, 3, 4}};
  EXPECT_FALSE(PillowResize(image, 0, 2, Filter::kBox).ok());
  EXPECT_FALSE(PillowResize(image, 2, -1, Filter::kBox).ok());
  EXPECT_FALSE(PillowResize(image, 100'000, 100'000, Filter::kBicubic).ok());
  EXPECT_FALSE(PillowResize(Image{2, 2, 1, {1, 2, 3}}, 1, 1, Filter::kBox).ok());
  EXPECT_FALSE(PillowResize(Image{}, 1, 1, Filter::kBox).ok());
  EXPECT_FALSE(CenterCropAdm(image, 0).ok());
}

}  // namespace
}  // namespace p2::image

#include "common/image/png_write.h"

#include "common/image/decode.h"
#include "gmock/gmock.h"
#include "tests/common/image/image_test_util.h"

namespace p2::image {
namespace {

using ::testing::ElementsAre;

Image Filled(int width, int height, int channels, uint8_t value) {
  Image image{width, height, channels};
  image.pixels.assign(image.row_bytes() * height, value);
  return image;
}

TEST(WritePngTest, WritesWhatDecodeReadsBack) {
  TempDir dir;
  for (int channels : {1, 3}) {
    Image image = Filled(13, 7, channels, 0);
    for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i * 37);
    const std::string path = dir / absl::StrCat(channels, ".png");
    ASSERT_TRUE(WritePng(image, path).ok());
    const absl::StatusOr<Image> back = Decode(ReadBytes(path), channels);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, image);
    EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
  }
}

TEST(WritePngTest, RefusesAnImageThatContradictsItself) {
  EXPECT_FALSE(EncodePng(Image{2, 2, 3, {1, 2, 3}}).ok());
  EXPECT_FALSE(EncodePng(Image{1, 1, 2, {1, 2}}).ok());
  EXPECT_FALSE(EncodePng(Image{}).ok());
}

TEST(WritePngTest, NamesADirectoryThatIsMissing) {
  const absl::Status status = WritePng(Filled(1, 1, 1, 0), "/nowhere/at/all.png");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_NE(std::string(status.message()).find("/nowhere/at/all.png"), std::string::npos);
}

TEST(MakeGridTest, PlacesImagesRowByRowWithPadding) {
  const std::vector<Image> images = {Filled(1, 1, 1, 10), Filled(1, 1, 1, 20), Filled(1, 1, 1, 30)};
  const absl::StatusOr<Image> grid = MakeGrid(images, 2, 1);
  ASSERT_TRUE(grid.ok()) << grid.status();
  EXPECT_EQ(grid->width, 5);
  EXPECT_EQ(grid->height, 5);
  EXPECT_THAT(grid->pixels, ElementsAre(0, 0, 0, 0, 0,    //
                                        0, 10, 0, 20, 0,  //
                                        0, 0, 0, 0, 0,    //
                                        0, 30, 0, 0, 0,   //
                                        0, 0, 0, 0, 0));
}

TEST(MakeGridTest, IsNoWiderThanItsImages) {
  const std::vector<Image> images = {Filled(2, 3, 3, 1)};
  const absl::StatusOr<Image> grid = MakeGrid(images, 8, 0);
  ASSERT_TRUE(grid.ok()) << grid.status();
  EXPECT_EQ(*grid, images[0]);
}

TEST(MakeGridTest, RefusesNothingAndUnequalImages) {
  EXPECT_FALSE(MakeGrid({}, 1, 0).ok());
  EXPECT_FALSE(MakeGrid({Filled(1, 1, 1, 0)}, 0, 0).ok());
  EXPECT_FALSE(MakeGrid({Filled(1, 1, 1, 0)}, 1, -1).ok());
  EXPECT_FALSE(MakeGrid({Filled(1, 1, 1, 0), Filled(1, 2, 1, 0)}, 1, 0).ok());
  EXPECT_FALSE(MakeGrid({Filled(1, 1, 1, 0), Filled(1, 1, 3, 0)}, 1, 0).ok());
}

TEST(MagnifyTest, RepeatsEveryPixel) {
  const Image image{2, 1, 1, {10, 20}};
  const Image large = Magnify(image, 2);
  EXPECT_EQ(large.width, 4);
  EXPECT_EQ(large.height, 2);
  EXPECT_THAT(large.pixels, ElementsAre(10, 10, 20, 20, 10, 10, 20, 20));
  EXPECT_EQ(Magnify(image, 1), image);
}

}  // namespace
}  // namespace p2::image

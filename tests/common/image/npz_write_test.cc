#include "common/image/npz_write.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace p2::image {
namespace {

std::vector<uint8_t> Counting(size_t bytes) {
  std::vector<uint8_t> image(bytes);
  std::iota(image.begin(), image.end(), uint8_t{0});
  return image;
}

TEST(NpzWriterTest, NumpyReadsWhatWasWritten) {
  const std::string path = ::testing::TempDir() + "/p2-numpy-reads.npz";
  auto writer = NpzWriter::Create(path, {3, 2, 5, 3});
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<uint8_t> image = Counting(30);
  for (int i = 0; i < 3; ++i, ++image[7]) ASSERT_TRUE((*writer)->Append(image).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  // testzip compares the CRC; numpy checks the rest.
  const std::string script = absl::StrCat(
      "import numpy, zipfile; p = '", path,
      "'; assert zipfile.ZipFile(p).testzip() is None; f = numpy.load(p); "
      "assert f.files == ['arr_0'], f.files; a = f['arr_0']; assert a.dtype == numpy.uint8 and a.shape == (3, 2, 5, "
      "3); "
      "e = numpy.arange(30, dtype=numpy.uint8).reshape(2, 5, 3); "
      "[e.reshape(-1).__setitem__(7, 7 + i) or numpy.testing.assert_array_equal(a[i], e) for i in range(3)]");
  EXPECT_EQ(std::system(absl::StrCat("'" P2_VENV_PYTHON "' -c \"", script, "\"").c_str()), 0);
  std::remove(path.c_str());
}

TEST(NpzWriterTest, EqualImagesGiveEqualBytes) {
  std::string bytes[2];
  for (std::string& text : bytes) {
    const std::string path = ::testing::TempDir() + "/p2-equal.npz";
    auto writer = NpzWriter::Create(path, {1, 4, 4, 1});
    ASSERT_TRUE((*writer)->Append(Counting(16)).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
    std::ifstream file(path, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(file), {});
    std::remove(path.c_str());
  }
  EXPECT_EQ(bytes[0], bytes[1]);
  // The .npy's header fills whole 64 bytes.
  EXPECT_EQ((bytes[0].find('\n') + 1 - bytes[0].find("\x93NUMPY")) % 64, 0u);
}

TEST(NpzWriterTest, RefusesWhatDoesNotFitItsShape) {
  const std::string path = ::testing::TempDir() + "/p2-refuses.npz";
  auto writer = NpzWriter::Create(path, {1, 4, 4, 1});
  EXPECT_EQ((*writer)->Append(Counting(15)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*writer)->Finish().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE((*writer)->Append(Counting(16)).ok());
  EXPECT_EQ((*writer)->Append(Counting(16)).code(), absl::StatusCode::kInvalidArgument);
  std::remove(path.c_str());
  EXPECT_FALSE(NpzWriter::Create("/nonexistent/x.npz", {1, 4, 4, 1}).ok());
}

}  // namespace
}  // namespace p2::image

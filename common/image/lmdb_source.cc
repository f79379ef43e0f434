// LMDB's data file (0.9): pages of `psize` bytes; pages 0 and 1 hold the two latest roots, the rest a B-tree.
//   page   u64 number, u16 pad, u16 flags, u16 lower, u16 upper, then u16 node offsets up to `lower`
//   node   u16 low, u16 high, u16 flags, u16 key bytes, key; in a leaf low and high are the value's size, and the value
//          follows, or the number of the overflow page that it begins on; in a branch they and flags are a page's
//          number
//   meta   (after the page's header) u32 magic, u32 version, u64 address, u64 map size, two trees (free pages, main),
//          u64 last page, u64 transaction; tree: u32 psize, u16 flags, u16 depth, u64 branch, leaf, overflow pages,
//          u64 entries, u64 root
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/file_util.h"
#include "common/image/codec.h"
#include "common/image/image_source.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

constexpr size_t kPageHeader = 16;
constexpr size_t kNodeHeader = 8;
constexpr size_t kMetaBytes = 152;
constexpr uint32_t kMagic = 0xBEEFC0DE;
constexpr uint16_t kBranchPage = 0x01, kLeafPage = 0x02, kOverflowPage = 0x04;
constexpr uint16_t kBigData = 0x01, kSubTree = 0x02, kDuplicates = 0x04;
constexpr uint16_t kDupSort = 0x04;
constexpr int kMaxDepth = 32;
constexpr uint64_t kNoPage = ~uint64_t{0};
constexpr size_t kStartBytes = 32;  // Of a value, to tell its format.

template <typename T>
T Get(absl::Span<const uint8_t> bytes, size_t at) {
  T value = 0;
  for (size_t i = sizeof(T); i-- > 0;) value = static_cast<T>(static_cast<uint64_t>(value) << 8 | bytes[at + i]);
  return value;
}

struct Value {
  std::string key;
  uint64_t offset;
  uint64_t size;
};

struct Meta {
  uint64_t page_bytes, root, last_page, transaction;
  uint16_t flags;
};

// `FFHQ's {resolution}-{index}`: the resolution.
std::optional<int> ResolutionOf(absl::string_view key) {
  const std::vector<absl::string_view> parts = absl::StrSplit(key, '-');
  int resolution = 0;
  if (parts.size() != 2 || parts[1].size() < 5 || !absl::SimpleAtoi(parts[0], &resolution)) return std::nullopt;
  const auto digits = [](absl::string_view s) { return std::all_of(s.begin(), s.end(), absl::ascii_isdigit); };
  if (!digits(parts[0]) || !digits(parts[1])) return std::nullopt;
  const bool power_of_two = resolution >= 4 && resolution <= 8192 && (resolution & (resolution - 1)) == 0;
  return power_of_two ? std::optional<int>(resolution) : std::nullopt;
}

class LmdbReader : public ImageReader {
 public:
  LmdbReader(int fd, const std::string& path, const std::vector<Value>& values, uint64_t max_bytes)
      : fd_(fd), path_(path), values_(values), max_bytes_(max_bytes) {}

  absl::StatusOr<std::vector<uint8_t>> Read(size_t index) override {
    const Value& value = values_[index];
    if (value.size > max_bytes_) {
      return absl::InvalidArgumentError(
          absl::StrCat("the value has ", value.size, " bytes; at most ", max_bytes_, " are read"));
    }
    std::vector<uint8_t> bytes(value.size);
    P2_RETURN_IF_ERROR(PReadAll(fd_, path_, value.offset, absl::MakeSpan(bytes)));
    return bytes;
  }

 private:
  const int fd_;
  const std::string& path_;
  const std::vector<Value>& values_;
  const uint64_t max_bytes_;
};

class LmdbSource : public ImageSource {
 public:
  LmdbSource(std::string path, const SourceOptions& options) : path_(std::move(path)), options_(options) {}

  absl::Status Scan() {
    fd_ = UniqueFd(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd_.ok()) return FileError("open", path_);
    struct stat info;
    if (fstat(fd_.get(), &info) != 0) return FileError("stat", path_);
    if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path_, " is no regular file"));
    size_ = static_cast<uint64_t>(info.st_size);
    P2_RETURN_IF_ERROR(ReadMeta());
    if (meta_.root != kNoPage) P2_RETURN_IF_ERROR(Walk(meta_.root, 0));
    ChooseResolution();
    std::vector<std::pair<std::vector<std::string>, size_t>> order;
    for (size_t i = 0; i < values_.size(); ++i) order.push_back({absl::StrSplit(values_[i].key, '/'), i});
    std::sort(order.begin(), order.end());
    std::vector<Value> sorted;
    for (const auto& [components, i] : order) {
      // Keys may be any bytes; names are shown.
      names_.push_back(absl::Utf8SafeCEscape(values_[i].key));
      sorted.push_back(std::move(values_[i]));
    }
    values_ = std::move(sorted);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<ImageReader>> NewReader() const override {
    return std::make_unique<LmdbReader>(fd_.get(), path_, values_, options_.max_file_bytes);
  }
  absl::StatusOr<std::string> Identity() const override { return IdentityOf(names_, {path_}); }

 private:
  absl::Status Damaged(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("the LMDB ", path_, " is damaged: ", what));
  }

  absl::Status ReadMeta() {
    std::optional<Meta> latest;
    uint64_t page_bytes = 0;
    for (int i = 0; i < 2; ++i) {
      std::array<uint8_t, kMetaBytes> bytes;
      const uint64_t at = i * page_bytes;
      if (size_ < at + kMetaBytes) return CutShort(at + kMetaBytes);
      P2_RETURN_IF_ERROR(PReadAll(fd_.get(), path_, at, absl::MakeSpan(bytes)));
      const absl::Span<const uint8_t> b = bytes;
      if (Get<uint32_t>(b, 16) != kMagic) return Damaged("no LMDB header");
      if (const uint32_t version = Get<uint32_t>(b, 20); version != 1) {
        return absl::InvalidArgumentError(absl::StrCat(path_, " has LMDB format ", version, "; 1 is read"));
      }
      const Meta meta{Get<uint32_t>(b, 40), Get<uint64_t>(b, 128), Get<uint64_t>(b, 136), Get<uint64_t>(b, 144),
                      Get<uint16_t>(b, 92)};
      if (i == 0) page_bytes = meta.page_bytes;
      if (page_bytes < 256 || page_bytes > 65536 || (page_bytes & (page_bytes - 1)) != 0) {
        return Damaged(absl::StrCat("pages of ", page_bytes, " bytes"));
      }
      if (!latest || meta.transaction > latest->transaction) latest = meta;
    }
    meta_ = *latest;
    meta_.page_bytes = page_bytes;
    if (meta_.last_page > INT64_MAX / page_bytes - 1) return Damaged("an impossible number of pages");
    if ((meta_.last_page + 1) * page_bytes > size_) return CutShort((meta_.last_page + 1) * page_bytes);
    if (meta_.flags & kDupSort) {
      return absl::InvalidArgumentError(absl::StrCat(path_, " holds several values for a key; that is not supported"));
    }
    return absl::OkStatus();
  }
  absl::Status CutShort(uint64_t wanted) const {
    return absl::InvalidArgumentError(absl::StrCat("the LMDB ", path_, " is cut short: ", size_, " bytes of ", wanted));
  }

  // Page `number` and those below it, in order.
  absl::Status Walk(uint64_t number, int depth) {
    // A page comes once: more visits than pages is a circle.
    if (number > meta_.last_page || depth > kMaxDepth || ++visited_ > meta_.last_page + 1) {
      return Damaged(absl::StrCat("a wrong link to page ", number));
    }
    std::vector<uint8_t> page(meta_.page_bytes);
    P2_RETURN_IF_ERROR(PReadAll(fd_.get(), path_, number * meta_.page_bytes, absl::MakeSpan(page)));
    const uint16_t flags = Get<uint16_t>(page, 10);
    const size_t lower = Get<uint16_t>(page, 12);
    if (Get<uint64_t>(page, 0) != number || !(flags & (kBranchPage | kLeafPage)) || lower < kPageHeader ||
        lower > page.size()) {
      return Damaged(absl::StrCat("page ", number, " is none of a tree"));
    }
    for (size_t slot = kPageHeader; slot + 2 <= lower; slot += 2) {
      const size_t at = Get<uint16_t>(page, slot);
      if (at < lower || at + kNodeHeader > page.size()) return Damaged(absl::StrCat("page ", number));
      const uint64_t number_or_size = Get<uint16_t>(page, at) | uint64_t{Get<uint16_t>(page, at + 2)} << 16;
      const uint16_t node_flags = Get<uint16_t>(page, at + 4);
      if (flags & kBranchPage) {
        P2_RETURN_IF_ERROR(Walk(number_or_size | uint64_t{node_flags} << 32, depth + 1));
        continue;
      }
      const size_t key = at + kNodeHeader, value = key + Get<uint16_t>(page, at + 6);
      if (value > page.size()) return Damaged(absl::StrCat("page ", number));
      if (node_flags & (kSubTree | kDuplicates)) {
        ++others_;
        continue;
      }
      uint64_t offset = number * meta_.page_bytes + value;
      if (node_flags & kBigData) {
        if (value + 8 > page.size()) return Damaged(absl::StrCat("page ", number));
        const uint64_t overflow = Get<uint64_t>(page, value);
        if (overflow > meta_.last_page) return Damaged(absl::StrCat("a wrong link to page ", overflow));
        offset = overflow * meta_.page_bytes;
        std::array<uint8_t, kPageHeader> header;
        P2_RETURN_IF_ERROR(PReadAll(fd_.get(), path_, offset, absl::MakeSpan(header)));
        if (!(Get<uint16_t>(header, 10) & kOverflowPage))
          return Damaged(absl::StrCat("a wrong link to page ", overflow));
        offset += kPageHeader;
      } else if (value + number_or_size > page.size()) {
        return Damaged(absl::StrCat("page ", number));
      }
      if (number_or_size > size_ - offset) return Damaged(absl::StrCat("a value beyond the end, page ", number));
      P2_RETURN_IF_ERROR(Take({std::string(page.begin() + static_cast<std::ptrdiff_t>(key),
                                           page.begin() + static_cast<std::ptrdiff_t>(value)),
                               offset, number_or_size}));
    }
    return absl::OkStatus();
  }

  absl::Status Take(Value value) {
    std::vector<uint8_t> start(std::min<uint64_t>(kStartBytes, value.size));
    P2_RETURN_IF_ERROR(PReadAll(fd_.get(), path_, value.offset, absl::MakeSpan(start)));
    if (IsImageStart(start) || IsImageName(value.key) || ResolutionOf(value.key)) {
      values_.push_back(std::move(value));
    } else {
      ++others_;
    }
    return absl::OkStatus();
  }

  void ChooseResolution() {
    std::set<int> resolutions;
    for (const Value& value : values_) {
      const std::optional<int> resolution = ResolutionOf(value.key);
      if (!resolution) return;
      resolutions.insert(*resolution);
    }
    if (resolutions.size() < 2) return;
    const auto at_least = resolutions.lower_bound(options_.resolution);
    const int chosen = at_least == resolutions.end() ? *resolutions.rbegin() : *at_least;
    const auto first = std::remove_if(values_.begin(), values_.end(),
                                      [&](const Value& value) { return ResolutionOf(value.key) != chosen; });
    others_ += static_cast<uint64_t>(values_.end() - first);
    values_.erase(first, values_.end());
  }

  const std::string path_;
  const SourceOptions options_;
  UniqueFd fd_;
  uint64_t size_ = 0;
  Meta meta_ = {};
  uint64_t visited_ = 0;
  std::vector<Value> values_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ImageSource>> OpenLmdb(const std::string& path, const SourceOptions& options) {
  auto source = std::make_unique<LmdbSource>(path, options);
  P2_RETURN_IF_ERROR(source->Scan());
  return source;
}

}  // namespace p2::image

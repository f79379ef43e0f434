#include "server/store/batch.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "rocksdb/write_batch.h"

namespace p2::store {

void Batch::Put(Key key, absl::string_view payload) {
  std::string value = EncodeValue(key.bytes(), payload);
  changes_.push_back({std::move(key), std::move(value)});
}

void Batch::Put(Key key, const google::protobuf::MessageLite& message) {
  std::string value = EncodeValue(key.bytes(), message);
  changes_.push_back({std::move(key), std::move(value)});
}

void Batch::Delete(Key key) { changes_.push_back({std::move(key), std::nullopt}); }

void Batch::DeletePrefix(Key prefix) {
  std::erase_if(changes_, [&prefix](const Change& change) {
    return change.key.family() == prefix.family() && absl::StartsWith(change.key.bytes(), prefix.bytes());
  });
  prefixes_.push_back(std::move(prefix));
}

rocksdb::WriteBatch Batch::InOrder(const std::vector<rocksdb::ColumnFamilyHandle*>& families) const {
  constexpr size_t kOverhead = 16;  // Of a record: its kind, its family, two lengths.
  size_t bytes = kOverhead * prefixes_.size();
  std::vector<const Change*> changes;
  changes.reserve(changes_.size());
  for (const Change& change : changes_) {
    changes.push_back(&change);
    bytes += kOverhead + change.key.bytes().size() + (change.value.has_value() ? change.value->size() : 0);
  }
  // Of equal keys the later change stands behind.
  std::sort(changes.begin(), changes.end(), [](const Change* a, const Change* b) {
    return std::forward_as_tuple(a->key.family(), a->key.bytes(), a) <
           std::forward_as_tuple(b->key.family(), b->key.bytes(), b);
  });
  const auto family = [&families](const Key& key) { return families[static_cast<size_t>(key.family())]; };
  rocksdb::WriteBatch batch(bytes);
  for (const Key& prefix : prefixes_) batch.DeleteRange(family(prefix), prefix.bytes(), prefix.End());
  for (size_t i = 0; i < changes.size(); ++i) {
    const Key& key = changes[i]->key;
    if (i + 1 < changes.size() && changes[i + 1]->key == key) continue;
    if (changes[i]->value.has_value()) {
      batch.Put(family(key), key.bytes(), *changes[i]->value);
    } else {
      batch.Delete(family(key), key.bytes());
    }
  }
  return batch;
}

}  // namespace p2::store

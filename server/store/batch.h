// What is written together.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "google/protobuf/message_lite.h"
#include "server/store/keys.h"

namespace rocksdb {
class ColumnFamilyHandle;
class WriteBatch;
}  // namespace rocksdb

namespace p2::store {

// Puts and deletions of keys. Of several changes of a key the last one counts, and only that is written. Confined to
// one thread.
class Batch {
 public:
  void Put(Key key, absl::string_view payload);
  void Put(Key key, const google::protobuf::MessageLite& message);
  void Delete(Key key);
  // What is stored under the prefix, and what this batch has put there up to now.
  void DeletePrefix(Key prefix);
  bool empty() const { return changes_.empty() && prefixes_.empty(); }

  // In the order of their keys: RocksDB finds the place of a key fastest beside that of the one before it. `families`:
  // by Family.
  rocksdb::WriteBatch InOrder(const std::vector<rocksdb::ColumnFamilyHandle*>& families) const;

 private:
  struct Change {
    Key key;
    std::optional<std::string> value;  // Its envelope included; empty: deleted.
  };
  std::vector<Change> changes_;
  std::vector<Key> prefixes_;  // Deleted before all of changes_.
};

}  // namespace p2::store

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/store/collector.hpp"
#include "daemon/store/domain.hpp"
#include "daemon/store/expiry.hpp"
#include "daemon/store/objects.hpp"
#include "daemon/store/sync.hpp"

namespace taskpool::store {

class Store;

/// What a new object is to be, beyond its type: from `object_open`.
struct Wanted {
  ObjectType type = ObjectType::dict;
  std::string name;
  std::uint64_t maxsize = 0;
  std::uint64_t value = 1;
  std::uint64_t parties = 0;
  bool action = false;
  ObjectPtr lock;  ///< Of a condition; null: one of its own.
  Encoding typecode = Encoding::none;
  std::uint64_t length = 0;
  Encoding encoding = Encoding::none;       ///< Of a value,
  std::span<const std::byte> content = {};  ///< and what it is.
};

/// All of one access domain: the segment and its writer, every object in it, sessions' records, who waits and holds.
class Home final : public SyncHost {
 public:
  Home(Store& store, std::unique_ptr<Domain> domain);

  /// After a restart: finds objects, names and records of sessions.
  void restore();

  DomainKey key() const { return domain_->key(); }
  Domain& domain() { return *domain_; }
  Writer& writer() { return domain_->writer(); }
  Sync& sync() { return sync_; }
  Expiry& expiry() { return expiry_; }
  Collector& collector() { return collector_; }

  // Objects

  const std::map<ObjectId, ObjectPtr>& objects() const { return objects_; }
  ObjectPtr find(ObjectId id) const;
  ObjectPtr find_name(const std::string& name) const;
  std::size_t named() const { return names_.size(); }
  /// Nothing in it, nor anybody who could come back for something.
  bool is_empty() const { return objects_.empty() && sessions_.empty() && orphans_.empty(); }
  /// Makes an object; with an anonymous one, `client` becomes a session that has it open. Errors: as `object_open`;
  /// `busy`: the client waits until it is to be tried again.
  Result<ObjectPtr> make(Client& client, const Wanted& wanted);
  /// It ends, with its name; who waits, watches or blocks on it hears so. Work on it must be over. Error: `busy`, the
  /// names are being enlarged: `client` waits for that; without one it is waited for here.
  Result<void> remove(const ObjectPtr& object, Client* client = nullptr);
  /// Checks that a value in `container` may name these, and remembers that something does. Error: `unknown_object`.
  Result<void> refer(Object& container, std::span<const ObjectId> refs);

  // Who keeps objects

  /// The session has it open under one number more. The first time, an anonymous one is noted in its record. Error:
  /// `busy` as make().
  Result<void> open(Client& client, const ObjectPtr& object);
  /// Under one number less; unless the session ends, that is noted.
  void close(Client& client, const ObjectPtr& object);
  void pin(Object& object) { ++object.pins; }
  void unpin(const ObjectPtr& object);
  /// Removes an anonymous object that nothing can reach, or has the collector find out.
  void drop_if_unused(const ObjectPtr& object);

  // Sessions

  /// The session's record here, made now if it has none. Error: `store_full`.
  Result<SessionRecord*> record_of(Client& client);
  /// The session is over: its record goes when what it held was released.
  void end_session(Client& client);
  /// Records of sessions that ended with the last daemon.
  struct Orphan {
    std::string token;
    std::uint32_t uid = 0;
    std::uint64_t applied = 0;
    std::vector<ObjectPtr> pinned;
  };
  const std::map<ObjectId, Orphan>& orphans() const { return orphans_; }
  /// Gives a record to the session that resumes it.
  void adopt(ObjectId record, Client& client);
  /// Nobody resumed it.
  void abandon(ObjectId record);
  Client* client_of(std::uint64_t record) const;

  /// Notes in a change what the highest request of a session is that was applied.
  Result<void> note(Transaction& tx, std::uint64_t session, std::uint64_t request) override;
  Transaction begin() override { return writer().begin(boot_time_ns()); }

  /// Removes entries whose time is over, some at a time; false: there are more.
  bool expire_some();
  /// A slice of what is left to do; false: there is more.
  bool work();
  void want_work();
  /// An object needs Writer::work() before anybody can write to it.
  void start_work(const ObjectPtr& object);
  /// What Sync asked to be worked on last.
  const ObjectPtr& asked() const { return asked_; }
  /// Nobody holds it any more: blocked sessions go on.
  void set_free(const ObjectPtr& object);

  // SyncHost
  Result<void> push(Transaction& tx, ObjectId queue, const ItemView& item) override;
  Result<void> pop(Transaction& tx, ObjectId queue, std::uint64_t session, std::vector<std::byte>& body) override;
  bool may_change(ObjectId object) override;
  void changed(ObjectId object) override;
  void more() override;
  void work_on(ObjectId id) override;
  void deadline_changed() override;
  TimePoint now() override;
  std::uint64_t unix_ms() override;

 private:
  /// Makes a small change to the names or a session's record. If those have to grow for it, and that is much, it is
  /// done in slices, and `busy`: the client waits for it. Without a client it is done at once.
  template <class F>
  auto with_work(Client* client, ObjectId own, F&& change) -> decltype(change());
  /// Stands for what no client has open, the names or a record, while it is worked on.
  ObjectPtr stand_in(ObjectId id);
  Result<void> set_up(Transaction& tx, ObjectId id, Client& client, const Wanted& wanted);
  Result<void> note_pin(Transaction& tx, ObjectId record, ObjectId object, bool is_open);
  void restore_entries(const ObjectPtr& object);
  void restore_record(const ObjectInfo& info);
  void charge_array(const Object& object, int sign);
  void remove_record(ObjectId record);

  Store& store_;
  std::unique_ptr<Domain> domain_;
  std::map<ObjectId, ObjectPtr> objects_;                ///< Those that clients may see.
  std::map<std::string, ObjectPtr> names_;               ///< A tree: a hash table would grow in one step.
  std::unordered_map<std::uint64_t, Client*> sessions_;  ///< By record.
  std::map<ObjectId, Orphan> orphans_;
  std::vector<ObjectPtr> working_;
  std::map<ObjectId, ObjectPtr> stand_ins_;
  ObjectPtr asked_;
  bool reclaiming_ = true;
  bool syncing_ = false;
  Expiry expiry_;
  Sync sync_;
  Collector collector_;
};

}  // namespace taskpool::store

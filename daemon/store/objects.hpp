#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/message.hpp"
#include "proto/store_body.hpp"

/// The seam of the daemon's side of the store. Three parts meet here:
///
/// - the server (server/op_store.cpp) reads frames and implements Client;
/// - Store (store.hpp) owns the domains (domain.hpp: a segment and its writer each), resolves numbers to objects, does
/// reads and writes, keeps names, pins and versions;
/// - Primitives does the operations of kind `control`: whatever waits, is held by somebody, or is woken.
///
/// One thread, so nothing here locks. A session is known to segments by the id of its record, an object of type
/// `session` that is made when the session first needs one: `owner.session` of primitive.hpp.
namespace taskpool::store {

class Domain;

/// A session, as the store sees it. The server's Session implements the answers.
class Client {
 public:
  virtual ~Client() = default;

  /// `store_reply`. Small or large: values above kMaxInlineItemBytes were put into the arena before.
  virtual void answer(std::uint64_t request, std::uint32_t count, std::span<const std::byte> body) = 0;
  virtual void refuse(std::uint64_t request, const ErrorHead& error) = 0;
  /// `changed`. False: too much is unsent, and this was dropped.
  virtual bool tell(std::uint64_t request, std::uint32_t kind, std::uint64_t version,
                    std::span<const std::byte> key) = 0;

  std::uint32_t number() const { return number_; }
  std::uint32_t uid() const { return uid_; }
  const std::string& token() const { return token_; }

 protected:
  std::uint32_t number_ = 0;
  std::uint32_t uid_ = 0;
  std::string token_;
};

/// One object that the daemon has to do with now: opened, waited for, watched or being worked on. There is one of each
/// for all its users; it stays where it is until it is told gone.
struct Object {
  Domain* domain = nullptr;
  std::uint64_t id = 0;
  std::uint64_t offset = 0;  ///< Of its record.
  ObjectType type = ObjectType::dict;
  std::uint32_t uid = 0;  ///< Of its owner.
  std::string name;       ///< Empty: anonymous.
  std::uint64_t serial =
      0;              ///< Names it among all objects of all segments of this daemon, never again: `Place::object`.
  bool gone = false;  ///< Deleted; somebody may still refer to it.
};
using ObjectPtr = std::shared_ptr<Object>;

/// How an operation that may wait is answered: once, now or later. Copies are cheap; after the session's end it does
/// nothing.
class Reply {
 public:
  Reply() = default;
  Reply(std::weak_ptr<Client*> client, std::uint64_t request, bool quiet)
      : client_{std::move(client)}, request_{request}, quiet_{quiet} {}

  std::uint64_t request() const { return request_; }
  /// One result without values; nothing is sent for a quiet request.
  void done() const;
  /// One result of integers.
  void integers(std::initializer_list<std::int64_t> values) const;
  /// One result, as a BodyWriter wrote it.
  void result(std::span<const std::byte> body) const;
  void error(Errc code, std::string detail) const;
  void error(const Error& error) const { this->error(error.errc(), error.detail); }

 private:
  std::weak_ptr<Client*> client_;
  std::uint64_t request_ = 0;
  bool quiet_ = false;
};

/// One row of `locks`: who holds or waits at an object.
struct LockRow {
  ObjectPtr object;
  struct Party {
    std::uint64_t session = 0;  ///< A record's id; the Store knows which session that is.
    std::uint32_t thread = 0;
    std::uint64_t since_ms = 0;  ///< For how long.
    std::uint32_t depth = 0;
    std::string_view what;  ///< Of a waiter: "acquire", "get", ...
  };
  std::vector<Party> holders;
  std::vector<Party> waiters;
};

/// What waits and what is held: primitives.cpp implements it.
class PrimitivesBase {
 public:
  virtual ~PrimitivesBase() = default;
  /// The aux words that a new primitive begins with. `lock`: of a condition, its lock's object, or null. Error:
  /// `bad_argument`.
  virtual Result<std::array<std::uint64_t, 4>> initial(const ObjectOpen& open, const Object* lock) = 0;
  /// Does an operation of kind `control`, but for hold and unhold. `owner_session` is the client's record in the
  /// object's segment. Views in `operation` end with the call.
  virtual void start(const ObjectPtr& object, std::uint64_t owner_session, std::uint32_t uid,
                     const Operation& operation, Reply reply) = 0;
  /// A session cancels one of its requests. False: that one does not wait.
  virtual bool cancel(std::uint64_t owner_session, std::uint64_t request) = 0;
  /// A session has ended for good: it releases, breaks and forgets. Also for records that a restart left and nobody
  /// resumed.
  virtual void end_session(Domain& domain, std::uint64_t owner_session) = 0;
  /// The object is about to go: who waits gets `unknown_object`.
  virtual void remove(const Object& object) = 0;
  /// Its items were changed by another than this: a queue was cleared.
  virtual void items_changed(const ObjectPtr& object) = 0;
  /// Where anybody holds or waits, of one segment.
  virtual std::vector<LockRow> locks(Domain& domain) = 0;
};

/// What Primitives asks of the Store.
class StoreBase {
 public:
  virtual ~StoreBase() = default;
  /// The daemon's view of an object of a segment, or null: it is gone.
  virtual ObjectPtr find(Domain& domain, std::uint64_t id) = 0;
  /// All objects of one type of a segment: after a restart.
  virtual std::vector<ObjectPtr> all(Domain& domain, ObjectType type) = 0;
  /// Whether nobody may write to it now: work in slices or a reader's hold. `call` is called when that is over.
  virtual bool is_held(const Object& object) const = 0;
  virtual void when_free(const ObjectPtr& object, std::function<void()> call) = 0;
  /// Tells watchers that something else than entries changed.
  virtual void note_change(const Object& object) = 0;
};

}  // namespace taskpool::store

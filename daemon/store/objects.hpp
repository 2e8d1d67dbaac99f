#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "proto/frame.hpp"
#include "proto/message.hpp"
#include "proto/store_body.hpp"

/// What the parts of the daemon's side of the store share:
///
/// - the server (server/op_store.cpp) reads frames and implements Client;
/// - Store (store.hpp) resolves numbers to objects, does reads and writes, keeps names, pins and watches;
/// - Home (home.hpp) is all of one access domain: its segment's writer, its objects, its Sync;
/// - Sync (sync.hpp) does the operations of kind `control`: whatever waits, is held by somebody, or is woken.
///
/// One thread, so nothing here locks. A session is known to a segment by the id of its record there, an object of type
/// `session` that is made when the session first needs one: `Owner::session`.
namespace taskpool::store {

class Home;
class Client;

/// Somebody watches an object, or one key of it.
struct Watch {
  Client* client = nullptr;
  std::uint64_t request = 0;
  bool whole = true;
  std::string key;
  bool lagged = false;  ///< Something was left out, and he does not know yet.
};

/// One object, for as long as it exists and somebody here still refers to it.
struct Object {
  Home* home = nullptr;
  ObjectId id = ObjectId::none;
  std::uint64_t offset = 0;  ///< Of its record.
  ObjectType type = ObjectType::dict;
  std::uint32_t uid = 0;               ///< Of its owner.
  std::string name;                    ///< Empty: anonymous.
  bool gone = false;                   ///< Deleted.
  Encoding typecode = Encoding::none;  ///< Of an array.
  std::uint64_t length = 0;            ///< The same.
  std::shared_ptr<Object> lock;        ///< Of a condition: the object that is its lock; null: itself.

  // Why it lives, if it has no name
  std::unordered_map<Client*, std::uint32_t> openers;  ///< And under how many numbers.
  std::uint32_t pins = 0;                              ///< Jobs, and records of sessions that are away.
  bool was_referred = false;  ///< Some value or job named it once: only the collector knows whether one still does.
  bool has_refs = false;      ///< Some value in it named objects.
  std::chrono::steady_clock::time_point lost{};  ///< Since when nothing reaches it; 0: something did.

  // Who keeps it from being written
  std::unordered_map<Client*, std::chrono::steady_clock::time_point> holds;  ///< Until when.
  std::uint32_t work_rounds = 0;    ///< How often in a row it was wanted, and then still was not enough.
  std::optional<Error> work_error;  ///< It could not be done: whoever asked for it is told.
  bool working = false;             ///< Work in slices is under way.
  bool walked = false;              ///< The collector is in the middle of it.
  bool doomed = false;              ///< To be removed when the work is done.
  std::vector<Client*> blocked;     ///< Sessions whose next request waits for it.

  std::vector<std::shared_ptr<Watch>> watches;

  bool is_held() const { return working || walked || !holds.empty(); }
};
using ObjectPtr = std::shared_ptr<Object>;

/// A session's record in a segment.
struct SessionRecord {
  ObjectId id = ObjectId::none;
  bool resumed = false;
  std::uint64_t applied = 0;  ///< If it was: the highest request that the daemon before knew to be done.
};

/// A request that has to wait until an object may be written: with those behind it, in order.
struct PendingFrame {
  Prefix prefix;
  std::string head;
  std::vector<std::byte> body;
};

/// What the Store keeps of a session. The server fills in number, uid and token.
struct ClientState {
  std::uint32_t number = 0;  ///< The session's, for people.
  std::uint32_t uid = 0;
  std::int64_t pid = 0;  ///< Of the process that connected; for people.
  std::string token;

  std::vector<ObjectPtr> opened;  ///< By number; null: none.
  std::vector<ObjectPtr> kept;    ///< What a resumed session had open.
  std::unordered_map<Home*, SessionRecord> records;
  Home* last_home = nullptr;                             ///< Where it wrote last,
  SessionRecord* last_record = nullptr;                  ///< and its record there.
  std::unordered_map<std::uint64_t, ObjectPtr> watched;  ///< What it watches, by request.
  std::deque<PendingFrame> pending;
  std::size_t pending_bytes = 0;
  bool held_back = false;         ///< Its further requests stay unread.
  ObjectPtr blocked_on;           ///< What the first of `pending` waits for.
  std::shared_ptr<Client*> self;  ///< For Reply; null inside once the session is over.
};

/// A session, as the store sees it: the server's Session implements the answers.
class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  virtual ~Client() = default;

  /// `store_reply`.
  virtual void answer(std::uint64_t request, std::uint32_t count, std::span<const std::byte> body) = 0;
  /// `ok`, with nothing to say.
  virtual void accept(std::uint64_t request) = 0;
  virtual void refuse(std::uint64_t request, const ErrorHead& error) = 0;
  /// `changed`. False: too much is unsent, and this was dropped.
  virtual bool tell(std::uint64_t request, std::uint32_t kind, std::uint64_t version,
                    std::span<const std::byte> key) = 0;
  /// A value too large for a frame goes into the session's down arena. Error: `out_of_space`.
  virtual Result<ArenaRef> place(std::span<const std::byte> value) = 0;
  virtual void take_back(const ArenaRef& place) = 0;
  /// The object that it asked to delete is gone.
  virtual void removed(const Object&) {}
  /// The bytes of a place in the up arena; empty: there is none. The client may change them at any time.
  virtual std::span<const std::byte> find_up(const ArenaRef& place) const = 0;
  virtual bool is_member(std::uint32_t gid) const = 0;
  /// Does a request that waited: `object_open`, `object_close` or `watch`. False: it has to wait again.
  virtual bool again(const FrameView& frame) = 0;
  /// True: its requests are to wait where they are, unread, as too many wait here.
  virtual void hold_back(bool is_held_back) = 0;

  ClientState state{.self = std::make_shared<Client*>(this)};
};

/// How an operation that may wait is answered: once, now or later. Copies are cheap; after the session's end it does
/// nothing.
class Reply {
 public:
  Reply() = default;
  /// `client`: its `self`.
  Reply(std::weak_ptr<Client*> client, std::uint64_t request, bool quiet)
      : client_{std::move(client)}, request_{request}, quiet_{quiet} {}

  std::uint64_t request() const { return request_; }
  /// One result without values; nothing is sent for a quiet request.
  void done() const { result({}); }
  /// One result of integers.
  void integers(std::span<const std::int64_t> values) const;
  void integers(std::initializer_list<std::int64_t> values) const {
    integers(std::span{values.begin(), values.size()});
  }
  /// One result, as a BodyWriter wrote it; empty: without values.
  void result(std::span<const std::byte> body) const;
  void error(Errc code, std::string detail) const;
  void error(const Error& error) const { this->error(error.errc(), error.detail); }

 private:
  Client* find() const;

  std::weak_ptr<Client*> client_;
  std::uint64_t request_ = 0;
  bool quiet_ = false;
};

}  // namespace taskpool::store

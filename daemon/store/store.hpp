#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/metrics.hpp"
#include "daemon/store/buffers.hpp"
#include "daemon/store/home.hpp"
#include "daemon/store/objects.hpp"
#include "daemon/store/operations.hpp"
#include "daemon/time_slice.hpp"

namespace taskpool::store {

/// The shared store: finds the object that a request means, does what it asks, and tells whoever waits or watches.
class Store {
 public:
  Store(boost::asio::io_context& io, const Config& config, Metrics& metrics);
  ~Store();

  /// Takes over what earlier daemons left in config.store_dir, before anybody connects. A segment that cannot be used
  /// is moved aside and logged. Errors: `already_running` (another daemon has it), `system`.
  Result<void> start();
  /// Leaves segments as they are from now on: what sessions hold stays in their records, for the next daemon.
  void freeze();
  /// The daemon ends: files of users who have nothing in them go.
  void leave();

  /// The user's own part, and his buffers, may take so much; `rule` is what says so.
  void bound(std::uint32_t uid, std::uint64_t bytes, const std::string& rule);
  /// What of that is used: of the user's own part, without buffers.
  std::uint64_t used_bytes(std::uint32_t uid) const;

  // Requests. Errors: as PROTOCOL.md, section 3.5.

  struct Opened {
    ObjectPtr object;
    bool created = false;
  };
  /// Error: `busy`, see wait_in_turn().
  Result<Opened> open(Client& client, std::uint32_t target, const ObjectOpen& head, const FrameView& frame);
  void close(Client& client, std::uint32_t target);
  Result<Buffers::Opened> open_buffer(Client& client, std::uint32_t target, const BufferOpen& head);
  /// `object_delete` and `store`: in order, as soon as the objects may be changed; answered then.
  void handle(Client& client, const Prefix& prefix, std::span<const std::byte> body);
  /// Whether requests of the session wait, so that others have to wait behind them.
  bool has_pending(const Client& client) const { return !client.state.pending.empty(); }
  /// Has one wait for its turn, or first of all: open() said `busy`. Client::again() does it.
  void wait_in_turn(Client& client, const FrameView& frame, bool first);
  Result<void> watch(Client& client, const FrameView& frame);
  /// Ends a watch or a wait of that number, which is answered with `cancelled`. False: there is none.
  bool cancel(Client& client, std::uint64_t request);
  /// Objects, and after them buffers.
  Result<nlohmann::json> list(Client& client, const ObjectsRequest& request);
  Result<nlohmann::json> locks(Client& client, const LocksRequest& request);

  /// Keeps objects as long as the pin lives. Error: `unknown_object`.
  using Pin = std::shared_ptr<void>;
  Result<Pin> pin(Client& client, const std::vector<std::string>& ids);
  /// The same for an object that a result for this user names, or null: it is not there, or not his to see. `client`:
  /// the session that gets the result; null: one that is not known yet.
  Pin pin_named(const std::string& id, std::uint32_t uid, const Client* client);
  /// The same for the anonymous object that the session has open under this number; null: there is none.
  Pin pin_opened(const Client& client, std::uint32_t target);

  /// Makes the session the one that had this token, if the last daemon left any; else false.
  bool resume(Client& client, const std::string& token);
  /// The session is over: everything that it had is given back.
  void end(Client& client);

  /// Objects that have names. While there are any the daemon has something to keep.
  std::size_t named() const;
  /// Fills in the gauges.
  void measure(Metrics& metrics) const;

  // For Home.

  const Config& config() const { return config_; }
  std::chrono::steady_clock::time_point now() const { return std::chrono::steady_clock::now(); }
  std::uint64_t unix_ms() const;
  /// Homes have work for the next turns.
  void want_work();
  /// Something is due earlier than it was.
  void arm();
  /// The session's next request waits for the object.
  void wait_for(Client& client, const ObjectPtr& object) { (void)block(client, object); }
  /// Sessions whose requests wait for the object go on, in the next turn.
  void run_blocked(const ObjectPtr& object);
  /// Watchers hear of a change.
  void tell(Object& object, ChangeKind kind, std::span<const std::byte> key);
  void tell_gone(const ObjectPtr& object);

 private:
  // store.cpp
  static Result<void> check_number(std::uint32_t target);
  Result<Home*> home(DomainKey key, bool make);
  Result<void> open_file(const std::string& path, DomainKey key);
  Result<DomainKey> domain_for(Client& client, const std::string& group) const;
  static bool may_see(const Client& client, DomainKey key);
  ObjectPtr find_id(const std::string& id, const std::function<bool(DomainKey)>& may_see) const;
  Result<Opened> open_id(Client& client, const std::string& id);
  Pin pin_all(std::vector<ObjectPtr> objects);
  Result<Opened> open_name(Client& client, const ObjectOpen& head, const FrameView& frame);
  Result<Wanted> wanted(Client& client, ObjectType type, const ObjectOpen& head, const FrameView& frame);
  void close_object(Client& client, std::uint32_t target);
  void release_number(Client& client, std::uint32_t target);
  Result<ObjectPtr> opened(Client& client, std::uint32_t target) const;

  // store_rows.cpp
  /// Appends rows of a user's buffers, as far as they are asked for; true: there are more.
  bool list_buffers(const Client& client, const ObjectsRequest& request, nlohmann::json& rows) const;

  // store_run.cpp
  bool run(Client& client, const FrameView& frame);
  bool run_operations(Client& client, const Prefix& prefix, std::span<const std::byte> body);
  bool control(Client& client, const Prefix& prefix, const ObjectPtr& object, const Operation& operation);
  bool remove(Client& client, const Prefix& prefix);
  bool hold(Client& client, const Prefix& prefix, const ObjectPtr& object);
  void unhold(Client& client, const Prefix& prefix, const ObjectPtr& object);
  Result<void> scan(Client& client, const Prefix& prefix, const ObjectPtr& object, const Operation& operation);
  /// Error `busy`: it is to be tried again when the home has done what it was asked to work on.
  Result<void> sync(Client& client, const Prefix& prefix, const ObjectPtr& object, const Operation& operation);
  /// Whether a resumed session's request was done before; it is answered then.
  bool was_applied(Client& client, const Prefix& prefix, std::span<const std::byte> body);
  void finish(Client& client, const Prefix& prefix, Home& home);
  void fail_request(Client& client, const Prefix& prefix, const Error& error, std::optional<std::size_t> index = {});
  bool block(Client& client, const ObjectPtr& object);
  void keep(Client& client, const FrameView& frame, bool first);
  void let_pass(Client& client, std::size_t body_bytes);
  /// Runs what waited, as far as the slice has time for it. False: there is more.
  bool run_pending(Client& client, TimeSlice& slice);

  // store_time.cpp
  void work();
  /// Has those go on whose object is free. False: there is more.
  bool run_resumable();
  void on_timer();
  std::optional<std::chrono::steady_clock::time_point> next_due() const;
  void end_holds(std::chrono::steady_clock::time_point now);
  void tell_lagging();

  boost::asio::io_context& io_;
  const Config& config_;
  Metrics& metrics_;
  os::UniqueFd lock_;
  std::map<DomainKey, std::unique_ptr<Home>> homes_;
  std::uint32_t last_number_ = 0;
  Buffers buffers_;
  struct Bound {
    std::uint64_t bytes;
    std::string rule;
  };
  std::map<std::uint32_t, Bound> bounds_;  ///< Of users who have one.
  bool frozen_ = false;

  Effects effects_;
  std::vector<std::byte> out_;

  std::vector<Client*> resumable_;  ///< Blocked sessions whose object is free.
  std::vector<ObjectPtr> held_;     ///< Objects that readers hold.
  std::vector<std::shared_ptr<Watch>> lagging_;
  bool works_ = false;  ///< work() is posted.
  std::optional<std::chrono::steady_clock::time_point> armed_;
  std::optional<std::chrono::steady_clock::time_point> grace_end_;  ///< Of records that nobody has resumed.
  boost::asio::steady_timer timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace taskpool::store

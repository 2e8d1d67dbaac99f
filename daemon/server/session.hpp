#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/os/fd_passing.hpp"
#include "daemon/server/audit.hpp"
#include "daemon/server/core.hpp"
#include "daemon/server/permissions.hpp"
#include "daemon/store/objects.hpp"
#include "daemon/wire/channel.hpp"
#include "proto/message.hpp"

namespace taskpool::server {

/// What a prepared call is bound to, or why it is not.
struct Binding {
  queue::PreparedCallPtr call;
  std::shared_ptr<pool::Pool> pool;
  queue::SessionTurn* turn = nullptr;
  std::optional<Error> error;
};

/// One connection of a client: its requests, its jobs, and what its death releases. session.cpp: the connection and
/// what it is told of its jobs; submit.cpp: how jobs come to be; op_*.cpp: the other requests.
class Session : public wire::FrameSink, public queue::Listener, public store::Client {
 public:
  /// `owner`: a pidfd of the process that connected, or empty.
  Session(Core& core, os::UniqueFd socket, Identity who, Door door, pid_t pid, os::UniqueFd owner,
          std::uint32_t number);
  ~Session() override;

  /// Greets, then serves until the connection ends; then cancels and releases what is left.
  boost::asio::awaitable<void> run();
  void close() { channel_.close(); }
  /// Takes over what the permissions say of its user.
  void update_bounds();

  Core& core() { return core_; }
  std::uint32_t number() const { return number_; }
  std::uint32_t uid() const { return who_.uid; }
  /// Whether the client may ask for `what`, which takes `right`. Error: `permission_denied`.
  Result<void> may(Right right, std::string_view what) const;
  /// Whether he handles everybody's tasks, not only his own.
  bool sees_others() const { return may(Right::others_tasks, {}).has_value(); }
  /// Who this is, for the audit.
  Author author() const { return {who_.uid, static_cast<pid_t>(state.pid), number_}; }
  /// Writes the line of a request that was done.
  void audit(Op op, std::vector<log::Field> about) const;
  wire::Channel& channel() { return channel_; }

  // Replies
  void reply(std::uint64_t request, const nlohmann::json& body);
  void reply_with(std::uint64_t request, const nlohmann::json& body, std::span<const int> fds);
  void reply_error(std::uint64_t request, const Error& error);
  void reply_error(std::uint64_t request, const ErrorHead& error);
  /// A way to reply later: does nothing once the session is gone.
  std::function<void(const std::function<void(Session&)>&)> later();

  // Requests: rows of the table in ops.cpp. An error is the reply to the request.
  Result<void> prepare(const FrameView& frame);
  Result<void> forget(const FrameView& frame);
  Result<void> apply(const FrameView& frame);
  Result<void> map(const FrameView& frame);
  Result<void> input(const FrameView& frame);
  Result<void> cancel(const FrameView& frame);
  Result<void> wait(const FrameView& frame);
  Result<void> fetch(const FrameView& frame);
  Result<void> ps(const FrameView& frame);
  Result<void> failures(const FrameView& frame);
  Result<void> log(const FrameView& frame);
  Result<void> workers(const FrameView& frame);
  Result<void> pools(const FrameView& frame);
  Result<void> functions(const FrameView& frame);
  Result<void> pool_open(const FrameView& frame, std::vector<os::UniqueFd> fds);
  Result<void> pool_close(const FrameView& frame);
  Result<void> pool_resize(const FrameView& frame);
  Result<void> pool_pause(const FrameView& frame);
  Result<void> pool_resume(const FrameView& frame);
  Result<void> stats(const FrameView& frame);
  Result<void> reload(const FrameView& frame);
  Result<void> drain(const FrameView& frame);
  Result<void> shutdown(const FrameView& frame);
  Result<void> ping(const FrameView& frame);
  Result<void> whoami(const FrameView& frame);
  Result<void> arena_open(const FrameView& frame);
  Result<void> arena_release(const FrameView& frame);
  Result<void> nested_wait(const FrameView& frame);

  Result<void> object_open(const FrameView& frame);
  Result<void> buffer_open(const FrameView& frame);
  Result<void> object_close(const FrameView& frame);
  Result<void> object_delete(const FrameView& frame);
  Result<void> store(const FrameView& frame);
  Result<void> watch(const FrameView& frame);
  Result<void> objects(const FrameView& frame);
  Result<void> locks(const FrameView& frame);
  Result<void> release_refs(const FrameView& frame);

  // store::Client
  void answer(std::uint64_t request, std::uint32_t count, std::span<const std::byte> body) override;
  void accept(std::uint64_t request) override;
  void refuse(std::uint64_t request, const ErrorHead& error) override;
  bool tell(std::uint64_t request, std::uint32_t kind, std::uint64_t version, std::span<const std::byte> key) override;
  Result<ArenaRef> place(std::span<const std::byte> value) override;
  void take_back(const ArenaRef& place) override;
  void removed(const store::Object& object) override;
  std::span<const std::byte> find_up(const ArenaRef& place) const override;
  bool is_member(std::uint32_t gid) const override;
  bool again(const FrameView& frame) override;
  void hold_back(bool is_held_back) override { channel_.pause(is_held_back); }

  // FrameSink
  Result<void> on_frame(const FrameView& frame, std::vector<os::UniqueFd> fds) override;

  // queue::Listener
  void on_results(queue::Job& job, std::uint32_t index, std::uint32_t count, const Prefix& form,
                  std::span<const std::byte> table, std::span<const std::byte> payload,
                  std::span<const std::string> refs) override;
  void on_failed(queue::Job& job, std::uint32_t index, std::uint32_t count, const ErrorHead& error) override;
  void on_progress(queue::Job& job, std::uint32_t index, const Report& report) override;
  bool on_done(queue::Job& job) override;

 private:
  Result<void> greet(const FrameView& frame);
  /// Replies to a request that was refused, and writes the line that it is to have.
  void refuse(const FrameView& frame, const Error& error);
  /// Ends the session when its process does: a child of that one may have inherited the socket.
  void watch_owner();
  void release_everything();
  /// Stops or resumes this session's work as it takes its results or not.
  void update_credit();
  Result<void> open_object(const FrameView& frame);
  /// Has a request wait behind those of the store that wait. False: there are none.
  bool waits_in_turn(const FrameView& frame);
  /// Keeps what a result names that this client is about to be sent, until it says `release_refs`.
  void hold_refs(std::span<const std::string> refs);
  /// What a task closes may be what it is going to return: it stays until that is known.
  void keep_for_task(std::uint32_t target);

  // submit.cpp
  Result<Binding> bind(Call call);
  Result<const Binding*> binding_of(const FrameView& frame, Binding& own);
  Result<queue::Job*> open_job(const Binding& binding, std::uint64_t request, bool is_map);
  /// Whether the daemon and the pool take new work at all. Errors: `draining`, `pool_closed`.
  Result<void> check_open(const pool::Pool& pool) const;
  /// Whether this user may send such items: what a pickle does is the sender's choice. Error: `permission_denied`.
  Result<void> check_trust(Encoding encoding) const;
  /// Whether the frame's items fit what the pool and this session may have waiting. Error: `queue_full`.
  Result<void> check_room(const pool::Pool& pool, const FrameView& frame) const;
  Result<void> check_references(const FrameView& frame) const;
  /// A body of references that were moved to the daemon's own arena, and the regions there.
  struct Moved {
    std::vector<std::byte> body;
    std::vector<ArenaRef> regions;
  };
  /// Work that outlives the session cannot leave its arguments in the session's arena: copies them. Empty if there is
  /// nothing to copy. Errors: `body_too_large`, `out_of_space`.
  Result<Moved> move_inputs(const queue::PreparedCall& prepared, const FrameView& frame);
  void add_items(queue::Job& job, const FrameView& frame, Moved moved);
  Result<std::uint32_t> depth() const;
  bool join(const Binding& binding, std::uint64_t request);
  /// Writes the line of a job that was accepted, if it is to have one.
  void audit_job(const queue::Job& job, std::uint32_t items) const;
  /// Tells what a client hears of a job at its acceptance: its name if it is detached or announced.
  void acknowledge(queue::Job& job);
  void send_done(const queue::Job& job, std::uint64_t request);
  /// Sends a kept job's outcomes when it has ended, now or later.
  void answer_at_end(queue::Job& job, std::uint64_t request);
  bool answer(queue::Job& ended, std::uint64_t request, std::uint64_t index = 0);

  // op_tasks.cpp
  Result<queue::Job*> find_task(const std::string& text) const;
  Result<std::shared_ptr<pool::Pool>> find_pool(const std::string& name, bool to_change) const;
  /// Other users' own pools are not shown.
  bool sees(const pool::Pool& pool) const;
  Result<std::shared_ptr<pool::Pool>> pool_to_change(const FrameView& frame) const;
  std::uint32_t cancel_job(queue::Job& job, const Cancel& how);

  Core& core_;
  Identity who_;
  Door door_;
  std::uint32_t number_;
  std::string token_;
  wire::Channel channel_;
  boost::asio::posix::stream_descriptor owner_;  ///< A pidfd, if it is open.
  bool greeted_ = false;
  bool paused_ = false;
  std::vector<Binding> prepared_;  ///< By number; 0 is unused.
  queue::QuotaPtr quota_{new queue::Quota};
  Bounds bounds_;
  queue::OwnerList jobs_;
  /// A map whose input is open.
  struct OpenMap {
    queue::JobId id;
    std::optional<Encoding> encoding{};  ///< Of its first items, and so of all.
  };
  std::unordered_map<std::uint64_t, OpenMap> open_maps_;               ///< By request.
  std::vector<std::uint32_t> segments_;                                ///< Whose descriptors the client has.
  bool takes_refs_ = false;                                            ///< The client knows `release_refs`.
  std::unordered_multimap<std::string, store::Store::Pin> held_refs_;  ///< What results that it has name, by id.
  // A client inside a task
  std::shared_ptr<pool::Pool> parent_pool_;
  std::weak_ptr<pool::Worker> parent_worker_;
  bool waiting_nested_ = false;
  std::shared_ptr<Session*> self_;  ///< For later().
};

}  // namespace taskpool::server

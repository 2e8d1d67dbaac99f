#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "taskpool/body.hpp"
#include "taskpool/fd.hpp"
#include "taskpool/future.hpp"
#include "taskpool/map_stream.hpp"
#include "taskpool/options.hpp"
#include "taskpool/pool.hpp"

namespace taskpool {

class Barrier;
class Batch;
class Buffer;
class Condition;
class Event;
class Lock;
class Lockable;
class Namespace;
class Object;
class RLock;
class Semaphore;
template <class K, class V>
class Dict;
template <class T>
class List;
template <class T>
class Value;
template <ArrayElement T>
class Array;
template <class T>
class Queue;
template <class T>
class JoinableQueue;
struct ObjectRef;
struct ObjectSpec;

}  // namespace taskpool

/// The client library of taskpool. Errors are values (Result); nothing here throws, except for memory running out.
namespace taskpool {

/// Who answers.
struct ServerInfo {
  std::string socket{};  ///< Its path.
  std::string version;   ///< Of the daemon.
  std::string build;     ///< Its build id.
  std::uint64_t pid = 0;
  std::uint64_t uid = 0;
  std::uint64_t session = 0;
  Limits limits;
};

/// A command task's captured output.
struct TaskLog {
  nlohmann::json task;  ///< Its row, as in ps().
  Fd out;               ///< Standard output, read-only, at offset 0; it may still grow.
  Fd err;               ///< Standard error.
};

/// Which tasks ps() lists.
struct PsOptions {
  std::string pool{};   ///< Empty: all pools.
  std::string state{};  ///< Empty: all states.
  std::string task{};   ///< Only this one.
  bool all = false;     ///< Other users' too.
  std::uint32_t limit = 100;
};

/// Which objects objects() lists, in the order of their making.
struct ObjectsOptions {
  std::string type{};   ///< Empty: all types.
  std::string name{};   ///< Only the one of that name.
  std::string group{};  ///< Of that group; empty: the user's own.
  std::string after{};  ///< The id of the last one of the page before.
  std::uint32_t limit = 100;
};

/// A session with the daemon. Copyable: copies share it. Thread-safe: any thread may call anything at any time; there
/// is no thread of the library's own: whoever waits reads the socket for all.
///
/// When the connection breaks, calls that were not yet written and calls and maps with an idempotency key are sent
/// again to the daemon that comes back within `reconnect_timeout` (see ClientOptions::resend_bytes for what is kept for
/// it); the others end with `outcome_unknown`, and so does what was under way when eight connections broke. Pools from
/// open_pool() are gone then (`pool_closed`). A forked child gets a session of its own at its first call; futures of
/// its parent end with `daemon_gone` there.
class Client {
 public:
  /// Connects, starting a private daemon if none runs (see ClientOptions). Errors: `no_daemon`, `permission_denied`,
  /// `unsupported_version`, `timed_out`.
  static Result<Client> connect(ClientOptions options = {});

  /// Speaks over an already connected socket; there is no reconnection then. For tests and socket activation.
  static Result<Client> over(Fd socket, ClientOptions options = {});

  /// A pool of the daemon by name; "" is the default pool. Not checked: its calls fail with `unknown_pool`.
  Pool pool(std::string name = "") const;
  /// Starts a pool that ends with this session, or with the last copy of what this returns. Waits for its first worker.
  /// Errors: `start_failed` (detail has the loader's message or the initializer's traceback), `limit_reached`.
  Result<Pool> open_pool(const PoolOptions& options) const;

  /// The untyped calls, with every field of the protocol. `call.detached` is not for these: use submit().
  Result<Body> apply(const Call& call, const Item& item) const;
  RawFuture apply_async(const Call& call, const Item& item) const;
  MapCall start_map(const Call& call, std::shared_ptr<MapSink> sink) const;
  MapStream start_stream(const Call& call, const StreamOptions& options = {}) const;
  PreparedCall prepare(const Call& call) const;
  /// Memory for a large argument. Errors: `out_of_space`, `limit_reached`.
  Result<UpBuffer> up_buffer(std::size_t bytes) const;
  /// Sends everything that was collected.
  Result<void> flush() const;

  /// Starts a task that outlives this session; returns its id.
  Result<std::string> submit(Call call, const Item& item) const;
  /// A map that outlives this session, fed as a stream and taken with fetch_all() or fetch_map(); returns its id once
  /// the daemon has read all of it. `feed` gives the next item, or nothing at the end; it is called without locks held.
  /// An array is as many items as it has elements. What is more than the daemon's `session_queued_bytes` or
  /// `detached_body_bytes` holds fails item by item, with `queue_full` or `body_too_large`. Errors: as Pool; that of an
  /// item that cannot be sent, and that of `feed`: nothing is left of the job then.
  Result<std::string> submit_map(Call call, const std::function<Result<std::optional<Item>>()>& feed) const;
  /// Waits for a task to end and returns its row (see PROTOCOL.md, `ps`). 0: as long as it takes. Errors: `timed_out`,
  /// `unknown_task`.
  Result<nlohmann::json> wait(const std::string& task, std::chrono::milliseconds timeout = {}) const;
  /// A submitted task's result, or its error. Without `keep` the daemon then drops it. Errors: `not_finished`,
  /// `unknown_task`; `bad_argument` if it is a job, whose results are dropped as well then: use fetch_map() or
  /// fetch_all().
  Result<Body> fetch(const std::string& task, bool keep = false) const;
  /// The same as an R, as Pool::apply() has it.
  template <class R>
  Result<R> fetch(const std::string& task, bool keep = false) const {
    auto body = fetch(task, keep);
    if (!body) return body.error();
    return decode_value<R>(std::move(*body));
  }
  /// The results of a submitted job as Rs, in the order of its items, as Pool::map() has them; also errors as there.
  template <class R>
  Result<std::vector<R>> fetch_map(const std::string& task, bool keep = false) const {
    auto sink = std::make_shared<Collector<R>>();
    return MapFuture<R>{fetch_into(task, sink, keep), sink}.get();
  }
  /// The same with a result or an error for each item.
  template <class R>
  Result<std::vector<Result<R>>> fetch_map_each(const std::string& task, bool keep = false) const {
    auto sink = std::make_shared<Collector<R>>();
    return MapFuture<R>{fetch_into(task, sink, keep), sink}.get_each();
  }
  /// All outcomes of a submitted job, given to a sink.
  MapCall fetch_into(const std::string& task, std::shared_ptr<MapSink> sink, bool keep = false) const;
  /// The outcomes of a submitted job from `index` on, or the one of a task.
  MapStream fetch_all(const std::string& task, bool keep = false, std::uint64_t index = 0,
                      const StreamOptions& options = {}) const;
  /// Cancels a task or job by id; returns how many tasks that reached.
  Result<std::uint64_t> cancel(const std::string& task, CancelMode mode = CancelMode::ask) const;
  /// A command task's captured output. Errors: `no_output`, `unknown_task`.
  Result<TaskLog> log(const std::string& task) const;

  // Objects of the shared store, by name; "" makes an anonymous one, which lives as long as something refers to it.
  // Include <taskpool/objects.hpp>, which describes them. Errors: `unknown_object` (never: it is not there; or a group
  // that is not ours), `object_exists` (exclusive), `wrong_type` (the name is another kind of object), `store_full`,
  // `limit_reached`.

  template <class K, class V>
  Result<Dict<K, V>> dict(const std::string& name, const ObjectOptions& options = {}) const;
  template <class T>
  Result<List<T>> list(const std::string& name, const ObjectOptions& options = {}) const;
  /// `initial` is for one that is made.
  template <class T>
  Result<Value<T>> value(const std::string& name, const T& initial = T{}, const ObjectOptions& options = {}) const;
  /// `length` is for one that is made; one that is there with another length or element type is `wrong_type`.
  template <ArrayElement T>
  Result<Array<T>> array(const std::string& name, std::size_t length, const ObjectOptions& options = {}) const;
  Result<Namespace> name_space(const std::string& name, const ObjectOptions& options = {}) const;
  /// `maxsize` is for one that is made; 0: no bound.
  template <class T>
  Result<Queue<T>> queue(const std::string& name, std::size_t maxsize = 0, const ObjectOptions& options = {}) const;
  template <class T>
  Result<JoinableQueue<T>> joinable_queue(const std::string& name, std::size_t maxsize = 0,
                                          const ObjectOptions& options = {}) const;
  Result<Lock> lock(const std::string& name, const ObjectOptions& options = {}) const;
  Result<RLock> rlock(const std::string& name, const ObjectOptions& options = {}) const;
  /// `value` is for one that is made.
  Result<Semaphore> semaphore(const std::string& name, std::uint64_t value = 1,
                              const ObjectOptions& options = {}) const;
  Result<Semaphore> bounded_semaphore(const std::string& name, std::uint64_t value = 1,
                                      const ObjectOptions& options = {}) const;
  Result<Event> event(const std::string& name, const ObjectOptions& options = {}) const;
  /// Without `lock` it has one of its own, which a thread may lock several times.
  Result<Condition> condition(const std::string& name, const Lockable* lock = nullptr,
                              const ObjectOptions& options = {}) const;
  /// `parties` is for one that is made, as is whether one of them runs something: see Barrier::wait().
  Result<Barrier> barrier(const std::string& name, std::uint64_t parties, bool has_action = false,
                          const ObjectOptions& options = {}) const;
  /// Raw memory, of that size if it is made; see <taskpool/buffer.hpp>. Errors: `object_exists`, `unknown_object`,
  /// `store_full`.
  Result<Buffer> buffer(const std::string& name, std::size_t bytes, const ObjectOptions& options = {}) const;
  /// The object that a value refers to. Not checked: operations on another type fail with `wrong_type`.
  template <class T>
  Result<T> open(const ObjectRef& ref) const;
  /// An object whose type is only known at run time.
  Result<Object> open_object(const std::string& name, const ObjectSpec& spec, const ObjectOptions& options = {}) const;
  /// Operations that are done as one.
  Batch batch() const;

  /// The daemon's tables, as PROTOCOL.md describes the replies.
  Result<nlohmann::json> ps(const PsOptions& options = {}) const;
  Result<nlohmann::json> workers(const std::string& pool = "") const;
  Result<nlohmann::json> pools() const;
  Result<nlohmann::json> stats() const;
  /// The role, quotas and use of this client's user; with `all`, for operators and admins, also what each user has.
  Result<nlohmann::json> whoami(bool all = false) const;
  Result<nlohmann::json> functions(const std::string& pool = "") const;
  Result<nlohmann::json> failures(std::uint32_t limit = 100) const;
  Result<nlohmann::json> objects(const ObjectsOptions& options = {}) const;
  /// Who holds a lock or semaphore, since when, and who waits.
  Result<nlohmann::json> locks(const std::string& name = "", const std::string& group = "",
                               std::uint32_t limit = 100) const;

  /// Orders to the daemon. drain() waits until no work is left, at most `timeout` (0: as long as it takes).
  Result<nlohmann::json> pool_resize(const std::string& pool, std::uint32_t workers) const;
  Result<nlohmann::json> pool_pause(const std::string& pool) const;
  Result<nlohmann::json> pool_resume(const std::string& pool) const;
  Result<nlohmann::json> reload() const;
  Result<nlohmann::json> drain(std::chrono::milliseconds timeout = {}) const;
  Result<nlohmann::json> shutdown(bool force = false) const;
  Result<nlohmann::json> ping() const;

  /// Who answered last.
  ServerInfo server() const;

 private:
  friend class Pool;
  explicit Client(std::shared_ptr<client::Session> session) : session_{std::move(session)} {}
  Result<Object> open_ref(const ObjectRef& ref) const;
  template <class T>
  Result<T> open_as(ObjectSpec spec, const std::string& name, const ObjectOptions& options) const;
  std::shared_ptr<client::Session> session_;
};

}  // namespace taskpool

#include "taskpool/client.hpp"

#include <algorithm>

#include "client/cpp/job.hpp"
#include "client/cpp/session.hpp"
#include "client/cpp/stream_job.hpp"
#include "client/cpp/to_ms.hpp"
#include "client/cpp/waiting.hpp"
#include "proto/codec.hpp"

namespace taskpool {
namespace {

client::Destination destination(const Call& call) { return {nullptr, encode(call), !call.idempotency_key.empty(), 0}; }

Result<nlohmann::json> read_reply(const Result<Body>& body) {
  if (!body) return body.error();
  auto json = nlohmann::json::parse(body->text(), nullptr, false);
  if (json.is_discarded()) return fail(Errc::bad_message, "the daemon's reply is not JSON");
  return json;
}

Result<nlohmann::json> ask(client::Session& session, Op op, const std::string& head, bool again) {
  return read_reply(session.connection()->ask(op, head, again));
}

/// A field of a reply.
template <class T>
Result<T> field(const Result<nlohmann::json>& reply, const char* key) {
  if (!reply) return reply.error();
  const auto found = reply->is_object() ? reply->find(key) : reply->end();
  if constexpr (std::is_same_v<T, std::string>) {
    if (found != reply->end() && found->is_string()) return found->template get<T>();
  } else {
    if (found != reply->end() && found->is_number_unsigned()) return found->template get<T>();
  }
  return fail(Errc::bad_message, std::string{key} + ": missing in the daemon's reply");
}

std::string pool_head(const std::string& pool) {
  PoolName name;
  name.pool = pool;
  return encode(name);
}

}  // namespace

Result<Client> Client::connect(ClientOptions options) {
  auto session = std::make_shared<client::Session>(std::move(options));
  if (auto connected = session->connection()->connect(); !connected) return connected.error();
  return Client{std::move(session)};
}

Result<Client> Client::over(Fd socket, ClientOptions options) {
  const auto deadline = client::deadline_after(options.connect_timeout);
  auto link = client::greet(std::move(socket), {}, options, {}, deadline);
  if (!link) return link.error();
  return Client{std::make_shared<client::Session>(std::move(options), std::move(*link))};
}

Pool Client::pool(std::string name) const { return Pool{session_, std::move(name)}; }

Result<Pool> Client::open_pool(const PoolOptions& options) const {
  PoolOpen open;
  open.name = options.name;
  open.runtime = options.runtime;
  open.workers = options.workers;
  open.modules = options.modules;
  open.environment = options.environment;
  open.cwd = options.cwd;
  open.initializer = options.initializer;
  if (!options.initializer_arguments.empty()) open.initializer_arguments = options.initializer_arguments.dump();
  open.max_tasks_per_worker = options.max_tasks_per_worker;
  open.max_worker_memory = options.max_worker_memory;
  open.timeout_ms = client::to_ms(options.timeout);
  open.priority = options.priority;
  open.max_queued = options.max_queued;
  open.max_task_memory = options.max_task_memory;
  open.max_task_processes = options.max_task_processes;
  open.max_task_files = options.max_task_files;
  open.cpu_timeout_ms = client::to_ms(options.cpu_timeout);
  open.nice = options.nice;
  if (options.stdio.size() > 3) return fail(Errc::bad_argument, "stdio: more than three descriptors");
  const auto connection = session_->connection();
  auto name =
      field<std::string>(read_reply(connection->ask(Op::pool_open, encode(open), false, options.stdio)), "pool");
  if (!name) return name.error();
  auto owned = std::make_shared<client::OwnedPool>(session_, *name, connection->epoch());
  return Pool{session_, std::move(*name), std::move(owned)};
}

Result<Body> Client::apply(const Call& call, const Item& item) const {
  return session_->connection()->apply(destination(call), item);
}

RawFuture Client::apply_async(const Call& call, const Item& item) const {
  auto connection = session_->connection();
  auto pending = connection->apply_async(destination(call), item);
  return {std::move(connection), std::move(pending)};
}

MapCall Client::start_map(const Call& call, std::shared_ptr<MapSink> sink) const {
  auto connection = session_->connection();
  auto job = std::make_shared<client::CollectJob>(destination(call), std::move(sink));
  connection->open_job(job);
  return {std::move(connection), std::move(job)};
}

MapStream Client::start_stream(const Call& call, const StreamOptions& options) const {
  auto connection = session_->connection();
  auto job = std::make_shared<client::StreamJob>(destination(call), options);
  connection->open_job(job);
  return {std::move(connection), std::move(job)};
}

PreparedCall Client::prepare(const Call& call) const {
  auto prepared = std::make_shared<client::Prepared>();
  prepared->head = encode(call);
  prepared->repeatable = !call.idempotency_key.empty();
  return {session_, std::move(prepared)};
}

Result<UpBuffer> Client::up_buffer(std::size_t bytes) const { return session_->connection()->up_buffer(bytes); }
Result<void> Client::flush() const { return session_->connection()->flush(); }

Result<std::string> Client::submit(Call call, const Item& item) const {
  call.detached = true;
  return field<std::string>(read_reply(session_->connection()->apply(destination(call), item)), "task");
}

Result<std::string> Client::submit_map(Call call, const std::function<Result<std::optional<Item>>()>& feed) const {
  call.detached = true;
  const auto connection = session_->connection();
  const auto job = std::make_shared<client::DetachedJob>(destination(call));
  connection->open_job(job);
  std::optional<Error> refused;
  while (!refused && !job->ended()) {
    const auto item = feed();
    if (!item) {
      refused = item.error();
    } else if (!*item) {
      break;
    } else if (auto added = job->add(*connection, **item); !added) {
      refused = added.error();
    }
  }
  job->finish(*connection);
  (void)connection->wait(*job, {});
  auto task = field<std::string>(read_reply(job->take()), "task");
  if (!task || !refused) return task;
  // What there is of it is not what was wanted: it goes without a trace.
  (void)cancel(*task, CancelMode::kill);
  (void)wait(*task);
  for (auto dropped = fetch_all(*task); dropped.next();) continue;
  return *refused;
}

Result<nlohmann::json> Client::wait(const std::string& task, std::chrono::milliseconds timeout) const {
  Wait wait;
  wait.task = task;
  wait.timeout_ms = client::to_ms(timeout);
  return ask(*session_, Op::wait, encode(wait), true);
}

Result<Body> Client::fetch(const std::string& task, bool keep) const {
  Fetch fetch;
  fetch.task = task;
  fetch.keep = keep;
  return session_->connection()->ask(Op::fetch, encode(fetch), keep);
}

MapCall Client::fetch_into(const std::string& task, std::shared_ptr<MapSink> sink, bool keep) const {
  Fetch fetch;
  fetch.task = task;
  fetch.keep = keep;
  auto connection = session_->connection();
  auto job = std::make_shared<client::CollectJob>(client::Destination{}, std::move(sink));
  job->set_fetching(0);
  connection->open_fetch(job, encode(fetch));
  return {std::move(connection), std::move(job)};
}

MapStream Client::fetch_all(const std::string& task, bool keep, std::uint64_t index,
                            const StreamOptions& options) const {
  Fetch fetch;
  fetch.task = task;
  fetch.keep = keep;
  fetch.index = index;
  auto connection = session_->connection();
  auto job = std::make_shared<client::StreamJob>(client::Destination{}, options);
  job->set_fetching(index);
  connection->open_fetch(job, encode(fetch));
  return {std::move(connection), std::move(job)};
}

Result<std::uint64_t> Client::cancel(const std::string& task, CancelMode mode) const {
  auto cancel = client::cancel_with(mode);
  cancel.task = task;
  return field<std::uint64_t>(ask(*session_, Op::cancel, encode(cancel), true), "cancelled");
}

Result<TaskLog> Client::log(const std::string& task) const {
  LogRequest request;
  request.task = task;
  std::vector<Fd> fds;
  auto row = read_reply(session_->connection()->ask(Op::log, encode(request), true, {}, &fds));
  if (!row) return row.error();
  if (fds.size() != 2) return fail(Errc::bad_message, "log: the descriptors did not arrive");
  return TaskLog{std::move(*row), std::move(fds[0]), std::move(fds[1])};
}

Result<nlohmann::json> Client::ps(const PsOptions& options) const {
  Ps ps;
  ps.pool = options.pool;
  ps.state = options.state;
  ps.task = options.task;
  ps.all = options.all;
  ps.limit = options.limit;
  return ask(*session_, Op::ps, encode(ps), true);
}

Result<nlohmann::json> Client::workers(const std::string& pool) const {
  return ask(*session_, Op::workers, pool_head(pool), true);
}
Result<nlohmann::json> Client::pools() const { return ask(*session_, Op::pools, {}, true); }
Result<nlohmann::json> Client::stats() const { return ask(*session_, Op::stats, {}, true); }
Result<nlohmann::json> Client::whoami(bool all) const {
  Whoami whoami;
  whoami.all = all;
  return ask(*session_, Op::whoami, encode(whoami), true);
}
Result<nlohmann::json> Client::functions(const std::string& pool) const {
  return ask(*session_, Op::functions, pool_head(pool), true);
}

Result<nlohmann::json> Client::failures(std::uint32_t limit) const {
  Failures failures;
  failures.limit = limit;
  return ask(*session_, Op::failures, encode(failures), true);
}

Result<nlohmann::json> Client::pool_resize(const std::string& pool, std::uint32_t workers) const {
  PoolResize resize;
  resize.pool = pool;
  resize.workers = workers;
  return ask(*session_, Op::pool_resize, encode(resize), true);
}

Result<nlohmann::json> Client::pool_pause(const std::string& pool) const {
  return ask(*session_, Op::pool_pause, pool_head(pool), true);
}
Result<nlohmann::json> Client::pool_resume(const std::string& pool) const {
  return ask(*session_, Op::pool_resume, pool_head(pool), true);
}
Result<nlohmann::json> Client::reload() const { return ask(*session_, Op::reload, {}, false); }

Result<nlohmann::json> Client::drain(std::chrono::milliseconds timeout) const {
  Drain drain;
  drain.timeout_ms = client::to_ms(timeout);
  return ask(*session_, Op::drain, encode(drain), false);
}

Result<nlohmann::json> Client::shutdown(bool force) const {
  Shutdown shutdown;
  shutdown.force = force;
  return ask(*session_, Op::shutdown, encode(shutdown), false);
}

Result<nlohmann::json> Client::ping() const { return ask(*session_, Op::ping, {}, true); }
ServerInfo Client::server() const { return session_->connection()->server(); }

}  // namespace taskpool

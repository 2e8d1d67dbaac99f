#include "taskpool/pool.hpp"

#include "client/cpp/job.hpp"
#include "client/cpp/session.hpp"
#include "client/cpp/stream_job.hpp"
#include "proto/codec.hpp"

namespace taskpool {
namespace {

client::Destination destination(const std::shared_ptr<client::Prepared>& prepared) {
  return {prepared, {}, prepared->repeatable, prepared->pool_epoch};
}

Result<void> done_or_error(const Result<nlohmann::json>& reply) {
  if (!reply) return reply.error();
  return {};
}

}  // namespace

Result<Body> PreparedCall::apply(const Item& item) const {
  return session_->connection()->apply(destination(prepared_), item);
}

Result<Body> PreparedCall::apply(const UpBuffer& argument, Encoding encoding) const {
  return session_->connection()->apply(destination(prepared_), argument, encoding);
}

RawFuture PreparedCall::apply_async(const Item& item) const {
  auto connection = session_->connection();
  auto pending = connection->apply_async(destination(prepared_), item);
  return {std::move(connection), std::move(pending)};
}

RawFuture PreparedCall::apply_async(UpBuffer argument, Encoding encoding) const {
  auto connection = session_->connection();
  auto pending = connection->apply_async(destination(prepared_), std::move(argument), encoding);
  return {std::move(connection), std::move(pending)};
}

client::Destination Pool::destination_of(const std::string& function, const MapOptions* map,
                                         Encoding result_element) const {
  const auto epoch = owned_ ? owned_->epoch : 0;
  const bool plain_map = map == nullptr || (map->chunk == 0 && !map->stop_on_error && result_element == Encoding::none);
  if (plain_map && options_ == CallOptions{})
    return {session_->connection()->prepared(name_, function, epoch), {}, false, epoch};
  auto call = options_.call(function, name_);
  if (map != nullptr) {
    call.chunk = map->chunk;
    call.stop_on_error = map->stop_on_error;
    call.result_element = result_element;
  }
  return {nullptr, encode(call), !call.idempotency_key.empty(), epoch};
}

Result<Body> Pool::apply_item(const std::string& function, const Item& item) const {
  return session_->connection()->apply(destination_of(function), item);
}

RawFuture Pool::apply_item_async(const std::string& function, const Item& item) const {
  auto connection = session_->connection();
  auto pending = connection->apply_async(destination_of(function), item);
  return {std::move(connection), std::move(pending)};
}

RawFuture Pool::failed(const Error& error) const {
  auto reply = std::make_shared<client::Reply>();
  auto connection = session_->connection();
  connection->end_with(*reply, error);
  return {std::move(connection), std::move(reply)};
}

MapCall Pool::start_map(const std::string& function, std::shared_ptr<MapSink> sink, const MapOptions& options,
                        Encoding result_element) const {
  auto connection = session_->connection();
  auto job = std::make_shared<client::CollectJob>(destination_of(function, &options, result_element), std::move(sink));
  connection->open_job(job);
  return {std::move(connection), std::move(job)};
}

MapStream Pool::start_stream(const std::string& function, const StreamOptions& stream,
                             const MapOptions& options) const {
  auto connection = session_->connection();
  auto job = std::make_shared<client::StreamJob>(destination_of(function, &options), stream);
  connection->open_job(job);
  return {std::move(connection), std::move(job)};
}

PreparedCall Pool::prepare(const std::string& function) const {
  auto prepared = std::make_shared<client::Prepared>();
  prepared->head = encode(options_.call(function, name_));
  prepared->repeatable = !options_.idempotency_key.empty();
  prepared->pool_epoch = owned_ ? owned_->epoch : 0;
  return {session_, std::move(prepared)};
}

Result<std::string> Pool::submit_item(const std::string& function, const Item& item) const {
  return client().submit(options_.call(function, name_), item);
}

Result<std::string> Pool::submit_items(const std::string& function, const MapOptions& options,
                                       const std::function<Result<std::optional<Item>>()>& feed) const {
  auto call = options_.call(function, name_);
  call.chunk = options.chunk;
  call.stop_on_error = options.stop_on_error;
  return client().submit_map(std::move(call), feed);
}

Client Pool::client() const { return Client{session_}; }

Result<void> Pool::resize(std::uint32_t workers) const { return done_or_error(client().pool_resize(name_, workers)); }
Result<void> Pool::pause() const { return done_or_error(client().pool_pause(name_)); }
Result<void> Pool::resume() const { return done_or_error(client().pool_resume(name_)); }
Result<nlohmann::json> Pool::functions() const { return client().functions(name_); }

Result<void> Pool::close(bool terminate) const {
  PoolName pool;
  pool.pool = name_;
  pool.terminate = terminate;
  const auto connection = session_->connection();
  if (!owned_ || owned_->epoch != connection->epoch())
    return fail(Errc::pool_closed, name_ + ": not a pool of this session");
  const auto closed = connection->ask(Op::pool_close, encode(pool), false);
  if (!closed) return closed.error();
  owned_->closed = true;
  return {};
}

}  // namespace taskpool

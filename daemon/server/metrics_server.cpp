#include "daemon/server/metrics_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <nlohmann/json.hpp>

#include "daemon/log.hpp"
#include "daemon/server/metrics_page.hpp"
#include "daemon/wire/spawn.hpp"
#include "proto/fields.hpp"
#include "proto/version.hpp"

namespace taskpool::server {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

using namespace std::chrono_literals;

/// Connections at a time. One more takes the place of the oldest, so that a scrape gets through beside peers that only
/// sit there.
constexpr std::size_t kMostConnections = 16;
/// Connections a second, on average; so many at once. Others wait in the kernel's queue, where they cost nothing.
constexpr double kConnectionsPerSecond = 50;
constexpr double kConnectionBurst = 20;
/// From the connection to the last byte of its answer.
constexpr auto kPatience = 5s;
/// How long a peer may take to stop sending what was refused: closed at once, it might lose the answer.
constexpr auto kLinger = 500ms;
constexpr std::size_t kMostLingerBytes = 64 * 1024;
/// The request line and all fields. Bytes.
constexpr std::uint32_t kMostHeaderBytes = 8 * 1024;
/// The page is written this much at a time; then others have their turn. Bytes, some 0.1 ms of work.
constexpr std::size_t kPageSliceBytes = 128 * 1024;
constexpr int kPortBacklog = 64;

Result<os::UniqueFd> listen_on_loopback(const LocalAddress& address, std::string& chosen) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (address.host == "::1") {
    auto& six = reinterpret_cast<sockaddr_in6&>(storage);
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(address.port);
    six.sin6_addr = in6addr_loopback;
    size = sizeof six;
  } else {
    auto& four = reinterpret_cast<sockaddr_in&>(storage);
    four.sin_family = AF_INET;
    four.sin_port = htons(address.port);
    ::inet_pton(AF_INET, address.host.c_str(), &four.sin_addr);
    size = sizeof four;
  }
  os::UniqueFd socket{::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket && errno == EAFNOSUPPORT)
    return errno_error("no network is here (RestrictAddressFamilies of the unit?), only a path will do");
  if (!socket) return errno_error("socket");
  const int yes = 1;  // a port of the last daemon's may still have connections that fade away
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 ||
      ::listen(socket.get(), kPortBacklog) != 0)
    return errno_error(fmt::format("{}:{}", address.host, address.port));
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return errno_error("getsockname");
  const auto port = ntohs(storage.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(storage).sin6_port
                                                        : reinterpret_cast<const sockaddr_in&>(storage).sin_port);
  chosen = storage.ss_family == AF_INET6 ? fmt::format("[{}]:{}", address.host, port)
                                         : fmt::format("{}:{}", address.host, port);
  return socket;
}

}  // namespace

struct MetricsServer::Answer {
  http::status status = http::status::ok;
  std::string_view type = "text/plain; charset=utf-8";
  std::string body{};

  static Answer plain(http::status status, std::string text) { return {.status = status, .body = std::move(text)}; }
  /// To a request that cannot be read; nothing if there is nobody to answer.
  static std::optional<Answer> to(const boost::system::error_code& error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow)
      return plain(http::status::request_header_fields_too_large, "the request is too long\n");
    const bool is_http = error.category() == http::make_error_code(http::error::bad_method).category();
    if (!is_http || error == http::error::end_of_stream || error == http::error::partial_message) return std::nullopt;
    return plain(http::status::bad_request, "this is no HTTP request\n");
  }
};

struct MetricsServer::Connection : std::enable_shared_from_this<MetricsServer::Connection> {
  explicit Connection(asio::io_context& io) : socket{io}, deadline{io} {}
  asio::generic::stream_protocol::socket socket;
  asio::steady_timer deadline;
  boost::beast::flat_buffer buffer{kMostHeaderBytes};

  /// Closes it after this time, whatever it does then.
  void expire_after(std::chrono::milliseconds time) {
    deadline.expires_after(time);
    deadline.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
      if (const auto late = weak.lock(); late && !error) late->close();
    });
  }
  void close() {
    boost::system::error_code ignored;
    socket.close(ignored);
    deadline.cancel();
  }
};

struct MetricsServer::Impl {
  explicit Impl(asio::io_context& io) : listening{io}, pause{io} {}
  asio::posix::stream_descriptor listening;
  asio::steady_timer pause;
  std::list<std::shared_ptr<Connection>> connections;  ///< Oldest first.
  bool stopped = false;
};

MetricsServer::MetricsServer(Core& core) : core_{core}, impl_{std::make_unique<Impl>(core.turn.io())} {}
MetricsServer::~MetricsServer() = default;

Result<void> MetricsServer::listen() {
  const auto& wanted = core_.config.metrics_listen;
  const auto address = parse_local_address(wanted);
  if (!address) return fail(Errc::bad_argument, "metrics_listen: '" + wanted + "' is no address of this host's own");
  if (!address->path.empty()) {
    auto path = SocketPath::listen("metrics_listen", address->path, core_.config.metrics_socket_mode, "");
    if (!path) return path.error();
    path_.emplace(std::move(*path));
    address_ = address->path;
    impl_->listening.assign(::fcntl(path_->fd(), F_DUPFD_CLOEXEC, 0));
    return boost::system::in_place_value;
  }
  auto socket = listen_on_loopback(*address, address_);
  if (!socket) return Error{socket.error().code, "metrics_listen: " + socket.error().detail};
  impl_->listening.assign(socket->release());
  return boost::system::in_place_value;
}

void MetricsServer::serve() {
  wire::spawn(core_.turn.io(), accept(), [](const std::string& error) {
    if (!error.empty()) log::error("bug", {{"what", "metrics"}, {"error", error}});
  });
}

void MetricsServer::stop() {
  impl_->stopped = true;
  boost::system::error_code ignored;
  impl_->listening.close(ignored);
  impl_->pause.cancel();
  for (const auto& connection : impl_->connections) connection->close();
  if (path_) path_->close();
}

asio::awaitable<void> MetricsServer::accept() {
  auto tokens = kConnectionBurst;
  auto counted = std::chrono::steady_clock::now();
  while (!impl_->stopped) {
    const auto [error] = co_await impl_->listening.async_wait(asio::posix::descriptor_base::wait_read, wire::kTuple);
    if (error) co_return;
    const auto now = std::chrono::steady_clock::now();
    tokens = std::min(kConnectionBurst,
                      tokens + kConnectionsPerSecond * std::chrono::duration<double>(now - counted).count());
    counted = now;
    os::UniqueFd socket;
    if (tokens >= 1)
      socket.reset(::accept4(impl_->listening.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {  // too many, or no descriptor is free, or the peer has gone: the next one may wait a little
      impl_->pause.expires_after(std::chrono::milliseconds{static_cast<int>(1000 / kConnectionsPerSecond)});
      co_await impl_->pause.async_wait(wire::kTuple);
      continue;
    }
    tokens -= 1;
    auto& connections = impl_->connections;
    if (connections.size() >= kMostConnections) {
      connections.front()->close();  // its coroutine ends then
      connections.pop_front();
    }
    auto connection = std::make_shared<Connection>(core_.turn.io());
    boost::system::error_code failed;
    const int family = path_ ? AF_UNIX : address_.front() == '[' ? AF_INET6 : AF_INET;
    connection->socket.assign(asio::generic::stream_protocol{family, 0}, socket.get(), failed);
    if (failed) continue;
    (void)socket.release();
    connections.push_back(connection);
    auto conversation = talk(connection);
    wire::spawn(core_.turn.io(), std::move(conversation), [this, connection](const std::string& wrong) {
      if (!wrong.empty()) log::error("bug", {{"what", "metrics connection"}, {"error", wrong}});
      connection->close();
      impl_->connections.remove(connection);
    });
  }
}

asio::awaitable<void> MetricsServer::talk(std::shared_ptr<Connection> connection) {
  connection->expire_after(kPatience);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(boost::none);  // a body is never read
  const auto [error, bytes] =
      co_await http::async_read_header(connection->socket, connection->buffer, parser, wire::kTuple);
  if (error) {
    auto refusal = Answer::to(error);
    if (refusal) co_await send(*connection, http::verb::get, std::move(*refusal));
    co_return;
  }
  const auto& request = parser.get();
  auto answer = co_await answer_to(request.method(), std::string{request.target().data(), request.target().size()});
  co_await send(*connection, request.method(), std::move(answer));
}

asio::awaitable<MetricsServer::Answer> MetricsServer::answer_to(http::verb method, std::string target) {
  if (method != http::verb::get && method != http::verb::head)
    co_return Answer::plain(http::status::method_not_allowed, "only GET and HEAD\n");
  const auto path = target.substr(0, target.find('?'));
  Answer answer;
  if (path == "/metrics") {
    answer.body = co_await metrics_page();
    answer.type = kMetricsPageType;
  } else if (path == "/healthz") {
    auto [body, is_well] = health();
    answer.status = is_well ? http::status::ok : http::status::service_unavailable;
    answer.type = "application/json";
    answer.body = std::move(body);
  } else {
    answer = Answer::plain(http::status::not_found, "there are /metrics and /healthz\n");
  }
  co_return answer;
}

asio::awaitable<void> MetricsServer::send(Connection& connection, http::verb method, Answer answer) {
  http::response<http::string_body> response{answer.status, 11};
  response.set(http::field::server, "taskpoold");
  response.set(http::field::content_type, boost::beast::string_view{answer.type.data(), answer.type.size()});
  response.set(http::field::cache_control, "no-store");
  if (answer.status == http::status::method_not_allowed) response.set(http::field::allow, "GET, HEAD");
  response.content_length(answer.body.size());
  response.keep_alive(false);
  if (method != http::verb::head) response.body() = std::move(answer.body);
  const auto [unsent, sent] = co_await http::async_write(connection.socket, response, wire::kTuple);
  if (unsent && unsent != http::error::end_of_stream) co_return;

  boost::system::error_code ignored;
  connection.socket.shutdown(asio::socket_base::shutdown_send, ignored);
  connection.expire_after(kLinger);
  std::array<char, 4096> dropped;
  for (std::size_t total = 0; total < kMostLingerBytes;) {
    const auto [ended, more] = co_await connection.socket.async_read_some(asio::buffer(dropped), wire::kTuple);
    if (ended) break;
    total += more;
  }
}

asio::awaitable<std::string> MetricsServer::metrics_page() {
  // What is ready now goes first: that is how long everybody waits for the loop.
  const auto asked = std::chrono::steady_clock::now();
  co_await asio::post(core_.turn.io(), asio::use_awaitable);
  const auto snapshot = take_snapshot(core_, std::chrono::steady_clock::now() - asked);
  std::string page;
  page.reserve(kPageSliceBytes);
  std::size_t slice_end = kPageSliceBytes;
  for (std::size_t part = 0; part < metrics_page_parts(); ++part) {
    append_metrics_part(page, snapshot, part);
    if (page.size() < slice_end) continue;
    slice_end = page.size() + kPageSliceBytes;
    co_await asio::post(core_.turn.io(), asio::use_awaitable);
  }
  co_return page;
}

std::pair<std::string, bool> MetricsServer::health() const {
  Json pools = Json::object();
  bool can_run = true;
  for (const auto& pool : core_.pools.all()) {
    if (pool->owner_session() != 0 || pool->is_closing()) continue;
    can_run = can_run && pool->is_up();
    pools[pool->name()] = !pool->is_up() ? "start_failed" : pool->is_paused() ? "paused" : "ok";
  }
  const bool is_well = started_ && can_run && !core_.admin.is_draining();
  const auto* const status = core_.admin.is_draining() ? "draining"
                             : !started_               ? "starting"
                             : can_run                 ? "ok"
                                                       : "start_failed";
  const Json body{{"status", status}, {"version", kVersion}, {"pid", ::getpid()}, {"pools", std::move(pools)}};
  return {dump_json(body) + "\n", is_well};
}

}  // namespace taskpool::server

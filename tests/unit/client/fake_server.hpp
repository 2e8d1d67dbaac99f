#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "client/cpp/socket.hpp"
#include "proto/frame.hpp"
#include "proto/items.hpp"
#include "proto/message.hpp"
#include "taskpool/client.hpp"

namespace taskpool::test {

/// A frame of its own.
struct Frame {
  Prefix prefix;
  std::string head;
  Bytes body;

  nlohmann::json fields() const { return head.empty() ? nlohmann::json::object() : nlohmann::json::parse(head); }
  std::string text() const { return std::string{as_text(body)}; }
  /// The items of a packed body.
  std::vector<std::string> items() const;
};

/// The supervisor's end of one session. Throws where a test has gone wrong: what it waits for must come within seconds.
class Peer {
 public:
  explicit Peer(Fd fd) : socket_{std::move(fd)} {}

  /// Reads `hello` and answers `welcome`.
  Frame greet(const nlohmann::json& limits = nlohmann::json::object(), bool resumed = false);
  /// The next frame; `prepare` frames are answered and remembered on the way.
  Frame next();
  /// The same if it is there already.
  std::optional<Frame> try_next();
  /// The next frame, of that op.
  Frame next(Op op);
  /// True if the client closes, or has closed. What it sends meanwhile may be read with next().
  bool closes(std::chrono::milliseconds within = std::chrono::seconds{20});

  void send(const Prefix& prefix, std::string_view head = {}, std::span<const std::byte> body = {},
            std::span<const int> fds = {});
  void send_bytes(std::span<const std::byte> bytes);
  void result(const Frame& to, std::string_view text, Encoding encoding = Encoding::json);
  void error(const Frame& to, std::string_view code, std::string_view detail);
  void ok(const Frame& to, std::string_view json = "{}", std::span<const int> fds = {});
  /// Results of consecutive items, JSON.
  void results(std::uint64_t request, std::uint32_t first, const std::vector<std::string>& items);
  void failed(std::uint64_t request, std::uint32_t first, std::uint32_t count, std::string_view code,
              std::string_view detail);
  void done(std::uint64_t request, std::uint64_t total, std::uint64_t failed = 0);
  void close() { socket_.shut_down(); }
  int fd() const { return socket_.fd(); }
  /// Descriptors that came so far.
  std::size_t fds() const { return fds_.size(); }

  /// What the numbers of prepared calls stand for: their heads.
  std::map<std::uint32_t, std::string> prepared;

 private:
  std::optional<Frame> next(const client::Deadline& deadline);

  client::Socket socket_;
  FrameDecoder decoder_;
  std::deque<Fd> fds_;
};

/// Listens on a socket in a directory of its own.
class FakeServer {
 public:
  FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;
  ~FakeServer();

  const std::string& path() const { return path_; }
  ClientOptions options() const;
  /// The next connection, greeted.
  Peer accept(const nlohmann::json& limits = nlohmann::json::object());
  Peer accept_raw();
  /// Nobody listens from now on, until listen().
  void stop();
  void listen();
  /// Connects a client while this side greets it.
  Client connect(
      std::optional<Peer>& peer, const nlohmann::json& limits = nlohmann::json::object(),
      const std::function<void(ClientOptions&)>& adjust = [](auto&) {});

 private:
  std::string directory_;
  std::string path_;
  Fd listener_;
};

/// A client and the peer that it is connected to.
struct Connected {
  FakeServer server;
  std::optional<Peer> peer;
  Client client;

  explicit Connected(
      const nlohmann::json& limits = nlohmann::json::object(),
      const std::function<void(ClientOptions&)>& adjust = [](auto&) {})
      : client{server.connect(peer, limits, adjust)} {}
};

/// A check for threads other than the test's own, where Boost.Test's may not be used.
void expect(bool holds, std::source_location where = std::source_location::current());

/// Runs `work` in a thread that is joined at the end of the scope. What it expected in vain, and what it threw, fails
/// the test there.
class Background {
 public:
  explicit Background(std::function<void()> work);
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  ~Background();

 private:
  std::thread thread_;
};

/// A sealed memfd, as an arena segment is one.
Fd make_segment(std::size_t bytes, bool sealed = true);
/// Maps it, for good.
std::span<std::byte> map_segment(const Fd& segment, std::size_t bytes);

/// A body of packed items.
Bytes pack(const std::vector<std::string>& items);

}  // namespace taskpool::test

#include "fake_server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <stdexcept>

namespace taskpool::test {
namespace {

constexpr std::chrono::seconds kPatience{20};

/// What went wrong in threads of the running test.
std::mutex mutex;
std::vector<std::string> failures;

void record(std::string failure) {
  const std::lock_guard lock{mutex};
  failures.push_back(std::move(failure));
}

void check(bool good, const std::string& what) {
  if (!good) throw std::runtime_error{"fake server: " + what};
}

}  // namespace

void expect(bool holds, std::source_location where) {
  if (!holds) record(std::string{where.file_name()} + ":" + std::to_string(where.line()) + ": does not hold");
}

Background::Background(std::function<void()> work)
    : thread_{[run = std::move(work)] {
        try {
          run();
        } catch (const std::exception& error) {
          record(error.what());
        }
      }} {}

Background::~Background() {
  thread_.join();
  const std::lock_guard lock{mutex};
  for (const auto& failure : std::exchange(failures, {})) BOOST_ERROR(failure);
}

std::vector<std::string> Frame::items() const {
  check(check_items(prefix.flags, prefix.encoding, prefix.count, body).has_value(), "a malformed body");
  std::vector<std::string> texts;
  for (PackedItems items{prefix.count, body}; !items.done();) texts.emplace_back(as_text(items.next()));
  return texts;
}

Frame Peer::greet(const nlohmann::json& limits, bool resumed) {
  auto hello = next(Op::hello);
  Prefix prefix;
  prefix.op = Op::welcome;
  const nlohmann::json welcome{{"version", 1},
                               {"build", "fake"},
                               {"daemon_version", "0"},
                               {"pid", 1},
                               {"uid", 0},
                               {"session", 1},
                               {"token", "t"},
                               {"capabilities", {"store"}},
                               {"resumed", resumed},
                               {"limits", limits.is_null() ? nlohmann::json::object() : limits}};
  send(prefix, welcome.dump());
  return hello;
}

Frame Peer::next() {
  auto frame = next(client::Clock::now() + kPatience);
  check(frame.has_value(), "nothing came");
  return std::move(*frame);
}

std::optional<Frame> Peer::try_next() { return next(client::Clock::now()); }

std::optional<Frame> Peer::next(const client::Deadline& deadline) {
  for (;;) {
    const auto view = decoder_.next();
    check(view.has_value(), "a malformed frame");
    if (*view) {
      Frame frame{(*view)->prefix, std::string{(*view)->head}, Bytes((*view)->body.begin(), (*view)->body.end())};
      if (frame.prefix.op != Op::prepare) return frame;
      prepared[frame.prefix.target] = frame.head;
      ok(frame);
      continue;
    }
    const auto event = socket_.receive(decoder_, fds_, {.deadline = deadline});
    check(event.has_value(), "the client went away");
    if (*event == client::Socket::Event::timed_out) return std::nullopt;
  }
}

Frame Peer::next(Op op) {
  auto frame = next();
  check(frame.prefix.op == op, "got " + std::string{name(frame.prefix.op)} + ", want " + std::string{name(op)});
  return frame;
}

bool Peer::closes(std::chrono::milliseconds within) {
  const client::Deadline deadline = client::Clock::now() + within;
  for (;;) {
    const auto event = socket_.receive(decoder_, fds_, {.deadline = deadline});
    if (!event) return true;
    if (*event == client::Socket::Event::timed_out) return false;
  }
}

void Peer::send_bytes(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto sent = socket_.send(bytes);
    check(sent.has_value(), "cannot send");
    bytes = bytes.subspan(*sent);
    if (*sent == 0) socket_.wait_writable(client::Clock::now() + kPatience);
  }
}

void Peer::send(const Prefix& given, std::string_view head, std::span<const std::byte> body, std::span<const int> fds) {
  auto prefix = given;
  prefix.fds = static_cast<std::uint8_t>(fds.size());
  ByteBuffer out;
  append_frame(out, prefix, head, body);
  if (!fds.empty()) {
    const auto sent = socket_.send(out.data(), fds);
    check(sent && *sent > 0, "cannot send descriptors");
    out.consume(*sent);
  }
  send_bytes(out.data());
}

void Peer::result(const Frame& to, std::string_view text, Encoding encoding) {
  Prefix prefix;
  prefix.op = Op::result;
  prefix.request = to.prefix.request;
  prefix.encoding = encoding;
  prefix.count = 1;
  send(prefix, {}, as_bytes(text));
}

void Peer::error(const Frame& to, std::string_view code, std::string_view detail) {
  Prefix prefix;
  prefix.op = Op::error;
  prefix.request = to.prefix.request;
  send(prefix, nlohmann::json{{"code", code}, {"detail", detail}}.dump());
}

void Peer::ok(const Frame& to, std::string_view json, std::span<const int> fds) {
  Prefix prefix;
  prefix.op = Op::ok;
  prefix.request = to.prefix.request;
  prefix.encoding = Encoding::json;
  prefix.count = 1;
  send(prefix, {}, as_bytes(json), fds);
}

void Peer::results(std::uint64_t request, std::uint32_t first, const std::vector<std::string>& items) {
  Prefix prefix;
  prefix.op = Op::results;
  prefix.request = request;
  prefix.target = first;
  prefix.count = static_cast<std::uint32_t>(items.size());
  prefix.encoding = Encoding::json;
  send(prefix, {}, pack(items));
}

void Peer::failed(std::uint64_t request, std::uint32_t first, std::uint32_t count, std::string_view code,
                  std::string_view detail) {
  Prefix prefix;
  prefix.op = Op::failed;
  prefix.request = request;
  prefix.target = first;
  prefix.count = count;
  send(prefix, nlohmann::json{{"code", code}, {"detail", detail}}.dump());
}

void Peer::done(std::uint64_t request, std::uint64_t total, std::uint64_t failed) {
  Prefix prefix;
  prefix.op = Op::done;
  prefix.request = request;
  send(prefix,
       nlohmann::json{{"total", total}, {"succeeded", total - failed}, {"failed", failed}, {"cancelled", 0}}.dump());
}

FakeServer::FakeServer() {
  std::string name = std::filesystem::temp_directory_path() / "taskpool-client-XXXXXX";
  check(::mkdtemp(name.data()) != nullptr, "mkdtemp");
  directory_ = name;
  path_ = directory_ + "/socket";
  listen();
}

FakeServer::~FakeServer() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void FakeServer::listen() {
  listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  check(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "bind");
  check(::listen(listener_.get(), 16) == 0, "listen");
}

void FakeServer::stop() {
  listener_.reset();
  ::unlink(path_.c_str());
}

ClientOptions FakeServer::options() const {
  ClientOptions options;
  options.socket = path_;
  options.autostart = false;
  return options;
}

Peer FakeServer::accept_raw() {
  pollfd ready{listener_.get(), POLLIN, 0};
  check(::poll(&ready, 1, static_cast<int>(std::chrono::milliseconds{kPatience}.count())) == 1, "nobody connects");
  Fd fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  check(static_cast<bool>(fd), "accept");
  return Peer{std::move(fd)};
}

Peer FakeServer::accept(const nlohmann::json& limits) {
  auto peer = accept_raw();
  peer.greet(limits);
  return peer;
}

Client FakeServer::connect(std::optional<Peer>& peer, const nlohmann::json& limits,
                           const std::function<void(ClientOptions&)>& adjust) {
  auto with = options();
  adjust(with);
  Result<Client> client = fail(Errc::internal, "");
  {
    const Background connecting{[&] { client = Client::connect(with); }};
    peer.emplace(accept(limits));
  }
  return client.value();
}

Fd make_segment(std::size_t bytes, bool sealed) {
  Fd memory{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  check(::ftruncate(memory.get(), static_cast<off_t>(bytes)) == 0, "ftruncate");
  if (sealed) check(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0, "seal");
  return memory;
}

std::span<std::byte> map_segment(const Fd& segment, std::size_t bytes) {
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment.get(), 0);
  check(at != MAP_FAILED, "mmap");
  return {static_cast<std::byte*>(at), bytes};
}

Bytes pack(const std::vector<std::string>& items) {
  Packer packer;
  for (const auto& item : items) packer.add(as_bytes(item));
  Bytes body(packer.table().begin(), packer.table().end());
  body.insert(body.end(), packer.payload().begin(), packer.payload().end());
  return body;
}

}  // namespace taskpool::test

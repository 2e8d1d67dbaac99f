/// Every golden file decodes to its struct and encodes back to itself; every op has one.

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "proto/codec.hpp"
#include "proto/fields.hpp"
#include "proto/items.hpp"
#include "proto/store_body.hpp"

namespace taskpool {
namespace {

using Bytes = std::vector<std::byte>;

/// One golden file, as far as it can be read without the code under test.
struct Golden {
  Prefix prefix;  ///< Without lengths.
  std::string op;
  Json head;
  std::optional<Json> body_json;
  Bytes body;
  Bytes frame;
};

Bytes from_hex(const std::string& text) {
  Bytes bytes;
  for (std::size_t at = 0; at + 1 < text.size(); at += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(at, 2), nullptr, 16)));
  return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const auto byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte >> 4)];
    text += kDigits[std::to_integer<unsigned>(byte & std::byte{15})];
  }
  return text;
}

std::optional<Op> find_op(std::string_view wanted) {
  for (int number = 1; number < 256; ++number)
    if (name(static_cast<Op>(number)) == wanted) return static_cast<Op>(number);
  return std::nullopt;
}

Golden load_golden(const std::filesystem::path& path) {
  std::ifstream file{path};
  const auto json = Json::parse(file);
  Golden golden;
  golden.op = json.at("op").get<std::string>();
  golden.prefix = {.op = find_op(golden.op).value(),
                   .flags = json.at("flags").get<std::uint8_t>(),
                   .encoding = find_encoding(json.at("encoding").get<std::string>()).value(),
                   .fds = json.at("fds").get<std::uint8_t>(),
                   .target = json.at("target").get<std::uint32_t>(),
                   .count = json.at("count").get<std::uint32_t>(),
                   .request = json.at("request").get<std::uint64_t>()};
  golden.head = json.at("head");
  if (json.contains("body_json")) golden.body_json = json.at("body_json");
  golden.body = from_hex(json.at("body").get<std::string>());
  golden.frame = from_hex(json.at("frame").get<std::string>());
  return golden;
}

template <class T>
Result<std::string> decode_and_encode(std::string_view head) {
  const auto message = decode<T>(head);
  if (!message) return message.error();
  return encode(*message);
}

Result<std::string> decode_nothing(std::string_view head) {
  if (!head.empty()) return fail(Errc::bad_message, "head: want none");
  return std::string{};
}

/// Decodes the head of an op to its struct and encodes that again.
Result<std::string> round_trip(Op op, std::string_view head) {
  switch (op) {
    case Op::hello: return decode_and_encode<Hello>(head);
    case Op::welcome: return decode_and_encode<Welcome>(head);
    case Op::error:
    case Op::failed:
    case Op::run_failed: return decode_and_encode<ErrorHead>(head);
    case Op::room: return head.empty() ? decode_nothing(head) : decode_and_encode<ErrorHead>(head);
    case Op::prepare:
    case Op::apply:
    case Op::map:
    case Op::run: return decode_and_encode<Call>(head);
    case Op::result:
    case Op::results:
    case Op::run_results: return head.empty() ? decode_nothing(head) : decode_and_encode<ResultRefs>(head);
    case Op::release_refs: return decode_and_encode<ReleaseRefs>(head);
    case Op::done: return decode_and_encode<Done>(head);
    case Op::progress: return decode_and_encode<Progress>(head);
    case Op::cancel: return decode_and_encode<Cancel>(head);
    case Op::wait: return decode_and_encode<Wait>(head);
    case Op::fetch: return decode_and_encode<Fetch>(head);
    case Op::ps: return decode_and_encode<Ps>(head);
    case Op::failures: return decode_and_encode<Failures>(head);
    case Op::pool_open: return decode_and_encode<PoolOpen>(head);
    case Op::pool_close:
    case Op::pool_pause:
    case Op::pool_resume:
    case Op::functions:
    case Op::workers: return decode_and_encode<PoolName>(head);
    case Op::pool_resize: return decode_and_encode<PoolResize>(head);
    case Op::drain: return decode_and_encode<Drain>(head);
    case Op::whoami: return decode_and_encode<Whoami>(head);
    case Op::shutdown: return decode_and_encode<Shutdown>(head);
    case Op::arena_open: return decode_and_encode<ArenaOpen>(head);
    case Op::arena_segment: return decode_and_encode<ArenaSegment>(head);
    case Op::log: return decode_and_encode<LogRequest>(head);
    case Op::define: return decode_and_encode<Define>(head);
    case Op::attach: return decode_and_encode<Attach>(head);
    case Op::detach: return decode_and_encode<Detach>(head);
    case Op::report: return decode_and_encode<Report>(head);
    case Op::worker_ready: return decode_and_encode<WorkerReady>(head);
    case Op::worker_failed: return decode_and_encode<WorkerFailed>(head);
    case Op::start: return decode_and_encode<Start>(head);
    case Op::ready: return decode_and_encode<Ready>(head);
    case Op::start_failed: return decode_and_encode<StartFailed>(head);
    case Op::fork: return decode_and_encode<Fork>(head);
    case Op::forked: return decode_and_encode<Forked>(head);
    case Op::fork_failed: return decode_and_encode<ForkFailed>(head);
    case Op::exited: return decode_and_encode<Exited>(head);
    case Op::object_open: return decode_and_encode<ObjectOpen>(head);
    case Op::objects: return decode_and_encode<ObjectsRequest>(head);
    case Op::locks: return decode_and_encode<LocksRequest>(head);
    case Op::buffer_open: return decode_and_encode<BufferOpen>(head);
    case Op::object_close:
    case Op::object_delete:
    case Op::store:
    case Op::store_reply:
    case Op::watch:
    case Op::changed:
    case Op::ok:
    case Op::forget:
    case Op::input:
    case Op::pools:
    case Op::stats:
    case Op::reload:
    case Op::ping:
    case Op::arena_release:
    case Op::nested_wait:
    case Op::want_room: return decode_nothing(head);
  }
  return fail(Errc::bad_message, "op without a head's struct");
}

/// The body of a `run` frame behind its header.
Result<void> check_run(const Prefix& prefix, std::span<const std::byte> body) {
  if (body.size() < sizeof(RunHeader)) return fail(Errc::bad_message, "body: no run header");
  const auto header = load<RunHeader>(body.data());
  if (header.reserved != 0) return fail(Errc::bad_message, "body: reserved word");
  return check_items(prefix.flags, prefix.encoding, prefix.count, body.subspan(sizeof(RunHeader)));
}

Result<void> check_operations(const Prefix& prefix, std::span<const std::byte> body) {
  store::OperationReader operations{body, prefix.count};
  store::Operation operation;
  while (!operations.done())
    if (const auto read = operations.next(operation); !read) return read.error();
  return {};
}

Result<void> check_results(const Prefix& prefix, std::span<const std::byte> body) {
  store::ResultReader results{body, prefix.count};
  while (!results.done()) {
    const auto values = results.next_result();
    if (!values) return values.error();
    for (std::uint32_t value = 0; value < *values; ++value)
      if (const auto read = results.next(); !read) return read.error();
  }
  return {};
}

/// PROTOCOL.md's rules for the body of each op.
Result<void> check_body(const Prefix& prefix, std::span<const std::byte> body) {
  switch (prefix.op) {
    case Op::apply:
    case Op::result:
    case Op::ok: return check_single(prefix.flags, prefix.encoding, prefix.count, body);
    case Op::map:
    case Op::input:
    case Op::results:
    case Op::run_results:
    case Op::arena_release: return check_items(prefix.flags, prefix.encoding, prefix.count, body);
    case Op::run: return check_run(prefix, body);
    case Op::room: return check_items(kInArena, Encoding::bytes, 1, body);
    case Op::object_open:
      return body.empty() ? Result<void>{} : check_single(prefix.flags, prefix.encoding, prefix.count, body);
    case Op::store: return check_operations(prefix, body);
    case Op::store_reply: return check_results(prefix, body);
    case Op::watch:
    case Op::changed: return {};
    case Op::want_room:
      if (body.size() != sizeof(std::uint64_t)) return fail(Errc::bad_message, "body: want a u64");
      return {};
    default:
      if (!body.empty()) return fail(Errc::bad_message, "body: want none");
      return {};
  }
}

template <class T>
std::string why_not(const Result<T>& result) {
  return result ? "" : result.error().detail;
}

void check(const Golden& golden) {
  FrameDecoder decoder;
  decoder.feed(golden.frame);
  const auto next = decoder.next();
  BOOST_REQUIRE_MESSAGE(next.has_value(), why_not(next));
  BOOST_REQUIRE(next->has_value());
  const FrameView& frame = **next;
  BOOST_TEST(decoder.at_border());
  BOOST_TEST(name(frame.prefix.op) == golden.op);

  const std::string head = golden.head.empty() ? "" : dump_json(golden.head);
  BOOST_TEST(frame.head == head);
  const auto again = round_trip(frame.prefix.op, frame.head);
  BOOST_REQUIRE_MESSAGE(again.has_value(), why_not(again));
  BOOST_TEST(*again == head);

  const auto body = check_body(frame.prefix, frame.body);
  BOOST_TEST(body.has_value(), why_not(body));
  if (golden.body_json) BOOST_TEST(as_text(golden.body) == dump_json(*golden.body_json));

  ByteBuffer out;
  append_frame(out, golden.prefix, *again, golden.body);
  BOOST_TEST(to_hex(out.data()) == to_hex(golden.frame));
}

std::vector<std::filesystem::path> golden_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator{TASKPOOL_GOLDEN_DIRECTORY})
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

BOOST_AUTO_TEST_SUITE(golden)

BOOST_AUTO_TEST_CASE(every_file_decodes_and_encodes_back_to_itself) {
  for (const auto& path : golden_files()) BOOST_TEST_CONTEXT(path.filename()) {
      check(load_golden(path));
    }
}

BOOST_AUTO_TEST_CASE(every_op_has_a_file_of_its_name) {
  for (int number = 0; number < 256; ++number) {
    const auto op = name(static_cast<Op>(number));
    if (op.empty()) continue;
    const auto path = std::filesystem::path{TASKPOOL_GOLDEN_DIRECTORY} / (std::string{op} + ".json");
    BOOST_REQUIRE_MESSAGE(std::filesystem::exists(path), "no golden file for " << op);
    BOOST_TEST(load_golden(path).op == op);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool

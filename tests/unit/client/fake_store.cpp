#include "fake_store.hpp"

#include <stdexcept>

#include "proto/store/words.hpp"

namespace taskpool::test {
namespace {

constexpr std::size_t kSegmentBytes = std::size_t{16} << 20;

void check(bool holds, const char* what) {
  if (!holds) throw std::runtime_error{what};
}

std::byte* version_word(std::span<std::byte> bytes, const store::ObjectInfo& object) {
  return bytes.data() + object.offset + offsetof(store::ObjectRecord, version);
}

}  // namespace

FakeSegment::FakeSegment() : memory_{make_segment(kSegmentBytes)}, bytes_{map_segment(memory_, kSegmentBytes)} {
  auto made =
      store::Writer::create(bytes_, [](std::size_t) -> Result<void> { return {}; }, {.domain = "uid:0", .seed = 1});
  check(made.has_value(), "segment");
  writer_.emplace(std::move(*made));
}

void FakeSegment::change(const std::function<Result<void>(store::Transaction&)>& what) {
  auto transaction = writer_->begin(1);
  check(what(transaction).has_value(), "operation");
  check(transaction.commit().has_value(), "commit");
}

store::ObjectInfo FakeSegment::make(store::ObjectType type) {
  store::ObjectInfo info;
  change([&](store::Transaction& transaction) -> Result<void> {
    const auto made = writer_->create_object(transaction, {.type = type});
    if (!made) return made.error();
    info = *made;
    return {};
  });
  return info;
}

void FakeSegment::put(const store::ObjectInfo& object, std::string_view key, std::string_view json) {
  change([&](store::Transaction& transaction) -> Result<void> {
    store::KeyBuffer buffer;
    check(buffer.set_text(key), "key");
    const store::EntryInput entry{.value = as_bytes(json), .encoding = static_cast<std::uint8_t>(Encoding::json)};
    const auto done = writer_->put(transaction, object.id, buffer, entry);
    if (!done) return done.error();
    return {};
  });
}

void FakeSegment::append(const store::ObjectInfo& object, std::string_view json) {
  change([&](store::Transaction& transaction) -> Result<void> {
    const auto now = writer_->info(transaction, object.id);
    if (!now) return now.error();
    const store::EntryInput entry{.value = as_bytes(json), .encoding = static_cast<std::uint8_t>(Encoding::json)};
    return writer_->insert(transaction, object.id, now->count, {&entry, 1});
  });
}

void FakeSegment::set_version(const store::ObjectInfo& object, std::uint64_t version) {
  store::store_word(version_word(bytes_, object), version, std::memory_order_release);
}

std::uint64_t FakeSegment::version(const store::ObjectInfo& object) const {
  return store::load_word(version_word(bytes_, object), std::memory_order_acquire);
}

Frame FakeSegment::open(Peer& peer, const store::ObjectInfo& object, bool with_segment) const {
  auto open = peer.next(Op::object_open);
  answer_open(peer, open, object, with_segment);
  return open;
}

void FakeSegment::answer_open(Peer& peer, const Frame& open, const store::ObjectInfo& object, bool with_segment) const {
  const auto id = static_cast<std::uint64_t>(object.id);
  const nlohmann::json said{{"object", "u0-" + std::to_string(id)},
                            {"id", id},
                            {"type", store::name(object.type)},
                            {"offset", object.offset},
                            {"segment", 1},
                            {"segment_bytes", kSegmentBytes},
                            {"created", true}};
  const int fd = memory_.get();
  peer.ok(open, said.dump(), with_segment ? std::span{&fd, 1} : std::span<const int>{});
}

std::int64_t StoreRequest::integer(std::size_t index) const {
  return load<std::int64_t>(as_bytes(values.at(index).bytes).data());
}

std::vector<StoreRequest> operations_of(const Frame& frame) {
  std::vector<StoreRequest> operations;
  store::OperationReader reader{frame.body, frame.prefix.count};
  store::Operation operation;
  while (!reader.done()) {
    if (const auto read = reader.next(operation); !read) throw std::runtime_error{read.error().detail};
    auto& made = operations.emplace_back();
    made.code = operation.info->code;
    made.target = operation.target;
    for (std::size_t i = 0; i < operation.count; ++i) {
      const auto& argument = operation.arguments[i];
      auto& value = made.values.emplace_back();
      value.encoding = static_cast<std::uint8_t>(argument.encoding | (argument.in_arena ? store::kArgumentInArena : 0));
      value.bytes = as_text(argument.bytes);
      for (std::size_t r = 0; r < argument.ref_count(); ++r) value.refs.push_back(argument.ref(r));
    }
  }
  return operations;
}

StoreRequest next_operation(Peer& peer, Frame* frame) {
  auto got = peer.next(Op::store);
  auto operations = operations_of(got);
  if (operations.size() != 1) throw std::runtime_error{"want one operation"};
  if (frame != nullptr) *frame = std::move(got);
  return std::move(operations.front());
}

void reply_to(Peer& peer, const Frame& frame, const std::vector<std::vector<std::string>>& results) {
  Bytes body;
  store::BodyWriter writer{body};
  for (const auto& result : results) {
    writer.begin_result();
    for (const auto& json : result) writer.value(Encoding::json, as_bytes(json));
  }
  Prefix prefix;
  prefix.op = Op::store_reply;
  prefix.request = frame.prefix.request;
  prefix.count = writer.count();
  peer.send(prefix, {}, body);
}

void reply_integers(Peer& peer, const Frame& frame, const std::vector<std::int64_t>& values) {
  Bytes body;
  store::BodyWriter writer{body};
  writer.begin_result();
  for (const auto value : values) writer.integer(value);
  Prefix prefix;
  prefix.op = Op::store_reply;
  prefix.request = frame.prefix.request;
  prefix.count = 1;
  peer.send(prefix, {}, body);
}

}  // namespace taskpool::test

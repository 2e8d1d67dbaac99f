#include "taskpool/objects.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include "client/cpp/opened.hpp"
#include "client/cpp/session.hpp"
#include "client/cpp/store_reply.hpp"
#include "proto/codec.hpp"

namespace taskpool {
namespace {

Create create_of(const ObjectOptions& options) {
  switch (options.create) {
    case ObjectOptions::Create::exclusive: return Create::exclusive;
    case ObjectOptions::Create::never: return Create::never;
    case ObjectOptions::Create::open: break;
  }
  return Create::open;
}

template <class T>
Result<T> plain(Result<Object> object) {
  if (!object) return object.error();
  return T{std::move(*object)};
}

Result<nlohmann::json> read_json(const Result<Body>& body) {
  if (!body) return body.error();
  auto json = nlohmann::json::parse(body->text(), nullptr, false);
  if (!json.is_object()) return fail(Errc::bad_message, "the daemon's reply is no JSON object");
  return json;
}

}  // namespace

Result<Object> Client::open_object(const std::string& name, const ObjectSpec& spec,
                                   const ObjectOptions& options) const {
  if (name.size() > kMaxNameBytes)
    return fail(Errc::bad_argument, "name: above " + std::to_string(kMaxNameBytes) + " bytes");
  ObjectOpen open;
  open.name = name;
  open.type = store::name(spec.type);
  open.group = options.group;
  open.create = create_of(options);
  open.typecode = spec.typecode;
  open.length = spec.length;
  open.maxsize = spec.maxsize;
  open.value = spec.value;
  open.parties = spec.parties;
  open.action = spec.has_action;
  auto lock = spec.lock != nullptr ? spec.lock->opened_ : nullptr;
  auto opened = std::make_shared<client::Opened>(session_, spec.type, std::move(open), spec.initial, std::move(lock));
  if (auto done = session_->connection()->open(opened); !done) return done.error();
  return Object{session_, std::move(opened)};
}

Result<Object> Client::open_ref(const ObjectRef& ref) const {
  ObjectOpen open;
  open.object = ref.id;
  open.create = Create::never;
  auto opened =
      std::make_shared<client::Opened>(session_, store::ObjectType::dict, std::move(open), StoredValue{}, nullptr);
  if (auto done = session_->connection()->open(opened); !done) return done.error();
  return Object{session_, std::move(opened)};
}

Result<Namespace> Client::name_space(const std::string& name, const ObjectOptions& options) const {
  return plain<Namespace>(open_object(name, {.type = store::ObjectType::name_space}, options));
}

Result<Lock> Client::lock(const std::string& name, const ObjectOptions& options) const {
  return plain<Lock>(open_object(name, {.type = store::ObjectType::lock}, options));
}

Result<RLock> Client::rlock(const std::string& name, const ObjectOptions& options) const {
  return plain<RLock>(open_object(name, {.type = store::ObjectType::rlock}, options));
}

Result<Semaphore> Client::semaphore(const std::string& name, std::uint64_t value, const ObjectOptions& options) const {
  return plain<Semaphore>(open_object(name, {.type = store::ObjectType::semaphore, .value = value}, options));
}

Result<Semaphore> Client::bounded_semaphore(const std::string& name, std::uint64_t value,
                                            const ObjectOptions& options) const {
  return plain<Semaphore>(open_object(name, {.type = store::ObjectType::bounded_semaphore, .value = value}, options));
}

Result<Event> Client::event(const std::string& name, const ObjectOptions& options) const {
  return plain<Event>(open_object(name, {.type = store::ObjectType::event}, options));
}

Result<Condition> Client::condition(const std::string& name, const Lockable* lock, const ObjectOptions& options) const {
  return plain<Condition>(open_object(name, {.type = store::ObjectType::condition, .lock = lock}, options));
}

Result<Barrier> Client::barrier(const std::string& name, std::uint64_t parties, bool has_action,
                                const ObjectOptions& options) const {
  return plain<Barrier>(
      open_object(name, {.type = store::ObjectType::barrier, .parties = parties, .has_action = has_action}, options));
}

Batch Client::batch() const { return Batch{session_}; }

Result<nlohmann::json> Client::objects(const ObjectsOptions& options) const {
  ObjectsRequest request;
  request.type = options.type;
  request.name = options.name;
  request.group = options.group;
  request.after = options.after;
  request.limit = options.limit;
  return read_json(session_->connection()->ask(Op::objects, encode(request), true));
}

Result<nlohmann::json> Client::locks(const std::string& name, const std::string& group, std::uint32_t limit) const {
  LocksRequest request;
  request.name = name;
  request.group = group;
  request.limit = limit;
  return read_json(session_->connection()->ask(Op::locks, encode(request), true));
}

namespace client {

/// A buffer, mapped; closes it at the end of its last handle.
class BufferMapping {
 public:
  BufferMapping(std::shared_ptr<Connection> connection, std::string name, std::uint32_t number, std::uint64_t epoch,
                std::span<std::byte> bytes, bool created)
      : name_{std::move(name)},
        bytes_{bytes},
        created_{created},
        connection_{std::move(connection)},
        number_{number},
        epoch_{epoch} {}
  BufferMapping(const BufferMapping&) = delete;
  BufferMapping& operator=(const BufferMapping&) = delete;
  ~BufferMapping() {
    ::munmap(bytes_.data(), bytes_.size());
    connection_->close_buffer(number_, epoch_);
  }

  const std::string& name() const { return name_; }
  std::span<std::byte> bytes() const { return bytes_; }
  bool created() const { return created_; }

 private:
  const std::string name_;
  const std::span<std::byte> bytes_;
  const bool created_;
  const std::shared_ptr<Connection> connection_;
  const std::uint32_t number_;
  const std::uint64_t epoch_;
};

}  // namespace client

const std::string& Buffer::name() const { return mapping_->name(); }
std::span<std::byte> Buffer::data() const { return mapping_ ? mapping_->bytes() : std::span<std::byte>{}; }
bool Buffer::created() const { return mapping_->created(); }

Result<Buffer> Client::buffer(const std::string& name, std::size_t bytes, const ObjectOptions& options) const {
  BufferOpen open;
  open.name = name;
  open.bytes = bytes;
  open.create = create_of(options);
  auto connection = session_->connection();
  std::vector<Fd> fds;
  std::uint32_t number = 0;
  std::uint64_t epoch = 0;
  const auto said = read_json(connection->open_buffer(encode(open), number, epoch, fds));
  if (!said) return said.error();
  const auto size = said->value("bytes", std::uint64_t{0});
  struct stat status {};
  if (fds.size() != 1 || size == 0 || ::fstat(fds[0].get(), &status) != 0 || status.st_size < 0 ||
      static_cast<std::uint64_t>(status.st_size) < size)
    return fail(Errc::bad_message, "buffer_open: the memory did not come, or is shorter than it says");
  void* const at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0].get(), 0);
  if (at == MAP_FAILED) {
    auto error = errno_error("mmap of a buffer");
    connection->close_buffer(number, epoch);
    return error;
  }
  return Buffer{std::make_shared<client::BufferMapping>(std::move(connection), name, number, epoch,
                                                        std::span{static_cast<std::byte*>(at), size},
                                                        said->value("created", false))};
}

}  // namespace taskpool

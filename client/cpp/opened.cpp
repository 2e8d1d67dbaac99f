#include "client/cpp/opened.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "client/cpp/connection.hpp"
#include "client/cpp/session.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// The clock of expiry: it goes on while the machine sleeps.
std::uint64_t boot_time_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

Result<std::shared_ptr<StoreSegment>> StoreSegment::map(const Fd& file, std::uint64_t bytes) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return errno_error("store segment");
  if (bytes == 0 || bytes > store::kMaxSegmentBytes || status.st_size < 0 ||
      static_cast<std::uint64_t>(status.st_size) < bytes)
    return fail(Errc::bad_message, "store segment: not as long as it says");
  void* const at = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) return errno_error("mmap of a store segment");
  std::shared_ptr<StoreSegment> segment{new StoreSegment{{static_cast<const std::byte*>(at), bytes}}};
  auto reader = store::Segment::open(segment->bytes_, &boot_time_ns);
  if (!reader) return reader.error();
  segment->reader_ = std::move(*reader);
  return segment;
}

StoreSegment::~StoreSegment() { ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size()); }

Opened::Opened(const std::shared_ptr<Session>& session, store::ObjectType type, ObjectOpen open, StoredValue value,
               std::shared_ptr<Opened> lock)
    : session_{session},
      name_{open.name},
      type_{type},
      open_{std::move(open)},
      value_{as_text(value.bytes())},
      value_encoding_{value.encoding},
      lock_{std::move(lock)} {}

Opened::~Opened() {
  if (const auto session = session_.lock()) session->connection()->close_object(*this);
  for (const auto* view = view_.load(); view != nullptr;) delete std::exchange(view, view->older);
}

void Opened::show(std::unique_ptr<View> view) {
  view->older = view_.load(std::memory_order_relaxed);
  view_.store(view.release(), std::memory_order_release);
}

Result<bool> OpenReply::accept(Connection& connection, const FrameView& frame, std::span<Fd> given) {
  if (frame.prefix.op != Op::ok) return Reply::accept(connection, frame, given);
  const auto said = decode<ObjectOpened>(as_text(frame.body));
  if (!said) return said.error();
  auto segment = connection.store_segment(said->segment, said->segment_bytes, given);
  // What cannot be read here may be usable all the same; whoever opened it learns why it is not.
  const auto type = store::find_object_type(said->type);
  Result<store::ObjectView> object =
      segment ? (*segment)->reader().find(said->offset, static_cast<store::ObjectId>(said->id))
              : Result<store::ObjectView>{segment.error()};
  if (!type) object = fail(Errc::wrong_type, "object: of the unknown type " + said->type);
  if (!object) {
    failure = std::make_unique<ErrorHead>(error_head(object.error()));
    return true;
  }
  opened_->show(std::make_unique<View>(
      View{std::move(*segment), *object, said->object, said->created, said->typecode, said->length, nullptr}));
  // From now on it is this object that is meant, or, after the store itself was lost, another of its name.
  auto& open = opened_->open_;
  if (open.create == Create::exclusive) open.create = Create::open;
  if (open.name.empty()) {
    open = {};
    open.object = said->object;
    open.create = Create::never;
  }
  return true;
}

}  // namespace taskpool::client

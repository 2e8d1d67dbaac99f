#include "taskpool/synchronize.hpp"

#include <unistd.h>

#include <system_error>

#include "client/cpp/fork_generation.hpp"
#include "taskpool/cells.hpp"

namespace taskpool {
namespace {

/// The thread that asks, as the daemon's lists show it. Asked for once, and again in a forked child, which has another
/// one: a lock's acquire and release take little longer than two system calls.
StoreArgument this_thread() {
  struct Known {
    std::uint64_t generation;
    pid_t id;
  };
  thread_local Known known{client::fork_generation(), ::gettid()};
  if (known.generation != client::fork_generation()) known = {client::fork_generation(), ::gettid()};
  return StoreArgument::integer(known.id);
}

/// The integers of a result; at least `count` of them. Error: `bad_message`.
Result<std::vector<std::int64_t>> integers(const Result<StoreResult>& result, std::size_t count) {
  if (!result) return result.error();
  std::vector<std::int64_t> values;
  for (const auto& body : *result) {
    auto value = decode_item<std::int64_t>({body.encoding(), body.bytes(), body.count()});
    if (!value) return value.error();
    values.push_back(*value);
  }
  if (values.size() < count) return fail(Errc::bad_message, "the daemon's reply lacks a value");
  return values;
}

Result<std::uint64_t> integer(const Result<StoreResult>& result, std::size_t index = 0) {
  const auto values = integers(result, index + 1);
  if (!values) return values.error();
  return static_cast<std::uint64_t>((*values)[index]);
}

/// What an acquire gave.
Result<Acquired> acquired(const Result<StoreResult>& result) {
  if (!result && result.error().errc() == Errc::timed_out) return Acquired{};
  const auto died = integer(result);
  if (!died) return died.error();
  return Acquired{true, *died == 1};
}

}  // namespace

Result<Acquired> Lockable::acquire(Patience patience) const {
  return acquired(call(store::Code::acquire, {this_thread(), StoreArgument::integer(patience.ms)}));
}

Result<void> Lockable::release() const { return done(call(store::Code::release, {this_thread()})); }

Result<std::uint64_t> Lockable::waiting() const { return integer(call(store::Code::sync_state, {}), 1); }

void Lockable::lock() {
  const auto got = acquire();
  if (!got) throw std::system_error{got.error().code, got.error().detail};
  owner_died_ = got->owner_died;
}

bool Lockable::try_lock() { return try_lock(Patience::none()); }

bool Lockable::try_lock(Patience patience) {
  const auto got = acquire(patience);
  if (!got || !got->held) return false;
  owner_died_ = got->owner_died;
  return true;
}

void Lockable::unlock() { tell(store::Code::release, {this_thread()}); }

Result<Acquired> Semaphore::acquire(Patience patience) const {
  return acquired(call(store::Code::acquire, {this_thread(), StoreArgument::integer(patience.ms)}));
}

Result<bool> Semaphore::try_acquire() const {
  const auto got = acquire(Patience::none());
  if (!got) return got.error();
  return got->held;
}

Result<bool> Semaphore::try_acquire_for(std::chrono::milliseconds timeout) const {
  const auto got = acquire(Patience::up_to(timeout));
  if (!got) return got.error();
  return got->held;
}

Result<void> Semaphore::release(std::uint32_t units) const {
  return done(call(store::Code::release, {this_thread(), StoreArgument::integer(units)}));
}

Result<std::uint64_t> Semaphore::value() const { return integer(call(store::Code::sync_state, {})); }

Result<bool> Event::is_set() const {
  const auto set = integer(call(store::Code::event_is_set, {}));
  if (!set) return set.error();
  return *set != 0;
}

Result<void> Condition::wait() const {
  const auto woken = wait(Patience::forever());
  if (!woken) return woken.error();
  return {};
}

Result<bool> Condition::wait(Patience patience) const {
  const auto notified =
      integer(call(store::Code::condition_wait, {this_thread(), StoreArgument::integer(patience.ms)}));
  if (!notified) return notified.error();
  return *notified != 0;
}

Result<std::uint64_t> Condition::notify_some(std::int64_t count) const {
  return integer(call(store::Code::condition_notify, {this_thread(), StoreArgument::integer(count)}));
}

Result<std::uint64_t> Barrier::wait(Patience patience, const std::function<void()>& action) const {
  const auto arrived = integers(call(store::Code::barrier_wait, {StoreArgument::integer(patience.ms)}), 2);
  if (!arrived) return arrived.error();
  if ((*arrived)[1] != 0) {
    try {
      if (action) action();
    } catch (...) {
      (void)call(store::Code::barrier_acted, {StoreArgument::integer(0)});  // the exception says more than its error
      throw;
    }
    if (const auto told = call(store::Code::barrier_acted, {StoreArgument::integer(1)}); !told) return told.error();
  }
  return static_cast<std::uint64_t>((*arrived)[0]);
}

Result<Barrier::State> Barrier::state() const {
  const auto values = integers(call(store::Code::barrier_state, {}), 3);
  if (!values) return values.error();
  return State{static_cast<std::uint64_t>((*values)[0]), static_cast<std::uint64_t>((*values)[1]), (*values)[2] != 0};
}

Result<std::vector<std::string>> Namespace::attributes() const {
  std::vector<std::string> all;
  auto visited = each([&](store::KeyView key, Encoding, std::span<const std::byte>) -> Result<void> {
    auto attribute = decode_key<std::string>(key);
    if (!attribute) return attribute.error();
    all.push_back(std::move(*attribute));
    return {};
  });
  if (!visited) return visited.error();
  return all;
}

}  // namespace taskpool

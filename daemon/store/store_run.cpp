#include <fmt/core.h>

#include <algorithm>

#include "daemon/store/store.hpp"
#include "proto/limits.hpp"

/// The ops `store` and `object_delete`: one frame at a time, in a session's order.
namespace taskpool::store {
namespace {

/// With so much of a session's waiting behind an object that is held, no more of it is read until half of that is done.
/// Bytes, with what each frame costs besides its body.
constexpr std::size_t kMaxPendingBytes = 4u << 20;
constexpr std::size_t kFrameCost = 128;

/// A write that is not possible after so much work on its object never is.
constexpr std::uint32_t kMostRounds = 100;

bool is_quiet(const Prefix& prefix) { return (prefix.flags & kQuiet) != 0; }

/// Goes before a batch on a large dict, and has fetched what it will look up: each set waits for memory, else.
class Lookahead {
 public:
  Lookahead(const Object& object, std::span<const std::byte> body, std::uint32_t count)
      : object_{object}, operations_{body, count}, is_over_{count == 1 || !object.home->writer().is_large(object.id)} {
    for (int i = 0; i < kAhead; ++i) step();
  }
  void step() {
    if (is_over_ || operations_.done()) return;
    is_over_ = !operations_.next(operation_);
    if (!is_over_ && operation_.info->arguments.starts_with('k'))
      object_.home->writer().fetch_ahead(object_.id, operation_.arguments[0].bytes);
  }

 private:
  static constexpr int kAhead = 16;  ///< What comes from memory meanwhile is about as much as a CPU has under way.
  const Object& object_;             ///< The first operation's; hardly any batch has another.
  OperationReader operations_;
  Operation operation_;
  bool is_over_;
};

/// The code of the first operation, if there is one: `unhold` does not wait behind others.
bool is_unhold(const Prefix& prefix, std::span<const std::byte> body) {
  return prefix.op == Op::store && prefix.count == 1 && body.size() >= kOperationBytes &&
         load<std::uint16_t>(body.data()) == static_cast<std::uint16_t>(Code::unhold);
}

}  // namespace

void Store::fail_request(Client& client, const Prefix& prefix, const Error& error, std::optional<std::size_t> index) {
  ++metrics_.requests_refused;
  ErrorHead head;
  head.code = error.errc();
  head.detail = error.detail;
  if (index) head.index = *index;
  client.refuse(prefix.request, head);
}

// Order

void Store::handle(Client& client, const Prefix& prefix, std::span<const std::byte> body) {
  const FrameView frame{prefix, {}, body};
  if (client.state.pending.empty() || is_unhold(prefix, body)) {
    if (!run(client, frame)) keep(client, frame, true);
  } else {
    keep(client, frame, false);
  }
}

void Store::wait_in_turn(Client& client, const FrameView& frame, bool first) { keep(client, frame, first); }

void Store::keep(Client& client, const FrameView& frame, bool first) {
  PendingFrame kept{frame.prefix, std::string{frame.head}, {frame.body.begin(), frame.body.end()}};
  client.state.pending_bytes += kept.body.size() + kFrameCost;
  if (first)
    client.state.pending.push_front(std::move(kept));
  else
    client.state.pending.push_back(std::move(kept));
  if (client.state.held_back || client.state.pending_bytes < kMaxPendingBytes) return;
  client.state.held_back = true;
  ++metrics_.store_held_back;
  client.hold_back(true);
}

/// A frame of that size waits no longer.
void Store::let_pass(Client& client, std::size_t body_bytes) {
  client.state.pending_bytes -= std::min(client.state.pending_bytes, body_bytes + kFrameCost);
  if (!client.state.held_back || client.state.pending_bytes > kMaxPendingBytes / 2) return;
  client.state.held_back = false;
  client.hold_back(false);
}

bool Store::block(Client& client, const ObjectPtr& object) {
  client.state.blocked_on = object;
  object->blocked.push_back(&client);
  return false;
}

void Store::run_blocked(const ObjectPtr& object) {
  if (object->blocked.empty()) return;
  for (auto* const client : object->blocked) {
    client->state.blocked_on = nullptr;
    resumable_.push_back(client);
  }
  object->blocked.clear();
  want_work();
}

bool Store::run_pending(Client& client, TimeSlice& slice) {
  while (!client.state.pending.empty() && !client.state.blocked_on) {
    if (!slice.has_time()) return false;
    auto frame = std::move(client.state.pending.front());
    client.state.pending.pop_front();
    let_pass(client, frame.body.size());
    const FrameView view{frame.prefix, frame.head, frame.body};
    if (!run(client, view)) keep(client, view, true);
  }
  return true;
}

/// False: it has to wait, and will be run again.
bool Store::run(Client& client, const FrameView& frame) {
  switch (frame.prefix.op) {
    case Op::store: return run_operations(client, frame.prefix, frame.body);
    case Op::object_delete: return remove(client, frame.prefix);
    default: return client.again(frame);
  }
}

bool Store::remove(Client& client, const Prefix& prefix) {
  const auto object = opened(client, prefix.target);
  if (!object) return fail_request(client, prefix, object.error()), true;
  if ((*object)->is_held()) return block(client, *object);
  const auto kept = *object;
  if (const auto done = kept->home->remove(kept, &client); !done) {
    if (done.error().errc() == Errc::busy) return false;
    return fail_request(client, prefix, done.error()), true;
  }
  client.removed(*kept);
  client.accept(prefix.request);
  return true;
}

// Operations

bool Store::run_operations(Client& client, const Prefix& prefix, std::span<const std::byte> body) {
  const auto count = prefix.count;
  if (count == 0 || count > kMaxBatch)
    return fail_request(client, prefix, fail(Errc::bad_message, fmt::format("count: want 1 to {}", kMaxBatch))), true;
  OperationReader operations{body, count};
  std::size_t index = 0;
  const auto refuse = [&](const Error& error) {
    fail_request(client, prefix, error, count > 1 ? std::optional{index} : std::nullopt);
    return true;
  };

  Operation operation;
  if (const auto done = operations.next(operation); !done) return refuse(done.error());
  auto found = opened(client, operation.target);
  if (!found) return refuse(found.error());
  auto object = std::move(*found);
  auto& home = *object->home;
  // The types are checked below for each operation, but a control one leaves here.
  if (operation.info->kind == Kind::control && count == 1) return control(client, prefix, object, operation);
  const bool may_write = count > 1 || operation.info->kind == Kind::write;
  SessionRecord* record = nullptr;
  if (may_write) {
    const auto own = home.record_of(client);
    if (!own) return refuse(own.error());
    record = *own;
    if (record->resumed && record->applied >= prefix.request && was_applied(client, prefix, body)) return true;
  }

  effects_.clear();
  out_.clear();
  BodyWriter out{out_};
  auto tx = home.begin();
  Batch batch{client, home, home.writer(), tx, out, effects_};
  const auto give_up = [&] {
    tx.abort();
    for (const auto& place : effects_.placed) client.take_back(place);
  };
  bool writes = false;
  Lookahead ahead{*object, body, count};
  for (;;) {
    ahead.step();
    const auto& info = *operation.info;
    Result<void> done{boost::system::in_place_value};
    if ((info.types & bit(object->type)) == 0)
      done = fail(Errc::wrong_type, fmt::format("{}: not an operation of a {}", info.name, name(object->type)));
    else if (info.kind == Kind::control)
      done = fail(Errc::bad_message, fmt::format("{}: not together with others", info.name));
    else if (object->home != &home)
      done = fail(Errc::bad_argument, "target: the objects of a batch have to belong to the same user or group");
    if (done && info.kind == Kind::write) {
      writes = true;
      if (object->is_held()) return give_up(), block(client, object);
    }
    if (done) done = apply(batch, *object, operation);
    if (!done) {
      give_up();
      if (done.error().errc() != Errc::busy) return refuse(done.error());
      if (object->work_error) return refuse(*std::exchange(object->work_error, std::nullopt));
      if (++object->work_rounds > kMostRounds) {
        object->work_rounds = 0;
        return refuse(fail(Errc::internal, "work on the object does not help"));
      }
      home.start_work(object);
      return block(client, object);
    }
    object->work_rounds = 0;
    if (operations.done()) break;
    ++index;
    const auto target = operation.target;
    if (const auto read = operations.next(operation); !read) return give_up(), refuse(read.error());
    if (operation.target == target) continue;
    auto next = opened(client, operation.target);
    if (!next) return give_up(), refuse(next.error());
    object = std::move(*next);
  }

  index = 0;
  if (out_.size() > kMaxFrameBodyBytes) {
    give_up();
    return refuse(fail(Errc::limit_reached, "limit: the results do not fit a frame; ask for less at a time")), true;
  }
  if (writes) {
    auto done = home.note(tx, static_cast<std::uint64_t>(record->id), prefix.request);
    if (done) done = tx.commit();
    if (!done) return give_up(), refuse(done.error());
  } else {
    tx.abort();
  }
  metrics_.store_operations += count;
  finish(client, prefix, home);
  return true;
}

void Store::finish(Client& client, const Prefix& prefix, Home& home) {
  if (!is_quiet(prefix))
    client.answer(prefix.request, prefix.count, out_);
  else
    for (const auto& place : effects_.placed) client.take_back(place);
  for (auto& change : effects_.changes) tell(*change.object, change.kind, as_bytes(change.key));
  for (auto& expiring : effects_.expiring)
    home.expiry().note(expiring.object->id, std::move(expiring.key), expiring.when_ns);
  if (!effects_.expiring.empty()) arm();
  if (!effects_.unlinked.empty()) home.collector().suspect();
}

bool Store::was_applied(Client& client, const Prefix& prefix, std::span<const std::byte> body) {
  bool has_results = false;
  bool writes = false;
  Operation operation;
  for (OperationReader operations{body, prefix.count}; !operations.done();) {
    if (!operations.next(operation)) return false;
    has_results |= !operation.info->results.empty();
    writes |= operation.info->kind == Kind::write;
  }
  if (!writes) return false;  // it may be read once more
  if (has_results) {
    fail_request(client, prefix,
                 fail(Errc::outcome_unknown, "it was done before the daemon ended; its results are lost"));
  } else if (!is_quiet(prefix)) {
    const std::vector<std::byte> nothing(prefix.count * sizeof(std::uint32_t));
    client.answer(prefix.request, prefix.count, nothing);
  }
  return true;
}

// Operations of kind control

bool Store::control(Client& client, const Prefix& prefix, const ObjectPtr& object, const Operation& operation) {
  const auto& info = *operation.info;
  ++metrics_.store_operations;
  if ((info.types & bit(object->type)) == 0)
    return fail_request(
               client, prefix,
               fail(Errc::wrong_type, fmt::format("{}: not an operation of a {}", info.name, name(object->type)))),
           true;
  switch (info.code) {
    case Code::hold: return hold(client, prefix, object);
    case Code::unhold: unhold(client, prefix, object); return true;
    case Code::scan:
      if (const auto done = scan(client, prefix, object, operation); !done) fail_request(client, prefix, done.error());
      return true;
    default: break;
  }
  if (object->is_held()) return block(client, object);
  const auto done = sync(client, prefix, object, operation);
  if (!done && done.error().errc() == Errc::busy) return block(client, object->home->asked());
  if (!done) fail_request(client, prefix, done.error());
  return true;
}

Result<void> Store::sync(Client& client, const Prefix& prefix, const ObjectPtr& object, const Operation& operation) {
  auto& home = *object->home;
  const auto record = home.record_of(client);
  if (!record) return record.error();
  SyncCall call{.owner = {static_cast<std::uint64_t>((*record)->id), 0},
                .reply = Reply{client.state.self, prefix.request, is_quiet(prefix)},
                .object = object->id,
                .type = object->type,
                .code = operation.info->code};
  std::size_t integers = 0;  // of those that the row asks for, in order: a thread, a number, a timeout
  const auto next_integer = [&](std::int64_t otherwise) {
    while (integers < operation.count && !operation.arguments[integers].is_integer()) ++integers;
    return operation.integer(integers++, otherwise);
  };
  const auto has_thread = call.code == Code::acquire || call.code == Code::release ||
                          call.code == Code::condition_wait || call.code == Code::condition_notify;
  ItemView item;
  if (call.code == Code::queue_put) {  // its transaction only reads, and ends before Sync begins one
    effects_.clear();
    out_.clear();
    BodyWriter out{out_};
    auto tx = home.begin();
    Batch batch{client, home, home.writer(), tx, out, effects_};
    const auto input = batch.input(*object, operation.arguments[0]);
    if (!input) return input.error();
    item = {input->value, input->encoding, input->refs, input->writer_uid};
    integers = 1;
  }
  if (has_thread) {
    const auto thread = next_integer(0);
    if (thread < 0 || thread > std::int64_t{0xffffffff})
      return fail(Errc::bad_argument, "thread: want 0 to 4294967295");
    call.owner.thread = static_cast<std::uint32_t>(thread);
  }
  if (operation.info->waits) {
    const auto timeout = next_integer(-1);
    if (timeout < -1 || timeout > kMaxDuration.count())
      return fail(Errc::bad_argument, fmt::format("timeout: want -1 to {} ms", kMaxDuration.count()));
    if (timeout >= 0) call.timeout = std::chrono::milliseconds{timeout};
  } else {
    call.number = next_integer(1);
  }
  const auto& known = **record;
  if (known.resumed) {
    const auto repeated = home.sync().repeat(call, known.applied);
    if (!repeated) return repeated.error();
    if (*repeated) return {};
  }
  if (home.sync().run(call, item)) return {};
  return fail(Errc::busy, "something has to grow first");
}

bool Store::hold(Client& client, const Prefix& prefix, const ObjectPtr& object) {
  // Behind writers that wait for others' holds, so that these cannot keep them out for ever.
  if (object->working || object->walked || (!object->holds.empty() && !object->blocked.empty()))
    return block(client, object);
  if (object->holds.empty()) held_.push_back(object);
  object->holds[&client] = now() + kMaxHold;
  ObjectStat stat;
  (void)object->home->domain().reader().stat({object->offset, object->id, object->type}, stat);
  Reply{client.state.self, prefix.request, is_quiet(prefix)}.integers({static_cast<std::int64_t>(stat.version)});
  arm();
  return true;
}

void Store::unhold(Client& client, const Prefix& prefix, const ObjectPtr& object) {
  if (object->holds.erase(&client) > 0 && object->holds.empty()) {
    std::erase(held_, object);
    if (!object->is_held()) object->home->set_free(object);
  }
  Reply{client.state.self, prefix.request, is_quiet(prefix)}.done();
}

Result<void> Store::scan(Client& client, const Prefix& prefix, const ObjectPtr& object, const Operation& operation) {
  constexpr std::size_t kMost = 10'000;
  const auto wants = operation.integer(2);
  if (wants < 0 || wants > 3) return fail(Errc::bad_argument, "scan: want keys (1), values (2), or both (3)");
  Page page;
  Cursor cursor{static_cast<std::uint64_t>(operation.integer(0)), static_cast<std::uint64_t>(operation.integer(1))};
  const auto code =
      object->home->domain().reader().scan({object->offset, object->id, object->type}, cursor, kMost, kPageBytes, page);
  if (code != ReadCode::found && code != ReadCode::absent) return read_error(code);
  const bool is_end = code == ReadCode::absent;
  effects_.clear();
  out_.clear();
  BodyWriter out{out_};
  auto tx = object->home->begin();
  Batch batch{client, *object->home, object->home->writer(), tx, out, effects_};
  out.begin_result();
  out.integer(is_end ? -1 : static_cast<std::int64_t>(cursor.table));
  out.integer(is_end ? -1 : static_cast<std::int64_t>(cursor.position));
  for (const auto& entry : page.entries) {
    if ((wants & 1) != 0) out.key(page.key(entry));
    if ((wants & 2) != 0) {
      const auto done = batch.put({.value = page.value(entry), .encoding = entry.encoding});
      if (!done) {
        for (const auto& place : effects_.placed) client.take_back(place);
        return done;
      }
    }
    out.integer(static_cast<std::int64_t>(entry.order));
  }
  finish(client, prefix, *object->home);
  return {};
}

}  // namespace taskpool::store

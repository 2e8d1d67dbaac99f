#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "daemon/log.hpp"
#include "daemon/server/near_names.hpp"
#include "daemon/server/session.hpp"
#include "proto/codec.hpp"
#include "proto/fields.hpp"
#include "proto/items.hpp"

/// How jobs come to be: `prepare`, `apply`, `map`, `input`.
namespace taskpool::server {

namespace {

/// Names that one pool remembers of an open runtime, whose functions nobody lists.
constexpr std::size_t kMaxFunctions = 100'000;

Error unknown_function(const std::string& function, const pool::Pool& pool) {
  return fail(Errc::unknown_function, fmt::format("function: '{}' is not in pool '{}'{}", function, pool.name(),
                                                  near_names(function, pool.function_names())));
}

}  // namespace

Result<Binding> Session::bind(Call call) {
  Binding binding;
  binding.pool = call.pool == kOwnPool ? parent_pool_ : core_.pools.find(call.pool, number_);
  if (!binding.pool && call.pool == kOwnPool) return fail(Errc::unknown_pool, "pool: this is not in a task of a pool");
  if (!binding.pool) return fail(Errc::unknown_pool, "pool: there is no '" + call.pool + "'");
  auto& pool = *binding.pool;
  if (call.function.empty()) return fail(Errc::bad_message, "function: missing");
  if (!pool.may_have(call.function)) return unknown_function(call.function, pool);
  auto prepared = boost::intrusive_ptr<queue::PreparedCall>{new queue::PreparedCall};
  prepared->function = &pool.function(call.function);
  if (pool.known_functions() > kMaxFunctions)
    return fail(Errc::limit_reached, fmt::format("function: the pool has seen {} names", kMaxFunctions));
  prepared->timeout = call.timeout_ms ? std::chrono::milliseconds{*call.timeout_ms} : pool.config().timeout;
  prepared->soft_timeout = std::chrono::milliseconds{call.soft_timeout_ms};
  prepared->cpu_timeout =
      call.cpu_timeout_ms ? std::chrono::milliseconds{*call.cpu_timeout_ms} : pool.config().cpu_timeout;
  prepared->priority = call.priority.value_or(pool.config().priority);
  const bool keeps = call.detached || !call.idempotency_key.empty();
  auto pins = core_.store.pin(*this, call.refs);
  if (!pins) return pins.error();
  prepared->pins = std::move(*pins);
  prepared->call = std::move(call);
  binding.turn = &pool.queue().turn_of(who_.uid, keeps ? 0 : number_, prepared->priority);
  binding.call = std::move(prepared);
  if (paused_) pool.queue().pause_session(who_.uid, number_, true);
  return binding;
}

Result<void> Session::prepare(const FrameView& frame) {
  const auto number = frame.prefix.target;
  if (number == 0 || number > kMaxPreparedCalls)
    return fail(Errc::bad_message, fmt::format("target: want 1 to {}", kMaxPreparedCalls));
  if (prepared_.size() <= number) prepared_.resize(number + 1);
  auto call = decode<Call>(frame.head);
  auto binding = call ? bind(std::move(*call)) : Result<Binding>{call.error()};
  if (!binding) {
    prepared_[number] = Binding{};
    prepared_[number].error = binding.error();
    return binding.error();
  }
  prepared_[number] = std::move(*binding);
  reply(frame.prefix.request, nlohmann::json::object());
  return boost::system::in_place_value;
}

Result<void> Session::forget(const FrameView& frame) {
  if (frame.prefix.target < prepared_.size()) prepared_[frame.prefix.target] = Binding{};
  return boost::system::in_place_value;
}

Result<const Binding*> Session::binding_of(const FrameView& frame, Binding& own) {
  // First: pools close one by one, and what a name meant may be gone before the daemon is.
  if (core_.admin.is_draining()) return fail(Errc::draining, "the daemon takes no new work");
  const auto number = frame.prefix.target;
  if (number == 0) {
    auto call = decode<Call>(frame.head);
    if (!call) return call.error();
    auto bound = bind(std::move(*call));
    if (!bound) return bound.error();
    own = std::move(*bound);
    return &own;
  }
  if (!frame.head.empty()) return fail(Errc::bad_message, "head: a prepared call has its options already");
  if (number >= prepared_.size() || (!prepared_[number].call && !prepared_[number].error))
    return fail(Errc::bad_message, fmt::format("target: {} was not prepared", number));
  auto& binding = prepared_[number];
  if (binding.error && binding.call == nullptr) return *binding.error;
  if (const auto& function = *binding.call->function; !binding.pool->may_have(function))
    return unknown_function(function.name, *binding.pool);
  return &binding;
}

Result<std::uint32_t> Session::depth() const {
  const auto worker = parent_worker_.lock();
  if (!worker || worker->is_idle()) return 0u;
  const auto running = worker->running();
  const auto& parent = running ? *running->assignment->job : *worker->assignments().front().job;
  const auto depth = parent.depth + 1;
  if (depth > core_.config.max_nesting)
    return fail(Errc::nesting_too_deep,
                fmt::format("max_nesting: task {} is {} deep already", core_.jobs.text(parent.id), parent.depth));
  return depth;
}

Result<void> Session::check_references(const FrameView& frame) const {
  if ((frame.prefix.flags & kInArena) == 0) return boost::system::in_place_value;
  for (std::size_t at = 0; at + sizeof(ArenaRef) <= frame.body.size(); at += sizeof(ArenaRef))
    if (const auto reference = load<ArenaRef>(frame.body.data() + at); !core_.arenas.is_up(number_, reference))
      return fail(Errc::bad_message, fmt::format("body: segment {}, offset {}, {} bytes is not in the up arena",
                                                 reference.segment, reference.offset, reference.bytes));
  return boost::system::in_place_value;
}

Result<void> Session::check_trust(Encoding encoding) const {
  if (encoding != Encoding::pickle || core_.permissions.is_trusted(who_.uid)) return boost::system::in_place_value;
  return fail(Errc::permission_denied, "encoding: a pickle may run anything, which is for root and the daemon's user");
}

Result<void> Session::check_open(const pool::Pool& pool) const {
  if (pool.is_closing()) return fail(Errc::pool_closed, "pool '" + pool.name() + "' is closing");
  return boost::system::in_place_value;
}

Result<void> Session::check_room(const pool::Pool& pool, const FrameView& frame) const {
  if (pool.queue().waiting() + frame.prefix.count > pool.config().max_queued)
    return fail(Errc::queue_full,
                fmt::format("max_queued: {} tasks wait in pool '{}'", pool.queue().waiting(), pool.name()));
  if (quota_->bytes + frame.body.size() > core_.config.session_queued_bytes)
    return fail(Errc::queue_full, fmt::format("session_queued_bytes: {} of {} are taken", quota_->bytes,
                                              core_.config.session_queued_bytes));
  const auto& user = *quota_->user;
  if (user.queued_tasks + frame.prefix.count > bounds_.queued_tasks.most)
    return fail(Errc::queue_full, fmt::format("{}: user {} has {} tasks waiting", bounds_.queued_tasks.rule, user.uid,
                                              user.queued_tasks));
  if (user.queued_bytes + frame.body.size() > bounds_.queued_bytes.most)
    return fail(Errc::queue_full, fmt::format("{}: user {} has {} bytes waiting", bounds_.queued_bytes.rule, user.uid,
                                              user.queued_bytes));
  return boost::system::in_place_value;
}

Result<queue::Job*> Session::open_job(const Binding& binding, std::uint64_t request, bool is_map) {
  const auto deep = depth();
  if (!deep) return deep.error();
  auto* job = core_.jobs.create();
  if (job == nullptr) return fail(Errc::queue_full, fmt::format("the daemon knows {} jobs", queue::JobTable::kMaxJobs));
  const auto& call = binding.call->call;
  job->call = binding.call;
  job->pool = binding.pool;
  job->turn = binding.turn;
  job->request = request;
  job->uid = who_.uid;
  job->usage = quota_->user;
  job->depth = *deep;
  job->is_map = is_map;
  job->accepted = core_.turn.now();
  if (call.detached || !call.idempotency_key.empty()) {
    std::optional<Keeper::Key> key;
    if (!call.idempotency_key.empty()) key = Keeper::Key{who_.uid, binding.pool->name(), call.idempotency_key};
    core_.keeper.adopt(*job, std::move(key));
  } else {
    job->session = number_;
    job->listener = this;
    jobs_.push_back(*job);
  }
  ++core_.metrics.jobs_submitted;
  binding.pool->queue().accept(*job);
  return job;
}

Result<Session::Moved> Session::move_inputs(const queue::PreparedCall& prepared, const FrameView& frame) {
  Moved moved;
  const auto& call = prepared.call;
  const bool outlives = call.detached || !call.idempotency_key.empty();
  if ((frame.prefix.flags & kInArena) == 0 || !outlives) return moved;
  moved.body.assign(frame.body.begin(), frame.body.end());
  for (std::size_t at = 0; at + sizeof(ArenaRef) <= moved.body.size(); at += sizeof(ArenaRef)) {
    const auto from = load<ArenaRef>(moved.body.data() + at);
    if (from.bytes == 0) continue;
    const auto most = core_.config.detached_body_bytes;
    auto into = from.bytes > most
                    ? Result<ArenaRef>{fail(Errc::body_too_large,
                                            fmt::format("detached_body_bytes: {} bytes, {} at most", from.bytes, most))}
                    : core_.arenas.allocate_own(from.bytes);
    if (!into) {
      for (const auto& region : moved.regions) core_.arenas.release_own(region);
      return into.error();
    }
    const auto source = core_.arenas.bytes(number_, false, from);
    std::memcpy(core_.arenas.bytes(0, false, *into).data(), source.data(), source.size());
    store_le(moved.body.data() + at, *into);
    moved.regions.push_back(*into);
  }
  return moved;
}

void Session::add_items(queue::Job& job, const FrameView& frame, Moved moved) {
  const auto& prefix = frame.prefix;
  const std::span<const std::byte> body = moved.body.empty() ? frame.body : std::span<const std::byte>{moved.body};
  const auto now = core_.turn.now();
  auto block = job.is_map ? queue::Block::make(prefix.flags, prefix.encoding, job.total, prefix.count, body, now)
                          : queue::Block::make_single(prefix.flags, prefix.encoding, prefix.count, body, now);
  block->count_in(quota_);
  if (!moved.regions.empty()) core_.keeper.add_inputs(job, std::move(moved.regions));
  core_.metrics.tasks_submitted += block->count();
  job.pool->queue().add_input(job, std::move(block));
}

bool Session::join(const Binding& binding, std::uint64_t request) {
  const auto& call = binding.call->call;
  if (call.idempotency_key.empty()) return false;
  auto* const known = core_.keeper.find({who_.uid, binding.pool->name(), call.idempotency_key});
  if (known == nullptr) return false;
  if (call.detached)
    reply(request, {{"task", core_.jobs.text(known->id)}});
  else
    answer_at_end(*known, request);
  return true;
}

bool Session::answer(queue::Job& ended, std::uint64_t request, std::uint64_t index) {
  if (const auto sent = core_.keeper.replay(ended, channel_, request, number_, index,
                                            [this](std::span<const std::string> refs) { hold_refs(refs); });
      !sent) {
    reply_error(request, sent.error());
    return false;
  }
  if (ended.is_map) send_done(ended, request);
  return true;
}

void Session::answer_at_end(queue::Job& job, std::uint64_t request) {
  if (job.ended) {
    (void)answer(job, request);  // it says itself what is wrong
    return;
  }
  core_.waiters.add(job.id, number_, std::nullopt, [to = later(), request](queue::Job* ended) {
    to([&](Session& session) { (void)session.answer(*ended, request); });
  });
}

void Session::audit_job(const queue::Job& job, std::uint32_t items) const {
  const auto& call = job.call->call;
  const bool minor = !job.is_map && !call.detached && call.idempotency_key.empty();
  if (!is_audited(core_.config, minor)) return;
  std::vector<log::Field> about{
      {"task", core_.jobs.text(job.id)}, {"pool", job.pool->name()}, {"function", call.function}};
  if (!call.name.empty()) about.emplace_back("name", call.name);
  if (items > 0) about.emplace_back("items", items);
  if (call.detached) about.emplace_back("detached", "true");
  audit(job.is_map ? Op::map : Op::apply, std::move(about));
}

void Session::acknowledge(queue::Job& job) {
  const auto& call = job.call->call;
  if (call.detached)
    reply(job.request, {{"task", core_.jobs.text(job.id)}});
  else if (job.listener != this)
    answer_at_end(job, job.request);
  else if (call.announce)
    on_progress(job, 0, {});
}

Result<void> Session::apply(const FrameView& frame) {
  Binding own;
  const auto binding = binding_of(frame, own);
  if (!binding) return binding.error();
  if (const auto good = check_single(frame.prefix.flags, frame.prefix.encoding, frame.prefix.count, frame.body); !good)
    return good.error();
  if (const auto good = check_references(frame); !good) return good.error();
  if (const auto open = check_open(*(*binding)->pool); !open) return open.error();
  if (const auto may = check_trust(frame.prefix.encoding); !may) return may.error();
  if (const auto room = check_room(*(*binding)->pool, frame); !room) return room.error();
  const auto request = frame.prefix.request;
  if (join(**binding, request)) return boost::system::in_place_value;

  auto moved = move_inputs(*(*binding)->call, frame);
  if (!moved) return moved.error();
  auto opened = open_job(**binding, request, false);
  if (!opened) {
    for (const auto& region : moved->regions) core_.arenas.release_own(region);
    return opened.error();
  }
  auto& job = **opened;
  add_items(job, frame, std::move(*moved));
  (*binding)->pool->queue().end_input(job);
  audit_job(job, 0);
  acknowledge(job);
  core_.turn.end_later();
  return boost::system::in_place_value;
}

Result<void> Session::map(const FrameView& frame) {
  const auto request = frame.prefix.request;
  if (open_maps_.contains(request)) return fail(Errc::bad_message, fmt::format("request: {} is in use", request));
  Binding own;
  const auto binding = binding_of(frame, own);
  if (!binding) return binding.error();
  if (const auto good = check_items(frame.prefix.flags, frame.prefix.encoding, frame.prefix.count, frame.body); !good)
    return good.error();
  if (const auto good = check_references(frame); !good) return good.error();
  if (const auto open = check_open(*(*binding)->pool); !open) return open.error();
  if (const auto may = check_trust(frame.prefix.encoding); !may) return may.error();
  if (const auto room = check_room(*(*binding)->pool, frame); !room) return room.error();
  if (join(**binding, request)) return boost::system::in_place_value;

  auto opened = open_job(**binding, request, true);
  if (!opened) return opened.error();
  auto& job = **opened;
  open_maps_.emplace(request, OpenMap{job.id});
  audit_job(job, (frame.prefix.flags & kLast) != 0 ? frame.prefix.count : 0);  // else nobody knows yet how many
  acknowledge(job);
  return input(frame);
}

Result<void> Session::input(const FrameView& frame) {
  const auto request = frame.prefix.request;
  const auto open = open_maps_.find(request);
  // After its end, more input may still be on its way.
  auto* const job = open == open_maps_.end() ? nullptr : core_.jobs.find(open->second.id);
  if (job == nullptr || job->cancelled || job->ended) return boost::system::in_place_value;
  const auto holder = job->pool;  // the job may be gone before this ends
  auto& pool = *holder;
  const auto& prefix = frame.prefix;
  if (prefix.count > 0) {
    const auto refuse = [&](const Error& error) {
      log::debug("input_refused", {{"session", number_}, {"error", error.detail}});
      ErrorHead head;
      head.code = error.errc();
      head.detail = error.detail;
      job->listener->on_failed(*job, job->total, prefix.count, head);
      pool.queue().refuse(*job, prefix.count);
      pool.cancel(*job, false, error.errc());
    };
    Result<void> good = boost::system::in_place_value;
    if (pool.is_closed()) good = fail(Errc::pool_closed, "pool '" + pool.name() + "' has closed");
    if (good && prefix.op == Op::input) {
      if (!frame.head.empty()) good = Fields{frame.head}.finish(true);
      if (good) good = check_items(prefix.flags, prefix.encoding, prefix.count, frame.body);
      if (good) good = check_references(frame);
      if (good) good = check_trust(prefix.encoding);
    }
    auto& encoding = open->second.encoding;
    if (good && encoding && *encoding != prefix.encoding)
      good = fail(Errc::bad_message, "encoding: not that of the items before");
    encoding = prefix.encoding;
    if (good && job->total > kMaxJobItems - prefix.count)
      good = fail(Errc::limit_reached, fmt::format("count: a job has at most {} items", kMaxJobItems));
    if (good && prefix.op == Op::input) good = check_room(pool, frame);
    auto moved = good ? move_inputs(*job->call, frame) : Result<Moved>{good.error()};
    if (!moved) {
      refuse(moved.error());
      return boost::system::in_place_value;
    }
    add_items(*job, frame, std::move(*moved));
  }
  if ((prefix.flags & kLast) != 0) {
    pool.queue().end_input(*job);
    open_maps_.erase(request);
    pool.settle(*job);
  }
  core_.turn.end_later();
  return boost::system::in_place_value;
}

}  // namespace taskpool::server

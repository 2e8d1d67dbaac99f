#include "daemon/server/session.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/log.hpp"
#include "daemon/os/process.hpp"
#include "daemon/server/ops.hpp"
#include "daemon/server/token.hpp"
#include "proto/build_id.hpp"
#include "proto/codec.hpp"
#include "proto/fields.hpp"
#include "proto/version.hpp"

namespace taskpool::server {

Session::Session(Core& core, os::UniqueFd socket, Identity who, Door door, pid_t pid, os::UniqueFd owner,
                 std::uint32_t number)
    : core_{core},
      who_{std::move(who)},
      door_{door},
      number_{number},
      channel_{core.turn, std::move(socket)},
      owner_{core.turn.io()},
      self_{std::make_shared<Session*>(this)} {
  state.number = number_;
  state.uid = who_.uid;
  state.pid = pid;
  quota_->user = core_.users.of(who_.uid);
  ++quota_->user->sessions;
  update_bounds();
  if (owner) owner_.assign(owner.release());
  channel_.limit_unsent(2 * core.config.session_result_bytes);
  channel_.answer_at_once();
  core_.arenas.add(number_, who_.uid, [this](std::uint32_t segment, std::uint64_t bytes, int fd) {
    const auto sent = channel_.send_with(Prefix{.op = Op::arena_segment}, encode(ArenaSegment{segment, bytes}), {},
                                         std::span{&fd, 1});
    if (!sent) {
      log::error("arena_segment", {{"session", number_}, {"error", sent.error().detail}});
      channel_.close();  // it could not make sense of what comes next
    }
  });
}

Session::~Session() {
  core_.arenas.remove(number_);
  --quota_->user->sessions;
}

void Session::update_bounds() {
  bounds_ = core_.permissions.bounds_of(who_);
  quota_->user->most_slots = bounds_.running_slots.most;
  core_.store.bound(who_.uid, bounds_.store_bytes.most, bounds_.store_bytes.rule);
  core_.turn.end_later();
}

Result<void> Session::may(Right right, std::string_view what) const {
  return core_.permissions.check(right, what, who_, door_);
}

void Session::audit(Op op, std::vector<log::Field> about) const {
  if (is_audited(core_.config)) server::audit(author(), op, std::move(about), boost::system::in_place_value);
}

void Session::refuse(const FrameView& frame, const Error& error) {
  ++core_.metrics.requests_refused;
  reply_error(frame.prefix.request, error);
  const auto* const row = find_op(frame.prefix.op);
  const bool is_change = error.errc() == Errc::permission_denied || (row != nullptr && row->changes);
  if (is_audited(core_.config, !is_change)) server::audit(author(), frame.prefix.op, about_of(frame.head), error);
}

void Session::watch_owner() {
  if (!owner_.is_open()) return;
  owner_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                    [this, weak = std::weak_ptr<Session*>{self_}](const boost::system::error_code& error) {
                      const auto self = weak.lock();
                      if (error || !self || *self == nullptr) return;
                      if (!os::has_ended(owner_.native_handle())) return watch_owner();
                      (void)channel_.read_rest(*this);  // what it had sent counts; how that ends is all the same now
                      channel_.close();
                    });
}

boost::asio::awaitable<void> Session::run() {
  watch_owner();
  const auto ended = co_await channel_.read(*this);
  if (!ended && ended.error().errc() != Errc::system) {
    ++core_.metrics.protocol_errors;
    log::warning("protocol_error", {{"session", number_}, {"uid", who_.uid}, {"error", ended.error().detail}});
    reply_error(0, ended.error());
    channel_.flush();  // as much as it takes; it is closed next
  }
  *self_ = nullptr;
  release_everything();
  channel_.close();
}

void Session::release_everything() {
  std::vector<queue::JobId> jobs;
  for (const auto& job : jobs_) jobs.push_back(job.id);
  for (const auto id : jobs) {
    auto* job = core_.jobs.find(id);
    if (job == nullptr) continue;
    job->listener = nullptr;
    job->owner_hook.unlink();
    const auto pool = job->pool;  // the job may be gone after this
    pool->cancel(*job, false);
    job = core_.jobs.find(id);
    if (job != nullptr && !job->ended)  // some of it still runs, and is asked to stop
      queue::Queue::move(*job, pool->queue().turn_of(job->uid, 0, job->call->priority));
  }
  for (const auto& [request, open] : open_maps_)  // submitted in part only: detached or not, it is of no use
    if (auto* job = core_.jobs.find(open.id); job != nullptr && !job->ended) job->pool->cancel(*job, false);
  if (waiting_nested_)
    if (const auto worker = parent_worker_.lock()) parent_pool_->give_back(*worker);
  core_.waiters.forget(number_);
  for (std::uint32_t target = 0; target < state.opened.size(); ++target) keep_for_task(target);
  held_refs_.clear();
  core_.store.end(*this);
  prepared_.clear();
  core_.pools.close_session(who_.uid, number_);
}

Result<void> Session::on_frame(const FrameView& frame, std::vector<os::UniqueFd> fds) {
  Result<void> done = boost::system::in_place_value;
  if (!greeted_) return greet(frame);
  switch (frame.prefix.op) {  // the hot ones first
    case Op::store: done = store(frame); break;
    case Op::apply: done = apply(frame); break;
    case Op::input: done = input(frame); break;
    case Op::map: done = map(frame); break;
    case Op::pool_open: done = pool_open(frame, std::move(fds)); break;
    default: {
      const auto* const row = find_op(frame.prefix.op);
      if (row == nullptr)
        return fail(Errc::bad_message, fmt::format("op {}: not for a client to send", name(frame.prefix.op)));
      if (!row->has_fields) done = Fields{frame.head}.finish(true);
      if (done) done = (this->*row->handler)(frame);
    }
  }
  if (!done) refuse(frame, done.error());
  return boost::system::in_place_value;
}

Result<void> Session::greet(const FrameView& frame) {
  if (frame.prefix.op != Op::hello) return fail(Errc::bad_message, "the first frame has to be hello");
  const auto hello = decode<Hello>(frame.head);
  if (!hello) return hello.error();
  if (hello->version != kProtocolVersion)
    return fail(Errc::unsupported_version,
                fmt::format("version {}: this daemon speaks {}", hello->version, kProtocolVersion));
  if (!hello->worker_token.empty()) {
    auto [pool, worker] = core_.pools.find_worker(hello->worker_token);
    if (worker) {
      parent_pool_ = std::move(pool);
      parent_worker_ = worker;
    }
  }
  takes_refs_ = std::find(hello->capabilities.begin(), hello->capabilities.end(), kResultRefsCapability) !=
                hello->capabilities.end();
  token_ = make_token();
  state.token = token_;
  const bool resumed = core_.store.resume(*this, hello->resume);
  if (resumed) token_ = hello->resume;
  Welcome welcome;
  welcome.version = kProtocolVersion;
  welcome.build = build_id();
  welcome.daemon_version = kVersion;
  welcome.pid = static_cast<std::uint64_t>(::getpid());
  welcome.uid = ::getuid();
  welcome.session = number_;
  welcome.token = token_;
  for (const auto capability : kCapabilities) welcome.capabilities.emplace_back(capability);
  // A client that holds back its input by itself is not refused.
  const auto queued_bytes = bounds_.queued_bytes.most < kMaxFrameBodyBytes
                                ? core_.config.session_queued_bytes
                                : std::min(core_.config.session_queued_bytes, bounds_.queued_bytes.most);
  welcome.limits = {kMaxFrameBodyBytes,
                    kMaxInlineItemBytes,
                    queued_bytes,
                    core_.config.session_result_bytes,
                    kMaxPreparedCalls,
                    core_.config.arena_bytes,
                    core_.config.detached_body_bytes,
                    kMaxStoreValueBytes,
                    static_cast<std::uint64_t>(core_.config.session_grace.count())};
  welcome.resumed = resumed;
  channel_.send(Prefix{.op = Op::welcome, .request = frame.prefix.request}, encode(welcome));
  greeted_ = true;
  return boost::system::in_place_value;
}

// Replies

void Session::reply(std::uint64_t request, const nlohmann::json& body) {
  const auto text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxFrameBodyBytes)
    return reply_error(request, fail(Errc::limit_reached, "limit: the reply does not fit a frame; ask for fewer rows"));
  channel_.send(Prefix{.op = Op::ok, .encoding = Encoding::json, .count = 1, .request = request}, {}, as_bytes(text));
}

void Session::reply_with(std::uint64_t request, const nlohmann::json& body, std::span<const int> fds) {
  const auto text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const Prefix prefix{.op = Op::ok, .encoding = Encoding::json, .count = 1, .request = request};
  if (const auto sent = channel_.send_with(prefix, {}, as_bytes(text), fds); !sent) reply_error(request, sent.error());
}

void Session::reply_error(std::uint64_t request, const Error& error) {
  ErrorHead head;
  head.code = error.errc();
  head.detail = error.detail;
  reply_error(request, head);
}

void Session::reply_error(std::uint64_t request, const ErrorHead& error) {
  channel_.send(Prefix{.op = Op::error, .request = request}, encode(error));
}

std::function<void(const std::function<void(Session&)>&)> Session::later() {
  return [weak = std::weak_ptr<Session*>{self_}](const std::function<void(Session&)>& call) {
    if (const auto self = weak.lock(); self && *self != nullptr) call(**self);
  };
}

// What becomes of jobs

void Session::on_results(queue::Job& job, std::uint32_t index, std::uint32_t, const Prefix& form,
                         std::span<const std::byte> table, std::span<const std::byte> payload,
                         std::span<const std::string> refs) {
  hold_refs(refs);
  const auto head = refs.empty() ? std::string{} : encode(ResultRefs{{refs.begin(), refs.end()}});
  Prefix prefix{.op = Op::results,
                .flags = static_cast<std::uint8_t>(form.flags & kInArena),
                .encoding = form.encoding,
                .target = index,
                .count = form.count,
                .request = job.request};
  if (!job.is_map) {
    prefix.op = Op::result;
    prefix.target = 0;
    channel_.send(prefix, head, payload);
  } else {
    channel_.send(prefix, head, table, payload);
  }
  update_credit();
}

void Session::on_failed(queue::Job& job, std::uint32_t index, std::uint32_t count, const ErrorHead& error) {
  if (!job.is_map) return reply_error(job.request, error);
  channel_.send(Prefix{.op = Op::failed, .target = index, .count = count, .request = job.request}, encode(error));
  update_credit();
}

void Session::on_progress(queue::Job& job, std::uint32_t index, const Report& report) {
  if (!job.call->call.announce || !report.log.empty()) return;
  Progress progress;
  progress.task = core_.jobs.text(job.id);
  if (job.is_map) progress.index = index;
  progress.done = report.done;
  progress.total = report.total;
  progress.message = report.message;
  channel_.send(Prefix{.op = Op::progress, .request = job.request}, encode(progress));
}

void Session::send_done(const queue::Job& job, std::uint64_t request) {
  const Done done{job.total, job.succeeded, job.failed, job.cancelled_items};
  channel_.send(Prefix{.op = Op::done, .request = request}, encode(done));
}

bool Session::on_done(queue::Job& job) {
  if (job.is_map) {
    send_done(job, job.request);
    open_maps_.erase(job.request);
  }
  job.owner_hook.unlink();
  return false;
}

void Session::update_credit() {
  const auto limit = core_.config.session_result_bytes;
  const bool too_many_bytes = channel_.queued() > limit;
  const bool too_much = too_many_bytes || core_.arenas.down_used(number_) > core_.config.arena_bytes / 2;
  if (too_many_bytes) channel_.on_drained(limit / 2, [this] { update_credit(); });
  if (too_much == paused_) return;
  paused_ = too_much;
  for (const auto& pool : core_.pools.all()) pool->queue().pause_session(who_.uid, number_, paused_);
  core_.turn.end_later();
}

}  // namespace taskpool::server

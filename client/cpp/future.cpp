#include "taskpool/future.hpp"

#include "client/cpp/connection.hpp"
#include "client/cpp/waiting.hpp"

namespace taskpool {

Error to_error(const ErrorHead& head) {
  if (head.type.empty()) return fail(head.code, head.detail);
  return fail(head.code, head.detail.empty() ? head.type : head.type + ": " + head.detail);
}

RawFuture::RawFuture() = default;
RawFuture::RawFuture(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::Pending> pending)
    : connection_{std::move(connection)}, pending_{std::move(pending)} {}
RawFuture::RawFuture(RawFuture&&) noexcept = default;
RawFuture& RawFuture::operator=(RawFuture&&) noexcept = default;
RawFuture::~RawFuture() = default;

bool RawFuture::ready() const { return !pending_ || pending_->ended(); }

bool RawFuture::wait_for(std::chrono::milliseconds timeout) {
  return !pending_ || connection_->wait(*pending_, client::deadline_after(timeout));
}

Result<Body> RawFuture::get() {
  if (!pending_) return fail(Errc::bad_argument, "the result was taken already");
  auto& reply = static_cast<client::Reply&>(*pending_);
  if (!connection_->wait(reply, {})) return connection_->inherited();
  auto result = reply.take();
  if (reply.failure) failure_ = *reply.failure;
  pending_.reset();
  return result;
}

Result<std::uint64_t> RawFuture::cancel(CancelMode mode) {
  if (!pending_) return std::uint64_t{0};
  return connection_->cancel(*pending_, mode);
}

std::string RawFuture::task() const { return pending_ ? client::task_of(*connection_, *pending_) : std::string{}; }

std::optional<Progress> RawFuture::progress() const {
  return pending_ ? client::progress_of(*connection_, *pending_) : std::nullopt;
}

void RawFuture::on_progress(ProgressCallback callback) {
  if (pending_) client::set_callback(*connection_, *pending_, std::move(callback));
}

}  // namespace taskpool

#include "daemon/wire/channel.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <initializer_list>
#include <utility>

#include "daemon/os/fd_passing.hpp"
#include "daemon/wire/spawn.hpp"

namespace taskpool::wire {

namespace {
constexpr std::size_t kReadBytes = 64 * 1024;
/// Reads of one peer in a row, so that one who never stops talking does not keep the others waiting.
constexpr int kReadsPerWake = 4;
}  // namespace

Channel::Channel(Turn& turn, os::UniqueFd socket) : turn_{turn}, socket_{turn.io(), socket.release()} {}

Channel::~Channel() { turn_.forget(*this); }

boost::asio::awaitable<Result<void>> Channel::read(FrameSink& sink) {
  while (!closed_) {
    if (paused_ && !hung_up_) {
      co_await wait_resumed();
      continue;
    }
    if (out_.size() > most_unsent_) {
      const auto [error] = co_await socket_.async_wait(asio::posix::descriptor_base::wait_write, kTuple);
      if (error) break;
      continue;
    }
    if (has_frames_) {
      co_await asio::post(turn_.io(), kTuple);  // the others' turn
      if (closed_) break;
    } else {
      const auto [error] = co_await socket_.async_wait(asio::posix::descriptor_base::wait_read, kTuple);
      if (error) break;  // close() cancelled it
    }
    const auto handled = handle_what_came(sink);
    if (!handled) co_return handled.error();
    if (end_seen_ && !has_frames_) break;
  }
  if (end_seen_ && !decoder_.at_border()) co_return fail(Errc::bad_message, "the stream ended inside a frame");
  co_return boost::system::in_place_value;
}

Result<void> Channel::handle_what_came(FrameSink& sink) {
  answering_ = answers_at_once_;
  const auto handled = receive_and_handle(sink);
  answering_ = false;
  if (!out_.empty() && !dirty_ && !writing_) flush();
  return handled;
}

Result<void> Channel::receive_and_handle(FrameSink& sink) {
  TimeSlice slice;  // a read may bring a thousand frames that cost some microseconds each
  for (int reads = 0; reads < kReadsPerWake; ++reads) {
    const auto more = has_frames_ ? Result<bool>{false} : receive_once();
    if (!more) return more.error();
    if (const auto handled = handle_frames(sink, &slice); !handled) return handled.error();
    if (!*more || has_frames_ || closed_ || paused_) break;
  }
  sink.on_batch();
  return boost::system::in_place_value;
}

void Channel::pause(bool is_paused) {
  paused_ = is_paused;
  if (!is_paused && resumed_) resumed_->cancel();
}

/// Until the pause ends, the channel is closed, or the peer is gone.
asio::awaitable<void> Channel::wait_resumed() {
  using namespace asio::experimental::awaitable_operators;
  if (!resumed_) resumed_ = std::make_unique<asio::steady_timer>(turn_.io());
  resumed_->expires_at(asio::steady_timer::time_point::max());
  const auto first =
      co_await (resumed_->async_wait(kTuple) || socket_.async_wait(asio::posix::descriptor_base::wait_error, kTuple));
  if (const auto* gone = std::get_if<1>(&first); gone != nullptr && !std::get<0>(*gone)) hung_up_ = true;
}

Result<void> Channel::read_rest(FrameSink& sink) {
  for (bool more = true;;) {
    if (const auto handled = handle_frames(sink, nullptr); !handled) return handled.error();
    if (end_seen_ || !more) break;
    const auto received = receive_once();
    if (!received) return received.error();
    more = *received;
  }
  sink.on_batch();
  return boost::system::in_place_value;
}

Result<bool> Channel::receive_once() {
  if (!decoder_.has_memory()) decoder_.lend(turn_.borrow());
  const auto room = decoder_.prepare(kReadBytes).first(kReadBytes);
  const auto received = os::receive(socket_.native_handle(), room, received_fds_);
  if (!received) return received.error();
  decoder_.commit(received->bytes);
  end_seen_ = received->closed;
  return received->bytes == room.size();
}

Result<void> Channel::handle_frames(FrameSink& sink, TimeSlice* slice) {
  has_frames_ = false;
  while (!closed_) {
    has_frames_ = slice != nullptr && !slice->has_time();
    if (has_frames_) break;
    auto frame = decoder_.next();
    if (!frame) return frame.error();
    if (!*frame) {
      turn_.give_back(decoder_.take_back());
      break;
    }
    auto fds = os::take_fds(received_fds_, (*frame)->prefix.fds);
    if (!fds) return fds.error();
    if (const auto handled = sink.on_frame(**frame, std::move(*fds)); !handled) return handled.error();
  }
  // Those of frames that wait for the next turn are their own.
  if (!has_frames_ && received_fds_.size() > kMaxFrameFds)
    return fail(Errc::bad_message, "fds: more descriptors than frames take");
  return boost::system::in_place_value;
}

ByteBuffer& Channel::out() {
  if (out_.capacity() == 0) out_ = turn_.borrow();
  return out_;
}

void Channel::mark_dirty() {
  if (dirty_ || writing_ || answering_) return;
  dirty_ = true;
  turn_.flush_later(*this);
}

void Channel::send(const Prefix& prefix, std::string_view head, std::span<const std::byte> body) {
  if (closed_) return;
  append_frame(out(), prefix, head, body);
  mark_dirty();
}

void Channel::send(const Prefix& prefix, std::string_view head, std::span<const std::byte> first,
                   std::span<const std::byte> second, std::span<const std::byte> third) {
  if (closed_) return;
  auto complete = prefix;
  complete.head = static_cast<std::uint16_t>(head.size());
  complete.body = static_cast<std::uint32_t>(first.size() + second.size() + third.size());
  const auto bytes = kPrefixBytes + complete.head + complete.body;
  auto* into = out().prepare(bytes).data();
  encode_prefix(complete, std::span<std::byte, kPrefixBytes>{into, kPrefixBytes});
  into += kPrefixBytes;
  for (const auto part : {as_bytes(head), first, second, third}) {
    if (!part.empty()) std::memcpy(into, part.data(), part.size());
    into += part.size();
  }
  out_.commit(bytes);
  mark_dirty();
}

Result<void> Channel::send_with(Prefix prefix, std::string_view head, std::span<const std::byte> body,
                                std::span<const int> fds) {
  if (closed_) return boost::system::in_place_value;
  Passing passing{sent_bytes_ + out_.size(), {}};
  for (const int fd : fds) {
    os::UniqueFd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    if (!copy) return errno_error("duplicate a descriptor to pass");
    passing.fds.push_back(std::move(copy));
  }
  prefix.fds = static_cast<std::uint8_t>(fds.size());
  append_frame(out(), prefix, head, body);
  if (!passing.fds.empty()) passing_.push_back(std::move(passing));
  mark_dirty();
  return boost::system::in_place_value;
}

void Channel::flush() {
  dirty_ = false;
  while (!out_.empty() && !closed_) {
    auto bytes = out_.data();
    std::vector<int> fds;
    if (!passing_.empty()) {
      // Descriptors travel with the first byte of what is written at once, which has to be their frame's.
      const auto ahead = passing_.front().position - sent_bytes_;
      if (ahead == 0) {
        for (const auto& fd : passing_.front().fds) fds.push_back(fd.get());
        if (passing_.size() > 1) bytes = bytes.first(passing_[1].position - sent_bytes_);
      } else {
        bytes = bytes.first(ahead);
      }
    }
    const auto sent = os::send(socket_.native_handle(), bytes, fds);
    if (!sent) {  // the peer is gone: the reader sees that too, and ends the channel
      out_.clear();
      passing_.clear();
      break;
    }
    if (*sent == 0) {
      wait_writable();
      break;
    }
    if (!fds.empty()) passing_.pop_front();
    sent_bytes_ += *sent;
    out_.consume(*sent);
  }
  if (out_.empty()) turn_.give_back(std::exchange(out_, {}));
  if (out_.empty() && close_when_empty_) close();
  if (drained_ && out_.size() <= low_) {
    const auto call = std::move(drained_);
    drained_ = nullptr;
    call();
  }
}

void Channel::wait_writable() {
  writing_ = true;
  socket_.async_wait(asio::posix::descriptor_base::wait_write,
                     [this, alive = std::weak_ptr<bool>{alive_}](const error_code& error) {
                       if (alive.expired() || error) return;
                       writing_ = false;
                       flush();
                     });
}

void Channel::on_drained(std::size_t low, std::function<void()> call) {
  low_ = low;
  drained_ = std::move(call);
}

void Channel::close() {
  if (closed_) return;
  closed_ = true;
  ::shutdown(socket_.native_handle(), SHUT_RDWR);
  error_code ignored;
  socket_.cancel(ignored);
}

void Channel::close_after_flush() {
  if (out_.empty()) return close();
  close_when_empty_ = true;
}

}  // namespace taskpool::wire

#include "daemon/runtime/channel.hpp"

#include <utility>

#include "daemon/os/fd_passing.hpp"

namespace taskpool::runtime {
namespace {
constexpr std::size_t kReadBytes = 64 * 1024;
}

Channel::Channel(os::UniqueFd socket) : socket_{std::move(socket)}, decoder_{std::make_unique<FrameDecoder>()} {}

Result<std::optional<IncomingFrame>> Channel::next() {
  held_.reset();
  current_.reset();
  if (kept_.empty()) return decode();
  current_ = std::move(kept_.front());
  kept_.pop_front();
  return IncomingFrame{{current_->prefix, current_->head, current_->body}, std::move(current_->fds)};
}

Result<std::optional<IncomingFrame>> Channel::decode() {
  const auto frame = decoder_->next();
  if (!frame) return frame.error();
  if (!*frame) return std::nullopt;
  auto fds = os::take_fds(arrived_fds_, (*frame)->prefix.fds);
  if (!fds) return fds.error();
  return IncomingFrame{**frame, std::move(*fds)};
}

Result<bool> Channel::receive() {
  const auto received = os::receive_blocking(socket_.get(), decoder_->prepare(kReadBytes), arrived_fds_);
  if (!received) return received.error();
  decoder_->commit(received->bytes);
  return !received->closed;
}

Result<void> Channel::send(std::span<const std::byte> bytes, std::span<const int> fds) {
  return os::send_all(socket_.get(), bytes, fds);
}

Result<void> Channel::send(const Prefix& prefix, std::string_view head, std::span<const std::byte> body,
                           std::span<const int> fds) {
  ByteBuffer out;
  auto counted = prefix;
  counted.fds = static_cast<std::uint8_t>(fds.size());
  append_frame(out, counted, head, body);
  return send(out.data(), fds);
}

Result<void> Channel::wait_for(const std::function<Verdict(IncomingFrame&)>& judge) {
  if (!held_ && !current_) {
    const auto rest = decoder_->rest();
    auto decoder = std::make_unique<FrameDecoder>();
    decoder->feed(rest);
    held_ = std::exchange(decoder_, std::move(decoder));
  }
  for (;;) {
    auto decoded = decode();
    if (!decoded) return decoded.error();
    auto& frame = *decoded;
    if (!frame) {
      const auto more = receive();
      if (!more) return more.error();
      if (!*more) return fail(Errc::daemon_gone, "the supervisor has closed the channel");
      continue;
    }
    switch (judge(*frame)) {
      case Verdict::found: return {};
      case Verdict::handled: break;
      case Verdict::keep:
        kept_.push_back({frame->view.prefix,
                         std::string{frame->view.head},
                         {frame->view.body.begin(), frame->view.body.end()},
                         std::move(frame->fds)});
        break;
    }
  }
}

}  // namespace taskpool::runtime

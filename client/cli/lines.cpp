#include "client/cli/lines.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

namespace taskpool::cli {
namespace {

constexpr std::size_t kReadBytes = 1u << 16;

}  // namespace

LineReader::LineReader(int fd, char delimiter, int stop_fd)
    : fd_{fd}, stop_fd_{stop_fd}, delimiter_{delimiter}, buffer_(kReadBytes) {}

bool LineReader::has_line() const {
  return ended_ || (end_ > scanned_ && std::memchr(buffer_.data() + scanned_, delimiter_, end_ - scanned_) != nullptr);
}

Result<std::optional<std::string_view>> LineReader::next() {
  for (;;) {
    const char* const base = buffer_.data();
    const void* const found = end_ > scanned_ ? std::memchr(base + scanned_, delimiter_, end_ - scanned_) : nullptr;
    if (found == nullptr && !ended_) {
      scanned_ = end_;
      if (end_ - begin_ > kMaxLineBytes)
        return fail(Errc::body_too_large,
                    "line " + std::to_string(number_ + 1) + ": above " + std::to_string(kMaxLineBytes) + " bytes");
      if (auto filled = fill(); !filled) return filled.error();
      continue;
    }
    if (found == nullptr && begin_ == end_) return std::nullopt;
    const auto stop = found ? static_cast<std::size_t>(static_cast<const char*>(found) - base) : end_;
    std::string_view line{base + begin_, stop - begin_};
    begin_ = scanned_ = found ? stop + 1 : end_;
    ++number_;
    if (delimiter_ == '\n' && !line.empty() && line.back() == '\r') line.remove_suffix(1);
    return line;
  }
}

/// Waits for more bytes and appends them. Sets `ended_` at the end of the input, or if asked to stop.
Result<void> LineReader::fill() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    scanned_ -= begin_;
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) buffer_.resize(buffer_.size() * 2);
  for (;;) {
    std::array<pollfd, 2> waits{{{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}}};  // poll skips a descriptor of -1
    if (::poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return errno_error("standard input");
    }
    if (waits[1].revents != 0) {
      begin_ = end_;  // what is half read was not asked for any more
      ended_ = true;
      return {};
    }
    const auto got = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return errno_error("standard input");
    if (got == 0) ended_ = true;
    end_ += static_cast<std::size_t>(got);
    return {};
  }
}

}  // namespace taskpool::cli

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "proto/result.hpp"

namespace taskpool::cli {

/// Longest line that is read. Bytes. With the windows of `map` it keeps the program below 64 MB.
inline constexpr std::size_t kMaxLineBytes = 8u << 20;

/// Cuts what it reads from a descriptor into lines.
class LineReader {
 public:
  /// Reads `fd`, which it does not own, up to the end; lines end with `delimiter`. `stop_fd`, or -1, ends the reading
  /// early as soon as it is readable.
  LineReader(int fd, char delimiter, int stop_fd = -1);

  /// The next line without its end ("\r\n" counts as one), viewing this reader until the next call; nothing at the end
  /// of the input or once stopped. A last line needs no end. Waits for input. Errors: `body_too_large` above
  /// kMaxLineBytes, `system`; detail names the line.
  Result<std::optional<std::string_view>> next();
  /// True if next() would not wait.
  bool has_line() const;
  /// The number of the line that next() returned last, from 1.
  std::uint64_t number() const { return number_; }

 private:
  Result<void> fill();

  int fd_;
  int stop_fd_;
  char delimiter_;
  bool ended_ = false;
  std::uint64_t number_ = 0;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;    ///< First byte not yet returned.
  std::size_t end_ = 0;      ///< After the last byte read.
  std::size_t scanned_ = 0;  ///< No delimiter before this one.
};

}  // namespace taskpool::cli

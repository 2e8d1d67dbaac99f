#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proto/result.hpp"

namespace taskpool::cli {

/// "350ms", "1.2s", "2m05s", "3h12m", "4d03h".
std::string human_duration(std::chrono::milliseconds time);
/// "512 B", "1.5 MB": powers of 1024, as `ls -h` and `ps` count.
std::string human_bytes(std::uint64_t bytes);
/// Text of somebody else's, safe to show: control characters and what is not UTF-8 become \xNN, so that no name can
/// drive the terminal.
std::string printable(std::string_view text);
/// Columns that `text` takes on a terminal, counting one for each UTF-8 character.
std::size_t display_width(std::string_view text);

/// Rows of text in aligned columns, the heading in capitals; two blanks between columns and none at a line's end.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string_view heading;
    Align align = Align::left;
  };

  explicit Table(std::vector<Column> columns) : columns_{std::move(columns)} {}
  /// One cell a column. They are made printable.
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Collects output for a descriptor and writes it in large pieces. After an error, of which EPIPE is the one to expect,
/// the rest is dropped and every call says so.
class Writer {
 public:
  explicit Writer(int fd) : fd_{fd} {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  /// Error: as flush(), which it calls when enough has come together.
  Result<void> write(std::string_view text);
  /// Waits until all is written. Error: `system`, once and for all.
  Result<void> flush();
  /// True if something waits to be flushed.
  bool pending() const { return !pending_.empty(); }
  bool broken() const { return error_ != 0; }
  /// errno of the failed write; 0 if none failed.
  int error_number() const { return error_; }

 private:
  int fd_;
  int error_ = 0;
  std::string pending_;
};

/// Ends the program as one that wrote into a closed pipe ends.
[[noreturn]] void end_like_sigpipe();

}  // namespace taskpool::cli

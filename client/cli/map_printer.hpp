#pragma once

#include <cstdint>
#include <string>

#include "client/cli/arguments.hpp"
#include "client/cli/output.hpp"
#include "taskpool/client.hpp"

namespace taskpool::cli {

/// Shows what becomes of a map's items. Failures go to standard error at once, after what was printed before them.
class MapPrinter {
 public:
  virtual ~MapPrinter() = default;

  /// Shows a result, or what stands for it after a failure. An item that `stop_on_error` or an interrupt kept from
  /// running is not one of these.
  void take(const Outcome& outcome);
  /// After the last: closes what is open.
  virtual void finish() {}

  Writer& out() { return out_; }
  std::uint64_t failed() const { return failed_; }

 protected:
  MapPrinter() = default;
  virtual void result(std::uint64_t index, const Item& value) = 0;
  virtual void failure(const ErrorHead& error) = 0;
  /// Counts a failure and tells the person who waits.
  void report(std::uint64_t index, std::string_view what);
  /// Counts a failure that needs no words.
  void count_failure() { ++failed_; }

 private:
  Writer out_{1};
  std::uint64_t failed_ = 0;
};

/// How the results of functions are printed.
struct ResultStyle {
  Format format = Format::json;
  bool as_list = false;      ///< One JSON list; else one result a line.
  bool show_errors = false;  ///< A failed item is an object with its error; else null, or an empty line of text.
  bool of_commands = false;  ///< Results are those of commands: one that failed counts as a failure.
};

/// Prints results as they are.
class ResultPrinter : public MapPrinter {
 public:
  explicit ResultPrinter(ResultStyle style) : style_{style} {}
  void finish() override;

 protected:
  void result(std::uint64_t index, const Item& value) override;
  void failure(const ErrorHead& error) override;

 private:
  void show(std::string_view text);

  ResultStyle style_;
  std::string list_;
};

/// Passes on what commands printed.
class CommandPrinter : public MapPrinter {
 protected:
  void result(std::uint64_t index, const Item& value) override;
  void failure(const ErrorHead&) override {}
};

}  // namespace taskpool::cli

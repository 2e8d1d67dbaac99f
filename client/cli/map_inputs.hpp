#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/lines.hpp"
#include "proto/result.hpp"

namespace taskpool::cli {

/// Makes the item of one word or line.
using Encode = std::function<Result<std::string>(std::string_view)>;

/// Where a map's items come from.
class Inputs {
 public:
  virtual ~Inputs() = default;
  /// The next item, or nothing at the end. May wait. Error: as Encode; detail names the input.
  virtual Result<std::optional<std::string>> next() = 0;
  /// True if next() would not wait.
  virtual bool ready() const = 0;
};

/// The words of a command line: all of them are checked before anything runs.
class WordInputs : public Inputs {
 public:
  static Result<WordInputs> make(const std::vector<std::string>& words, const Encode& encode);
  Result<std::optional<std::string>> next() override;
  bool ready() const override { return true; }

 private:
  explicit WordInputs(std::vector<std::string> items) : items_{std::move(items)} {}
  std::vector<std::string> items_;
  std::size_t next_ = 0;
};

/// The lines of a descriptor.
class LineInputs : public Inputs {
 public:
  LineInputs(LineReader reader, Encode encode) : reader_{std::move(reader)}, encode_{std::move(encode)} {}
  Result<std::optional<std::string>> next() override;
  bool ready() const override { return reader_.has_line(); }

 private:
  LineReader reader_;
  Encode encode_;
};

}  // namespace taskpool::cli

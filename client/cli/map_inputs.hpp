#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/lines.hpp"
#include "proto/result.hpp"
#include "taskpool/body.hpp"

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

/// Inputs as they travel: each as an item of its own, or, if they are elements of an array, many at a time.
class ItemFeed {
 public:
  /// `element`: the type of the inputs, which to_number() made; `none` if they are JSON.
  ItemFeed(Inputs& inputs, Encoding element) : inputs_{inputs}, element_{element} {}
  /// The next item, which views this until the next call; nothing at the end. Errors: as Inputs::next(), after the
  /// items before it.
  Result<std::optional<Item>> next();
  bool ready() const { return error_ || inputs_.ready(); }

 private:
  Inputs& inputs_;
  const Encoding element_;
  std::string bytes_;
  std::optional<Error> error_;
};

}  // namespace taskpool::cli

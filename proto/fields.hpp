#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/limits.hpp"
#include "proto/result.hpp"

namespace taskpool {

using Json = nlohmann::json;

/// Parses one JSON value in UTF-8 that somebody else wrote, or nothing if it is none or nests deeper than
/// kMaxJsonDepth.
std::optional<Json> parse_json(std::string_view text);

/// Writes a value as JSON; text that is not UTF-8 is repaired.
std::string dump_json(const Json& value);

/// Reads the fields of one JSON object, each checked for type and range. An absent field leaves what it would be read
/// into as it is. The first thing wrong is kept and every later read is skipped, so that a decoder is a list of reads
/// and one finish().
class Fields {
 public:
  /// `head` is a frame's head: JSON, or empty for an object without fields.
  explicit Fields(std::string_view head);
  /// Reads a value that is parsed already.
  explicit Fields(Json object);

  void text(const char* key, std::string& into, std::size_t max_bytes);
  void integer(const char* key, std::uint64_t& into, std::uint64_t max);
  void integer(const char* key, std::uint32_t& into, std::uint32_t max = 0xffffffffu);
  void integer(const char* key, std::int64_t& into);
  void integer(const char* key, int& into, int min, int max);
  /// A field that may be absent: `into` stays empty then.
  template <class T, class... Bounds>
  void integer(const char* key, std::optional<T>& into, Bounds... bounds) {
    if (find(key) != nullptr) integer(key, into.emplace(), bounds...);
  }
  void number(const char* key, double& into);
  void number(const char* key, std::optional<double>& into) {
    if (find(key) != nullptr) number(key, into.emplace());
  }
  void boolean(const char* key, bool& into);
  void texts(const char* key, std::vector<std::string>& into, std::size_t max_count, std::size_t max_bytes);
  void text_map(const char* key, std::map<std::string, std::string>& into, std::size_t max_count,
                std::size_t max_bytes);
  /// One JSON value of the given kind, kept as text.
  void raw(const char* key, std::string& into, Json::value_t kind);
  /// An object of its own, if present; its fields are read through the returned reader, whose finish() goes to join().
  std::optional<Fields> object(const char* key);
  /// An array of objects; the same.
  std::vector<Fields> objects(const char* key, std::size_t max_count);
  /// Makes what was wrong in a field's own object this object's error.
  void join(const char* key, const Result<void>& inner);
  /// Makes an absent field an error.
  void require(const char* key);
  /// Records an error of the caller's own about a field.
  void reject(const char* key, std::string why);

  /// Ends the reading. `strict` refuses fields that nothing asked for: requests do, replies do not.
  Result<void> finish(bool strict);

 private:
  Json* find(const char* key);
  /// The field, to be read by the caller and then not offered again.
  std::optional<Json> take(const char* key);

  Json object_;  ///< Null stands for an object without fields. A field that was read is set to `discarded`.
  std::optional<Error> error_;
};

}  // namespace taskpool

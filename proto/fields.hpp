#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "proto/result.hpp"

namespace taskpool {

using Json = nlohmann::json;

/// Reads the fields of one JSON object, each checked for type and range. The first thing wrong is kept and every later
/// read is skipped, so that a decoder is a list of reads and one finish().
class Fields {
 public:
  /// `head` is a frame's head: JSON, or empty for an object without fields.
  explicit Fields(std::string_view head);

  void text(const char* key, std::string& into, std::size_t max_bytes);
  void integer(const char* key, std::uint64_t& into, std::uint64_t max);
  void integer(const char* key, std::uint32_t& into, std::uint32_t max = 0xffffffffu);
  void integer(const char* key, std::int64_t& into);
  void integer(const char* key, int& into, int min, int max);
  void number(const char* key, double& into);
  void boolean(const char* key, bool& into);
  void texts(const char* key, std::vector<std::string>& into, std::size_t max_count, std::size_t max_bytes);
  void text_map(const char* key, std::map<std::string, std::string>& into, std::size_t max_count,
                std::size_t max_bytes);
  /// One JSON value of the given kind, kept as text.
  void raw(const char* key, std::string& into, Json::value_t kind);
  /// The same for a field that may be absent: `into` stays empty then.
  template <class T, class... Bounds>
  void optional(const char* key, std::optional<T>& into, void (Fields::*read)(const char*, T&, Bounds...),
                std::type_identity_t<Bounds>... bounds) {
    if (!find(key)) return;
    T value{};
    (this->*read)(key, value, bounds...);
    into = value;
  }
  /// An object of its own, if present; its fields are read through the returned reader.
  std::optional<Fields> object(const char* key);
  /// An array of objects.
  std::vector<Fields> objects(const char* key, std::size_t max_count);
  /// Makes an absent field an error.
  void require(const char* key);
  /// Records an error of the caller's own about a field.
  void reject(const char* key, std::string why);

  /// Ends the reading. `strict` refuses fields that nothing asked for: requests do, replies do not.
  Result<void> finish(bool strict);
};

}  // namespace taskpool

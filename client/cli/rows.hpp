#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "client/cli/session.hpp"

namespace taskpool::cli {

enum class Shows { text, number, time, bytes, progress, user };

/// A column, and the field of a reply's rows that it shows.
struct Field {
  const char* heading;
  const char* key;
  Shows shows = Shows::text;
};

/// The user's name on this host; the number as text where it has none.
std::string user_name(std::uint64_t uid);
std::string group_name(std::uint64_t gid);

/// Prints a reply as JSON, or its list `key` as a table.
Result<int> show_rows(const Invocation& invocation, const Result<nlohmann::json>& reply, const char* key,
                      std::span<const Field> fields);

}  // namespace taskpool::cli

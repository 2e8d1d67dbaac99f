#include "client/cli/rows.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

namespace taskpool::cli {
namespace {

using nlohmann::json;

std::string text_of(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? "" : value.dump();
}

/// "12/100" of a job, nothing of a single task.
std::string progress_of(const json& row) {
  const auto total = row.find("total");
  if (row.value("kind", "") != "job" || total == row.end()) return "";
  return fmt::format("{}/{}", text_of(row.value("done", json(0))), text_of(*total));
}

std::string cell(const json& row, const Field& field) {
  if (field.shows == Shows::progress) return progress_of(row);
  const auto value = row.find(field.key);
  if (value == row.end() || value->is_null()) return "";
  if (!value->is_number_unsigned() && !value->is_number_integer()) return text_of(*value);
  if (field.shows == Shows::time) return human_duration(std::chrono::milliseconds{value->get<std::int64_t>()});
  if (field.shows == Shows::bytes) return human_bytes(value->get<std::uint64_t>());
  if (field.shows == Shows::user) return user_name(value->get<std::uint64_t>());
  return text_of(*value);
}

std::string table_of(const json& rows, std::span<const Field> fields) {
  std::vector<Table::Column> columns;
  for (const auto& field : fields)
    columns.push_back({field.heading, field.shows == Shows::text || field.shows == Shows::user ? Table::Align::left
                                                                                               : Table::Align::right});
  Table table{std::move(columns)};
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const auto& field : fields) cells.push_back(cell(row, field));
    table.add(std::move(cells));
  }
  return table.text();
}

}  // namespace

std::string user_name(std::uint64_t uid) {
  const auto* const user = ::getpwuid(static_cast<uid_t>(uid));
  return user != nullptr ? user->pw_name : std::to_string(uid);
}

std::string group_name(std::uint64_t gid) {
  const auto* const group = ::getgrgid(static_cast<gid_t>(gid));
  return group != nullptr ? group->gr_name : std::to_string(gid);
}

Result<int> show_rows(const Invocation& invocation, const Result<json>& reply, const char* key,
                      std::span<const Field> fields) {
  if (!reply) return reply.error();
  const auto rows = reply->find(key);
  const auto text = invocation.globals.json || rows == reply->end() ? reply->dump() + "\n" : table_of(*rows, fields);
  if (auto printed = print(text); !printed) return printed.error();
  if (reply->value("more", false)) complain("there are more; --limit shows them");
  return kDone;
}

}  // namespace taskpool::cli

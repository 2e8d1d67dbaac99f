#include "daemon/server/audit.hpp"

#include <array>
#include <nlohmann/json.hpp>

namespace taskpool::server {

bool is_audited(const Config& config, bool minor) {
  return config.audit == "all" || (!minor && config.audit == "changes");
}

void audit(const Author& author, Op op, std::vector<log::Field> about, const Result<void>& outcome) {
  std::vector<log::Field> line{
      {"op", taskpool::name(op)}, {"uid", author.uid}, {"pid", author.pid}, {"session", author.session}};
  for (auto& field : about) line.push_back(std::move(field));
  line.emplace_back("outcome", outcome ? "ok" : taskpool::name(outcome.error().errc()));
  if (!outcome) line.emplace_back("detail", outcome.error().detail);
  log::write(log::Level::info, "audit", line);
}

std::vector<log::Field> about_of(std::string_view head) {
  std::vector<log::Field> about;
  const auto fields = nlohmann::json::parse(head, nullptr, false);
  if (!fields.is_object()) return about;
  for (const char* key : {"task", "function", "pool", "name", "object", "group"})
    if (const auto field = fields.find(key); field != fields.end() && field->is_string())
      about.emplace_back(key, field->get_ref<const std::string&>());
  return about;
}

}  // namespace taskpool::server

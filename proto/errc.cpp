#include "proto/errc.hpp"

#include <array>
#include <ostream>
#include <string>

namespace taskpool {
namespace {

/// In the order of the enumerators.
constexpr std::array<std::string_view, 45> kNames{
    "ok",
    "bad_message",
    "frame_too_large",
    "unsupported_version",
    "bad_argument",
    "unknown_function",
    "unknown_pool",
    "unknown_task",
    "not_finished",
    "no_output",
    "queue_full",
    "draining",
    "pool_closed",
    "body_too_large",
    "out_of_space",
    "not_encodable",
    "task_failed",
    "worker_lost",
    "out_of_memory",
    "timed_out",
    "cancelled",
    "nesting_too_deep",
    "start_failed",
    "spawn_failed",
    "permission_denied",
    "limit_reached",
    "unknown_object",
    "object_exists",
    "wrong_type",
    "unknown_key",
    "bad_key",
    "out_of_range",
    "changed",
    "store_full",
    "bad_segment",
    "too_busy",
    "busy",
    "not_owner",
    "broken",
    "already_running",
    "no_daemon",
    "daemon_gone",
    "outcome_unknown",
    "system",
    "internal",
};
static_assert(kNames.size() == static_cast<std::size_t>(Errc::internal) + 1, "a name for every code");

class Category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "taskpool"; }
  std::string message(int value) const override {
    const auto index = static_cast<std::size_t>(value);
    return index < kNames.size() ? std::string{kNames[index]} : "unknown error " + std::to_string(value);
  }
};

}  // namespace

std::string_view name(Errc code) {
  const auto index = static_cast<std::size_t>(code);
  return index < kNames.size() ? kNames[index] : "internal";
}

std::optional<Errc> find_errc(std::string_view wanted) {
  for (std::size_t index = 0; index < kNames.size(); ++index)
    if (kNames[index] == wanted) return static_cast<Errc>(index);
  return std::nullopt;
}

std::ostream& operator<<(std::ostream& out, Errc code) { return out << name(code); }

const boost::system::error_category& taskpool_category() noexcept {
  static const Category category;
  return category;
}

}  // namespace taskpool

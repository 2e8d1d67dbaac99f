#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "client/cpp/connection.hpp"

/// What the handles of requests under way (RawFuture, MapCall, MapStream) have in common.
namespace taskpool::client {

inline Deadline deadline_after(std::chrono::milliseconds timeout) {
  // Far more than anybody waits for, and no overflow.
  return Clock::now() + std::min<std::chrono::milliseconds>(timeout, std::chrono::hours{24 * 365});
}

inline std::string task_of(Connection& connection, const Pending& pending) {
  if (connection.is_inherited()) return {};
  const auto lock = connection.lock();
  const auto* extras = pending.find_extras();
  return extras == nullptr ? std::string{} : extras->task;
}

inline std::optional<Progress> progress_of(Connection& connection, const Pending& pending) {
  if (connection.is_inherited()) return std::nullopt;
  const auto lock = connection.lock();
  const auto* extras = pending.find_extras();
  return extras == nullptr ? std::nullopt : extras->progress;
}

inline void set_callback(Connection& connection, Pending& pending, ProgressCallback callback) {
  if (connection.is_inherited()) return;
  const auto lock = connection.lock();
  pending.extras().callback = std::move(callback);
}

}  // namespace taskpool::client

#include <algorithm>

#include "client/cpp/connection.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// Functions whose prepared call is remembered by name.
constexpr std::size_t kMaxRemembered = 1024;

}  // namespace

std::shared_ptr<Prepared> Connection::prepared(const std::string& pool, const std::string& function,
                                               std::uint64_t pool_epoch) {
  std::string key;
  key.reserve(pool.size() + function.size() + 1);
  key.append(pool).append(1, '\0').append(function);
  const Lock lock{mutex_};
  const auto found = by_name_.find(key);
  if (found != by_name_.end() && found->second->pool_epoch == pool_epoch) return found->second;
  auto made = std::make_shared<Prepared>();
  Call call;
  call.function = function;
  call.pool = pool;
  made->head = encode(call);
  made->pool_epoch = pool_epoch;
  if (by_name_.size() >= kMaxRemembered) by_name_.clear();
  by_name_.insert_or_assign(std::move(key), made);
  return made;
}

std::uint32_t Connection::number_of(const std::shared_ptr<Prepared>& prepared) {
  if (prepared->epoch == epoch_ && epoch_ != 0) return prepared->number;
  const auto free = numbers_.size() < kMaxPreparedCalls ? numbers_.end()
                                                        : std::find_if(numbers_.begin(), numbers_.end(),
                                                                       [](const auto& each) { return each.expired(); });
  if (free != numbers_.end()) {
    *free = prepared;
    prepared->number = static_cast<std::uint32_t>(free - numbers_.begin() + 1);
  } else if (numbers_.size() < kMaxPreparedCalls) {
    numbers_.push_back(prepared);
    prepared->number = static_cast<std::uint32_t>(numbers_.size());
  } else {
    return 0;
  }
  append_prepare(prepared);
  return prepared->number;
}

void Connection::append_prepare(const std::shared_ptr<Prepared>& prepared) {
  // Nobody waits for the reply: where it is an error, each use gets the same one.
  const auto reply = std::make_shared<Reply>();
  register_request(reply);
  reply->bound = true;
  Prefix prefix;
  prefix.op = Op::prepare;
  prefix.request = reply->request;
  prefix.target = prepared->number;
  append(prefix, prepared->head, {});
  prepared->epoch = epoch_;
}

}  // namespace taskpool::client

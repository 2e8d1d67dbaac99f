#include "daemon/store/objects.hpp"

namespace taskpool::store {

Client* Reply::find() const {
  const auto client = client_.lock();
  return client ? *client : nullptr;
}

void Reply::integers(std::span<const std::int64_t> values) const {
  std::vector<std::byte> body;
  BodyWriter writer{body};
  writer.begin_result();
  for (const auto value : values) writer.integer(value);
  result(body);
}

void Reply::result(std::span<const std::byte> body) const {
  constexpr std::byte kNothing[sizeof(std::uint32_t)]{};
  auto* const client = find();
  if (client != nullptr && !quiet_) client->answer(request_, 1, body.empty() ? std::span{kNothing} : body);
}

void Reply::error(Errc code, std::string detail) const {
  auto* const client = find();
  if (client == nullptr) return;
  ErrorHead head;
  head.code = code;
  head.detail = std::move(detail);
  client->refuse(request_, head);
}

}  // namespace taskpool::store

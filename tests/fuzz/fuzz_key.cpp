#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "proto/store/hash.hpp"
#include "proto/store/key.hpp"

using namespace taskpool;
using namespace taskpool::store;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

/// A key that was accepted is canonical in every other way, too.
void check_accepted(KeyView bytes) {
  const auto key = parse_key(bytes);
  require(key.has_value() && std::ranges::equal(key->view(), bytes) && !bytes.empty() && bytes.size() <= kMaxKeyBytes);
  const auto json = key_to_json(bytes);
  const auto again = key_from_json(json);
  require(again.has_value() && std::ranges::equal(again->view(), bytes));
  require(hash_key(bytes, 1) != 0);
  // Through text, as on a command line. Text need not be UTF-8 for dump(): the key's is, or it was refused.
  const auto text = nlohmann::json::parse(json.dump(), nullptr, false);
  require(!text.is_discarded());
  const auto from_text = key_from_json(text);
  require(from_text.has_value() && std::ranges::equal(from_text->view(), bytes));
  KeyBuffer tuple;
  const KeyView members[] = {bytes, bytes};
  if (tuple.set_tuple(members)) {
    const auto checked = check_key(tuple);
    require(checked.has_value() || bytes[0] == static_cast<std::byte>(KeyKind::tuple));  // else: too deep
  }
}

}  // namespace

/// The input is a key from elsewhere, a JSON text, and two numbers.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  const auto checked = check_key(bytes);
  if (checked)
    check_accepted(bytes);
  else
    require(!checked.error().detail.empty() && !parse_key(bytes));

  const auto json = nlohmann::json::parse(data, data + size, nullptr, false);
  if (!json.is_discarded()) {
    const auto key = key_from_json(json);
    if (key)
      check_accepted(*key);
    else
      require(!key.error().detail.empty());
  }

  std::uint64_t number = 0;
  double real = 0;
  std::memcpy(&number, data, std::min(size, sizeof number));
  std::memcpy(&real, &number, sizeof real);
  KeyBuffer buffer;
  buffer.set_unsigned(number);
  check_accepted(buffer);
  buffer.set_integer(static_cast<std::int64_t>(number));
  check_accepted(buffer);
  buffer.set_real(real);
  check_accepted(buffer);
  if (buffer.set_bytes(bytes)) check_accepted(buffer);
  if (buffer.set_opaque(bytes)) check_accepted(buffer);
  return 0;
}

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "daemon/store/numbers.hpp"
#include "proto/store/key.hpp"
#include "proto/store_body.hpp"

using namespace taskpool;
using namespace taskpool::store;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void read_items(std::span<const std::byte> bytes) {
  for (ArgumentReader items{bytes}; !items.done();)
    if (!items.next()) return;
}

/// Reads a body of operations; what was read, written again, is the same bytes.
void read_operations(std::span<const std::byte> body, std::uint32_t count) {
  std::vector<std::byte> again;
  BodyWriter out{again};
  Operation operation;
  for (OperationReader operations{body, count}; !operations.done();) {
    if (const auto read = operations.next(operation); !read) return require(!read.error().detail.empty());
    out.begin(operation.info->code, operation.target);
    for (std::size_t index = 0; index < operation.count; ++index) {
      const auto& argument = operation.arguments[index];
      if (argument.encoding == kItemsEncoding && !argument.in_arena) read_items(argument.bytes);
      if (argument.encoding == kKeyEncoding) (void)check_key(argument.bytes);
      if (operation.info->code == Code::incr && index == 1 && !argument.in_arena)
        (void)add(Encoding::json, as_bytes("1"), static_cast<Encoding>(argument.encoding), argument.bytes);
      out.copy(argument);
    }
  }
  // Refs that are there and empty are left out by the writer, and nothing else.
  require(again.size() <= body.size());
  if (again.size() == body.size()) require(std::ranges::equal(again, body));
}

/// Reads a body of results; what was read, written again as the daemon does, is the same bytes.
void read_results(std::span<const std::byte> body, std::uint32_t count) {
  std::vector<std::byte> again;
  BodyWriter out{again};
  for (ResultReader results{body, count}; !results.done();) {
    const auto values = results.next_result();
    if (!values) return;
    out.begin_result();
    for (std::uint32_t value = 0; value < *values; ++value) {
      const auto argument = results.next();
      if (!argument) return;
      const auto encoding = static_cast<Encoding>(argument->encoding);
      std::vector<std::uint64_t> refs;
      for (std::size_t index = 0; index < argument->ref_count(); ++index) refs.push_back(argument->ref(index));
      if (argument->in_arena)
        out.value_in_arena(encoding, load<ArenaRef>(argument->bytes.data()), refs);
      else
        out.value(encoding, argument->bytes, refs);
    }
  }
  require(again.size() <= body.size());
  if (again.size() == body.size()) require(std::ranges::equal(again, body));
}

}  // namespace

/// The input is a body behind a byte that says how many operations or results it has.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto body = std::as_bytes(std::span{data + 1, size - 1});
  const std::uint32_t count = data[0] % 16 + 1u;
  read_operations(body, count);
  read_results(body, count);
  return 0;
}

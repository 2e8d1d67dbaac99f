#include "proto/store/recovery.hpp"

namespace taskpool::store {
Result<Recovered> recover(std::span<std::byte>, Extend) { return fail(Errc::internal, "to be written"); }
}  // namespace taskpool::store

#include "proto/store/words.hpp"

namespace taskpool::store {

MemoryHook* memory_hook = nullptr;

}  // namespace taskpool::store

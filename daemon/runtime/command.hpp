#pragma once

#include "proto/module_abi.h"

namespace taskpool::runtime {

/// The built-in module of the command runtime: one function, `run`, that runs the program its item names and returns how
/// it ended and what it wrote. PROTOCOL.md, section 3.4.
const taskpool_module& command_module();

}  // namespace taskpool::runtime

#pragma once

#include <cstddef>

#include "proto/module_abi.h"

namespace taskpool::runtime {

/// The built-in module of the command runtime: one function, `run`, that runs the program its item names and returns
/// how it ended and what it wrote. PROTOCOL.md, section 3.4.
const taskpool_module& command_module();

/// Sets how much of a command's output its result holds unless the call says otherwise: the zygote does, before it
/// forks. Bytes.
void set_command_output_bytes(std::size_t bytes);

}  // namespace taskpool::runtime

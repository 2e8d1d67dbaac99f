#pragma once

#include <string_view>

namespace taskpool {

/// A hash of the sources that the daemon, the runtime and the client library of this tree are built from: 16
/// hexadecimal digits. A client that starts a private daemon talks only to one of its own build.
std::string_view build_id();

}  // namespace taskpool

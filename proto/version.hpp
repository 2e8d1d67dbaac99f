#pragma once

#include <array>
#include <string_view>

namespace taskpool {

/// The version of PROTOCOL.md that this tree speaks.
inline constexpr int kProtocolVersion = 1;
/// The version of the programs, shown to people.
inline constexpr std::string_view kVersion = TASKPOOL_VERSION;
/// The client says `release_refs` when it has taken a result that names objects of the store.
inline constexpr std::string_view kResultRefsCapability = "result_refs";
/// What the protocol has beyond its first release; `welcome` lists them. PROTOCOL.md, section 5.
inline constexpr std::array<std::string_view, 7> kCapabilities{
    "store", "python", "whoami", "limits", "metrics", "own_pool", kResultRefsCapability};

}  // namespace taskpool

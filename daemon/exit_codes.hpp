#pragma once

namespace taskpool {

/// What taskpoold ends with beside 0: the numbers of sysexits.h where it has one.
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitTemporary = 75;  ///< Somebody else serves the socket: trying again may help.
inline constexpr int kExitConfig = 78;

}  // namespace taskpool

#pragma once

#include <boost/system/result.hpp>
#include <cerrno>
#include <string>
#include <utility>

#include "proto/errc.hpp"

namespace taskpool {

/// Why an operation failed: `code` for programs, `detail` for people. `detail` names the thing concerned (key, path,
/// limit, value).
struct Error {
  boost::system::error_code code;
  std::string detail;

  /// The code as one of ours; an operating system's code counts as `Errc::system`.
  Errc errc() const { return code.category() == taskpool_category() ? static_cast<Errc>(code.value()) : Errc::system; }
};

/// For boost::system::result: what value() on an error throws. Only tests and main() let it.
[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location& where);

template <class T>
using Result = boost::system::result<T, Error>;

/// Makes the error branch of any Result.
inline Error fail(Errc code, std::string detail) { return Error{make_error_code(code), std::move(detail)}; }

/// The error of a system call that just failed: errno's code, and "WHAT: its words".
inline Error errno_error(const std::string& what, int number = errno) {
  const boost::system::error_code code{number, boost::system::system_category()};
  return Error{code, what + ": " + code.message()};
}

}  // namespace taskpool

#include "proto/result.hpp"

#include <boost/system/system_error.hpp>
#include <boost/throw_exception.hpp>

namespace taskpool {

void throw_exception_from_error(const Error& error, const boost::source_location& where) {
  boost::throw_with_location(boost::system::system_error{error.code, error.detail}, where);
}

}  // namespace taskpool

#pragma once

#include "daemon/server/session.hpp"

namespace taskpool::server {

/// How a request is handled.
struct OpRow {
  Op op;
  Result<void> (Session::*handler)(const FrameView& frame);  ///< An error that it returns is the reply.
  bool has_fields = true;  ///< The handler reads the head. Else the head has to be an object without fields.
  bool changes = false;    ///< It changes what others see: the audit tells of it also when it is refused.
};

/// The row of an op that clients may send, or null. `apply`, `map`, `input` and `pool_open` are not in the table: the
/// session knows them itself.
const OpRow* find_op(Op op);

}  // namespace taskpool::server

#pragma once

#include "daemon/server/session.hpp"

namespace taskpool::server {

/// What handles a request; an error that it returns is the reply.
using OpHandler = Result<void> (Session::*)(const FrameView& frame);

/// The handler of an op that clients may send, or null. `apply`, `map`, `input` and `pool_open` are not in the table: the
/// session knows them itself.
OpHandler find_op(Op op);

}  // namespace taskpool::server

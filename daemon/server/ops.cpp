#include "daemon/server/ops.hpp"

#include <array>

namespace taskpool::server {

namespace {

constexpr std::array kOps{
    // op, handler, has_fields, changes
    OpRow{Op::prepare, &Session::prepare},
    OpRow{Op::forget, &Session::forget, false},
    OpRow{Op::cancel, &Session::cancel, true, true},
    OpRow{Op::wait, &Session::wait},
    OpRow{Op::fetch, &Session::fetch},
    OpRow{Op::ps, &Session::ps},
    OpRow{Op::workers, &Session::workers},
    OpRow{Op::pools, &Session::pools, false},
    OpRow{Op::stats, &Session::stats, false},
    OpRow{Op::functions, &Session::functions},
    OpRow{Op::failures, &Session::failures},
    OpRow{Op::pool_close, &Session::pool_close, true, true},
    OpRow{Op::pool_resize, &Session::pool_resize, true, true},
    OpRow{Op::pool_pause, &Session::pool_pause, true, true},
    OpRow{Op::pool_resume, &Session::pool_resume, true, true},
    OpRow{Op::reload, &Session::reload, false, true},
    OpRow{Op::drain, &Session::drain, true, true},
    OpRow{Op::shutdown, &Session::shutdown, true, true},
    OpRow{Op::ping, &Session::ping, false},
    OpRow{Op::whoami, &Session::whoami},
    OpRow{Op::arena_open, &Session::arena_open},
    OpRow{Op::arena_release, &Session::arena_release, false},
    OpRow{Op::nested_wait, &Session::nested_wait, false},
    OpRow{Op::log, &Session::log},
    OpRow{Op::object_open, &Session::object_open},
    OpRow{Op::buffer_open, &Session::buffer_open},
    OpRow{Op::object_close, &Session::object_close, false},
    OpRow{Op::object_delete, &Session::object_delete, false},
    OpRow{Op::watch, &Session::watch, false},
    OpRow{Op::objects, &Session::objects},
    OpRow{Op::locks, &Session::locks},
    OpRow{Op::release_refs, &Session::release_refs},
};

}  // namespace

const OpRow* find_op(Op op) {
  for (const auto& row : kOps)
    if (row.op == op) return &row;
  return nullptr;
}

}  // namespace taskpool::server

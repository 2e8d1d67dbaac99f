#include "daemon/server/ops.hpp"

#include <array>

namespace taskpool::server {

namespace {

struct Row {
  Op op;
  OpHandler handler;
};

constexpr std::array kOps{
    Row{Op::prepare, &Session::prepare},
    Row{Op::forget, &Session::forget},
    Row{Op::cancel, &Session::cancel},
    Row{Op::wait, &Session::wait},
    Row{Op::fetch, &Session::fetch},
    Row{Op::ps, &Session::ps},
    Row{Op::workers, &Session::workers},
    Row{Op::pools, &Session::pools},
    Row{Op::stats, &Session::stats},
    Row{Op::functions, &Session::functions},
    Row{Op::failures, &Session::failures},
    Row{Op::pool_close, &Session::pool_close},
    Row{Op::pool_resize, &Session::pool_resize},
    Row{Op::pool_pause, &Session::pool_pause},
    Row{Op::pool_resume, &Session::pool_resume},
    Row{Op::reload, &Session::reload},
    Row{Op::drain, &Session::drain},
    Row{Op::shutdown, &Session::shutdown},
    Row{Op::ping, &Session::ping},
    Row{Op::arena_open, &Session::arena_open},
    Row{Op::arena_release, &Session::arena_release},
    Row{Op::nested_wait, &Session::nested_wait},
    Row{Op::log, &Session::log},
};

}  // namespace

OpHandler find_op(Op op) {
  for (const auto& row : kOps)
    if (row.op == op) return row.handler;
  return nullptr;
}

}  // namespace taskpool::server

#include "taskpool/client.hpp"
#include "taskpool/module.hpp"

namespace taskpool {

const Client& Context::client() const {
  // One for the worker. The zygote, from which it was forked, runs no task and so has none.
  static const Client session = Client::connect({.autostart = false}).value();
  return session;
}

}  // namespace taskpool

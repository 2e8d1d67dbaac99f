#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "proto/message.hpp"
#include "proto/module_abi.h"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// The functions of the modules that a runtime has loaded, numbered in the order in which `ready` lists them. Modules
/// stay loaded for the life of the process.
class Modules {
 public:
  /// Loads a shared library. A name without a slash is a module that comes with taskpool: "demo" is
  /// ../modules/demo.so or ../lib/taskpool/modules/demo.so beside the program's directory. Error: `start_failed`;
  /// detail names the module and says what is wrong: it does not load, exports no module, was built for another ABI
  /// version, reports an error of its own, or has a function whose name is taken or not allowed.
  Result<void> load(const std::string& name);
  /// Adds a module that is already in memory. `path` is what errors call it. Error: as load().
  Result<void> add(const taskpool_module& module, const std::string& path);

  const taskpool_function* at(std::size_t number) const {
    return number < functions_.size() ? functions_[number] : nullptr;
  }
  const taskpool_function* find(std::string_view name) const;
  std::size_t size() const { return functions_.size(); }
  /// What `ready` lists.
  std::vector<FunctionInfo> describe() const;

 private:
  std::vector<const taskpool_function*> functions_;
  std::unordered_map<std::string_view, std::string> path_of_;  ///< Function name to the module that has it.
};

}  // namespace taskpool::runtime

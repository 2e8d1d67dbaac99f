#include "daemon/runtime/modules.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>

#include "daemon/os/process.hpp"
#include "proto/limits.hpp"

namespace taskpool::runtime {
namespace {

Error refuse(const std::string& path, const std::string& why) {
  return fail(Errc::start_failed, "module " + path + ": " + why);
}

/// Where the module of that name is. A path is taken as it is.
std::string locate(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const std::string beside = os::program_directory();
  for (const auto* folder : {"/../modules/", "/../lib/taskpool/modules/"}) {
    const auto path = beside + folder + name + ".so";
    if (::access(path.c_str(), F_OK) == 0) return path;
  }
  return name;  // the loader's message says that there is none
}

bool is_number_type(std::uint8_t encoding) { return is_array(static_cast<Encoding>(encoding)); }

/// What is wrong with a function's entry, or "".
std::string find_fault(const taskpool_function& function) {
  if (function.name == nullptr || function.name[0] == '\0') return "a function has no name";
  const std::string name = function.name;
  if (name.size() > kMaxNameBytes)
    return "function " + name + ": name above " + std::to_string(kMaxNameBytes) + " bytes";
  if (function.call == nullptr) return "function " + name + ": cannot be called";
  if (function.call_array != nullptr && !(is_number_type(function.array_in) && is_number_type(function.array_out)))
    return "function " + name + ": an array function without number types";
  return {};
}

std::string text_or_empty(const char* text) { return text == nullptr ? std::string{} : std::string{text}; }

}  // namespace

Result<void> Modules::load(const std::string& name) {
  const auto path = locate(name);
  // NOW: a missing symbol is an error here rather than a worker's death later. LOCAL: modules do not see each other's.
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return refuse(name, ::dlerror());
  using Entry = const taskpool_module* (*)();
  const auto entry = reinterpret_cast<Entry>(::dlsym(library, TASKPOOL_MODULE_SYMBOL));
  if (entry == nullptr) return refuse(name, "is no taskpool module: does not export " TASKPOOL_MODULE_SYMBOL);
  const auto* const module = entry();
  if (module == nullptr) return refuse(name, "returned no table of functions");
  return add(*module, name);
}

Result<void> Modules::add(const taskpool_module& module, const std::string& path) {
  if (module.abi_version != TASKPOOL_ABI_VERSION)
    return refuse(path, "was built for ABI version " + std::to_string(module.abi_version) + ", this runtime has " +
                            std::to_string(TASKPOOL_ABI_VERSION) + ": build it again");
  if (module.error != nullptr) return refuse(path, module.error);
  for (std::uint32_t i = 0; i < module.function_count; ++i) {
    const auto& function = module.functions[i];
    if (const auto fault = find_fault(function); !fault.empty()) return refuse(path, fault);
    const auto [place, is_new] = path_of_.emplace(function.name, path);
    if (!is_new)
      return refuse(path,
                    "function " + std::string{function.name} + ": module " + place->second + " has one of that name");
    functions_.push_back(&function);
  }
  return {};
}

const taskpool_function* Modules::find(std::string_view name) const {
  const auto found =
      std::find_if(functions_.begin(), functions_.end(), [&](const auto* function) { return function->name == name; });
  return found == functions_.end() ? nullptr : *found;
}

std::vector<FunctionInfo> Modules::describe() const {
  std::vector<FunctionInfo> list;
  list.reserve(functions_.size());
  for (const auto* function : functions_)
    list.push_back({.name = function->name,
                    .signature = text_or_empty(function->signature),
                    .doc = text_or_empty(function->doc),
                    .array = function->call_array != nullptr});
  return list;
}

}  // namespace taskpool::runtime

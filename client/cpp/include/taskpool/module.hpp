#pragma once

#include <cxxabi.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <exception>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <typeinfo>
#include <vector>

#include "proto/module_abi.h"
#include "taskpool/module_values.hpp"

/// Functions of ordinary signatures, bound by name in a shared library that workers load:
///
///     #include <taskpool/module.hpp>
///
///     std::int64_t square(std::int64_t x) { return x * x; }
///
///     TASKPOOL_MODULE(m, "demo") {
///       m.def("square", &square, "The square of a number.", {"x"});
///       m.def("greet", [](taskpool::Context& context, std::string name) {
///         context.info("greeting " + name);
///         return "hello " + name;
///       });
///     }
///
/// Parameters and results are anything that nlohmann/json converts; beyond that
///  - `std::span<const std::byte>`, `std::vector<std::byte>` and, as a parameter, `std::string_view` take or make an
///  item of
///    encoding `bytes` without copying where the type allows it;
///  - `std::span<const T>` and `std::vector<T>` of a number type take a whole array; returned, they make one if the
///  item was
///    an array, else a JSON list;
///  - `taskpool::RawItem` is any item as it is; `void` makes an empty result;
///  - a function from one number to one number also maps over arrays, with no JSON in between.
/// Numbers are checked, not cast: 300 is no std::int8_t and 1.5 is no int. A function of one parameter is given the
/// item, one of several takes a JSON list with an element for each.
///
/// A first parameter `taskpool::Context&` gives the call's surroundings. An exception becomes the task's error, with
/// its type and what().
namespace taskpool {

class Client;

/// What a function throws to say that it stopped because it was asked to.
class Cancelled : public std::exception {
 public:
  const char* what() const noexcept override { return "cancelled"; }
};

/// The surroundings of a running call. For the thread that was called, until it returns; cancelled(), remaining() and
/// interrupt_fd() are for all its threads.
class Context {
 public:
  explicit Context(const taskpool_call* call) : call_{call} {}

  /// True once the task was cancelled, or its soft time limit passed. Cheap enough for inner loops.
  bool cancelled() const { return call_->host->cancelled(call_) != 0; }
  /// Throws Cancelled if cancelled().
  void throw_if_cancelled() const {
    if (cancelled()) throw Cancelled{};
  }
  /// A descriptor that is readable once cancelled(); not the caller's to read or close.
  int interrupt_fd() const { return call_->host->interrupt_fd(call_); }
  /// Time until the soft, else the hard, time limit; nothing: there is no limit.
  std::optional<std::chrono::nanoseconds> remaining() const {
    const auto left = call_->host->remaining_ns(call_);
    if (left == std::numeric_limits<std::int64_t>::max()) return std::nullopt;
    return std::chrono::nanoseconds{left};
  }
  std::optional<std::chrono::steady_clock::time_point> deadline() const {
    const auto left = remaining();
    if (!left) return std::nullopt;
    return std::chrono::steady_clock::now() + *left;
  }

  /// Tells whoever waits how far the task is, in units of its own. A negative `total` is not known.
  void progress(double done, double total = -1, const std::string& message = {}) {
    call_->host->progress(call_, done, total, message.c_str());
  }
  /// Write a line to the daemon's log.
  void debug(const std::string& text) { call_->host->log(call_, TASKPOOL_DEBUG, text.c_str()); }
  void info(const std::string& text) { call_->host->log(call_, TASKPOOL_INFO, text.c_str()); }
  void warning(const std::string& text) { call_->host->log(call_, TASKPOOL_WARNING, text.c_str()); }
  void error(const std::string& text) { call_->host->log(call_, TASKPOOL_ERROR, text.c_str()); }

  /// This worker's session with the daemon, made at its first use and kept: for the objects of the shared store
  /// (<taskpool/objects.hpp>), and for running further tasks and waiting for them. A module that uses it links
  /// taskpool::client. Throws if the daemon cannot be reached.
  const Client& client() const;

  /// The result names this object of the shared store, by Object::id(), which then lives as long as the result does.
  /// What is in it as JSON, {"$ref": ID} or an ObjectRef, is found without. Throws NotEncodable for more than 1024
  /// objects.
  void refer(const std::string& object) { module::refer(call_, object); }

  /// The task's name, as the caller knows it and as the command line shows it.
  std::string task() const { return call_->host->task(call_); }
  /// The number of the task, or of the job that it is a part of, and its index there.
  std::uint64_t job() const { return call_->job; }
  std::uint32_t index() const { return call_->index; }
  /// 0 for the first run of the task, 1 for its first repetition.
  std::uint32_t attempt() const { return call_->attempt; }
  std::uint32_t worker() const { return call_->worker; }
  /// To seed random generators with: another one for each task, the same when one is run again.
  std::uint64_t seed() const { return call_->host->seed(call_); }

 private:
  const taskpool_call* call_;
};

namespace module {

/// The signature of anything that can be called.
template <class F>
struct Signature : Signature<decltype(&F::operator())> {};
template <class R, class... P>
struct Signature<R (*)(P...)> {
  using type = R(P...);
};
template <class R, class... P>
struct Signature<R (*)(P...) noexcept> {
  using type = R(P...);
};
template <class R, class C, class... P>
struct Signature<R (C::*)(P...)> {
  using type = R(P...);
};
template <class R, class C, class... P>
struct Signature<R (C::*)(P...) const> {
  using type = R(P...);
};
template <class R, class C, class... P>
struct Signature<R (C::*)(P...) noexcept> {
  using type = R(P...);
};
template <class R, class C, class... P>
struct Signature<R (C::*)(P...) const noexcept> {
  using type = R(P...);
};

/// A function that is known when the module is compiled, so that it can be inlined into the loop over an array.
template <auto kFunction>
struct Constant {
  template <class... A>
  decltype(auto) operator()(A&&... arguments) const {
    return kFunction(std::forward<A>(arguments)...);
  }
};
template <auto kFunction>
struct Signature<Constant<kFunction>> : Signature<decltype(kFunction)> {};

/// Makes the exception being handled the error of the call.
inline void report_exception(const taskpool_call* call) {
  const auto report = [call](int code, const char* type, const char* message) {
    call->host->error(call, code, type, message, "");
  };
  const auto demangled = [](const char* name) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> text{abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                           &std::free};
    return status == 0 ? std::string{text.get()} : std::string{name};
  };
  try {
    throw;
  } catch (const Cancelled& error) {
    report(TASKPOOL_CANCELLED, "", error.what());
  } catch (const BadArgument& error) {
    report(TASKPOOL_BAD_ARGUMENT, "", error.what());
  } catch (const NotEncodable& error) {
    report(TASKPOOL_NOT_ENCODABLE, "", error.what());
  } catch (const std::exception& error) {
    report(TASKPOOL_TASK_FAILED, demangled(typeid(error).name()).c_str(), error.what());
  } catch (const abi::__forced_unwind&) {
    throw;  // the thread is being ended, which must not be stopped
  } catch (...) {
    const auto* const type = abi::__cxa_current_exception_type();
    report(TASKPOOL_TASK_FAILED, type != nullptr ? demangled(type->name()).c_str() : "", "not a std::exception");
  }
}

/// The names that the module's author gave to the parameters; there may be fewer than parameters.
using Names = std::vector<std::string>;

inline std::string argument_name(const Names& names, std::size_t position) {
  const auto number = "argument " + std::to_string(position + 1);
  return position < names.size() ? number + " (" + names[position] + ")" : number;
}

/// A function with what the C ABI needs to call it.
template <class F, bool kHasContext, class R, class... P>
class Bound {
 public:
  Bound(F function, Names names) : function_{std::move(function)}, names_{std::move(names)} {
    for (std::size_t i = 0; i < sizeof...(P); ++i) argument_names_.push_back(argument_name(names_, i));
  }

  static int call(const taskpool_call* call, void* user) {
    auto& self = *static_cast<Bound*>(user);
    try {
      std::tuple<Argument<P>...> arguments;
      self.read(*call, arguments, std::index_sequence_for<P...>{});
      return self.apply(call, arguments, std::index_sequence_for<P...>{}) ? 0 : 1;
    } catch (...) {
      report_exception(call);
      return 1;
    }
  }

  static constexpr bool has_array() {
    if constexpr (sizeof...(P) == 1 && !kHasContext) return Number<R> && (Number<P> && ...);
    return false;
  }

  static std::uint32_t call_array(const taskpool_call* call, void* user, const void* in, void* out, std::uint32_t count,
                                  std::uint32_t first, std::uint32_t* running) {
    if constexpr (has_array()) {
      using From = std::tuple_element_t<0, std::tuple<P...>>;
      auto& self = *static_cast<Bound*>(user);
      const auto* const from = static_cast<const From*>(in);
      auto* const to = static_cast<R*>(out);
      std::atomic_ref<std::uint32_t> now{*running};
      std::uint32_t i = 0;
      try {
        for (; i < count; ++i) {
          now.store(first + i, std::memory_order_relaxed);
          to[i] = self.function_(from[i]);
        }
      } catch (...) {
        report_exception(call);
      }
      return i;
    } else {
      return 0;
    }
  }

  /// The function's table entry, but for its texts.
  taskpool_function entry() {
    taskpool_function entry{};
    entry.call = &Bound::call;
    entry.user = this;
    if constexpr (has_array()) {
      entry.call_array = &Bound::call_array;
      entry.array_in = element_encoding<std::tuple_element_t<0, std::tuple<P...>>>();
      entry.array_out = element_encoding<R>();
    }
    return entry;
  }

  /// "(x: int, text) -> list of float".
  std::string signature() const {
    std::string text;
    std::size_t position = 0;
    [[maybe_unused]] const auto add = [&](const std::string& type) {
      if (position > 0) text += ", ";
      if (position < names_.size()) text += names_[position] + ": ";
      text += type;
      ++position;
    };
    (add(type_name<P>()), ...);
    return "(" + text + ") -> " + type_name<R>();
  }

 private:
  template <std::size_t... I>
  void read(const taskpool_call& call, std::tuple<Argument<P>...>& arguments, std::index_sequence<I...>) const {
    if constexpr (sizeof...(P) == 1) {
      std::get<0>(arguments).read_item(call, argument_names_[0]);
    } else {
      const auto list = call.encoding == TASKPOOL_NONE ? Json::array() : item_list(call);
      if (list.size() != sizeof...(P))
        throw BadArgument{"takes " + std::to_string(sizeof...(P)) + " arguments, got " + std::to_string(list.size())};
      (std::get<I>(arguments).read_json(list[I], argument_names_[I]), ...);
    }
  }

  static Json item_list(const taskpool_call& call) {
    const auto wanted = "takes " + std::to_string(sizeof...(P)) + " arguments, as a JSON list; got ";
    if (call.encoding != TASKPOOL_JSON) throw BadArgument{wanted + encoding_name(call.encoding)};
    auto list = item_json(call);
    if (!list.is_array()) throw BadArgument{wanted + shown(list)};
    return list;
  }

  template <std::size_t... I>
  bool apply(const taskpool_call* call, std::tuple<Argument<P>...>& arguments, std::index_sequence<I...>) {
    const auto run = [&]() -> decltype(auto) {
      if constexpr (kHasContext) {
        Context context{call};
        return function_(context, std::get<I>(arguments).get()...);
      } else {
        return function_(std::get<I>(arguments).get()...);
      }
    };
    if constexpr (std::is_void_v<R>) {
      run();
      return true;
    } else {
      return write_result<R>(call, run());
    }
  }

  F function_;
  Names names_;
  Names argument_names_;  ///< "argument 1 (x)": made once, as every call needs them.
};

template <class T>
using Plain = std::remove_cvref_t<T>;

template <class F, class S>
struct BoundOf;
template <class F, class R, class... P>
struct BoundOf<F, R(P...)> {
  using type = Bound<F, false, Plain<R>, Plain<P>...>;
};
template <class F, class R, class... P>
struct BoundOf<F, R(Context&, P...)> {
  using type = Bound<F, true, Plain<R>, Plain<P>...>;
};

}  // namespace module

/// The functions of one module; see TASKPOOL_MODULE.
class Module {
 public:
  explicit Module(const char* name) { table_.name = name; }
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Binds a function pointer, a lambda or a function object. `parameters` names the parameters in signatures and
  /// errors, without the context.
  template <class F>
  void def(const char* name, F function, const char* doc = "", std::initializer_list<const char*> parameters = {}) {
    using Bound = typename module::BoundOf<F, typename module::Signature<F>::type>::type;
    const auto bound =
        std::make_shared<Bound>(std::move(function), module::Names{parameters.begin(), parameters.end()});
    kept_.push_back(bound);
    auto entry = bound->entry();
    entry.name = keep(name);
    entry.signature = keep(bound->signature());
    entry.doc = keep(doc);
    functions_.push_back(entry);
  }
  /// The same for a function that is known now, m.def<&square>("square"): the loop over an array is compiled around it.
  template <auto kFunction>
  void def(const char* name, const char* doc = "", std::initializer_list<const char*> parameters = {}) {
    def(name, module::Constant<kFunction>{}, doc, parameters);
  }

  /// What the runtime asks for. `define` is called the first time.
  const ::taskpool_module* table(void (*define)(Module&)) noexcept {
    if (table_.abi_version == TASKPOOL_ABI_VERSION) return &table_;
    table_.abi_version = TASKPOOL_ABI_VERSION;
    try {
      define(*this);
    } catch (const std::exception& error) {
      table_.error = keep(error.what());
    } catch (...) {
      table_.error = "its definition threw something that is no std::exception";
    }
    table_.functions = functions_.data();
    table_.function_count = static_cast<std::uint32_t>(functions_.size());
    return &table_;
  }

 private:
  const char* keep(std::string text) { return texts_.emplace_back(std::move(text)).c_str(); }

  ::taskpool_module table_{};
  std::vector<taskpool_function> functions_;
  std::deque<std::string> texts_;
  std::vector<std::shared_ptr<void>> kept_;
};

}  // namespace taskpool

/// Begins the definition of a module's functions; `variable` is the taskpool::Module. Once in a shared library. What it
/// throws makes the module unusable, with that message.
#define TASKPOOL_MODULE(variable, module_name)                                                           \
  static void taskpool_define_module(::taskpool::Module& variable);                                      \
  extern "C" __attribute__((visibility("default"))) const ::taskpool_module* taskpool_get_module(void) { \
    static ::taskpool::Module module{module_name};                                                       \
    return module.table(&taskpool_define_module);                                                        \
  }                                                                                                      \
  static void taskpool_define_module(::taskpool::Module& variable)

#include "daemon/runtime/modules.hpp"

#include <boost/test/unit_test.hpp>
#include <string>

using namespace taskpool;
using runtime::Modules;

namespace {

int do_nothing(const taskpool_call*, void*) { return 0; }
std::uint32_t do_nothing_often(const taskpool_call*, void*, const void*, void*, std::uint32_t count, std::uint32_t,
                               std::uint32_t*) {
  return count;
}

taskpool_function function(const char* name) {
  taskpool_function entry{};
  entry.name = name;
  entry.call = &do_nothing;
  return entry;
}

std::string refusal(Modules& modules, const taskpool_module& module) {
  const auto added = modules.add(module, "mine.so");
  return added ? "accepted" : added.error().detail;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(modules)

BOOST_AUTO_TEST_CASE(a_modules_functions_are_found_by_name_and_number) {
  Modules loaded;
  BOOST_TEST(loaded.load(DEMO_MODULE).has_value());
  const auto list = loaded.describe();
  BOOST_REQUIRE(list.size() == loaded.size());
  BOOST_TEST(list[0].name == "square");
  BOOST_TEST(list[0].signature == "(x: int) -> int");
  BOOST_TEST(list[0].doc == "The square of a 64-bit integer, modulo 2^64.");
  BOOST_TEST(list[0].array);
  BOOST_TEST(loaded.find("square") == loaded.at(0));
  BOOST_TEST(loaded.find("squire") == nullptr);
  BOOST_TEST(loaded.at(list.size()) == nullptr);
}

BOOST_AUTO_TEST_CASE(a_module_that_does_not_load_is_named) {
  Modules loaded;
  const auto missing = loaded.load("/nowhere/at_all.so");
  BOOST_REQUIRE(missing.has_error());
  BOOST_TEST(missing.error().errc() == Errc::start_failed);
  BOOST_TEST(missing.error().detail.find("module /nowhere/at_all.so: ") == 0u);
}

BOOST_AUTO_TEST_CASE(a_library_without_a_module_is_refused) {
  Modules loaded;
  const auto refused = loaded.load("libm.so.6");  // no slash, and none of ours: the loader finds it
  BOOST_REQUIRE(refused.has_error());
  BOOST_TEST(refused.error().detail == "module libm.so.6: is no taskpool module: does not export taskpool_get_module");
}

BOOST_AUTO_TEST_CASE(another_abi_version_is_refused) {
  Modules loaded;
  BOOST_TEST(refusal(loaded, {.abi_version = 42}) ==
             "module mine.so: was built for ABI version 42, this runtime has 1: build it again");
}

BOOST_AUTO_TEST_CASE(a_modules_own_error_is_passed_on) {
  Modules loaded;
  BOOST_TEST(refusal(loaded, {.abi_version = 1, .error = "no licence"}) == "module mine.so: no licence");
}

BOOST_AUTO_TEST_CASE(faulty_entries_are_refused) {
  const auto refusal_of = [](taskpool_function entry) {
    Modules loaded;
    return refusal(loaded, {.abi_version = 1, .function_count = 1, .functions = &entry});
  };
  BOOST_TEST(refusal_of(function("good")) == "accepted");
  BOOST_TEST(refusal_of(function("")) == "module mine.so: a function has no name");
  BOOST_TEST(refusal_of({.name = "f"}) == "module mine.so: function f: cannot be called");
  auto array = function("f");
  array.call_array = &do_nothing_often;
  BOOST_TEST(refusal_of(array) == "module mine.so: function f: an array function without number types");
  const std::string long_name(200, 'x');
  BOOST_TEST(refusal_of(function(long_name.c_str())).find("above 128 bytes") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(two_modules_cannot_have_a_function_of_the_same_name) {
  Modules loaded;
  BOOST_REQUIRE(loaded.load(DEMO_MODULE).has_value());
  const auto entry = function("square");
  BOOST_TEST(refusal(loaded, {.abi_version = 1, .function_count = 1, .functions = &entry}) ==
             "module mine.so: function square: module " DEMO_MODULE " has one of that name");
}

BOOST_AUTO_TEST_SUITE_END()

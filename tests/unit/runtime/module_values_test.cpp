#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <taskpool/module.hpp>

/// Argument binding without a worker: functions are called through their C table, with a host made here.
namespace {

struct FakeCall : taskpool_call {
  std::string input_text;
  std::vector<std::byte> place;
  std::string result;  ///< "json 25", or "none".
  std::uint8_t result_encoding = TASKPOOL_NONE;
  bool has_result = false;
  std::string error;

  static FakeCall& of(const taskpool_call* call) { return static_cast<FakeCall&>(const_cast<taskpool_call&>(*call)); }
};

void* reserve(const taskpool_call* call, std::uint8_t encoding, std::uint64_t bytes) {
  auto& me = FakeCall::of(call);
  me.result_encoding = encoding;
  me.place.assign(bytes, std::byte{});
  me.place.reserve(1);
  return me.place.data();
}
void commit(const taskpool_call* call, std::uint64_t bytes) {
  auto& me = FakeCall::of(call);
  me.has_result = true;
  me.result.assign(reinterpret_cast<const char*>(me.place.data()), bytes);
}
int result(const taskpool_call* call, std::uint8_t encoding, const void* data, std::uint64_t bytes) {
  void* const place = reserve(call, encoding, bytes);
  if (bytes > 0) std::memcpy(place, data, bytes);
  commit(call, bytes);
  return 0;
}
void error(const taskpool_call* call, int code, const char* type, const char* message, const char*) {
  const char* const codes[] = {"", "task_failed", "bad_argument", "not_encodable", "cancelled", "out_of_space"};
  FakeCall::of(call).error = std::string{codes[code]} + " " + type + (*type != '\0' ? ": " : "") + message;
}

taskpool_host make_host() {
  taskpool_host host{};
  host.size = sizeof host;
  host.result = result;
  host.reserve = reserve;
  host.commit = commit;
  host.error = error;
  return host;
}
const taskpool_host kHost = make_host();

/// What a function makes of an item: its result as text, or its error.
std::string call(auto function, std::uint8_t encoding, const void* data, std::size_t bytes, std::uint32_t count = 1) {
  taskpool::Module module{"test"};
  module.def("f", function, "", {"x"});
  const auto* const table = module.table([](taskpool::Module&) {});
  BOOST_REQUIRE(table->function_count == 1u);
  FakeCall fake{};
  fake.host = &kHost;
  fake.input = data;
  fake.input_bytes = bytes;
  fake.input_count = count;
  fake.encoding = encoding;
  const int status = table->functions[0].call(&fake, table->functions[0].user);
  BOOST_TEST((status == 0) == fake.error.empty());
  if (status != 0) return fake.error;
  return fake.has_result ? fake.result : "none";
}
std::string call(auto function, const std::string& json) {
  return call(function, TASKPOOL_JSON, json.data(), json.size());
}

template <class T>
std::string call_array(auto function, const std::vector<T>& numbers) {
  return call(function, taskpool::module::element_encoding<T>(), numbers.data(), numbers.size() * sizeof(T),
              static_cast<std::uint32_t>(numbers.size()));
}

template <class T>
std::vector<T> numbers_of(const std::string& bytes) {
  std::vector<T> numbers(bytes.size() / sizeof(T));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

std::int64_t square(std::int64_t x) { return x * x; }
std::int8_t small(std::int8_t x) { return x; }
double half(double x) { return x / 2; }

}  // namespace

BOOST_AUTO_TEST_SUITE(module_values)

BOOST_AUTO_TEST_CASE(integers_are_checked_not_cast) {
  BOOST_TEST(call(&square, "5") == "25");
  BOOST_TEST(call(&square, " -5 ") == "25");
  BOOST_TEST(call(&square, "0") == "0");
  BOOST_TEST(call(&small, "300") == "bad_argument argument 1 (x): want int of -128 to 127, got 300");
  BOOST_TEST(call(&square, "1.5") == "bad_argument argument 1 (x): want int, got 1.5");
  BOOST_TEST(call(&square, "\"five\"") == "bad_argument argument 1 (x): want int, got \"five\"");
  BOOST_TEST(call(&square, "true") == "bad_argument argument 1 (x): want int, got true");
  BOOST_TEST(call(&square, "007") == "bad_argument the item is not valid JSON");
  BOOST_TEST(call(&square, "") == "bad_argument the item is not valid JSON");
  BOOST_TEST(call(&square, "1e") == "bad_argument the item is not valid JSON");
  BOOST_TEST(call([](std::uint64_t x) { return x; }, "18446744073709551615") == "18446744073709551615");
  BOOST_TEST(call([](std::uint64_t x) { return x; }, "-1").find("got -1") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(floats_stay_floats) {
  BOOST_TEST(call(&half, "5") == "2.5");
  BOOST_TEST(call(&half, "6") == "3.0");
  BOOST_TEST(call(&half, "0.5") == "0.25");
  BOOST_TEST(call(&half, "1e300") == "5e+299");
  BOOST_TEST(call(&half, "inf") == "bad_argument the item is not valid JSON");
  BOOST_TEST(call(&half, "1.") == "bad_argument the item is not valid JSON");
  BOOST_TEST(call([](double) { return std::nan(""); }, "1") == "not_encodable JSON has no form of nan");
}

BOOST_AUTO_TEST_CASE(several_parameters_take_a_list_and_wrong_ones_are_named) {
  const auto add = [](std::int64_t a, double b) { return static_cast<double>(a) + b; };
  BOOST_TEST(call(add, "[1, 2.5]") == "3.5");
  BOOST_TEST(call(add, "[1]") == "bad_argument takes 2 arguments, got 1");
  BOOST_TEST(call(add, "1") == "bad_argument takes 2 arguments, as a JSON list; got 1");
  BOOST_TEST(call(add, "[1, \"x\"]") == "bad_argument argument 2: want float, got \"x\"");
  BOOST_TEST(call(add, "[\"y\", 1]") == "bad_argument argument 1 (x): want int, got \"y\"");
  BOOST_TEST(call(add, TASKPOOL_BYTES, "ab", 2) == "bad_argument takes 2 arguments, as a JSON list; got bytes");
  const auto none = [] { return 7; };
  BOOST_TEST(call(none, "[]") == "7");
  BOOST_TEST(call(none, TASKPOOL_NONE, "", 0) == "7");
  BOOST_TEST(call(none, "[1]") == "bad_argument takes 0 arguments, got 1");
}

BOOST_AUTO_TEST_CASE(one_parameter_takes_the_item_also_if_it_is_a_list) {
  BOOST_TEST(call([](const std::vector<int>& list) { return list.size(); }, "[1,2,3]") == "3");
  BOOST_TEST(call([](const std::vector<int>& list) { return list.size(); }, "[1,2.5]") ==
             "bad_argument argument 1 (x), element 2: want int, got 2.5");
  BOOST_TEST(call([](const std::map<std::string, int>& map) { return map; }, "{\"b\":2,\"a\":1}") ==
             "{\"a\":1,\"b\":2}");
  BOOST_TEST(call([](const std::map<std::string, int>& map) { return map; }, "[1]")
                 .find("bad_argument argument 1 (x): want object, got [1]") == 0u);
  BOOST_TEST(call([](const nlohmann::json& any) { return any; }, "[1,{\"k\":null}]") == "[1,{\"k\":null}]");
}

BOOST_AUTO_TEST_CASE(text_and_bytes) {
  BOOST_TEST(call([](std::string text) { return text + "!"; }, "\"hi\"") == "\"hi!\"");
  BOOST_TEST(call([](std::string_view text) { return text.size(); }, TASKPOOL_BYTES, "abc", 3) == "3");
  BOOST_TEST(call([](std::span<const std::byte> bytes) { return bytes; }, TASKPOOL_BYTES, "a\0b", 3) ==
             std::string("a\0b", 3));
  BOOST_TEST(call(&square, TASKPOOL_BYTES, "5", 1) == "bad_argument argument 1 (x): want int, got bytes");
  BOOST_TEST(call([](int) { return std::string{"\xff"}; }, "1").find("not_encodable") == 0u);
}

BOOST_AUTO_TEST_CASE(a_whole_array_is_one_argument) {
  const std::vector<double> numbers{1.5, 2.5};
  BOOST_TEST(call_array([](std::span<const double> x) { return x[0] + x[1]; }, numbers) == "4.0");
  const auto doubled = [](std::vector<std::int32_t> x) {
    for (auto& number : x) number *= 2;
    return x;
  };
  BOOST_TEST(numbers_of<std::int32_t>(call_array(doubled, std::vector<std::int32_t>{1, -2})) ==
             (std::vector<std::int32_t>{2, -4}));
  BOOST_TEST(numbers_of<std::int32_t>(call_array(doubled, std::vector<std::int64_t>{7})) ==
             (std::vector<std::int32_t>{14}));
  BOOST_TEST(call_array(doubled, std::vector<double>{0.5}).find("argument 1 (x), element 1: want int of") !=
             std::string::npos);
  BOOST_TEST(call(doubled, "[1,2]") == "[2,4]");  // a list in, a list out
  BOOST_TEST(call_array([](const nlohmann::json& x) { return x; }, numbers) == "[1.5,2.5]");
  BOOST_TEST(call_array(&square, std::vector<std::int64_t>{1}) ==
             "bad_argument argument 1 (x): want int, got an array of i64");
}

BOOST_AUTO_TEST_CASE(any_item_can_go_through_as_it_is) {
  const auto echo = [](taskpool::RawItem item) { return item; };
  BOOST_TEST(call(echo, "{\"a\": 1}") == "{\"a\": 1}");
  BOOST_TEST(call(echo, TASKPOOL_BYTES, "\0", 1) == std::string(1, '\0'));
  BOOST_TEST(numbers_of<float>(call_array(echo, std::vector<float>{2.5F})) == std::vector<float>{2.5F});
  BOOST_TEST(call([](taskpool::RawItem) {}, "1") == "none");
}

BOOST_AUTO_TEST_CASE(exceptions_become_errors_with_their_type) {
  BOOST_TEST(call([](int) -> int { throw std::out_of_range{"far away"}; }, "1") ==
             "task_failed std::out_of_range: far away");
  BOOST_TEST(call([](int) -> int { throw taskpool::BadArgument{"argument 1: odd"}; }, "1") ==
             "bad_argument argument 1: odd");
  BOOST_TEST(call([](int) -> int { throw taskpool::Cancelled{}; }, "1") == "cancelled cancelled");
  BOOST_TEST(call([](int) -> int { throw 42; }, "1") == "task_failed int: not a std::exception");
}

BOOST_AUTO_TEST_CASE(functions_over_numbers_have_a_loop_over_arrays) {
  taskpool::Module module{"test"};
  module.def<&square>("square");
  module.def("checked", [](std::int64_t x) {
    if (x == 3) throw std::domain_error{"three"};
    return static_cast<double>(x) / 2;
  });
  module.def("text", [](std::string text) { return text; });
  module.def("with_context", [](taskpool::Context&, int x) { return x; });
  const auto* const table = module.table([](taskpool::Module&) {});
  const auto& squares = table->functions[0];
  BOOST_TEST(squares.array_in == TASKPOOL_I64);
  BOOST_TEST(squares.array_out == TASKPOOL_I64);
  BOOST_TEST((table->functions[2].call_array == nullptr));
  BOOST_TEST((table->functions[3].call_array == nullptr));

  const std::vector<std::int64_t> in{1, 2, 3, 4};
  std::vector<std::int64_t> out(4);
  std::uint32_t running = 0;
  FakeCall fake{};
  fake.host = &kHost;
  BOOST_TEST(squares.call_array(&fake, squares.user, in.data(), out.data(), 4, 100, &running) == 4u);
  BOOST_TEST((out == std::vector<std::int64_t>{1, 4, 9, 16}));
  BOOST_TEST(running == 103u);

  std::vector<double> halves(4);
  const auto& checked = table->functions[1];
  BOOST_TEST(checked.array_out == TASKPOOL_F64);
  BOOST_TEST(checked.call_array(&fake, checked.user, in.data(), halves.data(), 4, 100, &running) == 2u);
  BOOST_TEST(running == 102u);
  BOOST_TEST(fake.error == "task_failed std::domain_error: three");
}

BOOST_AUTO_TEST_CASE(signatures_read_like_declarations) {
  taskpool::Module module{"test"};
  module.def("a", [](taskpool::Context&, std::int64_t, const std::string&) {}, "", {"count"});
  module.def("b", [](std::span<const double>) { return std::map<std::string, int>{}; });
  module.def("c", [](const nlohmann::json&, bool, std::vector<std::byte>) { return 1.5F; });
  const auto* const table = module.table([](taskpool::Module&) {});
  BOOST_TEST(table->functions[0].signature == std::string{"(count: int, text) -> none"});
  BOOST_TEST(table->functions[1].signature == std::string{"(list of float) -> object"});
  BOOST_TEST(table->functions[2].signature == std::string{"(json, bool, bytes) -> float"});
}

BOOST_AUTO_TEST_CASE(a_definition_that_throws_makes_the_module_unusable) {
  taskpool::Module module{"test"};
  const auto* const table = module.table([](taskpool::Module&) { throw std::runtime_error{"no device"}; });
  BOOST_TEST(table->error == std::string{"no device"});
}

BOOST_AUTO_TEST_SUITE_END()

#include "proto/codec.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <string>

#include "proto/fields.hpp"
#include "proto/limits.hpp"

namespace taskpool {
namespace {

/// The detail of the error that decoding `head` ends in, or "".
template <class T>
std::string wrong(std::string_view head) {
  const auto decoded = decode<T>(head);
  if (decoded) return "";
  BOOST_TEST((decoded.error().errc() == Errc::bad_message));
  return decoded.error().detail;
}

/// `head` has a value other than the default for every field of T: decoding and encoding it must lose none of them.
template <class T>
void keeps(std::string_view head) {
  BOOST_TEST_CONTEXT(head) {
    const auto decoded = decode<T>(head);
    BOOST_REQUIRE_MESSAGE(decoded.has_value(), wrong<T>(head));
    BOOST_TEST(*parse_json(encode(*decoded)) == *parse_json(head));
  }
}

BOOST_AUTO_TEST_SUITE(codec)

BOOST_AUTO_TEST_CASE(every_field_survives_decoding_and_encoding) {
  keeps<Hello>(R"({"version":1,"client":"t","capabilities":["a","b"],"worker_token":"w","resume":"r"})");
  keeps<Welcome>(
      R"({"version":1,"build":"b","daemon_version":"0.1","pid":2,"uid":1000,"session":3,"token":"t","capabilities":["a"],
          "limits":{"frame_body_bytes":1,"inline_item_bytes":2,"session_queued_bytes":3,"session_result_bytes":4,
                    "prepared_calls":5,"arena_bytes":6,"detached_body_bytes":7,"store_value_bytes":8,
                    "session_grace_ms":9},"resumed":true})");
  keeps<ErrorHead>(
      R"({"code":"worker_lost","detail":"d","type":"T","traceback":"tb","task":"1-2","signal":9,"exit_code":-1,
          "index":0})");
  keeps<Call>(
      R"({"function":"f","pool":"p","timeout_ms":1,"soft_timeout_ms":2,"retries":3,"lost_retries":4,"oom_retries":8,"cpu_timeout_ms":9,"retry_delay_ms":5,
          "priority":-6,"detached":true,"idempotency_key":"k","chunk":7,"stop_on_error":true,"result_element":"f64",
          "name":"n","announce":true,"command":{"cwd":"/"},"refs":["u1-2"]})");
  keeps<Done>(R"({"total":10,"succeeded":7,"failed":2,"cancelled":1})");
  keeps<Progress>(R"({"task":"1-2","index":3,"done":0.5,"total":2.5,"message":"m"})");
  keeps<Cancel>(R"({"request":18446744073709551615,"force":true})");
  keeps<Cancel>(R"({"task":"1-2","waiting":true})");
  keeps<Cancel>(R"({"task":"1-2"})");
  keeps<Wait>(R"({"task":"1-2","timeout_ms":5})");
  keeps<Fetch>(R"({"task":"1-2","keep":true,"index":9})");
  keeps<Ps>(R"({"pool":"p","state":"running","task":"1-2","all":true,"limit":0})");
  keeps<Failures>(R"({"limit":1000})");
  keeps<PoolOpen>(
      R"({"name":"n","runtime":"python","workers":2,"modules":["a","b"],"environment":{"A":"1","B":""},"cwd":"/tmp",
          "initializer":"i","initializer_arguments":[1,"x",null],"max_tasks_per_worker":3,"max_worker_memory":4,
          "timeout_ms":5,"priority":6,"max_queued":7,"max_task_memory":8,"max_task_processes":9,"max_task_files":10,"cpu_timeout_ms":11,"nice":19})");
  keeps<ObjectOpen>(
      R"({"name":"n","type":"array","group":"g","create":"exclusive","maxsize":1,"value":2,"parties":3,"action":true,
          "lock":4,"typecode":"f64","length":5})");
  keeps<ObjectOpen>(R"({"object":"u1-2","create":"never"})");
  keeps<ObjectOpened>(
      R"({"object":"u1-2","id":2,"type":"array","offset":3,"segment":4,"segment_bytes":5,"created":true,
          "typecode":"i8","length":6})");
  keeps<ObjectsRequest>(R"({"type":"dict","name":"n","group":"g","after":"u1-2","limit":1})");
  keeps<LocksRequest>(R"({"name":"n","group":"g","limit":1})");
  keeps<BufferOpen>(R"({"name":"n","bytes":1,"create":"never"})");
  keeps<PoolName>(R"({"pool":"p","terminate":true})");
  keeps<PoolResize>(R"({"pool":"p","workers":1024})");
  keeps<Drain>(R"({"timeout_ms":2147483647})");
  keeps<Shutdown>(R"({"force":true})");
  keeps<ArenaOpen>(R"({"bytes":68719476736})");
  keeps<ArenaSegment>(R"({"segment":2,"bytes":4096})");
  keeps<LogRequest>(R"({"task":"1-2"})");
  keeps<Define>(R"({"function":"f"})");
  keeps<Attach>(R"({"session":1,"down":true,"segment":2,"bytes":4096,"same_uid":true})");
  keeps<Detach>(R"({"session":1})");
  keeps<Report>(R"({"done":1.5,"total":2.5,"message":"m","level":"warning","log":"l"})");
  keeps<WorkerReady>(R"({"pid":1})");
  keeps<WorkerFailed>(R"({"detail":"d","traceback":"t"})");
  keeps<Start>(R"({"runtime":"native","modules":["a"],"spool":"/s"})");
  keeps<Ready>(
      R"({"functions":[{"name":"f","signature":"int -> int","doc":"d","array":true},{"name":"g"}],"open":true})");
  keeps<StartFailed>(R"({"detail":"d"})");
  keeps<Fork>(
      R"({"worker":1,"token":"t","task_prefix":"x-","socket":"/s","environment":{"A":"1"},"cwd":"/","initializer":"i",
          "initializer_arguments":[],"oom_score_adj":-500,"cgroup":"/c","data_bytes":2,"processes":3,"open_files":4,"nice":5})");
  keeps<Forked>(R"({"worker":1,"pid":2})");
  keeps<ForkFailed>(R"({"worker":1,"detail":"d"})");
  keeps<Exited>(R"({"worker":1,"pid":2,"exit_code":3,"signal":9,"user_us":4,"system_us":5,"max_rss_bytes":6})");
}

BOOST_AUTO_TEST_CASE(defaults_are_left_out_and_filled_in) {
  BOOST_TEST(encode(Call{}) == "");
  BOOST_TEST(encode(Ps{}) == "");
  BOOST_TEST(encode(Report{}) == "");
  const auto call = decode<Call>("").value();
  BOOST_TEST(call.retry_delay_ms == 100u);
  BOOST_TEST((!call.timeout_ms && !call.priority));
  BOOST_TEST((call.result_element == Encoding::none));
  BOOST_TEST(decode<Ps>("{}")->limit == 100u);
  BOOST_TEST(decode<PoolOpen>("{}")->runtime == "native");
}

BOOST_AUTO_TEST_CASE(zero_is_not_the_same_as_absent_where_the_pool_decides) {
  const auto call = decode<Call>(R"({"timeout_ms":0,"priority":0})").value();
  BOOST_TEST((call.timeout_ms == 0u && call.priority == 0));
  BOOST_TEST(encode(call) == R"({"priority":0,"timeout_ms":0})");
}

BOOST_AUTO_TEST_CASE(what_must_be_there_is_written_even_if_it_is_the_default) {
  BOOST_TEST(encode(PoolResize{}) == R"({"workers":0})");
  BOOST_TEST(encode(ErrorHead{}) == R"({"code":"internal"})");
  BOOST_TEST(encode(Detach{}) == R"({"session":0})");
}

BOOST_AUTO_TEST_CASE(what_must_be_there_is_missed) {
  BOOST_TEST(wrong<Hello>("") == "version: missing");
  BOOST_TEST(wrong<ErrorHead>("{}") == "code: missing");
  BOOST_TEST(wrong<Wait>("{}") == "task: missing");
  BOOST_TEST(wrong<Fetch>("{}") == "task: missing");
  BOOST_TEST(wrong<PoolResize>(R"({"pool":"p"})") == "workers: missing");
  BOOST_TEST(wrong<ArenaOpen>("") == "bytes: missing");
  BOOST_TEST(wrong<Define>("") == "function: missing");
  BOOST_TEST(wrong<Ready>(R"({"functions":[{"doc":"d"}]})") == "functions: name: missing");
}

BOOST_AUTO_TEST_CASE(requests_refuse_unknown_fields_and_replies_ignore_them) {
  BOOST_TEST(wrong<Call>(R"({"function":"f","timeout":5})") == "timeout: unknown field");
  BOOST_TEST(wrong<Hello>(R"({"version":1,"new":5})") == "new: unknown field");
  BOOST_TEST(wrong<Fork>(R"({"worker":1,"new":5})") == "new: unknown field");
  BOOST_TEST(wrong<Welcome>(R"({"version":1,"new":5,"limits":{"new":6}})") == "");
  BOOST_TEST(wrong<ErrorHead>(R"({"code":"timed_out","new":5})") == "");
  BOOST_TEST(wrong<Exited>(R"({"worker":1,"pid":1,"new":5})") == "");
}

BOOST_AUTO_TEST_CASE(each_bound_is_the_last_value_that_passes) {
  const auto call = [](const std::string& field) { return wrong<Call>("{" + field + "}"); };
  BOOST_TEST(call(R"("timeout_ms":2147483647)") == "");
  BOOST_TEST(call(R"("timeout_ms":2147483648)") == "timeout_ms: above 2147483647");
  BOOST_TEST(call(R"("retries":1000)") == "");
  BOOST_TEST(call(R"("retries":1001)") == "retries: above 1000");
  BOOST_TEST(call(R"("lost_retries":1001)") == "lost_retries: above 1000");
  BOOST_TEST(call(R"("retry_delay_ms":60000)") == "");
  BOOST_TEST(call(R"("retry_delay_ms":60001)") == "retry_delay_ms: above 60000");
  BOOST_TEST(call(R"("priority":101)") == "priority: want an integer from -100 to 100");
  BOOST_TEST(call(R"("chunk":1000000)") == "");
  BOOST_TEST(call(R"("chunk":1000001)") == "chunk: above 1000000");
  BOOST_TEST(call(R"("name":")" + std::string(128, 'n') + "\"") == "");
  BOOST_TEST(call(R"("name":")" + std::string(129, 'n') + "\"") == "name: longer than 128 bytes");
  BOOST_TEST(call(R"("idempotency_key":")" + std::string(129, 'n') + "\"") == "idempotency_key: longer than 128 bytes");
  BOOST_TEST(call(R"("not_before_ms":0,"attempt":0)") == "");
  BOOST_TEST(call(R"("not_before_ms":1)") == "not_before_ms: above 0");
  BOOST_TEST(call(R"("attempt":1)") == "attempt: above 0");
  BOOST_TEST(call(R"("command":[])") == "command: want an object");
  BOOST_TEST(call(R"("result_element":"json")") == "result_element: not the name of an element type");
  BOOST_TEST(call(R"("result_element":"")") == "");

  BOOST_TEST(wrong<Hello>(R"({"version":1,"client":")" + std::string(65, 'c') + "\"}") ==
             "client: longer than 64 bytes");
  BOOST_TEST(wrong<Ps>(R"({"limit":1001})") == "limit: above 1000");
  BOOST_TEST(wrong<Ps>(R"({"state":"asleep"})") == "state: \"asleep\" is none of its values");
  BOOST_TEST(wrong<Report>(R"({"level":"loud"})") == "level: \"loud\" is none of its values");
  BOOST_TEST(wrong<PoolOpen>(R"({"workers":1025})") == "workers: above 1024");
  BOOST_TEST(wrong<PoolOpen>(R"({"initializer_arguments":{}})") == "initializer_arguments: want an array");
  BOOST_TEST(wrong<ArenaOpen>(R"({"bytes":68719476737})") == "bytes: above 68719476736");
  BOOST_TEST(wrong<Attach>(R"({"session":1,"segment":65,"bytes":1})") == "segment: above 64");
  BOOST_TEST(wrong<Fork>(R"({"worker":1,"oom_score_adj":1001})") ==
             "oom_score_adj: want an integer from -1000 to 1000");
}

BOOST_AUTO_TEST_CASE(a_cancel_names_one_thing) {
  BOOST_TEST(wrong<Cancel>("{}") == "task: want this or request, one of them");
  BOOST_TEST(wrong<Cancel>(R"({"task":"1-2","request":1})") == "task: want this or request, one of them");
  BOOST_TEST(wrong<Cancel>(R"({"request":0})") == "");
}

BOOST_AUTO_TEST_CASE(an_error_code_of_a_newer_daemon_counts_as_internal) {
  const auto error = decode<ErrorHead>(R"({"code":"too_warm","detail":"41 degrees"})").value();
  BOOST_TEST(error.code == Errc::internal);
  BOOST_TEST(error.detail == "too_warm: 41 degrees");
  BOOST_TEST(wrong<ErrorHead>(R"({"code":"ok"})") == "code: ok is no error");
}

BOOST_AUTO_TEST_CASE(a_long_error_is_cut_to_fit_a_frame) {
  ErrorHead error{.code = Errc::task_failed, .detail = std::string(3'000, 'd'), .type = "ValueError", .traceback = {}};
  error.traceback = "first line\n" + std::string(200'000, '\x01') + "last line";  // six bytes each once escaped
  const auto head = encode(error);
  BOOST_TEST(head.size() <= kMaxFrameHeadBytes);
  BOOST_TEST(head.size() > kMaxFrameHeadBytes / 4);
  const auto decoded = decode<ErrorHead>(head).value();
  BOOST_TEST(decoded.type == "ValueError");
  BOOST_TEST(decoded.detail == error.detail);
  BOOST_TEST(decoded.traceback.starts_with("[cut]"));
  BOOST_TEST(decoded.traceback.ends_with("last line"));
}

BOOST_AUTO_TEST_CASE(a_text_is_not_cut_inside_a_character) {
  std::string detail;
  for (int i = 0; i < 40'000; ++i) detail += "\u20ac";
  for (const auto& lead : {"", "a", "ab"}) {
    const auto decoded = decode<StartFailed>(encode(StartFailed{.detail = lead + detail})).value();
    BOOST_TEST(decoded.detail.ends_with("\u20ac[cut]"));
    const auto failed = decode<WorkerFailed>(encode(WorkerFailed{.detail = "", .traceback = detail + lead})).value();
    BOOST_TEST(failed.traceback.starts_with("[cut]\u20ac"));
    BOOST_TEST(failed.traceback.ends_with(lead));
  }
}

BOOST_AUTO_TEST_CASE(names_are_not_cut) {
  const auto head = encode(Call{.function = std::string(kMaxFrameHeadBytes, 'f')});
  BOOST_TEST(head.size() > kMaxFrameHeadBytes);
}

BOOST_AUTO_TEST_CASE(text_that_is_not_utf8_is_repaired) {
  const auto decoded = decode<ErrorHead>(encode(ErrorHead{.code = Errc::task_failed, .detail = "caf\xe9"})).value();
  BOOST_TEST(decoded.detail == "caf\ufffd");
}

BOOST_AUTO_TEST_CASE(numbers_that_json_cannot_say_are_left_out) {
  const Progress progress{
      .task = "1-2", .index = {}, .done = std::nan(""), .total = std::numeric_limits<double>::infinity()};
  BOOST_TEST(encode(progress) == R"({"task":"1-2"})");
}

BOOST_AUTO_TEST_CASE(raw_json_that_is_none_is_left_out) {
  BOOST_TEST(encode(Call{.command = "{"}) == "");
  BOOST_TEST(encode(PoolOpen{.initializer_arguments = "[1,2]"}) == R"({"initializer_arguments":[1,2]})");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool

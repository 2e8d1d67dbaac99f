#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "client/cli/lines.hpp"
#include "client/cli/store_words.hpp"

/// The commands about lists, queues and values.
namespace taskpool::cli {
namespace {

Result<List<Body>> open_list(const ActionCall& call) { return call.client.list<Body>(call.name, call.options); }

Result<int> length_of(const Result<std::uint64_t>& length) {
  if (!length) return length.error();
  return print_line(std::to_string(*length));
}

Result<int> print_taken(Result<Body> value, const ActionCall& call) {
  if (!value) return value.error();
  return print_value(std::optional{std::move(*value)}, call.flags.format, "");
}

Result<int> list_get(const ActionCall& call) {
  const auto index = parse_integer(call.words[0]);
  if (!index) return index.error();
  const auto list = open_list(call);
  if (!list) return list.error();
  return print_taken(list->get(*index), call);
}

/// set and insert.
template <bool kInsert>
Result<int> list_put(const ActionCall& call) {
  const auto index = parse_integer(call.words[0]);
  if (!index) return index.error();
  const auto value = value_of(call.words[1], call.flags.format);
  if (!value) return value.error();
  const auto list = open_list(call);
  if (!list) return list.error();
  return finished(kInsert ? list->insert(*index, *value) : list->set(*index, *value));
}

Result<int> list_append(const ActionCall& call) {
  std::vector<Body> values;
  for (const auto& word : call.words) {
    auto value = value_of(word, call.flags.format);
    if (!value) return value.error();
    values.push_back(std::move(*value));
  }
  const auto list = open_list(call);
  if (!list) return list.error();
  return finished(values.size() == 1 ? list->append(values.front()) : list->extend(values));
}

Result<int> list_pop(const ActionCall& call) {
  const auto index = call.words.empty() ? Result<std::int64_t>{-1} : parse_integer(call.words[0]);
  if (!index) return index.error();
  const auto list = open_list(call);
  if (!list) return list.error();
  return print_taken(list->pop(*index), call);
}

Result<int> list_delete(const ActionCall& call) {
  const auto index = parse_integer(call.words[0]);
  if (!index) return index.error();
  const auto list = open_list(call);
  if (!list) return list.error();
  return finished(list->erase(*index));
}

Result<int> list_items(const ActionCall& call) {
  const auto list = open_list(call);
  if (!list) return list.error();
  const auto all = list->items();
  if (!all) return all.error();
  return print_values(*all, call);
}

Result<int> list_length(const ActionCall& call) {
  const auto list = open_list(call);
  return list ? length_of(list->size()) : list.error();
}

Result<int> list_reverse(const ActionCall& call) {
  const auto list = open_list(call);
  return list ? finished(list->reverse()) : list.error();
}

Result<int> list_clear(const ActionCall& call) {
  const auto list = open_list(call);
  return list ? finished(list->clear()) : list.error();
}

Result<int> list_watch(const ActionCall& call) {
  const auto list = open_list(call);
  return list ? print_changes(list->watch(), call) : list.error();
}

const std::array kListActions{Action{"get", "INDEX", 1, 1, false, list_get},
                              Action{"set", "INDEX VALUE", 2, 2, false, list_put<false>},
                              Action{"append", "VALUE...", 1, kManyWords, true, list_append},
                              Action{"insert", "INDEX VALUE", 2, 2, true, list_put<true>},
                              Action{"pop", "[INDEX]", 0, 1, false, list_pop},
                              Action{"del", "INDEX", 1, 1, false, list_delete},
                              Action{"items", "", 0, 0, false, list_items},
                              Action{"len", "", 0, 0, false, list_length},
                              Action{"reverse", "", 0, 0, false, list_reverse},
                              Action{"clear", "", 0, 0, false, list_clear},
                              Action{"watch", "", 0, 0, true, list_watch}};

Result<Value<Body>> open_value(const ActionCall& call) {
  auto zero = value_of("0", Format::json);
  return call.client.value<Body>(call.name, *zero, call.options);
}

Result<int> value_get(const ActionCall& call) {
  const auto value = open_value(call);
  return value ? print_taken(value->get(), call) : value.error();
}

Result<int> value_set(const ActionCall& call) {
  const auto to = value_of(call.words[0], call.flags.format);
  if (!to) return to.error();
  const auto value = open_value(call);
  return value ? finished(value->set(*to)) : value.error();
}

Result<int> value_incr(const ActionCall& call) {
  const auto by = value_of(call.words.empty() ? "1" : call.words[0], Format::json);
  if (!by) return by.error();
  const auto value = open_value(call);
  if (!value) return value.error();
  const auto encoded = encode_stored(*by);
  auto sum = value->call(store::Code::value_incr, {StoreArgument::value(*encoded)});
  if (!sum) return sum.error();
  if (sum->empty()) return fail(Errc::bad_message, "the daemon's reply lacks the sum");
  return print_taken(std::move(sum->front()), call);
}

Result<int> value_compare_and_set(const ActionCall& call) {
  const auto expected = value_of(call.words[0], call.flags.format);
  if (!expected) return expected.error();
  const auto to = value_of(call.words[1], call.flags.format);
  if (!to) return to.error();
  const auto value = open_value(call);
  return value ? finished_if(value->compare_and_set(*expected, *to)) : value.error();
}

Result<int> value_watch(const ActionCall& call) {
  const auto value = open_value(call);
  return value ? print_changes(value->watch(), call) : value.error();
}

const std::array kValueActions{Action{"get", "", 0, 0, false, value_get}, Action{"set", "VALUE", 1, 1, true, value_set},
                               Action{"incr", "[BY]", 0, 1, true, value_incr},
                               Action{"cas", "EXPECTED VALUE", 2, 2, false, value_compare_and_set},
                               Action{"watch", "", 0, 0, true, value_watch}};

struct QueueFlags : StoreFlags {
  std::uint64_t maxsize = 0;
  Patience patience;
  std::uint64_t count = 1;
  bool follow = false;
};

const QueueFlags& queue_flags(const ActionCall& call) { return static_cast<const QueueFlags&>(call.flags); }

Result<Queue<Body>> open_queue(const ActionCall& call) {
  return call.client.queue<Body>(call.name, queue_flags(call).maxsize, call.options);
}

Result<bool> put(const Queue<Body>& queue, const Body& value, const ActionCall& call) {
  const auto patience = queue_flags(call).patience;
  if (patience.ms < 0) {
    if (auto done = queue.put(value); !done) return done.error();
    return true;
  }
  return queue.put_for(value, std::chrono::milliseconds{patience.ms});
}

/// The words, or each line of standard input. Exit code 1: there was no room in time.
Result<int> queue_put(const ActionCall& call) {
  const auto queue = open_queue(call);
  if (!queue) return queue.error();
  const auto put_word = [&](std::string_view word) -> Result<bool> {
    const auto value = value_of(word, call.flags.format);
    if (!value) return value.error();
    return put(*queue, *value, call);
  };
  for (const auto& word : call.words) {
    const auto done = put_word(word);
    if (!done || !*done) return finished_if(done);
  }
  if (!call.words.empty()) return kDone;
  LineReader lines{STDIN_FILENO, '\n'};
  for (;;) {
    const auto line = lines.next();
    if (!line) return line.error();
    if (!*line) return kDone;
    const auto done = put_word(**line);
    if (!done || !*done) return finished_if(done);
  }
}

/// Exit code 1: there was nothing in time.
Result<int> queue_get(const ActionCall& call) {
  const auto& flags = queue_flags(call);
  const auto queue = open_queue(call);
  if (!queue) return queue.error();
  for (std::uint64_t taken = 0; flags.follow || taken < flags.count; ++taken) {
    auto value = queue->get_for(flags.patience);
    if (!value) return value.error();
    if (!*value) return kFailed;
    const auto printed = print_value(std::move(value), call.json() ? Format::json : call.flags.format, "");
    if (!printed) return printed;
  }
  return kDone;
}

Result<int> queue_length(const ActionCall& call) {
  const auto queue = open_queue(call);
  return queue ? length_of(queue->size()) : queue.error();
}

Result<int> queue_clear(const ActionCall& call) {
  const auto queue = open_queue(call);
  return queue ? finished(queue->clear()) : queue.error();
}

const std::array kQueueActions{Action{"put", "[VALUE...]", 0, kManyWords, true, queue_put},
                               Action{"get", "", 0, 0, true, queue_get}, Action{"len", "", 0, 0, false, queue_length},
                               Action{"clear", "", 0, 0, false, queue_clear}};

}  // namespace

Run define_list(CLI::App& app) {
  const auto flags = std::make_shared<StoreFlags>();
  flags->define(app);
  return [flags](const Invocation& invocation) { return run_action(invocation, *flags, kListActions); };
}

Run define_value(CLI::App& app) {
  const auto flags = std::make_shared<StoreFlags>();
  flags->define(app);
  return [flags](const Invocation& invocation) { return run_action(invocation, *flags, kValueActions); };
}

Run define_queue(CLI::App& app) {
  const auto flags = std::make_shared<QueueFlags>();
  flags->define(app);
  app.add_option("--maxsize", flags->maxsize, "Of a new queue: put waits while it has so many items")->type_name("N");
  add_duration(
      app, "--timeout", [flags](auto time) { flags->patience = Patience::up_to(time); },
      "Wait no longer for room, or an item");
  app.add_flag_callback(
      "--nonblock", [flags] { flags->patience = Patience::none(); }, "Do not wait at all");
  app.add_option("-n,--count", flags->count, "get: so many items (1)")->type_name("N");
  app.add_flag("-f,--follow", flags->follow, "get: every item that comes");
  return [flags](const Invocation& invocation) { return run_action(invocation, *flags, kQueueActions); };
}

}  // namespace taskpool::cli

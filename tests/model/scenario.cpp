#include "tests/model/scenario.hpp"

#include <algorithm>

namespace taskpool::model {

namespace {

using Kind = Step::Kind;
using ReadKind = Read::Kind;

constexpr Word kDict = 7;   // the id of object 0
constexpr Word kOther = 8;  // and of object 1

Step create(Word object, Word id, Word slots) { return {Kind::create, object, id, slots, {}, {}}; }
Step remove(Word object) { return {Kind::remove, object, 0, 0, {}, {}}; }
Step grow(Word object, Word slots) { return {Kind::grow, object, 0, slots, {}, {}}; }
Step put(Word key, Word value) { return {Kind::put, 0, 0, 0, {{0, key, value}}, {}}; }
Step erase(Word key) { return put(key, 0); }
Step put_other(Word key, Word value) { return {Kind::put, 1, 0, 0, {{1, key, value}}, {}}; }
Step batch(std::vector<Writer::Put> puts) { return {Kind::put, 0, 0, 0, std::move(puts), {}}; }
Step list(std::vector<Word> values) { return {Kind::list, 0, 0, 0, {}, std::move(values)}; }
Read get(Word key) { return {ReadKind::get, 0, kDict, {key}}; }
Read get_other(Word key) { return {ReadKind::get, 1, kOther, {key}}; }
Read get_many(std::vector<Word> keys) { return {ReadKind::get_many, 0, kDict, std::move(keys)}; }
Read get_list() { return {ReadKind::list, 0, kDict, {}}; }

/// What an object holds, as its users think of it.
struct Content {
  Word id = 0;
  std::map<Word, Word> entries;
  std::vector<Word> list;
  bool operator==(const Content&) const = default;
};

/// All of it at one time. Inside a batch only reads of single keys may see it.
struct World {
  std::array<Content, Layout::kObjects> objects;
  bool whole = true;
};

void set(Content& content, Word key, Word value) {
  if (value == 0)
    content.entries.erase(key);
  else
    content.entries[key] = value;
}

/// Appends what the step makes of the last world.
void extend(std::vector<World>& worlds, const Step& step) {
  auto world = worlds.back();
  auto& content = world.objects[step.object];
  switch (step.kind) {
    case Kind::create: content = {step.id, {}, {}}; break;
    case Kind::remove: content = {}; break;
    case Kind::grow: break;
    case Kind::list: content.list = step.values; break;
    case Kind::put:
      for (const auto& one : step.puts) {
        set(content, one.key, one.value);
        world.whole = &one == &step.puts.back();
        worlds.push_back(world);
      }
      return;
  }
  worlds.push_back(world);
}

void run(Writer& writer, const Step& step) {
  switch (step.kind) {
    case Kind::create: return writer.create(step.object, step.id, step.slots);
    case Kind::remove: return writer.remove(step.object);
    case Kind::grow: return writer.grow(step.object, step.slots);
    case Kind::list: return writer.set_list(step.object, step.values);
    case Kind::put: return writer.change(step.puts);
  }
}

/// Reads as told, and holds what it finds to the worlds: each read has to match one that is not older than the last.
class ReaderRun {
 public:
  ReaderRun(const std::vector<World>& worlds, const std::vector<Read>& reads, std::size_t first_world, Bug bug)
      : worlds_{worlds}, reads_{reads}, now_{first_world}, bug_{bug} {}

  void operator()(ReaderMemory& memory) {
    auto now = now_;
    Reader reader{memory, bug_};
    for (std::size_t index = 0; index < reads_.size(); ++index) {
      const auto& read = reads_[index];
      const std::vector<std::uint32_t> state{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(now)};
      if (read.kind == ReadKind::get) {
        const auto value = reader.get(read.object, read.id, read.keys[0], state);
        advance(now, [&](const World& world) {
          const auto& content = world.objects[read.object];
          if (content.id != read.id) return !value;
          return value && *value == find(content, read.keys[0]);
        });
      } else if (read.kind == ReadKind::get_many) {
        const auto found = reader.get_many(read.object, read.id, read.keys, state);
        advance(now, [&](const World& world) { return world.whole && matches(world, read, found); });
      } else {
        const auto found = reader.list(read.object, read.id, state);
        advance(now, [&](const World& world) {
          const auto& content = world.objects[read.object];
          return content.id == read.id ? found == content.list : !found;
        });
      }
    }
  }

 private:
  static Word find(const Content& content, Word key) {
    const auto entry = content.entries.find(key);
    return entry == content.entries.end() ? 0 : entry->second;
  }
  static bool matches(const World& world, const Read& read,
                      const std::optional<std::pair<std::vector<Word>, Word>>& found) {
    const auto& content = world.objects[read.object];
    if (content.id != read.id) return !found;
    if (!found || found->second != content.entries.size()) return false;
    for (std::size_t index = 0; index < read.keys.size(); ++index)
      if (found->first[index] != find(content, read.keys[index])) return false;
    return true;
  }
  template <class Match>
  void advance(std::size_t& now, Match match) const {
    while (now < worlds_.size() && !match(worlds_[now])) ++now;
    if (now == worlds_.size()) throw Violation{"a reader finds what never was, or is older than what it knew"};
  }

  const std::vector<World>& worlds_;
  const std::vector<Read>& reads_;
  std::size_t now_;
  Bug bug_;
};

/// A scenario's checks.
class Checker {
 public:
  Checker(const Scenario& scenario, Bug bug) : scenario_{scenario}, bug_{bug} {
    start_.push_back(World{});
    Writer writer{before_, bug, scenario.blocks, false};
    for (const auto& step : scenario.before) {
      run(writer, step);
      extend(start_, step);
    }
    start_.erase(start_.begin(), start_.end() - 1);
  }

  Explored check() {
    without_crash();
    for (std::size_t count = 0; count <= events_.size(); ++count) crash_and_go_on(count);
    each_crash(events_, [&](const std::vector<Event>& events) { crash_and_recover(events, 2); });
    return explored_;
  }

 private:
  /// The writer's state at the beginning of the steps, in `history`.
  Writer begin(History& history) const {
    Writer writer{history, bug_, scenario_.blocks, false};
    for (const auto& step : scenario_.before) run(writer, step);
    (void)writer.take_events();
    return writer;
  }

  void readers(const History& history, const std::vector<World>& worlds, std::uint32_t known, std::size_t world) {
    ++explored_.histories;
    for (const auto& reads : scenario_.readers)
      explored_.executions += explore(history, known, ReaderRun{worlds, reads, world, bug_});
  }

  void without_crash() {
    History history{Layout::words};
    auto writer = begin(history);
    auto worlds = start_;
    const auto beginning = history.length();
    std::vector<std::pair<std::uint32_t, std::size_t>> known{{beginning, 0}};
    for (const auto& step : scenario_.steps) {
      run(writer, step);
      extend(worlds, step);
      known.emplace_back(history.length(), worlds.size() - 1);
      const auto events = writer.take_events();
      events_.insert(events_.end(), events.begin(), events.end());
    }
    check_content(writer, worlds.back());
    // A reader may begin at any time; told of a finished operation (by a message, say) it knows that one and all
    // before.
    for (const auto& [stores, world] : known) readers(history, worlds, stores, world);
  }

  static std::size_t committed(const std::vector<Event>& events) {
    return static_cast<std::size_t>(std::ranges::count_if(events, [](const Event& event) {
      return event.kind != Event::Kind::fence && event.location == Layout::record_count && event.value != 0;
    }));
  }

  std::vector<World> worlds_after(std::size_t steps) const {
    auto worlds = start_;
    for (std::size_t index = 0; index < steps; ++index) extend(worlds, scenario_.steps[index]);
    return worlds;
  }

  void check_content(const Writer& writer, const World& world) const {
    for (Word object = 0; object < Layout::kObjects; ++object) {
      const auto& content = world.objects[object];
      const bool is_list = !content.list.empty();
      if (is_list ? writer.list(object) != content.list : writer.entries(object) != content.entries)
        throw Violation{"after recovery an object is neither as before nor as after the operation"};
    }
  }

  /// Killed after `events`; so are the first successors, after each store of their repairs, until `deaths` is 2.
  void crash_and_recover(const std::vector<Event>& events, int deaths) {
    ++explored_.crashes;
    History history{Layout::words};
    (void)begin(history);
    for (const auto& event : events) history.apply(event);
    Writer successor{history, bug_, scenario_.blocks, true};
    check_content(successor, worlds_after(committed(events)).back());
    if (deaths == 2) return;
    auto more = events;
    for (const auto& repair : successor.take_events()) {
      more.push_back(repair);
      crash_and_recover(more, deaths + 1);
    }
  }

  /// Killed after `count` events; the successor repairs, and performs what is left. Readers read all the time.
  void crash_and_go_on(std::size_t count) {
    History history{Layout::words};
    (void)begin(history);
    const auto beginning = history.length();
    const std::vector<Event> events(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(count));
    if (count != 0 && events.back().kind == Event::Kind::fence) return;  // as without it
    crash_and_recover(events, 0);
    for (const auto& event : events) history.apply(event);
    Writer successor{history, bug_, scenario_.blocks, true};
    auto steps = committed(events);
    auto worlds = worlds_after(steps);
    check_content(successor, worlds.back());
    for (; steps < scenario_.steps.size(); ++steps) {
      run(successor, scenario_.steps[steps]);
      extend(worlds, scenario_.steps[steps]);
    }
    check_content(successor, worlds.back());
    readers(history, worlds, beginning, 0);
  }

  const Scenario& scenario_;
  Bug bug_;
  History before_{Layout::words};
  std::vector<World> start_;
  std::vector<Event> events_;
  Explored explored_;
};

}  // namespace

std::vector<Scenario> scenarios() {
  const std::vector<Step> two_keys{create(0, kDict, 2), put(0, 10), put(1, 20)};
  const std::vector<Step> two_colliding{create(0, kDict, 4), put(0, 10), put(4, 20)};
  return {
      {"overwrite",
       {2, 1},
       {create(0, kDict, 2), put(0, 10)},
       {put(0, 11), put(0, 12), put(0, 13)},
       {{get(0), get(0)}}},
      {"block goes to another key",
       {3, 1},
       two_keys,
       {put(0, 11), put(1, 21), put(0, 12)},
       {{get(0), get(1)}, {get(1), get(0)}}},
      {"delete, and a slot for another key",
       {3, 1},
       {create(0, kDict, 2), put(0, 10)},
       {put(2, 20), erase(0), put(4, 40), erase(2)},
       {{get(2), get(4)}, {get(0), get(4)}}},
      {"growth",
       {3, 2},
       two_keys,
       {grow(0, 4), put(2, 30), erase(1), grow(0, 2)},
       {{get(0), get(2)}, {get(1)}, {get(2), get(1)}}},
      {"table goes to another object",
       {4, 2},
       {create(0, kDict, 2), put(0, 10)},
       {grow(0, 4), create(1, kOther, 2), put_other(0, 50), put(0, 11), remove(1)},
       {{get(0), get_other(0)}, {get_other(0), get(0)}}},
      {"object is removed, its place taken",
       {3, 2},
       {create(0, kDict, 2), put(0, 10)},
       {remove(0), create(0, kDict + 20, 2), put(0, 60)},
       {{get(0), {ReadKind::get, 0, kDict + 20, {0}}}}},
      {"batch",
       {4, 1},
       two_colliding,
       {batch({{0, 0, 11}, {0, 4, 21}}), batch({{0, 0, 0}, {0, 4, 22}})},
       {{get_many({0, 4}), get_many({0, 4})}, {get(0), get(4)}, {get_many({4, 0}), get(0)}}},
      {"batch that inserts and deletes",
       {4, 1},
       {create(0, kDict, 4), put(0, 10)},
       {batch({{0, 1, 20}, {0, 0, 0}}), batch({{0, 0, 12}, {0, 1, 0}})},
       {{get_many({0, 1}), get_many({0, 1})}}},
      {"list", {4, 2}, {create(0, kDict, 0), list({1, 2})}, {list({2}), list({3, 2})}, {{get_list(), get_list()}}},
  };
}

Explored check(const Scenario& scenario, Bug bug) { return Checker{scenario, bug}.check(); }

}  // namespace taskpool::model

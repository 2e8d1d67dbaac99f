#pragma once

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// Shared memory as the C++ memory model lets it be seen, for one writer at a time and readers that never write.
///
/// Because no reader writes, what the writer stores does not depend on them: its stores form one sequence, and
/// everything that readers can see is decided by which message of that sequence each load picks. So nothing has to be
/// interleaved: exploring the picks of one reader covers every timing, every delay of a store between processors, and
/// every order in which stores become visible. This is the model of C++11 without what needs a reader that writes (load
/// buffering).
namespace taskpool::model {

/// A word of shared memory, by number.
using Location = std::uint32_t;
using Word = std::uint64_t;

enum class Order : std::uint8_t { relaxed, acquire, release };

/// What the writer does, in program order. A fence is a release fence.
struct Event {
  enum class Kind : std::uint8_t { store, release_store, fence };
  Kind kind = Kind::store;
  Location location = 0;
  Word value = 0;
};

/// Every store so far, oldest first.
class History {
 public:
  struct Message {
    std::uint32_t index;   ///< Its place among all stores; the values of the beginning have 0.
    std::uint32_t prefix;  ///< Who acquires this message knows all stores up to and with this one.
    Word value;
  };

  /// All words are 0 at the beginning, which everybody knows.
  explicit History(std::size_t words) : messages_(words, {Message{0, 0, 0}}) {}

  void apply(const Event& event);
  Word latest(Location location) const { return messages_.at(location).back().value; }
  /// The number of stores; who knows that many knows all.
  std::uint32_t length() const { return length_; }
  std::size_t words() const { return messages_.size(); }
  const std::vector<Message>& messages(Location location) const { return messages_.at(location); }

 private:
  std::vector<std::vector<Message>> messages_;
  std::uint32_t length_ = 0;
  std::uint32_t fenced_ = 0;  // how many stores lie before the last fence
};

/// A property does not hold. what() says which, and how.
struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One execution of a reader: loads pick messages as the explorer tells them.
class ReaderMemory {
 public:
  /// Ends an execution that the explorer has seen before.
  struct Pruned {};

  Word load(Location location, Order order);
  void acquire_fence();
  /// The reader begins an attempt and has forgotten what it read before, except `state`, which tells everything that
  /// its further steps and checks depend on.
  void begin_attempt(const std::vector<std::uint32_t>& state);
  /// Whether the attempt began with all stores known: it must succeed.
  bool knew_everything() const { return knew_everything_; }

 private:
  template <class Run>
  friend std::size_t explore(const History& history, std::uint32_t known, Run run);
  struct Choice {
    std::uint32_t taken;
    std::uint32_t count;
  };

  ReaderMemory(const History& history, std::uint32_t known, std::vector<Choice>& choices,
               std::set<std::vector<std::uint32_t>>& seen)
      : history_{history}, floor_(history.words(), 0), known_{known}, choices_{choices}, seen_{seen} {}
  std::uint32_t oldest(Location location) const;

  const History& history_;
  std::vector<std::uint32_t> floor_;  // per location: no message before this one any more
  std::uint32_t known_;               // all stores up to this one are known
  std::uint32_t pending_ = 0;         // the same, once an acquire fence was passed
  bool knew_everything_ = false;
  std::size_t depth_ = 0;
  std::vector<Choice>& choices_;
  std::set<std::vector<std::uint32_t>>& seen_;
};

/// Runs `run(ReaderMemory&)` once for each way in which its loads can be answered, if it began when the first `known`
/// stores were known to it. Returns the number of executions.
template <class Run>
std::size_t explore(const History& history, std::uint32_t known, Run run) {
  std::vector<ReaderMemory::Choice> choices;
  std::set<std::vector<std::uint32_t>> seen;
  for (std::size_t executions = 1;; ++executions) {
    ReaderMemory memory{history, known, choices, seen};
    try {
      run(memory);
    } catch (const ReaderMemory::Pruned&) {
    }
    while (!choices.empty() && choices.back().taken + 1 == choices.back().count) choices.pop_back();
    if (choices.empty()) return executions;
    ++choices.back().taken;
  }
}

/// Calls `visit(events that had an effect)` for each state in which a writer that executes `events` may be killed: a
/// compiler may move a store before earlier ones where neither its order nor a fence forbids it. Each set of events
/// that can have happened is visited once.
template <class Visit>
void each_crash(const std::vector<Event>& events, Visit visit) {
  std::set<std::vector<bool>> seen;
  std::vector<std::vector<bool>> open{std::vector<bool>(events.size(), false)};
  while (!open.empty()) {
    const auto done = std::move(open.back());
    open.pop_back();
    if (!seen.insert(done).second) continue;
    std::vector<Event> effective;
    for (std::size_t at = 0; at < events.size(); ++at)
      if (done[at]) effective.push_back(events[at]);
    visit(effective);
    // What may come next: the first that is not done, and whatever may overtake everything before it that is not done.
    std::set<Location> overtaken;
    bool none_before = true;
    for (std::size_t at = 0; at < events.size(); ++at) {
      if (done[at]) continue;
      const auto& event = events[at];
      const bool may = none_before || (event.kind == Event::Kind::store && !overtaken.contains(event.location));
      if (may) {
        open.push_back(done);
        open.back()[at] = true;
      }
      if (event.kind == Event::Kind::fence) break;  // nothing behind it may overtake it
      overtaken.insert(event.location);
      none_before = false;
    }
  }
}

}  // namespace taskpool::model

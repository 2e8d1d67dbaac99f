#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/store/sync.hpp"
#include "proto/store_body.hpp"
#include "tests/unit/store/segment_fixture.hpp"

/// A segment, its Sync, and sessions that note what they are answered. Time is what the test says.
namespace taskpool::store::testing {

class StoryClient final : public Client {
 public:
  void hold_back(bool) override {}
  bool again(const FrameView&) override { return true; }
  std::map<std::uint64_t, std::string> heard;  ///< By request: "", "1 0", "text", "!timed_out".

  void answer(std::uint64_t request, std::uint32_t count, std::span<const std::byte> body) override {
    ResultReader reader{body, count};
    std::string all;
    for (auto left = reader.next_result().value(); left > 0; --left) {
      const auto value = reader.next().value();
      all += (all.empty() ? "" : " ") + (value.is_integer() ? std::to_string(value.integer()) : text_of(value.bytes));
    }
    note(request, all);
  }
  void refuse(std::uint64_t request, const ErrorHead& error) override {
    note(request, "!" + std::string{name(error.code)});
  }
  void accept(std::uint64_t) override {}
  bool tell(std::uint64_t, std::uint32_t, std::uint64_t, std::span<const std::byte>) override { return true; }
  Result<ArenaRef> place(std::span<const std::byte>) override { return fail(Errc::out_of_space, ""); }
  void take_back(const ArenaRef&) override {}
  std::span<const std::byte> find_up(const ArenaRef&) const override { return {}; }
  bool is_member(std::uint32_t) const override { return false; }

 private:
  void note(std::uint64_t request, std::string what) {
    if (!heard.emplace(request, what).second) heard[request] += " AND AGAIN " + what;
  }
};

struct SyncStory : SyncHost {
  static constexpr std::int64_t kForEver = -1;
  static constexpr std::int64_t kTry = 0;

  TestSegment segment{256 * kUnitBytes};
  std::map<std::uint64_t, StoryClient> clients;
  std::optional<Sync> sync;
  std::uint64_t last_request = 0;
  TimePoint clock{};
  bool wants_work = false;
  int deadlines = 0;
  ObjectId held = ObjectId::none;
  std::set<ObjectId> growing;  ///< What is worked on, a slice in each turn.
  int slices = 0;
  std::map<ObjectType, ObjectId> once;

  SyncStory() { sync.emplace(*segment.writer, *this); }

  // What the story does

  std::uint64_t session() {
    const auto id = static_cast<std::uint64_t>(segment.create(ObjectType::session).id);
    clients[id];
    return id;
  }
  ObjectId make(ObjectType type, AuxWords words = {}) {
    const auto id = segment.create(type).id;
    auto tx = segment.begin();
    for (std::size_t index = 0; index < words.size(); ++index)
      segment.writer->set_aux(tx, id, index, words[index]).value();
    tx.commit().value();
    return id;
  }
  /// One of that type for all who ask.
  ObjectId make_once(ObjectType type) {
    const auto [made, is_new] = once.try_emplace(type);
    if (is_new) made->second = make(type);
    return made->second;
  }
  struct With {
    std::int64_t timeout = kForEver;
    std::int64_t number = 1;
    std::uint32_t thread = 1;
    std::string item;
    std::uint64_t request = 0;
  };
  SyncCall call(std::uint64_t who, Code code, ObjectId object, const With& with) {
    SyncCall made{.owner = {who, with.thread},
                  .reply = Reply{clients.at(who).state.self, with.request != 0 ? with.request : ++last_request, false},
                  .object = object,
                  .type = segment.info(object).type,
                  .code = code,
                  .number = with.number};
    if (with.timeout >= 0) made.timeout = std::chrono::milliseconds{with.timeout};
    return made;
  }
  std::uint64_t start(std::uint64_t who, Code code, ObjectId object, const With& with) {
    const auto made = call(who, code, object, with);
    while (!sync->run(made, {.value = bytes_of(with.item), .encoding = 2})) work();
    return made.request();
  }
  std::uint64_t start(std::uint64_t who, Code code, ObjectId object) { return start(who, code, object, With{}); }
  /// What was answered, "..." if nothing yet.
  std::string outcome(std::uint64_t request) const {
    for (const auto& [id, client] : clients)
      if (const auto found = client.heard.find(request); found != client.heard.end()) return found->second;
    return "...";
  }
  template <class... Rest>
  std::string ask(std::uint64_t who, Code code, ObjectId object, Rest... rest) {
    return outcome(start(who, code, object, rest...));
  }
  void work() {
    while (std::exchange(wants_work, false) || !growing.empty()) turn();
  }
  void turn() {
    slices += static_cast<int>(growing.size());
    std::erase_if(growing, [&](ObjectId id) {
      const auto worked = segment.writer->work(id, 250);
      return !worked || *worked;
    });
    sync->work();
  }
  void pass(std::chrono::milliseconds time) {
    clock += time;
    sync->expire();
    work();
  }
  void die(std::uint64_t who) {
    sync->end_session(who, [] {});
    work();
  }
  /// The daemon is killed, and another one finds the segment.
  void restart() {
    sync.reset();
    segment.restart();
    sync.emplace(*segment.writer, *this);
    sync->restore();
    work();
  }
  /// A resumed session sends a request again.
  bool repeat(std::uint64_t who, Code code, ObjectId object, With with, std::uint64_t applied) {
    const bool done = sync->repeat(call(who, code, object, with), applied).value();
    work();
    return done;
  }
  std::uint64_t applied(std::uint64_t who) { return segment.info(static_cast<ObjectId>(who)).aux[0]; }

  // SyncHost

  Transaction begin() override { return segment.begin(); }
  Result<void> note(Transaction& tx, std::uint64_t who, std::uint64_t request) override {
    const auto record = segment.writer->info(tx, static_cast<ObjectId>(who));
    if (!record) return record.error();
    return segment.writer->set_aux(tx, static_cast<ObjectId>(who), 0, std::max(record->aux[0], request));
  }
  Result<void> push(Transaction& tx, ObjectId queue, const ItemView& item) override {
    const EntryInput entry{.value = item.value, .encoding = item.encoding};
    return segment.writer->insert(tx, queue, segment.writer->info(tx, queue).value().count, std::span{&entry, 1});
  }
  Result<void> pop(Transaction& tx, ObjectId queue, std::uint64_t, std::vector<std::byte>& body) override {
    const auto item = segment.writer->item(tx, queue, 0);
    if (!item) return item.error();
    BodyWriter writer{body};
    writer.begin_result();
    writer.value(static_cast<Encoding>(item->encoding), item->value);
    return segment.writer->erase_items(tx, queue, 0, 1);
  }
  bool may_change(ObjectId object) override { return object != held; }
  void changed(ObjectId) override {}
  void more() override { wants_work = true; }
  void work_on(ObjectId object) override { growing.insert(object); }
  void deadline_changed() override { ++deadlines; }
  TimePoint now() override { return clock; }
  std::uint64_t unix_ms() override { return 1'000'000; }
};

}  // namespace taskpool::store::testing

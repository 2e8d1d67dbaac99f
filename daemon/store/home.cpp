#include "daemon/store/home.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "daemon/store/operations.hpp"
#include "daemon/store/queue_state.hpp"
#include "daemon/store/semaphore_state.hpp"
#include "daemon/store/store.hpp"
#include "proto/limits.hpp"

namespace taskpool::store {
namespace {

/// Steps of one slice of Writer::work() and reclaim(): some 5 to 10 us, with fresh pages.
constexpr std::size_t kSteps = 250;
/// Entries that expire together: well below a millisecond.
constexpr std::size_t kExpireTogether = 100;
/// For how long slices follow each other in one turn. An apply takes two or three turns, and each may meet such work:
/// so not longer than its own round trip. A turn costs a microsecond.
constexpr std::chrono::microseconds kWorkTime{25};

/// A session's record says the highest request that was applied in this word,
constexpr std::size_t kApplied = 0;
/// and in entries its token, and which anonymous objects it has open.
constexpr std::string_view kTokenKey = "token";
constexpr std::string_view kPinPrefix = "pin ";

KeyBuffer text_key(std::string_view text) {
  KeyBuffer key;
  (void)key.set_text(text);  // short ones of our own, or names, which are shorter than keys may be
  return key;
}

/// In a condition's second word: the first one names the object that is its lock.
constexpr std::uint64_t kOtherLock = ~std::uint64_t{0};

std::string pin_name(ObjectId id) { return fmt::format("{}{}", kPinPrefix, static_cast<std::uint64_t>(id)); }

std::string_view text_of(KeyView key) {
  if (key.empty() || key[0] != static_cast<std::byte>(KeyKind::text)) return {};
  return as_text(key.subspan(1));
}

/// The words that a new primitive begins with.
AuxWords first_words(const Wanted& wanted) {
  AuxWords words{};
  switch (wanted.type) {
    case ObjectType::queue:
    case ObjectType::joinable_queue: QueueState{.maxsize = wanted.maxsize}.write(words); break;
    case ObjectType::semaphore: SemaphoreState{.value = wanted.value}.write(words); break;
    case ObjectType::bounded_semaphore:
      SemaphoreState{.value = wanted.value, .bound = wanted.value}.write(words);
      break;
    case ObjectType::barrier:
      BarrierState{.parties = static_cast<std::uint32_t>(wanted.parties), .has_action = wanted.action}.write(words);
      break;
    case ObjectType::condition:
      if (wanted.lock) words = {static_cast<std::uint64_t>(wanted.lock->id), kOtherLock};
      break;
    case ObjectType::array: words[0] = static_cast<std::uint64_t>(wanted.typecode); break;
    default: break;
  }
  return words;
}

}  // namespace

Home::Home(Store& store, std::unique_ptr<Domain> domain)
    : store_{store},
      domain_{std::move(domain)},
      sync_{domain_->writer(), *this},
      collector_{*this, store.config().session_grace} {
  if (key().is_group) writer().count_writers(store.config().store_max_writer_bytes);
}

// After a restart

void Home::restore() {
  std::vector<ObjectInfo> records;
  writer().for_each_object([&](const ObjectInfo& info) {
    if (info.id == ObjectId::names) return;
    if (info.type == ObjectType::session) return records.push_back(info);
    auto object = std::make_shared<Object>();
    object->home = this;
    object->id = info.id;
    object->offset = info.offset;
    object->type = info.type;
    object->uid = info.owner_uid;
    object->was_referred = true;
    if (info.type == ObjectType::array) {
      object->typecode = static_cast<Encoding>(info.aux[0]);
      object->length = info.count;
      charge_array(*object, 1);
    }
    objects_.emplace(info.id, std::move(object));
  });
  std::uint64_t position = 0;
  const auto name = [this](const EntryView& entry) {
    writer().count(entry);
    const auto object =
        entry.value.size() == sizeof(std::uint64_t) ? find(ObjectId{load<std::uint64_t>(entry.value.data())}) : nullptr;
    if (!object) return;
    object->name = text_of(entry.key);
    names_[object->name] = object;
  };
  while (writer().visit_entries(ObjectId::names, position, kSteps, name)) {
  }
  for (const auto& [id, object] : objects_) restore_entries(object);
  for (const auto& info : records) restore_record(info);
  sync_.restore();
  collector_.suspect();
}

void Home::restore_entries(const ObjectPtr& object) {
  if (shape_of(object->type) == Shape::array) return;
  if (object->type == ObjectType::condition) {
    auto tx = begin();
    const auto info = writer().info(tx, object->id);
    if (info && info->aux[1] == kOtherLock) object->lock = find(ObjectId{info->aux[0]});
    return;
  }
  const auto visit = [&](const EntryView& entry) {
    writer().count(entry);
    if (entry.refs.size() > 0) object->has_refs = true;
    if (entry.expires_ns != 0) expiry_.note(object->id, std::string{as_text(entry.key)}, entry.expires_ns);
  };
  std::uint64_t position = 0;
  while (writer().visit_entries(object->id, position, kSteps, visit)) {
  }
}

void Home::restore_record(const ObjectInfo& info) {
  auto& orphan = orphans_[info.id];
  orphan.uid = info.owner_uid;
  orphan.applied = info.aux[kApplied];
  const auto visit = [&](const EntryView& entry) {
    writer().count(entry);
    const auto key = text_of(entry.key);
    if (key == kTokenKey) orphan.token = as_text(entry.value);
    if (!key.starts_with(kPinPrefix) || entry.value.size() != sizeof(std::uint64_t)) return;
    const auto object = find(ObjectId{load<std::uint64_t>(entry.value.data())});
    if (!object) return;
    pin(*object);
    orphan.pinned.push_back(object);
  };
  std::uint64_t position = 0;
  while (writer().visit_entries(info.id, position, kSteps, visit)) {
  }
}

/// An array's elements are nobody's entries: they are its maker's, as long as it is there.
void Home::charge_array(const Object& object, int sign) {
  if (object.type == ObjectType::array)
    writer().charge_writer(object.uid, sign * static_cast<std::int64_t>(object.length * sizeof(std::uint64_t)));
}

// Objects

ObjectPtr Home::find(ObjectId id) const {
  const auto found = objects_.find(id);
  return found == objects_.end() ? nullptr : found->second;
}

ObjectPtr Home::find_name(const std::string& name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : found->second;
}

Result<void> Home::set_up(Transaction& tx, ObjectId id, Client& client, const Wanted& wanted) {
  const auto words = first_words(wanted);
  for (std::size_t index = 0; index < words.size(); ++index)
    if (words[index] != 0)
      if (const auto done = writer().set_aux(tx, id, index, words[index]); !done) return done;
  if (wanted.type == ObjectType::array)
    if (const auto done = writer().set_length(tx, id, wanted.length); !done) return done;
  if (wanted.type == ObjectType::value)
    if (const auto done = writer().set_value(tx, id,
                                             {.value = wanted.content,
                                              .encoding = static_cast<std::uint8_t>(wanted.encoding),
                                              .writer_uid = client.state.uid});
        !done)
      return done;
  if (wanted.name.empty()) return {};
  const auto number = static_cast<std::uint64_t>(id);
  const auto named = writer().put(tx, ObjectId::names, text_key(wanted.name),
                                  {.value = std::as_bytes(std::span{&number, 1}),
                                   .encoding = static_cast<std::uint8_t>(Encoding::u64),
                                   .writer_uid = client.state.uid});
  if (!named) return named.error();
  return {};
}

template <class F>
auto Home::with_work(Client* client, ObjectId own, F&& change) -> decltype(change()) {
  for (int attempt = 0;; ++attempt) {
    auto done = change();
    if (done || done.error().errc() != Errc::busy) return done;
    const bool is_last = attempt == 2;
    if (is_last && client == nullptr) return done;
    // A client's request that is `busy` is kept until what blocks the client is free: so something has to, even if all
    // the work was done just now.
    for (const auto id : {ObjectId::names, own})
      for (bool is_free = id == ObjectId::none; !is_free;) {
        const auto worked = writer().work(id, kSteps);
        if (!worked) return worked.error();
        is_free = *worked && !is_last;
        if (is_free || client == nullptr) continue;
        const auto object = stand_in(id);
        start_work(object);
        store_.wait_for(*client, object);
        return done;
      }
  }
}

ObjectPtr Home::stand_in(ObjectId id) {
  auto& object = stand_ins_[id];
  if (!object) {
    object = std::make_shared<Object>();
    object->home = this;
    object->id = id;
    object->name = "its own";  // nothing collects it
  }
  return object;
}

Result<ObjectPtr> Home::make(Client& client, const Wanted& wanted) {
  if (objects_.size() >= store_.config().store_max_objects)
    return fail(Errc::limit_reached, fmt::format("store_max_objects: {} has {}", domain_text(key()), objects_.size()));
  if (wanted.type == ObjectType::array)
    if (const auto may = writer().check_writer(client.state.uid, wanted.length * sizeof(std::uint64_t)); !may)
      return may.error();
  auto record = ObjectId::none;
  if (wanted.name.empty()) {
    const auto own = record_of(client);
    if (!own) return own.error();
    record = (*own)->id;
  }
  const auto info = with_work(&client, record, [&]() -> Result<ObjectInfo> {
    auto tx = begin();
    auto made = writer().create_object(tx, {.type = wanted.type,
                                            .flags = wanted.name.empty() ? kAnonymous : std::uint8_t{0},
                                            .owner_uid = client.state.uid,
                                            .created = unix_ms() / 1000});
    if (!made) return made;
    if (const auto done = set_up(tx, made->id, client, wanted); !done) return done.error();
    if (record != ObjectId::none)
      if (const auto done = note_pin(tx, record, made->id, true); !done) return done.error();
    if (const auto done = tx.commit(); !done) return done.error();
    return made;
  });
  if (!info) return info.error();
  auto object = std::make_shared<Object>();
  object->home = this;
  object->id = info->id;
  object->offset = info->offset;
  object->type = wanted.type;
  object->uid = client.state.uid;
  object->name = wanted.name;
  object->typecode = wanted.typecode;
  object->length = wanted.length;
  object->lock = wanted.lock;
  if (wanted.lock) wanted.lock->was_referred = true;
  charge_array(*object, 1);
  objects_.emplace(object->id, object);
  if (!wanted.name.empty()) names_.emplace(wanted.name, object);
  collector_.shade(object);
  return object;
}

Result<void> Home::remove(const ObjectPtr& object, Client* client) {
  if (object->gone) return {};
  const auto removed = with_work(client, ObjectId::none, [&]() -> Result<void> {
    auto tx = begin();
    if (!object->name.empty()) {
      const auto erased = writer().erase(tx, ObjectId::names, text_key(object->name));
      if (!erased) return erased.error();
    }
    if (const auto done = writer().remove(tx, object->id); !done) return done;
    return tx.commit();
  });
  if (!removed) return removed;
  sync_.forget_object(object->id);
  collector_.forget(object);
  expiry_.forget(object->id);
  object->gone = true;
  charge_array(*object, -1);
  object->holds.clear();
  if (!object->name.empty()) names_.erase(object->name);
  if (object->has_refs || object->lock) collector_.suspect();
  objects_.erase(object->id);
  store_.tell_gone(object);
  set_free(object);
  reclaiming_ = true;
  want_work();
  return {};
}

Result<void> Home::refer(Object& container, std::span<const ObjectId> refs) {
  for (const auto id : refs) {
    const auto object = find(id);
    if (!object)
      return fail(Errc::unknown_object,
                  fmt::format("refs: there is no object {} in this segment", static_cast<std::uint64_t>(id)));
    object->was_referred = true;
    collector_.shade(object);
  }
  container.has_refs = true;
  return {};
}

// Who keeps objects

Result<void> Home::note_pin(Transaction& tx, ObjectId record, ObjectId object, bool is_open) {
  const auto key = text_key(pin_name(object));
  if (!is_open) {
    const auto erased = writer().erase(tx, record, key);
    if (!erased) return erased.error();
    return {};
  }
  const auto number = static_cast<std::uint64_t>(object);
  const auto put = writer().put(
      tx, record, key,
      {.value = std::as_bytes(std::span{&number, 1}), .encoding = static_cast<std::uint8_t>(Encoding::u64)});
  if (!put) return put.error();
  return {};
}

Result<void> Home::open(Client& client, const ObjectPtr& object) {
  const auto known = object->openers.find(&client);
  if (known != object->openers.end()) {
    ++known->second;
    return {};
  }
  if (object->name.empty()) {
    const auto record = record_of(client);
    if (!record) return record.error();
    const auto noted = with_work(&client, (*record)->id, [&]() -> Result<void> {
      auto tx = begin();
      if (const auto done = note_pin(tx, (*record)->id, object->id, true); !done) return done;
      return tx.commit();
    });
    if (!noted) return noted;
  }
  object->openers.emplace(&client, 1);
  collector_.shade(object);
  return {};
}

void Home::close(Client& client, const ObjectPtr& object) {
  const auto known = object->openers.find(&client);
  if (known == object->openers.end() || --known->second > 0) return;
  object->openers.erase(known);
  if (object->holds.erase(&client) > 0 && !object->is_held()) set_free(object);
  if (object->gone || !object->name.empty()) return;
  if (const auto record = client.state.records.find(this); record != client.state.records.end()) {
    auto tx = begin();
    // A pin too many in the record outlives nothing but the daemon.
    if (note_pin(tx, record->second.id, object->id, false)) (void)tx.commit();
  }
  drop_if_unused(object);
}

void Home::unpin(const ObjectPtr& object) {
  --object->pins;
  drop_if_unused(object);
}

void Home::drop_if_unused(const ObjectPtr& object) {
  if (object->gone || !object->name.empty() || !object->openers.empty() || object->pins > 0) return;
  if (object->was_referred || collector_.is_marking()) return collector_.suspect();
  if (object->working) {
    object->doomed = true;
    return;
  }
  if (!remove(object)) collector_.suspect();
}

// Sessions

Result<SessionRecord*> Home::record_of(Client& client) {
  if (client.state.last_home == this) return client.state.last_record;
  if (const auto known = client.state.records.find(this); known != client.state.records.end()) {
    client.state.last_home = this;
    client.state.last_record = &known->second;
    return &known->second;
  }
  auto tx = begin();
  const auto made = writer().create_object(
      tx, {.type = ObjectType::session, .owner_uid = client.state.uid, .created = unix_ms() / 1000});
  if (!made) return made.error();
  const auto put = writer().put(tx, made->id, text_key(kTokenKey),
                                {.value = as_bytes(client.state.token),
                                 .encoding = static_cast<std::uint8_t>(Encoding::bytes),
                                 .writer_uid = client.state.uid});
  if (!put) return put.error();
  if (const auto done = tx.commit(); !done) return done.error();
  auto& record = client.state.records[this] = {made->id};
  sessions_[static_cast<std::uint64_t>(made->id)] = &client;
  return &record;
}

void Home::remove_record(ObjectId record) {
  auto tx = begin();
  if (writer().remove(tx, record)) (void)tx.commit();
  reclaiming_ = true;
  want_work();
}

void Home::end_session(Client& client) {
  const auto record = client.state.records.find(this);
  if (record == client.state.records.end()) return;
  const auto id = record->second.id;
  sessions_.erase(static_cast<std::uint64_t>(id));
  client.state.records.erase(record);
  client.state.last_home = nullptr;
  sync_.end_session(static_cast<std::uint64_t>(id), [this, id] { remove_record(id); });
}

void Home::adopt(ObjectId record, Client& client) {
  auto orphan = orphans_.extract(record);
  client.state.records[this] = {record, true, orphan.mapped().applied};
  sessions_[static_cast<std::uint64_t>(record)] = &client;
  for (auto& object : orphan.mapped().pinned) {
    ++object->openers[&client];
    --object->pins;
    client.state.kept.push_back(std::move(object));
  }
}

void Home::abandon(ObjectId record) {
  auto orphan = orphans_.extract(record);
  for (const auto& object : orphan.mapped().pinned) unpin(object);
  sync_.end_session(static_cast<std::uint64_t>(record), [this, record] { remove_record(record); });
}

Client* Home::client_of(std::uint64_t record) const {
  const auto found = sessions_.find(record);
  return found == sessions_.end() ? nullptr : found->second;
}

Result<void> Home::note(Transaction& tx, std::uint64_t session, std::uint64_t request) {
  const auto record = writer().info(tx, ObjectId{session});
  if (!record) return record.error();
  if (request <= record->aux[kApplied]) return {};  // it waited, and later ones were done meanwhile
  return writer().set_aux(tx, ObjectId{session}, kApplied, request);
}

// Time to live

bool Home::expire_some() {
  const auto now = boot_time_ns();
  std::vector<Expiry::Key> held;
  for (std::size_t step = 0; step < kExpireTogether; ++step) {
    auto due = expiry_.take_due(now);
    if (!due) break;
    const auto object = find(due->first);
    if (!object) continue;
    if (object->is_held()) {
      held.push_back(std::move(*due));
      continue;
    }
    const auto key = as_bytes(due->second);
    auto tx = writer().begin(now);
    const auto found = writer().find(tx, object->id, key);
    if (!found || *found) continue;  // set anew meanwhile: it is noted again if it has a time to live
    if (!writer().erase(tx, object->id, key) || !tx.commit()) continue;
    store_.tell(*object, ChangeKind::expired, key);
    if (object->has_refs) collector_.suspect();
  }
  for (auto& [id, key] : held) expiry_.note(id, std::move(key), now + 10'000'000);
  return !expiry_.next() || *expiry_.next() > now;
}

// Work in slices

void Home::want_work() { store_.want_work(); }

void Home::start_work(const ObjectPtr& object) {
  if (object->working) return;
  object->work_error.reset();
  object->working = true;
  working_.push_back(object);
  want_work();
}

bool Home::work() {
  for (std::size_t index = 0; index < working_.size();) {
    const auto object = working_[index];
    const auto until = now() + kWorkTime;
    auto done = writer().work(object->id, kSteps);
    while (done && !*done && now() < until) done = writer().work(object->id, kSteps);
    if (done && !*done) {
      ++index;
      continue;
    }
    object->working = false;
    if (!done) object->work_error = done.error();
    working_.erase(working_.begin() + static_cast<std::ptrdiff_t>(index));
    stand_ins_.erase(object->id);
    if (object->doomed) {
      object->doomed = false;
      drop_if_unused(object);
    }
    if (!object->is_held()) set_free(object);
  }
  if (reclaiming_) reclaiming_ = !writer().reclaim(kSteps);
  if (std::exchange(syncing_, false)) sync_.work();
  const bool is_collected = collector_.work(now());
  return working_.empty() && !reclaiming_ && !syncing_ && is_collected;
}

void Home::set_free(const ObjectPtr& object) {
  store_.run_blocked(object);
  if (!object->gone) sync_.settle(object->id);
}

// SyncHost

Result<void> Home::push(Transaction& tx, ObjectId queue, const ItemView& item) {
  const auto info = writer().info(tx, queue);
  if (!info) return info.error();
  if (!item.refs.empty())
    if (const auto object = find(queue))
      if (const auto known = refer(*object, item.refs); !known) return known;
  const EntryInput entry{
      .value = item.value, .encoding = item.encoding, .writer_uid = item.writer_uid, .refs = item.refs};
  return writer().insert(tx, queue, info->count, {&entry, 1});
}

Result<void> Home::pop(Transaction& tx, ObjectId queue, std::uint64_t session, std::vector<std::byte>& body) {
  const auto item = writer().item(tx, queue, 0);
  if (!item) return item.error();
  BodyWriter out{body};
  out.begin_result();
  const auto refs = copy_refs(item->refs);
  Argument value{.encoding = item->encoding, .bytes = item->value, .refs = std::as_bytes(std::span{refs})};
  ArenaRef place;
  if (item->value.size() > kMaxInlineItemBytes) {
    auto* const client = client_of(session);
    if (client == nullptr) return fail(Errc::out_of_space, "the session is away");
    const auto placed = client->place(item->value);
    if (!placed) return placed.error();
    place = *placed;
    value.in_arena = true;
    value.bytes = std::as_bytes(std::span{&place, 1});
  }
  out.copy(value);
  if (item->refs.size() > 0) collector_.suspect();
  return writer().erase_items(tx, queue, 0, 1);
}

bool Home::may_change(ObjectId object) {
  const auto found = find(object);
  return !found || !found->is_held();
}

void Home::changed(ObjectId object) {
  const auto found = find(object);
  if (found && !found->watches.empty()) store_.tell(*found, ChangeKind::other, {});
}

void Home::more() {
  syncing_ = true;
  want_work();
}

void Home::work_on(ObjectId id) {
  asked_ = find(id);
  if (!asked_) asked_ = stand_in(id);
  start_work(asked_);
}

void Home::deadline_changed() { store_.arm(); }

TimePoint Home::now() { return store_.now(); }

std::uint64_t Home::unix_ms() { return store_.unix_ms(); }

}  // namespace taskpool::store

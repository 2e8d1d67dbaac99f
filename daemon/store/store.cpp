#include "daemon/store/store.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <filesystem>
#include <thread>

#include "daemon/log.hpp"
#include "daemon/os/names.hpp"
#include "proto/items.hpp"
#include "proto/limits.hpp"

namespace taskpool::store {
namespace {

/// "uid-1000", "gid-27".
std::string file_name(DomainKey key) { return fmt::format("{}-{}", key.is_group ? "gid" : "uid", key.number); }

std::optional<DomainKey> parse_file_name(std::string_view name) {
  DomainKey key{name.starts_with("gid-"), 0};
  if (!key.is_group && !name.starts_with("uid-")) return std::nullopt;
  const auto [end, ec] = std::from_chars(name.data() + 4, name.data() + name.size(), key.number);
  if (ec != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return key;
}

/// How long a daemon that leaves may still have the store. It gives up its socket first, at which clients start the
/// next one.
constexpr std::chrono::seconds kLeaving{3};
constexpr std::chrono::milliseconds kLeavingPoll{5};

/// The lock that says whose store this is. Waits kLeaving for another daemon to end, which may remove it at the last
/// moment.
Result<os::UniqueFd> lock_folder(const std::string& folder) {
  const auto path = folder + "/lock";
  const auto until = std::chrono::steady_clock::now() + kLeaving;
  for (;; std::this_thread::sleep_for(kLeavingPoll)) {
    const bool is_last = std::chrono::steady_clock::now() >= until;
    os::UniqueFd lock{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (lock.get() < 0) return errno_error(path);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (is_last) return fail(Errc::already_running, folder + ": another daemon has this store");
      continue;
    }
    struct ::stat ours {};
    struct ::stat there {};
    if (::fstat(lock.get(), &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino)
      return lock;
    if (is_last) return fail(Errc::system, path + ": it keeps going away");
  }
}

Error no_object(std::string_view what) { return fail(Errc::unknown_object, fmt::format("object: no {}", what)); }

Error wrong_type(const Object& object, std::string_view wanted) {
  return fail(Errc::wrong_type, fmt::format("object: it is a {}, not a {}", name(object.type), wanted));
}

}  // namespace

Store::Store(boost::asio::io_context& io, const Config& config, Metrics& metrics)
    : io_{io}, config_{config}, metrics_{metrics}, timer_{io} {}

Store::~Store() { *alive_ = false; }

// Segments

Result<void> Store::start() {
  namespace fs = std::filesystem;
  const auto& folder = config_.store_dir;
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return errno_error(folder);
  struct ::stat about {};
  if (::lstat(folder.c_str(), &about) != 0) return errno_error(folder);
  if (!S_ISDIR(about.st_mode) || about.st_uid != ::geteuid() || (about.st_mode & 022) != 0)
    return fail(Errc::bad_argument, folder + ": want a directory that only this user may write to");
  struct ::statfs system {};
  if (::statfs(folder.c_str(), &system) == 0 && system.f_type != TMPFS_MAGIC && system.f_type != RAMFS_MAGIC)
    log::warning("store_not_in_memory", {{"store_dir", folder}});
  // A file of its own: clients have descriptors of the segments, and could lock those.
  if (auto locked = lock_folder(folder); locked)
    lock_ = std::move(*locked);
  else
    return locked.error();

  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    const auto key = parse_file_name(entry.path().filename().string());
    if (!key) continue;
    const auto opened = open_file(entry.path().string(), *key);
    if (!opened) return opened.error();
  }
  if (failed) return fail(Errc::system, folder + ": " + failed.message());
  for (const auto& [key, kept] : homes_)
    if (!kept->orphans().empty()) grace_end_ = now() + config_.session_grace;
  arm();
  return {};
}

Result<void> Store::open_file(const std::string& path, DomainKey key) {
  std::vector<std::string> messages;
  auto domain = Domain::open(path, key, messages);
  for (const auto& message : messages) log::warning("store_repaired", {{"segment", path}, {"what", message}});
  if (domain) {
    (*domain)->number = ++last_number_;
    auto& kept = homes_[key] = std::make_unique<Home>(*this, std::move(*domain));
    kept->restore();
    log::info("store_opened", {{"segment", path}, {"objects", kept->objects().size()}});
    return {};
  }
  if (domain.error().errc() != Errc::bad_segment) return domain.error();
  for (int number = 1;; ++number) {
    const auto aside = fmt::format("{}.damaged-{}", path, number);
    if (::access(aside.c_str(), F_OK) == 0) continue;
    if (::rename(path.c_str(), aside.c_str()) != 0) return errno_error(path);
    log::error("store_damaged", {{"segment", path}, {"moved_to", aside}, {"error", domain.error().detail}});
    return {};
  }
}

Result<Home*> Store::home(DomainKey key, bool make) {
  if (const auto known = homes_.find(key); known != homes_.end()) return known->second.get();
  if (!make) return nullptr;
  if (lock_.get() < 0) return fail(Errc::internal, "the store is not open");
  const auto bound = key.is_group ? bounds_.end() : bounds_.find(key.number);
  const auto bytes =
      std::max(config_.store_max_bytes,
               bound == bounds_.end() ? 0 : std::min<std::uint64_t>(bound->second.bytes, kMaxSegmentBytes));
  auto domain = Domain::create(config_.store_dir + "/" + file_name(key), key, bytes / kUnitBytes * kUnitBytes);
  if (!domain) {
    if (domain.error().errc() == Errc::system)
      return fail(Errc::store_full, domain.error().detail + ": " + domain.error().code.message());
    return domain.error();
  }
  (*domain)->number = ++last_number_;
  if (bound != bounds_.end()) (*domain)->bound(bound->second.bytes, bound->second.rule);
  auto& made = homes_[key] = std::make_unique<Home>(*this, std::move(*domain));
  return made.get();
}

void Store::bound(std::uint32_t uid, std::uint64_t bytes, const std::string& rule) {
  const bool is_bound = bytes != std::numeric_limits<std::uint64_t>::max();
  if (is_bound)
    bounds_[uid] = {bytes, rule};
  else if (bounds_.erase(uid) == 0)
    return;
  if (const auto known = homes_.find(DomainKey{false, uid}); known != homes_.end())
    known->second->domain().bound(bytes, rule);
}

std::uint64_t Store::used_bytes(std::uint32_t uid) const {
  const auto known = homes_.find(DomainKey{false, uid});
  return known == homes_.end() ? 0 : known->second->writer().usage().used_bytes;
}

void Store::leave() {
  freeze();
  if (lock_.get() < 0) return;
  const auto& folder = config_.store_dir;
  for (const auto& [key, home] : homes_)
    if (home->is_empty()) ::unlink((folder + "/" + file_name(key)).c_str());
  // The directory goes if nothing is left in it but the lock; that it stays harms nobody.
  std::error_code ignored;
  const auto begin = std::filesystem::directory_iterator{folder, ignored};
  if (!ignored && std::distance(begin, std::filesystem::directory_iterator{}) == 1) {
    ::unlink((folder + "/lock").c_str());
    ::rmdir(folder.c_str());
  }
  lock_.reset();
}

void Store::freeze() {
  frozen_ = true;
  timer_.cancel();
}

// Who may see what

bool Store::may_see(const Client& client, DomainKey key) {
  return key.is_group ? client.is_member(key.number) : key.number == client.state.uid;
}

Result<DomainKey> Store::domain_for(Client& client, const std::string& group) const {
  if (group.empty()) return DomainKey{false, client.state.uid};
  const auto gid = os::find_group(group);
  if (!gid || !client.is_member(*gid)) return no_object("group " + group + " that you are a member of");
  return DomainKey{true, *gid};
}

// Opening

ObjectPtr Store::find_id(const std::string& id, const std::function<bool(DomainKey)>& may_see) const {
  const auto parsed = parse_object_text(id);
  if (!parsed || !may_see(parsed->first)) return nullptr;
  const auto home = homes_.find(parsed->first);
  return home == homes_.end() ? nullptr : home->second->find(parsed->second);
}

Result<Store::Opened> Store::open_id(Client& client, const std::string& id) {
  auto object = find_id(id, [&](DomainKey key) { return may_see(client, key); });
  if (!object) return no_object(id);
  return Opened{std::move(object), false};
}

Result<Wanted> Store::wanted(Client& client, ObjectType type, const ObjectOpen& head, const FrameView& frame) {
  const auto refuse = [](const char* field, const char* why) {
    return fail(Errc::bad_argument, fmt::format("{}: {}", field, why));
  };
  Wanted wanted{.type = type,
                .name = head.name,
                .maxsize = head.maxsize,
                .value = head.value,
                .parties = head.parties,
                .action = head.action};
  if (type == ObjectType::barrier && head.parties == 0) return refuse("parties", "want at least 1");
  if (type == ObjectType::array) {
    if (head.typecode == Encoding::none) return refuse("typecode", "missing");
    if (head.length == 0 || head.length > kMaxArrayWords)
      return refuse("length", head.length == 0 ? "want at least 1" : "more than an array has; use a buffer");
    wanted.typecode = head.typecode;
    wanted.length = head.length;
  }
  if (type == ObjectType::condition && head.lock != 0) {
    const auto lock = opened(client, head.lock);
    if (!lock) return lock.error();
    if ((*lock)->type != ObjectType::lock && (*lock)->type != ObjectType::rlock) return wrong_type(**lock, "lock");
    wanted.lock = *lock;
  }
  if (frame.body.empty()) return wanted;
  if (type != ObjectType::value) return fail(Errc::bad_message, "body: only a value begins with one");
  const auto& prefix = frame.prefix;
  if (const auto good = check_single(prefix.flags, prefix.encoding, prefix.count, frame.body); !good)
    return good.error();
  wanted.encoding = prefix.encoding;
  wanted.content = frame.body;
  if ((prefix.flags & kInArena) != 0) {
    const auto place = load<ArenaRef>(frame.body.data());
    wanted.content = client.find_up(place);
    if (wanted.content.size() != place.bytes)
      return fail(Errc::bad_message, "body: there is no such place in the up arena");
    if (place.bytes > kMaxStoreValueBytes)
      return fail(Errc::body_too_large,
                  fmt::format("body: {} bytes, at most {}; use a buffer", place.bytes, kMaxStoreValueBytes));
  }
  return wanted;
}

Result<Store::Opened> Store::open_name(Client& client, const ObjectOpen& head, const FrameView& frame) {
  const auto type = find_object_type(head.type);
  if (!type || *type == ObjectType::session) return fail(Errc::bad_argument, "type: unknown");
  const auto key = domain_for(client, head.group);
  if (!key) return key.error();
  const auto there = home(*key, false);
  if (!there) return there.error();
  const auto known = *there == nullptr || head.name.empty() ? nullptr : (*there)->find_name(head.name);
  if (known) {
    if (head.create == Create::exclusive) return fail(Errc::object_exists, "name: " + head.name);
    if (known->type != *type) return wrong_type(*known, name(*type));
    return Opened{known, false};
  }
  if (head.create == Create::never) return no_object(head.name);
  const auto wanted = this->wanted(client, *type, head, frame);
  if (!wanted) return wanted.error();
  if (wanted->lock && wanted->lock->home->key() != *key)
    return fail(Errc::bad_argument, "lock: it belongs to another user or group");
  const auto found = home(*key, true);
  if (!found) return found.error();
  auto made = (*found)->make(client, *wanted);
  if (!made) return made.error();
  return Opened{std::move(*made), true};
}

Result<void> Store::check_number(std::uint32_t target) {
  if (target > 0 && target <= kMaxOpened) return {};
  return fail(Errc::bad_message, fmt::format("target: want 1 to {}", kMaxOpened));
}

Result<Store::Opened> Store::open(Client& client, std::uint32_t target, const ObjectOpen& head,
                                  const FrameView& frame) {
  if (const auto good = check_number(target); !good) return good.error();
  buffers_.close(client.state.number, target);
  // The number means nothing before it is known what it is to mean: requests that already use it fail, then.
  const auto before = target < client.state.opened.size() ? client.state.opened[target] : nullptr;
  auto opened = head.object.empty() ? open_name(client, head, frame) : open_id(client, head.object);
  if (opened) {
    if (const auto done = opened->object->home->open(client, opened->object); !done) {
      const auto object = opened->object;
      opened = done.error();
      object->home->drop_if_unused(object);
    }
  }
  if (before) release_number(client, target);
  if (!opened) return opened;
  if (target >= client.state.opened.size())
    client.state.opened.resize(std::max<std::size_t>(target + 1, 2 * client.state.opened.size()));
  client.state.opened[target] = opened->object;
  return opened;
}

void Store::release_number(Client& client, std::uint32_t target) {
  const auto object = std::move(client.state.opened[target]);
  client.state.opened[target] = nullptr;
  object->home->close(client, object);
}

Result<Buffers::Opened> Store::open_buffer(Client& client, std::uint32_t target, const BufferOpen& head) {
  if (const auto good = check_number(target); !good) return good.error();
  close_object(client, target);
  const auto bound = bounds_.find(client.state.uid);
  auto opened = buffers_.open(client.state.number, client.state.uid, target, head,
                              bound == bounds_.end() ? config_.store_max_bytes : bound->second.bytes, unix_ms() / 1000);
  if (!opened && opened.error().errc() == Errc::store_full && bound != bounds_.end())
    return fail(Errc::store_full, fmt::format("{}: {}", bound->second.rule, opened.error().detail));
  return opened;
}

void Store::close(Client& client, std::uint32_t target) {
  buffers_.close(client.state.number, target);
  close_object(client, target);
}

void Store::close_object(Client& client, std::uint32_t target) {
  if (target < client.state.opened.size() && client.state.opened[target]) release_number(client, target);
}

Result<ObjectPtr> Store::opened(Client& client, std::uint32_t target) const {
  if (target >= client.state.opened.size() || !client.state.opened[target])
    return fail(Errc::unknown_object, fmt::format("target: nothing is open as {}", target));
  const auto& object = client.state.opened[target];
  if (object->gone) return fail(Errc::unknown_object, "object: it was deleted");
  return object;
}

// Sessions and pins

bool Store::resume(Client& client, const std::string& token) {
  if (token.empty() || !grace_end_) return false;
  bool found = false;
  for (const auto& [key, home] : homes_)
    for (auto next = home->orphans().begin(); next != home->orphans().end();) {
      const auto record = next++;
      if (record->second.token != token || record->second.uid != client.state.uid) continue;
      client.state.token = token;
      home->adopt(record->first, client);
      found = true;
    }
  return found;
}

void Store::end(Client& client) {
  *client.state.self = nullptr;
  if (client.state.blocked_on) std::erase(client.state.blocked_on->blocked, &client);
  std::erase(resumable_, &client);
  client.state.pending.clear();
  for (const auto& [request, object] : client.state.watched)
    std::erase_if(object->watches, [&](const auto& watch) { return watch->client == &client; });
  std::erase_if(lagging_, [&](const auto& watch) { return watch->client == &client; });
  client.state.watched.clear();
  buffers_.end_session(client.state.number);
  const auto objects = std::exchange(client.state.opened, {});
  const auto kept = std::exchange(client.state.kept, {});
  if (frozen_) return;
  // The record goes as a whole: nothing needs to be taken out of it first.
  for (const auto& [key, home] : homes_) home->end_session(client);
  for (const auto& object : objects)
    if (object) object->home->close(client, object);
  for (const auto& object : kept) object->home->close(client, object);
}

Result<Store::Pin> Store::pin(Client& client, const std::vector<std::string>& ids) {
  if (ids.empty()) return Pin{};
  std::vector<ObjectPtr> objects;
  for (const auto& id : ids) {
    auto opened = open_id(client, id);
    if (!opened) return opened.error();
    objects.push_back(std::move(opened->object));
  }
  return pin_all(std::move(objects));
}

Store::Pin Store::pin_named(const std::string& id, std::uint32_t uid, const Client* client) {
  auto object = find_id(id, [&](DomainKey key) {
    if (client != nullptr) return may_see(*client, key);
    return key.is_group || key.number == uid;  // who fetches it has to be a member all the same
  });
  if (!object) return nullptr;
  object->was_referred = true;  // after the pin it has the time that it takes to open it
  return pin_all({std::move(object)});
}

Store::Pin Store::pin_opened(const Client& client, std::uint32_t target) {
  if (target >= client.state.opened.size()) return nullptr;
  const auto& object = client.state.opened[target];
  if (!object || object->gone || !object->name.empty()) return nullptr;
  return pin_all({object});
}

Store::Pin Store::pin_all(std::vector<ObjectPtr> objects) {
  for (const auto& object : objects) {
    object->home->pin(*object);
    object->home->collector().shade(object);
  }
  return Pin{static_cast<void*>(this), [this, objects = std::move(objects), alive = alive_](void*) {
               if (!*alive || frozen_) return;
               for (const auto& object : objects) object->home->unpin(object);
             }};
}

std::size_t Store::named() const {
  std::size_t count = 0;
  for (const auto& [key, home] : homes_) count += home->named();
  return count;
}

void Store::measure(Metrics& metrics) const {
  metrics.store_segments = homes_.size();
  metrics.store_buffer_bytes = buffers_.bytes();
  metrics.store_bytes = metrics.store_live_bytes = metrics.store_objects = metrics.store_waiting = 0;
  for (const auto& [key, home] : homes_) {
    const auto usage = home->writer().usage();
    metrics.store_bytes += usage.used_bytes;
    metrics.store_live_bytes += usage.live_bytes;
    metrics.store_objects += home->objects().size();
    metrics.store_waiting += home->sync().size();
  }
}

std::uint64_t Store::unix_ms() const {
  using namespace std::chrono;
  return static_cast<std::uint64_t>(duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count());
}

// Watches

Result<void> Store::watch(Client& client, const FrameView& frame) {
  const auto object = opened(client, frame.prefix.target);
  if (!object) return object.error();
  if (client.state.watched.contains(frame.prefix.request))
    return fail(Errc::bad_message, "request: it watches already");
  if (client.state.watched.size() >= kMaxListed)
    return fail(Errc::limit_reached, fmt::format("watches: at most {}", kMaxListed));
  if (frame.prefix.count > 1) return fail(Errc::bad_message, "count: want one key or none");
  auto watch = std::make_shared<Watch>();
  watch->client = &client;
  watch->request = frame.prefix.request;
  watch->whole = frame.prefix.count == 0;
  if (!watch->whole) {
    if (const auto good = check_key(frame.body); !good) return fail(Errc::bad_key, "key: " + good.error().detail);
    watch->key = as_text(frame.body);
  }
  (*object)->watches.push_back(std::move(watch));
  client.state.watched.emplace(frame.prefix.request, *object);
  client.accept(frame.prefix.request);
  return {};
}

bool Store::cancel(Client& client, std::uint64_t request) {
  if (const auto watched = client.state.watched.find(request); watched != client.state.watched.end()) {
    const auto is_it = [&](const auto& watch) { return watch->client == &client && watch->request == request; };
    std::erase_if(watched->second->watches, is_it);
    std::erase_if(lagging_, is_it);
    client.state.watched.erase(watched);
    ErrorHead head;
    head.code = Errc::cancelled;
    client.refuse(request, head);
    return true;
  }
  for (auto pending = client.state.pending.begin(); pending != client.state.pending.end(); ++pending) {
    if (pending->prefix.request != request) continue;
    if (pending == client.state.pending.begin() && client.state.blocked_on) {
      std::erase(client.state.blocked_on->blocked, &client);
      client.state.blocked_on = nullptr;
      resumable_.push_back(&client);
      want_work();
    }
    const auto bytes = pending->body.size();
    if (pending->prefix.op == Op::object_open) close(client, pending->prefix.target);  // its uses fail
    client.state.pending.erase(pending);
    let_pass(client, bytes);
    ErrorHead head;
    head.code = Errc::cancelled;
    client.refuse(request, head);
    return true;
  }
  for (const auto& [home, record] : client.state.records)
    if (home->sync().cancel(static_cast<std::uint64_t>(record.id), request)) return true;
  return false;
}

void Store::tell(Object& object, ChangeKind kind, std::span<const std::byte> key) {
  ObjectStat stat;
  (void)object.home->domain().reader().stat({object.offset, object.id, object.type}, stat);
  for (const auto& watch : object.watches) {
    const bool concerns =
        watch->whole || kind == ChangeKind::other || kind == ChangeKind::gone || watch->key == as_text(key);
    if (!concerns || watch->lagged) continue;
    if (watch->client->tell(watch->request, static_cast<std::uint32_t>(kind), stat.version, key)) continue;
    watch->lagged = true;
    lagging_.push_back(watch);
    arm();
  }
}

void Store::tell_gone(const ObjectPtr& object) {
  for (const auto& watch : object->watches) {
    watch->client->state.watched.erase(watch->request);
    (void)watch->client->tell(watch->request, static_cast<std::uint32_t>(ChangeKind::gone), 0, {});
    std::erase(lagging_, watch);
  }
  object->watches.clear();
}

}  // namespace taskpool::store

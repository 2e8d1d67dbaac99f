#include "proto/codec.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "proto/fields.hpp"
#include "proto/limits.hpp"
#include "proto/shapes.hpp"

namespace taskpool {
namespace {

/// Reads what a shape lists.
template <class T>
class Reader {
 public:
  Reader(Fields& fields, T& message) : fields_{fields}, message_{message} {}

  void request() { strict_ = true; }
  bool strict() const { return strict_; }
  void require(const char* key) { fields_.require(key); }
  void text(const char* key, std::string T::*member, std::size_t max) { fields_.text(key, message_.*member, max); }
  void free_text(const char* key, std::string T::*member) { text(key, member, kMaxFrameHeadBytes); }
  /// The detail that belongs to code(), which came before: it keeps the name of a code that only newer versions know.
  void detail(const char* key, std::string T::*member) {
    free_text(key, member);
    if (!unknown_code_.empty()) message_.*member = unknown_code_ + ": " + message_.*member;
  }
  template <class N, class... Bounds>
  void integer(const char* key, N T::*member, Bounds... bounds) {
    fields_.integer(key, message_.*member, bounds...);
  }
  void number(const char* key, std::optional<double> T::*member) { fields_.number(key, message_.*member); }
  void boolean(const char* key, bool T::*member) { fields_.boolean(key, message_.*member); }
  void texts(const char* key, std::vector<std::string> T::*member, std::size_t max) {
    fields_.texts(key, message_.*member, kMaxListed, max);
  }
  void text_map(const char* key, std::map<std::string, std::string> T::*member) {
    fields_.text_map(key, message_.*member, kMaxListed, kMaxFrameHeadBytes);
  }
  void raw(const char* key, std::string T::*member, Json::value_t kind) { fields_.raw(key, message_.*member, kind); }

  void code(const char* key, Errc T::*member) {
    std::string text;
    fields_.text(key, text, kMaxNameBytes);
    const auto found = find_errc(text);
    if (found == Errc::ok) fields_.reject(key, "ok is no error");
    message_.*member = found.value_or(Errc::internal);
    if (!found) unknown_code_ = std::move(text);
  }
  void element(const char* key, Encoding T::*member) {
    std::string text;
    fields_.text(key, text, kMaxNameBytes);
    if (text.empty()) return;
    const auto found = find_encoding(text);
    if (!found || !is_array(*found)) return fields_.reject(key, "not the name of an element type");
    message_.*member = *found;
  }
  void choice(const char* key, std::string T::*member, std::initializer_list<std::string_view> allowed) {
    text(key, member, kMaxNameBytes);
    const std::string& value = message_.*member;
    if (!value.empty() && std::find(allowed.begin(), allowed.end(), value) == allowed.end())
      fields_.reject(key, "\"" + value + "\" is none of its values");
  }
  /// One of a list of names, which are those of the enumerators.
  template <class E, std::size_t N>
  void enumerator(const char* key, E T::*member, const std::array<std::string_view, N>& names) {
    std::string text{names[static_cast<std::size_t>(message_.*member)]};
    fields_.text(key, text, kMaxNameBytes);
    const auto found = std::find(names.begin(), names.end(), text);
    if (found == names.end()) return fields_.reject(key, "\"" + text + "\" is none of its values");
    message_.*member = static_cast<E>(found - names.begin());
  }
  /// A field that version 1 reserves.
  void zero(const char* key) {
    std::uint32_t value = 0;
    fields_.integer(key, value, 0);
  }
  template <class Inner>
  void object(const char* key, Inner T::*member) {
    if (auto fields = fields_.object(key)) read(key, *fields, message_.*member);
  }
  template <class Inner>
  void objects(const char* key, std::vector<Inner> T::*member) {
    for (auto& fields : fields_.objects(key, kMaxListed)) read(key, fields, (message_.*member).emplace_back());
  }
  /// Refuses a message for which `holds` is false.
  template <class Predicate>
  void check(const char* key, Predicate holds, const char* otherwise) {
    if (!holds(message_)) fields_.reject(key, otherwise);
  }

 private:
  template <class Inner>
  void read(const char* key, Fields& fields, Inner& into) {
    Reader<Inner> reader{fields, into};
    shape(reader, std::type_identity<Inner>{});
    fields_.join(key, fields.finish(strict_));
  }

  Fields& fields_;
  T& message_;
  bool strict_ = false;
  std::string unknown_code_;
};

/// Writes what a shape lists, except for fields that have their default.
template <class T>
class Writer {
 public:
  explicit Writer(const T& message) : message_{message} {}

  Json take() { return std::move(json_); }

  void request() {}
  void require(const char* key) { required_ = key; }
  void text(const char* key, std::string T::*member, std::size_t) { put(key, member); }
  void free_text(const char* key, std::string T::*member) { put(key, member); }
  void detail(const char* key, std::string T::*member) { put(key, member); }
  template <class N, class... Bounds>
  void integer(const char* key, N T::*member, Bounds...) {
    put(key, member);
  }
  void number(const char* key, std::optional<double> T::*member) {
    const auto value = message_.*member;
    if (value && std::isfinite(*value)) json_[key] = *value;  // JSON has no other numbers
  }
  void boolean(const char* key, bool T::*member) { put(key, member); }
  void texts(const char* key, std::vector<std::string> T::*member, std::size_t) { put(key, member); }
  void text_map(const char* key, std::map<std::string, std::string> T::*member) { put(key, member); }
  void raw(const char* key, std::string T::*member, Json::value_t) {
    if (const auto value = parse_json(message_.*member)) json_[key] = *value;
  }
  void code(const char* key, Errc T::*member) { json_[key] = name(message_.*member); }
  void element(const char* key, Encoding T::*member) {
    if (message_.*member != Encoding::none) json_[key] = name(message_.*member);
  }
  void choice(const char* key, std::string T::*member, std::initializer_list<std::string_view>) { put(key, member); }
  template <class E, std::size_t N>
  void enumerator(const char* key, E T::*member, const std::array<std::string_view, N>& names) {
    if (message_.*member != defaults_.*member) json_[key] = names[static_cast<std::size_t>(message_.*member)];
  }
  void zero(const char*) {}
  template <class Inner>
  void object(const char* key, Inner T::*member) {
    json_[key] = write(message_.*member);
  }
  template <class Inner>
  void objects(const char* key, std::vector<Inner> T::*member) {
    for (const auto& inner : message_.*member) json_[key].push_back(write(inner));
  }
  template <class Predicate>
  void check(const char*, Predicate, const char*) {}

 private:
  template <class V>
  void put(const char* key, V T::*member) {
    const V& value = message_.*member;
    if (required_ == key || value != defaults_.*member) set(json_[key], value);
  }
  template <class V>
  static void set(Json& field, const V& value) {
    field = value;
  }
  template <class V>
  static void set(Json& field, const std::optional<V>& value) {
    if (value) field = *value;
  }
  template <class Inner>
  static Json write(const Inner& inner) {
    Writer<Inner> writer{inner};
    shape(writer, std::type_identity<Inner>{});
    return writer.take();
  }

  const T& message_;
  const T defaults_{};
  std::string_view required_;
  Json json_ = Json::object();
};

/// Cuts `text` to at most `bytes`, not inside a character. Of a traceback the end says most, of other texts the start.
void cut(std::string& text, std::size_t bytes, bool keep_end) {
  constexpr std::string_view kMark = "[cut]";
  const auto inside = [&text](std::size_t at) { return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; };
  const std::size_t kept = bytes - std::min(bytes, kMark.size());
  std::size_t at = keep_end ? text.size() - kept : kept;
  while (at > 0 && at < text.size() && inside(at)) keep_end ? ++at : --at;
  text = keep_end ? std::string{kMark} + text.substr(at) : text.substr(0, at) + std::string{kMark};
}

/// Halves the longest of the texts that only people read until the head fits.
std::string fit(Json head) {
  constexpr std::array<const char*, 5> kFreeTexts{"traceback", "detail", "type", "message", "log"};
  auto written = dump_json(head);
  while (written.size() > kMaxFrameHeadBytes) {
    std::string* longest = nullptr;
    const char* longest_key = "";
    for (const char* key : kFreeTexts) {
      const auto found = head.find(key);
      if (found == head.end() || !found->is_string()) continue;
      auto& text = found->template get_ref<std::string&>();
      if (longest == nullptr || text.size() > longest->size()) longest = &text, longest_key = key;
    }
    if (longest == nullptr || longest->size() < 64) break;
    cut(*longest, longest->size() / 2, longest_key == kFreeTexts.front());
    written = dump_json(head);
  }
  return written;
}

}  // namespace

template <class T>
Result<T> decode(std::string_view head) {
  T message;
  Fields fields{head};
  Reader<T> reader{fields, message};
  shape(reader, std::type_identity<T>{});
  if (const auto done = fields.finish(reader.strict()); !done) return done.error();
  return message;
}

template <class T>
std::string encode(const T& message) {
  Writer<T> writer{message};
  shape(writer, std::type_identity<T>{});
  auto head = writer.take();
  return head.empty() ? std::string{} : fit(std::move(head));
}

#define TASKPOOL_CODEC(T)                         \
  template Result<T> decode<T>(std::string_view); \
  template std::string encode<T>(const T&)

TASKPOOL_CODEC(Hello);
TASKPOOL_CODEC(Welcome);
TASKPOOL_CODEC(Limits);
TASKPOOL_CODEC(ErrorHead);
TASKPOOL_CODEC(Call);
TASKPOOL_CODEC(ResultRefs);
TASKPOOL_CODEC(ReleaseRefs);
TASKPOOL_CODEC(Done);
TASKPOOL_CODEC(Progress);
TASKPOOL_CODEC(Cancel);
TASKPOOL_CODEC(Wait);
TASKPOOL_CODEC(Fetch);
TASKPOOL_CODEC(Ps);
TASKPOOL_CODEC(Failures);
TASKPOOL_CODEC(PoolOpen);
TASKPOOL_CODEC(PoolName);
TASKPOOL_CODEC(PoolResize);
TASKPOOL_CODEC(Drain);
TASKPOOL_CODEC(Whoami);
TASKPOOL_CODEC(Shutdown);
TASKPOOL_CODEC(ArenaOpen);
TASKPOOL_CODEC(ArenaSegment);
TASKPOOL_CODEC(LogRequest);
TASKPOOL_CODEC(ObjectOpen);
TASKPOOL_CODEC(ObjectOpened);
TASKPOOL_CODEC(ObjectsRequest);
TASKPOOL_CODEC(LocksRequest);
TASKPOOL_CODEC(BufferOpen);
TASKPOOL_CODEC(Define);
TASKPOOL_CODEC(Attach);
TASKPOOL_CODEC(Detach);
TASKPOOL_CODEC(Report);
TASKPOOL_CODEC(WorkerReady);
TASKPOOL_CODEC(WorkerFailed);
TASKPOOL_CODEC(Start);
TASKPOOL_CODEC(FunctionInfo);
TASKPOOL_CODEC(Ready);
TASKPOOL_CODEC(StartFailed);
TASKPOOL_CODEC(Fork);
TASKPOOL_CODEC(Forked);
TASKPOOL_CODEC(ForkFailed);
TASKPOOL_CODEC(Exited);

#undef TASKPOOL_CODEC

}  // namespace taskpool

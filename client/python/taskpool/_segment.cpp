/// Reads the store's segments for the Python package: look-ups, lengths and whole objects, as Python objects, without
/// asking the daemon. segment.py has the same in Python and describes the methods; store.py says which one is in use.
///
/// Encodings are those of PROTOCOL.md, sections 2 and 6. What is small and plain (numbers, text, bytes, None, True,
/// False) is read here; the rest goes to the functions that setup() was given.

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <time.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>

#include "proto/store/reader.hpp"

namespace {

namespace store = taskpool::store;
using Bytes = std::span<const std::byte>;

constexpr std::uint8_t kJson = 1, kBytes = 2, kI64 = 19, kF64 = 25;
/// A value up to this size is read without an allocation.
constexpr std::size_t kSmallValueBytes = 512;

/// What setup() was given, and the exception by which a reader sends its caller to the daemon.
PyObject* decode_hook = nullptr;
PyObject* encode_key_hook = nullptr;
PyObject* decode_key_hook = nullptr;
PyObject* ask_daemon = nullptr;

/// A reference that this code owns.
struct Unref {
  void operator()(PyObject* object) const { Py_DECREF(object); }
};
using Ref = std::unique_ptr<PyObject, Unref>;

const char* text_of(Bytes bytes) { return reinterpret_cast<const char*>(bytes.data()); }
Py_ssize_t size_of(Bytes bytes) { return static_cast<Py_ssize_t>(bytes.size()); }
PyObject* python_bytes(Bytes bytes) { return PyBytes_FromStringAndSize(text_of(bytes), size_of(bytes)); }

template <class T>
T load(Bytes from) {
  T value;
  std::memcpy(&value, from.data(), sizeof value);
  return value;
}

struct SegmentObject {
  PyObject_HEAD Py_buffer memory;
  store::Segment* segment;
};

struct ReaderObject {
  PyObject_HEAD SegmentObject* owner;
  store::ObjectView view;

  const store::Segment& segment() const { return *owner->segment; }
};

std::uint64_t boot_time_ns() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

/// Raises AskDaemon with the reason, or what the caller of a list expects.
PyObject* refuse(store::ReadCode code) {
  switch (code) {
    case store::ReadCode::gone: PyErr_SetString(ask_daemon, "gone"); break;
    case store::ReadCode::wrong_type: PyErr_SetString(ask_daemon, "wrong_type"); break;
    case store::ReadCode::damaged: PyErr_SetString(ask_daemon, "damaged"); break;
    default: PyErr_SetString(ask_daemon, "too_busy"); break;
  }
  return nullptr;
}

/// JSON that needs no parser: true, false, null and text without escapes. nullptr without an exception: something else.
PyObject* decode_plain_json(Bytes data) {
  const std::string_view text{text_of(data), data.size()};
  if (text.size() >= 2 && text.front() == '"' && text.find('\\') == text.npos) {
    PyObject* value = PyUnicode_DecodeUTF8(text.data() + 1, size_of(data) - 2, nullptr);
    if (value == nullptr) PyErr_Clear();
    return value;
  }
  if (text == "null") return Py_NewRef(Py_None);
  if (text == "true") return Py_NewRef(Py_True);
  if (text == "false") return Py_NewRef(Py_False);
  return nullptr;
}

PyObject* decode_value(std::uint8_t encoding, Bytes data, std::uint32_t writer_uid) {
  if (encoding == kI64 && data.size() == sizeof(std::int64_t)) return PyLong_FromLongLong(load<std::int64_t>(data));
  if (encoding == kF64 && data.size() == sizeof(double)) return PyFloat_FromDouble(load<double>(data));
  if (encoding == kBytes) return python_bytes(data);
  if (encoding == kJson) {
    if (PyObject* value = decode_plain_json(data)) return value;
  }
  const Ref bytes{python_bytes(data)};
  if (!bytes) return nullptr;
  return PyObject_CallFunction(decode_hook, "iOk", int{encoding}, bytes.get(), static_cast<unsigned long>(writer_uid));
}

PyObject* decode_integer_key(Bytes rest) {
  std::uint64_t magnitude = 0;
  for (const std::byte byte : rest.subspan(1)) magnitude = magnitude << 8 | static_cast<std::uint8_t>(byte);
  if (rest[0] == std::byte{0}) return PyLong_FromUnsignedLongLong(magnitude);
  if (magnitude <= std::uint64_t{INT64_MAX}) return PyLong_FromLongLong(-static_cast<long long>(magnitude));
  const Ref positive{PyLong_FromUnsignedLongLong(magnitude)};
  return positive ? PyNumber_Negative(positive.get()) : nullptr;
}

PyObject* decode_key(store::KeyView key, std::uint32_t writer_uid) {
  const auto kind = static_cast<store::KeyKind>(key.empty() ? std::byte{0xff} : key[0]);
  const Bytes rest = key.empty() ? key : key.subspan(1);
  switch (kind) {
    case store::KeyKind::null: return Py_NewRef(Py_None);
    case store::KeyKind::integer:
      if (rest.empty() || rest.size() > 1 + sizeof(std::uint64_t)) break;
      return decode_integer_key(rest);
    case store::KeyKind::real:
      if (rest.size() != sizeof(double)) break;
      return PyFloat_FromDouble(load<double>(rest));
    case store::KeyKind::text: return PyUnicode_DecodeUTF8(text_of(rest), size_of(rest), nullptr);
    case store::KeyKind::bytes: return python_bytes(rest);
    default: break;
  }
  const Ref bytes{python_bytes(key)};
  if (!bytes) return nullptr;
  return PyObject_CallFunction(decode_key_hook, "Ok", bytes.get(), static_cast<unsigned long>(writer_uid));
}

/// A key to look for: in a buffer, or as the bytes that Python made of it.
class SearchedKey {
 public:
  /// False with an exception: the object is no key.
  bool set(PyObject* object) {
    if (set_plain(object)) return true;
    if (PyErr_Occurred()) PyErr_Clear();
    encoded_.reset(PyObject_CallOneArg(encode_key_hook, object));
    if (!encoded_) return false;
    if (PyBytes_Check(encoded_.get())) return true;
    PyErr_SetString(PyExc_TypeError, "a key's encoding has to be bytes");
    return false;
  }

  store::Read look_up(const ReaderObject& reader, std::span<std::byte> into) const {
    if (!encoded_) return reader.segment().get(reader.view, buffer_, into);
    const auto size = static_cast<std::size_t>(PyBytes_GET_SIZE(encoded_.get()));
    if (size > taskpool::kMaxKeyBytes) return {store::ReadCode::too_busy};  // the daemon says what is wrong
    const char* bytes = PyBytes_AS_STRING(encoded_.get());
    return reader.segment().get(reader.view, store::KeyView{reinterpret_cast<const std::byte*>(bytes), size}, into);
  }

 private:
  bool set_plain(PyObject* object) {
    if (PyLong_CheckExact(object)) {
      int overflow = 0;
      const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
      if (overflow != 0) return false;
      buffer_.set_integer(value);
      return true;
    }
    if (PyUnicode_CheckExact(object)) {
      Py_ssize_t size = 0;
      const char* text = PyUnicode_AsUTF8AndSize(object, &size);
      return text != nullptr && buffer_.set_text({text, static_cast<std::size_t>(size)});
    }
    if (PyBytes_CheckExact(object)) {
      const auto* data = reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(object));
      return buffer_.set_bytes({data, static_cast<std::size_t>(PyBytes_GET_SIZE(object))});
    }
    return false;
  }

  store::KeyBuffer buffer_;
  Ref encoded_;
};

/// Reads one value with `read`, which copies it into the span that it is given, and decodes it. nullptr without an
/// exception: there is none.
template <class F>
PyObject* read_value(F&& read) {
  std::byte small[kSmallValueBytes];
  store::Read outcome = read(std::span<std::byte>{small});
  if (outcome && outcome.bytes <= sizeof small)
    return decode_value(outcome.encoding, {small, outcome.bytes}, outcome.writer_uid);
  std::unique_ptr<std::byte[]> large;
  std::size_t size = 0;
  while (outcome && outcome.bytes > size) {  // it may have grown meanwhile
    size = outcome.bytes;
    large.reset(new (std::nothrow) std::byte[size]);
    if (!large) return PyErr_NoMemory();
    outcome = read(std::span{large.get(), size});
  }
  if (outcome) return decode_value(outcome.encoding, {large.get(), outcome.bytes}, outcome.writer_uid);
  return outcome.code == store::ReadCode::absent ? nullptr : refuse(outcome.code);
}

/// Reads all of a dict or list, of one moment, while other threads run. False with an exception.
bool read_all(const ReaderObject& reader, store::Page& page, std::uint64_t& version) {
  store::ReadCode code = store::ReadCode::too_busy;
  bool has_memory = true;
  Py_BEGIN_ALLOW_THREADS;
  try {
    code = reader.segment().read_all(reader.view, page, version);
  } catch (const std::bad_alloc&) {
    has_memory = false;
  }
  Py_END_ALLOW_THREADS;
  if (!has_memory) PyErr_NoMemory();
  if (has_memory && code != store::ReadCode::found) refuse(code);
  return has_memory && code == store::ReadCode::found;
}

/// A list of what `make` makes of each entry.
template <class F>
PyObject* list_of(const store::Page& page, F&& make) {
  Ref list{PyList_New(static_cast<Py_ssize_t>(page.entries.size()))};
  if (!list) return nullptr;
  Py_ssize_t index = 0;
  for (const auto& entry : page.entries) {
    PyObject* made = make(entry);
    if (made == nullptr) return nullptr;
    PyList_SET_ITEM(list.get(), index++, made);
  }
  return list.release();
}

PyObject* value_in(const store::Page& page, const store::Page::Entry& entry) {
  return decode_value(entry.encoding, page.value(entry), entry.writer_uid);
}

PyObject* key_in(const store::Page& page, const store::Page::Entry& entry) {
  return decode_key(page.key(entry), entry.writer_uid);
}

PyObject* pair_in(const store::Page& page, const store::Page::Entry& entry) {
  const Ref key{key_in(page, entry)};
  const Ref value{key ? value_in(page, entry) : nullptr};
  return value ? PyTuple_Pack(2, key.get(), value.get()) : nullptr;
}

// Readers

PyObject* reader_get(ReaderObject* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 2) return PyErr_Format(PyExc_TypeError, "get(key, default) takes 2 arguments, not %zd", count);
  SearchedKey key;
  if (!key.set(arguments[0])) return nullptr;
  PyObject* value = read_value([&](std::span<std::byte> into) { return key.look_up(*self, into); });
  return value != nullptr || PyErr_Occurred() ? value : Py_NewRef(arguments[1]);
}

PyObject* reader_contains(ReaderObject* self, PyObject* name) {
  SearchedKey key;
  if (!key.set(name)) return nullptr;
  const store::Read outcome = key.look_up(*self, {});
  if (outcome) Py_RETURN_TRUE;
  if (outcome.code == store::ReadCode::absent) Py_RETURN_FALSE;
  return refuse(outcome.code);
}

PyObject* reader_length(ReaderObject* self, PyObject*) {
  store::ObjectStat stat;
  const store::ReadCode code = self->segment().stat(self->view, stat);
  return code == store::ReadCode::found ? PyLong_FromUnsignedLongLong(stat.count) : refuse(code);
}

PyObject* reader_item(ReaderObject* self, PyObject* argument) {
  const Py_ssize_t index = PyNumber_AsSsize_t(argument, PyExc_IndexError);
  if (index == -1 && PyErr_Occurred()) return nullptr;
  const store::Segment& segment = self->segment();
  PyObject* value = read_value([&](std::span<std::byte> into) {
    if (index >= 0) return segment.list_get(self->view, static_cast<std::uint64_t>(index), into);
    store::Read outcome;  // from the end: which is somewhere else after each change
    const store::ReadCode code = segment.consistently(self->view, [&] {
      store::ObjectStat stat;
      outcome = {segment.stat(self->view, stat)};
      if (outcome.code != store::ReadCode::found) return outcome.code;
      const std::uint64_t back = std::uint64_t{0} - static_cast<std::uint64_t>(index);
      outcome = back > stat.count ? store::Read{} : segment.list_get(self->view, stat.count - back, into);
      return outcome.code;
    });
    if (code == store::ReadCode::too_busy) outcome.code = code;
    return outcome;
  });
  if (value == nullptr && !PyErr_Occurred()) PyErr_SetString(PyExc_IndexError, "list index out of range");
  return value;
}

PyObject* reader_value(ReaderObject* self, PyObject*) {
  PyObject* value = read_value([&](std::span<std::byte> into) { return self->segment().value_get(self->view, into); });
  return value != nullptr || PyErr_Occurred() ? value : Py_NewRef(Py_None);
}

PyObject* reader_keys(ReaderObject* self, PyObject*) {
  store::Page page;
  std::uint64_t version = 0;
  if (!read_all(*self, page, version)) return nullptr;
  return list_of(page, [&](const auto& entry) { return key_in(page, entry); });
}

PyObject* reader_values(ReaderObject* self, PyObject*) {
  store::Page page;
  std::uint64_t version = 0;
  if (!read_all(*self, page, version)) return nullptr;
  return list_of(page, [&](const auto& entry) { return value_in(page, entry); });
}

PyObject* reader_items(ReaderObject* self, PyObject*) {
  store::Page page;
  std::uint64_t version = 0;
  if (!read_all(*self, page, version)) return nullptr;
  return list_of(page, [&](const auto& entry) { return pair_in(page, entry); });
}

PyObject* reader_snapshot(ReaderObject* self, PyObject*) {
  store::Page page;
  std::uint64_t version = 0;
  if (!read_all(*self, page, version)) return nullptr;
  const Ref values{list_of(page, [&](const auto& entry) { return value_in(page, entry); })};
  return values ? Py_BuildValue("KO", static_cast<unsigned long long>(version), values.get()) : nullptr;
}

void reader_dealloc(ReaderObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(reinterpret_cast<PyObject*>(self->owner));
  type->tp_free(self);
  Py_DECREF(type);
}

PyTypeObject* reader_type = nullptr;

// Segments

PyObject* segment_find(SegmentObject* self, PyObject* arguments) {
  unsigned long long offset = 0, id = 0;
  if (!PyArg_ParseTuple(arguments, "KK:find", &offset, &id)) return nullptr;
  const auto view = self->segment->find(offset, store::ObjectId{id});
  if (!view) return refuse(store::ReadCode::gone);
  auto* reader = reinterpret_cast<ReaderObject*>(reader_type->tp_alloc(reader_type, 0));
  if (reader == nullptr) return nullptr;
  reader->owner = reinterpret_cast<SegmentObject*>(Py_NewRef(reinterpret_cast<PyObject*>(self)));
  reader->view = *view;
  return reinterpret_cast<PyObject*>(reader);
}

PyObject* segment_new(PyTypeObject* type, PyObject* arguments, PyObject*) {
  PyObject* memory = nullptr;
  if (!PyArg_ParseTuple(arguments, "O:Segment", &memory)) return nullptr;
  Ref made{type->tp_alloc(type, 0)};
  if (!made) return nullptr;
  auto* self = reinterpret_cast<SegmentObject*>(made.get());
  if (PyObject_GetBuffer(memory, &self->memory, PyBUF_SIMPLE) < 0) return nullptr;
  const Bytes bytes{static_cast<const std::byte*>(self->memory.buf), static_cast<std::size_t>(self->memory.len)};
  auto opened = store::Segment::open(bytes, boot_time_ns);
  if (!opened) {
    PyErr_SetString(PyExc_ValueError, opened.error().detail.c_str());
    return nullptr;
  }
  self->segment = new (std::nothrow) store::Segment{*opened};
  return self->segment != nullptr ? made.release() : PyErr_NoMemory();
}

void segment_dealloc(SegmentObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete self->segment;
  if (self->memory.obj != nullptr) PyBuffer_Release(&self->memory);
  type->tp_free(self);
  Py_DECREF(type);
}

// The module

template <class F>
PyCFunction method(F* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}
template <class F>
void* slot(F* function) {
  return reinterpret_cast<void*>(function);
}

PyMethodDef reader_methods[] = {
    {"get", method(reader_get), METH_FASTCALL, "The value of a dict's key, or the default."},
    {"contains", method(reader_contains), METH_O, "Whether a dict has the key."},
    {"length", method(reader_length), METH_NOARGS, "How many entries or items there are."},
    {"item", method(reader_item), METH_O, "A list's item; negative indexes count from the end."},
    {"value", method(reader_value), METH_NOARGS, "A value's content."},
    {"keys", method(reader_keys), METH_NOARGS, "A dict's keys, in the order of insertion."},
    {"values", method(reader_values), METH_NOARGS, "A dict's values or a list's items."},
    {"items", method(reader_items), METH_NOARGS, "A dict's keys and values."},
    {"snapshot", method(reader_snapshot), METH_NOARGS, "The version, and what values() returns."},
    {nullptr, nullptr, 0, nullptr},
};
PyType_Slot reader_slots[] = {
    {Py_tp_dealloc, slot(reader_dealloc)},
    {Py_tp_methods, reader_methods},
    {Py_tp_doc, const_cast<char*>("Reads one object of a segment.")},
    {0, nullptr},
};
PyType_Spec reader_spec = {"taskpool._segment.Reader", sizeof(ReaderObject), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, reader_slots};

PyMethodDef segment_methods[] = {
    {"find", method(segment_find), METH_VARARGS, "The reader of the object with that id at that offset."},
    {nullptr, nullptr, 0, nullptr},
};
PyType_Slot segment_slots[] = {
    {Py_tp_new, slot(segment_new)},
    {Py_tp_dealloc, slot(segment_dealloc)},
    {Py_tp_methods, segment_methods},
    {Py_tp_doc, const_cast<char*>("A segment of the store, mapped whole.")},
    {0, nullptr},
};
PyType_Spec segment_spec = {"taskpool._segment.Segment", sizeof(SegmentObject), 0, Py_TPFLAGS_DEFAULT, segment_slots};

PyObject* setup(PyObject*, PyObject* arguments) {
  PyObject *decode = nullptr, *encode_key = nullptr, *decode_a_key = nullptr;
  if (!PyArg_ParseTuple(arguments, "OOO:setup", &decode, &encode_key, &decode_a_key)) return nullptr;
  Py_XSETREF(decode_hook, Py_NewRef(decode));
  Py_XSETREF(encode_key_hook, Py_NewRef(encode_key));
  Py_XSETREF(decode_key_hook, Py_NewRef(decode_a_key));
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"setup", method(setup), METH_VARARGS,
     "Sets decode(encoding, data, writer_uid), encode_key(key) and decode_key(data, writer_uid)."},
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "taskpool._segment",
                          "Reads segments of the store.",
                          -1,
                          functions,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__segment() {
  Ref module{PyModule_Create(&definition)};
  if (!module) return nullptr;
  reader_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&reader_spec));
  const Ref segment_type{PyType_FromSpec(&segment_spec)};
  ask_daemon = PyErr_NewExceptionWithDoc("taskpool._segment.AskDaemon", "The mapping does not tell: the daemon does.",
                                         nullptr, nullptr);
  if (reader_type == nullptr || !segment_type || ask_daemon == nullptr ||
      PyModule_AddObjectRef(module.get(), "Reader", reinterpret_cast<PyObject*>(reader_type)) < 0 ||
      PyModule_AddObjectRef(module.get(), "Segment", segment_type.get()) < 0 ||
      PyModule_AddObjectRef(module.get(), "AskDaemon", ask_daemon) < 0)
    return nullptr;
  return module.release();
}

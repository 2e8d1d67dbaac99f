/* Operations of the store as bytes, and what they returned: PROTOCOL.md, section 3.5, "Operations". Only what is small
 * and plain is done here; store.py does all of it, and describes the functions. */

#include "_native_store.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>

enum { kJson = 1, kBytes = 2, kI64 = 19, kF64 = 25, kKey = 32, kArenaBit = 0x80 };
enum { kMaxKeyBytes = 1024, kMaxInlineBytes = 1 << 16 };
enum { kOperationBytes = 8, kArgumentBytes = 8 };

/* Bytes that grow. */
typedef struct {
  char* data;
  size_t size;
  size_t room;
} Buffer;

/* Appends so many bytes, to be written; NULL with an exception. */
static char* extend(Buffer* into, size_t bytes) {
  if (into->room - into->size < bytes) {
    const size_t room = 2 * into->room + bytes + 256;
    char* const data = realloc(into->data, room);
    if (data == NULL) {
      PyErr_NoMemory();
      return NULL;
    }
    into->data = data;
    into->room = room;
  }
  char* const place = into->data + into->size;
  into->size += bytes;
  return place;
}

/* What became of an object: it was appended; somebody else has to see to it; an exception. */
typedef enum { kDone, kNotHere, kFailed } Outcome;

static char* argument(Buffer* into, uint8_t encoding, size_t bytes) {
  char* const place = extend(into, kArgumentBytes + bytes);
  if (place == NULL) return NULL;
  const uint32_t size = (uint32_t)bytes;
  memset(place, 0, kArgumentBytes);
  memcpy(place, &size, sizeof size);
  place[4] = (char)encoding;
  return place + kArgumentBytes;
}

static Outcome put(Buffer* into, uint8_t encoding, const void* data, size_t bytes) {
  char* const place = argument(into, encoding, bytes);
  if (place == NULL) return kFailed;
  memcpy(place, data, bytes);
  return kDone;
}

static Outcome put_integer(Buffer* into, PyObject* value) {
  int overflow;
  const int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow != 0 ? kNotHere : put(into, kI64, &number, sizeof number);
}

/* UTF-8 of a text; NULL without an exception for one that has none. */
static const char* utf8(PyObject* text, Py_ssize_t* bytes) {
  const char* const data = PyUnicode_AsUTF8AndSize(text, bytes);
  if (data == NULL) PyErr_Clear();
  return data;
}

static Outcome put_prefixed(Buffer* into, char kind, const char* data, size_t bytes) {
  if (bytes >= kMaxKeyBytes) return kNotHere;
  char* const place = argument(into, kKey, 1 + bytes);
  if (place == NULL) return kFailed;
  place[0] = kind;
  memcpy(place + 1, data, bytes);
  return kDone;
}

static Outcome put_key(Buffer* into, PyObject* key) {
  if (PyUnicode_CheckExact(key)) {
    Py_ssize_t bytes;
    const char* const data = utf8(key, &bytes);
    return data == NULL ? kNotHere : put_prefixed(into, 3, data, (size_t)bytes);
  }
  if (PyLong_CheckExact(key)) {
    int overflow;
    const int64_t number = PyLong_AsLongLongAndOverflow(key, &overflow);
    if (overflow != 0) return kNotHere;
    uint64_t magnitude = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    char encoded[9] = {(char)(number < 0)};
    size_t bytes = 0;
    for (uint64_t rest = magnitude; rest != 0; rest >>= 8) ++bytes;
    for (size_t at = bytes; at > 0; --at, magnitude >>= 8) encoded[at] = (char)(magnitude & 0xff);
    return put_prefixed(into, 1, encoded, 1 + bytes);
  }
  if (PyBytes_CheckExact(key)) return put_prefixed(into, 4, PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
  return kNotHere;
}

/* Text as JSON, if nothing in it has to be escaped. */
static Outcome put_text(Buffer* into, PyObject* text) {
  Py_ssize_t bytes;
  const char* const data = utf8(text, &bytes);
  if (data == NULL || bytes > kMaxInlineBytes - 2) return kNotHere;
  for (Py_ssize_t i = 0; i < bytes; ++i)
    if ((unsigned char)data[i] < 0x20 || data[i] == '"' || data[i] == '\\') return kNotHere;
  char* const place = argument(into, kJson, (size_t)bytes + 2);
  if (place == NULL) return kFailed;
  place[0] = '"';
  memcpy(place + 1, data, (size_t)bytes);
  place[bytes + 1] = '"';
  return kDone;
}

static Outcome put_value(Buffer* into, PyObject* value) {
  if (PyLong_CheckExact(value)) return put_integer(into, value);
  if (PyUnicode_CheckExact(value)) return put_text(into, value);
  if (PyFloat_CheckExact(value)) {
    const double number = PyFloat_AS_DOUBLE(value);
    return put(into, kF64, &number, sizeof number);
  }
  if (PyBytes_CheckExact(value)) {
    const Py_ssize_t bytes = PyBytes_GET_SIZE(value);
    return bytes > kMaxInlineBytes ? kNotHere : put(into, kBytes, PyBytes_AS_STRING(value), (size_t)bytes);
  }
  if (value == Py_None) return put(into, kJson, "null", 4);
  if (value == Py_True) return put(into, kJson, "true", 4);
  if (value == Py_False) return put(into, kJson, "false", 5);
  return kNotHere;
}

static int put_operation(Buffer* into, unsigned code, unsigned arguments, uint32_t target) {
  char* const place = extend(into, kOperationBytes);
  if (place == NULL) return -1;
  const uint16_t number = (uint16_t)code;
  memcpy(place, &number, sizeof number);
  place[2] = (char)arguments;
  place[3] = 0;
  memcpy(place + 4, &target, sizeof target);
  return 0;
}

static PyObject* as_bytes(const Buffer* from, Outcome outcome) {
  if (outcome == kFailed) return NULL;
  if (outcome == kNotHere) Py_RETURN_NONE;
  return PyBytes_FromStringAndSize(from->data, (Py_ssize_t)from->size);
}

static PyObject* pack(PyObject* Py_UNUSED(module), PyObject* const* arguments, Py_ssize_t count) {
  if (count < 3 || !PyUnicode_Check(arguments[2]) || PyUnicode_GET_LENGTH(arguments[2]) != count - 3) {
    PyErr_SetString(PyExc_TypeError, "pack(code, target, kinds, one object for each kind)");
    return NULL;
  }
  const unsigned long code = PyLong_AsUnsignedLong(arguments[0]);
  const unsigned long target = PyLong_AsUnsignedLong(arguments[1]);
  if (PyErr_Occurred()) return NULL;
  Buffer body = {0};
  Outcome outcome = put_operation(&body, (unsigned)code, (unsigned)(count - 3), (uint32_t)target) < 0 ? kFailed : kDone;
  for (Py_ssize_t i = 3; i < count && outcome == kDone; ++i) {
    switch (PyUnicode_READ_CHAR(arguments[2], i - 3)) {
      case 'k': outcome = put_key(&body, arguments[i]); break;
      case 'v': outcome = put_value(&body, arguments[i]); break;
      case 'i': outcome = PyLong_Check(arguments[i]) ? put_integer(&body, arguments[i]) : kNotHere; break;
      default: outcome = kNotHere;
    }
  }
  PyObject* const packed = as_bytes(&body, outcome);
  free(body.data);
  return packed;
}

static PyObject* pack_sets(PyObject* Py_UNUSED(module), PyObject* const* arguments, Py_ssize_t count) {
  if (count != 5 || !PyDict_CheckExact(arguments[2])) {
    PyErr_SetString(PyExc_TypeError, "pack_sets(code, target, entries: dict, most operations, most bytes)");
    return NULL;
  }
  const unsigned long code = PyLong_AsUnsignedLong(arguments[0]);
  const unsigned long target = PyLong_AsUnsignedLong(arguments[1]);
  const unsigned long most = PyLong_AsUnsignedLong(arguments[3]);
  const unsigned long most_bytes = PyLong_AsUnsignedLong(arguments[4]);
  PyObject* const batches = PyErr_Occurred() ? NULL : PyList_New(0);
  if (batches == NULL) return NULL;
  Buffer body = {0};
  Outcome outcome = kDone;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  unsigned long operations = 0;
  for (int more = 1; more && outcome == kDone;) {
    more = PyDict_Next(arguments[2], &at, &key, &value);
    if (operations > 0 && (!more || operations == most || body.size > most_bytes)) {
      PyObject* const batch = Py_BuildValue("ky#", operations, body.data, (Py_ssize_t)body.size);
      if (batch == NULL || PyList_Append(batches, batch) < 0) outcome = kFailed;
      Py_XDECREF(batch);
      operations = 0;
      body.size = 0;
    }
    if (!more || outcome != kDone) break;
    if (put_operation(&body, (unsigned)code, 2, (uint32_t)target) < 0) outcome = kFailed;
    if (outcome == kDone) outcome = put_key(&body, key);
    if (outcome == kDone) outcome = put_value(&body, value);
    ++operations;
  }
  free(body.data);
  if (outcome == kDone) return batches;
  Py_DECREF(batches);
  if (outcome == kFailed) return NULL;
  Py_RETURN_NONE;
}

/* A value that needs nobody's help, or what `decode` makes of it. */
static PyObject* decode_value(unsigned encoding, const char* data, size_t bytes, PyObject* decode) {
  if (encoding == kI64 && bytes == sizeof(int64_t)) {
    int64_t number;
    memcpy(&number, data, sizeof number);
    return PyLong_FromLongLong(number);
  }
  if (encoding == kF64 && bytes == sizeof(double)) {
    double number;
    memcpy(&number, data, sizeof number);
    return PyFloat_FromDouble(number);
  }
  if (encoding == kBytes) return PyBytes_FromStringAndSize(data, (Py_ssize_t)bytes);
  return PyObject_CallFunction(decode, "Iy#", encoding, data, (Py_ssize_t)bytes);
}

static PyObject* parse_one(const char** at, const char* end, PyObject* decode) {
  uint32_t count;
  if (end - *at < (ptrdiff_t)sizeof count) return NULL;
  memcpy(&count, *at, sizeof count);
  *at += sizeof count;
  if (count > (size_t)(end - *at) / kArgumentBytes) return NULL;
  PyObject* const values = PyList_New((Py_ssize_t)count);
  for (uint32_t i = 0; values != NULL && i < count; ++i) {
    uint32_t bytes = 0;
    PyObject* value = NULL;
    if (end - *at >= kArgumentBytes) {
      memcpy(&bytes, *at, sizeof bytes);
      const unsigned encoding = (unsigned char)(*at)[4];
      *at += kArgumentBytes;
      if (bytes <= (size_t)(end - *at)) value = decode_value(encoding, *at, bytes, decode);
    }
    if (value == NULL) {
      Py_DECREF(values);
      return NULL;
    }
    *at += bytes;
    PyList_SET_ITEM(values, (Py_ssize_t)i, value);
  }
  return values;
}

static PyObject* parse(PyObject* Py_UNUSED(module), PyObject* const* arguments, Py_ssize_t count) {
  if (count != 3 || !PyBytes_Check(arguments[1])) {
    PyErr_SetString(PyExc_TypeError, "parse(count, body: bytes, decode)");
    return NULL;
  }
  const unsigned long results = PyLong_AsUnsignedLong(arguments[0]);
  if (results == (unsigned long)-1 && PyErr_Occurred()) return NULL;
  const char* at = PyBytes_AS_STRING(arguments[1]);
  const char* const end = at + PyBytes_GET_SIZE(arguments[1]);
  PyObject* const parsed = PyList_New(0);
  for (unsigned long i = 0; parsed != NULL && i < results; ++i) {
    PyObject* const values = parse_one(&at, end, arguments[2]);
    const int added = values == NULL ? -1 : PyList_Append(parsed, values);
    Py_XDECREF(values);
    if (added < 0) {
      Py_DECREF(parsed);
      if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the results of operations are cut off");
      return NULL;
    }
  }
  return parsed;
}

static PyMethodDef functions[] = {
    {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL, "An operation, or None if there is more to it."},
    {"pack_sets", (PyCFunction)(void (*)(void))pack_sets, METH_FASTCALL,
     "Operations that set a dict's entries, in batches, or None."},
    {"parse", (PyCFunction)(void (*)(void))parse, METH_FASTCALL, "What operations returned."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject* taskpool_store_reply_type;

int taskpool_take_store_reply(PyObject* handler, uint32_t count, const char* body, Py_ssize_t size) {
  if (!PyObject_TypeCheck(handler, taskpool_store_reply_type)) return 0;
  StoreReply* const self = (StoreReply*)handler;
  PyObject* const taken = PyBytes_FromStringAndSize(body, size);
  if (taken == NULL) return -1;
  Py_XSETREF(self->body, taken);
  self->count = count;
  self->done = 1;
  return 1;
}

static PyObject* reply_is_done(StoreReply* self, PyObject* Py_UNUSED(ignored)) { return PyBool_FromLong(self->done); }

static int reply_traverse(StoreReply* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(self->error);
  return 0;
}

static int reply_clear(StoreReply* self) {
  Py_CLEAR(self->body);
  Py_CLEAR(self->error);
  return 0;
}

static void reply_dealloc(StoreReply* self) {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  (void)reply_clear(self);
  type->tp_free((PyObject*)self);
  Py_DECREF(type);
}

static PyMemberDef reply_members[] = {
    {"done", T_BOOL, offsetof(StoreReply, done), 0, "There is a reply, or an error."},
    {"count", T_UINT, offsetof(StoreReply, count), 0, "Of how many operations there are results."},
    {"body", T_OBJECT, offsetof(StoreReply, body), 0, "The results."},
    {"error", T_OBJECT, offsetof(StoreReply, error), 0, "What came instead of them."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef reply_methods[] = {
    {"is_done", (PyCFunction)reply_is_done, METH_NOARGS, "Whether there is a reply, or an error."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reply_slots[] = {
    {Py_tp_dealloc, reply_dealloc},
    {Py_tp_traverse, reply_traverse},
    {Py_tp_clear, reply_clear},
    {Py_tp_members, reply_members},
    {Py_tp_methods, reply_methods},
    {Py_tp_doc, "Waits for the results of operations."},
    {0, NULL},
};

static PyType_Spec reply_spec = {"taskpool._native.StoreReply", sizeof(StoreReply), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, reply_slots};

int taskpool_add_store(PyObject* module) {
  if (taskpool_store_reply_type == NULL) taskpool_store_reply_type = (PyTypeObject*)PyType_FromSpec(&reply_spec);
  if (taskpool_store_reply_type == NULL) return -1;
  if (PyModule_AddObjectRef(module, "StoreReply", (PyObject*)taskpool_store_reply_type) < 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

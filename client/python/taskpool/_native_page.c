/* What Python cannot do by itself: compare-and-swap in the page that a worker shares with the supervisor, and a loop
 * that says in that page which element runs. runtime/page.py describes the methods; it has the same in Python, without
 * the compare-and-swap. PROTOCOL.md, section 3.2, describes the page. */

#include "_native_page.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "_native_clock.h"
#include "_native_numbers.h"
#include "_native_pickle.h"

enum {
  kPageBytes = 4096, /* the page; the outbox follows it */
  kClaim = 64,
  kInterrupt = 72,
  kRunning = 128,
  kBusy = 132,
  kFinished = 136,
  kOutboxBytes = 140,
  kOutboxResets = 144,
  kStartedNs = 152,
  kWorkedNs = 160,
  kPosition = 172,

  kRunHeader = 64,
  kRunSession = 24,
  kRunFlags = 28,
  kSingle = 1,
  /* The outbox is sent when it has more than this, or when its oldest result has waited so long and another item
     begins. */
  kFlushBytes = 32 * 1024,
  kFlushNs = 1000000,
};

struct Page {
  PyObject_HEAD Py_buffer memory;
  pid_t pid;
  size_t used;         /* of the outbox */
  uint64_t oldest_ns;  /* when the first frame in it was added */
  size_t joinable;     /* results of a map in it, as long as there is nothing else */
  int others;          /* there is something else */
  int answered_single; /* the last frame was one item of its own, whose result may be in it */
};

static _Atomic uint32_t* word(Page* self, size_t offset) {
  return (_Atomic uint32_t*)((char*)self->memory.buf + offset);
}
static _Atomic uint64_t* long_word(Page* self, size_t offset) {
  return (_Atomic uint64_t*)((char*)self->memory.buf + offset);
}

/* Reads an argument that is a ticket or a size; -1 with an exception if it is none. */
static int to_u32(PyObject* argument, uint32_t* into) {
  const unsigned long value = PyLong_AsUnsignedLong(argument);
  if (value == (unsigned long)-1 && PyErr_Occurred()) return -1;
  if (value > UINT32_MAX) {
    PyErr_SetString(PyExc_OverflowError, "want a number below 2**32");
    return -1;
  }
  *into = (uint32_t)value;
  return 0;
}

/* False if the ticket was taken back. */
static int claim(Page* self, uint32_t ticket, uint64_t now) {
  _Atomic uint64_t* const claim = long_word(self, kClaim);
  uint64_t seen = atomic_load_explicit(claim, memory_order_acquire);
  uint64_t wanted;
  do {
    const uint32_t next = (uint32_t)seen;
    const uint32_t end = (uint32_t)(seen >> 32);
    if ((int32_t)(ticket - next) < 0 || (int32_t)(ticket - end) >= 0) return 0;
    wanted = ((uint64_t)end << 32) | (uint32_t)(ticket + 1);
  } while (!atomic_compare_exchange_weak_explicit(claim, &seen, wanted, memory_order_acq_rel, memory_order_acquire));
  atomic_store_explicit(long_word(self, kStartedNs), now, memory_order_relaxed);
  atomic_store_explicit(word(self, kPosition), 0, memory_order_relaxed);
  atomic_store_explicit(word(self, kRunning), ticket, memory_order_release);
  atomic_store_explicit(word(self, kBusy), 1, memory_order_release);
  return 1;
}

static void skip(Page* self, uint32_t ticket) {
  atomic_store_explicit(word(self, kFinished), ticket + 1, memory_order_release);
}

static void finish(Page* self, uint32_t ticket) {
  atomic_store_explicit(word(self, kFinished), ticket + 1, memory_order_release);
  atomic_store_explicit(word(self, kBusy), 0, memory_order_release);
  const uint64_t started = atomic_load_explicit(long_word(self, kStartedNs), memory_order_relaxed);
  const uint64_t worked = atomic_load_explicit(long_word(self, kWorkedNs), memory_order_relaxed);
  atomic_store_explicit(long_word(self, kWorkedNs), worked + (monotonic_ns() - started), memory_order_relaxed);
}

static PyObject* page_claim(Page* self, PyObject* argument) {
  uint32_t ticket;
  if (to_u32(argument, &ticket) < 0) return NULL;
  return PyBool_FromLong(claim(self, ticket, monotonic_ns()));
}

static PyObject* page_finish(Page* self, PyObject* argument) {
  uint32_t ticket;
  if (to_u32(argument, &ticket) < 0) return NULL;
  finish(self, ticket);
  Py_RETURN_NONE;
}

static PyObject* page_skip(Page* self, PyObject* argument) {
  uint32_t ticket;
  if (to_u32(argument, &ticket) < 0) return NULL;
  skip(self, ticket);
  Py_RETURN_NONE;
}

/* The outbox: frames that are published as they are added, and sent together. */

static char* outbox(Page* self) { return (char*)self->memory.buf + kPageBytes; }
static size_t outbox_bytes(const Page* self) { return (size_t)self->memory.len - kPageBytes; }

static void add(Page* self, const void* first, size_t first_bytes, const void* second, size_t second_bytes) {
  if (self->used == 0) self->oldest_ns = monotonic_ns();
  memcpy(outbox(self) + self->used, first, first_bytes);
  memcpy(outbox(self) + self->used + first_bytes, second, second_bytes);
  self->used += first_bytes + second_bytes;
  atomic_store_explicit(word(self, kOutboxBytes), (uint32_t)self->used, memory_order_release);
}

/* Makes the outbox empty; what it held was sent. */
static void empty(Page* self) {
  /* The supervisor may be copying what is about to be overwritten: it compares the resets before and after. */
  atomic_store_explicit(word(self, kOutboxBytes), 0, memory_order_relaxed);
  atomic_fetch_add_explicit(word(self, kOutboxResets), 1, memory_order_acq_rel);
  self->used = 0;
  self->joinable = 0;
  self->others = 0;
}

/* Writes all of it. 0, or -1 with errno. Not to be interrupted: half a frame would be the end of the channel. */
static int send_all(int channel, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(channel, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return -1;
    data += sent;
    size -= (size_t)sent;
  }
  return 0;
}

/* What the outbox holds as one frame, in memory of its own: if it is the results of several consecutive tickets of a
 * map. */
static char* join(const Page* self, const char* frames, size_t* size) {
  if (self->others || self->joinable < 2) return NULL;
  const FramePrefix first = read_prefix(frames);
  const size_t saved = (kPrefixBytes + 4) * self->joinable;
  char* const joined = malloc(self->used - saved + kPrefixBytes + 4 * self->joinable);
  if (joined == NULL) return NULL;
  char* table = joined + kPrefixBytes;
  char* item = table + 4 * self->joinable;
  for (size_t i = 0; i < self->joinable; ++i) {
    const FramePrefix prefix = read_prefix(frames);
    if ((uint32_t)prefix.request != (uint32_t)(first.request + i) || prefix.encoding != first.encoding) {
      free(joined);
      return NULL;
    }
    memcpy(table + 4 * i, frames + kPrefixBytes, 4);
    memcpy(item, frames + kPrefixBytes + 4, prefix.body - 4);
    item += prefix.body - 4;
    frames += frame_bytes(&prefix);
  }
  const FramePrefix whole = {.body = (uint32_t)(item - table),
                             .op = kOpRunResults,
                             .request = first.request,
                             .count = (uint32_t)self->joinable,
                             .encoding = first.encoding};
  memcpy(joined, &whole, sizeof whole);
  *size = (size_t)(item - joined);
  return joined;
}

int page_flush(Page* self, int channel) {
  if (self->used == 0) return 0;
  if (getpid() != self->pid) _exit(0); /* a task that forked and returned in the child */
  int failed;
  Py_BEGIN_ALLOW_THREADS;
  size_t size = self->used;
  char* const joined = join(self, outbox(self), &size);
  failed = send_all(channel, joined != NULL ? joined : outbox(self), size) < 0 ? errno : 0;
  free(joined);
  Py_END_ALLOW_THREADS;
  if (failed != 0) {
    errno = failed;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
  }
  empty(self);
  return 0;
}

static PyObject* page_flush_method(Page* self, PyObject* channel) {
  const int fd = PyObject_AsFileDescriptor(channel);
  if (fd < 0 || page_flush(self, fd) < 0) return NULL;
  Py_RETURN_NONE;
}

/* add(channel, frame): puts a frame into the outbox. */
static PyObject* page_add(Page* self, PyObject* const* arguments, Py_ssize_t count) {
  Py_buffer frame;
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "add(channel, frame)");
    return NULL;
  }
  const int fd = PyObject_AsFileDescriptor(arguments[0]);
  if (fd < 0 || PyObject_GetBuffer(arguments[1], &frame, PyBUF_SIMPLE) < 0) return NULL;
  const size_t size = (size_t)frame.len;
  int failed = 0;
  if (self->used + size > outbox_bytes(self)) failed = page_flush(self, fd);
  if (failed == 0 && size > outbox_bytes(self)) {
    PyErr_SetString(PyExc_ValueError, "a frame that is larger than the outbox");
    failed = -1;
  }
  if (failed == 0) {
    self->others = 1;
    add(self, frame.buf, size, "", 0);
  }
  PyBuffer_Release(&frame);
  if (failed != 0) return NULL;
  Py_RETURN_NONE;
}

/* Puts the result of a ticket, which fits into a frame, into the outbox. -1 with an exception. */
static int add_result(Page* self, int channel, uint32_t ticket, int is_single, uint8_t encoding, const char* item,
                      Py_ssize_t size) {
  struct {
    FramePrefix prefix;
    uint32_t size;
  } head = {
      .prefix = {.body = (uint32_t)size + 4, .op = kOpRunResults, .request = ticket, .count = 1, .encoding = encoding},
      .size = (uint32_t)size};
  enum { kHead = kPrefixBytes + 4 };
  if (self->used + kHead + (size_t)size > outbox_bytes(self) && page_flush(self, channel) < 0) return -1;
  if (is_single) {
    self->others = 1;
  } else {
    ++self->joinable;
  }
  add(self, &head, kHead, item, (size_t)size);
  return 0;
}

/* add_result(channel, ticket, is_single, encoding, item) */
static PyObject* page_add_result(Page* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 5 || !PyBytes_Check(arguments[4])) {
    PyErr_SetString(PyExc_TypeError, "add_result(channel, ticket, is_single, encoding, item: bytes)");
    return NULL;
  }
  uint32_t ticket;
  const int fd = PyObject_AsFileDescriptor(arguments[0]);
  const int is_single = PyObject_IsTrue(arguments[2]);
  const long encoding = PyLong_AsLong(arguments[3]);
  if (fd < 0 || to_u32(arguments[1], &ticket) < 0 || is_single < 0 || PyErr_Occurred()) return NULL;
  if (PyBytes_GET_SIZE(arguments[4]) > kMaxInlineItemBytes) {
    PyErr_SetString(PyExc_ValueError, "an item that is too large for a frame");
    return NULL;
  }
  if (add_result(self, fd, ticket, is_single, (uint8_t)encoding, PyBytes_AS_STRING(arguments[4]),
                 PyBytes_GET_SIZE(arguments[4])) < 0)
    return NULL;
  Py_RETURN_NONE;
}

static PyObject* page_is_due(Page* self, PyObject* Py_UNUSED(ignored)) {
  return PyBool_FromLong(self->used > 0 && monotonic_ns() - self->oldest_ns > kFlushNs);
}

static PyObject* page_used(Page* self, void* Py_UNUSED(closure)) { return PyLong_FromSize_t(self->used); }

static PyObject* page_interrupt(Page* self, PyObject* Py_UNUSED(ignored)) {
  const uint64_t asked = atomic_load_explicit(long_word(self, kInterrupt), memory_order_acquire);
  const uint32_t running = atomic_load_explicit(word(self, kRunning), memory_order_relaxed);
  const int is_meant = (uint32_t)asked == running + 1 && atomic_load_explicit(word(self, kBusy), memory_order_relaxed);
  return PyLong_FromUnsignedLong(is_meant ? (unsigned long)(asked >> 32) : 0);
}

/* Tells `failed` of the exception that is set. -1 if that, or something that is no Exception, goes on. */
static int tell_failed(PyObject* failed, Py_ssize_t position) {
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
  PyObject* const told = PyObject_CallFunction(failed, "nN", position, taskpool_raised());
  if (told == NULL) return -1;
  Py_DECREF(told);
  return 0;
}

static PyObject* call_with(PyObject* function, PyObject* element, int star) {
  if (!star) return PyObject_CallOneArg(function, element);
  PyObject* const arguments = PySequence_Tuple(element);
  if (arguments == NULL) return NULL;
  PyObject* const outcome = PyObject_Call(function, arguments, NULL);
  Py_DECREF(arguments);
  return outcome;
}

static PyObject* map_elements(Page* self, PyObject* function, PyObject* elements, PyObject* starred, PyObject* failed) {
  if (!PyList_Check(elements)) {
    PyErr_SetString(PyExc_TypeError, "the elements of a map: want a list");
    return NULL;
  }
  const int star = PyObject_IsTrue(starred);
  if (star < 0) return NULL;
  const Py_ssize_t size = PyList_GET_SIZE(elements);
  PyObject* const outcomes = PyList_New(size);
  if (outcomes == NULL) return NULL;
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (i >= PyList_GET_SIZE(elements)) { /* the function has found its way to the list */
      PyErr_SetString(PyExc_RuntimeError, "the elements of a map changed while it ran");
      Py_DECREF(outcomes);
      return NULL;
    }
    atomic_store_explicit(word(self, kPosition), (uint32_t)i, memory_order_relaxed);
    PyObject* const element = PyList_GET_ITEM(elements, i);
    Py_INCREF(element);
    PyObject* outcome = call_with(function, element, star);
    Py_DECREF(element);
    if (outcome == NULL) {
      if (tell_failed(failed, i) < 0) {
        Py_DECREF(outcomes);
        return NULL;
      }
      outcome = Py_None;
      Py_INCREF(outcome);
    }
    PyList_SET_ITEM(outcomes, i, outcome);
  }
  return outcomes;
}

static PyObject* page_map(Page* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 4) {
    PyErr_SetString(PyExc_TypeError, "map(function, elements, star, failed)");
    return NULL;
  }
  return map_elements(self, arguments[0], arguments[1], arguments[2], arguments[3]);
}

/* Running what a frame brings */

/* (nanoseconds, outcomes, failures): the result of an item of a map. */
static PyObject* run_map(Page* self, const Runner* runner, PyObject* elements, PyObject* star) {
  const uint64_t began = monotonic_ns();
  PyDict_Clear(runner->failures);
  PyObject* const outcomes = map_elements(self, runner->function, elements, star, runner->failed);
  if (outcomes == NULL) return NULL;
  PyObject* const failures = PyDict_Copy(runner->failures);
  PyObject* const taken = PyLong_FromUnsignedLongLong(monotonic_ns() - began);
  PyObject* const result = failures == NULL || taken == NULL ? NULL : PyTuple_Pack(3, taken, outcomes, failures);
  Py_XDECREF(taken);
  Py_XDECREF(failures);
  Py_DECREF(outcomes);
  return result;
}

/* The same of an item that is numbers. */
static PyObject* run_map_of_numbers(Page* self, const Runner* runner, const char* item, uint32_t size) {
  uint64_t elapsed_ns;
  PyObject* const elements = taskpool_decode_numbers(item, size, &elapsed_ns);
  if (elements == NULL) return NULL;
  PyObject* const result = run_map(self, runner, elements, Py_False);
  Py_DECREF(elements);
  return result;
}

static PyObject* run_item(Page* self, const Runner* runner, const char* item, uint32_t size) {
  if (runner->is_map && taskpool_is_numbers(item, size)) return run_map_of_numbers(self, runner, item, size);
  PyObject* const pair = taskpool_loads(item, size);
  if (pair == NULL) return NULL;
  PyObject* result = NULL;
  if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
    PyErr_SetString(PyExc_ValueError, "an item that is not a pair");
  } else if (runner->is_map) {
    result = run_map(self, runner, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
  } else if (!PyTuple_Check(PyTuple_GET_ITEM(pair, 0)) || !PyDict_Check(PyTuple_GET_ITEM(pair, 1))) {
    PyErr_SetString(PyExc_ValueError, "an item that is not arguments and keywords");
  } else {
    result = PyObject_Call(runner->function, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
  }
  Py_DECREF(pair);
  return result;
}

/* Whether a pickle may hold shared objects, which the result has to name: payload.py notes them. */
static int names_objects(PyObject* data) {
  static const char package[] = "taskpool.";
  return memmem(PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), package, sizeof package - 1) != NULL;
}

/* The item of a small result; NULL without an exception if payload.py has to see to it. */
static PyObject* item_of(const Runner* runner, PyObject* result) {
  if (runner->is_map && PyDict_GET_SIZE(PyTuple_GET_ITEM(result, 2)) == 0) {
    const unsigned long long elapsed_ns = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(result, 0));
    PyObject* const numbers = taskpool_encode_numbers(PyTuple_GET_ITEM(result, 1), elapsed_ns);
    if (numbers != NULL) return numbers;
  }
  PyObject* const data = taskpool_is_small(result, 2) ? taskpool_dumps_small(result) : NULL;
  if (data == NULL || !names_objects(data)) return data;
  Py_DECREF(data);
  return NULL;
}

/* Writes the result of a claimed ticket, or why there is none; eats what is raised. -1 with an exception: the channel
 * is lost. */
static int answer(Page* self, int channel, const Runner* runner, uint32_t ticket, uint32_t session, int is_single,
                  PyObject* result) {
  PyObject* told;
  if (result != NULL) {
    PyObject* const data = item_of(runner, result);
    if (data != NULL) {
      if (getpid() != self->pid) _exit(0); /* a task that forked and returned in the child */
      const int added =
          add_result(self, channel, ticket, is_single, kAsPickle, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
      Py_DECREF(data);
      return added;
    }
    told = PyErr_Occurred() ? NULL : PyObject_CallFunction(runner->large, "IIiO", ticket, session, is_single, result);
  } else {
    told = NULL;
  }
  if (told == NULL) {
    told = PyObject_CallFunction(runner->refused, "IN", ticket, taskpool_raised());
  }
  if (told == NULL) return -1;
  Py_DECREF(told);
  return 0;
}

int page_run(Page* self, int channel, const FramePrefix* prefix, const char* body, const Runner* runner) {
  uint32_t session, flags;
  memcpy(&session, body + kRunSession, sizeof session);
  memcpy(&flags, body + kRunFlags, sizeof flags);
  const int is_single = (flags & kSingle) != 0;
  /* Somebody waits for an apply's result, and items of a map may take as long as they like. */
  if (!is_single && self->answered_single && page_flush(self, channel) < 0) return -1;
  self->answered_single = is_single;
  const char* table = body + kRunHeader;
  const size_t size = prefix->body - kRunHeader;
  const uint32_t count = is_single ? 1 : prefix->count;
  size_t at = is_single ? 0 : 4 * (size_t)count;
  uint32_t ticket = (uint32_t)prefix->request;
  for (uint32_t i = 0; i < count; ++i, ++ticket) {
    uint32_t item = (uint32_t)size;
    if (!is_single) {
      if (4 * (size_t)count > size) break;
      memcpy(&item, table + 4 * (size_t)i, sizeof item);
    }
    if (at + item > size) break;
    const uint64_t now = monotonic_ns();
    if (claim(self, ticket, now)) {
      if (self->used > 0 && now - self->oldest_ns > kFlushNs && page_flush(self, channel) < 0) return -1;
      PyObject* const result = run_item(self, runner, table + at, item);
      const int answered = answer(self, channel, runner, ticket, session, is_single, result);
      Py_XDECREF(result);
      if (answered < 0) return -1;
      finish(self, ticket);
      if (self->used > kFlushBytes && page_flush(self, channel) < 0) return -1;
    } else {
      skip(self, ticket);
    }
    at += item;
  }
  if (ticket != (uint32_t)prefix->request + count || at != size) {
    PyErr_SetString(PyExc_ValueError, "packed: the lengths do not sum to the body");
    return -1;
  }
  return 0;
}

static PyObject* page_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
  PyObject* memory;
  static char* names[] = {"memory", NULL};
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:Page", names, &memory)) return NULL;
  Page* const self = (Page*)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  if (PyObject_GetBuffer(memory, &self->memory, PyBUF_WRITABLE) < 0) {
    self->memory.obj = NULL;
    Py_DECREF(self);
    return NULL;
  }
  self->pid = getpid();
  if (self->memory.len < kPageBytes || (uintptr_t)self->memory.buf % 64 != 0) {
    PyErr_SetString(PyExc_ValueError, "not a claim page");
    Py_DECREF(self);
    return NULL;
  }
  return (PyObject*)self;
}

static void page_dealloc(Page* self) {
  PyTypeObject* const type = Py_TYPE(self);
  if (self->memory.obj != NULL) PyBuffer_Release(&self->memory);
  type->tp_free((PyObject*)self);
  Py_DECREF(type);
}

static PyMethodDef page_methods[] = {
    {"claim", (PyCFunction)page_claim, METH_O, "Takes the ticket and marks the worker busy with it."},
    {"finish", (PyCFunction)page_finish, METH_O, "The result of the ticket is published."},
    {"skip", (PyCFunction)page_skip, METH_O, "The ticket was taken back."},
    {"add", (PyCFunction)(void (*)(void))page_add, METH_FASTCALL, "Puts a frame into the outbox."},
    {"add_result", (PyCFunction)(void (*)(void))page_add_result, METH_FASTCALL, "Puts a result into the outbox."},
    {"is_due", (PyCFunction)page_is_due, METH_NOARGS, "Whether the outbox has waited long enough."},
    {"flush", (PyCFunction)page_flush_method, METH_O, "Sends what the outbox holds."},
    {"interrupt", (PyCFunction)page_interrupt, METH_NOARGS, "Why what runs is asked to stop; 0 if it is not."},
    {"map", (PyCFunction)(void (*)(void))page_map, METH_FASTCALL, "Calls a function with each element."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef page_attributes[] = {
    {"used", (getter)page_used, NULL, "Bytes that the outbox holds.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot page_slots[] = {
    {Py_tp_new, page_new},
    {Py_tp_dealloc, page_dealloc},
    {Py_tp_methods, page_methods},
    {Py_tp_getset, page_attributes},
    {Py_tp_doc, "The claim page that a worker shares with the supervisor."},
    {0, NULL},
};

static PyType_Spec page_spec = {"taskpool._native.Page", sizeof(Page), 0, Py_TPFLAGS_DEFAULT, page_slots};

static PyTypeObject* page_type;

Page* page_of(PyObject* object) {
  if (Py_TYPE(object) == page_type) return (Page*)object;
  PyErr_SetString(PyExc_TypeError, "want a Page");
  return NULL;
}

int taskpool_add_page(PyObject* module) {
  PyObject* const type = PyType_FromSpec(&page_spec);
  if (type == NULL) return -1;
  page_type = (PyTypeObject*)type;
  if (PyObject_SetAttrString(type, "claims", Py_True) < 0 || PyModule_AddObjectRef(module, "Page", type) < 0) {
    Py_DECREF(type);
    return -1;
  }
  return 0;
}

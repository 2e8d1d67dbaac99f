/* A queue of items in shared memory, for any number of processes that put and get. queues.py makes queues of it.
 *
 * The memory is a file without a name. It begins with a Header; then comes the ring, with a record for each item: its
 * size, its bytes, padded. An item that is large, or for which the ring has no room left, lies behind the ring: its
 * record says where.
 *
 * A process may be killed anywhere. The lock is a robust mutex. A record counts from when `tail` is stored, until
 * `head` is; whoever gets the lock of a dead one counts the records again. What lies behind the ring is not used again
 * before all of it has been read; if its reader was killed, never. */

#define _GNU_SOURCE /* fallocate */
#include "_native_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "_native_clock.h"
#include "_native_spin.h"

enum {
  kHeaderBytes = 4096,
  kRecordBytes = 8,
  kOutsideBytes = kRecordBytes + 16,
  kLargeBytes = 1 << 15, /* from here on an item lies behind the ring */
  kLookNs = 100000000,   /* a wake-up may have gone to somebody who was killed */
  kSpinNs = 30000,
};
#define OUTSIDE 0x80000000u /* in a record's size: what follows is where the item is, and its size */

typedef struct {
  pthread_mutex_t mutex;
  uint64_t capacity;
  uint64_t most; /* items; 0: no bound */
  _Alignas(64) _Atomic uint64_t tail;
  _Atomic uint64_t items;
  _Atomic uint32_t puts;    /* raised with each */
  _Atomic uint32_t getters; /* who wait */
  uint64_t outside_end;     /* where there is room behind the ring */
  uint64_t outside_items;
  _Alignas(64) _Atomic uint64_t head;
  _Atomic uint32_t gets;
  _Atomic uint32_t putters;
} Header;

_Static_assert(sizeof(Header) <= kHeaderBytes, "the header has a page");

typedef struct {
  PyObject_HEAD Py_buffer memory;
  Header* header;
  char* ring;
  int fd;
  int may_spin;
  SpinPolicy policy;
} Ring;

static uint64_t padded(uint64_t bytes) { return (bytes + 7) & ~(uint64_t)7; }

static void copy_in(Ring* self, uint64_t at, const void* from, size_t bytes) {
  const size_t place = (size_t)(at & (self->header->capacity - 1));
  const size_t first = self->header->capacity - place < bytes ? (size_t)(self->header->capacity - place) : bytes;
  memcpy(self->ring + place, from, first);
  memcpy(self->ring, (const char*)from + first, bytes - first);
}

static void copy_out(const Ring* self, uint64_t at, void* into, size_t bytes) {
  const size_t place = (size_t)(at & (self->header->capacity - 1));
  const size_t first = self->header->capacity - place < bytes ? (size_t)(self->header->capacity - place) : bytes;
  memcpy(into, self->ring + place, first);
  memcpy((char*)into + first, self->ring, bytes - first);
}

/* Bytes of the record at `at`; 0 if that is none. */
static uint64_t record_bytes(const Ring* self, uint64_t at) {
  uint32_t size;
  copy_out(self, at, &size, sizeof size);
  return size & OUTSIDE ? kOutsideBytes : size < kLargeBytes ? kRecordBytes + padded(size) : 0;
}

/* After the last owner died with the lock. */
static void recover(Ring* self) {
  Header* const header = self->header;
  const uint64_t tail = atomic_load(&header->tail);
  uint64_t items = 0;
  for (uint64_t at = atomic_load(&header->head); at != tail; ++items) {
    const uint64_t bytes = record_bytes(self, at);
    if (bytes == 0 || bytes > tail - at) {
      atomic_store(&header->tail, at);
      break;
    }
    at += bytes;
  }
  atomic_store(&header->items, items);
}

/* Takes the ring's lock. -1 with an exception. */
static int lock(Ring* self) {
  pthread_mutex_t* const mutex = &self->header->mutex;
  int result = pthread_mutex_trylock(mutex);
  if (result == EBUSY) {
    Py_BEGIN_ALLOW_THREADS;
    result = pthread_mutex_lock(mutex);
    Py_END_ALLOW_THREADS;
  }
  if (result == EOWNERDEAD) {
    recover(self);
    result = pthread_mutex_consistent(mutex);
  }
  if (result == 0) return 0;
  errno = result;
  PyErr_SetFromErrno(PyExc_OSError);
  return -1;
}

static void unlock(Ring* self) { pthread_mutex_unlock(&self->header->mutex); }

/* Tells one who waits for the word that it was raised. */
static void raise_word(_Atomic uint32_t* word, _Atomic uint32_t* waiters) {
  atomic_fetch_add(word, 1);
  if (atomic_load(waiters) > 0) syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Without the interpreter's lock. */
static int spin(Ring* self, const _Atomic uint32_t* word, uint32_t seen) {
  Spin spin = begin_spin(kSpinNs);
  int found = 0;
  do {
    for (int i = 0; i < 16 && !found; ++i) found = atomic_load_explicit(word, memory_order_acquire) != seen;
  } while (look_again(&spin, (uint64_t)found));
  end_spin(&self->policy, &spin);
  return found;
}

/* Waits until the word is not `seen`, until `deadline` (-1: none) at most. 1: look again; 0: the time is over; -1 an
 * exception. */
static int wait_for_change(Ring* self, _Atomic uint32_t* word, _Atomic uint32_t* waiters, uint32_t seen,
                           int64_t deadline) {
  int64_t left = kLookNs;
  if (deadline >= 0) {
    const int64_t rest = deadline - deadline_clock_ns();
    if (rest <= 0) return 0;
    if (rest < left) left = rest;
  }
  Py_BEGIN_ALLOW_THREADS;
  if (!self->may_spin || !should_spin(&self->policy) || !spin(self, word, seen)) {
    const struct timespec time = {left / 1000000000, left % 1000000000};
    atomic_fetch_add(waiters, 1);
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &time, NULL, 0);
    atomic_fetch_sub(waiters, 1);
  }
  Py_END_ALLOW_THREADS;
  return PyErr_CheckSignals() < 0 ? -1 : 1;
}

/* Reads a timeout: None, or seconds. */
static int read_deadline(PyObject* timeout, int64_t* deadline) {
  *deadline = -1;
  if (timeout == Py_None) return 0;
  const double seconds = PyFloat_AsDouble(timeout);
  if (seconds == -1.0 && PyErr_Occurred()) return -1;
  if (seconds < 1e9) *deadline = deadline_clock_ns() + (seconds > 0 ? (int64_t)(seconds * 1e9) : 0);
  return 0;
}

/* Where the next item behind the ring goes. With the lock. */
static uint64_t take_outside(Ring* self, uint64_t bytes) {
  Header* const header = self->header;
  if (header->outside_items == 0) header->outside_end = kHeaderBytes + header->capacity;
  const uint64_t offset = header->outside_end;
  header->outside_end += (bytes + 4095) & ~(uint64_t)4095;
  ++header->outside_items;
  return offset;
}

static int write_all(int fd, const char* data, size_t bytes, uint64_t offset) {
  while (bytes > 0) {
    const ssize_t written = pwrite(fd, data, bytes, (off_t)offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return -1;
    data += written;
    bytes -= (size_t)written;
    offset += (uint64_t)written;
  }
  return 0;
}

static int read_all(int fd, char* into, size_t bytes, uint64_t offset) {
  while (bytes > 0) {
    const ssize_t got = pread(fd, into, bytes, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return -1;
    into += got;
    bytes -= (size_t)got;
    offset += (uint64_t)got;
  }
  return 0;
}

/* What lay there has been read, or was not needed: the memory is given back. */
static int give_outside(Ring* self, uint64_t offset, uint64_t bytes) {
  (void)fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
  if (lock(self) < 0) return -1;
  if (self->header->outside_items > 0) --self->header->outside_items;
  unlock(self);
  return 0;
}

/* Publishes a record. With the lock; there is room. */
static void append(Ring* self, uint32_t size, const void* data, size_t bytes) {
  Header* const header = self->header;
  const uint64_t at = atomic_load_explicit(&header->tail, memory_order_relaxed);
  const uint64_t first = size; /* its upper half is not used */
  copy_in(self, at, &first, kRecordBytes);
  copy_in(self, at + kRecordBytes, data, bytes);
  atomic_store_explicit(&header->tail, at + kRecordBytes + padded(bytes), memory_order_release);
  atomic_fetch_add_explicit(&header->items, 1, memory_order_relaxed);
}

/* With the lock: the bytes that are free, or 0 if there may be no more items. */
static uint64_t room(const Ring* self) {
  const Header* const header = self->header;
  if (header->most > 0 && atomic_load_explicit(&header->items, memory_order_relaxed) >= header->most) return 0;
  return header->capacity - (atomic_load_explicit(&header->tail, memory_order_relaxed) -
                             atomic_load_explicit(&header->head, memory_order_relaxed));
}

/* 1 it is there, 0 there is no room, -1 an exception. */
static int try_put(Ring* self, const char* data, size_t bytes, uint32_t* gets) {
  if (lock(self) < 0) return -1;
  *gets = atomic_load(&self->header->gets);
  const uint64_t free_bytes = room(self);
  if (bytes < kLargeBytes && kRecordBytes + padded(bytes) <= free_bytes) {
    append(self, (uint32_t)bytes, data, bytes);
    unlock(self);
    return 1;
  }
  if (free_bytes < kOutsideBytes || bytes <= kOutsideBytes) {
    unlock(self);
    return 0;
  }
  uint64_t where[2] = {take_outside(self, bytes), bytes};
  unlock(self);
  int failed;
  Py_BEGIN_ALLOW_THREADS;
  failed = write_all(self->fd, data, bytes, where[0]) < 0 ? errno : 0;
  Py_END_ALLOW_THREADS;
  if (failed != 0) {
    if (give_outside(self, where[0], bytes) < 0) return -1;
    errno = failed;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
  }
  if (lock(self) < 0) return -1;
  *gets = atomic_load(&self->header->gets);
  const int fits = room(self) >= kOutsideBytes; /* others may have been quicker */
  if (fits) append(self, OUTSIDE, where, sizeof where);
  unlock(self);
  return fits || give_outside(self, where[0], bytes) == 0 ? fits : -1;
}

static PyObject* ring_put(Ring* self, PyObject* const* arguments, Py_ssize_t count) {
  int64_t deadline = 0;
  if (count < 1 || count > 2 || !PyBytes_Check(arguments[0])) {
    PyErr_SetString(PyExc_TypeError, "put(item: bytes, timeout=0)");
    return NULL;
  }
  if (count == 2 && read_deadline(arguments[1], &deadline) < 0) return NULL;
  for (;;) {
    uint32_t gets = 0;
    const int put = try_put(self, PyBytes_AS_STRING(arguments[0]), (size_t)PyBytes_GET_SIZE(arguments[0]), &gets);
    if (put < 0) return NULL;
    if (put > 0) {
      raise_word(&self->header->puts, &self->header->getters);
      Py_RETURN_TRUE;
    }
    const int changed = wait_for_change(self, &self->header->gets, &self->header->putters, gets, deadline);
    if (changed < 0) return NULL;
    if (changed == 0) Py_RETURN_FALSE;
  }
}

/* The next item; NULL without an exception if there is none. */
static PyObject* try_get(Ring* self, uint32_t* puts) {
  Header* const header = self->header;
  if (lock(self) < 0) return NULL;
  *puts = atomic_load(&header->puts);
  const uint64_t at = atomic_load_explicit(&header->head, memory_order_relaxed);
  if (at == atomic_load_explicit(&header->tail, memory_order_acquire)) {
    unlock(self);
    return NULL;
  }
  uint32_t size;
  uint64_t where[2] = {0, 0};
  copy_out(self, at, &size, sizeof size);
  if (size & OUTSIDE) copy_out(self, at + kRecordBytes, where, sizeof where);
  PyObject* const item = PyBytes_FromStringAndSize(NULL, size & OUTSIDE ? (Py_ssize_t)where[1] : (Py_ssize_t)size);
  if (item == NULL) {
    unlock(self);
    return NULL;
  }
  if (!(size & OUTSIDE)) copy_out(self, at + kRecordBytes, PyBytes_AS_STRING(item), size);
  atomic_store_explicit(&header->head, at + record_bytes(self, at), memory_order_release);
  atomic_fetch_sub_explicit(&header->items, 1, memory_order_relaxed);
  unlock(self);
  raise_word(&header->gets, &header->putters);
  if (!(size & OUTSIDE)) return item;
  int failed;
  Py_BEGIN_ALLOW_THREADS;
  failed = read_all(self->fd, PyBytes_AS_STRING(item), (size_t)where[1], where[0]);
  Py_END_ALLOW_THREADS;
  if (give_outside(self, where[0], where[1]) == 0 && failed == 0) return item;
  if (!PyErr_Occurred()) PyErr_SetString(PyExc_OSError, "an item of the queue could not be read");
  Py_DECREF(item);
  return NULL;
}

static PyObject* ring_get(Ring* self, PyObject* const* arguments, Py_ssize_t count) {
  int64_t deadline = -1;
  if (count > 1) {
    PyErr_SetString(PyExc_TypeError, "get(timeout=None)");
    return NULL;
  }
  if (count == 1 && read_deadline(arguments[0], &deadline) < 0) return NULL;
  for (;;) {
    uint32_t puts = 0;
    PyObject* const item = try_get(self, &puts);
    if (item != NULL || PyErr_Occurred()) return item;
    const int changed = wait_for_change(self, &self->header->puts, &self->header->getters, puts, deadline);
    if (changed < 0) return NULL;
    if (changed == 0) Py_RETURN_NONE;
  }
}

static PyObject* ring_items(Ring* self, PyObject* Py_UNUSED(ignored)) {
  return PyLong_FromUnsignedLongLong(atomic_load(&self->header->items));
}

/* initialize(most): once, by who made the memory, before anybody else has it. */
static PyObject* ring_initialize(Ring* self, PyObject* argument) {
  const unsigned long long most = PyLong_AsUnsignedLongLong(argument);
  if (PyErr_Occurred()) return NULL;
  Header* const header = self->header;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  const int failed = pthread_mutex_init(&header->mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  if (failed != 0) {
    errno = failed;
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  header->capacity = (uint64_t)self->memory.len - kHeaderBytes;
  header->most = most;
  Py_RETURN_NONE;
}

static PyObject* ring_new(PyTypeObject* type, PyObject* arguments, PyObject* Py_UNUSED(keywords)) {
  PyObject* memory;
  int fd;
  if (!PyArg_ParseTuple(arguments, "Oi:Ring", &memory, &fd)) return NULL;
  Ring* const self = (Ring*)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  if (PyObject_GetBuffer(memory, &self->memory, PyBUF_WRITABLE) < 0) {
    self->memory.obj = NULL;
    Py_DECREF(self);
    return NULL;
  }
  const Py_ssize_t capacity = self->memory.len - kHeaderBytes;
  if (capacity < 4 * kLargeBytes || (capacity & (capacity - 1)) != 0) {
    PyErr_SetString(PyExc_ValueError, "not a page and a power of two");
    Py_DECREF(self);
    return NULL;
  }
  self->header = self->memory.buf;
  self->ring = (char*)self->memory.buf + kHeaderBytes;
  self->fd = fd;
  cpu_set_t cpus;
  self->may_spin = sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
  return (PyObject*)self;
}

static void ring_dealloc(Ring* self) {
  PyTypeObject* const type = Py_TYPE(self);
  if (self->memory.obj != NULL) PyBuffer_Release(&self->memory);
  type->tp_free((PyObject*)self);
  Py_DECREF(type);
}

static PyMethodDef ring_methods[] = {
    {"initialize", (PyCFunction)ring_initialize, METH_O,
     "Makes an empty ring, which holds so many items at most (0: any number)."},
    {"put", (PyCFunction)(void (*)(void))ring_put, METH_FASTCALL,
     "Appends an item; False if there is no room in time."},
    {"get", (PyCFunction)(void (*)(void))ring_get, METH_FASTCALL, "Takes the first item; None if none comes in time."},
    {"items", (PyCFunction)ring_items, METH_NOARGS, "How many items there are."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ring_slots[] = {
    {Py_tp_new, ring_new},
    {Py_tp_dealloc, ring_dealloc},
    {Py_tp_methods, ring_methods},
    {Py_tp_doc, "Items in memory that processes share."},
    {0, NULL},
};

static PyType_Spec ring_spec = {"taskpool._native.Ring", sizeof(Ring), 0, Py_TPFLAGS_DEFAULT, ring_slots};

int taskpool_add_ring(PyObject* module) {
  PyObject* const type = PyType_FromSpec(&ring_spec);
  if (type == NULL) return -1;
  const int added = PyModule_AddObjectRef(module, "Ring", type);
  Py_DECREF(type);
  return added;
}

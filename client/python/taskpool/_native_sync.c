/* Locks, semaphores and signals in memory that processes share. Nothing of them has a name, and nobody has to tidy up
 * after a process that was killed: a lock whose owner has died goes to the next who wants it, who is told; the others
 * keep no account of who waits. synchronize.py makes multiprocessing's classes of them. Each takes a cache line of 64
 * zeroed bytes. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "_native_sync.h"

#include "_native_clock.h"

enum { kPlaceBytes = 64 };
/* How often somebody who waits for a lock looks whether its owner still lives. */
static const int64_t kLookNs = 100 * 1000 * 1000;
static const uint32_t kWaiters = 1u << 31; /* in a lock's word: somebody may sleep */

/* The shared bytes. */
typedef struct {
  _Atomic uint32_t word;    /* lock: 0, or its owner's id; semaphore: its value; signal: how often it was raised */
  _Atomic uint32_t waiters; /* semaphore: who may sleep; who was killed stays counted, which costs a system call */
  _Atomic uint64_t started; /* lock: when the owner's process began, or 0: not known */
  _Atomic uint32_t depth;   /* recursive lock: how often its owner has it */
  uint32_t most;            /* semaphore: its bound, 0: none */
} Place;

typedef struct {
  PyObject_HEAD Py_buffer memory;
  Place* place;
  int recursive;
} Sync;

/* Of this process and thread, as the kernel calls them: asked for once. A fork makes another process. */
static _Thread_local uint32_t own_thread;
static uint32_t own_process;
static uint64_t own_start;

static int read_start(uint32_t id, uint64_t* started) {
  char path[32], text[512];
  errno = 0; /* 0 after a failure: it is there, and has ended */
  snprintf(path, sizeof path, "/proc/%u/stat", id);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  const ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  if (size <= 0) return -1;
  text[size] = '\0';
  const char* at = strrchr(text, ')'); /* the name may hold anything */
  if (at == NULL || at[1] != ' ') return -1;
  const char state = at[2];
  if (state == 'Z' || state == 'X') return -1;
  at += 2;
  for (int field = 3; field < 22; ++field) {
    at = strchr(at, ' ');
    if (at == NULL) return -1;
    ++at;
  }
  *started = strtoull(at, NULL, 10);
  return 0;
}

static void know_process(void) {
  own_process = (uint32_t)getpid();
  if (read_start(own_process, &own_start) < 0) own_start = 0;
}

static void after_fork(void) {
  own_thread = 0;
  know_process();
}

static uint32_t my_id(const Sync* self) {
  if (!self->recursive) return own_process;
  if (own_thread == 0) own_thread = (uint32_t)syscall(SYS_gettid);
  return own_thread;
}

/* True if no thread of that id lives, or it is another than the one that began at `started`. */
static int is_dead(uint32_t id, uint64_t started) {
  if (kill((pid_t)id, 0) != 0 && errno == ESRCH) return 1;
  uint64_t now;
  if (read_start(id, &now) < 0) return errno == ENOENT || errno == ESRCH || errno == 0;
  return started != 0 && started != now;
}

/* Sleeps while the word is `seen`, at most `limit` ns (-1: no limit). Without the interpreter's lock. */
static void sleep_on(_Atomic uint32_t* word, uint32_t seen, int64_t limit) {
  struct timespec time = {limit / 1000000000, limit % 1000000000};
  syscall(SYS_futex, word, FUTEX_WAIT, seen, limit < 0 ? NULL : &time, NULL, 0);
}

static void wake(_Atomic uint32_t* word, int count) { syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0); }

/* Reads `block` and `timeout` (None, or seconds). *deadline: 0 do not wait, -1 no limit. */
static int read_wait(PyObject* arguments, PyObject* keywords, int64_t* deadline) {
  static char* names[] = {"block", "timeout", NULL};
  int block = 1;
  PyObject* timeout = Py_None;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|pO", names, &block, &timeout)) return -1;
  if (!block) {
    *deadline = 0;
    return 0;
  }
  if (timeout == Py_None) {
    *deadline = -1;
    return 0;
  }
  const double seconds = PyFloat_AsDouble(timeout);
  if (seconds == -1.0 && PyErr_Occurred()) return -1;
  if (seconds <= 0) {
    *deadline = 0;
  } else if (seconds > 1e9) {
    *deadline = -1;
  } else {
    *deadline = deadline_clock_ns() + (int64_t)(seconds * 1e9);
  }
  return 0;
}

/* How long to sleep now, at most `slice`; 0 when the time is over. */
static int64_t time_left(int64_t deadline, int64_t slice) {
  if (deadline < 0) return slice;
  const int64_t left = deadline - deadline_clock_ns();
  if (left <= 0) return 0;
  return slice < 0 || left < slice ? left : slice;
}

static void took(Sync* self) {
  atomic_store_explicit(&self->place->started, self->recursive ? 0 : own_start, memory_order_relaxed);
}

/* Waits for the lock: 1 it is ours, 2 and its last owner died, 0 the time is over, -1 an exception. */
static int wait_for_lock(Sync* self, uint32_t me, int64_t deadline) {
  Place* const place = self->place;
  int64_t looked = deadline_clock_ns();
  for (;;) {
    uint32_t seen = atomic_load_explicit(&place->word, memory_order_relaxed);
    if (seen == 0) {
      if (!atomic_compare_exchange_strong(&place->word, &seen, me | kWaiters)) continue;
      took(self);
      return 1;
    }
    const int64_t left = time_left(deadline, kLookNs);
    if (left == 0) return 0;
    if (!(seen & kWaiters) && !atomic_compare_exchange_strong(&place->word, &seen, seen | kWaiters)) continue;
    Py_BEGIN_ALLOW_THREADS;
    sleep_on(&place->word, seen | kWaiters, left);
    Py_END_ALLOW_THREADS;
    if (PyErr_CheckSignals() < 0) return -1;
    if (deadline_clock_ns() - looked < kLookNs) continue;
    looked = deadline_clock_ns();
    seen = atomic_load(&place->word);
    const uint64_t started = atomic_load(&place->started);
    if (seen == 0 || !is_dead(seen & ~kWaiters, started)) continue;
    if (!atomic_compare_exchange_strong(&place->word, &seen, me | kWaiters)) continue;
    atomic_store(&place->depth, 0);
    took(self);
    return 2;
  }
}

static PyObject* lock_acquire(Sync* self, PyObject* arguments, PyObject* keywords) {
  int64_t deadline = -1;
  if ((PyTuple_GET_SIZE(arguments) > 0 || keywords != NULL) && read_wait(arguments, keywords, &deadline) < 0)
    return NULL;
  Place* const place = self->place;
  const uint32_t me = my_id(self);
  uint32_t seen = 0;
  if (atomic_compare_exchange_strong(&place->word, &seen, me)) {
    took(self);
  } else if (self->recursive && (seen & ~kWaiters) == me) {
    atomic_fetch_add(&place->depth, 1);
  } else {
    const int got = deadline == 0 ? 0 : wait_for_lock(self, me, deadline);
    if (got < 0) return NULL;
    if (got == 0) Py_RETURN_FALSE;
    if (got == 2 &&
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "the last owner of %R died with it: what it protects may be half done", self) < 0) {
      if (atomic_exchange(&place->word, 0) & kWaiters) wake(&place->word, 1);
      return NULL;
    }
  }
  Py_RETURN_TRUE;
}

static PyObject* lock_release(Sync* self, PyObject* Py_UNUSED(ignored)) {
  Place* const place = self->place;
  if (self->recursive) {
    if ((atomic_load(&place->word) & ~kWaiters) != my_id(self)) {
      PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
      return NULL;
    }
    if (atomic_load(&place->depth) > 0) {
      atomic_fetch_sub(&place->depth, 1);
      Py_RETURN_NONE;
    }
  }
  atomic_store_explicit(&place->started, 0, memory_order_relaxed);
  const uint32_t seen = atomic_exchange(&place->word, 0);
  if (seen == 0) {
    PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
    return NULL;
  }
  if (seen & kWaiters) wake(&place->word, 1);
  Py_RETURN_NONE;
}

static PyObject* lock_owner(Sync* self, PyObject* Py_UNUSED(ignored)) {
  return PyLong_FromUnsignedLong(atomic_load(&self->place->word) & ~kWaiters);
}

static PyObject* lock_depth(Sync* self, PyObject* Py_UNUSED(ignored)) {
  return PyLong_FromUnsignedLong(atomic_load(&self->place->depth));
}

static PyObject* lock_is_mine(Sync* self, PyObject* Py_UNUSED(ignored)) {
  return PyBool_FromLong((atomic_load(&self->place->word) & ~kWaiters) == my_id(self));
}

static int take_unit(Place* place) {
  uint32_t seen = atomic_load(&place->word);
  while (seen > 0)
    if (atomic_compare_exchange_weak(&place->word, &seen, seen - 1)) return 1;
  return 0;
}

static PyObject* semaphore_acquire(Sync* self, PyObject* arguments, PyObject* keywords) {
  int64_t deadline = -1;
  if ((PyTuple_GET_SIZE(arguments) > 0 || keywords != NULL) && read_wait(arguments, keywords, &deadline) < 0)
    return NULL;
  Place* const place = self->place;
  if (take_unit(place)) Py_RETURN_TRUE;
  if (deadline == 0) Py_RETURN_FALSE;
  int got = 0;
  atomic_fetch_add(&place->waiters, 1);
  while (!(got = take_unit(place))) {
    const int64_t left = time_left(deadline, kLookNs); /* a wake-up may have gone to somebody who was killed */
    if (left == 0) break;
    Py_BEGIN_ALLOW_THREADS;
    sleep_on(&place->word, 0, left);
    Py_END_ALLOW_THREADS;
    if (PyErr_CheckSignals() < 0) {
      atomic_fetch_sub(&place->waiters, 1);
      return NULL;
    }
  }
  atomic_fetch_sub(&place->waiters, 1);
  return PyBool_FromLong(got);
}

static PyObject* semaphore_release(Sync* self, PyObject* Py_UNUSED(ignored)) {
  Place* const place = self->place;
  const uint32_t most = place->most != 0 ? place->most : INT32_MAX;
  uint32_t seen = atomic_load(&place->word);
  do {
    if (seen >= most) {
      PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
      return NULL;
    }
  } while (!atomic_compare_exchange_weak(&place->word, &seen, seen + 1));
  if (atomic_load(&place->waiters) > 0) wake(&place->word, 1);
  Py_RETURN_NONE;
}

static PyObject* semaphore_get_value(Sync* self, PyObject* Py_UNUSED(ignored)) {
  return PyLong_FromUnsignedLong(atomic_load(&self->place->word));
}

static PyObject* semaphore_initialize(Sync* self, PyObject* arguments) {
  unsigned int value, most;
  if (!PyArg_ParseTuple(arguments, "II", &value, &most)) return NULL;
  self->place->most = most;
  atomic_store(&self->place->word, value);
  Py_RETURN_NONE;
}

static PyObject* signal_wait(Sync* self, PyObject* arguments) {
  unsigned int seen;
  PyObject* timeout = Py_None;
  if (!PyArg_ParseTuple(arguments, "I|O", &seen, &timeout)) return NULL;
  int64_t deadline = -1;
  if (timeout != Py_None) {
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) return NULL;
    if (seconds < 1e9) deadline = deadline_clock_ns() + (seconds > 0 ? (int64_t)(seconds * 1e9) : 0);
  }
  Place* const place = self->place;
  while (atomic_load(&place->word) == seen) {
    const int64_t left = time_left(deadline, -1);
    if (left == 0) Py_RETURN_FALSE;
    Py_BEGIN_ALLOW_THREADS;
    sleep_on(&place->word, seen, left);
    Py_END_ALLOW_THREADS;
    if (PyErr_CheckSignals() < 0) return NULL;
  }
  Py_RETURN_TRUE;
}

/* Raises it if it is still `seen`, and wakes up to `count` who wait. */
static PyObject* signal_raise(Sync* self, PyObject* arguments) {
  unsigned int seen;
  int count = INT32_MAX;
  if (!PyArg_ParseTuple(arguments, "I|i", &seen, &count)) return NULL;
  uint32_t expected = seen;
  if (!atomic_compare_exchange_strong(&self->place->word, &expected, seen + 1)) Py_RETURN_FALSE;
  wake(&self->place->word, count);
  Py_RETURN_TRUE;
}

static PyObject* sync_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
  PyObject* memory;
  Py_ssize_t offset;
  int recursive = 0;
  static char* names[] = {"memory", "offset", "recursive", NULL};
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "On|p", names, &memory, &offset, &recursive)) return NULL;
  Sync* const self = (Sync*)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->memory.obj = NULL;
  if (PyObject_GetBuffer(memory, &self->memory, PyBUF_WRITABLE) < 0) {
    self->memory.obj = NULL;
    Py_DECREF(self);
    return NULL;
  }
  if (offset < 0 || offset > self->memory.len - kPlaceBytes ||
      ((uintptr_t)self->memory.buf + (size_t)offset) % kPlaceBytes != 0) {
    PyErr_SetString(PyExc_ValueError, "not a place in that memory");
    Py_DECREF(self);
    return NULL;
  }
  self->place = (Place*)((char*)self->memory.buf + offset);
  self->recursive = recursive;
  return (PyObject*)self;
}

static void sync_dealloc(Sync* self) {
  PyTypeObject* const type = Py_TYPE(self);
  if (self->memory.obj != NULL) PyBuffer_Release(&self->memory);
  type->tp_free((PyObject*)self);
  Py_DECREF(type);
}

static PyObject* lock_enter(Sync* self, PyObject* Py_UNUSED(ignored)) {
  PyObject* const none = PyTuple_New(0);
  if (none == NULL) return NULL;
  PyObject* const got = lock_acquire(self, none, NULL);
  Py_DECREF(none);
  return got;
}
static PyObject* lock_exit(Sync* self, PyObject* Py_UNUSED(arguments)) { return lock_release(self, NULL); }

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_VARARGS | METH_KEYWORDS, "Acquire the lock."},
    {"release", (PyCFunction)lock_release, METH_NOARGS, "Release the lock."},
    {"__enter__", (PyCFunction)lock_enter, METH_NOARGS, "Acquire the lock."},
    {"__exit__", (PyCFunction)lock_exit, METH_VARARGS, "Release the lock."},
    {"_owner", (PyCFunction)lock_owner, METH_NOARGS,
     "The process, or of a recursive lock the thread, that has it; 0: none."},
    {"_depth", (PyCFunction)lock_depth, METH_NOARGS, "How often its owner has acquired it again."},
    {"_is_mine", (PyCFunction)lock_is_mine, METH_NOARGS, "Whether the caller has it."},
    {NULL, NULL, 0, NULL},
};
static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semaphore_acquire, METH_VARARGS | METH_KEYWORDS, "Acquire a unit."},
    {"release", (PyCFunction)semaphore_release, METH_NOARGS, "Release a unit."},
    {"get_value", (PyCFunction)semaphore_get_value, METH_NOARGS, "The units that are free."},
    {"_initialize", (PyCFunction)semaphore_initialize, METH_VARARGS, "Sets value and bound, once."},
    {NULL, NULL, 0, NULL},
};
static PyMethodDef signal_methods[] = {
    {"wait", (PyCFunction)signal_wait, METH_VARARGS,
     "Waits while it is as often raised as `seen`; False after a timeout."},
    {"raise_from", (PyCFunction)signal_raise, METH_VARARGS,
     "Raises it once more than `seen`, unless somebody else has."},
    {"count", (PyCFunction)semaphore_get_value, METH_NOARGS, "How often it was raised, modulo 2**32."},
    {NULL, NULL, 0, NULL},
};

static PyObject* is_alive(PyObject* Py_UNUSED(module), PyObject* argument) {
  const unsigned long id = PyLong_AsUnsignedLong(argument);
  if (id == (unsigned long)-1 && PyErr_Occurred()) return NULL;
  return PyBool_FromLong(!is_dead((uint32_t)id, 0));
}
static PyMethodDef functions[] = {
    {"is_alive", is_alive, METH_O, "Whether a process of that number runs."},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject* module, const char* name, const char* full_name, PyMethodDef* methods) {
  PyType_Slot slots[] = {{Py_tp_new, sync_new}, {Py_tp_dealloc, sync_dealloc}, {Py_tp_methods, methods}, {0, NULL}};
  PyType_Spec spec = {full_name, sizeof(Sync), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
  PyObject* const type = PyType_FromSpec(&spec);
  if (type == NULL) return -1;
  if (PyModule_AddObject(module, name, type) == 0) return 0;
  Py_DECREF(type);
  return -1;
}

int taskpool_add_sync(PyObject* module) {
  know_process();
  if (pthread_atfork(NULL, NULL, after_fork) != 0) {
    PyErr_NoMemory();
    return -1;
  }
  if (PyModule_AddFunctions(module, functions) < 0) return -1;
  if (add_type(module, "Lock", "taskpool._native.Lock", lock_methods) < 0) return -1;
  if (add_type(module, "Semaphore", "taskpool._native.Semaphore", semaphore_methods) < 0) return -1;
  return add_type(module, "Signal", "taskpool._native.Signal", signal_methods);
}

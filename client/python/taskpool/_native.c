/* What Python cannot do by itself: compare-and-swap in the page that a worker shares with the supervisor, and a loop that says
 * in that page which element runs. runtime/page.py describes the methods; it has the same in Python, without the
 * compare-and-swap. PROTOCOL.md, section 3.2, describes the page. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <time.h>

#include "_native_ring.h"
#include "_native_store.h"
#include "_native_sync.h"

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
};

typedef struct {
  PyObject_HEAD
  Py_buffer memory;
} Page;

static _Atomic uint32_t *word(Page *self, size_t offset) { return (_Atomic uint32_t *)((char *)self->memory.buf + offset); }
static _Atomic uint64_t *long_word(Page *self, size_t offset) {
  return (_Atomic uint64_t *)((char *)self->memory.buf + offset);
}

static uint64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Reads an argument that is a ticket or a size; -1 with an exception if it is none. */
static int to_u32(PyObject *argument, uint32_t *into) {
  const unsigned long value = PyLong_AsUnsignedLong(argument);
  if (value == (unsigned long)-1 && PyErr_Occurred()) return -1;
  if (value > UINT32_MAX) {
    PyErr_SetString(PyExc_OverflowError, "want a number below 2**32");
    return -1;
  }
  *into = (uint32_t)value;
  return 0;
}

static PyObject *page_claim(Page *self, PyObject *argument) {
  uint32_t ticket;
  if (to_u32(argument, &ticket) < 0) return NULL;
  _Atomic uint64_t *const claim = long_word(self, kClaim);
  uint64_t seen = atomic_load_explicit(claim, memory_order_acquire);
  uint64_t wanted;
  do {
    const uint32_t next = (uint32_t)seen;
    const uint32_t end = (uint32_t)(seen >> 32);
    if ((int32_t)(ticket - next) < 0 || (int32_t)(ticket - end) >= 0) Py_RETURN_FALSE;
    wanted = ((uint64_t)end << 32) | (uint32_t)(ticket + 1);
  } while (!atomic_compare_exchange_weak_explicit(claim, &seen, wanted, memory_order_acq_rel, memory_order_acquire));
  atomic_store_explicit(long_word(self, kStartedNs), monotonic_ns(), memory_order_relaxed);
  atomic_store_explicit(word(self, kPosition), 0, memory_order_relaxed);
  atomic_store_explicit(word(self, kRunning), ticket, memory_order_release);
  atomic_store_explicit(word(self, kBusy), 1, memory_order_release);
  Py_RETURN_TRUE;
}

static PyObject *page_finish(Page *self, PyObject *argument) {
  uint32_t ticket;
  if (to_u32(argument, &ticket) < 0) return NULL;
  atomic_store_explicit(word(self, kFinished), ticket + 1, memory_order_release);
  atomic_store_explicit(word(self, kBusy), 0, memory_order_release);
  const uint64_t started = atomic_load_explicit(long_word(self, kStartedNs), memory_order_relaxed);
  const uint64_t worked = atomic_load_explicit(long_word(self, kWorkedNs), memory_order_relaxed);
  atomic_store_explicit(long_word(self, kWorkedNs), worked + (monotonic_ns() - started), memory_order_relaxed);
  Py_RETURN_NONE;
}

static PyObject *page_skip(Page *self, PyObject *argument) {
  uint32_t ticket;
  if (to_u32(argument, &ticket) < 0) return NULL;
  atomic_store_explicit(word(self, kFinished), ticket + 1, memory_order_release);
  Py_RETURN_NONE;
}

static PyObject *page_publish(Page *self, PyObject *argument) {
  uint32_t size;
  if (to_u32(argument, &size) < 0) return NULL;
  atomic_store_explicit(word(self, kOutboxBytes), size, memory_order_release);
  Py_RETURN_NONE;
}

static PyObject *page_reset(Page *self, PyObject *Py_UNUSED(ignored)) {
  /* The supervisor may be copying what is about to be overwritten: it compares the resets before and after. */
  atomic_store_explicit(word(self, kOutboxBytes), 0, memory_order_relaxed);
  atomic_fetch_add_explicit(word(self, kOutboxResets), 1, memory_order_acq_rel);
  Py_RETURN_NONE;
}

static PyObject *page_interrupt(Page *self, PyObject *Py_UNUSED(ignored)) {
  const uint64_t asked = atomic_load_explicit(long_word(self, kInterrupt), memory_order_acquire);
  const uint32_t running = atomic_load_explicit(word(self, kRunning), memory_order_relaxed);
  const int is_meant = (uint32_t)asked == running + 1 && atomic_load_explicit(word(self, kBusy), memory_order_relaxed);
  return PyLong_FromUnsignedLong(is_meant ? (unsigned long)(asked >> 32) : 0);
}

/* Tells `failed` of the exception that is set. -1 if that, or something that is no Exception, goes on. */
static int tell_failed(PyObject *failed, Py_ssize_t position) {
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != NULL) PyException_SetTraceback(value, traceback);
  PyObject *const told = PyObject_CallFunction(failed, "nO", position, value);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
  if (told == NULL) return -1;
  Py_DECREF(told);
  return 0;
}

static PyObject *call(PyObject *function, PyObject *element, int star) {
  if (!star) return PyObject_CallOneArg(function, element);
  PyObject *const arguments = PySequence_Tuple(element);
  if (arguments == NULL) return NULL;
  PyObject *const outcome = PyObject_Call(function, arguments, NULL);
  Py_DECREF(arguments);
  return outcome;
}

static PyObject *page_map(Page *self, PyObject *const *arguments, Py_ssize_t count) {
  if (count != 4 || !PyList_Check(arguments[1])) {
    PyErr_SetString(PyExc_TypeError, "map(function, elements: list, star, failed)");
    return NULL;
  }
  PyObject *const function = arguments[0];
  PyObject *const elements = arguments[1];
  const int star = PyObject_IsTrue(arguments[2]);
  if (star < 0) return NULL;
  const Py_ssize_t size = PyList_GET_SIZE(elements);
  PyObject *const outcomes = PyList_New(size);
  if (outcomes == NULL) return NULL;
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (i >= PyList_GET_SIZE(elements)) { /* the function has found its way to the list */
      PyErr_SetString(PyExc_RuntimeError, "the elements of a map changed while it ran");
      Py_DECREF(outcomes);
      return NULL;
    }
    atomic_store_explicit(word(self, kPosition), (uint32_t)i, memory_order_relaxed);
    PyObject *const element = PyList_GET_ITEM(elements, i);
    Py_INCREF(element);
    PyObject *outcome = call(function, element, star);
    Py_DECREF(element);
    if (outcome == NULL) {
      if (tell_failed(arguments[3], i) < 0) {
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

static PyObject *page_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
  PyObject *memory;
  static char *names[] = {"memory", NULL};
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:Page", names, &memory)) return NULL;
  Page *const self = (Page *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  if (PyObject_GetBuffer(memory, &self->memory, PyBUF_WRITABLE) < 0) {
    self->memory.obj = NULL;
    Py_DECREF(self);
    return NULL;
  }
  if (self->memory.len < kPageBytes || (uintptr_t)self->memory.buf % 64 != 0) {
    PyErr_SetString(PyExc_ValueError, "not a claim page");
    Py_DECREF(self);
    return NULL;
  }
  return (PyObject *)self;
}

static void page_dealloc(Page *self) {
  PyTypeObject *const type = Py_TYPE(self);
  if (self->memory.obj != NULL) PyBuffer_Release(&self->memory);
  type->tp_free((PyObject *)self);
  Py_DECREF(type);
}

static PyMethodDef page_methods[] = {
    {"claim", (PyCFunction)page_claim, METH_O, "Takes the ticket and marks the worker busy with it."},
    {"finish", (PyCFunction)page_finish, METH_O, "The result of the ticket is published."},
    {"skip", (PyCFunction)page_skip, METH_O, "The ticket was taken back."},
    {"publish", (PyCFunction)page_publish, METH_O, "The outbox holds so many bytes of whole frames."},
    {"reset", (PyCFunction)page_reset, METH_NOARGS, "What the outbox held was sent."},
    {"interrupt", (PyCFunction)page_interrupt, METH_NOARGS, "Why what runs is asked to stop; 0 if it is not."},
    {"map", (PyCFunction)(void (*)(void))page_map, METH_FASTCALL, "Calls a function with each element."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot page_slots[] = {
    {Py_tp_new, page_new},
    {Py_tp_dealloc, page_dealloc},
    {Py_tp_methods, page_methods},
    {Py_tp_doc, "The claim page that a worker shares with the supervisor."},
    {0, NULL},
};

static PyType_Spec page_spec = {"taskpool._native.Page", sizeof(Page), 0, Py_TPFLAGS_DEFAULT, page_slots};

static PyObject *set_parent_death_signal(PyObject *Py_UNUSED(module), PyObject *argument) {
  const long number = PyLong_AsLong(argument);
  if (number == -1 && PyErr_Occurred()) return NULL;
  if (prctl(PR_SET_PDEATHSIG, (unsigned long)number) != 0) return PyErr_SetFromErrno(PyExc_OSError);
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_parent_death_signal", set_parent_death_signal, METH_O, "The signal that this process gets when its parent dies."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module) {
  PyObject *const type = PyType_FromSpec(&page_spec);
  if (type == NULL) return -1;
  if (PyObject_SetAttrString(type, "claims", Py_True) < 0 || PyModule_AddObject(module, "Page", type) < 0) {
    Py_DECREF(type);
    return -1;
  }
  if (taskpool_add_store(module) < 0 || taskpool_add_ring(module) < 0) return -1;
  return taskpool_add_sync(module);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "taskpool._native", "What taskpool cannot do in Python.", 0, functions, module_slots,
    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }

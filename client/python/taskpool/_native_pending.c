/* What waits for the result of one call: as little as can be, as there may be thousands. calls.py has the same in
 * Python. */

#include "_native_stream.h"

#include <structmember.h>

#include "_native_frames.h"
#include "_native_pickle.h"

PyTypeObject* taskpool_pending_type;
static PyTypeObject* counter_type;

static int counter_init(Counter* Py_UNUSED(self), PyObject* arguments, PyObject* Py_UNUSED(keywords)) {
  return PyArg_ParseTuple(arguments, ":Counter") ? 0 : -1;
}

static PyObject* counter_began(Counter* self, PyObject* Py_UNUSED(ignored)) {
  ++self->count;
  Py_RETURN_NONE;
}

static PyObject* counter_ended(Counter* self, PyObject* Py_UNUSED(ignored)) {
  if (--self->count == 0 && self->on_idle != NULL && self->on_idle != Py_None)
    return PyObject_CallNoArgs(self->on_idle);
  Py_RETURN_NONE;
}

static int counter_traverse(Counter* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(self->on_idle);
  return 0;
}

static int counter_clear(Counter* self) {
  Py_CLEAR(self->on_idle);
  return 0;
}

static void counter_dealloc(Counter* self) {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  (void)counter_clear(self);
  type->tp_free((PyObject*)self);
  Py_DECREF(type);
}

static PyMemberDef counter_members[] = {
    {"count", T_PYSSIZET, offsetof(Counter, count), READONLY, "Calls under way."},
    {"on_idle", T_OBJECT, offsetof(Counter, on_idle), 0, "Called when there are none any more."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef counter_methods[] = {
    {"began", (PyCFunction)counter_began, METH_NOARGS, "One more is under way."},
    {"ended", (PyCFunction)counter_ended, METH_NOARGS, "One less is."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot counter_slots[] = {
    {Py_tp_init, counter_init},
    {Py_tp_dealloc, counter_dealloc},
    {Py_tp_traverse, counter_traverse},
    {Py_tp_clear, counter_clear},
    {Py_tp_members, counter_members},
    {Py_tp_methods, counter_methods},
    {Py_tp_doc, "Counts what is under way."},
    {0, NULL},
};

static PyType_Spec counter_spec = {"taskpool._native.Counter", sizeof(Counter), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, counter_slots};

static PyObject* pending_new(PyTypeObject* type, PyObject* Py_UNUSED(arguments), PyObject* Py_UNUSED(keywords)) {
  return type->tp_alloc(type, 0);
}

/* Makes the value of the body, if that is one pickle; False if Python has to. */
static PyObject* pending_settle(Pending* self, PyObject* Py_UNUSED(ignored)) {
  if (self->body == NULL) Py_RETURN_TRUE;
  const char* const data = PyBytes_AS_STRING(self->body);
  const Py_ssize_t size = PyBytes_GET_SIZE(self->body);
  if (self->encoding != kAsPickle || self->flags != 0 || !taskpool_is_plain(data, size)) Py_RETURN_FALSE;
  PyObject* const body = Py_NewRef(self->body);
  PyObject* const value = taskpool_loads(data, size);
  Py_DECREF(body);
  if (value != NULL) {
    Py_XSETREF(self->value, value);
  } else {
    if (!PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_SystemExit)) return NULL;
    Py_XSETREF(self->error, taskpool_raised());
  }
  /* Last: another thread may look meanwhile, and an interrupt makes this go unfinished. */
  Py_CLEAR(self->body);
  Py_RETURN_TRUE;
}

int taskpool_take_result(PyObject* handler, unsigned char flags, unsigned char encoding, const char* body,
                         Py_ssize_t size) {
  if (!PyObject_TypeCheck(handler, taskpool_pending_type)) return 0;
  Pending* const self = (Pending*)handler;
  Counter* const counter = self->counter;
  if (!self->is_plain || flags != 0 || counter == NULL) return 0;
  if (counter->count == 1 && counter->on_idle != NULL && counter->on_idle != Py_None) return 0;
  self->body = PyBytes_FromStringAndSize(body, size);
  if (self->body == NULL) return -1;
  self->flags = flags;
  self->encoding = encoding;
  --counter->count;
  self->done = 1;
  return 1;
}

static int pending_traverse(Pending* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(self->counter);
  Py_VISIT(self->value);
  Py_VISIT(self->error);
  return 0;
}

static int pending_clear(Pending* self) {
  Py_CLEAR(self->counter);
  Py_CLEAR(self->body);
  Py_CLEAR(self->value);
  Py_CLEAR(self->error);
  return 0;
}

static void pending_dealloc(Pending* self) {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  (void)pending_clear(self);
  type->tp_free((PyObject*)self);
  Py_DECREF(type);
}

static PyMemberDef pending_members[] = {
    {"_done", T_BOOL, offsetof(Pending, done), 0, "It has ended."},
    {"_is_plain", T_BOOL, offsetof(Pending, is_plain), 0, "Nobody but get() has to know of the result."},
    {"_encoding", T_UBYTE, offsetof(Pending, encoding), 0, "Of the body."},
    {"_flags", T_UBYTE, offsetof(Pending, flags), 0, "Of the body."},
    {"_counter", T_OBJECT, offsetof(Pending, counter), READONLY, "Of the calls under way."},
    {"_body", T_OBJECT, offsetof(Pending, body), 0, "Of the result's frame, until it is decoded."},
    {"_value", T_OBJECT, offsetof(Pending, value), 0, "What it returned."},
    {"_error", T_OBJECT, offsetof(Pending, error), 0, "What it raised."},
    {NULL, 0, 0, 0, NULL},
};

static PyObject* pending_count_in(Pending* self, PyObject* counter) {
  if (Py_TYPE(counter) != counter_type) {
    PyErr_SetString(PyExc_TypeError, "want a Counter");
    return NULL;
  }
  Py_INCREF(counter);
  Py_XSETREF(self->counter, (Counter*)counter);
  Py_RETURN_NONE;
}

static PyMethodDef pending_methods[] = {
    {"_settle", (PyCFunction)pending_settle, METH_NOARGS,
     "Makes the value of the body; False if it is none of the plain ones."},
    {"_count_in", (PyCFunction)pending_count_in, METH_O, "Says where it is counted."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pending_slots[] = {
    {Py_tp_new, pending_new},
    {Py_tp_dealloc, pending_dealloc},
    {Py_tp_traverse, pending_traverse},
    {Py_tp_clear, pending_clear},
    {Py_tp_members, pending_members},
    {Py_tp_methods, pending_methods},
    {Py_tp_doc, "What waits for the result of one call."},
    {0, NULL},
};

static PyType_Spec pending_spec = {"taskpool._native.Pending", sizeof(Pending), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, pending_slots};

int taskpool_add_pending(PyObject* module) {
  counter_type = (PyTypeObject*)PyType_FromSpec(&counter_spec);
  taskpool_pending_type = (PyTypeObject*)PyType_FromSpec(&pending_spec);
  if (counter_type == NULL || taskpool_pending_type == NULL) return -1;
  return PyModule_AddObjectRef(module, "Counter", (PyObject*)counter_type) < 0 ||
                 PyModule_AddObjectRef(module, "Pending", (PyObject*)taskpool_pending_type) < 0
             ? -1
             : 0;
}

#include "_native_pickle.h"

enum { kMostLookedAt = 64, kProtocol = 5, kPlain = 0x80 };

static PyObject *dumps, *loads, *protocol;

int taskpool_find_pickle(void) {
  if (loads != NULL) return 0;
  PyObject* const module = PyImport_ImportModule("_pickle");
  if (module == NULL) return -1;
  protocol = PyLong_FromLong(kProtocol);
  dumps = PyObject_GetAttrString(module, "dumps");
  loads = PyObject_GetAttrString(module, "loads");
  Py_DECREF(module);
  return protocol == NULL || dumps == NULL || loads == NULL ? -1 : 0;
}

int taskpool_is_small(PyObject* value, int depth) {
  PyTypeObject* const type = Py_TYPE(value);
  if (value == Py_None || type == &PyLong_Type || type == &PyFloat_Type || type == &PyBool_Type ||
      type == &PyUnicode_Type || type == &PyDict_Type || type == &PySet_Type || type == &PyComplex_Type)
    return 1;
  if (type == &PyBytes_Type) return PyBytes_GET_SIZE(value) < kMaxInlineItemBytes;
  if (type != &PyTuple_Type && type != &PyList_Type) return 0;
  const Py_ssize_t size = PySequence_Fast_GET_SIZE(value);
  if (depth == 0 || size > kMostLookedAt) return 1;
  for (Py_ssize_t i = 0; i < size; ++i)
    if (!taskpool_is_small(PySequence_Fast_GET_ITEM(value, i), depth - 1)) return 0;
  return 1;
}

PyObject* taskpool_dumps_small(PyObject* value) {
  PyObject* const arguments[] = {value, protocol};
  PyObject* const data = PyObject_Vectorcall(dumps, arguments, 2, NULL);
  if (data == NULL) {
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return NULL; /* an interrupt: its caller looks whether there is one */
    PyErr_Clear();
    return NULL;
  }
  if (PyBytes_GET_SIZE(data) < kMaxInlineItemBytes) return data;
  Py_DECREF(data);
  return NULL;
}

int taskpool_is_plain(const char* data, Py_ssize_t size) { return size > 0 && (unsigned char)data[0] == kPlain; }

PyObject* taskpool_loads(const char* data, Py_ssize_t size) {
  /* A view, as the pickle is read in place; nothing in the object refers to it. */
  PyObject* const view = PyMemoryView_FromMemory((char*)data, size, PyBUF_READ);
  if (view == NULL) return NULL;
  PyObject* const value = PyObject_CallOneArg(loads, view);
  Py_DECREF(view);
  return value;
}

PyObject* taskpool_raised(void) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != NULL) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return value;
}

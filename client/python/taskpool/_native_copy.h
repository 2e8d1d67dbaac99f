/* Copies of large buffers. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A bytes of the content of a contiguous buffer. */
PyObject* taskpool_copy_bytes(PyObject* module, PyObject* content);
/* A bytearray of it. */
PyObject* taskpool_copy_bytearray(PyObject* module, PyObject* content);

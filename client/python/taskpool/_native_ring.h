#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Adds Ring to the extension. -1 with an exception. */
int taskpool_add_ring(PyObject* module);

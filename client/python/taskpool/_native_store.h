#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Adds pack(), pack_sets() and parse() to the extension. -1 with an exception. */
int taskpool_add_store(PyObject *module);

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Adds Lock, Semaphore, Signal and is_alive() to the extension. -1 with an exception. */
int taskpool_add_sync(PyObject* module);

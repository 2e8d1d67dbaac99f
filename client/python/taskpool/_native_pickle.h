#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Items of small objects: what payload.py makes of them. Larger ones, and those it has doubts about, are left to it. */

/* Largest item that travels inside a frame, and from which on there may be a buffer to send beside the pickle. */
enum { kMaxInlineItemBytes = 1 << 16 };

/* 0, or -1 with an exception. */
int taskpool_find_pickle(void);
/* True if no buffer that should travel beside the pickle can be in sight: payload.py, _looks_large(). */
int taskpool_is_small(PyObject* value, int depth);
/* The pickle of a small object, smaller than kMaxInlineItemBytes; NULL without an exception if payload.py has to see to
 * it. */
PyObject* taskpool_dumps_small(PyObject* value);
/* The object of an item that is one pickle. NULL with whatever its unpickling raises. */
PyObject* taskpool_loads(const char* data, Py_ssize_t size);
/* True for an item that is one pickle, and not laid out in parts. */
int taskpool_is_plain(const char* data, Py_ssize_t size);
/* Takes the exception that is set, with its traceback. */
PyObject* taskpool_raised(void);

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* What waits for the results of operations: store.py has the rest of it. */
typedef struct {
  PyObject_HEAD char done;
  uint32_t count;
  PyObject* body; /* of the reply */
  PyObject* error;
} StoreReply;

extern PyTypeObject* taskpool_store_reply_type;

/* Adds StoreReply, pack(), pack_sets() and parse() to the extension. -1 with an exception. */
int taskpool_add_store(PyObject* module);
/* Takes a `store_reply`, if that is what the handler waits for: 1, else 0; -1 with an exception. */
int taskpool_take_store_reply(PyObject* handler, uint32_t count, const char* body, Py_ssize_t size);

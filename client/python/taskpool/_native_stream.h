#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Adds Stream, Pending and Counter to the module. -1 with an exception. */
int taskpool_add_stream(PyObject* module);

typedef struct {
  PyObject_HEAD Py_ssize_t count;
  PyObject* on_idle; /* called when the count becomes zero; NULL: nothing is */
} Counter;

/* A call whose result has not been asked for: calls.py has the rest of it. */
typedef struct {
  PyObject_HEAD char done;
  char is_plain; /* nobody but get() has to know of the result */
  unsigned char encoding;
  unsigned char flags;
  Counter* counter; /* of the calls under way */
  PyObject* body;   /* of the result's frame, until it is decoded */
  PyObject* value;
  PyObject* error;
} Pending;

extern PyTypeObject* taskpool_pending_type;

/* Adds Pending and Counter. -1 with an exception. */
int taskpool_add_pending(PyObject* module);
/* Takes the frame's body, if that is all that is to be done; false if on_frame() has to see it. -1 with an exception.
 */
int taskpool_take_result(PyObject* handler, unsigned char flags, unsigned char encoding, const char* body,
                         Py_ssize_t size);

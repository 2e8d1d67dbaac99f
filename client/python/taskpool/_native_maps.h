#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* pack_chunks(), unpack_outcomes(), encode_numbers() and decode_numbers() of the module: maps.py and payload.py use
 * them. */
PyObject* taskpool_pack_chunks(PyObject* module, PyObject* const* arguments, Py_ssize_t count);
PyObject* taskpool_unpack_outcomes(PyObject* module, PyObject* const* arguments, Py_ssize_t count);
PyObject* taskpool_encode_numbers_of(PyObject* module, PyObject* list);
PyObject* taskpool_decode_numbers_of(PyObject* module, PyObject* item);

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Items of a map that are lists of integers, or of floats: PROTOCOL.md, section 3.6, first byte 2. */

/* The item; NULL without an exception if the list is none of those, or too long for a frame. */
PyObject* taskpool_encode_numbers(PyObject* list, uint64_t elapsed_ns);
int taskpool_is_numbers(const char* item, Py_ssize_t size);
/* How many there are; -1 with an exception for an item that is laid out wrongly. */
Py_ssize_t taskpool_count_numbers(const char* item, Py_ssize_t size, uint64_t* elapsed_ns);
/* Puts them into the list, from `at` on, in place of what is there. -1 with an exception. */
int taskpool_place_numbers(const char* item, Py_ssize_t count, PyObject* list, Py_ssize_t at);
/* A list of them. NULL with an exception. */
PyObject* taskpool_decode_numbers(const char* item, Py_ssize_t size, uint64_t* elapsed_ns);

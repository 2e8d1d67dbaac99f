/* The inner loops of a map on the client's side: small chunks into packed bodies, and results to where they belong. */

#include "_native_maps.h"

#include <stdint.h>
#include <string.h>

#include "_native_numbers.h"
#include "_native_pickle.h"

/* The item of the elements from `start` to `end`; NULL without an exception if payload.py has to see to it. */
static PyObject* chunk_item(PyObject* elements, Py_ssize_t start, Py_ssize_t end, PyObject* star) {
  PyObject* const slice = PyList_GetSlice(elements, start, end);
  if (slice == NULL) return NULL;
  PyObject* const numbers = star == Py_False ? taskpool_encode_numbers(slice, 0) : NULL;
  if (numbers != NULL) {
    Py_DECREF(slice);
    return numbers;
  }
  PyObject* const pair = PyTuple_Pack(2, slice, star);
  Py_DECREF(slice);
  if (pair == NULL) return NULL;
  PyObject* const item = taskpool_is_small(pair, 2) ? taskpool_dumps_small(pair) : NULL;
  Py_DECREF(pair);
  return item;
}

/* One packed body of the items in the list. */
static PyObject* join(PyObject* items, Py_ssize_t bytes) {
  const Py_ssize_t count = PyList_GET_SIZE(items);
  PyObject* const body = PyBytes_FromStringAndSize(NULL, 4 * count + bytes);
  if (body == NULL) return NULL;
  char* const table = PyBytes_AS_STRING(body);
  char* at = table + 4 * count;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const item = PyList_GET_ITEM(items, i);
    const uint32_t size = (uint32_t)PyBytes_GET_SIZE(item);
    memcpy(table + 4 * i, &size, sizeof size);
    memcpy(at, PyBytes_AS_STRING(item), size);
    at += size;
  }
  return body;
}

PyObject* taskpool_pack_chunks(PyObject* Py_UNUSED(module), PyObject* const* arguments, Py_ssize_t count) {
  if (count != 6 || !PyList_Check(arguments[0])) {
    PyErr_SetString(PyExc_TypeError, "pack_chunks(elements: list, start, chunksize, star, most_items, most_bytes)");
    return NULL;
  }
  PyObject* const elements = arguments[0];
  Py_ssize_t start = PyLong_AsSsize_t(arguments[1]);
  const Py_ssize_t chunksize = PyLong_AsSsize_t(arguments[2]);
  const Py_ssize_t most_items = PyLong_AsSsize_t(arguments[4]);
  const Py_ssize_t most_bytes = PyLong_AsSsize_t(arguments[5]);
  if (PyErr_Occurred()) return NULL;
  if (start < 0 || chunksize < 1) {
    PyErr_SetString(PyExc_ValueError, "pack_chunks: start below 0 or chunksize below 1");
    return NULL;
  }
  PyObject* const items = PyList_New(0);
  if (items == NULL) return NULL;
  Py_ssize_t bytes = 0;
  while (PyList_GET_SIZE(items) < most_items && bytes < most_bytes && start < PyList_GET_SIZE(elements)) {
    const Py_ssize_t left = PyList_GET_SIZE(elements) - start;
    const Py_ssize_t end = start + (left < chunksize ? left : chunksize);
    PyObject* const item = chunk_item(elements, start, end, arguments[3]);
    if (item == NULL) break;
    bytes += PyBytes_GET_SIZE(item);
    const int appended = PyList_Append(items, item);
    Py_DECREF(item);
    if (appended < 0) break;
    start = end;
  }
  PyObject* const body = PyErr_Occurred() ? NULL : join(items, bytes);
  PyObject* const packed = body == NULL ? NULL : Py_BuildValue("(Onn)", body, PyList_GET_SIZE(items), bytes);
  Py_XDECREF(body);
  Py_DECREF(items);
  return packed;
}

/* Puts the outcomes of one item into the list, from `at` on. Their number; 0 without an exception if there is more to
 * it; and adds to `elapsed` how long they ran. */
static Py_ssize_t place(PyObject* value, PyObject* outcomes, Py_ssize_t at, Py_ssize_t wanted,
                        unsigned long long* elapsed) {
  if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 3) return 0;
  PyObject* const found = PyTuple_GET_ITEM(value, 1);
  PyObject* const failures = PyTuple_GET_ITEM(value, 2);
  if (!PyList_Check(found) || PyList_GET_SIZE(found) != wanted || !PyDict_Check(failures) ||
      PyDict_GET_SIZE(failures) != 0)
    return 0;
  const unsigned long long took = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(value, 0));
  if (PyErr_Occurred()) {
    PyErr_Clear();
    return 0;
  }
  for (Py_ssize_t i = 0; i < wanted; ++i) {
    PyObject* const old = PyList_GET_ITEM(outcomes, at + i);
    PyList_SET_ITEM(outcomes, at + i, Py_NewRef(PyList_GET_ITEM(found, i)));
    Py_XDECREF(old);
  }
  *elapsed += took;
  return wanted;
}

/* The same for an item of numbers. */
static Py_ssize_t place_numbers(const char* item, Py_ssize_t size, PyObject* outcomes, Py_ssize_t at, Py_ssize_t wanted,
                                unsigned long long* elapsed) {
  uint64_t took;
  if (taskpool_count_numbers(item, size, &took) != wanted) {
    PyErr_Clear();
    return 0;
  }
  if (taskpool_place_numbers(item, wanted, outcomes, at) < 0) return -1;
  *elapsed += took;
  return wanted;
}

PyObject* taskpool_unpack_outcomes(PyObject* Py_UNUSED(module), PyObject* const* arguments, Py_ssize_t count) {
  if (count != 5 || !PyBytes_Check(arguments[0]) || !PyList_Check(arguments[2])) {
    PyErr_SetString(PyExc_TypeError, "unpack_outcomes(body: bytes, count, outcomes: list, start, chunksize)");
    return NULL;
  }
  const char* const body = PyBytes_AS_STRING(arguments[0]);
  const Py_ssize_t size = PyBytes_GET_SIZE(arguments[0]);
  const Py_ssize_t items = PyLong_AsSsize_t(arguments[1]);
  PyObject* const outcomes = arguments[2];
  Py_ssize_t start = PyLong_AsSsize_t(arguments[3]);
  const Py_ssize_t chunksize = PyLong_AsSsize_t(arguments[4]);
  if (PyErr_Occurred()) return NULL;
  if (items < 0 || start < 0 || chunksize < 1 || items > size / 4) {
    PyErr_SetString(PyExc_ValueError, "packed: the body is shorter than its table");
    return NULL;
  }
  unsigned long long elapsed = 0;
  Py_ssize_t at = 4 * items;
  Py_ssize_t done = 0;
  for (; done < items; ++done) {
    uint32_t bytes;
    memcpy(&bytes, body + 4 * done, sizeof bytes);
    const Py_ssize_t left = PyList_GET_SIZE(outcomes) - start;
    if (bytes > (size_t)(size - at) || left <= 0) break;
    if (taskpool_is_numbers(body + at, bytes)) {
      const Py_ssize_t numbers =
          place_numbers(body + at, bytes, outcomes, start, left < chunksize ? left : chunksize, &elapsed);
      if (numbers < 0) return NULL;
      if (numbers == 0) break;
      start += numbers;
      at += bytes;
      continue;
    }
    if (!taskpool_is_plain(body + at, bytes)) break;
    PyObject* const value = taskpool_loads(body + at, bytes);
    if (value == NULL) { /* it is unpickled once more, where its exception is an outcome */
      if (!PyErr_ExceptionMatches(PyExc_Exception)) return NULL;
      PyErr_Clear();
      break;
    }
    const Py_ssize_t placed = place(value, outcomes, start, left < chunksize ? left : chunksize, &elapsed);
    Py_DECREF(value);
    if (placed == 0) break;
    start += placed;
    at += bytes;
  }
  return Py_BuildValue("(nnK)", done, start, elapsed);
}

PyObject* taskpool_encode_numbers_of(PyObject* Py_UNUSED(module), PyObject* list) {
  PyObject* const item = taskpool_encode_numbers(list, 0);
  if (item == NULL) Py_RETURN_NONE;
  return item;
}

PyObject* taskpool_decode_numbers_of(PyObject* Py_UNUSED(module), PyObject* item) {
  Py_buffer view;
  if (PyObject_GetBuffer(item, &view, PyBUF_SIMPLE) < 0) return NULL;
  uint64_t elapsed_ns = 0;
  PyObject* const list = taskpool_decode_numbers(view.buf, view.len, &elapsed_ns);
  PyBuffer_Release(&view);
  if (list == NULL) return NULL;
  return Py_BuildValue("(KN)", (unsigned long long)elapsed_ns, list);
}

#include "_native_numbers.h"

#include <string.h>

#include "_native_pickle.h"

enum { kNumbers = 2, kLeastNumbers = 8 };

typedef struct {
  uint8_t layout;
  char type;
  uint8_t reserved[2];
  uint32_t count;
  uint64_t elapsed_ns;
} NumbersHead;

_Static_assert(sizeof(NumbersHead) == 16, "PROTOCOL.md says so");

static int pack_integers(PyObject* list, char* into) {
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
    PyObject* const element = PyList_GET_ITEM(list, i);
    int overflow = 0;
    if (!PyLong_CheckExact(element)) return 0;
    const long long value = PyLong_AsLongLongAndOverflow(element, &overflow);
    if (overflow != 0) return 0;
    memcpy(into + 8 * i, &value, 8);
  }
  return 1;
}

static int pack_floats(PyObject* list, char* into) {
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
    PyObject* const element = PyList_GET_ITEM(list, i);
    if (!PyFloat_CheckExact(element)) return 0;
    const double value = PyFloat_AS_DOUBLE(element);
    memcpy(into + 8 * i, &value, 8);
  }
  return 1;
}

PyObject* taskpool_encode_numbers(PyObject* list, uint64_t elapsed_ns) {
  if (!PyList_CheckExact(list)) return NULL;
  const Py_ssize_t count = PyList_GET_SIZE(list);
  if (count < kLeastNumbers || count > (kMaxInlineItemBytes - (Py_ssize_t)sizeof(NumbersHead)) / 8) return NULL;
  const int are_integers = PyLong_CheckExact(PyList_GET_ITEM(list, 0));
  if (!are_integers && !PyFloat_CheckExact(PyList_GET_ITEM(list, 0))) return NULL;
  PyObject* const item = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)sizeof(NumbersHead) + 8 * count);
  if (item == NULL) {
    PyErr_Clear();
    return NULL;
  }
  char* const data = PyBytes_AS_STRING(item);
  const NumbersHead head = {
      .layout = kNumbers, .type = are_integers ? 'q' : 'd', .count = (uint32_t)count, .elapsed_ns = elapsed_ns};
  memcpy(data, &head, sizeof head);
  if (are_integers ? pack_integers(list, data + sizeof head) : pack_floats(list, data + sizeof head)) return item;
  Py_DECREF(item);
  return NULL;
}

int taskpool_is_numbers(const char* item, Py_ssize_t size) { return size > 0 && item[0] == kNumbers; }

Py_ssize_t taskpool_count_numbers(const char* item, Py_ssize_t size, uint64_t* elapsed_ns) {
  NumbersHead head = {.count = 0};
  if (size >= (Py_ssize_t)sizeof head) memcpy(&head, item, sizeof head);
  if ((head.type != 'q' && head.type != 'd') || size != (Py_ssize_t)sizeof head + 8 * (Py_ssize_t)head.count) {
    PyErr_SetString(PyExc_ValueError, "numbers that are cut");
    return -1;
  }
  *elapsed_ns = head.elapsed_ns;
  return head.count;
}

int taskpool_place_numbers(const char* item, Py_ssize_t count, PyObject* list, Py_ssize_t at) {
  const int are_integers = item[1] == 'q';
  const char* from = item + sizeof(NumbersHead);
  for (Py_ssize_t i = 0; i < count; ++i, from += 8) {
    long long integer;
    double real;
    memcpy(&integer, from, 8);
    memcpy(&real, from, 8);
    PyObject* const number = are_integers ? PyLong_FromLongLong(integer) : PyFloat_FromDouble(real);
    if (number == NULL) return -1;
    PyObject* const old = PyList_GET_ITEM(list, at + i);
    PyList_SET_ITEM(list, at + i, number);
    Py_XDECREF(old);
  }
  return 0;
}

PyObject* taskpool_decode_numbers(const char* item, Py_ssize_t size, uint64_t* elapsed_ns) {
  const Py_ssize_t count = taskpool_count_numbers(item, size, elapsed_ns);
  PyObject* const list = count < 0 ? NULL : PyList_New(count);
  if (list == NULL) return NULL;
  if (taskpool_place_numbers(item, count, list, 0) == 0) return list;
  Py_DECREF(list);
  return NULL;
}

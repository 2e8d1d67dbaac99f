#include "_native_copy.h"

#include <stdint.h>
#include <sys/mman.h>

enum {
  /* From here on others may run meanwhile. */
  kLongCopy = 1 << 18,
  /* Memory of this size is always fresh: the C library maps it, and unmaps it. */
  kMapped = 1 << 25,
  kHugePage = 1 << 21,
};

/* Fresh memory is cleared in pages of 2 MB, if it may: as the kernel does it when they are first touched, small ones
 * take longer than the copying. */
static void prefer_huge_pages(char* memory, size_t size) {
  const uintptr_t begin = ((uintptr_t)memory + kHugePage - 1) & ~(uintptr_t)(kHugePage - 1);
  const uintptr_t end = ((uintptr_t)memory + size) & ~(uintptr_t)(kHugePage - 1);
  if (end > begin) (void)madvise((void*)begin, end - begin, MADV_HUGEPAGE); /* without them it is slower, and right */
}

static void copy(char* into, const Py_buffer* from) {
  const size_t size = (size_t)from->len;
  if (size < kLongCopy) {
    memcpy(into, from->buf, size);
    return;
  }
  Py_BEGIN_ALLOW_THREADS;
  if (size >= kMapped) prefer_huge_pages(into, size);
  memcpy(into, from->buf, size);
  Py_END_ALLOW_THREADS;
}

PyObject* taskpool_copy_bytes(PyObject* Py_UNUSED(module), PyObject* content) {
  Py_buffer from;
  if (PyObject_GetBuffer(content, &from, PyBUF_SIMPLE) < 0) return NULL;
  PyObject* const made = PyBytes_FromStringAndSize(NULL, from.len);
  if (made != NULL && from.len > 0) copy(PyBytes_AS_STRING(made), &from);
  PyBuffer_Release(&from);
  return made;
}

PyObject* taskpool_copy_bytearray(PyObject* Py_UNUSED(module), PyObject* content) {
  Py_buffer from;
  if (PyObject_GetBuffer(content, &from, PyBUF_SIMPLE) < 0) return NULL;
  PyObject* const made = PyByteArray_FromStringAndSize(NULL, from.len);
  if (made != NULL && from.len > 0) copy(PyByteArray_AS_STRING(made), &from);
  PyBuffer_Release(&from);
  return made;
}

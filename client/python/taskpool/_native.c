/* What taskpool cannot do in Python, or not as fast. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sys/prctl.h>

#include "_native_copy.h"
#include "_native_maps.h"
#include "_native_page.h"
#include "_native_pickle.h"
#include "_native_ring.h"
#include "_native_store.h"
#include "_native_stream.h"
#include "_native_sync.h"

static PyObject* set_parent_death_signal(PyObject* Py_UNUSED(module), PyObject* argument) {
  const long number = PyLong_AsLong(argument);
  if (number == -1 && PyErr_Occurred()) return NULL;
  if (prctl(PR_SET_PDEATHSIG, (unsigned long)number) != 0) return PyErr_SetFromErrno(PyExc_OSError);
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"pack_chunks", (PyCFunction)(void (*)(void))taskpool_pack_chunks, METH_FASTCALL,
     "Small chunks of a map as one body."},
    {"encode_numbers", taskpool_encode_numbers_of, METH_O,
     "A list of integers or floats as an item of a map; None if it is none."},
    {"decode_numbers", taskpool_decode_numbers_of, METH_O, "(nanoseconds, list) of such an item."},
    {"unpack_outcomes", (PyCFunction)(void (*)(void))taskpool_unpack_outcomes, METH_FASTCALL,
     "Puts results where they belong."},
    {"copy_bytes", taskpool_copy_bytes, METH_O, "A bytes of a buffer's content."},
    {"copy_bytearray", taskpool_copy_bytearray, METH_O, "A bytearray of a buffer's content."},
    {"set_parent_death_signal", set_parent_death_signal, METH_O,
     "The signal that this process gets when its parent dies."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject* module) {
  if (taskpool_find_pickle() < 0 || taskpool_add_page(module) < 0 || taskpool_add_stream(module) < 0) return -1;
  if (taskpool_add_store(module) < 0 || taskpool_add_ring(module) < 0) return -1;
  return taskpool_add_sync(module);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "taskpool._native",
                                        "What taskpool cannot do in Python.",
                                        0,
                                        functions,
                                        module_slots,
                                        NULL,
                                        NULL,
                                        NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }

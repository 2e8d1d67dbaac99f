#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_native_frames.h"

/* The claim page with its outbox: runtime/page.py. */
typedef struct Page Page;

/* What a worker does with the `run` frames of one function: how it calls it, and whom it tells of what is not plain. */
typedef struct {
  PyObject* function;
  int is_map;         /* an item is (elements, star), and not (arguments, keywords) */
  PyObject* failed;   /* failed(position, exception): an element of a map raised */
  PyObject* failures; /* the dict that it fills */
  PyObject* refused;  /* refused(ticket, exception): the item has no result */
  PyObject* large;    /* large(ticket, session, is_single, value): writes a result that is not small */
} Runner;

/* Runs the items of a frame whose bodies are pickles inside it. -1 with an exception: the channel is lost, or the frame
 * is broken. */
int page_run(Page* page, int channel, const FramePrefix* prefix, const char* body, const Runner* runner);
/* Sends what the outbox holds. -1 with an exception. */
int page_flush(Page* page, int channel);
/* The Page that the object is, or NULL with an exception. */
Page* page_of(PyObject* object);
/* Adds Page to the module. -1 with an exception. */
int taskpool_add_page(PyObject* module);

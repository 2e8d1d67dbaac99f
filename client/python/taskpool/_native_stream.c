/* A socket's frames, in and out, and whose they are. stream.py describes the methods; it has the same in Python.
 * Nothing here can be interrupted halfway through a frame: signal handlers run between frames. */

#include "_native_stream.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "_native_clock.h"
#include "_native_page.h"
#include "_native_pickle.h"
#include "_native_spin.h"
#include "_native_store.h"

enum {
  kReadBytes = 1 << 16,
  kMostFds = 32,
  /* Frames that follow each other closely are sent together: when there are so many bytes, or after so long. */
  kBatchBytes = 1 << 15,
  kBatchNs = 1000000,
  kSpinNs = 60000,
};

/* What queue() and submit() say. */
enum { kMoreOfABurst, kFirstOfABurst, kToBeFlushed };

typedef struct {
  char* data;
  size_t room;
  size_t at; /* what is before has been taken */
  size_t end;
} Buffer;

typedef struct {
  PyObject_HEAD int fd;
  PyObject* frame_type;
  PyObject* broken;
  Buffer in;
  PyObject* fds; /* a list: those that arrived and belong to no frame yet */
  Buffer out;
  PyObject* passing; /* a list of (position, fds): what goes with the frame that begins there */
  uint64_t sent_bytes;
  uint64_t sent_ns;
  SpinPolicy spin;
} Stream;

/* Makes room for so many bytes at the end. -1 with an exception. */
static int make_room(Buffer* buffer, size_t more) {
  if (buffer->at == buffer->end) buffer->at = buffer->end = 0;
  if (buffer->room - buffer->end >= more) return 0;
  const size_t held = buffer->end - buffer->at;
  if (buffer->at > 0 && buffer->room - held >= more) {
    memmove(buffer->data, buffer->data + buffer->at, held);
  } else {
    size_t room = buffer->room == 0 ? more : buffer->room;
    while (room - held < more || room < held) room *= 2;
    char* const data = malloc(room);
    if (data == NULL) {
      PyErr_NoMemory();
      return -1;
    }
    if (held > 0) memcpy(data, buffer->data + buffer->at, held);
    free(buffer->data);
    buffer->data = data;
    buffer->room = room;
  }
  buffer->at = 0;
  buffer->end = held;
  return 0;
}

/* In */

static size_t missing(const Stream* self) {
  const size_t have = self->in.end - self->in.at;
  if (have < kPrefixBytes) return 0;
  const FramePrefix prefix = read_prefix(self->in.data + self->in.at);
  const size_t whole = frame_bytes(&prefix);
  return whole > have ? whole - have : 0;
}

/* Reads what has arrived. Bytes, 0 at the end of the stream, -1 with errno. `passed` is a buffer for control messages.
 * Without the interpreter's lock. */
static ssize_t read_some(Stream* self, int flags, void* passed, size_t* passed_bytes) {
  struct iovec part = {.iov_base = self->in.data + self->in.end, .iov_len = self->in.room - self->in.end};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = passed, .msg_controllen = *passed_bytes};
  const ssize_t got = recvmsg(self->fd, &message, flags | MSG_CMSG_CLOEXEC);
  *passed_bytes = got < 0 ? 0 : message.msg_controllen;
  return got;
}

static int keep_passed(Stream* self, void* passed, size_t bytes) {
  struct msghdr message = {.msg_control = passed, .msg_controllen = bytes};
  for (struct cmsghdr* part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      PyObject* const number = PyLong_FromLong(fd);
      if (number == NULL || PyList_Append(self->fds, number) < 0) return -1;
      Py_DECREF(number);
    }
  }
  return 0;
}

/* How a read is to wait: the arguments of read(). */
typedef struct {
  int timeout_ms; /* -1: for ever; 0: not at all */
  int wake;       /* a descriptor whose readability ends the wait too, or -1 */
  int for_room;   /* so does room for what is queued */
  int spin;
} Patience;

enum { kReadNothing = -2 };

/* Looks for a while whether something comes. As wait_and_read(). */
static ssize_t spin_and_read(Stream* self, void* passed, size_t* passed_bytes) {
  const size_t room = *passed_bytes;
  Spin spin = begin_spin(kSpinNs);
  ssize_t got;
  do {
    *passed_bytes = room;
    got = read_some(self, MSG_DONTWAIT, passed, passed_bytes);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return got;
  } while (look_again(&spin, got < 0 ? 0 : (uint64_t)got));
  end_spin(&self->spin, &spin);
  return got < 0 ? kReadNothing : got;
}

/* Waits and reads. Bytes, 0 at the end, kReadNothing, -1 with errno. Without the interpreter's lock. */
static ssize_t wait_and_read(Stream* self, const Patience* patience, void* passed, size_t* passed_bytes) {
  int flags = MSG_DONTWAIT;
  if (patience->timeout_ms < 0 && patience->wake < 0 && !patience->for_room) {
    flags = 0;
  } else if (patience->timeout_ms != 0) {
    struct pollfd polled[] = {{.fd = self->fd, .events = POLLIN}, {.fd = patience->wake, .events = POLLIN}};
    if (patience->for_room) polled[0].events |= POLLOUT;
    const int ready = poll(polled, 2, patience->timeout_ms);
    if (ready < 0) return -1;
    if ((polled[0].revents & ~POLLOUT) == 0) return kReadNothing;
  }
  const ssize_t got = read_some(self, flags, passed, passed_bytes);
  return got < 0 && errno == EAGAIN ? kReadNothing : got;
}

/* Reads as patience says. 1: something came; 0: nothing did; -1 with an exception, EOFError at the end of the stream.
 */
static int read_in(Stream* self, const Patience* patience) {
  const size_t want = missing(self);
  if (make_room(&self->in, want > kReadBytes ? want : kReadBytes) < 0) return -1;
  char passed[CMSG_SPACE(kMostFds * sizeof(int))];
  int spin = patience->spin && patience->timeout_ms != 0 && should_spin(&self->spin);
  for (;;) {
    size_t passed_bytes = sizeof passed;
    ssize_t got;
    int failed;
    Py_BEGIN_ALLOW_THREADS;
    got = spin ? spin_and_read(self, passed, &passed_bytes) : wait_and_read(self, patience, passed, &passed_bytes);
    failed = errno;
    Py_END_ALLOW_THREADS;
    if (spin && got == kReadNothing) { /* a signal that came meanwhile will not interrupt the sleep */
      spin = 0;
      if (PyErr_CheckSignals() < 0) return -1;
      continue;
    }
    if (got == kReadNothing) return 0;
    if (got > 0) {
      self->in.end += (size_t)got;
      return passed_bytes > 0 && keep_passed(self, passed, passed_bytes) < 0 ? -1 : 1;
    }
    if (got == 0) {
      PyErr_SetString(PyExc_EOFError, "the other end has closed the connection");
      return -1;
    }
    if (failed != EINTR) {
      errno = failed;
      PyErr_SetFromErrno(PyExc_OSError);
      return -1;
    }
    if (PyErr_CheckSignals() < 0) return -1;
    if (patience->timeout_ms > 0) return 0; /* its caller knows how much of it is left */
  }
}

static PyObject* stream_read(Stream* self, PyObject* const* arguments, Py_ssize_t count) {
  Patience patience = {.timeout_ms = -1, .wake = -1};
  if (count != 0 && count != 4) {
    PyErr_SetString(PyExc_TypeError, "read(timeout_ms, wake, for_room, spin)");
    return NULL;
  }
  if (count == 4) {
    patience.timeout_ms = (int)PyLong_AsLong(arguments[0]);
    patience.wake = (int)PyLong_AsLong(arguments[1]);
    patience.for_room = PyObject_IsTrue(arguments[2]);
    patience.spin = PyObject_IsTrue(arguments[3]);
    if (PyErr_Occurred()) return NULL;
  }
  const int got = read_in(self, &patience);
  return got < 0 ? NULL : PyBool_FromLong(got);
}

/* The prefix of the next frame, if all of it is there: 1, else 0; -1 with an exception. */
static int peek_frame(Stream* self, FramePrefix* prefix) {
  const size_t have = self->in.end - self->in.at;
  if (have < kPrefixBytes) return 0;
  *prefix = read_prefix(self->in.data + self->in.at);
  if (prefix->body > kMaxBodyBytes) {
    PyErr_Format(self->broken, "a frame of %u bytes", (unsigned)prefix->body);
    return -1;
  }
  if (frame_bytes(prefix) > have) return 0;
  if (prefix->fds > PyList_GET_SIZE(self->fds)) {
    PyErr_SetString(self->broken, "a frame's descriptors did not arrive");
    return -1;
  }
  return 1;
}

static PyObject* make_frame(Stream* self, const FramePrefix* prefix) {
  const char* const head = self->in.data + self->in.at + kPrefixBytes;
  PyObject* const fds = PyList_GetSlice(self->fds, 0, prefix->fds);
  if (fds == NULL || (prefix->fds > 0 && PyList_SetSlice(self->fds, 0, prefix->fds, NULL) < 0)) return NULL;
  PyTypeObject* const type = (PyTypeObject*)self->frame_type;
  PyObject* const frame = type->tp_alloc(type, 9);
  if (frame == NULL) return NULL;
  PyTuple_SET_ITEM(frame, 0, PyLong_FromLong(prefix->op));
  PyTuple_SET_ITEM(frame, 1, PyLong_FromLong(prefix->flags));
  PyTuple_SET_ITEM(frame, 2, PyLong_FromUnsignedLongLong(prefix->request));
  PyTuple_SET_ITEM(frame, 3, PyLong_FromUnsignedLong(prefix->target));
  PyTuple_SET_ITEM(frame, 4, PyLong_FromUnsignedLong(prefix->count));
  PyTuple_SET_ITEM(frame, 5, PyLong_FromLong(prefix->encoding));
  PyTuple_SET_ITEM(frame, 6, PyBytes_FromStringAndSize(head, prefix->head));
  PyTuple_SET_ITEM(frame, 7, PyBytes_FromStringAndSize(head + prefix->head, (Py_ssize_t)prefix->body));
  PyTuple_SET_ITEM(frame, 8, fds);
  self->in.at += frame_bytes(prefix);
  if (PyErr_Occurred()) {
    Py_DECREF(frame);
    return NULL;
  }
  return frame;
}

/* Takes the next frame, whose prefix that is, as an object. */
static PyObject* take_frame(Stream* self, const FramePrefix* prefix) {
  /* A collection may run anything, also what waits for a frame of this stream, and takes it from under this one. */
  const int was_enabled = PyGC_Disable();
  PyObject* const frame = make_frame(self, prefix);
  if (was_enabled) PyGC_Enable();
  return frame;
}

static PyObject* stream_next(Stream* self, PyObject* Py_UNUSED(ignored)) {
  FramePrefix prefix;
  const int there = peek_frame(self, &prefix);
  if (there < 0) return NULL;
  if (there == 0) Py_RETURN_NONE;
  return take_frame(self, &prefix);
}

/* Signals whose handlers may raise. They wait while handlers of frames run, which are not to be left in the middle. */
static void block_interrupts(sigset_t* before) {
  static const int interrupts[] = {SIGINT, SIGTERM, SIGALRM, SIGHUP, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF};
  sigset_t blocked;
  sigemptyset(&blocked);
  for (size_t i = 0; i < sizeof interrupts / sizeof *interrupts; ++i) sigaddset(&blocked, interrupts[i]);
  pthread_sigmask(SIG_BLOCK, &blocked, before);
}

/* Gives one frame to the handler of its request, or to `stray`. -1 with an exception. */
static int give_frame(PyObject* handlers, PyObject* handler, PyObject* stray, PyObject* request, PyObject* frame) {
  if (handler == NULL) {
    PyObject* const done = PyObject_CallOneArg(stray, frame);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
  }
  PyObject* const name = PyUnicode_InternFromString("on_frame");
  PyObject* const last = name == NULL ? NULL : PyObject_CallMethodOneArg(handler, name, frame);
  Py_XDECREF(name);
  if (last == NULL) return -1;
  const int is_last = PyObject_IsTrue(last);
  Py_DECREF(last);
  if (is_last <= 0) return is_last;
  if (PyDict_DelItem(handlers, request) < 0) PyErr_Clear(); /* it has been forgotten meanwhile */
  return 0;
}

/* 1: done; 0: it is for Python, and signals have to be blocked first; -1 with an exception. */
static int dispatch_one(Stream* self, PyObject* handlers, PyObject* stray, const FramePrefix* prefix, int is_blocked) {
  PyObject* const request = PyLong_FromUnsignedLongLong(prefix->request);
  if (request == NULL) return -1;
  int done = 0;
  PyObject* const handler = PyDict_GetItemWithError(handlers, request);
  Py_XINCREF(handler);
  if (handler == NULL && PyErr_Occurred()) done = -1;
  if (done == 0 && handler != NULL && prefix->fds == 0) {
    const char* const body = self->in.data + self->in.at + kPrefixBytes + prefix->head;
    if (prefix->op == kOpResult && prefix->head == 0) /* else it names objects */
      done = taskpool_take_result(handler, prefix->flags, prefix->encoding, body, (Py_ssize_t)prefix->body);
    else if (prefix->op == kOpStoreReply)
      done = taskpool_take_store_reply(handler, prefix->count, body, (Py_ssize_t)prefix->body);
    if (done == 1) {
      self->in.at += frame_bytes(prefix);
      if (PyDict_DelItem(handlers, request) < 0) done = -1;
    }
  }
  if (done == 0 && is_blocked) {
    PyObject* const frame = take_frame(self, prefix);
    done = frame == NULL || give_frame(handlers, handler, stray, request, frame) < 0 ? -1 : 1;
    Py_XDECREF(frame);
  }
  Py_XDECREF(handler);
  Py_DECREF(request);
  return done;
}

/* dispatch(handlers, stray): gives each frame that is there to whose it is. */
static PyObject* stream_dispatch(Stream* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 2 || !PyDict_Check(arguments[0])) {
    PyErr_SetString(PyExc_TypeError, "dispatch(handlers: dict, stray)");
    return NULL;
  }
  sigset_t before;
  int is_blocked = 0;
  int there;
  FramePrefix prefix;
  while ((there = peek_frame(self, &prefix)) > 0) {
    const int done = dispatch_one(self, arguments[0], arguments[1], &prefix, is_blocked);
    if (done > 0) continue;
    if (done == 0) { /* a handler that had been waiting runs now, and whatever it does: the frame is still where it was,
                        or not */
      block_interrupts(&before);
      is_blocked = 1;
    }
    if (done < 0 || PyErr_CheckSignals() < 0) {
      there = -1;
      break;
    }
  }
  if (is_blocked) pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (there < 0) return NULL;
  Py_RETURN_NONE;
}

/* run(page, runners, kept): in a worker, runs what comes, until a frame comes that is not for a known runner, which it
 * returns, or `kept` got one while something ran; None at the end of the stream. */
static PyObject* stream_run(Stream* self, PyObject* const* arguments, Py_ssize_t count) {
  Page* const page = count == 3 ? page_of(arguments[0]) : NULL;
  if (page == NULL || !PyDict_Check(arguments[1]) || !PyList_Check(arguments[2])) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "run(page, runners: dict, kept: list)");
    return NULL;
  }
  static const Patience patience = {.timeout_ms = -1, .wake = -1};
  for (;;) {
    FramePrefix prefix;
    if (PyList_GET_SIZE(arguments[2]) > 0) {
      PyObject* const first = Py_NewRef(PyList_GET_ITEM(arguments[2], 0));
      if (PyList_SetSlice(arguments[2], 0, 1, NULL) == 0) return first;
      Py_DECREF(first);
      return NULL;
    }
    int there = peek_frame(self, &prefix);
    if (there < 0) return NULL;
    if (there == 0) {
      if (page_flush(page, self->fd) < 0) return NULL;
      if (read_in(self, &patience) >= 0) continue;
      if (!PyErr_ExceptionMatches(PyExc_EOFError)) return NULL;
      PyErr_Clear();
      Py_RETURN_NONE;
    }
    PyObject* runner = NULL;
    if (prefix.op == kOpRun && prefix.encoding == kAsPickle && prefix.flags == 0 && prefix.head == 0 &&
        prefix.fds == 0 && prefix.body >= 64) {
      PyObject* const target = PyLong_FromUnsignedLong(prefix.target);
      if (target == NULL) return NULL;
      runner = PyDict_GetItemWithError(arguments[1], target);
      Py_DECREF(target);
      if (runner == NULL && PyErr_Occurred()) return NULL;
    }
    if (runner == NULL) return take_frame(self, &prefix);
    Runner how;
    if (!PyArg_ParseTuple(runner, "OpOOOO", &how.function, &how.is_map, &how.failed, &how.failures, &how.refused,
                          &how.large))
      return NULL;
    /* What runs may come back to this stream for room in the arena, so the frame is taken out first. */
    char* const body = malloc(prefix.body);
    if (body == NULL) return PyErr_NoMemory();
    memcpy(body, self->in.data + self->in.at + kPrefixBytes, prefix.body);
    self->in.at += frame_bytes(&prefix);
    const int ran = page_run(page, self->fd, &prefix, body, &how);
    free(body);
    if (ran < 0) return NULL;
  }
}

/* Out */

static size_t queued(const Stream* self) { return self->out.end - self->out.at; }

/* What is to become of what has just been queued, to what was there before. */
static int advice(const Stream* self, size_t before) {
  if (queued(self) >= kBatchBytes || monotonic_ns() - self->sent_ns > kBatchNs) return kToBeFlushed;
  return before == 0 ? kFirstOfABurst : kMoreOfABurst;
}

static int append(Stream* self, const void* data, size_t size) {
  if (make_room(&self->out, size) < 0) return -1;
  memcpy(self->out.data + self->out.end, data, size);
  self->out.end += size;
  return 0;
}

/* queue(data, fds): appends frames to what is to be sent; the descriptors go with the first byte. */
static PyObject* stream_queue(Stream* self, PyObject* const* arguments, Py_ssize_t count) {
  Py_buffer data;
  if (count < 1 || count > 2) {
    PyErr_SetString(PyExc_TypeError, "queue(data, fds=())");
    return NULL;
  }
  const Py_ssize_t fds = count == 2 ? PyObject_Size(arguments[1]) : 0;
  if (fds < 0) return NULL;
  PyObject* const with = fds > 0 ? PyTuple_New(2) : NULL; /* may run anything, so it comes before the position */
  if ((fds > 0 && with == NULL) || PyObject_GetBuffer(arguments[0], &data, PyBUF_SIMPLE) < 0) {
    Py_XDECREF(with);
    return NULL;
  }
  const size_t before = queued(self);
  int appended = 0;
  if (with != NULL) {
    PyTuple_SET_ITEM(with, 0, PyLong_FromUnsignedLongLong(self->sent_bytes + before));
    PyTuple_SET_ITEM(with, 1, Py_NewRef(arguments[1]));
    appended = PyTuple_GET_ITEM(with, 0) == NULL ? -1 : PyList_Append(self->passing, with);
  }
  if (appended == 0) appended = append(self, data.buf, (size_t)data.len);
  Py_XDECREF(with);
  PyBuffer_Release(&data);
  return appended < 0 ? NULL : PyLong_FromLong(advice(self, before));
}

/* submit(handlers, pending, request, target, arguments, keywords): queues a call of a prepared function, if it is a
 * small one, and expects its result; -1 if it is not, and nothing has been done. */
static PyObject* stream_submit(Stream* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 6 || !PyDict_Check(arguments[0]) || !PyObject_TypeCheck(arguments[1], taskpool_pending_type) ||
      !PyTuple_Check(arguments[4]) || !PyDict_Check(arguments[5])) {
    PyErr_SetString(PyExc_TypeError, "submit(handlers, pending, request, target, arguments: tuple, keywords: dict)");
    return NULL;
  }
  FramePrefix prefix = {.op = kOpApply, .count = 1, .encoding = kAsPickle};
  prefix.request = PyLong_AsUnsignedLongLong(arguments[2]);
  prefix.target = (uint32_t)PyLong_AsUnsignedLong(arguments[3]);
  Pending* const pending = (Pending*)arguments[1];
  if (PyErr_Occurred()) return NULL;
  if (pending->counter == NULL) {
    PyErr_SetString(PyExc_ValueError, "it is not counted anywhere");
    return NULL;
  }
  PyObject* const call = PyTuple_Pack(2, arguments[4], arguments[5]);
  if (call == NULL) return NULL;
  PyObject* const item = taskpool_is_small(call, 2) ? taskpool_dumps_small(call) : NULL;
  Py_DECREF(call);
  if (item == NULL) return PyErr_Occurred() ? NULL : PyLong_FromLong(-1);
  PyObject* advised = NULL;
  const size_t before = queued(self);
  prefix.body = (uint32_t)PyBytes_GET_SIZE(item);
  if (make_room(&self->out, kPrefixBytes + (size_t)prefix.body) == 0 &&
      PyDict_SetItem(arguments[0], arguments[2], arguments[1]) == 0) {
    (void)append(self, &prefix, kPrefixBytes);
    (void)append(self, PyBytes_AS_STRING(item), prefix.body);
    ++pending->counter->count;
    pending->is_plain = 1;
    advised = PyLong_FromLong(advice(self, before));
  }
  Py_DECREF(item);
  return advised;
}

/* store(handlers, reply, numbers, count, body, flags): queues operations of the store, whose reply is expected unless
 * that is None; returns the number of the request, the next one of the iterator. Numbers rise with the order in which
 * requests are queued. */
static PyObject* stream_store(Stream* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 6 || !PyDict_Check(arguments[0]) || !PyIter_Check(arguments[2]) || !PyBytes_Check(arguments[4])) {
    PyErr_SetString(PyExc_TypeError, "store(handlers: dict, reply, numbers, count, body: bytes, flags)");
    return NULL;
  }
  FramePrefix prefix = {.op = kOpStore, .body = (uint32_t)PyBytes_GET_SIZE(arguments[4])};
  prefix.count = (uint32_t)PyLong_AsUnsignedLong(arguments[3]);
  prefix.flags = (uint8_t)PyLong_AsUnsignedLong(arguments[5]);
  if (PyErr_Occurred()) return NULL;
  PyObject* const request = PyIter_Next(arguments[2]);
  if (request == NULL) return NULL;
  prefix.request = PyLong_AsUnsignedLongLong(request);
  if (make_room(&self->out, kPrefixBytes + (size_t)prefix.body) < 0 ||
      (arguments[1] != Py_None && PyDict_SetItem(arguments[0], request, arguments[1]) < 0)) {
    Py_DECREF(request);
    return NULL;
  }
  (void)append(self, &prefix, kPrefixBytes);
  (void)append(self, PyBytes_AS_STRING(arguments[4]), prefix.body);
  return request;
}

/* Sends from the front, with the descriptors that go there, and takes it out. Bytes, or -1 with errno; -2 with an
 * exception. */
static ssize_t send_some(Stream* self) {
  struct iovec part = {.iov_base = self->out.data + self->out.at, .iov_len = queued(self)};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  char control[CMSG_SPACE(kMostFds * sizeof(int))];
  if (PyList_GET_SIZE(self->passing) > 0) {
    PyObject* const first = PyList_GET_ITEM(self->passing, 0);
    uint64_t position = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(first, 0));
    if (position > self->sent_bytes) {
      part.iov_len = (size_t)(position - self->sent_bytes);
    } else {
      PyObject* const fds = PySequence_Fast(PyTuple_GET_ITEM(first, 1), "want a sequence of descriptors");
      if (fds == NULL) return -2;
      const size_t count = (size_t)PySequence_Fast_GET_SIZE(fds);
      if (count > kMostFds) {
        Py_DECREF(fds);
        PyErr_SetString(PyExc_ValueError, "too many descriptors for one frame");
        return -2;
      }
      memset(control, 0, sizeof control);
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      struct cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(count * sizeof(int));
      for (size_t i = 0; i < count; ++i) {
        const int fd = (int)PyLong_AsLong(PySequence_Fast_GET_ITEM(fds, (Py_ssize_t)i));
        memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
      }
      Py_DECREF(fds);
      if (PyErr_Occurred()) return -2;
      if (PyList_GET_SIZE(self->passing) > 1) { /* what goes with the next frame is not to go with this one */
        position = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(PyList_GET_ITEM(self->passing, 1), 0));
        part.iov_len = (size_t)(position - self->sent_bytes);
      }
    }
  }
  ssize_t sent;
  do {
    sent = sendmsg(self->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent <= 0) return sent;
  /* Before anything else: letting go of descriptors that are sent runs Python, and with it perhaps another thread that
   * flushes. */
  self->out.at += (size_t)sent;
  self->sent_bytes += (uint64_t)sent;
  return message.msg_controllen > 0 && PyList_SetSlice(self->passing, 0, 1, NULL) < 0 ? -2 : sent;
}

/* flush(): sends what the socket takes; True if that is all. */
static PyObject* stream_flush(Stream* self, PyObject* Py_UNUSED(ignored)) {
  while (queued(self) > 0) {
    const ssize_t sent = send_some(self);
    if (sent == -2) return NULL;
    if (sent < 0) {
      if (errno == EAGAIN) Py_RETURN_FALSE;
      return PyErr_SetFromErrno(PyExc_OSError);
    }
  }
  self->sent_ns = monotonic_ns();
  Py_RETURN_TRUE;
}

static PyObject* stream_close(Stream* self, PyObject* Py_UNUSED(ignored)) {
  self->fd = -1; /* its number may soon be another file's */
  self->out.at = self->out.end = 0;
  if (PyList_SetSlice(self->passing, 0, PyList_GET_SIZE(self->passing), NULL) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* stream_queued(Stream* self, void* Py_UNUSED(closure)) { return PyLong_FromSize_t(queued(self)); }

/* Stream(socket, frame type, exception of a broken stream) */
static int stream_init(Stream* self, PyObject* arguments, PyObject* Py_UNUSED(keywords)) {
  PyObject* socket;
  if (!PyArg_ParseTuple(arguments, "OOO:Stream", &socket, &self->frame_type, &self->broken)) return -1;
  Py_INCREF(self->frame_type);
  Py_INCREF(self->broken);
  self->fd = PyObject_AsFileDescriptor(socket);
  self->fds = PyList_New(0);
  self->passing = PyList_New(0);
  if (!PyType_Check(self->frame_type) || !PyType_IsSubtype((PyTypeObject*)self->frame_type, &PyTuple_Type)) {
    PyErr_SetString(PyExc_TypeError, "want a named tuple for frames");
    return -1;
  }
  return self->fd < 0 || self->fds == NULL || self->passing == NULL ? -1 : 0;
}

static int stream_traverse(Stream* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(self->frame_type);
  Py_VISIT(self->broken);
  Py_VISIT(self->fds);
  Py_VISIT(self->passing);
  return 0;
}

static int stream_clear(Stream* self) {
  Py_CLEAR(self->frame_type);
  Py_CLEAR(self->broken);
  Py_CLEAR(self->fds);
  Py_CLEAR(self->passing);
  return 0;
}

static void stream_dealloc(Stream* self) {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  (void)stream_clear(self);
  free(self->in.data);
  free(self->out.data);
  type->tp_free((PyObject*)self);
  Py_DECREF(type);
}

static PyMethodDef stream_methods[] = {
    {"read", (PyCFunction)(void (*)(void))stream_read, METH_FASTCALL, "Reads what arrives."},
    {"next", (PyCFunction)stream_next, METH_NOARGS, "The next whole frame, or None."},
    {"dispatch", (PyCFunction)(void (*)(void))stream_dispatch, METH_FASTCALL, "Gives each frame to whose it is."},
    {"run", (PyCFunction)(void (*)(void))stream_run, METH_FASTCALL, "Runs what comes, in a worker."},
    {"queue", (PyCFunction)(void (*)(void))stream_queue, METH_FASTCALL, "Appends to what is to be sent."},
    {"submit", (PyCFunction)(void (*)(void))stream_submit, METH_FASTCALL, "Queues a small call."},
    {"close", (PyCFunction)stream_close, METH_NOARGS, "Nothing is read or sent any more."},
    {"store", (PyCFunction)(void (*)(void))stream_store, METH_FASTCALL, "Queues operations of the store."},
    {"flush", (PyCFunction)stream_flush, METH_NOARGS, "Sends what the socket takes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_attributes[] = {
    {"queued", (getter)stream_queued, NULL, "Bytes to be sent.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_init, stream_init},         {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse}, {Py_tp_clear, stream_clear},
    {Py_tp_methods, stream_methods},   {Py_tp_getset, stream_attributes},
    {Py_tp_doc, "A socket's frames."}, {0, NULL},
};

static PyType_Spec stream_spec = {"taskpool._native.Stream", sizeof(Stream), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                                  stream_slots};

int taskpool_add_stream(PyObject* module) {
  if (taskpool_add_pending(module) < 0) return -1;
  PyObject* const type = PyType_FromSpec(&stream_spec);
  if (type == NULL) return -1;
  const int added = PyModule_AddObjectRef(module, "Stream", type);
  Py_DECREF(type);
  return added;
}

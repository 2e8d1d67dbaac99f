/* The border between the native runtime and the code that it runs: a C ABI, so that any language can write modules.
 *
 * A module is a shared library that exports
 *
 *     const struct taskpool_module* taskpool_get_module(void);
 *
 * The runtime loads it once, in the zygote, before any worker is forked. What the function returns, and everything that
 * it points to, must stay valid for the life of the process; text is UTF-8 and ends with a NUL. C++ modules are better
 * written against <taskpool/module.hpp>, which is a layer over this file.
 *
 * The zygote has one thread and must keep having one: a module must not start threads, and should open nothing that its
 * forks cannot share, before a function of it runs in a worker. */
#ifndef TASKPOOL_MODULE_ABI_H
#define TASKPOOL_MODULE_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised by every change that breaks a module built before it. The runtime refuses any other version. */
#define TASKPOOL_ABI_VERSION 1

/* How an item is encoded: the numbers of PROTOCOL.md, section 2. From i8 on, an item is an array of such numbers,
 * little endian, aligned for its type. */
enum {
  TASKPOOL_NONE = 0,  /* empty */
  TASKPOOL_JSON = 1,  /* one JSON value in UTF-8 */
  TASKPOOL_BYTES = 2, /* anything */
  TASKPOOL_I8 = 16,
  TASKPOOL_I16,
  TASKPOOL_I32,
  TASKPOOL_I64,
  TASKPOOL_U8,
  TASKPOOL_U16,
  TASKPOOL_U32,
  TASKPOOL_U64,
  TASKPOOL_F32,
  TASKPOOL_F64
};

/* Why a call failed: the code of the error that the caller gets (PROTOCOL.md, section 4). */
enum {
  TASKPOOL_TASK_FAILED = 1,   /* the function failed; `type` and `message` say how */
  TASKPOOL_BAD_ARGUMENT = 2,  /* the input is not what the function takes; `message` names the argument */
  TASKPOOL_NOT_ENCODABLE = 3, /* the result cannot be encoded */
  TASKPOOL_CANCELLED = 4,     /* the function stopped because it was asked to */
  TASKPOOL_OUT_OF_SPACE = 5   /* no room for the result, or for what the function had to write */
};

enum { TASKPOOL_DEBUG = 0, TASKPOOL_INFO = 1, TASKPOOL_WARNING = 2, TASKPOOL_ERROR = 3 };

struct taskpool_call;

/* What a running function may ask of its worker. Only the thread that was called may use these, and only until the
 * function returns; `cancelled`, `remaining_ns` and `interrupt_fd` may be used by any thread meanwhile. */
struct taskpool_host {
  uint32_t size;     /* sizeof(struct taskpool_host) of the runtime: members may be added at the end */
  uint32_t reserved; /* zero */

  /* Sets the result: a copy of `bytes` bytes at `data`. Replaces a result or a reservation made before. Returns 0, or
   * -1 when there was no room or the result cannot be sent; the call has failed then, and should return 1. A call that
   * sets none has the result TASKPOOL_NONE. An array can only be the result of a call whose input was not one item of a
   * map. */
  int (*result)(const struct taskpool_call* call, uint8_t encoding, const void* data, uint64_t bytes);

  /* The same without a copy: returns where up to `bytes` bytes of the result are to be written, aligned for any number,
   * or NULL as -1 above. `commit` then says how many they are, at most what was reserved. A reservation above 64 KiB is
   * in memory that the caller shares: it sees at once what is written there. */
  void* (*reserve)(const struct taskpool_call* call, uint8_t encoding, uint64_t bytes);
  void (*commit)(const struct taskpool_call* call, uint64_t bytes);

  /* Says why the call fails; the function then returns 1. `type` names the kind of error in the function's own words
   * (an exception's class; "" if there is none), `traceback` is where, or "". NULL counts as "". Later calls replace
   * it. */
  void (*error)(const struct taskpool_call* call, int code, const char* type, const char* message,
                const char* traceback);
  /* Adds how a child process ended to the error: its exit code, or the signal that killed it; -1 for what is not known.
   */
  void (*error_status)(const struct taskpool_call* call, int exit_code, int signal_number);

  /* 0; 1 once the task was cancelled; 2 once its soft time limit passed. A function that stops for it reports
   * TASKPOOL_CANCELLED. Costs about a nanosecond. */
  int (*cancelled)(const struct taskpool_call* call);
  /* A descriptor that poll() finds readable once `cancelled` is not 0. The runtime's: do not read or close it. The same
   * moment brings the signal SIGUSR1, so that blocking system calls of the calling thread end with EINTR. */
  int (*interrupt_fd)(const struct taskpool_call* call);
  /* Nanoseconds until the task's soft limit, or else its hard limit, passes; negative if it has passed; INT64_MAX if
   * there is no limit. */
  int64_t (*remaining_ns)(const struct taskpool_call* call);

  /* Tells whoever waits how far the task is, in units of the function's own; a negative or NaN `total` is not known.
   * `message` may be NULL. Calls that come faster than every 50 ms are dropped, unless `done` is `total`. */
  void (*progress)(const struct taskpool_call* call, double done, double total, const char* message);
  /* Writes a line to the daemon's log. */
  void (*log)(const struct taskpool_call* call, int level, const char* text);

  /* A number to seed random generators with: differs for each task, and is the same when one is run again. */
  uint64_t (*seed)(const struct taskpool_call* call);

  /* The `command` object of the call (PROTOCOL.md, section 3) as JSON text, or "". */
  const char* (*command_options)(const struct taskpool_call* call);
  /* The directory for captured output that the runtime was started with, or "". */
  const char* (*spool_path)(const struct taskpool_call* call);

  /* The task's name, as the caller knows it. Valid until the function returns. */
  const char* (*task)(const struct taskpool_call* call);

  /* The result names this object of the shared store, by its id: the object lives as long as the result does. At most
   * 1024 of them. Returns 0, or -1 if there are more, or it is no id. */
  int (*refer)(const struct taskpool_call* call, const char* object);
};

/* One call. Owned by the runtime, valid until the function returns; only the runtime makes these, and it may have more
 * behind the members that are named here. */
struct taskpool_call {
  const struct taskpool_host* host;

  const void* input; /* the item; not NULL, also when it is empty */
  uint64_t input_bytes;
  uint32_t input_count; /* elements, if the encoding is an array; else 1 */
  uint8_t encoding;     /* of the input */
  uint8_t reserved[3];

  uint64_t job;     /* number of the job, or of the task if it is none of a job's */
  uint32_t index;   /* of the item in its job */
  uint32_t attempt; /* 0 for the first run */
  uint32_t worker;  /* number of the worker */
  uint32_t depth;   /* how many tasks wait for this one, each for the next */
};

/* Something that can be called by name. */
struct taskpool_function {
  const char* name;      /* 1 to 128 bytes, unique among all modules of a runtime */
  const char* signature; /* for people: "(x: int) -> int" */
  const char* doc;       /* one sentence, or "" */

  /* Runs one task. Returns 0, or 1 after `error` (any failure without it is reported without words). */
  int (*call)(const struct taskpool_call* call, void* user);
  void* user; /* handed to both functions */

  /* Optional, for functions from one number to one number; NULL if there is none. Reads `count` numbers of type
   * `array_in` at `in` and writes as many of type `array_out` at `out`; both are aligned and do not overlap. Before it
   * computes element i it must store `first + i` in *running, as an atomic (a relaxed one will do) or a volatile: that
   * is how the supervisor knows which element a worker died in. Returns `count`, or the number of the element that
   * failed, after `error`; the runtime then goes on with the element after it. `call` describes the first element only
   * by its `index`, and has no input. */
  uint32_t (*call_array)(const struct taskpool_call* call, void* user, const void* in, void* out, uint32_t count,
                         uint32_t first, uint32_t* running);
  uint8_t array_in; /* TASKPOOL_I8 .. TASKPOOL_F64; the runtime converts other element types to this one */
  uint8_t array_out;
  uint8_t reserved[6];
};

struct taskpool_module {
  uint32_t abi_version; /* TASKPOOL_ABI_VERSION; first, in every version */
  uint32_t function_count;
  const char* name;  /* for people */
  const char* error; /* why the module cannot be used, or NULL */
  const struct taskpool_function* functions;
};

#define TASKPOOL_MODULE_SYMBOL "taskpool_get_module"

#ifdef __cplusplus
}
#endif

#endif

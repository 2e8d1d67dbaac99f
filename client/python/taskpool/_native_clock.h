#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The same for deadlines, of which nothing may be left. */
static inline int64_t deadline_clock_ns(void) { return (int64_t)monotonic_ns(); }

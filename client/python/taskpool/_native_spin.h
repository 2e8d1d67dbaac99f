#pragma once

#include "_native_clock.h"

/* Waits that look for a while before they sleep: client/cpp/spin.hpp has the reasons for all of it. */
enum {
  kSpinLookNs = 5000,
  kSpinPatience = 4,
  kSpinFirstPause = 8,
  kSpinLonger = 8,
  kSpinLongestPause = 512,
  kSpinTrust = 512,
};

/* One such wait. */
typedef struct {
  uint64_t last_ns;
  uint64_t end_ns;
  uint64_t looks;
  int found;
  int was_away;
} Spin;

static inline Spin begin_spin(uint64_t longest_ns) {
  const uint64_t now = monotonic_ns();
  return (Spin){.last_ns = now, .end_ns = now + longest_ns};
}

/* After a look that found so many bytes, or something (1): whether to look again. */
static inline int look_again(Spin* self, uint64_t found) {
  const uint64_t now = monotonic_ns();
  ++self->looks;
  self->was_away = now - self->last_ns > kSpinLookNs + found;
  self->found = found != 0;
  self->last_ns = now;
  return !self->found && !self->was_away && now < self->end_ns;
}

/* Whether a wait may spin; zeroed, it begins. */
typedef struct {
  unsigned failures;
  unsigned paid;
  unsigned pause; /* waits from one try to the next; 0: it has not given up yet */
  unsigned waits;
} SpinPolicy;

/* At the start of a wait. */
static inline int should_spin(SpinPolicy* self) {
  if (self->failures < kSpinPatience) return 1;
  if (++self->waits < self->pause) return 0;
  self->waits = 0;
  return 1;
}

/* Takes a spin that is over into account. */
static inline void end_spin(SpinPolicy* self, const Spin* spin) {
  if (spin->found && spin->looks == 1) return;
  if (spin->found && !spin->was_away) {
    self->failures = 0;
    if (++self->paid >= kSpinTrust) self->pause = 0;
    return;
  }
  if (self->failures < kSpinPatience && ++self->failures < kSpinPatience) return;
  self->pause = self->pause == 0 ? kSpinFirstPause : kSpinLonger * self->pause;
  if (self->pause > kSpinLongestPause) self->pause = kSpinLongestPause;
  self->paid = 0;
}

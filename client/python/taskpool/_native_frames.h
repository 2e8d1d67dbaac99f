#pragma once

#include <stdint.h>
#include <string.h>

/* A frame's prefix: PROTOCOL.md, section 1. The hosts that this builds for are little-endian, as the wire is. */

enum { kPrefixBytes = 32, kMaxBodyBytes = 1 << 20 };

enum { kOpResult = 8, kOpApply = 7, kOpRun = 64, kOpRunResults = 65, kOpStore = 131, kOpStoreReply = 132 };
enum { kInArena = 1 };
enum { kAsPickle = 3 };

typedef struct {
  uint32_t body;
  uint16_t head;
  uint8_t op;
  uint8_t flags;
  uint64_t request;
  uint32_t target;
  uint32_t count;
  uint8_t encoding;
  uint8_t fds;
  uint8_t reserved[6];
} FramePrefix;

_Static_assert(sizeof(FramePrefix) == kPrefixBytes, "the prefix has 32 bytes");

static inline FramePrefix read_prefix(const char* from) {
  FramePrefix prefix;
  memcpy(&prefix, from, sizeof prefix);
  return prefix;
}

static inline size_t frame_bytes(const FramePrefix* prefix) {
  return kPrefixBytes + (size_t)prefix->head + prefix->body;
}

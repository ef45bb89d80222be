// Memory without a system below it. Blocks are taken one after the other and never given back, since an instance lives for one
// short call.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, PAGE_BYTES = 65536 };

// The linker's: where the memory begins that nothing else uses.
extern unsigned char __heap_base;

static uintptr_t next;

// Where the last block begins, which can grow in place.
static uintptr_t last;

static uintptr_t aligned(uintptr_t address) {
  return (address + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
}

// Makes the memory reach up to `end`, or ends the call: the gateway tells the author that the memory ran out.
static void reach(uintptr_t end) {
  uintptr_t bytes = __builtin_wasm_memory_size(0) * PAGE_BYTES;
  if (end <= bytes) {
    return;
  }
  uintptr_t pages = (end - bytes + PAGE_BYTES - 1) / PAGE_BYTES;
  if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) {
    abort();
  }
}

void *malloc(size_t bytes) {
  if (next == 0) {
    next = aligned((uintptr_t)&__heap_base);
  }
  uintptr_t end = next + bytes;
  if (end < next) {
    abort();
  }
  reach(end);
  last = next;
  next = aligned(end);
  return (void *)last;
}

void *realloc(void *block, size_t bytes) {
  if (block == NULL) {
    return malloc(bytes);
  }
  uintptr_t start = (uintptr_t)block;
  if (start == last) {
    next = start;
    return malloc(bytes);
  }
  // The old size is not known: what lies behind the block is copied along, and it is within what was taken.
  size_t available = next - start;
  void *moved = malloc(bytes);
  return memcpy(moved, block, bytes < available ? bytes : available);
}

void free(void *block) {
  (void)block;
}

_Noreturn void abort(void) {
  __builtin_trap();
}

// With bulk memory, which every build has, each of the three becomes one instruction.
void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
  return __builtin_memcpy(to, from, bytes);
}

void *memmove(void *to, const void *from, size_t bytes) {
  return __builtin_memmove(to, from, bytes);
}

void *memset(void *to, int byte, size_t bytes) {
  return __builtin_memset(to, byte, bytes);
}

int memcmp(const void *left, const void *right, size_t bytes) {
  const unsigned char *one = left, *other = right;
  for (size_t index = 0; index < bytes; index++) {
    if (one[index] != other[index]) {
      return one[index] < other[index] ? -1 : 1;
    }
  }
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != 0) {
    length++;
  }
  return length;
}

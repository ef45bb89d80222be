// The part of C's standard library that the bindings and the SDK use; `src/libc.c` defines it.
#pragma once
#include <stddef.h>

void *malloc(size_t bytes);
void *realloc(void *block, size_t bytes);
// Does nothing: an instance ends with its call.
void free(void *block);
_Noreturn void abort(void);

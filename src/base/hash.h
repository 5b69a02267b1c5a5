/*
 * hash.h - uthash, whose tables grow like everything else here: out of memory ends the process after a log line (memory.h),
 * where its own way is to exit without a word.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/memory.h"

#define uthash_malloc(size) memory_take(size)

#include <uthash.h>

#endif

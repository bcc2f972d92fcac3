/* SPDX-License-Identifier: MIT */
/*
 * Large memory of zeroes of which most is never used: its pages come as they are touched, and all go at
 * once when it is given back.  calloc() promises neither: freeing what is larger than its threshold
 * raises that threshold, later calls then write zeroes to all of it, and it stays in the heap.
 */
#ifndef VMBUS_LAZY_LAZY_H
#define VMBUS_LAZY_LAZY_H

#include <stddef.h>

/* Aligned to pages; in builds with the address sanitizer, which sees the ends of the heap's memory only,
   to 64 bytes.  NULL when there is none. */
void *vmbus__lazy_get(size_t bytes);

/* at: NULL is allowed; bytes: as they were asked for. */
void vmbus__lazy_put(void *at, size_t bytes);

#endif

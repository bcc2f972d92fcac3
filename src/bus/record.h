/* SPDX-License-Identifier: MIT */
/*
 * The flight recorder's memory: a header and a ring of entries of fixed size, all of it 64-bit words
 * so that a writer and a reader in another process never see half a word.  vmbus_bus(7) has the
 * format; numbers are the machine's own byte order, which the magic number shows.
 */
#ifndef VMBUS_BUS_RECORD_H
#define VMBUS_BUS_RECORD_H

#include <vmbus/diag.h>

#include "base/atomic.h"

#define VMBUS__RECORD_MAGIC 0x3144434552534D56ull /* "VMSRECD1" */
#define VMBUS__RECORD_VERSION 1u
#define VMBUS__RECORD_HEAD_WORDS 16u
#define VMBUS__RECORD_WORDS 16u /* of an entry */
#define VMBUS__RECORD_ALIGN 64u
#define VMBUS__RECORD_BYTES_MAX ((size_t)1 << 30)

/* Words of the header; the rest is 0. */
enum {
	VMBUS__RECORD_HEAD_MAGIC = 0,
	VMBUS__RECORD_HEAD_FORM, /* version | bytes of an entry << 32 */
	VMBUS__RECORD_HEAD_ROOM, /* entries | pid << 32 */
	VMBUS__RECORD_HEAD_MONO,
	VMBUS__RECORD_HEAD_REAL,
	VMBUS__RECORD_HEAD_NAME = 8 /* 64 bytes */
};

/*
 * Words of an entry.  SEQ is 2 * (number + 1) when event `number` is there, 1 less while it is being
 * written, 0 before the first.
 */
enum {
	VMBUS__RECORD_SEQ = 0,
	VMBUS__RECORD_MONO,
	VMBUS__RECORD_KIND, /* kind | relid << 32 */
	VMBUS__RECORD_A,
	VMBUS__RECORD_B,
	VMBUS__RECORD_TEXT, /* 80 bytes */
	VMBUS__RECORD_END = VMBUS__RECORD_TEXT + 10
};

_Static_assert(VMBUS__RECORD_END <= VMBUS__RECORD_WORDS, "an entry's words");
_Static_assert(VMBUS_RECORD_TEXT == 80, "ten words of text");

#endif

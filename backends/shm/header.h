/* SPDX-License-Identifier: MIT */
/*
 * What every message of the socket begins with, of whatever protocol on it: magic, version, type, length, and
 * four bytes of zeroes.  The one place where what a peer says of them is checked.
 */
#ifndef VMBUS_SHM_HEADER_H
#define VMBUS_SHM_HEADER_H

#include <vmbus/base.h>

#include "shm/cursor.h"
#include "shm/proto.h"

#define HEADER_BYTES 16u

/* Bytes of a message of this type, header included; 0 for a type that is none. */
typedef uint32_t vmbus__shm_bytes_fn(uint32_t type);

static inline void put_header(struct vmbus__cursor *c, uint32_t type, uint32_t bytes)
{
	put32(c, VMBUS_SHM_MAGIC);
	put(c, VMBUS_SHM_VERSION, 2);
	put(c, type, 2);
	put32(c, bytes);
	put32(c, 0);
}

/*
 * Read and check the header of a message of len bytes, of which c is at the begin: behind it, at the end.
 *
 * type  what it says that it is, 0 before that.
 *
 * Errors: PEER (no message of ours at all), NOTSUP (another version), INVAL (no such type), RANGE (a length
 *	   that is not the type's)
 */
static inline int get_header(struct vmbus__cursor *c, size_t len, vmbus__shm_bytes_fn *bytes_of,
			     uint32_t *type)
{
	uint32_t version, told;

	*type = 0;
	if (len < HEADER_BYTES || get32(c) != VMBUS_SHM_MAGIC)
		return VMBUS_E_PEER;
	version = (uint32_t)get(c, 2);
	*type = (uint32_t)get(c, 2);
	told = get32(c);
	(void)get32(c);
	if (version != VMBUS_SHM_VERSION)
		return VMBUS_E_NOTSUP;
	if (!bytes_of(*type))
		return VMBUS_E_INVAL;
	return told == len && len == bytes_of(*type) ? 0 : VMBUS_E_RANGE;
}

#endif

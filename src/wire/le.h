/* SPDX-License-Identifier: MIT */
/*
 * Little-endian numbers in a private copy, byte by byte: no alignment is asked of the copy, and no
 * byte order of the machine.
 */
#ifndef VMBUS_WIRE_LE_H
#define VMBUS_WIRE_LE_H

#include <stdint.h>

static inline uint64_t vmbus__le_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	for (; bytes > 0; bytes--)
		v = v << 8 | p[bytes - 1];
	return v;
}

static inline void vmbus__le_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	uint32_t i;

	for (i = 0; i < bytes; i++, v >>= 8)
		p[i] = (uint8_t)(v & 255u);
}

#endif

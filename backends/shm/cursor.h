/* SPDX-License-Identifier: MIT */
/*
 * Members of a message written and read one after the other, little-endian on every machine.  It
 * knows no message: bounds are the caller's, who has checked the length.
 */
#ifndef VMBUS_SHM_CURSOR_H
#define VMBUS_SHM_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A place in a message, moved on by each member. */
struct vmbus__cursor {
	uint8_t *out;
	const uint8_t *in;
	bool bad;
};

static inline void put(struct vmbus__cursor *c, uint64_t v, unsigned int bytes)
{
	unsigned int i;

	for (i = 0; i < bytes; i++)
		*c->out++ = (uint8_t)(v >> (8 * i));
}

static inline void put32(struct vmbus__cursor *c, uint32_t v)
{
	put(c, v, 4);
}

static inline void put_bytes(struct vmbus__cursor *c, const void *from, size_t bytes)
{
	memcpy(c->out, from, bytes);
	c->out += bytes;
}

/* Text up to its end, then zeroes; the last byte is always one. */
static inline void put_text(struct vmbus__cursor *c, const char *text, size_t bytes)
{
	const size_t len = strnlen(text, bytes - 1);

	memcpy(c->out, text, len);
	memset(c->out + len, 0, bytes - len);
	c->out += bytes;
}

static inline uint64_t get(struct vmbus__cursor *c, unsigned int bytes)
{
	uint64_t v = 0;
	unsigned int i;

	for (i = 0; i < bytes; i++)
		v |= (uint64_t)*c->in++ << (8 * i);
	return v;
}

static inline uint32_t get32(struct vmbus__cursor *c)
{
	return (uint32_t)get(c, 4);
}

static inline void get_bytes(struct vmbus__cursor *c, void *to, size_t bytes)
{
	memcpy(to, c->in, bytes);
	c->in += bytes;
}

/* Text for people: it must end, and what a terminal would obey becomes a question mark. */
static inline void get_text(struct vmbus__cursor *c, char *to, size_t bytes)
{
	size_t i;

	get_bytes(c, to, bytes);
	if (!memchr(to, 0, bytes)) {
		c->bad = true;
		to[bytes - 1] = 0;
	}
	for (i = 0; to[i]; i++)
		if ((unsigned char)to[i] < 0x20 || (unsigned char)to[i] >= 0x7F)
			to[i] = '?';
	memset(to + i, 0, bytes - i);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Saved states as bytes: little-endian numbers without padding, in sections that each tell their
 * type, version and length, under a header with a checksum.  The layout is vmbus_save(7).
 *
 * Writing counts on past the end of the room, so that the same code tells how much is needed.
 * Reading never goes past the end: a reader that lacks bytes gives zeros and is `bad` from then on,
 * so what was read is looked at only after bad was.
 */
#ifndef VMBUS_BASE_STATE_H
#define VMBUS_BASE_STATE_H

#include <vmbus/base.h>

#define VMBUS__STATE_MACHINE 1u /* kinds */
#define VMBUS__STATE_BUS 2u
#define VMBUS__STATE_MAJOR 1u
#define VMBUS__STATE_MINOR 0u
#define VMBUS__STATE_HEAD 32u
#define VMBUS__STATE_BYTES_AT 16u
#define VMBUS__STATE_SUM_AT 24u
#define VMBUS__SECTION_HEAD 16u
#define VMBUS__SECTION_SKIP 1u /* flag: who does not know the type goes on without it */

static const uint8_t vmbus__state_magic[8] = { 'V', 'M', 'B', 'U', 'S', 'S', 'A', 'V' };

struct vmbus__out {
	uint8_t *buf;
	size_t room;
	size_t at; /* bytes written, or that would have been */
};

struct vmbus__in {
	const uint8_t *at;
	size_t left;
	bool bad;
};

struct vmbus__section {
	uint32_t type;
	uint32_t version;
	uint32_t flags;
	struct vmbus__in in;
};

/* CRC-32 of IEEE 802.3, four bits at a time; begin with 0. */
static inline uint32_t vmbus__state_sum(uint32_t sum, const uint8_t *p, size_t bytes)
{
	static const uint32_t table[16] = {
		0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
		0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
		0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
	};

	sum = ~sum;
	for (; bytes; bytes--, p++) {
		sum = table[(sum ^ *p) & 15u] ^ sum >> 4;
		sum = table[(sum ^ (uint32_t)*p >> 4) & 15u] ^ sum >> 4;
	}
	return ~sum;
}

static inline void vmbus__out_bytes(struct vmbus__out *out, const void *from, size_t bytes)
{
	if (out->at <= out->room && bytes <= out->room - out->at && bytes)
		__builtin_memcpy(out->buf + out->at, from, bytes);
	else if (bytes)
		out->room = 0; /* nothing that follows may seem complete */
	out->at += bytes;
}

static inline void vmbus__out(struct vmbus__out *out, uint32_t bytes, uint64_t v)
{
	uint8_t le[8];
	uint32_t i;

	for (i = 0; i < bytes; i++, v >>= 8)
		le[i] = (uint8_t)(v & 255u);
	vmbus__out_bytes(out, le, bytes);
}

/* Put a number in an earlier place, where one of as many bytes stands. */
static inline void vmbus__out_again(const struct vmbus__out *out, size_t at, uint32_t bytes,
				    uint64_t v)
{
	struct vmbus__out place = { out->buf, out->room, at };

	if (out->at <= out->room)
		vmbus__out(&place, bytes, v);
}

static inline void vmbus__out_head(struct vmbus__out *out, uint32_t kind)
{
	vmbus__out_bytes(out, vmbus__state_magic, sizeof(vmbus__state_magic));
	vmbus__out(out, 4, kind);
	vmbus__out(out, 2, VMBUS__STATE_MAJOR);
	vmbus__out(out, 2, VMBUS__STATE_MINOR);
	vmbus__out(out, 8, 0); /* bytes */
	vmbus__out(out, 4, 0); /* sum */
	vmbus__out(out, 4, 0);
}

/* The sum is over all bytes, with 0 in its own place. */
static inline void vmbus__out_end(const struct vmbus__out *out)
{
	if (out->at > out->room)
		return;
	vmbus__out_again(out, VMBUS__STATE_BYTES_AT, 8, out->at);
	vmbus__out_again(out, VMBUS__STATE_SUM_AT, 4, vmbus__state_sum(0, out->buf, out->at));
}

/* Begin a section; what is returned ends it. */
static inline size_t vmbus__out_section(struct vmbus__out *out, uint32_t type, uint32_t version,
					uint32_t flags)
{
	vmbus__out(out, 4, type);
	vmbus__out(out, 2, version);
	vmbus__out(out, 2, flags);
	vmbus__out(out, 8, 0);
	return out->at;
}

static inline void vmbus__out_section_end(const struct vmbus__out *out, size_t begun)
{
	vmbus__out_again(out, begun - 8u, 8, out->at - begun);
}

/* So many bytes, or NULL. */
static inline const uint8_t *vmbus__in_part(struct vmbus__in *in, uint64_t bytes)
{
	const uint8_t *const at = in->at;

	if (bytes > in->left) {
		in->bad = true;
		in->left = 0;
		return NULL;
	}
	in->at += bytes;
	in->left -= bytes;
	return at;
}

static inline uint64_t vmbus__in(struct vmbus__in *in, uint32_t bytes)
{
	const uint8_t *const p = vmbus__in_part(in, bytes);
	uint64_t v = 0;

	for (; p && bytes; bytes--)
		v = v << 8 | p[bytes - 1];
	return v;
}

static inline uint32_t vmbus__in32(struct vmbus__in *in)
{
	return (uint32_t)vmbus__in(in, 4);
}

/* A number that can only be 0 or 1. */
static inline bool vmbus__in_bool(struct vmbus__in *in)
{
	const uint64_t v = vmbus__in(in, 1);

	in->bad |= v > 1;
	return v == 1;
}

/* Bytes that must be 0. */
static inline void vmbus__in_zero(struct vmbus__in *in, uint32_t bytes)
{
	in->bad |= vmbus__in(in, bytes) != 0;
}

static inline void vmbus__in_bytes(struct vmbus__in *in, void *to, size_t bytes)
{
	const uint8_t *const p = vmbus__in_part(in, bytes);

	if (p && bytes)
		__builtin_memcpy(to, p, bytes);
	else if (bytes)
		__builtin_memset(to, 0, bytes);
}

/* The header; *why on an error.  Errors: INVAL, NOTSUP. */
static inline int vmbus__in_head(struct vmbus__in *in, const void *buf, size_t bytes, uint32_t kind,
				 const char **why)
{
	static const uint8_t zero[4];
	uint32_t sum, own, major;
	uint64_t total;

	*in = (struct vmbus__in){ buf, bytes, false };
	*why = "it is no saved state";
	if (!buf || bytes < VMBUS__STATE_HEAD ||
	    __builtin_memcmp(in->at, vmbus__state_magic, sizeof(vmbus__state_magic)) != 0)
		return VMBUS_E_INVAL;
	(void)vmbus__in_part(in, sizeof(vmbus__state_magic));
	*why = "it is the saved state of something else";
	if (vmbus__in32(in) != kind)
		return VMBUS_E_INVAL;
	major = (uint32_t)vmbus__in(in, 2);
	(void)vmbus__in(in, 2);
	*why = "it is of a later version";
	if (major != VMBUS__STATE_MAJOR)
		return major > VMBUS__STATE_MAJOR ? VMBUS_E_NOTSUP : VMBUS_E_INVAL;
	total = vmbus__in(in, 8);
	sum = vmbus__in32(in);
	vmbus__in_zero(in, 4);
	*why = "it is cut off, or has bytes behind its end";
	if (total != bytes)
		return VMBUS_E_INVAL;
	own = vmbus__state_sum(0, buf, VMBUS__STATE_SUM_AT);
	own = vmbus__state_sum(own, zero, sizeof(zero));
	own = vmbus__state_sum(own, (const uint8_t *)buf + VMBUS__STATE_SUM_AT + 4u,
			       bytes - VMBUS__STATE_SUM_AT - 4u);
	*why = "it is damaged: the checksum is wrong";
	return own == sum && !in->bad ? 0 : VMBUS_E_INVAL;
}

/* The next section: 1, 0 at the end, or INVAL. */
static inline int vmbus__in_section(struct vmbus__in *in, struct vmbus__section *section)
{
	uint64_t bytes;

	if (in->left == 0)
		return in->bad ? VMBUS_E_INVAL : 0;
	section->type = vmbus__in32(in);
	section->version = (uint32_t)vmbus__in(in, 2);
	section->flags = (uint32_t)vmbus__in(in, 2);
	bytes = vmbus__in(in, 8);
	section->in = (struct vmbus__in){ in->at, 0, false };
	if (vmbus__in_part(in, bytes))
		section->in.left = (size_t)bytes;
	return in->bad ? VMBUS_E_INVAL : 1;
}

#endif

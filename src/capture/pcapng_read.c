/* SPDX-License-Identifier: MIT */
/*
 * Records from a pcapng file that anybody may have written: blocks of either byte order, other
 * programs' options and interfaces, and lies.  A block is read whole, into memory of a fixed size,
 * and every length in it is checked against what is left of it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/frame.h"
#include "capture/pcapng.h"

#define BLOCK_BYTES (1u << 20)
#define BLOCK_MIN 12u
#define FOREIGN UINT32_MAX /* an interface of other link type */
#define INTERFACES (2u * VMBUS_CAPTURE_CHANNELS_MAX)

/* What is known of an interface of the present section. */
struct interface {
	uint32_t channel; /* or FOREIGN */
	uint64_t mul;	  /* nanoseconds in mul ticks / div */
	uint64_t div;
};

struct vmbus_capture_reader {
	struct vmbus_capture_reader_opts opts;
	uint64_t offset; /* of the block, in the file */
	uint64_t next;	 /* of the next one */
	uint32_t blocks;
	uint32_t channels; /* of all sections */
	uint32_t count;	   /* interfaces of this one */
	bool swapped;	   /* this section is big-endian */
	bool section;
	bool broken;
	char why[200];
	struct interface interface[INTERFACES];
	uint8_t block[BLOCK_BYTES];
};

static int wrong(struct vmbus_capture_reader *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static int wrong(struct vmbus_capture_reader *r, const char *format, ...)
{
	va_list args;
	int n;

	n = snprintf(r->why, sizeof(r->why), "block %u at byte %llu: ", r->blocks,
		     (unsigned long long)r->offset);
	va_start(args, format);
	(void)vsnprintf(r->why + n, sizeof(r->why) - (size_t)n, format, args);
	va_end(args);
	r->broken = true;
	return VMBUS_E_PEER;
}

static uint32_t get32(const struct vmbus_capture_reader *r, uint32_t at)
{
	const uint32_t v = vmbus__capture_get32(r->block + at);

	return r->swapped ? __builtin_bswap32(v) : v;
}

static uint32_t get16(const struct vmbus_capture_reader *r, uint32_t at)
{
	const uint8_t *const p = r->block + at;

	return r->swapped ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint64_t get64(const struct vmbus_capture_reader *r, uint32_t at)
{
	const uint64_t v = vmbus__capture_get64(r->block + at);

	return r->swapped ? __builtin_bswap64(v) : v;
}

/* Exactly n bytes: 1, or 0 at the end of the file before the first, or an error. */
static int read_all(struct vmbus_capture_reader *r, uint32_t at, uint32_t n)
{
	uint32_t done = 0;

	while (done < n) {
		const long got = r->opts.read(r->opts.ctx, r->block + at + done, n - done);

		if (got < 0)
			return (int)got;
		if (got == 0)
			return done || at ? wrong(r, "the file ends within it") : 0;
		if ((unsigned long)got > n - done)
			return wrong(r, "more was read than asked for");
		done += (uint32_t)got;
	}
	r->next += n;
	return 1;
}

/* The section header says how the bytes of its section lie. */
static int take_order(struct vmbus_capture_reader *r)
{
	const int got = read_all(r, 8, 4);
	uint32_t order;

	if (got <= 0)
		return got;
	order = vmbus__capture_get32(r->block + 8);
	if (order != PCAPNG_ORDER && order != __builtin_bswap32(PCAPNG_ORDER))
		return wrong(r, "its byte order is 0x%08x: no pcapng file", order);
	r->swapped = order != PCAPNG_ORDER;
	return 1;
}

/* Read a block whole.  Returns 1 with its type and length, 0 at the end. */
static int read_block(struct vmbus_capture_reader *r, uint32_t *type, uint32_t *bytes)
{
	uint32_t have = 8;
	int got;

	r->offset = r->next;
	got = read_all(r, 0, 8);
	if (got <= 0)
		return got;
	*type = vmbus__capture_get32(r->block); /* the same in either order for a section */
	if (*type == PCAPNG_SHB) {
		got = take_order(r);
		if (got <= 0)
			return got;
		have = 12;
	} else if (!r->section) {
		return wrong(r, "no section header: no pcapng file");
	}
	*type = get32(r, 0);
	*bytes = get32(r, 4);
	if (*bytes < BLOCK_MIN || *bytes < have + 4 || *bytes % 4 || *bytes > BLOCK_BYTES)
		return wrong(r, "its length is %u, must be %u to %u and a multiple of 4", *bytes,
			     have + 4, BLOCK_BYTES);
	got = read_all(r, have, *bytes - have);
	if (got <= 0)
		return got;
	if (get32(r, *bytes - 4) != *bytes)
		return wrong(r, "its two lengths are %u and %u", *bytes, get32(r, *bytes - 4));
	r->blocks++;
	return 1;
}

/*
 * The next option from *at on, before end.  Returns 1 with its code, where it is and how long, 0 when
 * there is none.
 */
static int next_option(struct vmbus_capture_reader *r, uint32_t *at, uint32_t end, uint32_t *code,
		       uint32_t *len)
{
	uint32_t padded;

	if (end - *at < 4)
		return end == *at ? 0 : wrong(r, "an option without its length");
	*code = get16(r, *at);
	*len = get16(r, *at + 2);
	if (*code == PCAPNG_OPT_END)
		return 0;
	padded = (*len + 3u) / 4u * 4u;
	if (padded > end - *at - 4)
		return wrong(r, "option %u is %u bytes long, %u are left", *code, *len,
			     end - *at - 4);
	*at += 4 + padded;
	return 1;
}

static int take_section(struct vmbus_capture_reader *r, uint32_t bytes)
{
	uint32_t at = 24, code, len;
	int got;

	if (bytes < 28)
		return wrong(r, "a section header of %u bytes", bytes);
	if (get16(r, 12) != PCAPNG_MAJOR)
		return wrong(r, "pcapng version %u.%u, only 1 is known", get16(r, 12),
			     get16(r, 14));
	do
		got = next_option(r, &at, bytes - 4, &code, &len);
	while (got > 0);
	r->section = true;
	r->count = 0;
	return got;
}

/* Units of time: 10 to the -n, or with bit 7 set 2 to the -n, seconds. */
static int take_resolution(struct vmbus_capture_reader *r, struct interface *to, uint32_t v)
{
	const uint32_t n = v & 0x7Fu;
	uint32_t i;

	to->mul = 1000000000u;
	to->div = 1;
	if (v & 0x80u) {
		if (n > 32)
			return wrong(r, "a resolution of 2^-%u s is not known", n);
		to->div = (uint64_t)1 << n;
		return 0;
	}
	if (n > 9)
		return wrong(r, "a resolution of 10^-%u s is not known", n);
	for (i = 0; i < n; i++)
		to->mul /= 10;
	return 0;
}

static int take_interface(struct vmbus_capture_reader *r, uint32_t bytes)
{
	struct interface *const to = &r->interface[r->count];
	uint32_t at = 16, code, len;
	int got, err;

	if (bytes < 20)
		return wrong(r, "an interface of %u bytes", bytes);
	if (r->count == INTERFACES)
		return wrong(r, "more than %u interfaces", INTERFACES);
	err = take_resolution(r, to, 6);
	to->channel = FOREIGN; /* its packets are passed over, with whatever clock they have */
	if (get16(r, 8) == VMBUS_CAPTURE_LINKTYPE) {
		if (r->channels == VMBUS_CAPTURE_CHANNELS_MAX)
			return wrong(r, "more than %u channels", VMBUS_CAPTURE_CHANNELS_MAX);
		to->channel = r->channels++;
	}
	r->count++;
	while (!err && (got = next_option(r, &at, bytes - 4, &code, &len)) != 0) {
		if (got < 0)
			return got;
		if (code == PCAPNG_IF_TSRESOL && len == 1 && to->channel != FOREIGN)
			err = take_resolution(r, to, r->block[at - 4]);
	}
	return err;
}

static uint64_t to_ns(const struct interface *from, uint64_t ticks)
{
	const uint64_t whole = ticks / from->div, part = ticks % from->div;

	if (whole > UINT64_MAX / from->mul - 1)
		return UINT64_MAX;
	return whole * from->mul + part * from->mul / from->div;
}

/* Options of a packet: its direction must be what its header says. */
static int take_options(struct vmbus_capture_reader *r, uint32_t at, uint32_t end,
			struct vmbus_capture_record *record)
{
	uint32_t code, len, value;
	int got;

	while ((got = next_option(r, &at, end, &code, &len)) != 0) {
		if (got < 0)
			return got;
		value = at - (len + 3u) / 4u * 4u;
		if (code == PCAPNG_EPB_DROPCOUNT && len == 8)
			record->dropped = get64(r, value);
		if (code == PCAPNG_EPB_FLAGS && len == 4 && record->dir && (get32(r, value) & 3u) &&
		    (get32(r, value) & 3u) != record->dir)
			return wrong(r, "its flags say another direction than its header");
	}
	return 0;
}

/* Returns 1 with a record, 0 when the block is of no channel of ours. */
static int take_packet(struct vmbus_capture_reader *r, uint32_t bytes,
		       struct vmbus_capture_record *record)
{
	struct vmbus_capture_record got = { 0 };
	const struct interface *from;
	uint32_t kept, whole, padded;
	const char *why;
	int err;

	if (bytes < PCAPNG_EPB_FIXED + 4)
		return wrong(r, "a packet of %u bytes", bytes);
	if (get32(r, 8) >= r->count)
		return wrong(r, "of interface %u, there are %u", get32(r, 8), r->count);
	from = &r->interface[get32(r, 8)];
	kept = get32(r, 20);
	whole = get32(r, 24);
	if (kept > bytes - PCAPNG_EPB_FIXED - 4)
		return wrong(r, "%u bytes kept, the block has %u", kept,
			     bytes - PCAPNG_EPB_FIXED - 4);
	padded = (kept + 3u) / 4u * 4u; /* the block's length is a multiple of 4: within it */
	if (from->channel == FOREIGN)
		return 0;
	if (vmbus__capture_record_get(r->block + PCAPNG_EPB_FIXED, kept, &got, &why))
		return wrong(r, "%s", why);
	if (whole != VMBUS_CAPTURE_HEADER_BYTES + got.ext_len + got.len)
		return wrong(r, "its length was %u, its header says %u", whole,
			     VMBUS_CAPTURE_HEADER_BYTES + got.ext_len + got.len);
	got.time_ns = to_ns(from, (uint64_t)get32(r, 12) << 32 | get32(r, 16));
	got.channel = from->channel;
	err = take_options(r, PCAPNG_EPB_FIXED + padded, bytes - 4, &got);
	if (err)
		return err;
	*record = got;
	return 1;
}

int vmbus_capture_reader_create(const struct vmbus_capture_reader_opts *opts,
				struct vmbus_capture_reader **reader)
{
	struct vmbus_capture_reader *r;

	*reader = NULL;
	if (opts->struct_bytes < sizeof(*opts) || !opts->read)
		return VMBUS_E_INVAL;
	r = malloc(sizeof(*r));
	if (!r)
		return VMBUS_E_NOMEM;
	memset(r, 0, offsetof(struct vmbus_capture_reader, interface));
	r->opts = *opts;
	*reader = r;
	return 0;
}

int vmbus_capture_reader_next(struct vmbus_capture_reader *r, struct vmbus_capture_record *record)
{
	uint32_t type = 0, bytes = 0;
	int got;

	if (r->broken)
		return VMBUS_E_FAULT;
	for (;;) {
		got = read_block(r, &type, &bytes);
		if (got == 0 && !r->section)
			return wrong(r, "the file is empty: no pcapng file");
		if (got <= 0)
			return got;
		if (type == PCAPNG_SHB)
			got = take_section(r, bytes);
		else if (type == PCAPNG_IDB)
			got = take_interface(r, bytes);
		else
			got = type == PCAPNG_EPB ? take_packet(r, bytes, record) : 0;
		if (got)
			return got;
	}
}

const char *vmbus_capture_reader_why(const struct vmbus_capture_reader *r)
{
	return r->why;
}

void vmbus_capture_reader_destroy(struct vmbus_capture_reader *r)
{
	free(r);
}

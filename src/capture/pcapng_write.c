/* SPDX-License-Identifier: MIT */
/*
 * A pcapng file from records: one section, an interface for each channel, a packet block for each
 * record.  What is written follows from the records alone: no clock is read.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/ether.h"
#include "capture/frame.h"
#include "capture/pcapng.h"

#define SOURCES VMBUS_CAPTURE_CHANNELS_MAX
#define BLOCK_BYTES (VMBUS_CAPTURE_SNAP_MAX + 4096u)
#define TEXT_BYTES 512u
#define MAC_BYTES 12u /* of a frame, before its VLAN tag */

struct vmbus_capture_writer {
	struct vmbus_capture_writer_opts opts;
	uint32_t interfaces;
	uint64_t packets;
	uint64_t last_ns;
	uint32_t interface[SOURCES]; /* of each source, from 1; 0: none yet */
	uint32_t at;		     /* bytes of the block so far */
	uint8_t block[BLOCK_BYTES];
};

static void put16(struct vmbus_capture_writer *w, uint32_t v)
{
	w->block[w->at++] = (uint8_t)v;
	w->block[w->at++] = (uint8_t)(v >> 8);
}

static void put32(struct vmbus_capture_writer *w, uint32_t v)
{
	vmbus__capture_put32(w->block + w->at, v);
	w->at += 4;
}

/* Bytes and their padding to a multiple of 4. */
static void put_padded(struct vmbus_capture_writer *w, const void *from, uint32_t bytes)
{
	if (bytes)
		memcpy(w->block + w->at, from, bytes);
	w->at += bytes;
	while (w->at % 4)
		w->block[w->at++] = 0;
}

static void option(struct vmbus_capture_writer *w, uint32_t code, const void *from, uint32_t bytes)
{
	put16(w, code);
	put16(w, bytes);
	put_padded(w, from, bytes);
}

static void text(struct vmbus_capture_writer *w, uint32_t code, const char *from)
{
	option(w, code, from, (uint32_t)strnlen(from, TEXT_BYTES));
}

static void option64(struct vmbus_capture_writer *w, uint32_t code, uint64_t v)
{
	uint8_t bytes[8];

	vmbus__capture_put64(bytes, v);
	option(w, code, bytes, sizeof(bytes));
}

static void begin_block(struct vmbus_capture_writer *w, uint32_t type)
{
	w->at = 0;
	put32(w, type);
	put32(w, 0);
}

static int end_block(struct vmbus_capture_writer *w)
{
	put16(w, PCAPNG_OPT_END);
	put16(w, 0);
	put32(w, w->at + 4);
	vmbus__capture_put32(w->block + 4, w->at);
	return w->opts.write(w->opts.ctx, w->block, w->at);
}

static int section(struct vmbus_capture_writer *w)
{
	begin_block(w, PCAPNG_SHB);
	put32(w, PCAPNG_ORDER);
	put16(w, PCAPNG_MAJOR);
	put16(w, 0);
	put32(w, UINT32_MAX); /* of unknown length */
	put32(w, UINT32_MAX);
	if (w->opts.application)
		text(w, PCAPNG_SHB_USERAPPL, w->opts.application);
	return end_block(w);
}

int vmbus_capture_writer_create(const struct vmbus_capture_writer_opts *opts,
				struct vmbus_capture_writer **writer)
{
	struct vmbus_capture_writer *w;
	int err;

	*writer = NULL;
	if (opts->struct_bytes < sizeof(*opts) || !opts->write ||
	    (opts->application && strnlen(opts->application, 64) > 63))
		return VMBUS_E_INVAL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return VMBUS_E_NOMEM;
	w->opts = *opts;
	err = section(w);
	w->opts.application = NULL; /* it was the caller's */
	if (err) {
		free(w);
		return err;
	}
	*writer = w;
	return 0;
}

/* A channel is an interface; what people see of it is its name and the two lines. */
static int put_interface(struct vmbus_capture_writer *w, uint32_t source,
			 const struct vmbus_capture_record *record)
{
	static const uint8_t nanoseconds = 9;
	struct vmbus_capture_channel body;
	char line[TEXT_BYTES], class_id[37], instance_id[37];
	const char *name;

	if (vmbus_capture_channel_get(record, &body))
		return VMBUS_E_INVAL;
	if (w->interfaces == VMBUS_CAPTURE_CHANNELS_MAX)
		return VMBUS_E_RANGE;
	begin_block(w, PCAPNG_IDB);
	put16(w, VMBUS_CAPTURE_LINKTYPE);
	put16(w, 0);
	put32(w, body.snap > VMBUS_CAPTURE_SNAP_MAX ? 0 : body.snap + VMBUS_CAPTURE_HEADER_BYTES);
	(void)snprintf(line, sizeof(line), "%s:%u", body.child, body.relid);
	text(w, PCAPNG_IF_NAME, line);
	name = vmbus_class_name(&body.class_id);
	(void)snprintf(line, sizeof(line), "channel %u.%u, class %s, served by %s", body.relid,
		       body.sub_index, name ? name : "unknown", body.vsp);
	text(w, PCAPNG_IF_DESCRIPTION, line);
	vmbus_guid_format(&body.class_id, class_id);
	vmbus_guid_format(&body.instance_id, instance_id);
	(void)snprintf(line, sizeof(line), "class %s, instance %s", class_id, instance_id);
	text(w, PCAPNG_OPT_COMMENT, line);
	option(w, PCAPNG_IF_TSRESOL, &nanoseconds, 1);
	w->interface[source] = ++w->interfaces;
	return end_block(w);
}

static void comment_open(struct vmbus_capture_writer *w, const struct vmbus_capture_record *record)
{
	struct vmbus_capture_open body;
	char line[TEXT_BYTES];
	uint32_t used = sizeof(body.user), i;
	int n;

	if (vmbus_capture_open_get(record, &body))
		return;
	n = snprintf(line, sizeof(line), "open%s: rings of %u and %u bytes, open data",
		     body.flags & VMBUS_CAPTURE_OPEN_ALREADY ? " already" : "", body.from_bytes,
		     body.to_bytes);
	while (used && body.user[used - 1] == 0)
		used--;
	for (i = 0; i < used; i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%s%02x", i % 8 ? "" : " ",
			      body.user[i]);
	if (!used)
		(void)snprintf(line + n, sizeof(line) - (size_t)n, " all zero");
	text(w, PCAPNG_OPT_COMMENT, line);
}

static void comment_close(struct vmbus_capture_writer *w, const struct vmbus_capture_record *record)
{
	struct vmbus_capture_close body;
	char line[TEXT_BYTES];

	if (vmbus_capture_close_get(record, &body))
		return;
	(void)snprintf(line, sizeof(line), "closed%s%s%s%s", body.err ? ", " : "",
		       body.err ? vmbus_err_name(body.err) : "", body.why[0] ? ": " : "", body.why);
	text(w, PCAPNG_OPT_COMMENT, line);
}

static int put_packet(struct vmbus_capture_writer *w, uint32_t interface,
		      const struct vmbus_capture_record *r)
{
	const uint32_t bytes = VMBUS_CAPTURE_HEADER_BYTES + r->data_len;
	uint8_t flags[4], header[VMBUS_CAPTURE_HEADER_BYTES];

	begin_block(w, PCAPNG_EPB);
	put32(w, interface);
	put32(w, (uint32_t)(r->time_ns >> 32));
	put32(w, (uint32_t)r->time_ns);
	put32(w, bytes);
	put32(w, VMBUS_CAPTURE_HEADER_BYTES + r->ext_len + r->len);
	vmbus__capture_header_put(r, header);
	memcpy(w->block + w->at, header, sizeof(header));
	w->at += VMBUS_CAPTURE_HEADER_BYTES;
	put_padded(w, r->data, r->data_len);
	vmbus__capture_put32(flags, r->dir == VMBUS_CAPTURE_FROM_CHILD ? PCAPNG_INBOUND
				    : r->dir == VMBUS_CAPTURE_TO_CHILD ? PCAPNG_OUTBOUND
								       : 0);
	option(w, PCAPNG_EPB_FLAGS, flags, sizeof(flags));
	option64(w, PCAPNG_EPB_DROPCOUNT, r->dropped);
	option64(w, PCAPNG_EPB_PACKETID, w->packets++);
	comment_open(w, r);
	comment_close(w, r);
	w->last_ns = r->time_ns;
	return end_block(w);
}

int vmbus_capture_writer_put(struct vmbus_capture_writer *w, uint32_t source,
			     const struct vmbus_capture_record *record)
{
	int err = 0;

	if (source >= SOURCES || record->data_len > VMBUS_CAPTURE_SNAP_MAX)
		return VMBUS_E_RANGE;
	if (record->kind < VMBUS_CAPTURE_PACKET || record->kind > VMBUS_CAPTURE_CHANNEL)
		return VMBUS_E_INVAL;
	if (record->kind == VMBUS_CAPTURE_CHANNEL)
		err = put_interface(w, source, record);
	else if (!w->interface[source])
		err = VMBUS_E_INVAL;
	return err ? err : put_packet(w, w->interface[source] - 1, record);
}

int vmbus__capture_ether_begin(struct vmbus_capture_writer *w, uint32_t source, const char *name,
			       uint32_t snap)
{
	static const uint8_t nanoseconds = 9;

	if (source >= SOURCES || w->interfaces == VMBUS_CAPTURE_CHANNELS_MAX)
		return VMBUS_E_RANGE;
	begin_block(w, PCAPNG_IDB);
	put16(w, PCAPNG_ETHERNET);
	put16(w, 0);
	put32(w, snap);
	text(w, PCAPNG_IF_NAME, name);
	option(w, PCAPNG_IF_TSRESOL, &nanoseconds, 1);
	w->interface[source] = ++w->interfaces;
	return end_block(w);
}

/* Up to n bytes of the frame, from its byte skip on. */
static void put_pieces(struct vmbus_capture_writer *w, const struct vmbus__capture_ether *f,
		       uint32_t skip, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < f->pieces && n; i++) {
		const size_t past = skip < f->piece[i].len ? skip : f->piece[i].len;
		const size_t left = f->piece[i].len - past;
		const uint32_t now = left < n ? (uint32_t)left : n;

		skip -= (uint32_t)past;
		if (now)
			memcpy(w->block + w->at, (const uint8_t *)f->piece[i].base + past, now);
		w->at += now;
		n -= now;
	}
}

static void put_ether(struct vmbus_capture_writer *w, const struct vmbus__capture_ether *f,
		      uint32_t kept)
{
	const uint8_t tag[4] = { 0x81, 0x00, (uint8_t)(f->tag >> 8), (uint8_t)f->tag };
	const uint32_t end = w->at + kept;

	if (!f->tagged || kept < MAC_BYTES + sizeof(tag)) {
		put_pieces(w, f, 0, kept);
	} else {
		put_pieces(w, f, 0, MAC_BYTES);
		memcpy(w->block + w->at, tag, sizeof(tag));
		w->at += sizeof(tag);
		put_pieces(w, f, MAC_BYTES, kept - MAC_BYTES - (uint32_t)sizeof(tag));
	}
	/* Fewer bytes than it says of itself: the rest is zero. */
	while (w->at < end || w->at % 4)
		w->block[w->at++] = 0;
}

int vmbus__capture_ether_put(struct vmbus_capture_writer *w, uint32_t source,
			     const struct vmbus__capture_ether *f)
{
	const uint32_t bytes = f->bytes + (f->tagged ? 4 : 0);
	const uint32_t kept = bytes < f->snap ? bytes : f->snap;
	uint8_t flags[4];

	if (source >= SOURCES || kept > VMBUS_CAPTURE_SNAP_MAX)
		return VMBUS_E_RANGE;
	if (!w->interface[source])
		return VMBUS_E_INVAL;
	begin_block(w, PCAPNG_EPB);
	put32(w, w->interface[source] - 1);
	put32(w, (uint32_t)(f->time_ns >> 32));
	put32(w, (uint32_t)f->time_ns);
	put32(w, kept);
	put32(w, bytes);
	put_ether(w, f, kept);
	vmbus__capture_put32(flags, f->from_guest ? PCAPNG_OUTBOUND : PCAPNG_INBOUND);
	option(w, PCAPNG_EPB_FLAGS, flags, sizeof(flags));
	option64(w, PCAPNG_EPB_DROPCOUNT, f->dropped);
	w->last_ns = f->time_ns;
	return end_block(w);
}

int vmbus_capture_writer_counts(struct vmbus_capture_writer *w, uint32_t source,
				const struct vmbus_tap_counts *counts)
{
	if (source >= SOURCES)
		return VMBUS_E_RANGE;
	if (!w->interface[source])
		return VMBUS_E_INVAL;
	begin_block(w, PCAPNG_ISB);
	put32(w, w->interface[source] - 1);
	put32(w, (uint32_t)(w->last_ns >> 32));
	put32(w, (uint32_t)w->last_ns);
	option64(w, PCAPNG_ISB_IFRECV, counts->records + counts->dropped);
	option64(w, PCAPNG_ISB_IFDROP, counts->dropped);
	return end_block(w);
}

void vmbus_capture_writer_destroy(struct vmbus_capture_writer *w)
{
	free(w);
}

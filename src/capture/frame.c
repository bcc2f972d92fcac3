/* SPDX-License-Identifier: MIT */
/*
 * Records as bytes and back.  Who reads may get any bytes: every length is checked against what
 * was kept, and text for people ends and obeys no terminal.  No file, no ring is known here.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "capture/frame.h"

#include <string.h>

#define VERSION 1u

void vmbus__capture_put32(uint8_t *out, uint32_t v)
{
	int i;

	for (i = 0; i < 4; i++)
		out[i] = (uint8_t)(v >> 8 * i);
}

void vmbus__capture_put64(uint8_t *out, uint64_t v)
{
	vmbus__capture_put32(out, (uint32_t)v);
	vmbus__capture_put32(out + 4, (uint32_t)(v >> 32));
}

uint32_t vmbus__capture_get32(const uint8_t *from)
{
	return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
	       (uint32_t)from[3] << 24;
}

uint64_t vmbus__capture_get64(const uint8_t *from)
{
	return (uint64_t)vmbus__capture_get32(from) | (uint64_t)vmbus__capture_get32(from + 4)
							      << 32;
}

static uint16_t get16(const uint8_t *from)
{
	return (uint16_t)(from[0] | from[1] << 8);
}

void vmbus__capture_header_put(const struct vmbus_capture_record *record,
			       uint8_t out[VMBUS_CAPTURE_HEADER_BYTES])
{
	out[0] = VERSION;
	out[1] = (uint8_t)record->kind;
	out[2] = (uint8_t)record->dir;
	out[3] = 0;
	vmbus__capture_put32(out + 4, (uint32_t)record->type | (uint32_t)record->flags << 16);
	vmbus__capture_put64(out + 8, record->id);
	vmbus__capture_put64(out + 16, record->batch);
	vmbus__capture_put32(out + 24, record->ext_len);
	vmbus__capture_put32(out + 28, record->len);
}

/* What cannot be in a record; NULL: nothing. */
static const char *wrong_packet(const struct vmbus_capture_record *r)
{
	int least;

	if (r->dir != VMBUS_CAPTURE_FROM_CHILD && r->dir != VMBUS_CAPTURE_TO_CHILD)
		return "a packet without a direction";
	least = vmbus_wire_ext_min(r->type);
	if (least < 0)
		return "a packet of no type";
	if (r->flags & ~VMBUS_PKT_FLAG_COMPLETE)
		return "a packet with unknown flags";
	if (r->ext_len % 8 || r->len % 8 || r->ext_len < (uint32_t)least ||
	    r->ext_len > VMBUS_PKT_LENGTH_MAX - VMBUS_PKT_DESC_BYTES ||
	    r->len > VMBUS_PKT_LENGTH_MAX - VMBUS_PKT_DESC_BYTES - r->ext_len)
		return "a packet of an impossible length";
	return NULL;
}

static const char *wrong_record(const struct vmbus_capture_record *r)
{
	switch (r->kind) {
	case VMBUS_CAPTURE_PACKET:
		return wrong_packet(r);
	case VMBUS_CAPTURE_OPEN:
	case VMBUS_CAPTURE_CLOSE:
	case VMBUS_CAPTURE_CHANNEL:
		if (r->dir || r->type || r->flags || r->id || r->ext_len)
			return "words that only packets have";
		if (r->len > 4096u)
			return "a body of an impossible length";
		return NULL;
	default:
		return "a record of no kind";
	}
}

int vmbus__capture_record_get(const uint8_t *from, uint32_t bytes,
			      struct vmbus_capture_record *record, const char **why)
{
	struct vmbus_capture_record r = { 0 };

	*why = NULL;
	if (bytes < VMBUS_CAPTURE_HEADER_BYTES)
		*why = "a record without its header";
	else if (from[0] != VERSION || from[3] != 0)
		*why = "a record of another version";
	if (*why)
		return VMBUS_E_INVAL;
	r.kind = from[1];
	r.dir = from[2];
	r.type = get16(from + 4);
	r.flags = get16(from + 6);
	r.id = vmbus__capture_get64(from + 8);
	r.batch = vmbus__capture_get64(from + 16);
	r.ext_len = vmbus__capture_get32(from + 24);
	r.len = vmbus__capture_get32(from + 28);
	r.data = from + VMBUS_CAPTURE_HEADER_BYTES;
	r.data_len = bytes - VMBUS_CAPTURE_HEADER_BYTES;
	*why = wrong_record(&r);
	if (!*why && r.data_len > r.ext_len + r.len)
		*why = "more bytes than the packet had";
	if (*why)
		return VMBUS_E_INVAL;
	*record = r;
	return 0;
}

/* Text up to its end, then zeroes; the last byte is always one. */
static void put_text(uint8_t *out, const char *text, size_t bytes)
{
	const size_t len = strnlen(text, bytes - 1);

	memcpy(out, text, len);
	memset(out + len, 0, bytes - len);
}

static void get_text(char *to, const uint8_t *from, size_t bytes)
{
	size_t i;

	memcpy(to, from, bytes);
	to[bytes - 1] = 0;
	for (i = 0; to[i]; i++)
		if ((unsigned char)to[i] < 0x20 || (unsigned char)to[i] >= 0x7F)
			to[i] = '?';
	memset(to + i, 0, bytes - i);
}

uint32_t vmbus__capture_channel_put(const struct vmbus_capture_channel *body, uint8_t *out)
{
	memcpy(out, body->class_id.b, 16);
	memcpy(out + 16, body->instance_id.b, 16);
	vmbus__capture_put32(out + 32, body->relid);
	vmbus__capture_put32(out + 36, body->sub_index);
	vmbus__capture_put32(out + 40, body->snap);
	vmbus__capture_put32(out + 44, 0);
	put_text(out + 48, body->vsp, sizeof(body->vsp));
	put_text(out + 80, body->child, sizeof(body->child));
	return VMBUS__CAPTURE_CHANNEL_BYTES;
}

uint32_t vmbus__capture_open_put(const struct vmbus_capture_open *body, uint8_t *out)
{
	vmbus__capture_put32(out, body->from_bytes);
	vmbus__capture_put32(out + 4, body->to_bytes);
	vmbus__capture_put32(out + 8, body->target_vp);
	vmbus__capture_put32(out + 12, body->flags);
	memcpy(out + 16, body->user, sizeof(body->user));
	return VMBUS__CAPTURE_OPEN_BYTES;
}

uint32_t vmbus__capture_close_put(const struct vmbus_capture_close *body, uint8_t *out)
{
	vmbus__capture_put32(out, (uint32_t)body->err);
	vmbus__capture_put32(out + 4, 0);
	put_text(out + 8, body->why, sizeof(body->why));
	return VMBUS__CAPTURE_CLOSE_BYTES;
}

int vmbus_capture_channel_get(const struct vmbus_capture_record *record,
			      struct vmbus_capture_channel *body)
{
	const uint8_t *const from = record->data;

	if (record->kind != VMBUS_CAPTURE_CHANNEL ||
	    record->data_len < VMBUS__CAPTURE_CHANNEL_BYTES)
		return VMBUS_E_INVAL;
	memset(body, 0, sizeof(*body));
	memcpy(body->class_id.b, from, 16);
	memcpy(body->instance_id.b, from + 16, 16);
	body->relid = vmbus__capture_get32(from + 32);
	body->sub_index = vmbus__capture_get32(from + 36);
	body->snap = vmbus__capture_get32(from + 40);
	get_text(body->vsp, from + 48, sizeof(body->vsp));
	get_text(body->child, from + 80, sizeof(body->child));
	return 0;
}

int vmbus_capture_open_get(const struct vmbus_capture_record *record,
			   struct vmbus_capture_open *body)
{
	const uint8_t *const from = record->data;

	if (record->kind != VMBUS_CAPTURE_OPEN || record->data_len < VMBUS__CAPTURE_OPEN_BYTES)
		return VMBUS_E_INVAL;
	body->from_bytes = vmbus__capture_get32(from);
	body->to_bytes = vmbus__capture_get32(from + 4);
	body->target_vp = vmbus__capture_get32(from + 8);
	body->flags = vmbus__capture_get32(from + 12);
	memcpy(body->user, from + 16, sizeof(body->user));
	return 0;
}

int vmbus_capture_close_get(const struct vmbus_capture_record *record,
			    struct vmbus_capture_close *body)
{
	const uint8_t *const from = record->data;

	if (record->kind != VMBUS_CAPTURE_CLOSE || record->data_len < VMBUS__CAPTURE_CLOSE_BYTES)
		return VMBUS_E_INVAL;
	body->err = (int32_t)vmbus__capture_get32(from);
	body->reserved = 0;
	get_text(body->why, from + 8, sizeof(body->why));
	return 0;
}

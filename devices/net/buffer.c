/* SPDX-License-Identifier: MIT */
/*
 * The guest's two buffers: where their sections are, who uses them, and how receive sections are shared
 * out among channels.  What is in a section is not known here.
 */
#include "net/vsp.h"

#include <stdlib.h>
#include <string.h>

#include "base/untrusted.h"

#define PAGES_MAX 16384u    /* 64 MiB */
#define SECTION_SMALL 2048u /* never across pages */
#define SECTION_HEAD 256u   /* RNDIS header and what goes with it, generously */
#define SECTION_TAIL 54u    /* Ethernet header, tag, and what Windows' client cannot use */
#define SECTIONS_MAX 65536u

static void free_buffer(struct vmbus__net_buffer *buffer)
{
	vmbus_sgl_release(&buffer->sgl);
	free(buffer->sgl.pieces);
	free(buffer->page);
	free(buffer->at);
	free(buffer->next);
	free(buffer->owner);
	free(buffer);
}

void vmbus__net_buffer_use(struct vmbus__net_buffer *buffer)
{
	if (buffer)
		buffer->refs++;
}

void vmbus__net_buffer_drop(struct vmbus_net *net, struct vmbus__net_buffer *buffer)
{
	(void)net;
	if (buffer && --buffer->refs == 0)
		free_buffer(buffer);
}

/* ---- making ---- */

/* The pages of the guest's list, with as much room as it needs. */
static int map(struct vmbus_chan *chan, uint32_t gpadl, enum vmbus_access access,
	       struct vmbus_sgl *sgl)
{
	uint32_t room;
	int err = VMBUS_E_FULL;

	for (room = 16; room <= PAGES_MAX && err == VMBUS_E_FULL; room *= 32u) {
		free(sgl->pieces);
		*sgl = (struct vmbus_sgl){ .pieces = calloc(room, sizeof(*sgl->pieces)),
					   .room = room };
		if (!sgl->pieces)
			return VMBUS_E_NOMEM;
		err = vmbus_chan_gpadl(chan, gpadl, access, sgl);
	}
	if (!err && (sgl->bytes == 0 || sgl->bytes > (uint64_t)PAGES_MAX * VMBUS_PAGE_BYTES))
		err = VMBUS_E_RANGE;
	return err;
}

/* Where each page is; all of it must be whole pages. */
static int list_pages(struct vmbus__net_buffer *buffer)
{
	uint64_t n = 0;
	uint32_t i;

	buffer->page = calloc(buffer->sgl.bytes / VMBUS_PAGE_BYTES + 1u, sizeof(*buffer->page));
	if (!buffer->page)
		return VMBUS_E_NOMEM;
	for (i = 0; i < buffer->sgl.count; i++) {
		const struct vmbus_piece *const piece = &buffer->sgl.pieces[i];
		uint32_t off;

		if (piece->gpa % VMBUS_PAGE_BYTES || piece->len % VMBUS_PAGE_BYTES)
			return VMBUS_E_RANGE;
		for (off = 0; off < piece->len; off += VMBUS_PAGE_BYTES)
			buffer->page[n++] = (uint8_t *)piece->host + off;
	}
	return 0;
}

/* Where a section is, if in one piece. */
static uint8_t *section_at(const struct vmbus__net_buffer *buffer, uint32_t section)
{
	const uint64_t from = (uint64_t)section * buffer->section_bytes;
	const uint64_t last = (from + buffer->section_bytes - 1u) / VMBUS_PAGE_BYTES;
	uint64_t page;

	for (page = from / VMBUS_PAGE_BYTES; page < last; page++)
		if (buffer->page[page] + VMBUS_PAGE_BYTES != buffer->page[page + 1u])
			return NULL;
	return buffer->page[from / VMBUS_PAGE_BYTES] + from % VMBUS_PAGE_BYTES;
}

static int list_sections(struct vmbus__net_buffer *buffer, uint32_t least)
{
	uint32_t i;

	buffer->bytes = buffer->sgl.bytes;
	if (buffer->bytes / buffer->section_bytes < least)
		return VMBUS_E_RANGE;
	buffer->sections = buffer->bytes / buffer->section_bytes < SECTIONS_MAX
				   ? (uint32_t)(buffer->bytes / buffer->section_bytes)
				   : SECTIONS_MAX;
	buffer->at = calloc(buffer->sections, sizeof(*buffer->at));
	buffer->next = calloc(buffer->sections, sizeof(*buffer->next));
	buffer->owner = calloc(buffer->sections, 1);
	if (!buffer->at || !buffer->next || !buffer->owner)
		return VMBUS_E_NOMEM;
	for (i = 0; i < buffer->sections; i++)
		buffer->at[i] = section_at(buffer, i);
	return 0;
}

static int make(struct vmbus__net_chan *ch, uint32_t gpadl, enum vmbus_access access,
		uint32_t section_bytes, struct vmbus__net_buffer **made)
{
	struct vmbus__net_buffer *const buffer = calloc(1, sizeof(*buffer));
	int err;

	if (!buffer)
		return VMBUS_E_NOMEM;
	buffer->refs = 1;
	buffer->section_bytes = section_bytes;
	err = map(ch->chan, gpadl, access, &buffer->sgl);
	if (!err)
		err = list_pages(buffer);
	if (!err)
		err = list_sections(buffer, access == VMBUS_READ ? 1u : VMBUS__NET_SECTIONS_MIN);
	if (err)
		free_buffer(buffer);
	else
		*made = buffer;
	return err;
}

static uint32_t receive_section_bytes(uint32_t mtu)
{
	const uint32_t need = SECTION_HEAD + mtu + SECTION_TAIL;

	return need <= SECTION_SMALL ? SECTION_SMALL : (need + 63u) / 64u * 64u;
}

/* All that are not for control messages are the primary's at first. */
static void chain_sections(struct vmbus__net_chan *ch, struct vmbus__net_buffer *buffer)
{
	struct vmbus__net_seat *const seat = &ch->session->seat[0];
	const uint32_t control = vmbus__net_control_sections(buffer->sections);
	uint32_t i;

	for (i = 0; i < buffer->sections; i++)
		buffer->next[i] = i + 1u < buffer->sections ? i + 1u : VMBUS__NET_NONE;
	buffer->next[control - 1u] = VMBUS__NET_NONE;
	seat->first = control;
	seat->count = buffer->sections - control;
}

int vmbus__net_take_receive(struct vmbus__net_chan *ch, uint32_t gpadl, uint32_t *section_bytes,
			    uint32_t *sections)
{
	struct vmbus__net_shape *shape;
	struct vmbus__net_buffer *buffer = NULL;
	int err;

	if (ch->shape.receive)
		return VMBUS_E_STATE;
	err = make(ch, gpadl, VMBUS_READ_WRITE, receive_section_bytes(ch->shape.mtu), &buffer);
	if (err)
		return err;
	*section_bytes = buffer->section_bytes;
	*sections = buffer->sections;
	shape = vmbus__net_shape_begin(ch);
	chain_sections(ch, buffer);
	shape->receive = buffer;
	vmbus__net_shape_end(ch);
	return 0;
}

int vmbus__net_take_send(struct vmbus__net_chan *ch, uint32_t gpadl, uint32_t *sections)
{
	struct vmbus__net_shape *shape;
	struct vmbus__net_buffer *buffer = NULL;
	int err;

	if (ch->shape.send)
		return VMBUS_E_STATE;
	err = make(ch, gpadl, VMBUS_READ, ch->net->opts.section_bytes, &buffer);
	if (err)
		return err;
	*sections = buffer->sections;
	shape = vmbus__net_shape_begin(ch);
	shape->send = buffer;
	vmbus__net_shape_end(ch);
	return 0;
}

static void revoke(struct vmbus__net_chan *ch, bool receive)
{
	struct vmbus__net_shape *const shape = vmbus__net_shape_begin(ch);
	struct vmbus__net_buffer **const which = receive ? &shape->receive : &shape->send;

	vmbus__net_buffer_drop(ch->net, *which);
	*which = NULL;
	vmbus__net_shape_end(ch);
}

void vmbus__net_revoke_receive(struct vmbus__net_chan *ch)
{
	if (ch->shape.receive)
		revoke(ch, true);
}

void vmbus__net_revoke_send(struct vmbus__net_chan *ch)
{
	if (ch->shape.send)
		revoke(ch, false);
}

/* ---- use ---- */

uint32_t vmbus__net_buffer_sections(const struct vmbus__net_buffer *buffer, uint32_t *section_bytes)
{
	*section_bytes = buffer ? buffer->section_bytes : 0;
	return buffer ? buffer->sections : 0;
}

void vmbus__net_buffer_write(const struct vmbus__net_buffer *buffer, uint64_t offset,
			     const void *from, uint64_t len)
{
	const uint8_t *bytes = from;

	while (len) {
		const uint64_t in = offset % VMBUS_PAGE_BYTES;
		const uint64_t left = VMBUS_PAGE_BYTES - in;
		const uint64_t n = len < left ? len : left;

		vmbus__peer_write(buffer->page[offset / VMBUS_PAGE_BYTES] + in, bytes, n);
		bytes += n;
		offset += n;
		len -= n;
	}
}

uint32_t vmbus__net_buffer_spans(const struct vmbus__net_buffer *buffer, uint64_t offset,
				 uint64_t len, struct vmbus_span *span, uint32_t room)
{
	uint32_t count = 0;

	while (len) {
		const uint64_t in = offset % VMBUS_PAGE_BYTES;
		const uint64_t left = VMBUS_PAGE_BYTES - in;
		const uint64_t n = len < left ? len : left;
		uint8_t *const at = buffer->page[offset / VMBUS_PAGE_BYTES] + in;

		if (count && (uint8_t *)span[count - 1u].base + span[count - 1u].len == at) {
			span[count - 1u].len += n;
		} else {
			if (count == room)
				return 0;
			span[count++] = (struct vmbus_span){ .base = at, .len = n };
		}
		offset += n;
		len -= n;
	}
	return count;
}

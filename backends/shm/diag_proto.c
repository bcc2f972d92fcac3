/* SPDX-License-Identifier: MIT */
/*
 * Snapshots and records as bytes.  One walk over the members of a message both writes and reads it,
 * so that the two cannot differ.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/diag_proto.h"

#include <string.h>

#include "shm/header.h"

static const uint32_t type_bytes[VMBUS_DG_END - VMBUS_DG_FIRST] = {
	[VMBUS_DG_DIAG - VMBUS_DG_FIRST] = 32,	 [VMBUS_DG_RECORDS - VMBUS_DG_FIRST] = 32,
	[VMBUS_DG_BUS - VMBUS_DG_FIRST] = 472,	 [VMBUS_DG_CHAN - VMBUS_DG_FIRST] = 648,
	[VMBUS_DG_PART - VMBUS_DG_FIRST] = 1000,
};

uint32_t vmbus__dg_msg_bytes(uint32_t type)
{
	return type >= VMBUS_DG_FIRST && type < VMBUS_DG_END ? type_bytes[type - VMBUS_DG_FIRST]
							     : 0;
}

static void w64(struct vmbus__cursor *c, uint64_t *v)
{
	if (c->out)
		put(c, *v, 8);
	else
		*v = get(c, 8);
}

static void w32(struct vmbus__cursor *c, uint32_t *v)
{
	if (c->out)
		put32(c, *v);
	else
		*v = get32(c);
}

static void wbytes(struct vmbus__cursor *c, void *v, size_t bytes)
{
	if (c->out)
		put_bytes(c, v, bytes);
	else
		get_bytes(c, v, bytes);
}

static void wtext(struct vmbus__cursor *c, char *v, size_t bytes)
{
	if (c->out)
		put_text(c, v, bytes);
	else
		get_text(c, v, bytes);
}

static void walk_srv_stats(struct vmbus__cursor *c, struct vmbus_srv_stats *s)
{
	w64(c, &s->messages);
	w64(c, &s->sent);
	w64(c, &s->malformed);
	w64(c, &s->out_of_order);
	w64(c, &s->unknown_chan);
	w64(c, &s->unknown_gpadl);
	w64(c, &s->quota_gpadls);
	w64(c, &s->quota_unfinished);
	w64(c, &s->quota_bytes);
	w64(c, &s->quota_queue);
	w64(c, &s->quota_tl);
	w64(c, &s->resets);
	w64(c, &s->channels);
	w64(c, &s->gpadls);
	w64(c, &s->gpadl_bytes);
}

static void walk_bus_stats(struct vmbus__cursor *c, struct vmbus_bus_stats *s)
{
	w64(c, &s->signals);
	w64(c, &s->signals_unknown);
	w64(c, &s->posts);
	w64(c, &s->posts_refused);
	w64(c, &s->raised);
	w64(c, &s->faults);
	w64(c, &s->mirrored);
	w64(c, &s->dispatches);
	w64(c, &s->log_dropped);
	w64(c, &s->offers_refused);
	w64(c, &s->opens_refused);
	w64(c, &s->lists_refused);
	w64(c, &s->mirrors_refused);
	w64(c, &s->bufs_refused);
	w64(c, &s->charged);
	w64(c, &s->debt);
	walk_srv_stats(c, &s->srv);
}

static void walk_bus(struct vmbus__cursor *c, struct vmbus__dg_msg *msg)
{
	struct vmbus_bus_diag *const d = &msg->bus;

	w64(c, &d->now);
	w64(c, &d->created);
	w64(c, &d->contact);
	w64(c, &d->offers);
	w64(c, &d->message);
	w64(c, &d->slot_since);
	w64(c, &d->refused);
	w32(c, &d->version);
	w32(c, &d->waits);
	w32(c, &d->slot_message);
	w32(c, &d->channels);
	w64(c, &d->refusal.count);
	w64(c, &d->refusal.value);
	w64(c, &d->refusal.limit);
	w32(c, &d->refusal.ctl_type);
	w32(c, &d->refusal.relid);
	w32(c, &d->refusal.gpadl);
	w32(c, &d->refusal.state);
	wtext(c, msg->what, sizeof(msg->what));
	walk_bus_stats(c, &d->stats);
}

static void walk_ring_stats(struct vmbus__cursor *c, struct vmbus_ring_stats *s)
{
	w64(c, &s->packets);
	w64(c, &s->bytes);
	w64(c, &s->batches);
	w64(c, &s->signals);
	w64(c, &s->signals_suppressed);
	w64(c, &s->full);
	w64(c, &s->sleeps);
	w64(c, &s->faults);
}

static void walk_words(struct vmbus__cursor *c, struct vmbus_ring_words *w)
{
	w32(c, &w->size);
	w32(c, &w->write_index);
	w32(c, &w->read_index);
	w32(c, &w->mask);
	w32(c, &w->pending_send);
	w32(c, &w->features);
	w32(c, &w->used);
	w32(c, &w->reserved);
}

static void walk_info(struct vmbus__cursor *c, struct vmbus_chan_info *i)
{
	wbytes(c, i->class_id.b, sizeof(i->class_id.b));
	wbytes(c, i->instance_id.b, sizeof(i->instance_id.b));
	w32(c, &i->relid);
	w32(c, &i->sub_index);
	w32(c, &i->conn_id);
	w32(c, &i->target_vp);
	w32(c, &i->send_bytes);
	w32(c, &i->recv_bytes);
	w32(c, &i->subchannels);
	w32(c, &i->fault.field);
	w64(c, &i->fault.value);
	w64(c, &i->fault.limit);
	w32(c, &i->fault.where);
	walk_ring_stats(c, &i->send);
	walk_ring_stats(c, &i->recv);
	w64(c, &i->opens);
	w64(c, &i->bad_completions);
}

/* The flags of a channel as one word, from bit 0 on. */
static void walk_flags(struct vmbus__cursor *c, struct vmbus_chan_diag *d)
{
	bool *const flags[] = { &d->info.mirrored, &d->info.faulted, &d->own_fd,
				&d->foreign,	   &d->armed,	     &d->bound,
				&d->from_child_ok, &d->to_child_ok };
	uint32_t word = 0, i;

	for (i = 0; i < 8; i++)
		word |= (uint32_t)*flags[i] << i;
	w32(c, &word);
	for (i = 0; i < 8; i++)
		*flags[i] = word >> i & 1u;
}

static void walk_chan(struct vmbus__cursor *c, struct vmbus__dg_msg *msg)
{
	struct vmbus_chan_diag *const d = &msg->chan;
	uint32_t i;

	walk_info(c, &d->info);
	walk_flags(c, d);
	w64(c, &d->now);
	w64(c, &d->since);
	for (i = 0; i < VMBUS_STEPS; i++)
		w64(c, &d->steps[i]);
	w32(c, &d->state);
	w32(c, &d->waits);
	w32(c, &d->gpadls);
	w32(c, &d->pins);
	w32(c, &d->need);
	walk_words(c, &d->from_child);
	walk_words(c, &d->to_child);
	w64(c, &d->signals);
	w64(c, &d->signal_at);
	w64(c, &d->raised);
	w64(c, &d->raised_at);
	wtext(c, msg->vsp, sizeof(msg->vsp));
	wtext(c, msg->refused, sizeof(msg->refused));
	w32(c, &d->owner);
	w32(c, &d->under_way);
	w64(c, &d->under_way_since);
}

static void walk_part(struct vmbus__cursor *c, struct vmbus__dg_part *p)
{
	uint32_t none = 0;

	w64(c, &p->offset);
	w64(c, &p->total);
	w32(c, &p->bytes);
	w32(c, &none);
	wbytes(c, p->data, sizeof(p->data));
	if (p->bytes > sizeof(p->data) || p->offset > p->total || p->bytes > p->total - p->offset)
		c->bad = true;
}

static void walk(struct vmbus__cursor *c, struct vmbus__dg_msg *msg)
{
	switch (msg->type) {
	case VMBUS_DG_BUS:
		walk_bus(c, msg);
		break;
	case VMBUS_DG_CHAN:
		walk_chan(c, msg);
		break;
	case VMBUS_DG_PART:
		walk_part(c, &msg->part);
		break;
	default: /* the queries have nothing but their header */
		break;
	}
}

static void copy_text(char *to, const char *from, size_t bytes)
{
	const size_t len = from ? strnlen(from, bytes - 1) : 0;

	memset(to, 0, bytes);
	if (len)
		memcpy(to, from, len);
}

uint32_t vmbus__dg_encode(const struct vmbus__dg_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX])
{
	const uint32_t bytes = vmbus__dg_msg_bytes(msg->type);
	struct vmbus__cursor c = { .out = out };
	struct vmbus__dg_msg copy = *msg;

	copy_text(copy.what, msg->bus.refusal.what, sizeof(copy.what));
	copy_text(copy.vsp, msg->chan.info.vsp, sizeof(copy.vsp));
	copy_text(copy.refused, msg->chan.refused, sizeof(copy.refused));
	memset(out, 0, VMBUS_SHM_MSG_MAX);
	put_header(&c, msg->type, bytes);
	walk(&c, &copy);
	return bytes;
}

uint32_t vmbus__dg_type_of(const uint8_t *bytes, size_t len)
{
	struct vmbus__cursor c = { .in = bytes };
	uint32_t type;

	return get_header(&c, len, vmbus__dg_msg_bytes, &type) ? 0 : type;
}

int vmbus__dg_decode(const uint8_t *bytes, size_t len, struct vmbus__dg_msg *msg)
{
	struct vmbus__cursor c = { .in = bytes };
	int err;

	memset(msg, 0, sizeof(*msg));
	err = get_header(&c, len, vmbus__dg_msg_bytes, &msg->type);
	if (err)
		return err;
	walk(&c, msg);
	msg->bus.refusal.what = msg->what;
	msg->chan.info.vsp = msg->vsp;
	msg->chan.refused = msg->refused;
	msg->chan.info.state = vmbus_srv_state_name(msg->chan.state);
	return c.bad ? VMBUS_E_INVAL : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The block device's host by hand, for tests of the client: it answers from a script, or keeps what
 * comes, and the layouts of vmbus_wire(7) are written down here once more.
 *
 *	struct host h;
 *	host_start(&h);			a bus, a guest, the host offered
 *	... h.version = 0x0600, ...	what it knows and does
 *	host_client(&h, &opts);		the client, up to ready()
 *	host_free(&h);
 */
#ifndef TESTS_BLOCK_HOST_H
#define TESTS_BLOCK_HOST_H

#include "loop.h"

#include <vmbus/storvsc.h>

#define HOST_KEPT 4096u

static const struct vmbus_guid host_class = VMBUS_BLOCK_CLASS;

/* An SRB that came. */
struct host_srb {
	struct vmbus_chan *chan;
	uint64_t id;
	uint16_t type;
	uint32_t len, ext_len;
	uint8_t msg[64];
	uint8_t ext[512]; /* its beginning */
};

struct host;

/* The answer to an SRB: 64 bytes that are COMPLETE_IO, SUCCESS, GOOD with all moved.  Returns how many
   bytes to send; 0: none now. */
typedef uint32_t host_srb_fn(struct host *h, const struct host_srb *srb, uint8_t *answer);

struct host {
	struct loop *l;
	struct vmbus_storvsc s;
	/* What it does. */
	uint16_t version;     /* the highest it knows */
	uint16_t subchannels; /* of its properties */
	uint16_t offers;      /* of these it offers so many */
	uint32_t flags;	      /* of its properties */
	uint32_t transfer;
	uint32_t refuse_op, refuse_status; /* an operation that it refuses, or nothing when 0 */
	uint32_t odd_op;		   /* an operation that is answered with: */
	uint32_t odd_answer;		   /* another operation, */
	uint32_t odd_bytes;		   /* and so many bytes; 0: 64 */
	uint32_t silent_op;		   /* an operation that is never answered */
	uint32_t enumerate_op;		   /* ENUMERATE_BUS before the answer to this one */
	host_srb_fn *srb;		   /* NULL: keep them */
	/* What came. */
	uint32_t ops[64], op_count;
	uint16_t tried[8], tried_count;
	uint16_t wanted;
	struct vmbus_chan *chan; /* the primary, while it is open */
	bool slow_sub; /* a sub-channel's close waits for the test, which finds it here: */
	struct vmbus_chan *slow;
	uint32_t opens, closes;
	uint32_t kept_count;
	struct host_srb *kept;
	/* What the client said. */
	uint32_t ready, opened, changed, closed, writable;
	uint32_t opened_list[65];
	int ready_err;
	bool stop_when_ready;
};

static inline uint64_t host_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static inline void host_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

static inline uint64_t host_get_be(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *p++;
	return v;
}

static inline void host_put_be(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		p[bytes - 1] = (uint8_t)v;
}

/* A message that nobody asked for. */
static inline void host_say(struct vmbus_chan *chan, uint32_t op, uint32_t bytes)
{
	uint8_t out[64] = { 0 };
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = out, .len = bytes };

	host_put(out, 4, op);
	must_eq(vmbus_chan_send(chan, &msg, 1), 1);
}

static inline void host_good(uint8_t *answer, uint32_t moved)
{
	memset(answer, 0, 64);
	host_put(answer, 4, 1);
	host_put(answer + 12, 2, 52);
	answer[14] = 1;
	host_put(answer + 24, 4, moved);
}

/* CHECK CONDITION with sense of the fixed format. */
static inline void host_sense(uint8_t *answer, uint8_t key, uint8_t asc, uint8_t ascq)
{
	host_good(answer, 0);
	host_put(answer + 8, 4, 0xC0000185u);
	answer[14] = 0x84;
	answer[15] = 2;
	answer[21] = 18;
	answer[28] = 0x70;
	answer[30] = key;
	answer[35] = 10;
	answer[40] = asc;
	answer[41] = ascq;
}

static inline void host_answer(struct host *h, const struct host_srb *srb)
{
	uint8_t answer[64];
	uint32_t bytes;

	host_good(answer, (uint32_t)host_get(srb->msg + 24, 4));
	bytes = h->srb(h, srb, answer);
	if (bytes)
		must_eq(vmbus_chan_complete(srb->chan, srb->id, answer, bytes), 0);
}

static inline void host_take_srb(struct host *h, struct vmbus_chan *chan,
				 const struct vmbus_packet *pkt)
{
	struct host_srb one = { .chan = chan, .id = pkt->id, .type = pkt->type };

	one.len = pkt->len;
	one.ext_len = pkt->ext_len;
	memcpy(one.msg, pkt->payload, 64);
	memcpy(one.ext, pkt->ext, pkt->ext_len < 512 ? pkt->ext_len : 512);
	if (h->srb) {
		host_answer(h, &one);
		return;
	}
	must(h->kept_count < HOST_KEPT);
	h->kept[h->kept_count++] = one;
}

static inline void host_init_answer(struct host *h, uint32_t op, const uint8_t *in, uint8_t *out)
{
	memset(out, 0, 64);
	host_put(out, 4, op == h->odd_op ? h->odd_answer : 1);
	if (op == h->refuse_op)
		host_put(out + 8, 4, h->refuse_status);
	if (op == 9) {
		const uint16_t v = (uint16_t)host_get(in + 12, 2);

		must(h->tried_count < 8);
		h->tried[h->tried_count++] = v;
		memcpy(out + 12, in + 12, 2);
		if (v > h->version)
			host_put(out + 8, 4, 0xC0000059u);
	}
	if (op == 10) {
		host_put(out + 16, 2, h->subchannels);
		host_put(out + 20, 4, h->flags);
		host_put(out + 24, 4, h->transfer);
	}
}

static inline void host_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct host *const h = vmbus_chan_ctx(chan);
	uint8_t out[64];
	uint32_t i, op;

	for (i = 0; i < n; i++) {
		must_eq(pkt[i].len, 64);
		must(pkt[i].flags & VMBUS_PKT_FLAG_COMPLETE);
		must(pkt[i].id != 0);
		op = (uint32_t)host_get(pkt[i].payload, 4);
		must_eq(host_get(pkt[i].payload + 4, 4), 1);
		if (op == 3) {
			host_take_srb(h, chan, &pkt[i]);
			continue;
		}
		must(h->op_count < 64);
		h->ops[h->op_count++] = op;
		if (op == h->silent_op)
			continue;
		host_init_answer(h, op, pkt[i].payload, out);
		if (op == h->enumerate_op)
			host_say(chan, 11, 64);
		must_eq(vmbus_chan_complete(chan, pkt[i].id, out,
					    op == h->odd_op && h->odd_bytes ? h->odd_bytes : 64),
			0);
		if (op == 13) {
			h->wanted = (uint16_t)host_get(pkt[i].payload + 12, 2);
			if (h->offers)
				must_eq(vmbus_chan_offer_subchannels(chan, h->offers), 0);
		}
	}
}

static inline int host_open(struct vmbus_chan *chan, void *ctx)
{
	struct host *const h = ctx;

	h->opens++;
	if (vmbus_chan_primary(chan) == chan)
		h->chan = chan;
	return 0;
}

static inline int host_close(struct vmbus_chan *chan)
{
	struct host *const h = vmbus_chan_ctx(chan);

	h->closes++;
	if (chan == h->chan)
		h->chan = NULL;
	else if (h->slow_sub)
		h->slow = chan;
	return h->slow == chan ? VMBUS_E_AGAIN : 0;
}

static const struct vmbus_vsp host_vsp = {
	.struct_bytes = sizeof(host_vsp),
	.name = "host",
	.class_id = VMBUS_BLOCK_CLASS,
	.open = host_open,
	.packets = host_packets,
	.close = host_close,
};

static inline void host_start(struct host *h)
{
	memset(h, 0, sizeof(*h));
	h->kept = calloc(HOST_KEPT, sizeof(*h->kept));
	must(h->kept != NULL);
	h->version = 0x0602;
	h->transfer = 1u << 20;
	h->l = loop_new(NULL, NULL);
	h->l->priv = h;
	must_eq(vmbus_bus_offer(h->l->bus, &host_vsp, h, NULL, NULL), 0);
	loop_connect(h->l);
}

static inline void host_free(struct host *h)
{
	loop_free(h->l);
	free(h->kept);
}

/* ---- the client ---- */

static inline void host_on_ready(void *ctx, int err)
{
	struct host *const h = ctx;

	h->ready++;
	h->ready_err = err;
	must_eq(h->closed, 0);
	if (err == 0 && h->stop_when_ready)
		must_eq(vmbus_storvsc_stop(&h->s), 0);
}

static inline void host_on_opened(void *ctx, uint32_t channel)
{
	struct host *const h = ctx;

	must(h->opened < 65);
	h->opened_list[h->opened++] = channel;
	must(vmbus_storvsc_channel(&h->s, channel) != NULL);
}

static inline void host_on_changed(void *ctx)
{
	struct host *const h = ctx;

	h->changed++;
	must_eq(h->ready, 1);
}

static inline void host_on_writable(void *ctx, uint32_t channel)
{
	(void)channel;
	((struct host *)ctx)->writable++;
}

static inline void host_on_closed(void *ctx)
{
	struct host *const h = ctx;

	h->closed++;
	must_eq(h->ready, 1);
	must_eq(h->ready_err, 0);
}

static inline struct vmbus_storvsc_opts host_opts(struct host *h)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts) };

	opts.ready = host_on_ready;
	opts.opened = host_on_opened;
	opts.changed = host_on_changed;
	opts.writable = host_on_writable;
	opts.closed = host_on_closed;
	opts.ctx = h;
	return opts;
}

static inline struct vmbus_vsc *host_vsc(struct host *h)
{
	struct vmbus_vsc *vsc = vmbus_vsc_find(h->l->guest, &host_class, 0);

	must(vsc != NULL);
	return vsc;
}

/* Start the client and let both run.  Returns what ready() told. */
static inline int host_client(struct host *h, const struct vmbus_storvsc_opts *opts)
{
	const struct vmbus_storvsc_opts plain = host_opts(h);

	must_eq(vmbus_storvsc_start(&h->s, host_vsc(h), opts ? opts : &plain), 0);
	loop_settle(h->l);
	must_eq(h->ready, 1);
	return h->ready_err;
}

/* ---- what the host does with the guest's memory ---- */

static inline void *host_page(struct host *h, uint64_t pfn)
{
	must(pfn < LOOP_PAGES);
	return h->l->mem.host + pfn * CHILD_PAGE;
}

/* Byte at of an SRB's buffer, by its page list. */
static inline uint8_t *host_byte(struct host *h, const struct host_srb *srb, uint32_t at)
{
	const uint32_t where = (uint32_t)host_get(srb->ext + 12, 4) + at;

	must_eq(srb->type, VMBUS_PKT_GPA_DIRECT);
	must(at < host_get(srb->ext + 8, 4));
	must(16u + where / 4096u * 8u + 8u <= srb->ext_len);
	must(16u + where / 4096u * 8u + 8u <= sizeof(srb->ext));
	return (uint8_t *)host_page(h, host_get(srb->ext + 16 + where / 4096u * 8u, 8)) +
	       where % 4096u;
}

/* Write an answer's data, cut off where the buffer ends; returns how much was moved. */
static inline uint32_t host_give(struct host *h, const struct host_srb *srb, const void *data,
				 uint32_t bytes)
{
	const uint32_t room = (uint32_t)host_get(srb->msg + 24, 4);
	uint32_t i;

	if (bytes > room)
		bytes = room;
	for (i = 0; i < bytes; i++)
		*host_byte(h, srb, i) = ((const uint8_t *)data)[i];
	return bytes;
}

#endif

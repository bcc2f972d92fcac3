/* SPDX-License-Identifier: MIT */
/*
 * A device whose answers tell of all that it was asked before, that keeps requests, and that sends
 * more than the ring takes: nothing of it may be lost or doubled in a saved state.
 */
#ifndef VMBUS_TESTS_BUS_BANK_H
#define VMBUS_TESTS_BUS_BANK_H

#include "fake.h"

#define BANK_OWED 160u

enum {
	BANK_ECHO, /* answered at once */
	BANK_KEEP, /* answered with the next PAY */
	BANK_PAY,
	BANK_FLOOD, /* n packets that nobody asked for */
	BANK_FAIL
};

struct bank_request {
	uint32_t op, n;
	uint64_t seq;
};

struct bank_answer {
	uint64_t id; /* 0: not a completion */
	uint64_t seq, count;
};

/* All of it is saved, as it is: a device of a test may. */
struct bank {
	uint64_t count, sum;
	uint32_t kept_count, owed_first, owed_count, flood;
	struct bank_answer kept[64], owed[BANK_OWED];
};

struct bank_ctx {
	uint32_t opens, closes, saves, restores, subs;
	int save_says, restore_says;
	bool no_restore;
};

static inline void bank_owe(struct bank *b, uint64_t id, uint64_t seq)
{
	struct bank_answer *a = &b->owed[(b->owed_first + b->owed_count++) % BANK_OWED];

	must(b->owed_count <= BANK_OWED);
	*a = (struct bank_answer){ id, seq, b->count };
}

static inline void bank_pump(struct vmbus_chan *chan, struct bank *b)
{
	while (b->owed_count || b->flood) {
		const struct bank_answer *a;
		struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .len = 24 };
		int err;

		if (!b->owed_count) {
			bank_owe(b, 0, b->flood);
			b->flood--;
		}
		a = &b->owed[b->owed_first % BANK_OWED];
		msg.data = a;
		err = a->id ? vmbus_chan_complete(chan, a->id, a, 24)
			    : vmbus_chan_send(chan, &msg, 1);
		if (err == VMBUS_E_FULL)
			return;
		must(err == 0 || err == 1);
		b->owed_first++;
		b->owed_count--;
	}
}

static inline void bank_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct bank *b = vmbus_chan_priv(chan);
	struct bank_request req;
	uint32_t i;

	must(pkt->len >= sizeof(req));
	memcpy(&req, pkt->payload, sizeof(req));
	b->count++;
	b->sum = b->sum * 31 + req.seq;
	switch (req.op) {
	case BANK_KEEP:
		must(b->kept_count < 64);
		b->kept[b->kept_count++] = (struct bank_answer){ pkt->id, req.seq, b->count };
		break;
	case BANK_PAY:
		for (i = 0; i < b->kept_count; i++)
			bank_owe(b, b->kept[i].id, b->kept[i].seq);
		b->kept_count = 0;
		bank_owe(b, pkt->id, b->sum);
		break;
	case BANK_FLOOD:
		b->flood += req.n;
		bank_owe(b, pkt->id, req.seq);
		break;
	case BANK_FAIL:
		vmbus_chan_fail(chan, "as it was asked");
		return;
	default:
		bank_owe(b, pkt->id, req.seq);
		break;
	}
	bank_pump(chan, b);
}

static inline void bank_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, bank_packet);
}

static inline void bank_writable(struct vmbus_chan *chan)
{
	bank_pump(chan, vmbus_chan_priv(chan));
}

static inline int bank_open(struct vmbus_chan *chan, void *ctx)
{
	struct bank_ctx *c = ctx;
	struct bank *b = calloc(1, sizeof(*b));

	must(b != NULL);
	c->opens++;
	vmbus_chan_set_priv(chan, b);
	if (c->subs && vmbus_chan_primary(chan) == chan)
		must_eq(vmbus_chan_offer_subchannels(chan, c->subs), 0);
	return 0;
}

static inline int bank_close(struct vmbus_chan *chan)
{
	((struct bank_ctx *)vmbus_chan_ctx(chan))->closes++;
	free(vmbus_chan_priv(chan));
	vmbus_chan_set_priv(chan, NULL);
	return 0;
}

static inline int bank_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	struct bank_ctx *c = vmbus_chan_ctx(chan);

	c->saves++;
	if (c->save_says)
		return c->save_says;
	must(bytes >= sizeof(struct bank));
	memcpy(buf, vmbus_chan_priv(chan), sizeof(struct bank));
	return (int)sizeof(struct bank);
}

static inline int bank_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	struct bank_ctx *c = vmbus_chan_ctx(chan);
	struct bank *b;

	c->restores++;
	if (c->restore_says)
		return c->restore_says;
	if (bytes != sizeof(*b))
		return VMBUS_E_INVAL;
	b = malloc(sizeof(*b));
	must(b != NULL);
	memcpy(b, buf, sizeof(*b));
	if (b->kept_count > 64 || b->owed_count > BANK_OWED || b->flood > 100000) {
		free(b);
		return VMBUS_E_INVAL;
	}
	vmbus_chan_set_priv(chan, b);
	return 0;
}

static const struct vmbus_vsp bank_vsp = {
	.struct_bytes = sizeof(bank_vsp),
	.name = "bank",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 2),
	.open = bank_open,
	.packets = bank_packets,
	.writable = bank_writable,
	.close = bank_close,
	.save = bank_save,
	.restore = bank_restore,
	.save_bytes_max = sizeof(struct bank),
};

#endif

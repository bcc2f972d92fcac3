/* SPDX-License-Identifier: MIT */
/*
 * A device that does what the test says, on a channel with a journal, and a process that dies and is
 * followed by another with the same memory.
 */
#ifndef VMBUS_TESTS_BUS_JOURNAL_SAY_H
#define VMBUS_TESTS_BUS_JOURNAL_SAY_H

#include "journalbox.h"

/* A device that does what the test says with each batch. */
struct say {
	struct vmbus_chan *chan;
	uint32_t calls, packets, most, writables;
	uint64_t ids[64];
	uint32_t keep; /* bit n: packet n of a call is pended */
	int err[64];
	void (*on_packets)(struct say *say, const struct vmbus_packet *pkt, uint32_t n);
	void (*on_open)(struct say *say);
	int open_err;
	bool resumed;
	const struct vmbus_packet *kept; /* of a callback before */
};

static inline int say_open(struct vmbus_chan *chan, void *ctx)
{
	struct say *say = ctx;

	say->chan = chan;
	say->resumed = vmbus_chan_resumed(chan);
	if (say->on_open)
		say->on_open(say);
	return say->open_err;
}

static inline void say_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct say *say = vmbus_chan_ctx(chan);
	uint32_t i;

	say->calls++;
	if (n > say->most)
		say->most = n;
	for (i = 0; i < n; i++) {
		say->ids[say->packets++ % 64] = pkt[i].id;
		if (say->keep >> i & 1u)
			say->err[i] = vmbus_chan_pend(chan, &pkt[i]);
	}
	if (say->on_packets)
		say->on_packets(say, pkt, n);
}

static inline void say_writable(struct vmbus_chan *chan)
{
	((struct say *)vmbus_chan_ctx(chan))->writables++;
}

static const struct vmbus_vsp say_vsp = {
	.struct_bytes = sizeof(say_vsp),
	.name = "say",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 10),
	.flags = VMBUS_VSP_RESUMABLE,
	.pending_max = 4,
	.pending_bytes = 64,
	.own_bytes = 100,
	.open = say_open,
	.packets = say_packets,
	.writable = say_writable,
};

struct sbox {
	struct jb b;
	struct say say;
};

static inline void sbox_offer(struct sbox *s)
{
	fake_create(&s->b.f);
	must_eq(vmbus_bus_offer(s->b.f.bus, s->b.vsp, &s->say, NULL, &s->b.chan), 0);
	must_eq(vmbus_chan_set_journal(s->b.chan, s->b.journal, s->b.journal_bytes), 0);
	fake_contact(&s->b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&s->b.f, &s->b.c, 1), 1);
	jb_rings(&s->b);
	s->b.c.gpadl = s->b.f.next_gpadl++;
	must_eq(fake_share(&s->b.f, s->b.c.relid, s->b.c.gpadl, JB_FIRST, JB_UP + JB_DOWN), 0);
}

/* A cleared ring pair and a journal of zeroes; not open. */
static inline void sbox_new(struct sbox *s)
{
	struct vmbus_ring_mem up, down;

	memset(s, 0, sizeof(*s));
	jb_prepare(&s->b, &say_vsp, NULL);
	fake_mem_init(&s->b.f, &up, JB_FIRST, JB_UP);
	fake_mem_init(&s->b.f, &down, JB_FIRST + JB_UP, JB_DOWN);
	vmbus_ring_mem_clear(&up);
	vmbus_ring_mem_clear(&down);
	sbox_offer(s);
}

static inline void sbox_open(struct sbox *s)
{
	jb_open(&s->b);
	must_eq(s->b.err, 0);
}

static inline void sbox_run(struct sbox *s)
{
	(void)vmbus_bus_signal_event(s->b.f.bus, s->b.c.conn, 0);
	fake_run(&s->b.f);
}

static struct jb_image image;

/* The process dies, and another has the same memory. */
static inline void sbox_again(struct sbox *s)
{
	const struct say was = s->say;

	jb_save(&s->b, &image);
	must_eq(vmbus_chan_set_journal(s->b.chan, NULL, 0), 0);
	jb_free(&s->b);
	memset(s, 0, sizeof(*s));
	s->say.keep = was.keep;
	s->say.on_packets = was.on_packets;
	s->say.on_open = was.on_open;
	jb_prepare(&s->b, &say_vsp, NULL);
	memcpy(s->b.f.mem, image.mem, sizeof(image.mem));
	memcpy(s->b.journal, image.journal, s->b.journal_bytes);
	sbox_offer(s);
}

static inline void sbox_send(struct sbox *s, uint64_t first, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint64_t id = first + i;

		must_eq(fake_send(&s->b.c, id, &id, 8), 1);
	}
}

/* Receive n packets, and no more; their ids rise from first on. */
static inline void sbox_get(struct sbox *s, uint64_t first, uint32_t n)
{
	struct vmbus_packet pkt[64];
	uint32_t i;

	must_eq(fake_receive(&s->b.c, pkt, 64), n);
	for (i = 0; i < n; i++)
		must_eq(pkt[i].id, first + i);
	if (n)
		must_eq(fake_receive(&s->b.c, pkt, 64), 0);
}

#endif

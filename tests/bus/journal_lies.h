/* SPDX-License-Identifier: MIT */
/*
 * A journal that is right, what can be changed in it, and a bus that goes on from what became of it:
 * for the tests of journals that lie, and the fuzzer.
 */
#ifndef VMBUS_TESTS_BUS_JOURNAL_LIES_H
#define VMBUS_TESTS_BUS_JOURNAL_LIES_H

#include "journalbox.h"

#include "bus/journal.h"

/* A device that believes what it is given to be bytes, reads them all, and answers or keeps. */
struct meek {
	uint64_t packets, sum;
	uint32_t calls;
};

static inline void meek_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct meek *meek = vmbus_chan_ctx(chan);
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;
	uint32_t i;

	meek->packets++;
	for (i = 0; i < pkt->len; i++)
		meek->sum += pkt->payload[i];
	for (i = 0; i < pkt->ext_len; i++)
		meek->sum += pkt->ext[i];
	if (vmbus_wire_ranges_begin(&it, pkt) == 0)
		while (vmbus_wire_ranges_next(&it, &range) == 1)
			meek->sum += range.byte_count;
	if (meek->packets % 3 == 0)
		(void)vmbus_chan_pend(chan, pkt);
	else if (pkt->len <= JB_BYTES && vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len))
		(void)vmbus_chan_pend(chan, pkt);
	if (meek->packets % 5 == 0)
		vmbus_chan_pend_done(chan, pkt->id - 2);
}

static inline void meek_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	((struct meek *)vmbus_chan_ctx(chan))->calls++;
	must(n > 0 && n <= JB_PENDING);
	vmbus_chan_each(chan, pkt, n, meek_packet);
}

static struct vmbus_vsp meek_vsp;
static struct meek meek;
static struct jb_image honest, lying, left;

/* A journal with four requests that are pended, and some in the ring. */
static inline void make_honest(void)
{
	static struct jb b;
	static struct jb_child child;

	memset(&child, 0, sizeof(child));
	meek_vsp = jb_vsp;
	meek_vsp.open = NULL;
	meek_vsp.packets = meek_packets;
	meek_vsp.writable = NULL;
	meek_vsp.close = NULL;
	jb_new(&b, &jb_vsp);
	b.dev.later = true;
	(void)jb_send(&b, &child, 12);
	(void)vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
	fake_run(&b.f);
	jb_pay(&b.dev, 2, false);
	jb_save(&b, &honest);
	must_eq(vmbus_chan_set_journal(b.chan, NULL, 0), 0);
	jb_free(&b);
}

static inline struct vmbus__journal_head *head_of(struct jb_image *i)
{
	return (struct vmbus__journal_head *)(void *)i->journal;
}

static inline struct vmbus__slot *slot_of(struct jb_image *i, uint32_t slot)
{
	return (struct vmbus__slot *)(void *)(i->journal + sizeof(struct vmbus__journal_head) +
					      (size_t)slot *
						      (sizeof(struct vmbus__slot) + JB_BYTES));
}

/* The record that counts, and a slot that is pended. */
static inline struct vmbus__record *record_of(struct jb_image *i)
{
	return &head_of(i)->record[vmbus__ld64_relaxed(&head_of(i)->active) % 2];
}

static inline struct vmbus__slot *pended_of(struct jb_image *i)
{
	uint32_t s;

	for (s = 0; s < JB_PENDING; s++)
		if (vmbus__ld64_relaxed(&slot_of(i, s)->take) &&
		    vmbus__ld64_relaxed(&slot_of(i, s)->done) <
			    vmbus__ld64_relaxed(&slot_of(i, s)->take))
			return slot_of(i, s);
	ck_abort_msg("nothing is pended");
	return NULL;
}

/* Numbers so large that there are no more after some traffic. */
static inline bool is_at_the_end(struct jb_image *i)
{
	uint32_t s;

	for (s = 0; s < JB_PENDING; s++)
		if (slot_of(i, s)->seq >= VMBUS__JOURNAL_GEN_MAX / 2)
			return true;
	return JB_ACTIVE(i->journal) >= VMBUS__JOURNAL_GEN_MAX / 2;
}

/*
 * Go on from an image; returns the status of the open.
 *
 * expect  NULL, or what the log has to say.
 * again   1: what is left after some traffic has to be one to go on from.
 */
static inline int go_on_from(const struct jb_image *from, const char *expect, uint32_t again)
{
	static struct jb b;
	struct vmbus_packet pkt[16];
	bool followed = false;
	uint32_t i;
	int status;

	meek = (struct meek){ 0 };
	memset(&b, 0, sizeof(b));
	jb_prepare(&b, &meek_vsp, NULL);
	memcpy(b.f.mem, from->mem, sizeof(from->mem));
	memcpy(b.journal, from->journal, b.journal_bytes);
	fake_create(&b.f);
	must_eq(vmbus_bus_offer(b.f.bus, &meek_vsp, &meek, NULL, &b.chan), 0);
	must_eq(vmbus_chan_set_journal(b.chan, b.journal, b.journal_bytes), 0);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, &b.c, 1), 1);
	b.c.fake = &b.f;
	b.c.up = JB_UP;
	b.c.gpadl = b.f.next_gpadl++;
	must_eq(fake_share(&b.f, b.c.relid, b.c.gpadl, JB_FIRST, JB_UP + JB_DOWN), 0);
	jb_open(&b);
	status = b.err;
	if (expect && !fake_logged(&b.f, expect))
		ck_abort_msg("the log does not say '%s'", expect);
	if (status == 0 && !expect) {
		jb_rings(&b);
		for (i = 0; i < 8; i++) {
			(void)vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
			fake_run(&b.f);
			(void)vmbus_ring_rx_get(&b.c.rx, pkt, 16);
			(void)vmbus_ring_rx_consume(&b.c.rx);
		}
		must(meek.packets <= 64);
		if (again && b.chan && vmbus_chan_set_journal(b.chan, NULL, 0) == 0 &&
		    JB_ACTIVE(b.journal)) {
			jb_save(&b, &left);
			followed = true;
		}
	}
	fake_chan_free(&b.c);
	fake_fini(&b.f);
	munmap(b.journal, b.journal_bytes);
	/* What we left is right, whatever we were given. */
	if (followed)
		must_eq(go_on_from(&left, NULL, 0), 0);
	return status;
}

static inline int go_on(const char *expect)
{
	return go_on_from(&lying, expect, !is_at_the_end(&lying));
}

#endif

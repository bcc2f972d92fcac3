/* SPDX-License-Identifier: MIT */
/*
 * Journals that lie.  Each field with wrong values, each byte damaged, and noise: the open fails with
 * a reason, or the channel goes on within bounds; and what the journal does not say stays the
 * child's, who may have written anything into our indices meanwhile.
 */
#include "journal_lies.h"

#include <pthread.h>

START_TEST(journal__honest_one_goes_on)
{
	make_honest();
	must_eq(go_on_from(&honest, NULL, 0), 0);
	must(meek.packets >= 4);
	lying = honest;
	must_eq(go_on(NULL), 0);
}
END_TEST

/* Each field with a wrong value, and what people are told. */
START_TEST(journal__names_what_is_wrong)
{
	struct vmbus__journal_head *h;
	struct vmbus__record *r;
	struct vmbus__slot *s;
	uint32_t i;

	make_honest();
#define LIE(change, text)                                                                          \
	do {                                                                                       \
		vmbus_test_at("%s", #change);                                                      \
		lying = honest;                                                                    \
		h = head_of(&lying);                                                               \
		r = record_of(&lying);                                                             \
		s = pended_of(&lying);                                                             \
		change;                                                                            \
		must(go_on(text) != 0);                                                            \
		must(meek.calls == 0);                                                             \
		(void)h;                                                                           \
		(void)r;                                                                           \
		(void)s;                                                                           \
	} while (0)
	LIE(h->magic++, "journal: magic is ");
	LIE(h->magic = 0, "journal: magic is 0");
	LIE(h->magic++; vmbus__st64_relaxed(&h->active, 0), "journal: magic is ");
	LIE(h->version = 1, "journal: version is 1, must be 2");
	LIE(vmbus__st64_relaxed(&h->slots_used, 7),
	    "journal: number of slots that were used is 7, which cannot be");
	LIE(vmbus__st64_relaxed(&h->slots_used, UINT64_MAX), "journal: number of slots");
	LIE(h->pending_max = 7, "journal: pending_max is 7, must be 6");
	LIE(h->pending_max = UINT32_MAX, "journal: pending_max is ");
	LIE(h->pending_bytes++, "journal: pending_bytes is 321, must be 320");
	LIE(h->own_bytes = 0, "journal: own_bytes is 0, must be 64");
	LIE(h->send_bytes = 8192, "journal: size of the ring to the child is 8192, must be 4096");
	LIE(h->recv_bytes = 4096, "journal: size of the ring from the child is 4096, must be 8192");
	LIE(vmbus__st64_relaxed(&h->active, vmbus__ld64_relaxed(&h->active) + 2),
	    "journal: number of the record is ");
	LIE(vmbus__st64_relaxed(&h->active, vmbus__ld64_relaxed(&h->active) - 2),
	    "journal: number of the record is ");
	LIE(vmbus__st64_relaxed(&h->active, UINT64_MAX), "journal: number of the record is ");
	LIE(r->gen++, "journal: number of the record is ");
	LIE(r->gen = UINT64_MAX - 1; vmbus__st64_relaxed(&h->active, UINT64_MAX - 1);
	    h->record[0].gen = UINT64_MAX - 1, "journal: number of the record is ");
	LIE(r->tx_after = r->tx_before = 4000, "ring to the child: index of ours at resume");
	LIE(r->tx_after = r->tx_before = UINT32_MAX, "ring to the child: index of ours at resume");
	LIE(r->next_before = r->next_after = 4, "journal: place to read on is 4");
	LIE(r->next_before = r->next_after = 8192, "journal: place to read on is 8192");
	LIE(r->next_before = r->next_after = UINT32_MAX, "journal: place to read on is ");
	LIE(r->next_before = r->next_after = 8184, "ring from the child: write index");
	LIE(vmbus__st64_relaxed(&h->read, 0x1000000010u), "ring from the child: index of ours");
	LIE(s->type = 0, "journal: type of a request is 0, which cannot be");
	LIE(s->type = 99, "journal: type of a request is 99");
	LIE(s->flags = 2, "journal: flags of a request is 2");
	LIE(s->ext_len = 4, "journal: header bytes of a request is 4");
	LIE(s->ext_len = JB_BYTES + 8, "journal: header bytes");
	LIE(s->ext_len = UINT32_MAX - 7, "journal: header bytes");
	LIE(s->type = VMBUS_PKT_GPA_DIRECT, "journal: header bytes of a request is 0");
	LIE(s->len = JB_BYTES + 1, "journal: payload bytes of a request is 321, which");
	LIE(s->len = UINT32_MAX, "journal: payload bytes");
	LIE(s->ext_len = 8; s->len = JB_BYTES, "journal: payload bytes of a request is 320");
	LIE(s->seq = UINT64_MAX, "journal: number of a request");
#undef LIE
	/* It is left as it was found. */
	lying = honest;
	head_of(&lying)->version = 1;
	for (i = 0; i < 2; i++)
		must(go_on("version") != 0);
}
END_TEST

/* What lies in slots that were never taken is no request, neither now nor when the slot is taken. */
START_TEST(journal__slots_that_were_never_taken)
{
	static struct jb b;
	static struct jb_child child;
	uint32_t s;

	memset(&child, 0, sizeof(child));
	make_honest();
	jb_new(&b, &jb_vsp);
	b.dev.later = true;
	(void)jb_send(&b, &child, 2); /* the first is pended, the second answered */
	(void)vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
	fake_run(&b.f);
	(void)jb_send(&b, &child, 3);
	jb_save(&b, &lying);
	must_eq(vmbus_chan_set_journal(b.chan, NULL, 0), 0);
	jb_free(&b);
	must_eq(vmbus__ld64_relaxed(&head_of(&lying)->slots_used), 1);
	for (s = 1; s < JB_PENDING; s++)
		memcpy(slot_of(&lying, s), slot_of(&lying, 0),
		       sizeof(struct vmbus__slot) + JB_BYTES);
	must_eq(go_on_from(&lying, NULL, 0), 0);
	must_eq(meek.packets, 4);
	must_eq(go_on_from(&lying, NULL, 1),
		0); /* the third is pended, and what is left is gone on from */
	must_eq(meek.packets, 1);
}
END_TEST

/* The child had its own way with our indices while nobody served. */
START_TEST(journal__child_that_writes_our_indices)
{
	static const uint32_t values[] = { 0, 8, 4, 4088, 4096, 8184, 8192, 12, UINT32_MAX };
	uint32_t i, *word;

	make_honest();
	for (i = 0; i < 2 * sizeof(values) / sizeof(values[0]); i++) {
		uint32_t was;

		vmbus_test_at("case %u", i);
		lying = honest;
		word = (uint32_t *)(void *)(lying.mem + (i % 2 ? JB_FIRST * FAKE_PAGE + 4
							       : (JB_FIRST + JB_UP) * FAKE_PAGE));
		was = *word;
		*word = values[i / 2];
		if (*word == was || (i % 2 == 0 && *word == record_of(&lying)->tx_before))
			continue;
		if (i % 2 && *word == (uint32_t)vmbus__ld64_relaxed(&head_of(&lying)->read))
			continue;
		must(go_on(i % 2 ? "ring from the child: index of ours at resume is"
				 : "ring to the child: index of ours at resume is") != 0);
		must_eq(meek.calls, 0);
	}
}
END_TEST

/* Every byte of head and slots, in several ways. */
START_TEST(journal__any_byte_damaged)
{
	const size_t bytes = sizeof(struct vmbus__journal_head) +
			     JB_PENDING * (sizeof(struct vmbus__slot) + JB_BYTES);
	static const uint8_t flips[] = { 0xff, 0x01, 0x80 };
	uint32_t good = 0, bad = 0;
	size_t at, k;

	make_honest();
	for (at = 0; at < bytes; at++)
		for (k = 0; k < (at < 192 ? 3 : 1); k++) {
			vmbus_test_at("byte %zu, %x", at, flips[k]);
			lying = honest;
			lying.journal[at] ^= flips[k];
			if (go_on(NULL))
				bad++;
			else
				good++;
		}
	printf("%u opened, %u refused\n", good, bad);
	must(good > 100 && bad > 50);
}
END_TEST

/* Noise, all of it or behind a head that is right. */
START_TEST(journal__noise)
{
	const uint32_t rounds = vmbus_test_full() ? 20000 : 600;
	const size_t bytes = vmbus_journal_bytes(&jb_vsp);
	uint32_t seed = 1, round;
	size_t at;

	make_honest();
	for (round = 0; round < rounds; round++) {
		vmbus_test_at("round %u", round);
		lying = honest;
		for (at = round % 4 == 0 ? 0 : round % 4 == 1 ? 64 : 192; at < bytes; at++) {
			seed = seed * 1664525u + 1013904223u;
			if (round % 8 < 4 || seed >> 28 == 0)
				lying.journal[at] =
					(uint8_t)(seed >> 16 & (round % 8 == 7 ? 3 : 255));
		}
		(void)go_on(NULL);
	}
}
END_TEST

/* ---- one who writes while it is read ---- */

#define LIAR_SLOTS 1024u

static struct vmbus__slot *liar_slot(uint8_t *journal, uint32_t slot)
{
	return (struct vmbus__slot *)(void *)(journal + sizeof(struct vmbus__journal_head) +
					      slot * (sizeof(struct vmbus__slot) + 64u));
}

struct liar {
	uint8_t *journal;
	vmbus__a32 stop;
};

/* Requests come and go all the time. */
static void *lie(void *arg)
{
	struct liar *const liar = arg;
	uint32_t i, round;

	for (round = 0; !vmbus__ld32_relaxed(&liar->stop); round++)
		for (i = 0; i < LIAR_SLOTS; i++)
			vmbus__st64_relaxed(&liar_slot(liar->journal, i)->take, round % 2);
	return NULL;
}

/* A channel that is open, and a journal in which every slot is pended. */
static void liar_open(struct jb *b, const struct vmbus_vsp *vsp, uint8_t *journal)
{
	struct vmbus_ring_mem up, down;
	uint32_t i;

	jb_prepare(b, vsp, journal);
	memset(journal, 0, b->journal_bytes);
	fake_mem_init(&b->f, &up, JB_FIRST, JB_UP);
	fake_mem_init(&b->f, &down, JB_FIRST + JB_UP, JB_DOWN);
	vmbus_ring_mem_clear(&up);
	vmbus_ring_mem_clear(&down);
	jb_offer(b);
	jb_open(b);
	must_eq(b->err, 0);
	must_eq(vmbus_chan_set_journal(b->chan, NULL, 0), 0);
	for (i = 0; i < LIAR_SLOTS; i++) {
		struct vmbus__slot *const slot = liar_slot(journal, i);

		slot->id = slot->seq = i + 1u;
		slot->len = 8;
		slot->type = VMBUS_PKT_INBAND;
		vmbus__st64_relaxed(&slot->take, 1);
	}
}

static void drop_all(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

/* An ex-provider that still has the mapping: each slot is one thing to us, whatever it was. */
START_TEST(journal__changes_while_it_is_read)
{
	static _Alignas(64) uint8_t journal[LIAR_SLOTS * 128u + 4096u], was[sizeof(journal)];
	struct liar liar = { .journal = journal };
	static uint8_t mem[JB_PAGES * 4096];
	struct vmbus_vsp vsp = jb_vsp;
	static struct jb b;
	pthread_t thread;
	uint32_t round;

	vsp.pending_max = LIAR_SLOTS;
	vsp.pending_bytes = 64;
	vsp.open = NULL;
	vsp.packets = drop_all;
	vsp.writable = NULL;
	vsp.close = NULL;
	liar_open(&b, &vsp, journal);
	memcpy(mem, b.f.mem, sizeof(mem));
	memcpy(was, journal, sizeof(was));
	fake_chan_free(&b.c);
	fake_fini(&b.f);
	for (round = 0; round < 60; round++) {
		const struct vmbus__journal *j;

		vmbus_test_at("round %u", round);
		memcpy(journal, was, sizeof(was));
		jb_prepare(&b, &vsp, journal);
		memcpy(b.f.mem, mem, sizeof(mem));
		jb_offer(&b);
		vmbus__st32_relaxed(&liar.stop, 0);
		must_eq(pthread_create(&thread, NULL, lie, &liar), 0);
		jb_open(&b);
		vmbus__st32_relaxed(&liar.stop, 1);
		pthread_join(thread, NULL);
		must_eq(b.err, 0);
		j = b.chan->journal;
		must_eq(j->free_count + j->done_count + j->pended, j->max);
		fake_chan_free(&b.c);
		fake_fini(&b.f);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "hostile", 100);

	tcase_add_test(tc, journal__honest_one_goes_on);
	tcase_add_test(tc, journal__names_what_is_wrong);
	tcase_add_test(tc, journal__slots_that_were_never_taken);
	tcase_add_test(tc, journal__child_that_writes_our_indices);
	tcase_add_test(tc, journal__any_byte_damaged);
	tcase_add_test(tc, journal__noise);
	tcase_add_test(tc, journal__changes_while_it_is_read);
}

VMBUS_TEST_MAIN("bus.journal_hostile", tests)

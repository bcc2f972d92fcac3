/* SPDX-License-Identifier: MIT */
/*
 * The receiving end, src/ring/rx.c, and a peer that breaks the protocol: wrong packets, wrong
 * indices, and words that change after their first look.
 */
#include "ringbox.h"

typedef int get_fn(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n);
static get_fn *const gets[] = { vmbus_ring_rx_get, vmbus_ring_rx_get_in_peer_memory };
#define GETS 2

static const struct {
	uint32_t type, offset8, length8, flags;
	uint32_t field, value, limit;
} bad[] = {
	{ 0, 2, 3, 0, VMBUS_FAULT_PKT_TYPE, 0, 13 },
	{ 14, 2, 3, 0, VMBUS_FAULT_PKT_TYPE, 14, 13 },
	{ 0x106, 2, 3, 0, VMBUS_FAULT_PKT_TYPE, 0x106, 13 },
	{ 6, 2, 3, 2, VMBUS_FAULT_PKT_FLAGS, 2, 1 },
	{ 6, 2, 3, 0x8001, VMBUS_FAULT_PKT_FLAGS, 0x8001, 1 },
	{ 6, 0, 3, 0, VMBUS_FAULT_PKT_OFFSET, 0, 2 },
	{ 6, 1, 3, 0, VMBUS_FAULT_PKT_OFFSET, 1, 2 },
	{ 7, 2, 3, 0, VMBUS_FAULT_PKT_OFFSET, 2, 3 },
	{ 9, 2, 3, 0, VMBUS_FAULT_PKT_OFFSET, 2, 3 },
	{ 13, 3, 6, 0, VMBUS_FAULT_PKT_OFFSET, 3, 4 },
	{ 6, 4, 3, 0, VMBUS_FAULT_PKT_OFFSET_PAST, 4, 3 },
	{ 6, 65535, 3, 0, VMBUS_FAULT_PKT_OFFSET_PAST, 65535, 3 },
	{ 6, 2, 1, 0, VMBUS_FAULT_PKT_OFFSET_PAST, 2, 1 },
	{ 6, 2, 0, 1, VMBUS_FAULT_PKT_OFFSET_PAST, 2, 0 },
	{ 6, 2, 8, 0, VMBUS_FAULT_PKT_LENGTH, 72, 64 }, /* the trailer is past the index */
	{ 6, 2, 9, 0, VMBUS_FAULT_PKT_LENGTH, 80, 64 },
	{ 6, 2, 65535, 0, VMBUS_FAULT_PKT_LENGTH, 524288, 64 },
	{ 9, 6, 65535, 1, VMBUS_FAULT_PKT_LENGTH, 524288, 64 },
	{ 13, 4, 511, 0, VMBUS_FAULT_PKT_LENGTH, 4096, 64 },
};
#define BAD (int)(sizeof(bad) / sizeof(bad[0]))

/*
 * [PKT-DESC]: a wrong packet behind some good ones, whole and split by the end of the ring.  The
 * good ones come out; then PEER once, with the fault; then FAULT, and nothing moves any more.
 */
START_TEST(ring_rx_get__wrong_packet_breaks_the_ring)
{
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	const struct vmbus_fault *fault;
	struct vmbus_packet pkt[8];
	struct vmbus_ring_stats stats;
	uint32_t good, at, start;
	int b;

	must_eq(ringbox_open_rx(rb, 0), 0);
	for (b = 0; b < BAD; b++)
		for (good = 0; good < 4; good++)
			for (start = 3960; start < 4096; start += 8) {
				uint32_t k;

				ringbox_reopen(rb, start);
				for (k = 0; k < good; k++)
					ringbox_send(rb, 6, 0, 8, k);
				at = ringbox_get(rb, RINGBOX_IN);
				memset(ringbox_data(rb), 0xe5, 512);
				for (k = 0; k < good; k++)
					ringbox_peer_packet(rb, (start + k * 32) % 4096,
							    VMBUS__DESC(6, 2, 3, k % 2), k, k);
				ringbox_set64(rb, at,
					      VMBUS__DESC(bad[b].type, bad[b].offset8,
							  bad[b].length8, bad[b].flags));
				ringbox_set(rb, RINGBOX_IN, (at + 64) % 4096);
				vmbus_test_at("bad %d good %u at %u", b, good, at);
				if (good)
					must_eq(get(&rb->rx, pkt, 8), (int)good);
				for (k = 0; k < good; k++)
					ringbox_must_be_sent(&pkt[k], 6, 0, 8, k);
				must_eq(get(&rb->rx, pkt, 8), VMBUS_E_PEER);
				fault = vmbus_ring_rx_fault(&rb->rx);
				must_eq(fault->field, bad[b].field);
				must_eq(fault->value, bad[b].value);
				must_eq(fault->limit, bad[b].limit);
				must_eq(fault->where, at);
				ringbox_set64(rb, at, VMBUS__DESC(6, 2, 3, 0)); /* too late */
				for (k = 0; k < 3; k++)
					must_eq(get(&rb->rx, pkt, 8), VMBUS_E_FAULT);
				must_eq(vmbus_ring_rx_consume(&rb->rx), VMBUS_E_FAULT);
				must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_E_FAULT);
				vmbus_ring_rx_disarm(&rb->rx);
				must_eq(ringbox_get(rb, RINGBOX_OUT), start);
				vmbus_ring_rx_stats(&rb->rx, &stats);
				must_eq(stats.faults, 1);
				must_eq(stats.packets, good);
				must_eq(rb->rx_signals, 0);
			}
	ringbox_free(rb);
}
END_TEST

/* Fewer bytes than a packet has at least; and a write index that moves back, or out of bounds. */
START_TEST(ring_rx_get__wrong_write_index_breaks_the_ring)
{
	static const struct {
		uint32_t in, field, value, limit;
	} wrong[] = {
		{ 4096, VMBUS_FAULT_WRITE_INDEX, 4096, 4088 },
		{ 0xfffffff8u, VMBUS_FAULT_WRITE_INDEX, 0xfffffff8u, 4088 },
		{ 4, VMBUS_FAULT_WRITE_INDEX_ALIGN, 4, 8 },
		{ 1000 + 32 + 8, VMBUS_FAULT_PKT_SPACE, 8, 24 },
		{ 1000 + 32 + 16, VMBUS_FAULT_PKT_SPACE, 16, 24 },
		{ 1000 + 24, VMBUS_FAULT_WRITE_INDEX_BACK, 1024, 1032 },
		{ 1000, VMBUS_FAULT_WRITE_INDEX_BACK, 1000, 1032 },
	};
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt;
	uint32_t w;

	must_eq(ringbox_open_rx(rb, 0), 0);
	for (w = 0; w < sizeof(wrong) / sizeof(wrong[0]); w++) {
		ringbox_reopen(rb, 1000);
		ringbox_send(rb, 6, 0, 8, 5);
		must_eq(get(&rb->rx, &pkt, 1), 1);
		ringbox_set(rb, RINGBOX_IN, wrong[w].in);
		vmbus_test_at("index %u", wrong[w].in);
		must_eq(get(&rb->rx, &pkt, 1), VMBUS_E_PEER);
		must_eq(vmbus_ring_rx_fault(&rb->rx)->field, wrong[w].field);
		must_eq(vmbus_ring_rx_fault(&rb->rx)->value, wrong[w].value);
		must_eq(vmbus_ring_rx_fault(&rb->rx)->limit, wrong[w].limit);
		must_eq(get(&rb->rx, &pkt, 1), VMBUS_E_FAULT);
	}
	ringbox_free(rb);
}
END_TEST

/* Packets, and bytes behind them that are fewer than a packet: first the packets, then the fault. */
START_TEST(ring_rx_get__packets_before_stray_bytes)
{
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[8];
	uint32_t good, stray, k, at;

	must_eq(ringbox_open_rx(rb, 0), 0);
	for (good = 1; good < 6; good++)
		for (stray = 8; stray <= 16; stray += 8)
			for (at = 4096 - 200; at < 4096; at += 8) {
				ringbox_reopen(rb, at);
				for (k = 0; k < good; k++)
					ringbox_send(rb, k % 2 ? 9 : 6, k % 2 ? 8 : 0, 8, k);
				ringbox_set(rb, RINGBOX_IN,
					    (ringbox_get(rb, RINGBOX_IN) + stray) % 4096);
				must_eq(get(&rb->rx, pkt, 8), (int)good);
				ringbox_must_be_sent(&pkt[0], 6, 0, 8, 0);
				must_eq(get(&rb->rx, pkt, 8), VMBUS_E_PEER);
				must_eq(vmbus_ring_rx_fault(&rb->rx)->field, VMBUS_FAULT_PKT_SPACE);
				must_eq(vmbus_ring_rx_fault(&rb->rx)->value, stray);
				must_eq(get(&rb->rx, pkt, 8), VMBUS_E_FAULT);
			}
	ringbox_free(rb);
}
END_TEST

static unsigned int ctl_loads, data_loads;
static const struct ringbox *counted;

static void count_load(const volatile void *p)
{
	const long place = ringbox_place_of(counted, p);

	ctl_loads += place >= 0 && place < 4096;
	data_loads += place >= 4096;
}

static struct ringbox *changed;
static long change_place;     /* to be changed after its load */
static uint32_t change_start; /* of the packet, 64 bytes: descriptor, id, 24 header, 16 payload */
static bool change_whole;     /* reads are of whole runs of the ring, not of parts of the packet */
static uint64_t change_to;
static bool change_next, change_done;
static uint32_t in_loads;

/* Whether a read that begins at a place of a 4096-byte ring brings the qword to change as well. */
static bool covers(long place)
{
	const uint32_t from = ((uint32_t)place - 4096 + 4096 - change_start) % 4096;
	const uint32_t to = ((uint32_t)change_place - 4096 + 4096 - change_start) % 4096;
	const uint32_t end = change_whole ? 64 : from < 16 ? from + 8 : from < 40 ? 40 : 56;

	if (place < 4096 || change_place < 4096)
		return place == change_place;
	if (to < from || to >= end)
		return false;
	return changed->window == VMBUS_RING_MIRRORED || (uint32_t)place + to - from < 2 * 4096;
}

/*
 * The hook runs before a load, so the change is made before the load that comes after the one that
 * read the place: then only a second load of it would see the new value.
 */
static void change_after_load(const volatile void *p)
{
	const long place = ringbox_place_of(changed, p);

	if (change_next && !change_done) {
		if (change_place < 4096)
			ringbox_set(changed, (enum ringbox_word)change_place, (uint32_t)change_to);
		else
			ringbox_set64(changed, (uint32_t)change_place - 4096, change_to);
		change_done = true;
	}
	in_loads += place == RINGBOX_IN;
	if (place >= 0 && covers(place))
		change_next = true;
}

static const uint64_t flips[] = {
	0,
	UINT64_MAX,
	VMBUS__DESC(6, 2, 65535, 0),
	VMBUS__DESC(6, 65535, 65535, 0),
	VMBUS__DESC(9, 2, 3, 0),
	VMBUS__DESC(6, 2, 2, 0),
	VMBUS__DESC(14, 2, 3, 0),
	4096,
	1ull << 31,
	4,
};
#define FLIPS (int)(sizeof(flips) / sizeof(flips[0]))

/*
 * The peer rewrites the write index, a descriptor, an id or a header as soon as it was read once.
 * What comes out is what was there at that first read: nothing that decides is read twice.
 */
START_TEST(lesson_10_double_fetch_while_receiving)
{
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[4];
	uint32_t start, word, i, changes = 0;
	int f, got;

	must_eq(ringbox_open_rx(rb, 0), 0);
	changed = rb;
	for (start = 4096 - 96; start < 4096; start += 8)
		for (word = 0; word < 9; word++)
			for (f = 0; f < FLIPS; f++) {
				ringbox_reopen(rb, start);
				ringbox_send(rb, 9, 24, 16, 3); /* 64 bytes, words 1 to 8 */
				change_place = word ? (long)(4096 + (start + (word - 1) * 8) % 4096)
						    : RINGBOX_IN;
				change_to = flips[f];
				change_start = start;
				change_whole = get == vmbus_ring_rx_get;
				change_next = change_done = false;
				in_loads = 0;
				vmbus_test_at("start %u word %u flip %d", start, word, f);
				vmbus__test_hook = change_after_load;
				got = get(&rb->rx, pkt, 4);
				vmbus__test_hook = NULL;
				must_eq(got, 1);
				must_eq(in_loads, 1);
				must_eq(pkt[0].type, 9);
				must_eq(pkt[0].id, 3);
				must_eq(pkt[0].ext_len, 24);
				must_eq(pkt[0].len, 16);
				must_eq(pkt[0].where, start);
				for (i = 0; i < 24; i++)
					must_eq(pkt[0].ext[i], ringbox_byte(3, i));
				changes += change_done;
			}
	must(changes > 100);
	ringbox_free(rb);
}
END_TEST

static unsigned int place_loads[2 * 4096];

static void count_places(const volatile void *p)
{
	const long place = ringbox_place_of(counted, p);

	if (place >= 0)
		place_loads[place]++;
}

/* A call loads each word of the control page once, and starts no two reads at the same byte. */
START_TEST(lesson_10_each_place_is_read_once)
{
	struct ringbox *rb = ringbox_open_receiver(4096, ringbox_windows[_i / GETS], 3904, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[16];
	uint32_t k, i, total = 0;

	for (k = 0; k < 10; k++)
		ringbox_send(rb, k % 2 ? 9 : 6, k % 2 ? 24 : 0, 40 + k * 8, k);
	counted = rb;
	vmbus__test_hook = count_places;
	must_eq(get(&rb->rx, pkt, 16), 10);
	vmbus__test_hook = NULL;
	for (i = 0; i < 2 * 4096; i++) {
		must(place_loads[i] <= 1);
		total += place_loads[i];
	}
	must(total >= 2);
	must_eq(place_loads[RINGBOX_IN], 1);
	must_eq(place_loads[RINGBOX_OUT], 0); /* our own is never read back */
	must_eq(place_loads[RINGBOX_MASK], 0);
	ringbox_free(rb);
}
END_TEST

/*
 * A million packets that are wrong: one PEER, one fault record that stays the first, no signal, and
 * after that FAULT at no cost to the ring: the control page is not even looked at.
 */
START_TEST(lesson_31_million_bad_packets)
{
	struct ringbox *rb = ringbox_open_receiver(4096, VMBUS_RING_MIRRORED, 0, 0);
	get_fn *const get = gets[_i];
	struct vmbus_ring_stats stats;
	struct vmbus_packet pkt;
	struct vmbus_fault first;
	uint32_t k, peer = 0, broken = 0;

	counted = rb;
	for (k = 0; k < 1000000; k++) {
		int err;

		ringbox_set64(rb, k * 8 % 4096, UINT64_MAX - k);
		ringbox_set(rb, RINGBOX_IN, 64 + k * 8 % 4032);
		err = get(&rb->rx, &pkt, 1);
		peer += err == VMBUS_E_PEER;
		broken += err == VMBUS_E_FAULT;
		if (k == 0) {
			first = *vmbus_ring_rx_fault(&rb->rx);
			vmbus__test_hook = count_load;
		}
	}
	vmbus__test_hook = NULL;
	must_eq(peer, 1);
	must_eq(broken, 999999);
	must_eq(ctl_loads + data_loads, 0);
	must(memcmp(&first, vmbus_ring_rx_fault(&rb->rx), sizeof(first)) == 0);
	must_eq(first.field, VMBUS_FAULT_PKT_TYPE);
	vmbus_ring_rx_stats(&rb->rx, &stats);
	must_eq(stats.faults, 1);
	must_eq(stats.packets, 0);
	must_eq(stats.signals, 0);
	must_eq(rb->rx_signals, 0);
	ringbox_free(rb);
}
END_TEST

static void add_for_all(TCase *tc, const TTest *test)
{
	tcase_add_loop_test(tc, test, 0, RINGBOX_WINDOWS * GETS);
}

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "fault", 10);

	add_for_all(tc, ring_rx_get__wrong_packet_breaks_the_ring);
	add_for_all(tc, ring_rx_get__wrong_write_index_breaks_the_ring);
	add_for_all(tc, ring_rx_get__packets_before_stray_bytes);
	add_for_all(tc, lesson_10_double_fetch_while_receiving);
	add_for_all(tc, lesson_10_each_place_is_read_once);
	tcase_add_loop_test(tc, lesson_31_million_bad_packets, 0, GETS);
}

VMBUS_TEST_MAIN("ring.rx_fault", tests)

/* SPDX-License-Identifier: MIT */
/*
 * A peer that lies at random: a thread that writes garbage, likely values and replays through a
 * second mapping of the ring, without pause, while our end works.  Nothing but a clean fault may
 * happen; after one the ring is cleaned and set up anew.
 *
 * VMBUS_HOSTILE_MS	milliseconds for all of it (3000)
 * VMBUS_HOSTILE_SEED	the seed (from the clock; printed)
 */
#define _GNU_SOURCE
#include "vmbus_test.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "hostile/ground.h"

#define SLICES 24 /* 3 windows, 4 ends, 2 roles */
#define PRODUCERS 3
#define BATCH 16
#define PATIENCE_MS 2000 /* more for a slice in which a busy machine let no liar run */

enum end {
	RX_COPY,
	RX_IN_PLACE,
	TX,
	MTX,
	ENDS
};

static const char *const end_names[] = { "rx copy", "rx in place", "tx", "mtx" };

static struct ground ground;
static uint32_t slice_ms;
static uint64_t seed;

/* What one slice of time saw; the suite fails if it never saw a fault or never saw a packet. */
static struct {
	unsigned long calls, packets, faults;
} seen;

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* ---- the liar ---- */

struct liar {
	pthread_t thread;
	uint64_t state;
	int stop;
};

/* An index that is wrong, nearly right or right. */
static uint32_t likely_index(struct liar *l, uint32_t now)
{
	const uint64_t r = next_random(&l->state);

	switch (r % 16) {
	case 0:
		return (uint32_t)(r >> 32);
	case 1:
		return ground.size + (uint32_t)(r >> 32) % 64;
	case 2:
		return now + (uint32_t)(r >> 32) % 16;
	case 3:
		return now - 8;
	case 4:
		return (uint32_t)(r >> 32) % ground.size;
	case 5:
		return ground.size - 8;
	case 6:
		return 0;
	default:
		return (now + (uint32_t)(r >> 32) % 64 * 8) % ground.size;
	}
}

static uint64_t likely_descriptor(struct liar *l)
{
	const uint64_t r = next_random(&l->state), s = next_random(&l->state);
	const uint64_t type = r % 8 ? 6 + r % 6 : s % 16;
	const uint64_t offset8 = s % 7 ? (type == 6 || type > 9 ? 2 : 3 + s % 3) : s >> 8 & 0xffff;
	const uint64_t length8 = r >> 8 & 15 ? offset8 + (r >> 16) % 32 : r >> 32 & 0xffff;

	return type | offset8 << 16 | (length8 & 0xffff) << 32 | (r >> 63) << 48;
}

/* Packets as they should be, and the index behind them. */
static void lie_honestly(struct liar *l)
{
	uint32_t at = ground.ctl[CTL_IN], i;

	at = at < ground.size ? at / 8 * 8 : 0;
	for (i = 0; i < 8; i++) {
		const uint64_t r = next_random(&l->state);

		at = ground_packet(&ground, at, r % 3 ? VMBUS_PKT_INBAND : VMBUS_PKT_GPA_DIRECT,
				   r % 3 ? 0 : 24, (uint32_t)(r >> 8) % 16 * 8, (uint32_t)(r >> 63),
				   r);
	}
	ground.ctl[CTL_IN] = at;
}

/* Index lies are rare, or no end would live to see anything else. */
static bool lie_about_indices(struct liar *l, uint64_t r)
{
	if (r >> 48 & 63)
		return false;
	if (r >> 56 & 1)
		ground.ctl[CTL_IN] = likely_index(l, ground.ctl[CTL_IN]);
	else
		ground.ctl[CTL_OUT] = likely_index(l, ground.ctl[CTL_OUT]);
	return true;
}

static void lie_once(struct liar *l)
{
	static uint64_t replay[8];
	const uint64_t r = next_random(&l->state);
	const uint32_t at = (uint32_t)(r >> 16) % (ground.size / 8) * 8;

	switch (r % 32) {
	case 0:
	case 1:
		if (lie_about_indices(l, r))
			break;
		lie_honestly(l);
		break;
	case 2:
		ground.ctl[CTL_MASK] = (uint32_t)(r >> 40) & 1;
		break;
	case 3:
		ground.ctl[CTL_PENDING] = likely_index(l, 0);
		break;
	case 4:
		ground.ctl[CTL_FEATURES] = (uint32_t)(r >> 32);
		break;
	case 5: /* what was true a while ago */
		put_le(ground.data + at, replay[r >> 40 & 7], 8);
		replay[r >> 43 & 7] = get_le(ground.data + at, 8);
		break;
	case 6:
		put_le(ground.data + at, r, 8);
		break;
	case 7:
		lie_honestly(l);
		break;
	case 8:
	case 9: /* the read index of a receiver that has read all */
		ground.ctl[CTL_OUT] = ground.ctl[CTL_IN];
		break;
	case 10:
	case 11:
		put_le(ground.data + at, likely_descriptor(l), 8);
		break;
	default: /* the work of an honest peer goes on meanwhile */
		lie_honestly(l);
		break;
	}
}

static void *liar_main(void *arg)
{
	struct liar *l = arg;

	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		const uint64_t r = next_random(&l->state);
		uint32_t i;

		for (i = 0; i < (r & 255); i++)
			lie_once(l);
		if (r >> 60 == 0)
			(void)sched_yield();
	}
	return NULL;
}

static void liar_start(struct liar *l)
{
	l->stop = 0;
	MUST(pthread_create(&l->thread, NULL, liar_main, l) == 0);
}

static void liar_stop(struct liar *l)
{
	__atomic_store_n(&l->stop, 1, __ATOMIC_RELEASE);
	MUST(pthread_join(l->thread, NULL) == 0);
}

static void noted_signal(void *ctx)
{
	__atomic_fetch_add((unsigned *)ctx, 1, __ATOMIC_RELAXED);
}

/* ---- our ends ---- */

static bool rx_call(struct vmbus_ring_rx *rx, struct rx_bounds *b, bool in_place, uint64_t r)
{
	struct vmbus_packet pkt[BATCH];
	const uint32_t n = 1 + (uint32_t)(r >> 8) % BATCH;
	int ret, i;

	seen.calls++;
	if (r % 16 == 0)
		ret = vmbus_ring_rx_arm(rx);
	else if (r % 16 == 1)
		ret = vmbus_ring_rx_consume(rx);
	else {
		b->where = rx->next_p;
		ret = in_place ? vmbus_ring_rx_get_in_peer_memory(rx, pkt, n)
			       : vmbus_ring_rx_get(rx, pkt, n);
		MUST(ret <= (int)n);
		for (i = 0; i < ret; i++, seen.packets++)
			check_packet(b, &pkt[i]);
	}
	check_rx(rx);
	if (ret == 0 && seen.calls % 16 == 0)
		(void)sched_yield(); /* let it lie, on a machine that is busy */
	if (r % 16 == 0)
		vmbus_ring_rx_disarm(rx);
	MUST(ret >= 0 || ret == VMBUS_E_PEER);
	return ret != VMBUS_E_PEER;
}

/* One life of a receiver: until its fault, or the end of the slice. */
static void rx_life(struct vmbus_ring_mem *mem, bool in_place, uint64_t *state, uint64_t until)
{
	const uint32_t bytes = vmbus_ring_rx_buf_bytes(ground.size);
	unsigned signals = 0;
	uint8_t *buf = malloc(bytes);
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .signal = noted_signal,
					      .signal_ctx = &signals,
					      .buf = buf,
					      .buf_bytes = bytes };
	struct rx_bounds b = { buf, bytes, in_place ? mem : NULL, ground.size, 0 };
	struct vmbus_packet pkt;
	struct vmbus_ring_rx rx;
	bool sound;

	MUST(buf);
	sound = vmbus_ring_rx_init(&rx, mem, &opts) == 0;
	while (sound && now_ms() < until)
		sound = rx_call(&rx, &b, in_place, next_random(state));
	if (!sound) {
		const struct vmbus_fault first = *vmbus_ring_rx_fault(&rx);

		seen.faults++;
		check_fault(&first);
		MUST(vmbus_ring_rx_get(&rx, &pkt, 1) == VMBUS_E_FAULT);
		MUST(vmbus_ring_rx_get_in_peer_memory(&rx, &pkt, 1) == VMBUS_E_FAULT);
		MUST(vmbus_ring_rx_arm(&rx) == VMBUS_E_FAULT);
		MUST(vmbus_ring_rx_consume(&rx) == VMBUS_E_FAULT);
		MUST(memcmp(&first, vmbus_ring_rx_fault(&rx), sizeof(first)) == 0);
	}
	free(buf);
}

static void fill_messages(struct vmbus_msg *msg, uint32_t n, uint64_t r)
{
	static const uint8_t payload[2048];
	static const uint8_t ext[16];
	uint32_t i;

	memset(msg, 0, n * sizeof(*msg));
	for (i = 0; i < n; i++, r = r * 5 + 1) {
		msg[i].data = payload;
		msg[i].len = (uint32_t)(r >> 8) % (r >> 60 ? 200 : 2048);
		msg[i].id = r;
		msg[i].type = r >> 30 & 1 ? VMBUS_PKT_GPA_DIRECT : VMBUS_PKT_INBAND;
		msg[i].ext = ext;
		msg[i].ext_len = r >> 30 & 1 ? sizeof(ext) : 0;
	}
}

static int tx_build(struct vmbus_ring_tx *tx, struct vmbus_ring_mem *mem, uint64_t r)
{
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .len = (uint32_t)(r >> 8) % 3000 };
	struct vmbus_span span[4];
	int ret, i;

	ret = vmbus_ring_tx_reserve(tx, &msg, span, 4);
	for (i = 0; i < ret; i++) {
		MUST(in_window(mem, span[i].base, span[i].len));
		memset(span[i].base, 0x77, span[i].len);
	}
	if (ret >= 0 && r >> 62 == 0)
		vmbus_ring_tx_abort(tx);
	else if (ret >= 0)
		MUST(vmbus_ring_tx_commit(tx) == 1);
	return ret;
}

static void tx_life(struct vmbus_ring_mem *mem, uint64_t *state, uint64_t until)
{
	unsigned signals = 0;
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .signal = noted_signal,
					      .signal_ctx = &signals };
	struct vmbus_msg msg[BATCH];
	struct vmbus_ring_tx tx;
	int ret = vmbus_ring_tx_init(&tx, mem, &opts);

	MUST(ret == 0 || ret == VMBUS_E_PEER);
	while (ret != VMBUS_E_PEER && now_ms() < until) {
		const uint64_t r = next_random(state);

		seen.calls++;
		if (r % 8 == 0) {
			ret = vmbus_ring_tx_arm(&tx, 8 + (uint32_t)(r >> 8) % 400 * 8);
			vmbus_ring_tx_disarm(&tx);
		} else if (r % 8 == 1) {
			ret = tx_build(&tx, mem, r);
		} else {
			fill_messages(msg, BATCH, r);
			ret = vmbus_ring_tx_put(&tx, msg, 1 + (uint32_t)(r >> 20) % BATCH);
			seen.packets += ret > 0 ? (unsigned)ret : 0;
		}
		MUST(ret >= 0 || ret == VMBUS_E_FULL || ret == VMBUS_E_PEER);
		check_tx(&tx);
		if (ret == VMBUS_E_FULL)
			(void)sched_yield();
	}
	if (ret == VMBUS_E_PEER) {
		seen.faults++;
		MUST(vmbus_ring_tx_put(&tx, msg, 1) == VMBUS_E_FAULT);
		MUST(vmbus_ring_tx_arm(&tx, 8) == VMBUS_E_FAULT);
		MUST(vmbus_ring_tx_commit(&tx) == VMBUS_E_FAULT);
	}
}

struct producer {
	pthread_t thread;
	struct vmbus_ring_mtx *mtx;
	uint64_t state, until;
	unsigned long packets;
	bool arms, first; /* saw the fault first */
};

static void *producer_main(void *arg)
{
	struct producer *p = arg;
	struct vmbus_msg msg[BATCH];

	while (now_ms() < p->until) {
		const uint64_t r = next_random(&p->state);
		int ret;

		if (p->arms && r % 8 == 0) {
			ret = vmbus_ring_mtx_arm(p->mtx, 8 + (uint32_t)(r >> 8) % 400 * 8);
			vmbus_ring_mtx_disarm(p->mtx);
		} else {
			fill_messages(msg, BATCH, r);
			ret = vmbus_ring_mtx_put(p->mtx, msg, 1 + (uint32_t)(r >> 20) % BATCH);
			p->packets += ret > 0 ? (unsigned)ret : 0;
		}
		p->first = ret == VMBUS_E_PEER;
		if (ret == VMBUS_E_PEER || ret == VMBUS_E_FAULT)
			break;
		MUST(ret >= 0 || ret == VMBUS_E_FULL);
		if (ret <= 0)
			(void)sched_yield();
	}
	return NULL;
}

static void mtx_life(struct vmbus_ring_mem *mem, uint64_t *state, uint64_t until)
{
	unsigned signals = 0, firsts = 0, i;
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .signal = noted_signal,
					      .signal_ctx = &signals };
	struct vmbus_ring_mtx *mtx = aligned_alloc(64, (sizeof(*mtx) + 63) / 64 * 64);
	struct vmbus_ring_mtx_slot slots[8];
	struct producer p[PRODUCERS] = { 0 };
	struct vmbus_ring_stats stats;
	struct vmbus_fault fault;
	unsigned long packets = 0;

	MUST(mtx);
	if (vmbus_ring_mtx_init(mtx, mem, &opts, slots, 8) == 0) {
		for (i = 0; i < PRODUCERS; i++) {
			p[i].mtx = mtx;
			p[i].state = next_random(state);
			p[i].until = until;
			p[i].arms = i == 0;
			MUST(pthread_create(&p[i].thread, NULL, producer_main, &p[i]) == 0);
		}
		for (i = 0; i < PRODUCERS; i++) {
			MUST(pthread_join(p[i].thread, NULL) == 0);
			firsts += p[i].first;
			packets += p[i].packets;
		}
		vmbus_ring_mtx_stats(mtx, &stats);
		/* Nothing is left behind: whoever finished last published all. */
		MUST(stats.packets == packets && mtx->head_p == mtx->tail_p && mtx->turn_p == 0);
		MUST(firsts == stats.faults);
		seen.packets += packets;
		seen.calls += packets;
	}
	vmbus_ring_mtx_fault(mtx, &fault);
	check_fault(&fault);
	seen.faults += fault.field != VMBUS_FAULT_NONE;
	free(mtx);
}

/* Lives one after the other against one liar; the ring is cleaned for each. */
static void slice(enum end end, bool child, uint64_t *state)
{
	const uint64_t first = now_ms(), most = first + slice_ms + PATIENCE_MS;
	struct liar liar = { .state = next_random(state) };
	uint64_t until;

	ground_reset(&ground, 0);
	liar_start(&liar);
	do { /* it lies on while the ring is cleaned: nothing may depend on that */
		ground_reset(&ground, child ? 0 : (uint32_t)next_random(state) % 512 * 8);
		if (child)
			vmbus_ring_mem_clear(&ground.ours.mem);
		until = now_ms() + slice_ms;
		if (end == TX)
			tx_life(&ground.ours.mem, state, until);
		else if (end == MTX)
			mtx_life(&ground.ours.mem, state, until);
		else
			rx_life(&ground.ours.mem, end == RX_IN_PLACE, state, until);
	} while (now_ms() < first + slice_ms ||
		 ((seen.faults == 0 || seen.packets == 0) && now_ms() < most));
	liar_stop(&liar);
}

static void run_end(enum end end)
{
	uint64_t state = seed + (uint64_t)end;
	int window, child;

	memset(&seen, 0, sizeof(seen));
	for (window = VMBUS_RING_PLAIN; window <= VMBUS_RING_SCATTERED; window++)
		for (child = 0; child < 2; child++) {
			(void)snprintf(checks_context, sizeof(checks_context),
				       "%s, %s, %s, VMBUS_HOSTILE_SEED=%llu", window_names[window],
				       end_names[end], child ? "child" : "parent",
				       (unsigned long long)seed);
			ground_open(&ground, (enum vmbus_ring_window)window,
				    window == VMBUS_RING_PLAIN ? 4096 : 65536);
			slice(end, child != 0, &state);
			ground_close(&ground);
		}
	printf("liar: %s: %lu calls, %lu packets, %lu faults, seed %llu\n", end_names[end],
	       seen.calls, seen.packets, seen.faults, (unsigned long long)seed);
	fflush(stdout);
	MUST(seen.packets > 0 && seen.faults > 0);
}

START_TEST(lesson_10_reader_survives_a_liar)
{
	run_end(RX_COPY);
}
END_TEST

START_TEST(lesson_10_reader_in_place_survives_a_liar)
{
	run_end(RX_IN_PLACE);
}
END_TEST

START_TEST(lesson_10_writer_survives_a_liar)
{
	run_end(TX);
}
END_TEST

START_TEST(lesson_10_writer_of_many_survives_a_liar)
{
	run_end(MTX);
}
END_TEST

static void tests(Suite *suite)
{
	const uint64_t ms = env_number("VMBUS_HOSTILE_MS", 3000);
	TCase *tc = vmbus_test_case(suite, "liar", 10 + (int)(ms / 10000));

	slice_ms = (uint32_t)(ms / SLICES + 1);
	seed = env_number("VMBUS_HOSTILE_SEED", now_ms());
	tcase_add_test(tc, lesson_10_reader_survives_a_liar);
	tcase_add_test(tc, lesson_10_reader_in_place_survives_a_liar);
	tcase_add_test(tc, lesson_10_writer_survives_a_liar);
	tcase_add_test(tc, lesson_10_writer_of_many_survives_a_liar);
}
VMBUS_TEST_MAIN("hostile.liar", tests)

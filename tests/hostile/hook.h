/* SPDX-License-Identifier: MIT */
/*
 * A peer that changes any word between any two of our reads, tried systematically.
 *
 * A session is a fixed script of calls on one end.  It runs once undisturbed, which counts its
 * loads of the peer's memory, then once for each load, each word and each hostile value: before
 * that load the peer writes that value to that word (once, or again and again, or in small steps).
 * After every call the end must be in one of the states that the header allows; loads are counted,
 * so that nothing spins and no word is fetched twice for one decision.
 *
 * Both ends of a ring are tried, each once as the child that clears the ring and once as the parent
 * that finds indices in it: neither trusts the other.
 *
 * A program that includes this defines script(), which runs the session of a kind.
 */
#ifndef VMBUS_TESTS_HOSTILE_HOOK_H
#define VMBUS_TESTS_HOSTILE_HOOK_H

#include "vmbus_test.h"

#include "hostile/ground.h"

#define SIZE 4096u
#define START 3800u /* where the parent finds the ring: packets go round the end */
#define ID 0x1122334455667788u

enum role {
	CHILD,
	PARENT
};
enum mode {
	ONCE,
	FLIP,
	CREEP,
	MODES
};

/* What the peer does, and at which of our loads. */
static struct {
	uint32_t at;	/* the load, from 0 */
	uint32_t place; /* byte in control page and data */
	uint32_t bytes; /* of the word */
	uint64_t value;
	enum mode mode;
	bool on;
} plan;

static struct {
	uint32_t all;				      /* in the session */
	uint32_t in, out, mask, pending, other, data; /* in this call */
	uint8_t qword[SIZE / 8];		      /* in this call */
} loads;

static struct ground ground;
static uint8_t data_before[SIZE];
static uint32_t ctl_expected[CTL_WORDS];
static bool in_is_forged, sender;
static unsigned long sessions;

/* The peer writes one word, and the test knows it. */
static inline void forge(uint32_t place, uint64_t value, uint32_t bytes)
{
	if (place >= VMBUS_PAGE_BYTES) {
		put_le(&ground.data[place - VMBUS_PAGE_BYTES], value, bytes);
		put_le(&data_before[place - VMBUS_PAGE_BYTES], value, bytes);
		return;
	}
	ground.ctl[place / 4] = (uint32_t)value;
	ctl_expected[place / 4] = (uint32_t)value;
	if (place / 4 == CTL_IN)
		in_is_forged = true;
}

static inline void strike(void)
{
	static uint64_t kept;
	static bool turn;

	if (loads.all == plan.at) {
		kept = plan.place < VMBUS_PAGE_BYTES
			       ? ground.ctl[plan.place / 4]
			       : get_le(&ground.data[plan.place - VMBUS_PAGE_BYTES], plan.bytes);
		turn = false;
	}
	if (plan.mode == ONCE && loads.all == plan.at)
		forge(plan.place, plan.value, plan.bytes);
	if (plan.mode == FLIP && loads.all >= plan.at) {
		forge(plan.place, turn ? kept : plan.value, plan.bytes);
		turn = !turn;
	}
	if (plan.mode == CREEP && loads.all >= plan.at) {
		kept += plan.value;
		forge(plan.place, plan.place < VMBUS_PAGE_BYTES ? kept % SIZE : kept, plan.bytes);
	}
}

static inline void hook(const volatile void *p)
{
	uint32_t place;

	if (!ground_has(&ground, p, &place))
		return; /* a word that our own threads share */
	if (plan.on)
		strike();
	loads.all++;
	if (place >= VMBUS_PAGE_BYTES) {
		loads.data++;
		loads.qword[(place - VMBUS_PAGE_BYTES) / 8]++;
		return;
	}
	switch (place / 4) {
	case CTL_IN:
		loads.in++;
		break;
	case CTL_OUT:
		loads.out++;
		break;
	case CTL_MASK:
		loads.mask++;
		break;
	case CTL_PENDING:
		loads.pending++;
		break;
	default:
		loads.other++;
		break;
	}
}

/* What a call may load at most; a word past the first time is a decision of its own. */
struct most {
	uint32_t in, out, mask, pending, data, qword;
};

static inline void call_begin(void)
{
	const uint32_t all = loads.all;

	memset(&loads, 0, sizeof(loads));
	loads.all = all;
	memcpy(data_before, ground.data, SIZE);
}

static inline void call_end(const struct most *most)
{
	uint32_t i;

	MUST(loads.in <= most->in && loads.out <= most->out && loads.mask <= most->mask);
	MUST(loads.pending <= most->pending && loads.data <= most->data && loads.other == 0);
	for (i = 0; i < SIZE / 8; i++)
		MUST(loads.qword[i] <= most->qword);
	/* Words that are not ours to store are as the peer left them. */
	for (i = 0; i < CTL_WORDS; i++) {
		const bool ours = sender ? i == CTL_IN || i == CTL_PENDING || i == CTL_FEATURES
					 : i == CTL_OUT || i == CTL_MASK;

		MUST(ours || ground.ctl[i] == ctl_expected[i]);
	}
	if (!sender)
		MUST(memcmp(data_before, ground.data, SIZE) == 0);
}

static inline void noted_signal(void *ctx)
{
	++*(unsigned *)ctx;
}

/* Set the ring up as it is before the end under test is. */
static inline void session_begin(enum role role)
{
	sessions++;
	ground_reset(&ground, role == PARENT ? START : 0);
	if (role == CHILD) {
		ground.ctl[CTL_IN] = 0xdeadbeef; /* the clearing must not depend on it */
		vmbus_ring_mem_clear(&ground.ours.mem);
	}
	memcpy(ctl_expected, (const void *)(uintptr_t)ground.ctl, sizeof(ctl_expected));
	memset(&loads, 0, sizeof(loads));
	in_is_forged = false;
}

/* ---- every load, every word, every value ---- */

enum kind {
	RX_COPY,
	RX_IN_PLACE,
	TX,
	MTX,
	KINDS
};

static const char *const kind_names[] = { "rx copy", "rx in place", "tx", "mtx" };

/* What a program tries of an end: its script of calls. */
static void script(enum kind kind, enum role role);

static inline void session(enum kind kind, enum role role)
{
	(void)snprintf(checks_context, sizeof(checks_context),
		       "%s, %s, %s: load %u, place %u, value 0x%llx, mode %d",
		       window_names[ground.window], kind_names[kind],
		       role == CHILD ? "child" : "parent", plan.on ? plan.at : 0, plan.place,
		       (unsigned long long)plan.value, (int)plan.mode);
	script(kind, role);
}

/* clang-format off */
static const uint64_t ctl_values[] = {
	0, 1, 3, 7, 8, 16, 24, 64, 104,
	START - 8, START, START + 8, START + 24,
	SIZE - 24, SIZE - 16, SIZE - 8, SIZE - 1, SIZE, SIZE + 8,
	0x7ffffff8, 0x80000000, 0xfffffff8, 0xffffffff,
};
/* clang-format on */

#define DESC(type, offset8, length8, flags)                                                        \
	((uint64_t)(type) | (uint64_t)(offset8) << 16 | (uint64_t)(length8) << 32 |                \
	 (uint64_t)(flags) << 48)

static const uint64_t data_values[] = {
	0,
	UINT64_MAX,
	DESC(6, 2, 2, 0),
	DESC(6, 2, 1, 0),
	DESC(6, 2, 0, 0),
	DESC(6, 2, 65535, 0),
	DESC(6, 0, 7, 0),
	DESC(6, 1, 7, 0),
	DESC(6, 3, 2, 0),
	DESC(6, 8, 7, 1),
	DESC(6, 7, 7, 1),
	DESC(6, 2, 8, 0),
	DESC(6, 2, 510, 0),
	DESC(6, 2, 511, 0),
	DESC(6, 2, 512, 0),
	DESC(6, 2, 7, 2),
	DESC(6, 2, 7, 0x8000),
	DESC(0, 2, 7, 0),
	DESC(14, 2, 7, 0),
	DESC(65535, 2, 7, 0),
	DESC(9, 2, 7, 1),
	DESC(9, 5, 7, 1),
	DESC(7, 2, 3, 0),
	DESC(13, 3, 4, 0),
	DESC(13, 4, 3, 0),
	DESC(6, 65535, 65535, 0),
	0xffffffff00000000,
	0x0000000100000000,
};

/* One word and its values, at every load of the session. */
static inline void sweep(enum kind kind, enum role role, uint32_t all, uint32_t place)
{
	const bool in_ctl = place < VMBUS_PAGE_BYTES;
	const uint64_t *values = in_ctl ? ctl_values : data_values;
	const size_t count = in_ctl ? sizeof(ctl_values) / sizeof(ctl_values[0])
				    : sizeof(data_values) / sizeof(data_values[0]);
	size_t v;

	plan.on = true;
	plan.place = place;
	plan.bytes = in_ctl ? 4 : 8;
	for (plan.at = 0; plan.at < all; plan.at++) {
		for (v = 0; v < count; v++) {
			plan.value = values[v];
			plan.mode = ONCE;
			session(kind, role);
			plan.mode = FLIP;
			session(kind, role);
		}
		plan.value = 8;
		plan.mode = CREEP;
		session(kind, role);
		plan.value = (uint64_t)1 << 32;
		session(kind, role);
	}
	plan.on = false;
}

/* Words of data worth changing: descriptors, ids, headers, of the packets that come first. */
static inline void sweep_data(enum kind kind, enum role role, uint32_t all)
{
	const uint32_t from = role == PARENT ? START : 0;
	/* In-band: 64 ring bytes; GPA direct: 64; completion: 24; transfer pages: 48; in-band. */
	static const uint32_t qwords[] = { 0,	8,   64,  72,  80,  88,	 96, 128,
					   152, 160, 168, 176, 200, 832, 848 };
	size_t i;

	for (i = 0; i < sizeof(qwords) / sizeof(qwords[0]); i++)
		sweep(kind, role, all, VMBUS_PAGE_BYTES + (from + qwords[i]) % SIZE);
}

static inline void run_all(enum kind kind)
{
	static const uint32_t words[] = { CTL_IN, CTL_OUT, CTL_MASK, CTL_PENDING, CTL_FEATURES };
	int window, role;
	size_t i;

	sessions = 0;
	vmbus__test_hook = hook;
	for (window = VMBUS_RING_PLAIN; window <= VMBUS_RING_SCATTERED; window++) {
		ground_open(&ground, (enum vmbus_ring_window)window, SIZE);
		for (role = CHILD; role <= PARENT; role++) {
			uint32_t all;

			session(kind, (enum role)role);
			all = loads.all;
			MUST(all > 8);
			for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
				sweep(kind, (enum role)role, all, words[i] * 4);
			if (kind == RX_COPY || kind == RX_IN_PLACE)
				sweep_data(kind, (enum role)role, all);
		}
		ground_close(&ground);
	}
	vmbus__test_hook = NULL;
	printf("hook: %s: %lu sessions\n", kind_names[kind], sessions);
}

#endif

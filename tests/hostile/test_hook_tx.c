/* SPDX-License-Identifier: MIT */
/*
 * The senders, of one thread and of many, under a peer that changes any word between any two of
 * their loads.  The sweep itself is in hook.h.
 */
#define _GNU_SOURCE
#include "hostile/hook.h"

struct writer {
	union {
		struct vmbus_ring_tx tx;
		struct vmbus_ring_mtx mtx;
	} u;
	bool many;
	bool broken;
	uint32_t out, in; /* when the call began */
	unsigned signals;
	struct vmbus_ring_mtx_slot slots[4];
};

static struct writer *new_writer(bool many)
{
	struct writer *w = aligned_alloc(64, (sizeof(*w) + 63) / 64 * 64);

	MUST(w);
	memset(w, 0, sizeof(*w));
	w->many = many;
	return w;
}

static struct vmbus_fault writer_fault(const struct writer *w)
{
	struct vmbus_fault f;

	if (w->many)
		vmbus_ring_mtx_fault(&w->u.mtx, &f);
	else
		f = *vmbus_ring_tx_fault(&w->u.tx);
	return f;
}

static uint32_t writer_next(const struct writer *w)
{
	return w->many ? (uint32_t)w->u.mtx.head_p : w->u.tx.next_p;
}

static uint32_t writer_out(const struct writer *w)
{
	return w->many ? (uint32_t)w->u.mtx.out_p : w->u.tx.out_p;
}

static uint32_t writer_tail(const struct writer *w)
{
	return w->many ? (uint32_t)w->u.mtx.tail_p : w->u.tx.committed_p;
}

static void writer_begin(struct writer *w)
{
	w->out = writer_out(w);
	w->in = writer_tail(w);
	call_begin();
}

/* Bytes outside of what was free between the cursors are as they were. */
static void writer_wrote(const struct writer *w, uint32_t first)
{
	const uint32_t room = (writer_out(w) + SIZE - 8 - first) % SIZE;
	uint32_t i;

	for (i = 0; i < SIZE; i++)
		if (data_before[i] != ground.data[i])
			MUST((i + SIZE - first) % SIZE < room);
}

static void writer_after(struct writer *w, int ret, const struct most *most, uint32_t first)
{
	static const struct most none = { 0, 0, 0, 0, 0, 0 };
	const struct vmbus_fault f = writer_fault(w);
	struct vmbus_ring_stats stats;

	call_end(w->broken ? &none : most);
	check_fault(&f);
	writer_wrote(w, first);
	/* A read index that was believed lies between the last one and what was published. */
	MUST((w->in + SIZE - writer_out(w)) % SIZE <= (w->in + SIZE - w->out) % SIZE);
	if (w->broken)
		MUST(ret == VMBUS_E_FAULT);
	else
		MUST(ret != VMBUS_E_FAULT);
	if (ret == VMBUS_E_PEER)
		w->broken = true;
	MUST(w->broken == (f.field != VMBUS_FAULT_NONE));
	if (w->many) {
		vmbus_ring_mtx_stats(&w->u.mtx, &stats);
		check_stats(&stats, w->broken);
		MUST(w->u.mtx.turn_p == 0);
		MUST(w->broken || in_is_forged || ground.ctl[CTL_IN] == (uint32_t)w->u.mtx.tail_p);
	} else {
		check_tx(&w->u.tx);
		MUST(w->broken || in_is_forged || ground.ctl[CTL_IN] == w->u.tx.committed_p);
	}
}

/* The read index for room and for the signal, the mask once, also from a peer that moves on. */
static const struct most writer_most = { 0, 2, 1, 0, 0, 0 };

static int writer_put(struct writer *w, uint32_t len, uint32_t n)
{
	static const uint8_t payload[SIZE];
	static const uint8_t ext[16] = { 0, 0, 0, 0, 1, 0, 0, 0, 8 };
	const uint32_t first = writer_next(w);
	struct vmbus_msg msg[4] = { 0 };
	uint32_t i;
	int ret;

	for (i = 0; i < n; i++) {
		msg[i].data = payload;
		msg[i].len = len;
		msg[i].id = ID;
		msg[i].type = i == 1 ? VMBUS_PKT_XFER_PAGES : VMBUS_PKT_INBAND;
		msg[i].ext = ext;
		msg[i].ext_len = i == 1 ? sizeof(ext) : 0;
	}
	writer_begin(w);
	ret = w->many ? vmbus_ring_mtx_put(&w->u.mtx, msg, n) : vmbus_ring_tx_put(&w->u.tx, msg, n);
	writer_after(w, ret, &writer_most, first);
	MUST((ret > 0 && ret <= (int)n) || ret == VMBUS_E_FULL || ret == VMBUS_E_PEER ||
	     ret == VMBUS_E_FAULT);
	return ret;
}

static void writer_arm(struct writer *w, uint32_t need)
{
	const struct most most = { 0, w->many ? 4 : 1, 0, 0, 0, 0 };
	int ret;

	writer_begin(w);
	ret = w->many ? vmbus_ring_mtx_arm(&w->u.mtx, need) : vmbus_ring_tx_arm(&w->u.tx, need);
	writer_after(w, ret, &most, writer_next(w));
	MUST(ret == VMBUS_RING_SLEEP || ret == VMBUS_RING_READY || ret == VMBUS_E_PEER ||
	     ret == VMBUS_E_FAULT);
	MUST(ret == VMBUS_RING_SLEEP || ground.ctl[CTL_PENDING] == 0 || plan.on);
}

static void writer_disarm(struct writer *w)
{
	if (w->many)
		vmbus_ring_mtx_disarm(&w->u.mtx);
	else
		vmbus_ring_tx_disarm(&w->u.tx);
}

/* Fill in place; the pieces must lie in the window and sum to the length. */
static void writer_reserve(struct writer *w, uint32_t len)
{
	const struct vmbus_msg msg = { .id = ID, .len = len, .type = VMBUS_PKT_INBAND };
	const struct most most = { 0, 1, 0, 0, 0, 0 };
	const uint32_t first = writer_next(w);
	struct vmbus_span span[3];
	uint32_t sum = 0;
	int ret, i;

	if (w->many)
		return;
	writer_begin(w);
	ret = vmbus_ring_tx_reserve(&w->u.tx, &msg, span, 3);
	for (i = 0; i < ret; i++) {
		MUST(in_window(&ground.ours.mem, span[i].base, span[i].len));
		memset(span[i].base, 0x77, span[i].len);
		sum += (uint32_t)span[i].len;
	}
	writer_after(w, ret, &most, first);
	MUST(ret < 0 || sum == len);
	MUST(ret >= 0 || ret == VMBUS_E_FULL || ret == VMBUS_E_PEER || ret == VMBUS_E_FAULT);
}

static void writer_commit(struct writer *w)
{
	const struct most most = { 0, 1, 1, 0, 0, 0 };
	int ret;

	if (w->many)
		return;
	writer_begin(w);
	ret = vmbus_ring_tx_commit(&w->u.tx);
	writer_after(w, ret, &most, w->u.tx.committed_p);
	MUST(ret >= 0 || ret == VMBUS_E_FAULT);
}

/* The peer reads on, as if nothing were wrong: bytes more of what was published. */
static void writer_peer_reads(const struct writer *w, uint32_t bytes)
{
	const uint32_t tail = writer_tail(w);
	const uint32_t unread = (tail + SIZE - writer_out(w)) % SIZE;

	forge(CTL_OUT * 4, (writer_out(w) + (bytes < unread ? bytes : unread)) % SIZE, 4);
}

static void writer_session(enum role role, bool many)
{
	struct writer *w = new_writer(many);
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = noted_signal,
					.signal_ctx = &w->signals };
	const struct most most = { 1, 1, 0, 0, 0, 0 };
	int ret;

	session_begin(role);
	sender = true;
	call_begin();
	w->in = role == PARENT ? START : 0;
	w->out = w->in + 8; /* any index will do */
	ret = many ? vmbus_ring_mtx_init(&w->u.mtx, &ground.ours.mem, &opts, w->slots, 4)
		   : vmbus_ring_tx_init(&w->u.tx, &ground.ours.mem, &opts);
	writer_after(w, ret, &most, 0);
	writer_put(w, 24, 3);
	writer_reserve(w, 100);
	writer_reserve(w, 300);
	writer_commit(w);
	forge(CTL_MASK * 4, 1, 4);
	writer_peer_reads(w, 64);
	writer_put(w, 1200, 4);
	writer_put(w, 1200, 4);
	writer_arm(w, 2000);
	writer_peer_reads(w, 3000);
	writer_disarm(w);
	forge(CTL_MASK * 4, 0, 4);
	writer_put(w, 1100, 1);
	writer_reserve(w, 800);
	if (!many)
		vmbus_ring_tx_abort(&w->u.tx);
	writer_put(w, 9, 2);
	writer_peer_reads(w, SIZE);
	writer_put(w, 3000, 1);
	writer_arm(w, 4000);
	writer_disarm(w);
	MUST(w->signals <= 8);
	sender = false;
	free(w);
}

static void script(enum kind kind, enum role role)
{
	writer_session(role, kind == MTX);
}

START_TEST(lesson_10_writer_survives_changes_between_any_two_loads)
{
	run_all(TX);
}
END_TEST

START_TEST(lesson_10_writer_of_many_survives_changes_between_any_two_loads)
{
	run_all(MTX);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "hook_tx", 28);

	tcase_add_test(tc, lesson_10_writer_survives_changes_between_any_two_loads);
	tcase_add_test(tc, lesson_10_writer_of_many_survives_changes_between_any_two_loads);
}
VMBUS_TEST_MAIN("hostile.hook_tx", tests)

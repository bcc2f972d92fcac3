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
 */
#define _GNU_SOURCE
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
static void forge(uint32_t place, uint64_t value, uint32_t bytes)
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

static void strike(void)
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

static void hook(const volatile void *p)
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

static void call_begin(void)
{
	const uint32_t all = loads.all;

	memset(&loads, 0, sizeof(loads));
	loads.all = all;
	memcpy(data_before, ground.data, SIZE);
}

static void call_end(const struct most *most)
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

static void noted_signal(void *ctx)
{
	++*(unsigned *)ctx;
}

/* Set the ring up as it is before the end under test is. */
static void session_begin(enum role role)
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

/* ---- the receiver ---- */

struct receiver {
	struct vmbus_ring_rx rx;
	uint8_t *buf;
	uint32_t buf_bytes;
	bool in_place;
	bool broken;
	struct vmbus_fault first;
	unsigned signals;
	uint32_t in; /* what an honest peer would have published */
};

static const struct most rx_idle = { 0, 0, 0, 0, 0, 0 };
static const struct most rx_most_consume = { 1, 0, 0, 1, 0, 0 };
static const struct most rx_most_arm = { 2, 0, 0, 1, 0, 0 };

/* After any call: sound, or broken in the one way and for ever. */
static void rx_after(struct receiver *r, int ret, const struct most *most)
{
	call_end(r->broken ? &rx_idle : most);
	check_rx(&r->rx);
	if (r->broken) {
		MUST(ret == VMBUS_E_FAULT);
		MUST(memcmp(&r->first, vmbus_ring_rx_fault(&r->rx), sizeof(r->first)) == 0);
	}
	MUST(r->broken || ret != VMBUS_E_FAULT);
	if (ret == VMBUS_E_PEER) {
		r->broken = true;
		r->first = *vmbus_ring_rx_fault(&r->rx);
	}
	MUST(r->broken == (vmbus_ring_rx_fault(&r->rx)->field != VMBUS_FAULT_NONE));
	MUST(r->buf[r->buf_bytes] == 0xa5);
}

static void rx_set_buf(struct receiver *r, uint32_t bytes)
{
	free(r->buf);
	r->buf = malloc(bytes + 1u);
	MUST(r->buf);
	memset(r->buf, 0xa5, bytes + 1u);
	r->buf_bytes = bytes;
}

static void rx_get(struct receiver *r, uint32_t n)
{
	/*
	 * Write index: by the look for packets, and by each of two publications that meet a waiting
	 * sender.  Data: one copy, two where it goes round, and again for what the first one cut;
	 * in place, a descriptor, an id, and up to four pieces a packet.
	 */
	const struct most most = { 3, 0, 0, 3, r->in_place ? 6 * n : 6, 1 };
	struct rx_bounds b = { r->buf, r->buf_bytes, r->in_place ? &ground.ours.mem : NULL, SIZE,
			       r->rx.next_p };
	struct vmbus_packet pkt[16];
	int ret, i;

	call_begin();
	ret = r->in_place ? vmbus_ring_rx_get_in_peer_memory(&r->rx, pkt, n)
			  : vmbus_ring_rx_get(&r->rx, pkt, n);
	rx_after(r, ret, &most);
	MUST(ret <= (int)n);
	for (i = 0; i < ret; i++)
		check_packet(&b, &pkt[i]);
	if (ret >= 0)
		MUST(b.where == r->rx.next_p);
	if (ret == VMBUS_E_RANGE) { /* only a buffer that is too small for the ring */
		MUST(r->buf_bytes < vmbus_ring_rx_buf_bytes(SIZE));
		MUST(vmbus_ring_rx_need(&r->rx) <= vmbus_ring_rx_buf_bytes(SIZE));
		rx_set_buf(r, vmbus_ring_rx_buf_bytes(SIZE));
		MUST(vmbus_ring_rx_set_buf(&r->rx, r->buf, r->buf_bytes) == 0);
		return;
	}
	MUST(ret >= 0 || ret == VMBUS_E_PEER || ret == VMBUS_E_FAULT);
}

static void rx_arm(struct receiver *r)
{
	int ret;

	call_begin();
	ret = vmbus_ring_rx_arm(&r->rx);
	rx_after(r, ret, &rx_most_arm);
	MUST(ret == VMBUS_RING_SLEEP || ret == VMBUS_RING_READY || ret == VMBUS_E_PEER ||
	     ret == VMBUS_E_FAULT);
}

static void rx_consume(struct receiver *r)
{
	int ret;

	call_begin();
	ret = vmbus_ring_rx_consume(&r->rx);
	rx_after(r, ret, &rx_most_consume);
	MUST(ret == 0 || ret == VMBUS_E_PEER || ret == VMBUS_E_FAULT);
}

/* Between calls the peer goes on as if nothing were wrong. */
static void rx_peer_publishes(struct receiver *r, uint32_t in)
{
	r->in = in;
	forge(CTL_IN * 4, in, 4);
}

static uint32_t write_stream(uint32_t at, uint32_t part)
{
	static const uint8_t gpa[24] = { 0, 0, 0, 0, 1, 0, 0, 0,    100,
					 0, 0, 0, 5, 0, 0, 0, 0x34, 0x12 };
	static const uint8_t xfer[16] = { 0xfe, 0xca, 0, 0, 1, 0, 0, 0, 64 };

	if (part == 0) {
		at = ground_packet(&ground, at, VMBUS_PKT_INBAND, 0, 40, 1, ID);
		ground_write(&ground, at + 16, gpa, sizeof(gpa));
		at = ground_packet(&ground, at, VMBUS_PKT_GPA_DIRECT, 24, 16, 1, ID);
		at = ground_packet(&ground, at, VMBUS_PKT_COMPLETION, 0, 0, 0, ID);
		ground_write(&ground, at + 16, xfer, sizeof(xfer));
		return ground_packet(&ground, at, VMBUS_PKT_XFER_PAGES, 16, 8, 0, ID);
	}
	at = ground_packet(&ground, at, VMBUS_PKT_INBAND, 0, 608, 0, ID);
	at = ground_packet(&ground, at, VMBUS_PKT_ADDITIONAL_DATA, 16, 0, 0, ID);
	return ground_packet(&ground, at, VMBUS_PKT_INBAND, 0, 8, 0, ID);
}

static void rx_session(enum role role, bool in_place, uint32_t buf_bytes)
{
	struct receiver r = { .in_place = in_place };
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = noted_signal,
					.signal_ctx = &r.signals };
	uint32_t second;
	int ret;

	session_begin(role);
	rx_set_buf(&r, buf_bytes);
	opts.buf = r.buf;
	opts.buf_bytes = r.buf_bytes;
	r.in = role == PARENT ? START : 0;
	second = write_stream(r.in, 0);
	rx_peer_publishes(&r, second);
	call_begin();
	ret = vmbus_ring_rx_init(&r.rx, &ground.ours.mem, &opts);
	rx_after(&r, ret, &(const struct most){ 1, 1, 0, 0, 0, 0 });
	rx_get(&r, 2);
	rx_get(&r, 1);
	rx_consume(&r);
	rx_arm(&r);
	rx_get(&r, 8);
	forge(CTL_PENDING * 4, SIZE - 64, 4);
	rx_peer_publishes(&r, write_stream(second, 1));
	rx_arm(&r);
	vmbus_ring_rx_disarm(&r.rx);
	rx_get(&r, 2);
	if (!r.broken)
		MUST(vmbus_ring_rx_set_buf(&r.rx, r.buf, r.buf_bytes) == 0);
	rx_get(&r, 8);
	forge(CTL_PENDING * 4, 4000, 4);
	rx_get(&r, 8);
	r.in_place = !in_place; /* the other reader goes on where this one was */
	rx_peer_publishes(&r, write_stream(r.in, 0));
	rx_get(&r, 3);
	r.in_place = in_place;
	rx_get(&r, 8);
	rx_consume(&r);
	rx_arm(&r);
	vmbus_ring_rx_disarm(&r.rx);
	MUST(r.signals <= 8);
	free(r.buf);
}

/* ---- the senders ---- */

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

/* ---- every load, every word, every value ---- */

enum kind {
	RX_COPY,
	RX_IN_PLACE,
	TX,
	MTX,
	KINDS
};

static const char *const kind_names[] = { "rx copy", "rx in place", "tx", "mtx" };

static void session(enum kind kind, enum role role)
{
	(void)snprintf(checks_context, sizeof(checks_context),
		       "%s, %s, %s: load %u, place %u, value 0x%llx, mode %d",
		       window_names[ground.window], kind_names[kind],
		       role == CHILD ? "child" : "parent", plan.on ? plan.at : 0, plan.place,
		       (unsigned long long)plan.value, (int)plan.mode);
	if (kind == TX || kind == MTX)
		writer_session(role, kind == MTX);
	else
		rx_session(role, kind == RX_IN_PLACE,
			   role == CHILD ? VMBUS_RING_RX_BUF_MIN : vmbus_ring_rx_buf_bytes(SIZE));
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
static void sweep(enum kind kind, enum role role, uint32_t all, uint32_t place)
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
static void sweep_data(enum kind kind, enum role role, uint32_t all)
{
	const uint32_t from = role == PARENT ? START : 0;
	/* In-band: 64 ring bytes; GPA direct: 64; completion: 24; transfer pages: 48; in-band. */
	static const uint32_t qwords[] = { 0,	8,   64,  72,  80,  88,	 96, 128,
					   152, 160, 168, 176, 200, 832, 848 };
	size_t i;

	for (i = 0; i < sizeof(qwords) / sizeof(qwords[0]); i++)
		sweep(kind, role, all, VMBUS_PAGE_BYTES + (from + qwords[i]) % SIZE);
}

static void run_all(enum kind kind)
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

START_TEST(lesson_10_reader_survives_changes_between_any_two_loads)
{
	run_all(RX_COPY);
}
END_TEST

START_TEST(lesson_10_reader_in_place_survives_changes_between_any_two_loads)
{
	run_all(RX_IN_PLACE);
}
END_TEST

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

/* A plain run, with its loads counted exactly: what one more fetch would break. */
static void count_loads(enum vmbus_ring_window window, bool in_place, uint32_t data_loads)
{
	uint8_t buf[VMBUS_RING_RX_BUF_MIN + 64];
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .buf = buf,
					      .buf_bytes = sizeof(buf) };
	struct vmbus_packet pkt[8];
	struct vmbus_ring_rx rx;

	ground_open(&ground, window, SIZE);
	session_begin(PARENT);
	vmbus__test_hook = hook;
	MUST(vmbus_ring_rx_init(&rx, &ground.ours.mem, &opts) == 0);
	forge(CTL_IN * 4, write_stream(START, 0), 4);
	call_begin();
	MUST((in_place ? vmbus_ring_rx_get_in_peer_memory(&rx, pkt, 8)
		       : vmbus_ring_rx_get(&rx, pkt, 8)) == 4);
	MUST(loads.in == 1 && loads.out == 0 && loads.mask == 0 && loads.pending == 0);
	MUST(loads.data == data_loads);
	vmbus__test_hook = NULL;
	ground_close(&ground);
}

START_TEST(lesson_10_each_word_is_loaded_once)
{
	plan.on = false;
	count_loads(VMBUS_RING_MIRRORED, false, 1); /* one copy of all four packets */
	count_loads(VMBUS_RING_PLAIN, false, 1);
	count_loads(VMBUS_RING_SCATTERED, false, 1);
	/* four descriptors, four ids, two headers */
	count_loads(VMBUS_RING_MIRRORED, true, 10);
	count_loads(VMBUS_RING_PLAIN, true, 10);
	count_loads(VMBUS_RING_SCATTERED, true, 10);
}
END_TEST

/*
 * A length that the ring cannot hold is the peer's fault and not a matter of our buffer, wherever
 * the copied part of the ring ends.
 */
static void impossible_length(uint32_t before)
{
	const uint32_t size = 65536, bytes = vmbus_ring_rx_buf_bytes(size);
	struct rx_bounds b = { NULL, bytes, NULL, size, 0 };
	uint8_t *buf = malloc(bytes);
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .buf = buf,
					      .buf_bytes = bytes };
	struct vmbus_packet pkt[64];
	struct vmbus_ring_rx rx;
	uint32_t at = 0;
	int ret, i;

	MUST(buf);
	(void)snprintf(checks_context, sizeof(checks_context), "lie at %u", before);
	b.buf = buf;
	ground_reset(&ground, 0);
	while (at < before)
		at = ground_packet(&ground, at, VMBUS_PKT_INBAND, 0,
				   before - at >= 48 ? 0 : before - at - 24, 0, ID);
	ground_qword(&ground, at, DESC(6, 2, 65535, 0));
	ground.ctl[CTL_IN] = at + 64;
	MUST(vmbus_ring_rx_init(&rx, &ground.ours.mem, &opts) == 0);
	while ((ret = vmbus_ring_rx_get(&rx, pkt, 64)) > 0)
		for (i = 0; i < ret; i++)
			check_packet(&b, &pkt[i]);
	MUST(ret == VMBUS_E_PEER);
	MUST(b.where == before);
	MUST(vmbus_ring_rx_fault(&rx)->field == VMBUS_FAULT_PKT_LENGTH);
	MUST(vmbus_ring_rx_fault(&rx)->where == before);
	free(buf);
}

START_TEST(impossible_length_is_a_fault_wherever_a_copy_ends)
{
	uint32_t before;

	ground_open(&ground, VMBUS_RING_MIRRORED, 65536);
	for (before = 16384 - 64; before <= 16384 + 64; before += 8)
		impossible_length(before);
	ground_close(&ground);
}
END_TEST

/* Every type with every header length around its minimum, and around the packet's end. */
START_TEST(lesson_08_header_shorter_than_type)
{
	uint8_t buf[VMBUS_RING_RX_BUF_MIN + 64];
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .buf = buf,
					      .buf_bytes = sizeof(buf) };
	uint32_t type, offset8, length8;
	int in_place;

	ground_open(&ground, VMBUS_RING_PLAIN, SIZE);
	for (in_place = 0; in_place < 2; in_place++)
		for (type = 0; type < 20; type++)
			for (offset8 = 0; offset8 < 12; offset8++)
				for (length8 = 0; length8 < 12; length8++) {
					struct rx_bounds b = { buf, sizeof(buf),
							       in_place ? &ground.ours.mem : NULL,
							       SIZE, 0 };
					struct vmbus_packet pkt[2];
					struct vmbus_ring_rx rx;
					uint32_t field;
					int ret;

					ground_reset(&ground, 0);
					ground_qword(&ground, 0, DESC(type, offset8, length8, 0));
					ground.ctl[CTL_IN] = 80;
					field = ref_desc_fault(ground.data, 80);
					MUST(vmbus_ring_rx_init(&rx, &ground.ours.mem, &opts) == 0);
					ret = in_place ? vmbus_ring_rx_get_in_peer_memory(&rx, pkt,
											  1)
						       : vmbus_ring_rx_get(&rx, pkt, 1);
					MUST(ret == (field ? VMBUS_E_PEER : 1));
					MUST(vmbus_ring_rx_fault(&rx)->field == field);
					if (ret == 1)
						check_packet(&b, &pkt[0]);
				}
	ground_close(&ground);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "hook", 28);

	tcase_add_test(tc, lesson_08_header_shorter_than_type);
	tcase_add_test(tc, lesson_10_each_word_is_loaded_once);
	tcase_add_test(tc, impossible_length_is_a_fault_wherever_a_copy_ends);
	tcase_add_test(tc, lesson_10_reader_survives_changes_between_any_two_loads);
	tcase_add_test(tc, lesson_10_reader_in_place_survives_changes_between_any_two_loads);
	tcase_add_test(tc, lesson_10_writer_survives_changes_between_any_two_loads);
	tcase_add_test(tc, lesson_10_writer_of_many_survives_changes_between_any_two_loads);
}
VMBUS_TEST_MAIN("hostile.hook", tests)

/* SPDX-License-Identifier: MIT */
/*
 * A model of the sending ends, of one thread or of many, and a peer whose every move is the
 * fuzzer's.  Unless a trap changes a word within a call, the model knows each return value, each
 * byte of the ring and each signal; with a trap it knows what may be written and the states that
 * are allowed.
 *
 * Input: window and size (1 byte), start index in qwords (2), then operations of one byte with
 * arguments.
 */
#ifndef VMBUS_TESTS_FUZZ_WRITER_H
#define VMBUS_TESTS_FUZZ_WRITER_H

#include "fuzz/input.h"

#define BATCH 6
#define OPS_MAX 200
#define SLOTS 8
#define PAYLOAD_MAX (VMBUS_PKT_LENGTH_MAX + 64u)
#define EXT_MAX 512u

/* What one message must become in the ring. */
struct expected {
	uint16_t type, flags;
	uint32_t ext_len, len, bytes;
	uint64_t id;
	int err; /* what is wrong with it, whatever the room */
};

static struct {
	struct ground *g;
	bool many, broken;
	struct vmbus_ring_tx tx;
	_Alignas(64) struct vmbus_ring_mtx mtx;
	struct vmbus_ring_mtx_slot slots[SLOTS];
	uint32_t in, next; /* published, reserved */
	struct expected batch[64];
	uint32_t batched;
	uint64_t ids;
	unsigned signals;
	struct {
		bool armed, struck;
		uint32_t at, loads, word, value;
	} trap;
} w;

static uint8_t data_before[1048576]; /* when the call began */
static uint8_t payload_bytes[PAYLOAD_MAX];
static uint8_t ext_bytes[EXT_MAX];

static void writer_hook(const volatile void *p)
{
	uint32_t place;

	if (!ground_has(w.g, p, &place))
		return;
	MUST(place < VMBUS_PAGE_BYTES); /* a writer reads no data */
	if (w.trap.armed && w.trap.loads == w.trap.at) {
		w.trap.armed = false;
		w.trap.struck = true;
		w.g->ctl[w.trap.word] = w.trap.value;
	}
	w.trap.loads++;
}

static void writer_signal(void *ctx)
{
	(void)ctx;
	w.signals++;
}

static uint32_t used(uint32_t in, uint32_t out)
{
	return (in + w.g->size - out) % w.g->size;
}

static uint32_t cached_out(void)
{
	return w.many ? (uint32_t)w.mtx.out_p : w.tx.out_p;
}

static uint32_t room_for(uint32_t out)
{
	return w.g->size - 8 - used(w.next, out);
}

/* Whether the peer may have this read index now. */
static bool out_is_legal(uint32_t out)
{
	return out < w.g->size && out % 8 == 0 && used(w.in, out) <= used(w.in, cached_out());
}

static struct vmbus_fault the_fault(void)
{
	struct vmbus_fault f;

	if (w.many)
		vmbus_ring_mtx_fault(&w.mtx, &f);
	else
		f = *vmbus_ring_tx_fault(&w.tx);
	return f;
}

static void begin_call(void)
{
	memcpy(data_before, w.g->data, w.g->size);
	w.trap.loads = 0;
	w.trap.struck = false;
	w.signals = 0;
}

/* Bytes have changed only from index first on, over at most len bytes. */
static void check_written(uint32_t first, uint32_t len)
{
	const uint32_t block = 1024;
	uint32_t at, i;

	for (at = 0; at < w.g->size; at += block) {
		if (used(at, first) + block <= len) /* all of it may change */
			continue;
		if (memcmp(data_before + at, w.g->data + at, block) == 0)
			continue;
		for (i = at; i < at + block; i++)
			MUST(data_before[i] == w.g->data[i] || used(i, first) < len);
	}
}

/* After any call. */
static void end_call(int ret, uint32_t first, uint32_t len)
{
	const struct vmbus_fault f = the_fault();

	check_written(first, len);
	check_fault(&f);
	if (!w.many)
		check_tx(&w.tx);
	MUST(w.broken == (ret == VMBUS_E_FAULT));
	if (ret == VMBUS_E_PEER)
		w.broken = true;
	MUST(w.broken == (f.field != VMBUS_FAULT_NONE));
	MUST(w.trap.loads <= 4); /* no peer makes us look on and on */
	w.trap.armed = false;
}

/* One packet at an index of the ring, byte for byte. */
static void check_emitted(uint32_t at, const struct expected *e)
{
	static const uint8_t zeroes[8];
	uint8_t b[16];
	uint32_t from = at + 16;

	ground_read(w.g, at, b, 16);
	MUST(get_le(b, 2) == e->type && get_le(b + 6, 2) == e->flags);
	MUST(get_le(b + 2, 2) * 8 == 16 + e->ext_len);
	MUST(get_le(b + 4, 2) * 8 + 8 == e->bytes);
	MUST(get_le(b + 8, 8) == e->id);
	MUST(ground_is(w.g, from, ext_bytes, e->ext_len));
	from += e->ext_len;
	MUST(ground_is(w.g, from, payload_bytes, e->len));
	MUST(ground_is(w.g, from + e->len, zeroes, (8 - e->len % 8) % 8));
	ground_read(w.g, at + e->bytes - 8, b, 8);
	MUST(get_le(b, 8) == (uint64_t)at << 32);
}

/* What was published from w.in on, and whether the peer was told. */
static void check_published(const struct expected *e, uint32_t n, uint32_t mask, uint32_t out)
{
	const uint32_t in_before = w.in;
	uint32_t i;

	for (i = 0; i < n; i++) {
		check_emitted(w.in, &e[i]);
		w.in = (w.in + e[i].bytes) % w.g->size;
	}
	if (n && !w.trap.struck) {
		MUST(w.g->ctl[CTL_IN] == w.in);
		MUST(w.signals == (mask == 0 && out == in_before));
	}
	MUST(w.signals <= 1);
}

/* A message from the input. */
static void take_message(struct input *in, struct vmbus_msg *msg, struct vmbus_iov *more,
			 struct expected *e)
{
	const uint32_t how = take(in, 1), size = take(in, 3);
	const int ext_min = ref_ext_min(how % 16);
	uint32_t ext_len = how & 32 ? size >> 12 & 255 : ext_min > 0 ? (uint32_t)ext_min : 0;
	uint64_t total;

	memset(msg, 0, sizeof(*msg));
	msg->id = ++w.ids;
	msg->type = (uint16_t)(how & 16 ? VMBUS_PKT_INBAND : how % 16);
	if (how & 16)
		ext_len = 0;
	msg->flags = (uint16_t)(size >> 22);
	msg->ext = ext_bytes;
	msg->ext_len = ext_len;
	msg->data = payload_bytes;
	msg->len = how & 64 ? size % 64 : how & 128 ? size % (PAYLOAD_MAX + 1) : size % w.g->size;
	e->type = msg->type;
	e->flags = msg->flags;
	e->id = msg->id;
	e->ext_len = ext_len;
	e->len = msg->len;
	if (more && size & 1 && msg->len >= 3) { /* the same bytes in three pieces */
		msg->len = e->len / 3;
		more[0].base = payload_bytes + msg->len;
		more[0].len = e->len / 2 - msg->len;
		more[1].base = payload_bytes + e->len / 2;
		more[1].len = e->len - e->len / 2;
		msg->more = more;
		msg->more_count = 2;
	}
	total = 24u + (uint64_t)ext_len + (e->len + 7) / 8 * 8;
	e->bytes = (uint32_t)total;
	e->err = 0;
	if (ref_ext_min(e->type) < 0 || e->flags > 1 || ext_len % 8 ||
	    ext_len < (uint32_t)ref_ext_min(e->type))
		e->err = VMBUS_E_INVAL;
	else if (total > w.g->size - 16 || total > 524288)
		e->err = VMBUS_E_RANGE;
}

/*
 * What put must return.  The end uses the room that it knows of until that is too small, and then
 * looks once.
 */
static int expect_put(const struct expected *e, uint32_t n)
{
	const uint32_t out = w.g->ctl[CTL_OUT];
	uint32_t room = room_for(cached_out()), i;
	bool looked = false;

	for (i = 0; i < n; i++) {
		if (e[i].err)
			return i ? (int)i : e[i].err;
		if (e[i].bytes > room && !looked) {
			if (!out_is_legal(out))
				return VMBUS_E_PEER;
			room += room_for(out) - room_for(cached_out());
			looked = true;
		}
		if (e[i].bytes > room)
			return i ? (int)i : VMBUS_E_FULL;
		room -= e[i].bytes;
	}
	return (int)n;
}

static void op_put(struct input *in)
{
	const uint32_t n = 1 + take(in, 1) % BATCH, first = w.next, free_bytes = w.g->size;
	const uint32_t mask = w.g->ctl[CTL_MASK], out = w.g->ctl[CTL_OUT];
	struct vmbus_iov more[BATCH][2];
	struct vmbus_msg msg[BATCH];
	struct expected e[BATCH];
	uint32_t i, len = 0;
	int ret, expected;

	for (i = 0; i < n; i++)
		take_message(in, &msg[i], more[i], &e[i]);
	expected = w.broken ? VMBUS_E_FAULT : w.batched ? VMBUS_E_STATE : expect_put(e, n);
	begin_call();
	ret = w.many ? vmbus_ring_mtx_put(&w.mtx, msg, n) : vmbus_ring_tx_put(&w.tx, msg, n);
	MUST(w.trap.struck || ret == expected);
	MUST(ret != 0 && ret <= (int)n);
	for (i = 0; (int)i < ret; i++)
		len += e[i].bytes;
	if (ret == VMBUS_E_PEER) /* some may be written, where there was room */
		len = free_bytes - 8 - used(first, cached_out());
	end_call(ret, first, len);
	MUST(len <= free_bytes - 8 - used(first, cached_out()));
	if (ret > 0) {
		w.next = (w.next + len) % w.g->size;
		check_published(e, (uint32_t)ret, mask, out);
	}
}

static int expect_reserve(const struct expected *e)
{
	const uint32_t out = w.g->ctl[CTL_OUT];

	if (e->err)
		return e->err;
	if (e->bytes <= room_for(cached_out()))
		return 0;
	if (!out_is_legal(out))
		return VMBUS_E_PEER;
	return e->bytes <= room_for(out) ? 0 : VMBUS_E_FULL;
}

static void fill_spans(const struct vmbus_span *span, int n, uint32_t len)
{
	uint32_t done = 0;
	int i;

	for (i = 0; i < n; i++) {
		MUST(span[i].len > 0 && in_window(&w.g->ours.mem, span[i].base, span[i].len));
		MUST(span[i].len <= len - done);
		memcpy(span[i].base, payload_bytes + done, span[i].len);
		done += (uint32_t)span[i].len;
	}
	MUST(done == len);
}

static void op_reserve(struct input *in)
{
	const uint32_t first = w.next, most = take(in, 1) % 32;
	struct vmbus_span span[32];
	struct vmbus_msg msg;
	struct expected e;
	int ret, expected;

	if (w.many || w.batched == sizeof(w.batch) / sizeof(w.batch[0]))
		return;
	take_message(in, &msg, NULL, &e);
	msg.data = NULL;
	expected = w.broken ? VMBUS_E_FAULT : expect_reserve(&e);
	begin_call();
	ret = vmbus_ring_tx_reserve(&w.tx, &msg, span, most);
	if (ret >= 0) {
		fill_spans(span, ret, e.len);
		w.batch[w.batched++] = e;
		w.next = (w.next + e.bytes) % w.g->size;
	}
	if (!w.trap.struck && ret == VMBUS_E_RANGE && expected == 0)
		MUST(most < (w.g->window == VMBUS_RING_MIRRORED ? 1
			     : w.g->window == VMBUS_RING_PLAIN	? 2
								: e.len / 4096 + 2));
	else
		MUST(w.trap.struck || (ret < 0 ? ret : 0) == expected);
	end_call(ret, first, ret >= 0 ? e.bytes : 0);
}

static void op_commit(void)
{
	const uint32_t n = w.batched, mask = w.g->ctl[CTL_MASK], out = w.g->ctl[CTL_OUT];
	int ret;

	if (w.many)
		return;
	begin_call();
	ret = vmbus_ring_tx_commit(&w.tx);
	MUST(ret == (w.broken ? VMBUS_E_FAULT : (int)n));
	end_call(ret, 0, 0);
	if (ret >= 0) {
		w.batched = 0;
		check_published(w.batch, n, mask, out);
		MUST(w.in == w.next);
	}
}

static void op_abort(void)
{
	if (w.many)
		return;
	vmbus_ring_tx_abort(&w.tx);
	w.batched = 0;
	w.next = w.in;
	check_tx(&w.tx);
}

static int expect_arm(uint32_t need)
{
	const uint32_t out = w.g->ctl[CTL_OUT];

	if (w.broken)
		return VMBUS_E_FAULT;
	if (need == 0 || need % 8 || need > w.g->size - 16 || need > 524288)
		return VMBUS_E_RANGE;
	if (w.batched)
		return VMBUS_E_STATE;
	if (room_for(cached_out()) >= need)
		return VMBUS_RING_READY;
	if (!out_is_legal(out))
		return VMBUS_E_PEER;
	return room_for(out) >= need ? VMBUS_RING_READY : VMBUS_RING_SLEEP;
}

static void op_arm(struct input *in)
{
	const uint32_t how = take(in, 3), need = how & 0x800000 ? how : how / 8 * 8 % w.g->size;
	const int expected = expect_arm(need);
	int ret;

	begin_call();
	ret = w.many ? vmbus_ring_mtx_arm(&w.mtx, need) : vmbus_ring_tx_arm(&w.tx, need);
	MUST(w.trap.struck || ret == expected);
	if (ret == VMBUS_RING_SLEEP && !w.trap.struck)
		MUST(w.g->ctl[CTL_PENDING] == need);
	end_call(ret, 0, 0);
}

/* The peer reads on by whole qwords of what was published: never a lie. */
static void op_read_on(struct input *in)
{
	const uint32_t out = out_is_legal(w.g->ctl[CTL_OUT]) ? w.g->ctl[CTL_OUT] : cached_out();
	const uint32_t unread = used(w.in, out), step = take(in, 2) * 8;

	w.g->ctl[CTL_OUT] = (out + (step < unread ? step : unread)) % w.g->size;
}

static void op_trap(struct input *in)
{
	static const uint32_t words[] = { CTL_OUT, CTL_MASK, CTL_IN, CTL_PENDING };
	const uint32_t how = take(in, 1);

	w.trap.at = how % 4;
	w.trap.word = words[how >> 2 & 3];
	w.trap.value = how & 128 ? take(in, 4) : take(in, 2) * 8 % w.g->size;
	w.trap.armed = true;
}

static void writer_operate(struct input *in)
{
	static const uint32_t words[] = { CTL_IN, CTL_OUT, CTL_PENDING, CTL_FEATURES };

	switch (take(in, 1) % 14) {
	case 0:
	case 1:
	case 2:
		op_put(in);
		break;
	case 3:
	case 4:
		op_reserve(in);
		break;
	case 5:
		op_commit();
		break;
	case 6:
		op_abort();
		break;
	case 7:
		op_arm(in);
		break;
	case 8:
		if (w.many)
			vmbus_ring_mtx_disarm(&w.mtx);
		else
			vmbus_ring_tx_disarm(&w.tx);
		break;
	case 9:
	case 10:
		op_read_on(in);
		break;
	case 11:
		w.g->ctl[CTL_MASK] = take(in, 1) % 2;
		break;
	case 12: { /* any word, any value: it may lie about its own and write over ours */
		const uint32_t word = words[take(in, 1) % 4];

		w.g->ctl[word] = take(in, 4);
		break;
	}
	default:
		op_trap(in);
		break;
	}
}

static int writer_run(const uint8_t *data, size_t size, bool many)
{
	struct input in = { data, size };
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .signal = writer_signal };
	uint32_t ops = 0, i;

	memset(&w, 0, sizeof(w));
	if (payload_bytes[0] == 0)
		for (i = 0; i < PAYLOAD_MAX; i++)
			payload_bytes[i] = (uint8_t)(i * 7 + i / 251 + 1);
	for (i = 0; i < EXT_MAX; i++)
		ext_bytes[i] = (uint8_t)(i ^ 0x5a);
	w.many = many;
	w.g = pick_ground(take(&in, 1));
	w.in = take(&in, 2) * 8 % w.g->size;
	w.next = w.in;
	MUST(w.g->size <= sizeof(data_before));
	ground_reset(w.g, w.in);
	memset(w.g->data, 0xcc, w.g->size); /* so that padding which is not written shows */
	vmbus__test_hook = writer_hook;
	MUST((many ? vmbus_ring_mtx_init(&w.mtx, &w.g->ours.mem, &opts, w.slots, SLOTS)
		   : vmbus_ring_tx_init(&w.tx, &w.g->ours.mem, &opts)) == 0);
	while (in.left && ops++ < OPS_MAX) {
		(void)snprintf(checks_context, sizeof(checks_context), "operation %u of window %s",
			       ops, window_names[w.g->window]);
		writer_operate(&in);
	}
	vmbus__test_hook = NULL;
	return 0;
}

#endif

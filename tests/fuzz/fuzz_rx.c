/* SPDX-License-Identifier: MIT */
/*
 * The reader, both ways of it, against a peer whose every move is the fuzzer's.
 *
 * Input: window and size (1 byte), start index in qwords (2), buffer size (1), then operations of
 * one byte with arguments.  Packets that the peer wrote honestly and has not touched since are
 * compared with the ring, byte for byte; of all others the invariants are checked.
 */
#include "fuzz/input.h"

#define BATCH 8
#define OPS_MAX 200

static struct {
	struct ground *g;
	uint32_t at, place, value; /* at the load number at, write value there */
	uint32_t loads;
	bool armed, struck;
} trap;

static struct {
	struct ground *g;
	struct vmbus_ring_rx rx;
	uint8_t *buf;
	uint32_t buf_bytes;
	uint32_t at; /* where the peer writes its next packet */
	bool stale;  /* the ring was changed behind what is copied */
	bool broken;
	unsigned signals;
} s;

static void hook(const volatile void *p)
{
	uint32_t place;

	if (!ground_has(trap.g, p, &place))
		return;
	if (trap.loads++ != trap.at || !trap.armed)
		return;
	trap.armed = false;
	trap.struck = true;
	if (trap.place < VMBUS_PAGE_BYTES)
		trap.g->ctl[trap.place / 4] = trap.value;
	else
		put_le(trap.g->data + (trap.place - VMBUS_PAGE_BYTES) % trap.g->size / 4 * 4,
		       trap.value, 4);
}

static void note_signal(void *ctx)
{
	++*(unsigned *)ctx;
}

static void give_buf(uint32_t bytes)
{
	uint8_t *buf = malloc(bytes); /* exact: a sanitizer sees its end */

	MUST(buf);
	memset(buf, 0xa5, bytes);
	free(s.buf);
	s.buf = buf;
	s.buf_bytes = bytes;
}

/* After any call. */
static void settle(int ret, bool was_broken)
{
	check_rx(&s.rx);
	MUST(was_broken == (ret == VMBUS_E_FAULT));
	if (was_broken)
		MUST(trap.loads == 0);
	if (ret == VMBUS_E_PEER)
		s.broken = true;
	MUST(s.broken == (vmbus_ring_rx_fault(&s.rx)->field != VMBUS_FAULT_NONE));
	MUST(trap.loads <= 16 + 8 * BATCH * 2 + s.g->size / VMBUS_PAGE_BYTES * 4);
	s.stale |= trap.struck;
	trap.armed = false;
	trap.struck = false;
}

/* A packet that nobody touched is the packet that lies in the ring. */
static void check_same(const struct vmbus_packet *pkt)
{
	uint8_t d[16];

	ground_read(s.g, pkt->where, d, 16);
	MUST(ref_desc_fault(d, s.g->size - 8) == VMBUS_FAULT_NONE);
	MUST(get_le(d, 2) == pkt->type && get_le(d + 6, 2) == pkt->flags);
	MUST(get_le(d + 8, 8) == pkt->id);
	MUST(get_le(d + 2, 2) * 8 == 16 + pkt->ext_len);
	MUST(get_le(d + 4, 2) * 8 == 16 + pkt->ext_len + pkt->len);
	MUST(ground_is(s.g, pkt->where + 16, pkt->ext, pkt->ext_len));
	MUST(ground_is(s.g, pkt->where + 16 + pkt->ext_len, pkt->payload, pkt->len));
}

/* What the ring says about the first packet, when nothing was changed behind our back. */
static void check_verdict(int ret, uint32_t where, uint32_t avail)
{
	const struct vmbus_fault *f = vmbus_ring_rx_fault(&s.rx);
	uint8_t d[16];

	if (ret == VMBUS_E_PEER && f->field >= VMBUS_FAULT_PKT_TYPE) {
		ground_read(s.g, f->where, d, 16);
		MUST(f->where == where);
		MUST(ref_desc_fault(d, s.rx.avail_p) == f->field);
	}
	if (ret == 0)
		MUST(avail == 0 && s.g->ctl[CTL_IN] == where);
}

static void op_get(struct input *in, bool in_place)
{
	const uint32_t n = 1 + take(in, 1) % BATCH, where = s.rx.next_p, avail = s.rx.avail_p;
	struct rx_bounds b = { s.buf, s.buf_bytes, in_place ? &s.g->ours.mem : NULL, s.g->size,
			       where };
	const bool broken = s.broken;
	struct vmbus_packet pkt[BATCH];
	int ret, i;

	if (in_place && s.rx.left_p) /* what was copied ahead is read anew */
		s.stale = false;
	trap.loads = 0;
	ret = in_place ? vmbus_ring_rx_get_in_peer_memory(&s.rx, pkt, n)
		       : vmbus_ring_rx_get(&s.rx, pkt, n);
	settle(ret, broken);
	MUST(ret <= (int)n);
	for (i = 0; i < ret; i++) {
		check_packet(&b, &pkt[i]);
		if (!s.stale)
			check_same(&pkt[i]);
	}
	if (ret >= 0)
		MUST(b.where == s.rx.next_p);
	else
		MUST(ret == VMBUS_E_RANGE || ret == VMBUS_E_PEER || ret == VMBUS_E_FAULT);
	if (!s.stale)
		check_verdict(ret, where, avail);
	if (ret == VMBUS_E_RANGE) {
		MUST(s.buf_bytes < vmbus_ring_rx_need(&s.rx));
		MUST(s.buf_bytes < vmbus_ring_rx_buf_bytes(s.g->size));
		MUST(vmbus_ring_rx_need(&s.rx) <= vmbus_ring_rx_buf_bytes(s.g->size));
	}
	if (s.rx.left_p == 0)
		s.stale = false;
}

static void op_set_buf(struct input *in)
{
	const uint32_t bytes = VMBUS_RING_RX_BUF_MIN + take(in, 2);
	int ret;

	give_buf(bytes);
	ret = vmbus_ring_rx_set_buf(&s.rx, s.buf, s.buf_bytes);
	MUST(ret == 0);
	s.stale = false; /* everything is read anew */
}

/* The peer writes a packet with any descriptor and publishes it, or not. */
static void op_packet(struct input *in)
{
	const uint32_t type = take(in, 1) % 16, ext = take(in, 1), len = take(in, 2);
	const uint32_t how = take(in, 1);
	const uint32_t offset8 = how & 1 ? ext : 2 + (ext % 4);
	const uint32_t length8 = how & 2 ? len : offset8 + len % 512;
	uint32_t i;

	ground_qword(s.g, s.at,
		     (uint64_t)type | (uint64_t)offset8 << 16 | (uint64_t)length8 << 32 |
			     (uint64_t)(how >> 2 & 3) << 48);
	for (i = 1; i < 4; i++)
		ground_qword(s.g, s.at + 8 * i, (uint64_t)take(in, 2) << (how & 32 ? 32 : 0));
	s.stale |= s.rx.left_p != 0;
	s.at = (s.at + (length8 + 1) * 8) % s.g->size;
	if (how & 16)
		s.g->ctl[CTL_IN] = s.at;
}

/* Many small packets, so that a reader's copies end within one. */
static void op_packets(struct input *in)
{
	uint32_t count = 1 + take(in, 2) % 4096, len = take(in, 1) % 8 * 8;

	s.stale |= s.rx.left_p != 0;
	while (count--) {
		const uint32_t free_bytes = (s.rx.committed_p + s.g->size - 8 - s.at) % s.g->size;

		if (free_bytes < len + 24)
			break;
		s.at = ground_packet(s.g, s.at, VMBUS_PKT_INBAND, 0, len, 1, count);
	}
	s.g->ctl[CTL_IN] = s.at;
}

static void op_poke(struct input *in)
{
	const uint32_t place = take(in, 2) * 4;

	s.stale |= s.rx.left_p != 0;
	put_le(s.g->data + place % s.g->size, take(in, 4), 4);
}

static void op_trap(struct input *in)
{
	static const uint32_t words[] = { CTL_IN, CTL_OUT, CTL_MASK, CTL_PENDING };
	const uint32_t how = take(in, 1);

	trap.at = how % 16;
	trap.place = how & 16 ? words[how >> 5 & 3] * 4
			      : VMBUS_PAGE_BYTES + (s.rx.next_p + (how >> 5) * 4) % s.g->size;
	trap.value = take(in, 4);
	trap.armed = true;
}

static void operate(struct input *in)
{
	const uint32_t op = take(in, 1) % 14;
	const bool broken = s.broken;

	trap.loads = 0;
	switch (op) {
	case 0:
	case 1:
		op_get(in, false);
		break;
	case 2:
		op_get(in, true);
		break;
	case 3:
		settle(vmbus_ring_rx_consume(&s.rx), broken);
		break;
	case 4:
		settle(vmbus_ring_rx_arm(&s.rx), broken);
		break;
	case 5:
		vmbus_ring_rx_disarm(&s.rx);
		break;
	case 6:
		op_set_buf(in);
		break;
	case 7:
	case 8:
		op_packet(in);
		break;
	case 9:
		op_packets(in);
		break;
	case 10:
		s.g->ctl[CTL_IN] = take(in, 4);
		break;
	case 11:
		s.g->ctl[take(in, 1) % 2 ? CTL_PENDING : CTL_OUT] = take(in, 4);
		break;
	case 12:
		op_poke(in);
		break;
	default:
		op_trap(in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = note_signal,
					.signal_ctx = &s.signals };
	uint32_t ops = 0;
	int ret;

	memset(&s, 0, sizeof(s));
	memset(&trap, 0, sizeof(trap));
	s.g = pick_ground(take(&in, 1));
	trap.g = s.g;
	vmbus__test_hook = hook;
	s.at = take(&in, 2) * 8 % s.g->size;
	ground_reset(s.g, s.at);
	give_buf(VMBUS_RING_RX_BUF_MIN + take(&in, 1) * 512);
	opts.buf = s.buf;
	opts.buf_bytes = s.buf_bytes;
	ret = vmbus_ring_rx_init(&s.rx, &s.g->ours.mem, &opts);
	MUST(ret == 0);
	while (in.left && ops++ < OPS_MAX) {
		(void)snprintf(checks_context, sizeof(checks_context), "operation %u of window %s",
			       ops, window_names[s.g->window]);
		operate(&in);
	}
	free(s.buf);
	s.buf = NULL;
	vmbus__test_hook = NULL;
	return 0;
}

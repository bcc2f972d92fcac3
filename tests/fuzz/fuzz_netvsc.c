/* SPDX-License-Identifier: MIT */
/*
 * The network device's client against a host whose every word is input: what it says while they agree,
 * frames and information in a buffer that it changes under way, ranges, completions, messages that
 * nobody asked for, ends.  What the client promises is checked: each start and request ends once, every
 * piece of a frame lies in the receive buffer, and what it sends is what it was given.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include "fuzz/input.h"
#define CLIENTHOST_LENIENT
#include "net/clienthost.h"

#define OPS_MAX 96u
#define BURSTS 8u

static struct host h;
static struct input *input;
static struct vmbus_netvsc_burst bursts[BURSTS];
static bool held[BURSTS], started, begun;
static uint32_t asked;
static uint8_t bytes[2048];

static uint32_t pick(const uint32_t *from, uint32_t n)
{
	const uint32_t which = take(input, 1);

	return which < 240 ? from[which % n] : take(input, 4);
}

/* What the host knows and says; the first choices are usual. */
static void configure(void)
{
	static const uint32_t versions[] = { 0x60001, 0x60001, 0x50000, 2, 0 };
	static const uint32_t sections[] = { 2048, 2048, 512, 68, 67, 131072 };
	static const uint32_t counts[] = { 0, 0, 1, 100, 0x80000001u };
	static const uint32_t sends[] = { 6144, 6144, 256, 65536, 255, 300 };
	static const uint32_t frames[] = { 8, 8, 1, 0, 64 };
	static const uint32_t transfers[] = { 0xEFFFFFFFu, 65536, 256, 255, 1000 };
	static const uint32_t sizes[] = { 9202, 1500, 68, 67, 0 };
	static const uint32_t lsos[] = { 62780, 0, 1, 100000 };
	static const uint32_t offloads[] = { 156, 156, 144, 112, 100 };

	h.version = pick(versions, 5);
	h.receive_section = pick(sections, 6);
	h.receive_count = pick(counts, 5);
	if (h.receive_section == 0)
		h.receive_section = 1;
	h.send_section = pick(sends, 6);
	h.frames_max = pick(frames, 5);
	h.transfer = pick(transfers, 5);
	h.frame_size = pick(sizes, 5);
	h.lso4 = pick(lsos, 4);
	h.lso6 = pick(lsos, 4);
	h.offload_bytes = pick(offloads, 5) % 157;
	h.queues = take(input, 1) % 6;
	h.entries = take(input, 1);
	h.rsc = take(input, 1) & 1;
	h.cut_type = take(input, 1) == 200 ? 101 : 0;
	h.cut_bytes = take(input, 1) % 32;
	h.grant = h.queues > 4 ? 200 : UINT32_MAX;
	h.offers = UINT32_MAX;
}

static void on_ready(void *ctx, int err)
{
	(void)ctx;
	must(started && !begun);
	begun = err == 0;
	if (err)
		started = false;
}

static void on_closed(void *ctx)
{
	(void)ctx;
	must(started && begun);
	must_eq(asked, 0);
	started = begun = false;
	memset(held, 0, sizeof(held));
}

static void on_done(struct vmbus_netvsc_req *req)
{
	must(asked == 1);
	must(req->got <= req->out_bytes);
	must(req->err == 0 || req->err == VMBUS_E_RANGE || req->err == VMBUS_E_PEER);
	asked = 0;
}

static void on_nothing(void *ctx, uint32_t channel)
{
	(void)ctx;
	(void)channel;
}

static void on_link(void *ctx, bool up)
{
	(void)ctx;
	(void)up;
	must(begun);
}

static void start(void)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(h.l->guest, &host_class, 0);
	const uint32_t how = take(input, 1);

	if (started || !vsc)
		return;
	configure();
	opts.chan = h.chan;
	opts.subchannels = how % 4;
	opts.flags = how >> 2 & 3;
	opts.mtu = how & 16 ? 9000 : 0;
	opts.receive_bytes = opts.send_bytes = 256u << 10;
	opts.open.poll = how & 32;
	opts.open.send_bytes = how & 64 ? 4096 : 0;
	opts.ready = on_ready;
	opts.closed = on_closed;
	opts.link = on_link;
	opts.readable = on_nothing;
	opts.writable = on_nothing;
	opts.ctx = &h;
	started = vmbus_netvsc_start(&h.nv, vsc, &opts) == 0;
}

/* ---- the host ---- */

/* Into the receive buffer, wherever it is. */
static void write_at(uint32_t offset, const uint8_t *from, uint32_t n)
{
	(void)vmbus_sgl_write(&h.receive, offset, from, n);
}

/* A message of a frame with some of its bytes changed. */
static uint32_t message(uint8_t *msg)
{
	static const uint32_t types[] = { 0, 6, 8, 0x80000001u, 2, 9 };
	const uint32_t n = take(input, 1) % 4, changes = take(input, 1);
	uint8_t ppi[64], frame[256];
	uint32_t i, at = 0, len;

	for (i = 0; i < n && i < 3; i++)
		at += host_ppi(ppi + at, types[take(input, 1) % 6], take(input, 2));
	memset(frame, 0, sizeof(frame));
	frame[12] = 8;
	frame[14] = 0x45;
	frame[17] = 100;
	frame[23] = 6;
	frame[46] = 0x50;
	len = host_message(msg, frame, 60 + take(input, 1) % 190, ppi, at);
	for (i = 0; i < changes % 4 && changes >= 128; i++)
		msg[take(input, 1) % len] = (uint8_t)take(input, 1);
	return len;
}

static void deliver(uint32_t op)
{
	uint32_t range[32][2], i, n = 1 + op % 32;
	struct vmbus_chan *const chan = h.channel[op & 1];
	uint8_t msg[600];

	if (!chan || h.next_id > 1u << 30)
		return;
	for (i = 0; i < n; i++) {
		const uint32_t how = take(input, 1);

		range[i][0] = message(msg);
		range[i][1] = (take(input, 1) * h.receive_section) & 0x3FFFF;
		write_at(range[i][1], msg, range[i][0]);
		if (how >= 240)
			range[i][how & 1] = take(input, 4);
	}
	(void)vmbus_chan_flush(chan);
	if (take(input, 1) < 220) {
		(void)host_ranges(&h, chan, take(input, 1) == 255, (const uint32_t(*)[2])range, n);
	} else { /* another number of ranges, set, or kind of packet */
		struct vmbus_msg out = { .id = take(input, 2), .type = VMBUS_PKT_XFER_PAGES };
		uint8_t ext[24] = { 0xFE, 0xCA }, body[40] = { 107 };

		host_put(ext, 2, take(input, 1) & 1 ? 0xCAFE : take(input, 2));
		host_put(ext + 4, 4, take(input, 1) & 3);
		host_put(ext + 8, 4, range[0][0]);
		host_put(ext + 12, 4, range[0][1]);
		body[4] = (uint8_t)take(input, 1) & 3;
		out.ext = ext;
		out.ext_len = 24;
		out.data = body;
		out.len = take(input, 1) % 40;
		out.flags = take(input, 1) & 1;
		(void)vmbus_chan_send(chan, &out, 1);
	}
}

/* A message of RNDIS that nobody asked for, or that answers with any words. */
static void tell(void)
{
	static const uint32_t types[] = { 7, 8, 0x80000002u, 0x80000004u, 0x80000005u, 1 };
	uint32_t range[1][2], i;
	uint8_t msg[64] = { 0 };

	if (!h.channel[0])
		return;
	host_put(msg, 4, types[take(input, 1) % 6]);
	host_put(msg + 4, 4, take(input, 1) % 64);
	host_put(msg + 8, 4, take(input, 1) & 1 ? h.nv.id_p : 0x4001000B + take(input, 1) % 16);
	for (i = 12; i < 28; i += 4)
		host_put(msg + i, 4, take(input, 1) & 1 ? take(input, 1) % 64 : take(input, 4));
	write_at(0, msg, sizeof(msg));
	range[0][0] = take(input, 1) % 80;
	range[0][1] = 0;
	(void)host_ranges(&h, h.channel[0], 1, (const uint32_t(*)[2])range, 1);
}

static void say(void)
{
	static const uint8_t types[] = { 134, 128, 129, 107, 2, 102, 105, 133 };
	uint8_t msg[128] = { 0 };
	struct vmbus_msg out = { .id = 9, .type = VMBUS_PKT_INBAND, .data = msg };
	uint32_t i;

	if (!h.channel[0])
		return;
	msg[0] = types[take(input, 1) % 8];
	for (i = 4; i < 12; i += 4)
		host_put(msg + i, 4, take(input, 1) & 1 ? take(input, 1) % 24 : take(input, 4));
	out.len = take(input, 1) % 128;
	out.flags = take(input, 1) & 1;
	(void)vmbus_chan_send(h.channel[0], &out, 1);
	if (take(input, 1) & 1)
		(void)vmbus_chan_complete(h.channel[0], take(input, 4), msg, out.len);
}

/* ---- the client ---- */

static void send(uint32_t op)
{
	static const uint32_t flags[] = { 0,
					  0,
					  VMBUS_FRAME_VLAN,
					  VMBUS_FRAME_CSUM,
					  VMBUS_FRAME_TSO4,
					  VMBUS_FRAME_IP_CSUM | VMBUS_FRAME_CSUM };
	const struct vmbus_iov piece[2] = { { bytes, 60 }, { bytes + 60, take(input, 2) % 1500 } };
	struct vmbus_frame frame[4];
	uint32_t i;
	void *to;

	for (i = 0; i < 4; i++)
		frame[i] = (struct vmbus_frame){ .piece = piece,
						 .pieces = 2,
						 .bytes = 60 + (uint32_t)piece[1].len,
						 .flags = flags[take(input, 1) % 6],
						 .csum_start = (uint16_t)(take(input, 1)),
						 .csum_offset = op & 1 ? 16 : 6,
						 .mss = 500 };
	h.keep = take(input, 1) & 1;
	if (op & 2) {
		(void)vmbus_netvsc_send(&h.nv, op >> 6, frame, 1 + op % 4);
	} else if (vmbus_netvsc_reserve(&h.nv, op >> 6, frame[0].bytes, frame[0].flags, &to) == 0) {
		memcpy(to, bytes, frame[0].bytes);
		(void)vmbus_netvsc_commit(&h.nv, op >> 6, &frame[0]);
	}
	if (op & 4)
		(void)vmbus_netvsc_flush(&h.nv, op >> 6);
}

static void check(const struct vmbus_netvsc_burst *burst)
{
	const uint8_t *const from = h.nv.buffer_p[0].pages;
	uint32_t i, k;

	must(burst->frames <= VMBUS_NETVSC_BURST);
	for (i = 0; i < burst->frames; i++) {
		const struct vmbus_frame *const f = &burst->frame[i];
		uint64_t sum = 0;

		must(f->pieces >= 1 && f->pieces <= 64);
		for (k = 0; k < f->pieces; k++) {
			const uint8_t *const at = f->piece[k].base;

			must(at >= from && f->piece[k].len <= (256u << 10) &&
			     at + f->piece[k].len <= from + (256u << 10));
			sum += f->piece[k].len;
		}
		must_eq(sum, f->bytes);
		must(f->bytes >= 14 && f->bytes <= VMBUS_FRAME_BYTES_MAX);
		must_eq(f->flags & ~h.nv.rx, 0);
	}
}

static void receive(uint32_t op)
{
	const uint32_t i = op % BURSTS;

	if (held[i]) {
		(void)vmbus_netvsc_release(&h.nv, i & 1, &bursts[i]);
		held[i] = false;
		return;
	}
	if (vmbus_netvsc_receive(&h.nv, i & 1, &bursts[i], 1 + op % 64) > 0) {
		check(&bursts[i]);
		held[i] = true;
	}
}

static void ask(uint32_t op)
{
	static struct vmbus_netvsc_req req;
	static uint8_t out[64];

	if (asked)
		return;
	memset(&req, 0, sizeof(req));
	req.oid = op & 1 ? 0x00010107 : 0x00010114;
	req.out = out;
	req.out_bytes = op >> 2;
	req.done = on_done;
	h.silent_oid = op & 2 ? 0x00010107 : 0;
	asked = 1; /* done() does not come before this returns */
	if (vmbus_netvsc_control(&h.nv, &req))
		asked = 0;
}

static void let_go(void)
{
	h.data_status = take(input, 1) & 3;
	host_let_go(&h);
}

static void settle(void)
{
	h.type_count = h.oid_count = h.tried_count = 0;
	if (h.frames > HOST_FRAMES - 600 || h.kept_count > 1000) {
		host_forget(&h);
		host_let_go(&h);
	}
	loop_settle(h.l);
}

static void step(void)
{
	const uint32_t op = take(input, 1), more = take(input, 1);

	switch (op % 16) {
	case 0:
		start();
		break;
	case 1:
	case 2:
	case 3:
		deliver(more);
		break;
	case 4:
		tell();
		break;
	case 5:
		say();
		break;
	case 6:
	case 7:
		send(more);
		break;
	case 8:
	case 9:
	case 10:
		receive(more);
		break;
	case 11:
		ask(more);
		break;
	case 12:
		let_go();
		break;
	case 13: /* under way */
		memset(bytes, (int)more, 256);
		write_at(more * 64, bytes, 256);
		break;
	case 14:
		if (started && more >= 200)
			(void)vmbus_netvsc_stop(&h.nv);
		break;
	default:
		if (h.channel[more & 3] && more >= 224)
			vmbus_chan_fail(h.channel[more & 3], "input");
		break;
	}
	if (op & 16 || op % 16 == 14 || op % 16 == 15)
		settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t ops;

	input = &in;
	if (!h.l)
		host_start(&h);
	start();
	settle();
	for (ops = 0; in.left && ops < OPS_MAX; ops++)
		step();
	in.left = 0;
	settle();
	if (started)
		(void)vmbus_netvsc_stop(&h.nv);
	settle();
	must(!started && !begun);
	must_eq(asked, 0);
	host_forget(&h);
	h.returned = h.returned_bad = 0;
	return 0;
}

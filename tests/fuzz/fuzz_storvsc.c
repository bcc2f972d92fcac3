/* SPDX-License-Identifier: MIT */
/*
 * The block device's client against a host whose every word is input: answers while they agree, to
 * commands and to probes, packets that nobody asked for, sub-channels, ends.  What the client promises
 * is checked: each start, request and probe ends once; nothing is larger than what it is of.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include "fuzz/input.h"
#include "loop.h"

#include <vmbus/storvsc.h>

#define OPS_MAX 96u
#define KEPT_MAX 256u
#define REQS 24u
#define PAGES 64u

static const struct vmbus_guid class_id = VMBUS_BLOCK_CLASS;

static struct loop *l;
static struct input *input;
static uint8_t *pages; /* of the requests and probes */

/* ---- the host ---- */

static struct kept {
	struct vmbus_chan *chan;
	uint64_t id;
	uint8_t msg[64];
	uint8_t ext[64];
	uint32_t ext_len;
} kept[KEPT_MAX];
static uint32_t kept_count;
static struct vmbus_chan *primary;

static void put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

static uint64_t get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

/* What a good host says. */
static void good(const struct kept *k, uint8_t *out)
{
	const uint32_t op = (uint32_t)get(k->msg, 4);

	memset(out, 0, 64);
	put(out, 4, 1);
	if (op == 9)
		memcpy(out + 12, k->msg + 12, 2);
	if (op == 10) {
		put(out + 16, 2, 3);
		put(out + 20, 4, 1);
		put(out + 24, 4, 65536);
	}
	if (op == 3) {
		put(out + 12, 2, 52);
		out[14] = 1;
		put(out + 24, 4, get(k->msg + 24, 4));
	}
}

/* What a good disk says to the commands of a probe. */
static void usual(uint8_t *p, const uint8_t *cdb)
{
	static const uint8_t inquiry[] = { 0, 0, 5, 2, 99, 0, 0, 2, 'M', 's', 'f', 't' };
	static const uint8_t list[] = { 0, 0, 0, 5, 0x00, 0x80, 0x83, 0xB0, 0xB2 };
	static const uint8_t serial[] = { 0, 0x80, 0, 3, 'A', 'B', 'C' };
	static const uint8_t id[] = { 0, 0x83, 0, 12, 1, 3, 0, 8, 0x60, 2, 3, 4, 5, 6, 7, 8 };
	static const uint8_t limits[] = { 0, 0xB0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
					  0, 0,	   0, 0,  0, 0, 0, 0, 9, 9, 0, 0, 0, 5 };
	static const uint8_t thin[] = { 0, 0xB2, 0, 4, 0, 0x80, 2, 0 };
	static const uint8_t capacity[] = { 0, 0, 0, 0, 0, 9, 9, 9, 0, 0, 2, 0, 0, 3, 0xC0, 0 };
	static const uint8_t modes[] = { 15, 0, 0x10, 0, 8, 10, 4 };

	if (cdb[0] == 0x12 && !(cdb[1] & 1))
		memcpy(p, inquiry, sizeof(inquiry));
	else if (cdb[0] == 0x12 && cdb[2] == 0)
		memcpy(p, list, sizeof(list));
	else if (cdb[0] == 0x12 && cdb[2] == 0x80)
		memcpy(p, serial, sizeof(serial));
	else if (cdb[0] == 0x12 && cdb[2] == 0x83)
		memcpy(p, id, sizeof(id));
	else if (cdb[0] == 0x12 && cdb[2] == 0xB0)
		memcpy(p, limits, sizeof(limits));
	else if (cdb[0] == 0x12)
		memcpy(p, thin, sizeof(thin));
	else if (cdb[0] == 0x9E)
		memcpy(p, capacity, sizeof(capacity));
	else if (cdb[0] == 0x25)
		memcpy(p, capacity + 4, 8);
	else if (cdb[0] == 0x1A)
		memcpy(p, modes, sizeof(modes));
}

/* Into the first page of a request's buffer, with some of its bytes changed. */
static void give(const struct kept *k)
{
	const uint64_t pfn = k->ext_len >= 24 ? get(k->ext + 16, 8) : UINT64_MAX;
	const uint32_t offset = (uint32_t)get(k->ext + 12, 4), n = take(input, 1);
	uint8_t *p;
	uint32_t i;

	if (pfn >= LOOP_PAGES || offset > 4096 - 256)
		return;
	p = l->mem.host + pfn * CHILD_PAGE + offset;
	memset(p, 0, 256);
	if (n < 240)
		usual(p, k->msg + 28);
	for (i = 0; n >= 128 && i < n % 16; i++)
		p[take(input, 1)] = (uint8_t)take(input, 1);
}

/* Answer a packet that is kept, with some of its bytes changed. */
static void answer(uint32_t which)
{
	struct kept k, *at;
	uint8_t out[256] = { 0 };
	uint32_t how, i, len = 64;

	if (!kept_count)
		return;
	at = &kept[which % kept_count];
	k = *at;
	how = take(input, 1);
	good(&k, out);
	give(&k);
	for (i = 0; i < how % 4; i++)
		out[take(input, 1) % 64] = (uint8_t)take(input, 1);
	if (how >= 224)
		len = take(input, 1);
	(void)vmbus_chan_complete(k.chan, k.id, out, len);
	if (how % 16 != 15) /* once more, later */
		*at = kept[--kept_count];
}

static void on_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct kept *const k = &kept[kept_count % KEPT_MAX];

		must_eq(pkt[i].len, 64);
		must(pkt[i].flags & VMBUS_PKT_FLAG_COMPLETE && pkt[i].id);
		k->chan = chan;
		k->id = pkt[i].id;
		memcpy(k->msg, pkt[i].payload, 64);
		k->ext_len = pkt[i].ext_len;
		memcpy(k->ext, pkt[i].ext, pkt[i].ext_len < 64 ? pkt[i].ext_len : 64);
		if (kept_count < KEPT_MAX)
			kept_count++;
		/* Most of the time the host goes on as it should, so that the rest is reached. */
		if (input->left && take(input, 1) < 160) {
			uint8_t out[64];

			good(k, out);
			give(k);
			(void)vmbus_chan_complete(chan, k->id, out, 64);
			kept_count--;
		}
	}
}

static int on_open(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	if (vmbus_chan_primary(chan) == chan)
		primary = chan;
	return input->left && take(input, 1) == 255 ? VMBUS_E_STATE : 0;
}

static int on_close(struct vmbus_chan *chan)
{
	uint32_t i;

	for (i = 0; i < kept_count;)
		if (kept[i].chan == chan)
			kept[i] = kept[--kept_count];
		else
			i++;
	if (chan == primary)
		primary = NULL;
	return 0;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "host",
	.class_id = VMBUS_BLOCK_CLASS,
	.open = on_open,
	.packets = on_packets,
	.close = on_close,
};

/* ---- the client ---- */

static struct vmbus_storvsc s;
static bool started, is_ready;
static struct {
	struct vmbus_storvsc_req req;
	struct vmbus_storvsc_piece piece[2];
	uint32_t bytes;
	bool busy;
} reqs[REQS];
static uint32_t flying;
static struct vmbus_storvsc_disk disk;
static bool probing, known;

static void on_ready(void *ctx, int err)
{
	(void)ctx;
	must(started && !is_ready);
	if (err) {
		must_eq(flying, 0);
		started = false;
		return;
	}
	is_ready = true;
	must(s.transfer_bytes >= 4096 && s.transfer_bytes <= VMBUS_STORVSC_TRANSFER_MAX);
	must_eq(s.transfer_bytes % 4096, 0);
	must(s.offered >= 1 && s.offered <= 4);
}

static void on_opened(void *ctx, uint32_t channel)
{
	(void)ctx;
	must(started && channel < 4 && channel + 1 == s.channels);
}

static void on_changed(void *ctx)
{
	(void)ctx;
	must(is_ready);
}

static void on_closed(void *ctx)
{
	(void)ctx;
	must(started && is_ready);
	must_eq(flying, 0);
	must(!probing);
	started = is_ready = known = false;
}

static void done(struct vmbus_storvsc_req *req)
{
	const uint32_t i = (uint32_t)(uintptr_t)req->ctx;

	must(reqs[i].busy && is_ready);
	must(req->err == 0 || req->err == VMBUS_E_RANGE || req->err == VMBUS_E_PEER);
	must(req->moved <= reqs[i].bytes);
	must(req->sense_bytes <= VMBUS_STORVSC_SENSE_BYTES);
	reqs[i].busy = false;
	flying--;
}

static bool is_text(const char *text, size_t room)
{
	size_t i;

	for (i = 0; i < room && text[i]; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return i < room;
}

static void found(struct vmbus_storvsc_disk *d, int err, void *ctx)
{
	(void)ctx;
	must(probing && d == &disk);
	probing = false;
	known = err == 0;
	if (err)
		return;
	must(d->sector >= 512 && d->sector <= 4096 && (d->sector & (d->sector - 1)) == 0);
	must(d->block >= d->sector && d->block % d->sector == 0);
	must(d->sectors && d->sectors <= (1ull << 62) / d->sector);
	must(is_text(d->vendor, sizeof(d->vendor)) && is_text(d->product, sizeof(d->product)));
	must(is_text(d->revision, sizeof(d->revision)) && is_text(d->serial, sizeof(d->serial)));
	must(!d->discard || d->discard_max);
	must(d->discard || !d->discard_zeroes);
}

static void start(void)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(l->guest, &class_id, 0);
	const uint32_t how = take(input, 1);

	if (!vsc || started)
		return;
	opts.subchannels = how % 4;
	opts.depth = how & 4 ? 2 : 0;
	opts.open.send_bytes = how & 8 ? 4096 : 0;
	opts.ready = on_ready;
	opts.opened = on_opened;
	opts.changed = on_changed;
	opts.closed = on_closed;
	started = vmbus_storvsc_start(&s, vsc, &opts) == 0;
}

static void submit(uint32_t op)
{
	const uint32_t i = take(input, 1) % REQS, shape = take(input, 1);
	struct vmbus_storvsc_req *const req = &reqs[i].req;
	int err = 0;

	if (reqs[i].busy)
		return;
	memset(req, 0, sizeof(*req));
	reqs[i].piece[0].data = pages + (size_t)i * 8192u + (shape & 7) * 512u;
	reqs[i].piece[0].bytes = shape & 8 ? 4096 - (shape & 7) * 512u : 512;
	reqs[i].piece[1].data = pages + (size_t)i * 8192u + 4096;
	reqs[i].piece[1].bytes = (shape >> 5) * 512u;
	req->piece = reqs[i].piece;
	req->pieces = shape & 16 ? 2 : 1;
	req->done = done;
	req->ctx = (void *)(uintptr_t)i;
	req->way = VMBUS_STORVSC_FROM_DISK;
	req->cdb_bytes = 10;
	reqs[i].bytes = reqs[i].piece[0].bytes + (shape & 16 ? reqs[i].piece[1].bytes : 0);
	if (known && op & 1) {
		err = vmbus_storvsc_read(&disk, req, take(input, 2), reqs[i].bytes / disk.sector);
	} else if (known && op & 2) {
		reqs[i].piece[0].bytes = reqs[i].bytes = 24;
		req->pieces = 1;
		err = vmbus_storvsc_discard(&disk, req, take(input, 2), 8);
	} else if (op & 4) {
		req->way = VMBUS_STORVSC_NONE;
		req->pieces = 0;
		reqs[i].bytes = 0;
	}
	if (!err && vmbus_storvsc_submit(&s, op % 5, req) == 0) {
		reqs[i].busy = true;
		flying++;
	}
}

static void probe(void)
{
	if (probing || !is_ready)
		return;
	known = false; /* looking again forgets what was known of the disk */
	probing =
		vmbus_storvsc_probe(&disk, &s, 0, 0, pages + (PAGES - 1) * 4096u, found, NULL) == 0;
}

/* ---- steps ---- */

static void say(void)
{
	uint8_t out[128] = { 0 };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = out };
	uint32_t i;

	if (!primary)
		return;
	put(out, 4, take(input, 1) % 16);
	msg.len = take(input, 1) % 128;
	for (i = 4; i < 8; i++)
		out[i] = (uint8_t)take(input, 1);
	(void)vmbus_chan_send(primary, &msg, 1);
	if (take(input, 1) & 1)
		(void)vmbus_chan_complete(primary, take(input, 4), out, msg.len);
}

static void step(void)
{
	const uint32_t op = take(input, 1);

	switch (op % 16) {
	case 0:
		start();
		break;
	case 1:
	case 2:
	case 3:
		submit(op / 16);
		break;
	case 4:
		probe();
		break;
	case 5:
		say();
		break;
	case 6:
		if (primary)
			(void)vmbus_chan_offer_subchannels(primary, 1 + op / 16 % 4);
		break;
	case 7:
		if (started && op >= 240)
			(void)vmbus_storvsc_stop(&s);
		break;
	case 8:
		if (primary && op >= 240)
			vmbus_chan_fail(primary, "input");
		break;
	default:
		answer(op / 16);
		break;
	}
	if (op % 3) /* or several steps at once */
		loop_settle(l);
}

static void set_up(void)
{
	l = loop_new(NULL, NULL);
	must_eq(vmbus_bus_offer(l->bus, &vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	pages = vmbus_guest_pages(l->guest, PAGES);
	must(pages != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t ops;

	input = &in;
	if (!l)
		set_up();
	start();
	loop_settle(l);
	for (ops = 0; in.left && ops < OPS_MAX; ops++)
		step();
	in.left = 0;
	if (started)
		(void)vmbus_storvsc_stop(&s);
	loop_settle(l);
	must(!started && !is_ready && !probing);
	must_eq(flying, 0);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Both ends of the integration components, over a live bus and guest: the parent's end against a
 * child whose every message is input, the child's end against such a parent.  Openings and closings,
 * and requests to shut down, come in between.  Events have to be in order, answers no longer than
 * their requests.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include "ic/ic.h"
#include "fuzz/input.h"

#define OPS_MAX 64u
#define BYTES_MAX 256u

static struct loop *l;
static struct vmbus_ic *ic;
static uint32_t ready[3];

/* The parent by hand, and the clients it plays against. */
static struct by_hand {
	struct vmbus_vsp vsp;
	struct vmbus_chan *chan;
	struct vmbus_ic_client client;
	uint32_t asked; /* longest request */
	uint32_t len;
	uint8_t last[4096];
} hand[3];

static void event(void *ctx, uint32_t component, enum vmbus_ic_event what, uint64_t value)
{
	uint32_t *const r = &ready[component / 2];

	(void)ctx;
	(void)value;
	if (what == VMBUS_IC_READY)
		must((*r)++ == 0);
	else if (what == VMBUS_IC_GONE)
		must((*r)-- == 1);
	else if (what != VMBUS_IC_REFUSED)
		must(*r == 1);
}

static int hand_open(struct vmbus_chan *chan, void *ctx)
{
	struct by_hand *h = ctx;

	h->chan = chan;
	h->asked = h->len = 0;
	return 0;
}

static int hand_close(struct vmbus_chan *chan)
{
	((struct by_hand *)vmbus_chan_ctx(chan))->chan = NULL;
	return 0;
}

static void hand_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct by_hand *h = vmbus_chan_ctx(chan);
	uint32_t i;

	for (i = 0; i < n; i++) {
		must(pkt[i].type == VMBUS_PKT_INBAND && pkt[i].len <= h->asked);
		must(pkt[i].len >= 28 && pkt[i].payload[25] == 5);
	}
	h->len = pkt[n - 1].len;
	memcpy(h->last, pkt[n - 1].payload, h->len);
}

static uint32_t on_shutdown(void *ctx, uint32_t flags, uint32_t timeout_s)
{
	(void)ctx;
	return flags ^ timeout_s;
}

static void set_up(void)
{
	struct vmbus_ic_opts opts = ic_opts();
	uint32_t i;

	l = loop_new(NULL, NULL);
	opts.event = event;
	must_eq(vmbus_ic_create(l->bus, &opts, &ic), 0);
	for (i = 0; i < 3; i++) {
		hand[i].vsp = (struct vmbus_vsp){ .struct_bytes = sizeof(hand[i].vsp),
						  .name = "by hand",
						  .class_id = ic_class[i],
						  .open = hand_open,
						  .close = hand_close,
						  .packets = hand_packets };
		must_eq(vmbus_bus_offer(l->bus, &hand[i].vsp, &hand[i], NULL, NULL), 0);
	}
	loop_connect(l);
}

/* ---- steps ---- */

/* Bytes of the input, or what came last with some of its bytes changed. */
static uint32_t make(struct input *in, uint8_t *to, const uint8_t *last, uint32_t len)
{
	const uint32_t how = take(in, 1);
	uint32_t i;

	if (how < 128 && len) {
		memcpy(to, last, len);
		for (i = 0; i < how % 8; i++)
			to[take(in, 1) % len] = (uint8_t)take(in, 1);
		return how & 64 ? len - take(in, 1) % len : len;
	}
	len = how == 255 ? 2088 : how % 97;
	memset(to, 0, len);
	for (i = 0; i < len && in->left && i < BYTES_MAX; i++)
		to[i] = (uint8_t)take(in, 1);
	return len;
}

/* The channel of a component: the first is of the library's parent, the second of the one by hand. */
static struct vmbus_vsc *find(uint32_t i, uint32_t by_hand)
{
	struct vmbus_vsc *a = vmbus_vsc_find(l->guest, &ic_class[i], 0);
	struct vmbus_vsc *b = vmbus_vsc_find(l->guest, &ic_class[i], 1);
	struct vmbus_vsc_info info;

	must(a && b); /* one that was broken is offered again, behind the other */
	vmbus_vsc_info(a, &info);
	return (info.offer.flags == 0) == (by_hand == 1) ? a : b;
}

static void child_says(struct input *in, uint32_t i)
{
	struct ic_kept *k = &ic_kept[i];
	uint8_t data[4096];
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data };
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };

	k->vsc = find(i, 0);
	if (vmbus_vsc_state(k->vsc) != VMBUS_VSC_OPEN) {
		memset(k, 0, sizeof(*k));
		k->vsc = find(i, 0);
		opts.packets = ic_packets;
		opts.closed = ic_closed;
		opts.priv = k;
		must_eq(vmbus_vsc_open(k->vsc, &opts), 0);
		return;
	}
	msg.len = make(in, data, k->last, k->len);
	(void)vmbus_vsc_send(k->vsc, &msg, 1);
}

static void parent_says(struct input *in, uint32_t i)
{
	static const struct vmbus_ic_client_opts client_opts = { .struct_bytes =
									 sizeof(client_opts),
								 .shutdown = on_shutdown };
	struct by_hand *h = &hand[i];
	uint8_t data[4096];
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data };

	if (!h->chan) {
		must_eq(vmbus_ic_client_start(&h->client, find(i, 1), &client_opts), 0);
		return;
	}
	msg.len = make(in, data, h->last, h->len);
	if (h->asked < (msg.len + 7) / 8 * 8)
		h->asked = (msg.len + 7) / 8 * 8;
	must_eq(vmbus_chan_send(h->chan, &msg, 1), 1);
}

static void agree(uint32_t i)
{
	struct ic_kept *k = &ic_kept[i];

	if (k->vsc && vmbus_vsc_state(k->vsc) == VMBUS_VSC_OPEN && k->len >= 44 &&
	    ic_get(k->last + 12, 2) == 0)
		ic_agree(l, k, 0x30000);
}

static void step(struct input *in)
{
	const uint32_t op = take(in, 1), i = op / 8 % 3;

	switch (op % 8) {
	case 0:
	case 1:
	case 2:
		child_says(in, i);
		break;
	case 3:
	case 4:
		parent_says(in, i);
		break;
	case 5:
		agree(i);
		break;
	case 6:
		(void)vmbus_ic_shutdown(ic, take(in, 1), take(in, 1), "text");
		(void)vmbus_ic_sync(ic);
		break;
	default:
		if (vmbus_vsc_state(find(i, op >> 7)) == VMBUS_VSC_OPEN)
			must_eq(vmbus_vsc_close(find(i, op >> 7)), 0);
		break;
	}
	loop_settle(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vmbus_ic_info info;
	uint32_t i, ops;

	if (!l)
		set_up();
	memset(ic_kept, 0, sizeof(ic_kept));
	for (ops = 0; in.left && ops < OPS_MAX; ops++)
		step(&in);
	for (i = 0; i < 6; i++)
		if (vmbus_vsc_state(find(i % 3, i / 3)) == VMBUS_VSC_OPEN)
			must_eq(vmbus_vsc_close(find(i % 3, i / 3)), 0);
	loop_settle(l);
	vmbus_ic_info(ic, &info);
	must_eq(info.ready, 0);
	must(!info.alive && !ready[0] && !ready[1] && !ready[2]);
	must(!ic_readable(ic));
	return 0;
}

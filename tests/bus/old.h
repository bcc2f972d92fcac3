/* SPDX-License-Identifier: MIT */
/*
 * Saved states that are kept in the tree: how a session came to each, how it is written to a file,
 * and what the child sees when it goes on from there.
 */
#ifndef VMBUS_TESTS_BUS_OLD_H
#define VMBUS_TESTS_BUS_OLD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <vmbus/echo.h>
#include <vmbus/ic.h>

#include "bank.h"
#include "channel/srv_state_check.h"

#define OLD_PAGES 64u
#define OLD_CHANS 3u
#define OLD_TEXT 4096u

struct old {
	struct fake f;
	struct bank_ctx bank[2];
	struct vmbus_chan *chan[3];
	struct vmbus_ic *ic;
	struct fake_chan child[OLD_CHANS];
	uint32_t children; /* of these, with rings */
	bool second;	   /* is offered */
	bool echo;	   /* and ic, in the place of the banks */
	uint8_t *state;
	size_t bytes;
	char text[OLD_TEXT];
	size_t len;
};

static inline void old_say(struct old *o, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(o->text + o->len, sizeof(o->text) - o->len, format, args);
	va_end(args);
	must(n >= 0 && (size_t)n < sizeof(o->text) - o->len);
	o->len += (size_t)n;
}

static inline void old_create(struct old *o)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts) };
	const struct vmbus_ic_opts ic = { .struct_bytes = sizeof(ic),
					  .components = VMBUS_IC_SHUTDOWN };

	o->f.opts.limits =
		(struct vmbus_srv_opts){ .struct_bytes = sizeof(o->f.opts.limits), .chans_max = 8 };
	fake_create(&o->f);
	o->bank[1].subs = 1;
	opts.instance_id.b[0] = 1;
	if (o->echo) {
		must_eq(vmbus_bus_offer(o->f.bus, vmbus_echo_vsp(), NULL, &opts, &o->chan[0]), 0);
		must_eq(vmbus_ic_create(o->f.bus, &ic, &o->ic), 0);
		return;
	}
	must_eq(vmbus_bus_offer(o->f.bus, &bank_vsp, &o->bank[0], &opts, &o->chan[0]), 0);
	opts.instance_id.b[0] = 2;
	opts.order = 1;
	if (o->second)
		must_eq(vmbus_bus_offer(o->f.bus, &bank_vsp, &o->bank[1], &opts, &o->chan[1]), 0);
}

static inline void old_ask(struct old *o, uint32_t at, uint64_t id, uint32_t op, uint32_t n)
{
	const struct bank_request req = { op, n, id };

	must_eq(fake_send(&o->child[at], id, &req, sizeof(req)), 1);
}

/* ---- the sessions ---- */

static inline void old_offered(struct old *o)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };

	fake_contact(&o->f, VMBUS_PROTO_5_3);
	o->f.busy = true;
	fake_post(&o->f, &ctl);
	fake_run(&o->f);
	fake_post(&o->f, &ctl); /* one that nobody looks at before the state is restored */
}

static inline void old_opened(struct old *o, uint32_t version)
{
	fake_contact(&o->f, version);
	must_eq(fake_offers(&o->f, o->child, OLD_CHANS), o->echo || o->second ? 2 : 1);
	must_eq(fake_open(&o->f, &o->child[0], 2, 2), 0);
	o->children = 1;
}

static inline void old_traffic(struct old *o)
{
	uint64_t id;

	old_opened(o, VMBUS_PROTO_5_3);
	for (id = 1; id <= 3; id++)
		old_ask(o, 0, id, BANK_KEEP, 0);
	old_ask(o, 0, 4, BANK_FLOOD, 150);
	fake_run(&o->f); /* the ring to the child is full */
	for (id = 5; id <= 20; id++)
		old_ask(o, 0, id, BANK_ECHO, 0);
	old_ask(o, 0, 21, BANK_PAY, 0);
}

static inline void old_lists(struct old *o)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_HEADER };

	old_opened(o, VMBUS_PROTO_5_2);
	must_eq(fake_share(&o->f, o->child[0].relid, 77, fake_pages(&o->f, 8), 8), 0);
	ctl.u.gpadl.relid = o->child[0].relid;
	ctl.u.gpadl.gpadl = 78;
	ctl.u.gpadl.range_bytes = 8 + 8 * 40;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.count = 27;
	ctl.u.gpadl.qwords[0] = 40 * FAKE_PAGE;
	fake_post(&o->f, &ctl);
	fake_run(&o->f);
	o->f.busy = true;
	fake_post_teardown(&o->f, o->child[0].relid, 77);
	fake_run(&o->f);
}

static inline void old_subs(struct old *o)
{
	struct vmbus_ctl ctl;

	old_opened(o, VMBUS_PROTO_5_3);
	fake_rings(&o->f, &o->child[1], 2, 2);
	o->child[1].gpadl = o->f.next_gpadl++;
	must_eq(fake_share(&o->f, o->child[1].relid, o->child[1].gpadl, o->child[1].first, 4), 0);
	fake_post_open(&o->f, &o->child[1], 0);
	fake_expect(&o->f, VMBUS_CTL_OFFER, &ctl);
	o->child[2].fake = &o->f;
	o->child[2].relid = ctl.u.offer.relid;
	o->child[2].conn = ctl.u.offer.conn_id;
	fake_expect(&o->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(fake_open(&o->f, &o->child[2], 2, 2), 0);
	o->children = 3;
	old_ask(o, 2, 1, BANK_KEEP, 0);
	fake_run(&o->f);
	old_ask(o, 2, 2, BANK_PAY, 0);
	old_ask(o, 1, 3, BANK_ECHO, 0);
}

static inline void old_withdrawn(struct old *o)
{
	old_opened(o, VMBUS_PROTO_4_1);
	fake_post_close(&o->f, &o->child[0]);
	fake_run(&o->f);
	must_eq(vmbus_bus_revoke(o->chan[1]), 0);
	o->second = false;
	fake_expect(&o->f, VMBUS_CTL_RESCIND, NULL);
}

static inline void old_first(struct old *o)
{
	old_opened(o, VMBUS_PROTO_2_4);
	old_ask(o, 0, 1, BANK_ECHO, 0);
}

/* As fake_open(), without open data, which the echo device would take for a number. */
static inline void old_open_plain(struct old *o, struct fake_chan *c)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OPEN };

	fake_rings(&o->f, c, 2, 2);
	c->gpadl = o->f.next_gpadl++;
	must_eq(fake_share(&o->f, c->relid, c->gpadl, c->first, 4), 0);
	ctl.u.open.relid = c->relid;
	ctl.u.open.gpadl = c->gpadl;
	ctl.u.open.downstream_page = 2;
	fake_post(&o->f, &ctl);
	fake_expect(&o->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
}

static inline void old_devices(struct old *o)
{
	uint8_t data[1000] = { 1, 2, 3 };
	struct fake_chan *echo;
	uint64_t id;

	fake_contact(&o->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&o->f, o->child, OLD_CHANS), 2);
	old_open_plain(o, &o->child[0]);
	old_open_plain(o, &o->child[1]);
	o->children = 2;
	echo = &o->child[o->child[0].instance.b[0] == 1 ? 0 : 1];
	for (id = 1; id <= 3; id++)
		must_eq(fake_send(echo, id, data, sizeof(data)), 1);
	fake_run(&o->f);
	for (id = 4; id <= 6; id++)
		must_eq(fake_send(echo, id, data, sizeof(data)), 1);
	fake_run(&o->f); /* three are back, and the others are kept */
}

static const struct old_session {
	const char *name;
	void (*live)(struct old *o);
	bool second, echo;
} old_sessions[] = {
	{ "offered", old_offered, true, false },     { "traffic", old_traffic, true, false },
	{ "lists", old_lists, false, false },	     { "subs", old_subs, true, false },
	{ "withdrawn", old_withdrawn, true, false }, { "first", old_first, false, false },
	{ "devices", old_devices, false, true },
};
#define OLD_SESSIONS (sizeof(old_sessions) / sizeof(old_sessions[0]))

static inline void old_free(struct old *o)
{
	uint32_t i;

	for (i = 0; i < OLD_CHANS; i++)
		fake_chan_free(&o->child[i]);
	fake_fini(&o->f);
	vmbus_ic_destroy(o->ic);
	free(o->state);
	free(o);
}

/* A session up to the point where it is saved, and its state. */
static inline struct old *old_live(const struct old_session *session)
{
	struct old *o = calloc(1, sizeof(*o));
	size_t again;

	must(o != NULL);
	o->second = session->second;
	o->echo = session->echo;
	fake_prepare(&o->f, OLD_PAGES);
	old_create(o);
	session->live(o);
	must_eq(vmbus_bus_save(o->f.bus, NULL, 0, &o->bytes), VMBUS_E_RANGE);
	o->state = malloc(o->bytes);
	must(o->state != NULL);
	must_eq(vmbus_bus_save(o->f.bus, o->state, o->bytes, &again), 0);
	return o;
}

/* ---- files ---- */

static inline void old_word(FILE *file, uint32_t v)
{
	const uint8_t le[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
				(uint8_t)(v >> 24) };

	must_eq(fwrite(le, 4, 1, file), 1);
}

static inline uint32_t old_read_word(FILE *file)
{
	uint8_t le[4] = { 0 };

	must_eq(fread(le, 4, 1, file), 1);
	return (uint32_t)le[0] | (uint32_t)le[1] << 8 | (uint32_t)le[2] << 16 |
	       (uint32_t)le[3] << 24;
}

/*
 * Flags, version, the child's channels with their rings' pages, the state, and the pages of memory
 * that are not zero: each by its number.
 */
static inline void old_write(const struct old *o, FILE *file)
{
	static const uint8_t zero[VMBUS_PAGE_BYTES];
	uint32_t i;

	old_word(file, (o->second ? 1u : 0) | (o->echo ? 2u : 0));
	old_word(file, o->f.version);
	old_word(file, o->children);
	for (i = 0; i < o->children; i++) {
		old_word(file, o->child[i].relid);
		old_word(file, (uint32_t)o->child[i].first);
		old_word(file, o->child[i].up);
		old_word(file, o->child[i].down);
	}
	old_word(file, (uint32_t)o->bytes);
	must_eq(fwrite(o->state, o->bytes, 1, file), 1);
	for (i = 0; i < OLD_PAGES; i++) {
		if (memcmp(o->f.mem + i * FAKE_PAGE, zero, sizeof(zero)) == 0)
			continue;
		old_word(file, i);
		must_eq(fwrite(o->f.mem + i * FAKE_PAGE, sizeof(zero), 1, file), 1);
	}
	old_word(file, UINT32_MAX);
}

/* The receiving end of a child that was saved elsewhere. */
static inline void old_child(struct old *o, uint32_t at)
{
	struct fake_chan *c = &o->child[at];
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = fake_child_signal,
					.signal_ctx = c };

	c->fake = &o->f;
	c->conn = (VMBUS_SINT_MESSAGE << 12) + c->relid;
	fake_mem_init(&o->f, &c->rx_mem, c->first + c->up, c->down);
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(c->rx_mem.size_p);
	c->buf = aligned_alloc(64, (opts.buf_bytes + 63) / 64 * 64);
	opts.buf = c->buf;
	must_eq(vmbus_ring_rx_init(&c->rx, &c->rx_mem, &opts), 0);
}

/* A state from a file, with the memory that it is about; not restored yet. */
static inline struct old *old_read(FILE *file)
{
	struct old *o = calloc(1, sizeof(*o));
	uint32_t i, flags;

	must(o != NULL);
	flags = old_read_word(file);
	o->second = flags & 1;
	o->echo = (flags & 2) != 0;
	fake_prepare(&o->f, OLD_PAGES);
	o->f.version = old_read_word(file);
	o->children = old_read_word(file);
	must(o->children <= OLD_CHANS);
	for (i = 0; i < o->children; i++) {
		o->child[i].relid = old_read_word(file);
		o->child[i].first = old_read_word(file);
		o->child[i].up = old_read_word(file);
		o->child[i].down = old_read_word(file);
	}
	o->bytes = old_read_word(file);
	must(o->bytes < 1 << 20);
	o->state = malloc(o->bytes);
	must(o->state != NULL);
	must_eq(fread(o->state, o->bytes, 1, file), 1);
	while ((i = old_read_word(file)) != UINT32_MAX) {
		must(i < OLD_PAGES);
		must_eq(fread(o->f.mem + i * FAKE_PAGE, FAKE_PAGE, 1, file), 1);
	}
	return o;
}

/* ---- and on ---- */

static inline void old_messages(struct old *o)
{
	struct vmbus_ctl ctl;
	uint32_t type;

	while ((type = fake_take(&o->f, &ctl)) != 0) {
		old_say(o, "%s", vmbus_ctl_type_name(type));
		if (type == VMBUS_CTL_OFFER)
			old_say(o, " %u", ctl.u.offer.relid);
		else if (type != VMBUS_CTL_ALL_OFFERS && type != VMBUS_CTL_UNLOAD_RESPONSE)
			old_say(o, " %u", ctl.u.chan.relid);
		old_say(o, "\n");
	}
}

static inline uint32_t old_packets(struct old *o, uint32_t at, uint32_t *sum)
{
	struct vmbus_packet pkt;
	uint32_t n = 0;

	while (fake_receive(&o->child[at], &pkt, 1) == 1) {
		uint8_t head[12];

		memcpy(head, &pkt.id, 8);
		memcpy(head + 8, &pkt.type, 2);
		*sum = vmbus__state_sum(*sum, head, 10);
		*sum = vmbus__state_sum(*sum, pkt.payload, pkt.len);
		n++;
	}
	return n;
}

/* What the child sees of it all, as text. */
static inline void old_go_on(struct old *o)
{
	const struct vmbus_ctl unload = { .type = VMBUS_CTL_UNLOAD };
	char why[160] = "";
	uint32_t i;
	int err;

	old_create(o);
	err = vmbus_bus_restore(o->f.bus, o->state, o->bytes, why, sizeof(why));
	if (err)
		ck_abort_msg("%s: %s (%s)", vmbus_err_name(err), why, vmbus_test_where);
	for (i = 0; i < o->children; i++)
		old_child(o, i);
	old_messages(o);
	for (i = 0; i < o->children; i++) {
		uint32_t n = 0, some, sum = 0;

		do {
			fake_run(&o->f);
			some = old_packets(o, i, &sum);
			n += some;
		} while (some);
		old_say(o, "channel %u: %u packets, %08x\n", o->child[i].relid, n, sum);
	}
	fake_post(&o->f, &unload);
	old_messages(o);
}

#endif

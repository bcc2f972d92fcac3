/* SPDX-License-Identifier: MIT */
/*
 * A parent to test guests with, in the same thread and without a bus: the host machine, its view
 * of the child's memory, one end of each ring, and behaviours that a test chooses.  A channel of
 * the parent's runs only when it was signalled, as one that sleeps would, so a signal that is lost
 * shows as a wait that meets its deadline.  Time passes when the guest is idle.
 */
#ifndef PARENT_H
#define PARENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdio.h>

#include <vmbus/srv.h>

#include "child.h"

#define PARENT_CHANS 64u
#define PARENT_INBOX 512u
#define PARENT_CONN 0x2000u /* a channel's connection id is this plus its relid */
#define PARENT_PAGES_MAX 8192u
#define PARENT_SECOND 1000000000ull /* of nanoseconds */

struct parent;

struct parent_chan {
	struct parent *parent;
	struct vmbus_srv_ref ref;
	struct vmbus_srv_action open; /* what the child asked for */
	uint32_t relid;
	bool offered, is_open, signalled;
	bool opening;	/* OPEN is not answered yet */
	bool hold_open; /* do not answer it */
	uint32_t open_status;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	void **pages; /* of both rings, as we see them */
	uint8_t *buf;
	uint32_t send_bytes, recv_bytes;
	unsigned long packets, signals_in, signals_out;
	bool want_room; /* a completion waits for room */
	void (*on_packet)(struct parent_chan *chan, const struct vmbus_packet *pkt);
	void (*on_turn)(struct parent_chan *chan); /* before packets are looked at */
	void *priv;
};

struct parent_msg {
	uint32_t bytes;
	uint8_t payload[VMBUS_CTL_BYTES_MAX];
};

struct parent {
	struct child mem;
	struct vmbus_guest_backend backend;
	struct vmbus_guest *guest;
	struct vmbus_srv *srv;
	void *srv_storage;
	uint64_t now; /* 100 ns */
	uint64_t flags[32];
	struct parent_msg inbox[PARENT_INBOX]; /* for the child */
	uint32_t inbox_first, inbox_count;
	struct parent_chan chans[PARENT_CHANS];
	/* faults */
	uint32_t post_status; /* of the next post_status_times posts */
	uint32_t post_status_times;
	uint8_t post_type;	   /* if not 0, only messages of this type count for that */
	uint32_t post_again_times; /* AGAIN so often before each post is done */
	uint32_t post_again_left;
	bool mailbox; /* a post is done, and says so, at the parent's next turn */
	bool mail, mail_taken;
	uint32_t signal_fails; /* the next so many signals are not taken */
	bool no_contact_port;  /* as a parent below 5.0 */
	bool mute;	       /* takes messages, and does nothing about them */
	bool hold_ready;       /* page lists: do not answer */
	bool hold_gone;
	uint32_t gpadl_status;
	struct vmbus_srv_ref held_ready[64], held_gone[64];
	uint32_t held_ready_count, held_gone_count;
	/* counters */
	unsigned long posts, idles, lines;
	char last_line[200];
	uint32_t refusals; /* lines about any */
	uint32_t version;
	uint32_t unloads;
	void (*on_idle)(struct parent *parent);
	unsigned long offered, gone;
	struct vmbus_vsc *vscs[VMBUS_RELID_MAX + 1]; /* offered and not gone, by relid */
	void (*on_offered)(struct parent *parent, struct vmbus_vsc *vsc);
	void (*on_gone)(struct parent *parent, struct vmbus_vsc *vsc);
};

static const struct vmbus_guid parent_class =
	VMBUS_GUID(0x7e57c1a5, 0x0001, 0x4000, 0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07);

/* ---- the child's backend ---- */

static inline int parent_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			      uint32_t bytes)
{
	struct parent *p = ctx;

	must_eq(type, VMBUS_MSG_TYPE_CTL);
	if (p->post_again_left) {
		p->post_again_left--;
		return VMBUS_E_AGAIN;
	}
	p->post_again_left = p->post_again_times;
	if (p->mail) {
		p->mail = !p->mail_taken;
		return p->mail ? VMBUS_E_AGAIN : 0;
	}
	p->posts++;
	if (p->post_status_times &&
	    (!p->post_type || p->post_type == ((const uint8_t *)payload)[0])) {
		p->post_status_times--;
		return (int)p->post_status;
	}
	if (conn_id == VMBUS_CONN_CONTACT && p->no_contact_port)
		return 0x12;
	if (conn_id != VMBUS_CONN_CONTACT && conn_id != VMBUS_CONN_MESSAGE)
		return 0x12;
	if (p->mute)
		return 0;
	if (vmbus_srv_message(p->srv, conn_id, payload, bytes))
		return 0x13;
	p->mail = p->mailbox;
	p->mail_taken = false;
	return p->mail ? VMBUS_E_AGAIN : 0;
}

static inline int parent_receive(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	struct parent *p = ctx;
	const struct parent_msg *msg = &p->inbox[p->inbox_first];

	if (p->inbox_count == 0)
		return 0;
	*type = VMBUS_MSG_TYPE_CTL;
	*bytes = msg->bytes;
	memcpy(payload, msg->payload, msg->bytes);
	p->inbox_first = (p->inbox_first + 1) % PARENT_INBOX;
	p->inbox_count--;
	return 1;
}

static inline uint64_t parent_flags(void *ctx, uint32_t word)
{
	struct parent *p = ctx;
	const uint64_t bits = p->flags[word];

	p->flags[word] = 0;
	return bits;
}

static inline struct parent_chan *parent_by_relid(struct parent *p, uint32_t relid)
{
	uint32_t i;

	for (i = 0; i < PARENT_CHANS; i++)
		if (p->chans[i].offered && p->chans[i].relid == relid)
			return &p->chans[i];
	return NULL;
}

static inline int parent_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	struct parent *p = ctx;
	struct parent_chan *chan = parent_by_relid(p, conn_id - PARENT_CONN);

	must_eq(flag, 0);
	if (p->signal_fails) {
		p->signal_fails--;
		return 0x13;
	}
	if (chan) {
		chan->signalled = true;
		chan->signals_in++;
	}
	return 0;
}

static inline void *parent_alloc(void *ctx, size_t bytes, bool shared)
{
	return child_alloc(&((struct parent *)ctx)->mem, bytes, shared);
}

static inline void parent_release(void *ctx, void *at, size_t bytes, bool shared)
{
	child_release(&((struct parent *)ctx)->mem, at, bytes, shared);
}

static inline uint64_t parent_pfn(void *ctx, const void *page)
{
	return child_pfn(&((struct parent *)ctx)->mem, page);
}

static inline void *parent_mirror(void *ctx, void *at, size_t size)
{
	return child_mirror(&((struct parent *)ctx)->mem, at, size);
}

static inline void parent_unmirror(void *ctx, void *window, size_t size)
{
	child_unmirror(&((struct parent *)ctx)->mem, window, size);
}

static inline uint64_t parent_time(void *ctx)
{
	return ((struct parent *)ctx)->now;
}

static inline uint32_t parent_turn(struct parent *p);

static inline int parent_idle(void *ctx, uint64_t timeout_ns)
{
	struct parent *p = ctx;

	p->idles++;
	if (p->on_idle)
		p->on_idle(p);
	/* A wake-up comes soon if the parent had something to do, else time passes. */
	if (parent_turn(p))
		p->now += 10;
	else
		p->now += timeout_ns / 100u + 1;
	return 0;
}

/* ---- the parent ---- */

static inline uint64_t *parent_list_get(void *ctx, uint32_t qwords)
{
	(void)ctx;
	return malloc(qwords * sizeof(uint64_t));
}

static inline void parent_list_put(void *ctx, uint64_t *list, uint32_t qwords)
{
	(void)ctx;
	(void)qwords;
	free(list);
}

/* A control message to the child, as the parent's machine or a liar makes it. */
static inline void parent_tell(struct parent *p, const void *bytes, uint32_t len)
{
	struct parent_msg *msg = &p->inbox[(p->inbox_first + p->inbox_count) % PARENT_INBOX];

	must(p->inbox_count < PARENT_INBOX);
	must(len <= sizeof(msg->payload));
	msg->bytes = len;
	memcpy(msg->payload, bytes, len);
	p->inbox_count++;
}

static inline void parent_raise(struct parent *p, uint32_t relid)
{
	p->flags[relid / 64] |= 1ull << relid % 64;
}

static inline void parent_chan_signal(void *ctx)
{
	struct parent_chan *chan = ctx;

	chan->signals_out++;
	if (chan->open.target_vp != VMBUS_VP_NONE)
		parent_raise(chan->parent, chan->relid);
}

/* Complete requests with their own payload, send back what is none. */
static inline void parent_echo(struct parent_chan *chan, const struct vmbus_packet *pkt)
{
	struct vmbus_msg msg = { .data = pkt->payload, .len = pkt->len, .id = pkt->id };

	msg.type = pkt->flags & VMBUS_PKT_FLAG_COMPLETE ? VMBUS_PKT_COMPLETION : pkt->type;
	if (pkt->type != VMBUS_PKT_COMPLETION)
		must_eq(vmbus_ring_tx_put(&chan->tx, &msg, 1), 1);
}

static inline void parent_ignore(struct parent_chan *chan, const struct vmbus_packet *pkt)
{
	(void)chan;
	(void)pkt;
}

static inline void parent_ring(struct parent_chan *chan, uint32_t first, uint32_t size,
			       struct vmbus_ring_mem *mem)
{
	struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts) };

	opts.window = VMBUS_RING_SCATTERED;
	opts.size = size;
	opts.ctl = chan->pages[first];
	opts.pages = &chan->pages[first + 1];
	must_eq(vmbus_ring_mem_init(mem, &opts), 0);
}

static inline void parent_chan_map(struct parent_chan *chan)
{
	struct parent *p = chan->parent;
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_ring_mem recv, send;
	const uint64_t *qwords;
	uint32_t count, ranges, i, down = chan->open.downstream_page;

	count = vmbus_srv_list(p->srv, chan->open.list, &qwords, &ranges);
	must(count > 4 && ranges == 1);
	must(down >= 2 && down + 2 <= count - 1);
	chan->pages = calloc(count, sizeof(void *));
	must(chan->pages != NULL);
	for (i = 0; i + 1 < count; i++) {
		must(qwords[i + 1] < p->mem.pages);
		chan->pages[i] = p->mem.host + qwords[i + 1] * CHILD_PAGE;
	}
	chan->recv_bytes = (down - 1) * VMBUS_PAGE_BYTES;
	chan->send_bytes = (count - 1 - down - 1) * VMBUS_PAGE_BYTES;
	parent_ring(chan, 0, chan->recv_bytes, &recv);
	parent_ring(chan, down, chan->send_bytes, &send);
	opts.signal = parent_chan_signal;
	opts.signal_ctx = chan;
	must_eq(vmbus_ring_tx_init(&chan->tx, &send, &opts), 0);
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(chan->recv_bytes);
	chan->buf = malloc(opts.buf_bytes);
	must(chan->buf != NULL);
	opts.buf = chan->buf;
	must_eq(vmbus_ring_rx_init(&chan->rx, &recv, &opts), 0);
}

static inline void parent_chan_unmap(struct parent_chan *chan)
{
	chan->is_open = false;
	chan->opening = false;
	free(chan->pages);
	free(chan->buf);
	chan->pages = NULL;
	chan->buf = NULL;
}

static inline struct parent_chan *parent_by_ref(struct parent *p, struct vmbus_srv_ref ref)
{
	uint32_t i;

	for (i = 0; i < PARENT_CHANS; i++)
		if (p->chans[i].offered && p->chans[i].ref.slot == ref.slot &&
		    p->chans[i].ref.gen == ref.gen)
			return &p->chans[i];
	return NULL;
}

/* Answer an OPEN that was held. */
static inline void parent_answer_open(struct parent_chan *chan, uint32_t status)
{
	chan->opening = false;
	if (status == 0) {
		chan->is_open = true;
		chan->signalled = true;
	} else {
		parent_chan_unmap(chan);
	}
	(void)vmbus_srv_opened(chan->parent->srv, chan->ref, status);
}

static inline void parent_open(struct parent *p, const struct vmbus_srv_action *act)
{
	struct parent_chan *chan = parent_by_ref(p, act->chan);

	must(chan && !chan->is_open && !chan->opening);
	chan->open = *act;
	must_eq(act->relid, chan->relid);
	must_eq(act->conn_id, PARENT_CONN + chan->relid);
	chan->opening = true;
	parent_chan_map(chan);
	if (!chan->hold_open)
		parent_answer_open(chan, chan->open_status);
}

static inline void parent_released(struct parent *p, const struct vmbus_srv_action *act)
{
	struct parent_chan *chan = parent_by_ref(p, act->chan);

	must(chan && !chan->is_open);
	chan->offered = false;
}

static inline void parent_carry_out(struct parent *p, const struct vmbus_srv_action *act)
{
	struct parent_chan *chan;

	switch (act->act) {
	case VMBUS_SRV_SEND:
		parent_tell(p, act->bytes, act->len);
		break;
	case VMBUS_SRV_CONNECTED:
		p->version = act->version;
		break;
	case VMBUS_SRV_DISCONNECTED:
		p->version = 0;
		p->unloads++;
		break;
	case VMBUS_SRV_OPEN:
		parent_open(p, act);
		break;
	case VMBUS_SRV_CLOSE:
		chan = parent_by_ref(p, act->chan);
		must(chan != NULL);
		parent_chan_unmap(chan);
		must_eq(vmbus_srv_closed(p->srv, act->chan), 0);
		break;
	case VMBUS_SRV_GPADL:
		if (p->hold_ready)
			p->held_ready[p->held_ready_count++] = act->list;
		else
			(void)vmbus_srv_gpadl_ready(p->srv, act->list, p->gpadl_status);
		break;
	case VMBUS_SRV_GPADL_DOWN:
		if (p->hold_gone)
			p->held_gone[p->held_gone_count++] = act->list;
		else
			(void)vmbus_srv_gpadl_gone(p->srv, act->list);
		break;
	case VMBUS_SRV_MODIFY:
		(void)vmbus_srv_modified(p->srv, act->chan, 0);
		break;
	case VMBUS_SRV_RELEASED:
		parent_released(p, act);
		break;
	default:
		break;
	}
}

/* Answer all page lists that were held. */
static inline void parent_answer_lists(struct parent *p, uint32_t status)
{
	while (p->held_ready_count)
		(void)vmbus_srv_gpadl_ready(p->srv, p->held_ready[--p->held_ready_count], status);
	while (p->held_gone_count)
		(void)vmbus_srv_gpadl_gone(p->srv, p->held_gone[--p->held_gone_count]);
}

/* A channel of ours that was woken: take what has come, arm, sleep. */
static inline uint32_t parent_run(struct parent_chan *chan)
{
	struct vmbus_packet pkt[16];
	uint32_t done = 0;
	int i, got;

	chan->signalled = false;
	vmbus_ring_rx_disarm(&chan->rx);
	if (chan->on_turn)
		chan->on_turn(chan);
	if (!chan->on_packet)
		return 1;
	do {
		while ((got = vmbus_ring_rx_get(&chan->rx, pkt, 16)) > 0) {
			for (i = 0; i < got; i++)
				chan->on_packet(chan, &pkt[i]);
			chan->packets += (unsigned long)got;
			done += (uint32_t)got;
			if (done >= 4096) { /* the rest in another turn */
				chan->signalled = true;
				return done;
			}
		}
		must_eq(got, 0);
	} while (vmbus_ring_rx_arm(&chan->rx) == VMBUS_RING_READY);
	return done + 1;
}

/* Everything that the parent can do now; returns how much that was. */
static inline uint32_t parent_turn(struct parent *p)
{
	struct vmbus_srv_action act;
	uint32_t i, done = 0;

	p->mail_taken = true;
	while (vmbus_srv_next(p->srv, &act) == 1) {
		parent_carry_out(p, &act);
		done++;
	}
	for (i = 0; i < PARENT_CHANS; i++)
		if (p->chans[i].is_open && p->chans[i].signalled)
			done += parent_run(&p->chans[i]);
	return done + p->inbox_count;
}

static inline void parent_log(void *ctx, const char *line)
{
	struct parent *p = ctx;

	p->lines++;
	p->refusals += strstr(line, "refused") != NULL;
	snprintf(p->last_line, sizeof(p->last_line), "%s", line);
}

static inline void parent_offered(void *ctx, struct vmbus_vsc *vsc)
{
	struct parent *p = ctx;
	struct vmbus_vsc_info info;

	vmbus_vsc_info(vsc, &info);
	must_eq(info.state, VMBUS_VSC_OFFERED);
	must(info.offer.relid <= VMBUS_RELID_MAX && !p->vscs[info.offer.relid]);
	p->vscs[info.offer.relid] = vsc;
	p->offered++;
	if (p->on_offered)
		p->on_offered(p, vsc);
}

static inline void parent_gone(void *ctx, struct vmbus_vsc *vsc)
{
	struct parent *p = ctx;
	struct vmbus_vsc_info info;

	vmbus_vsc_info(vsc, &info);
	must_eq(info.state, VMBUS_VSC_GONE);
	must(p->vscs[info.offer.relid] == vsc);
	p->vscs[info.offer.relid] = NULL;
	p->gone++;
	if (p->on_gone)
		p->on_gone(p, vsc);
}

static inline void parent_srv(struct parent *p, uint32_t version_max)
{
	struct vmbus_srv_opts opts = { .struct_bytes = sizeof(opts) };
	size_t bytes;

	opts.chans_max = PARENT_CHANS;
	opts.version_max = version_max;
	opts.features = version_max == VMBUS_PROTO_6_0 ? VMBUS_FEATURE_PAUSE : 0;
	opts.list_get = parent_list_get;
	opts.list_put = parent_list_put;
	bytes = vmbus_srv_bytes(&opts);
	must(bytes > 0);
	p->srv_storage = aligned_alloc(64, (bytes + 63) / 64 * 64);
	must(p->srv_storage != NULL);
	must_eq(vmbus_srv_init(p->srv_storage, bytes, &opts, &p->srv), 0);
}

static inline void parent_backend(struct parent *p)
{
	p->backend.struct_bytes = sizeof(p->backend);
	p->backend.post = parent_post;
	p->backend.receive = parent_receive;
	p->backend.flags = parent_flags;
	p->backend.signal = parent_signal;
	p->backend.alloc = parent_alloc;
	p->backend.release = parent_release;
	p->backend.pfn = parent_pfn;
	p->backend.mirror = parent_mirror;
	p->backend.unmirror = parent_unmirror;
	p->backend.idle = parent_idle;
	p->backend.time = parent_time;
}

static inline struct vmbus_guest_opts parent_guest_opts(struct parent *p)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };

	opts.backend = &p->backend;
	opts.backend_ctx = p;
	opts.offered = parent_offered;
	opts.gone = parent_gone;
	opts.ctx = p;
	opts.log = parent_log;
	return opts;
}

/* A parent of a version, and a guest that is not connected yet.  version 0: the newest. */
static inline struct parent *parent_new(uint32_t version_max)
{
	struct parent *p = calloc(1, sizeof(*p));
	struct vmbus_guest_opts opts;

	must(p != NULL);
	child_init(&p->mem, PARENT_PAGES_MAX);
	p->now = 1000;
	parent_backend(p);
	parent_srv(p, version_max);
	opts = parent_guest_opts(p);
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	return p;
}

/* After vmbus_guest_parent_gone(): the end of the guest, and another one. */
static inline void parent_new_guest(struct parent *p)
{
	const struct vmbus_guest_opts opts = parent_guest_opts(p);

	vmbus_guest_destroy(p->guest);
	must_eq(p->offered, p->gone);
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
}

#define PARENT_ANY SIZE_MAX /* for parent_free(): nobody knows how many */

/* The end of both; leaked: pages that the guest has left with the parent, or PARENT_ANY. */
static inline void parent_free(struct parent *p, size_t leaked)
{
	uint32_t i;

	vmbus_guest_destroy(p->guest);
	must_eq(p->offered, p->gone);
	must_eq(p->mem.private_pages, 0);
	must_eq(p->mem.mirrors, 0);
	if (leaked != PARENT_ANY)
		must_eq(p->mem.shared_pages, leaked);
	vmbus_srv_fini(p->srv);
	for (i = 0; i < PARENT_CHANS; i++)
		if (p->chans[i].pages)
			parent_chan_unmap(&p->chans[i]);
	child_fini(&p->mem);
	free(p->srv_storage);
	free(p);
}

/* Offer a channel: number n of a class, or sub-channel sub of it. */
static inline struct parent_chan *parent_offer_sub(struct parent *p, uint8_t n, uint16_t sub)
{
	struct vmbus_offer offer = { .class_id = parent_class, .sub_index = sub };
	struct vmbus_srv_info info;
	struct parent_chan *chan = NULL;
	uint32_t i;

	for (i = 0; i < PARENT_CHANS && !chan; i++)
		if (!p->chans[i].offered)
			chan = &p->chans[i];
	must(chan != NULL);
	memset(chan, 0, sizeof(*chan));
	offer.instance_id.b[0] = n;
	offer.instance_id.b[1] = 1;
	offer.monitor_id = VMBUS_MONITOR_NONE;
	offer.order = n;
	must_eq(vmbus_srv_offer(p->srv, &offer, &chan->ref), 0);
	must_eq(vmbus_srv_info(p->srv, chan->ref.slot, &info), 1);
	chan->relid = info.relid;
	chan->parent = p;
	chan->offered = true;
	chan->on_packet = parent_echo;
	return chan;
}

static inline struct parent_chan *parent_offer(struct parent *p, uint8_t n)
{
	return parent_offer_sub(p, n, 0);
}

/* Let both sides run until neither has anything to do. */
static inline void parent_settle(struct parent *p)
{
	uint32_t i, left;
	int done;

	for (i = 0; i < 100000; i++) {
		done = vmbus_guest_dispatch(p->guest, 64);
		must(done >= 0);
		left = parent_turn(p);
		if (vmbus_guest_timeout(p->guest) != UINT64_MAX) {
			p->now += 100000;
			left++;
		}
		if (done == 0 && left == 0)
			return;
	}
	ck_abort_msg("neither side comes to rest");
}

/* Connect, and wait for the offers. */
static inline void parent_connect(struct parent *p)
{
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, PARENT_SECOND), 0);
}

#endif

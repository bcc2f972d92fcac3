/* SPDX-License-Identifier: MIT */
/*
 * A VSC to test with: counts its callbacks, checks their order, and does within each what a test
 * asks for.
 */
#ifndef TEST_VSC_H
#define TEST_VSC_H

#include "parent.h"

struct client {
	struct parent *parent;
	struct vmbus_vsc *vsc;
	struct vmbus_vsc_opts opts;
	/* Callbacks so far. */
	unsigned long opened, failed, closed, packets, batches, completed, ended, writable, wakes;
	unsigned long asked; /* requests that were accepted */
	int err;	     /* of the last opened() */
	/* The test's part. */
	void (*on_opened)(struct client *c, int err);
	void (*on_packet)(struct client *c, const struct vmbus_packet *pkt);
	void (*on_completed)(struct client *c, void *cookie, const struct vmbus_packet *pkt);
	void (*on_writable)(struct client *c);
	void (*on_closed)(struct client *c);
	bool opening, live;
	void *priv;
};

static inline void client_opened(struct vmbus_vsc *vsc, int err)
{
	struct client *c = vmbus_vsc_priv(vsc);

	must(c->opening && !c->live);
	c->opening = false;
	c->err = err;
	if (err == 0) {
		must_eq(vmbus_vsc_state(vsc), VMBUS_VSC_OPEN);
		c->live = true;
		c->opened++;
	} else {
		must(vmbus_vsc_state(vsc) == VMBUS_VSC_OFFERED ||
		     vmbus_vsc_state(vsc) == VMBUS_VSC_GONE);
		c->failed++;
	}
	if (c->on_opened)
		c->on_opened(c, err);
}

static inline void client_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	struct client *c = vmbus_vsc_priv(vsc);
	uint32_t i;

	must(c->live && n > 0);
	c->batches++;
	for (i = 0; i < n; i++) {
		must(pkt[i].type != VMBUS_PKT_COMPLETION);
		c->packets++;
		if (c->on_packet)
			c->on_packet(c, &pkt[i]);
	}
}

static inline void client_completed(struct vmbus_vsc *vsc, void *cookie,
				    const struct vmbus_packet *pkt)
{
	struct client *c = vmbus_vsc_priv(vsc);

	must(c->live);
	if (pkt)
		c->completed++;
	else
		c->ended++;
	must(c->completed + c->ended <= c->asked);
	if (c->on_completed)
		c->on_completed(c, cookie, pkt);
}

static inline void client_writable(struct vmbus_vsc *vsc)
{
	struct client *c = vmbus_vsc_priv(vsc);

	must(c->live);
	c->writable++;
	if (c->on_writable)
		c->on_writable(c);
}

static inline void client_closed(struct vmbus_vsc *vsc)
{
	struct client *c = vmbus_vsc_priv(vsc);

	must(c->live);
	must_eq(c->completed + c->ended, c->asked); /* each request ended once, before this */
	must(vmbus_vsc_state(vsc) == VMBUS_VSC_OFFERED || vmbus_vsc_state(vsc) == VMBUS_VSC_GONE);
	c->live = false;
	c->closed++;
	if (c->on_closed)
		c->on_closed(c);
}

static inline void client_wake(struct vmbus_vsc *vsc)
{
	struct client *c = vmbus_vsc_priv(vsc);

	c->wakes++;
}

/* Options that call all of the above; change c->opts before client_open(). */
static inline void client_init(struct client *c, struct parent *p, struct vmbus_vsc *vsc)
{
	memset(c, 0, sizeof(*c));
	c->parent = p;
	c->vsc = vsc;
	c->opts.struct_bytes = sizeof(c->opts);
	c->opts.opened = client_opened;
	c->opts.packets = client_packets;
	c->opts.completed = client_completed;
	c->opts.writable = client_writable;
	c->opts.closed = client_closed;
	c->opts.wake = client_wake;
	c->opts.priv = c;
}

static inline int client_begin(struct client *c)
{
	const int err = vmbus_vsc_open(c->vsc, &c->opts);

	if (err == 0)
		c->opening = true;
	return err;
}

static inline void client_open(struct client *c)
{
	must_eq(client_begin(c), 0);
	must_eq(vmbus_vsc_wait(c->vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
	must(c->live);
}

static inline void client_close(struct client *c)
{
	must_eq(vmbus_vsc_close(c->vsc), 0);
	must_eq(vmbus_vsc_wait(c->vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	must(!c->live);
}

static inline int client_request(struct client *c, const void *data, uint32_t len, void *cookie)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = len };
	const int err = vmbus_vsc_request(c->vsc, &msg, cookie);

	if (err == 0)
		c->asked++;
	return err;
}

static inline int client_send(struct client *c, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = len };

	return vmbus_vsc_send(c->vsc, &msg, 1);
}

static inline struct vmbus_vsc_info client_info(const struct client *c)
{
	struct vmbus_vsc_info info;

	vmbus_vsc_info(c->vsc, &info);
	return info;
}

/* Send as many of the messages that priv counts as there is room for. */
static inline void client_send_left(struct client *c)
{
	uint64_t *left = c->priv;
	int err = 1;

	while (*left && err == 1) {
		err = client_send(c, left, 8);
		if (err == 1)
			--*left;
	}
	must(err == 1 || err == VMBUS_E_FULL);
}

/* One offered channel, connected, and a client of it that is not open. */
struct pair {
	struct parent *p;
	struct parent_chan *chan;
	struct client c;
};

static inline void pair_init(struct pair *pair)
{
	pair->p = parent_new(0);
	pair->chan = parent_offer(pair->p, 1);
	parent_connect(pair->p);
	client_init(&pair->c, pair->p, vmbus_vsc_find(pair->p->guest, &parent_class, 0));
	must(pair->c.vsc != NULL);
}

#endif

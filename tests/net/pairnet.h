/* SPDX-License-Identifier: MIT */
/*
 * The network device's two ends, twice, in one thread: two NICs whose ports are each other's far end,
 * each behind a bus of its own, with a client over a guest.
 *
 *	struct pair p;
 *	pair_start(&p, &nic_opts, &client_opts);	either may be NULL
 *	pair_send(&p, 0, frame, n); pair_settle(&p); ... pair_take(&p, 1, ...)
 *	pair_free(&p);
 */
#ifndef TESTS_NET_PAIRNET_H
#define TESTS_NET_PAIRNET_H

#include "loop.h"

#include <vmbus/net.h>
#include <vmbus/netvsc.h>

#define PAIR_CHANNELS 4u

static const struct vmbus_guid pair_class = VMBUS_NET_CLASS;

struct pair_side {
	struct loop *l;
	struct vmbus_net *net;
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan *chan;
	struct vmbus_netvsc_burst burst;
	uint32_t ready, opened, closed, links, readable;
	int ready_err;
	bool link_up;
};

struct pair {
	struct vmbus_port port[2];
	struct pair_side side[2];
};

static inline void pair_ready(void *ctx, int err)
{
	struct pair_side *const s = ctx;

	s->ready++;
	s->ready_err = err;
}

static inline void pair_opened(void *ctx, uint32_t channel)
{
	(void)channel;
	((struct pair_side *)ctx)->opened++;
}

static inline void pair_link(void *ctx, bool up)
{
	struct pair_side *const s = ctx;

	s->links++;
	s->link_up = up;
}

static inline void pair_readable(void *ctx, uint32_t channel)
{
	(void)channel;
	((struct pair_side *)ctx)->readable++;
}

static inline void pair_closed(void *ctx)
{
	((struct pair_side *)ctx)->closed++;
}

/* Let all run until nobody has anything to do. */
static inline void pair_settle(struct pair *p)
{
	loop_settle(p->side[0].l);
	loop_settle(p->side[1].l);
	loop_settle(p->side[0].l);
	loop_settle(p->side[1].l);
}

static inline struct vmbus_vsc *pair_vsc(struct pair_side *s)
{
	struct vmbus_vsc *const vsc = vmbus_vsc_find(s->l->guest, &pair_class, 0);

	must(vsc != NULL);
	return vsc;
}

static inline void pair_client(struct pair_side *s, const struct vmbus_netvsc_opts *from)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts) };

	if (from)
		opts = *from;
	opts.chan = s->chan;
	opts.ready = pair_ready;
	opts.opened = pair_opened;
	opts.link = pair_link;
	opts.readable = pair_readable;
	opts.closed = pair_closed;
	opts.ctx = s;
	must_eq(vmbus_netvsc_start(&s->nv, pair_vsc(s), &opts), 0);
	loop_settle(s->l);
	must_eq(s->ready, 1);
	must_eq(s->ready_err, 0);
}

static inline void pair_side_start(struct pair_side *s, const struct vmbus_port *port, uint8_t n,
				   const struct vmbus_net_opts *from)
{
	struct vmbus_net_opts opts = { .struct_bytes = sizeof(opts) };

	if (from)
		opts = *from;
	opts.port = *port;
	memcpy(opts.mac, (const uint8_t[]){ 2, 0, 0, 0, 0, n }, 6);
	must_eq(vmbus_net_create(&opts, &s->net), 0);
	s->chan = calloc(PAIR_CHANNELS, sizeof(*s->chan));
	must(s->chan != NULL);
	s->l = loop_new(NULL, NULL);
	must_eq(vmbus_bus_offer(s->l->bus, vmbus_net_vsp(), s->net, NULL, NULL), 0);
	loop_connect(s->l);
}

static inline void pair_start(struct pair *p, const struct vmbus_net_opts *net,
			      const struct vmbus_netvsc_opts *client)
{
	uint8_t i;

	memset(p, 0, sizeof(*p));
	must_eq(vmbus_port_pair(0, p->port), 0);
	for (i = 0; i < 2; i++)
		pair_side_start(&p->side[i], &p->port[i], (uint8_t)(i + 1), net);
	for (i = 0; i < 2; i++)
		pair_client(&p->side[i], client);
	pair_settle(p);
}

static inline void pair_free(struct pair *p)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		loop_free(p->side[i].l);
		vmbus_net_destroy(p->side[i].net);
		free(p->side[i].chan);
	}
	vmbus_port_destroy(&p->port[0]);
	vmbus_port_destroy(&p->port[1]);
}

#endif

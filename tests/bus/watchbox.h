/* SPDX-License-Identifier: MIT */
/*
 * A device that waits for a descriptor of its own, and a box with it, a bus and a child: for the tests
 * of vmbus_chan_watch(), on channels of the bus, and on those with own_fd.
 */
#ifndef VMBUS_TESTS_BUS_WATCHBOX_H
#define VMBUS_TESTS_BUS_WATCHBOX_H

#include "fake.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <vmbus/watch.h>

/* A device that completes what it owes when its descriptor says so. */
struct dev {
	struct vmbus_chan *chan;
	int fd; /* an eventfd */
	int open_err;
	int watch_err;
	bool leave; /* ready() does not read it */
	bool say;   /* ready() calls open_done() */
	int said;
	bool fail;	/* ready() fails the channel */
	bool renew;	/* each ready() watches another descriptor */
	bool quiet;	/* open() watches nothing */
	uint32_t drain; /* close() says AGAIN, and so many ready() end it */
	uint32_t left;
	uint32_t opens, closes, readies, packets, writables;
	uint64_t owed[4096];
	uint32_t head, tail;
};

static inline void pay(struct dev *d)
{
	for (; d->head != d->tail; d->head++) {
		const int err = vmbus_chan_complete(d->chan, d->owed[d->head % 4096], "done", 4);

		if (err == VMBUS_E_FULL)
			return;
		must_eq(err, 0);
	}
}

static inline int dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct dev *d = ctx;

	d->chan = chan;
	d->opens++;
	d->watch_err = d->quiet ? 0 : vmbus_chan_watch(chan, d->fd);
	return d->open_err;
}

static inline void one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct dev *d = vmbus_chan_ctx(chan);

	must(d->tail - d->head < 4096);
	d->owed[d->tail++ % 4096] = pkt->id;
	d->packets++;
	must_eq(vmbus_chan_pend(chan, pkt), 0);
}

static inline void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, one);
}

static inline void dev_ready(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);
	uint64_t count;

	must(d->chan == chan);
	d->readies++;
	if (!d->leave)
		(void)!read(d->fd, &count, sizeof(count));
	if (d->left) {
		must_eq(vmbus_chan_complete(chan, 1, NULL, 0), VMBUS_E_STATE);
		vmbus_chan_fail(chan, "too late");
		if (--d->left == 0) {
			vmbus_chan_close_done(chan);
			must_eq(vmbus_chan_watch(chan, d->fd), VMBUS_E_STATE);
		}
		return;
	}
	if (d->fail)
		vmbus_chan_fail(chan, "it is enough");
	if (d->say)
		vmbus_chan_open_done(chan, d->said);
	if (d->renew) {
		const int fd = eventfd(1, EFD_NONBLOCK);

		must_eq(vmbus_chan_watch(chan, fd), 0);
		close(d->fd);
		d->fd = fd;
	}
	pay(d);
}

static inline void dev_writable(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->writables++;
	pay(d);
}

static inline int dev_close(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);

	must_eq(vmbus_chan_watch(chan, d->fd), d->quiet ? VMBUS_E_STATE : 0);
	d->closes++;
	d->left = d->drain;
	return d->left ? VMBUS_E_AGAIN : 0;
}

#define VSP                                                                                        \
	.struct_bytes = sizeof(struct vmbus_vsp), .name = "watcher",                               \
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 9),         \
	.open = dev_open, .packets = dev_packets, .writable = dev_writable, .close = dev_close

static const struct vmbus_vsp vsp __attribute__((unused)) = { VSP, .ready = dev_ready };
static const struct vmbus_vsp vsp_reads
	__attribute__((unused)) = { VSP, .ready = dev_ready, .flags = VMBUS_VSP_READ_WHILE_FULL };
static const struct vmbus_vsp vsp_none __attribute__((unused)) = { VSP };
static const struct vmbus_vsp vsp_resumes
	__attribute__((unused)) = { VSP, .ready = dev_ready, .flags = VMBUS_VSP_RESUMABLE,
				    .pending_max = 8, .pending_bytes = 64 };

struct box {
	struct fake f;
	struct dev d;
	struct fake_chan c;
	struct vmbus_chan *chan;
	bool own;
	bool bind;
};

static inline void box_init(struct box *b, const struct vmbus_vsp *v, bool own)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = own };

	b->own = own;
	b->d.fd = eventfd(0, EFD_NONBLOCK);
	fake_prepare(&b->f, 256);
	if (b->bind) {
		b->f.backend.bind = fake_backend_bind;
		b->f.backend.unbind = fake_backend_unbind;
	}
	fake_create(&b->f);
	must_eq(vmbus_bus_offer(b->f.bus, v, &b->d, &opts, &b->chan), 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
}

/* Dispatch everything until there is nothing to do, and nothing is readable. */
static inline void run(struct box *b)
{
	uint32_t n;

	for (n = 0; n < FAKE_RUNS; n++) {
		int did = vmbus_bus_dispatch(b->f.bus, 64);

		must(did >= 0);
		if (b->own)
			did += vmbus_chan_dispatch(b->chan, 64);
		if (did == 0 && !fake_readable(vmbus_bus_fd(b->f.bus)) &&
		    !(b->own && fake_readable(vmbus_chan_fd(b->chan))))
			return;
	}
	ck_abort_msg("never through");
}

static inline void opened(struct box *b, uint32_t up, uint32_t down)
{
	fake_rings(&b->f, &b->c, up, down);
	b->c.gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, b->c.relid, b->c.gpadl, b->c.first, up + down), 0);
	fake_post_open(&b->f, &b->c, 0);
	run(b);
}

static inline void box_open(struct box *b, const struct vmbus_vsp *v, bool own)
{
	struct vmbus_ctl ctl;

	box_init(b, v, own);
	opened(b, 17, 17);
	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	must_eq(b->d.watch_err, 0);
}

static inline void box_fini(struct box *b)
{
	fake_chan_free(&b->c);
	fake_fini(&b->f);
	close(b->d.fd);
}

static inline void ring(const struct box *b)
{
	must_eq(eventfd_write(b->d.fd, 1), 0);
}

static inline bool readable(const struct box *b)
{
	return fake_readable(b->own ? vmbus_chan_fd(b->chan) : vmbus_bus_fd(b->f.bus));
}

static inline uint32_t drain(struct box *b)
{
	struct vmbus_packet pkt[32];
	uint32_t n = 0;
	int got;

	while ((got = fake_receive(&b->c, pkt, 32)) > 0)
		n += (uint32_t)got;
	must_eq(got, 0);
	return n;
}

#endif

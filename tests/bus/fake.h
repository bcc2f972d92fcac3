/* SPDX-License-Identifier: MIT */
/*
 * A child without a runtime: memory, a backend that keeps what it is given, and the messages and
 * rings of a child made by hand, in any order.  What the bus posts waits in a list; the child's
 * ends of the rings are the library's own.
 */
#ifndef FAKE_H
#define FAKE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <malloc.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/bus.h>

#include "vmbus_test.h"

#define FAKE_PAGE ((size_t)VMBUS_PAGE_BYTES)
#define FAKE_POSTS 8192u
#define FAKE_RUNS 100000u
#define FAKE_LINES 64u

struct fake_post {
	uint32_t vp, sint, bytes;
	uint8_t payload[240];
};

struct fake {
	struct vmbus_bus *bus;
	struct vmbus_bus_opts opts;
	struct vmbus_backend backend;
	struct vmbus_region region;
	struct vmbus_region *regions[1];
	int fd;
	size_t pages, next_page;
	uint8_t *mem; /* one mapping for child and parent, as the thread sanitizer wants it */
	uint32_t version;
	uint32_t next_gpadl;
	/* What the parent posted: taken from first on. */
	struct fake_post *posts;
	uint32_t posted, taken;
	bool busy; /* the message slot: post says AGAIN */
	bool drop; /* posts are counted and not kept */
	uint64_t dropped;
	atomic_ullong raised;
	atomic_uint flags[2048];
	uint32_t vps;
	int bound[16]; /* descriptors of bind(), duplicated; by connection id */
	uint32_t bound_conn[16];
	uint32_t binds, unbinds;
	/* Log and removals. */
	uint64_t lines;
	char last[FAKE_LINES][320];
	uint32_t removed;
};

/* A channel as the child has it. */
struct fake_chan {
	uint32_t relid, conn, gpadl, up, down; /* pages of the rings, control pages included */
	size_t first;			       /* page of the first ring */
	struct vmbus_ring_mem tx_mem, rx_mem;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	void *buf;
	struct fake *fake;
	uint64_t signals;
	struct vmbus_guid instance;
};

static inline int fake_backend_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type,
				    const void *payload, uint32_t bytes)
{
	struct fake *f = ctx;
	struct fake_post *p;

	must_eq(type, VMBUS_MSG_TYPE_CTL);
	must(bytes >= 8 && bytes <= 240);
	if (f->busy)
		return VMBUS_E_AGAIN;
	if (f->drop) {
		f->dropped++;
		return 0;
	}
	must(f->posted < FAKE_POSTS);
	p = &f->posts[f->posted++];
	p->vp = vp;
	p->sint = sint;
	p->bytes = bytes;
	memset(p->payload, 0, sizeof(p->payload));
	memcpy(p->payload, payload, bytes);
	return 0;
}

static inline int fake_backend_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	struct fake *f = ctx;

	must(vp < f->vps);
	must_eq(sint, VMBUS_SINT_MESSAGE);
	must(flag < 2048);
	atomic_fetch_add(&f->raised, 1);
	atomic_fetch_add(&f->flags[flag], 1);
	return 0;
}

static inline uint64_t fake_backend_time(void *ctx)
{
	(void)ctx;
	return 12345;
}

static inline uint32_t fake_backend_vps(void *ctx)
{
	return ((struct fake *)ctx)->vps;
}

static inline int fake_backend_bind(void *ctx, uint32_t conn_id, int fd)
{
	struct fake *f = ctx;
	uint32_t i;

	for (i = 0; i < 16; i++)
		if (!f->bound_conn[i]) {
			f->bound_conn[i] = conn_id;
			f->bound[i] = dup(fd);
			f->binds++;
			return 0;
		}
	return VMBUS_E_AGAIN;
}

static inline int fake_backend_unbind(void *ctx, uint32_t conn_id)
{
	struct fake *f = ctx;
	uint32_t i;

	for (i = 0; i < 16; i++)
		if (f->bound_conn[i] == conn_id) {
			close(f->bound[i]);
			f->bound_conn[i] = 0;
			f->unbinds++;
			return 0;
		}
	ck_abort_msg("unbind of %u, which is not bound", conn_id);
	return VMBUS_E_INVAL;
}

static inline void fake_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	struct fake *f = ctx;

	(void)level;
	(void)snprintf(f->last[f->lines % FAKE_LINES], sizeof(f->last[0]), "%s", line);
	f->lines++;
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

/* Whether one of the last lines has a text in it. */
static inline bool fake_logged(const struct fake *f, const char *text)
{
	uint32_t i;

	for (i = 0; i < FAKE_LINES && i < f->lines; i++)
		if (strstr(f->last[i], text))
			return true;
	return false;
}

static inline void fake_removed(void *ctx, struct vmbus_chan *chan)
{
	(void)chan;
	((struct fake *)ctx)->removed++;
}

/* Memory and opts; change opts, then fake_create(). */
static inline void fake_prepare(struct fake *f, size_t pages)
{
	memset(f, 0, sizeof(*f));
	f->posts = calloc(FAKE_POSTS, sizeof(*f->posts));
	must(f->posts != NULL);
	f->pages = pages;
	f->next_page = 1; /* page 0 is nobody's, so that a forgotten number shows */
	f->vps = 4;
	f->next_gpadl = 0xE1E10;
	f->fd = memfd_create("child", MFD_CLOEXEC);
	must(f->fd >= 0);
	must(ftruncate(f->fd, (off_t)(pages * FAKE_PAGE)) == 0);
	f->mem = mmap(NULL, pages * FAKE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	must(f->mem != MAP_FAILED);
	f->region = (struct vmbus_region){
		.bytes = pages * FAKE_PAGE, .host = f->mem, .fd = -1, .access = VMBUS_READ_WRITE
	};
	f->regions[0] = &f->region;
	f->backend = (struct vmbus_backend){ .struct_bytes = sizeof(f->backend),
					     .post = fake_backend_post,
					     .raise = fake_backend_raise,
					     .time = fake_backend_time,
					     .vps = fake_backend_vps };
	f->opts = (struct vmbus_bus_opts){ .struct_bytes = sizeof(f->opts),
					   .backend = &f->backend,
					   .backend_ctx = f,
					   .name = "kid",
					   .regions = f->regions,
					   .region_count = 1,
					   .log = fake_log,
					   .log_ctx = f,
					   .removed = fake_removed,
					   .removed_ctx = f };
}

static inline void fake_create(struct fake *f)
{
	must_eq(vmbus_bus_create(&f->opts, &f->bus), 0);
}

static inline void fake_init(struct fake *f, size_t pages)
{
	fake_prepare(f, pages);
	fake_create(f);
}

static inline void fake_fini(struct fake *f)
{
	uint32_t i;

	vmbus_bus_destroy(f->bus);
	for (i = 0; i < 16; i++)
		must_eq(f->bound_conn[i], 0);
	munmap(f->mem, f->pages * FAKE_PAGE);
	close(f->fd);
	free(f->posts);
}

static inline bool fake_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Dispatch until there is nothing to do; the descriptor must agree. */
static inline void fake_run(struct fake *f)
{
	uint32_t n;

	for (n = 0; n < FAKE_RUNS; n++)
		if (vmbus_bus_dispatch(f->bus, 64) == 0 && !fake_readable(vmbus_bus_fd(f->bus)))
			return;
	ck_abort_msg("the bus is never through");
}

/* Post a message of the child; returns the hypercall's status. */
static inline uint32_t fake_try_post(struct fake *f, uint32_t conn, const struct vmbus_ctl *ctl)
{
	const uint32_t version = f->version ? f->version : VMBUS_PROTO_5_3;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX] = { 0 };
	const int len = vmbus_ctl_encode(ctl, version, 0, bytes, sizeof(bytes));

	must(len > 0);
	return vmbus_bus_post_message(f->bus, conn, VMBUS_MSG_TYPE_CTL, bytes, (uint32_t)len);
}

static inline void fake_post(struct fake *f, const struct vmbus_ctl *ctl)
{
	must_eq(fake_try_post(f, VMBUS_CONN_MESSAGE, ctl), VMBUS_HC_OK);
}

/* The next message of the parent, decoded; 0: there is none. */
static inline uint32_t fake_take(struct fake *f, struct vmbus_ctl *ctl)
{
	const struct fake_post *p;

	if (f->taken == f->posted)
		f->taken = f->posted = 0;
	fake_run(f);
	if (f->taken == f->posted)
		return 0;
	p = &f->posts[f->taken++];
	must_eq(p->sint, VMBUS_SINT_MESSAGE);
	must_eq(vmbus_ctl_decode(p->payload, p->bytes, f->version ? f->version : VMBUS_PROTO_5_3, 0,
				 ctl),
		0);
	return ctl->type;
}

static inline void fake_expect(struct fake *f, uint32_t type, struct vmbus_ctl *ctl)
{
	struct vmbus_ctl mine;
	const uint32_t got = fake_take(f, ctl ? ctl : &mine);

	if (got != type)
		ck_abort_msg("message %s, expected %s (%s)", vmbus_ctl_type_name(got),
			     vmbus_ctl_type_name(type), vmbus_test_where);
}

static inline void fake_expect_none(struct fake *f)
{
	struct vmbus_ctl ctl;
	const uint32_t got = fake_take(f, &ctl);

	if (got)
		ck_abort_msg("message %s, expected none (%s)", vmbus_ctl_type_name(got),
			     vmbus_test_where);
}

static inline void fake_contact_pages(struct fake *f, uint32_t version, uint64_t p2c, uint64_t c2p)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };

	ctl.u.contact.version = version;
	ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	ctl.u.contact.monitor_p2c = p2c;
	ctl.u.contact.monitor_c2p = c2p;
	f->version = version;
	must_eq(fake_try_post(f,
			      version >= VMBUS_PROTO_5_0 ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE,
			      &ctl),
		VMBUS_HC_OK);
	fake_expect(f, VMBUS_CTL_VERSION_RESPONSE, &ctl);
	must_eq(ctl.u.version.supported, 1);
}

static inline void fake_contact(struct fake *f, uint32_t version)
{
	fake_contact_pages(f, version, 0, 0);
}

/* Offer a device, so that the child sees it in this order among others of its class. */
static inline struct vmbus_chan *fake_offer(struct fake *f, const struct vmbus_vsp *vsp, void *ctx,
					    uint32_t order)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .order = order };
	struct vmbus_chan *chan = NULL;

	must_eq(vmbus_bus_offer(f->bus, vsp, ctx, &opts, &chan), 0);
	return chan;
}

/* Ask for offers; up to n are kept.  Returns how many came. */
static inline uint32_t fake_offers(struct fake *f, struct fake_chan *chans, uint32_t n)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	uint32_t got, count = 0;

	fake_post(f, &ctl);
	while ((got = fake_take(f, &ctl)) == VMBUS_CTL_OFFER) {
		if (count < n) {
			memset(&chans[count], 0, sizeof(chans[count]));
			chans[count].fake = f;
			chans[count].relid = ctl.u.offer.relid;
			chans[count].conn = ctl.u.offer.conn_id;
			chans[count].instance = ctl.u.offer.instance_id;
		}
		count++;
	}
	must_eq(got, VMBUS_CTL_ALL_OFFERS);
	return count;
}

static inline size_t fake_pages(struct fake *f, size_t n)
{
	const size_t first = f->next_page;

	must(n <= f->pages - first);
	f->next_page += n;
	memset(f->mem + first * FAKE_PAGE, 0, n * FAKE_PAGE);
	return first;
}

/* Describe pages; the messages only. */
static inline void fake_gpadl(struct fake *f, uint32_t relid, uint32_t gpadl, const uint64_t *pfns,
			      uint32_t n)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_HEADER };
	uint32_t done, i;

	ctl.u.gpadl.relid = relid;
	ctl.u.gpadl.gpadl = gpadl;
	ctl.u.gpadl.range_bytes = 8 + 8 * n;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.qwords[0] = (uint64_t)n * FAKE_PAGE;
	done = n < 26 ? n : 26;
	for (i = 0; i < done; i++)
		ctl.u.gpadl.qwords[1 + i] = pfns[i];
	ctl.u.gpadl.count = 1 + done;
	fake_post(f, &ctl);
	while (done < n) {
		ctl.type = VMBUS_CTL_GPADL_BODY;
		for (i = 0; i < 28 && done < n; i++)
			ctl.u.gpadl.qwords[i] = pfns[done++];
		ctl.u.gpadl.count = i;
		fake_run(f);
		fake_post(f, &ctl);
	}
}

/* Describe n pages from first on. */
static inline void fake_post_share(struct fake *f, uint32_t relid, uint32_t gpadl, size_t first,
				   uint32_t n)
{
	uint64_t pfns[8192];
	uint32_t i;

	for (i = 0; i < n; i++)
		pfns[i] = first + i;
	fake_gpadl(f, relid, gpadl, pfns, n);
}

/* The same, and wait for the answer; returns its status. */
static inline uint32_t fake_share(struct fake *f, uint32_t relid, uint32_t gpadl, size_t first,
				  uint32_t n)
{
	struct vmbus_ctl ctl;

	fake_post_share(f, relid, gpadl, first, n);
	fake_expect(f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must_eq(ctl.u.created.relid, relid);
	must_eq(ctl.u.created.gpadl, gpadl);
	return ctl.u.created.status;
}

static inline void fake_child_signal(void *ctx)
{
	struct fake_chan *c = ctx;

	c->signals++;
	(void)vmbus_bus_signal_event(c->fake->bus, c->conn, 0);
}

static inline void fake_mem_init(struct fake *f, struct vmbus_ring_mem *mem, size_t first,
				 uint32_t pages)
{
	const struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts),
						  .window = VMBUS_RING_PLAIN,
						  .size = (pages - 1) * VMBUS_PAGE_BYTES,
						  .ctl = f->mem + first * FAKE_PAGE,
						  .data = f->mem + (first + 1) * FAKE_PAGE };

	must_eq(vmbus_ring_mem_init(mem, &opts), 0);
}

/* The child's ends of the rings, on pages that it chose. */
static inline void fake_rings(struct fake *f, struct fake_chan *c, uint32_t up, uint32_t down)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = fake_child_signal,
					.signal_ctx = c };

	c->up = up;
	c->down = down;
	if (!c->first)
		c->first = fake_pages(f, up + down);
	fake_mem_init(f, &c->tx_mem, c->first, up);
	fake_mem_init(f, &c->rx_mem, c->first + up, down);
	vmbus_ring_mem_clear(&c->tx_mem);
	vmbus_ring_mem_clear(&c->rx_mem);
	must_eq(vmbus_ring_tx_init(&c->tx, &c->tx_mem, &opts), 0);
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(c->rx_mem.size_p);
	if (!c->buf)
		c->buf = aligned_alloc(64, (opts.buf_bytes + 63) / 64 * 64);
	opts.buf = c->buf;
	must_eq(vmbus_ring_rx_init(&c->rx, &c->rx_mem, &opts), 0);
	must(vmbus_ring_rx_arm(&c->rx) >= 0);
}

static inline void fake_post_open(struct fake *f, const struct fake_chan *c, uint32_t vp)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OPEN };

	ctl.u.open.relid = c->relid;
	ctl.u.open.open_id = c->relid + 7;
	ctl.u.open.gpadl = c->gpadl;
	ctl.u.open.target_vp = vp;
	ctl.u.open.downstream_page = c->up;
	ctl.u.open.user[0] = 0x5a;
	ctl.u.open.user[119] = 0xa5;
	fake_post(f, &ctl);
}

/* Rings, page list, open; returns the status of the open. */
static inline uint32_t fake_open(struct fake *f, struct fake_chan *c, uint32_t up, uint32_t down)
{
	struct vmbus_ctl ctl;

	fake_rings(f, c, up, down);
	c->gpadl = f->next_gpadl++;
	must_eq(fake_share(f, c->relid, c->gpadl, c->first, up + down), 0);
	fake_post_open(f, c, 0);
	fake_expect(f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.relid, c->relid);
	must_eq(ctl.u.result.open_id, c->relid + 7);
	return ctl.u.result.status;
}

static inline void fake_post_close(struct fake *f, const struct fake_chan *c)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CLOSE };

	ctl.u.chan.relid = c->relid;
	fake_post(f, &ctl);
}

static inline void fake_post_teardown(struct fake *f, uint32_t relid, uint32_t gpadl)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_TEARDOWN };

	ctl.u.created.relid = relid;
	ctl.u.created.gpadl = gpadl;
	fake_post(f, &ctl);
}

static inline void fake_post_released(struct fake *f, uint32_t relid)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_RELID_RELEASED };

	ctl.u.chan.relid = relid;
	fake_post(f, &ctl);
}

static inline void fake_chan_free(struct fake_chan *c)
{
	free(c->buf);
	c->buf = NULL;
}

/* Close as Linux does: close, tear the rings' page list down, wait. */
static inline void fake_close(struct fake *f, struct fake_chan *c)
{
	struct vmbus_ctl ctl;

	fake_post_close(f, c);
	fake_post_teardown(f, c->relid, c->gpadl);
	fake_expect(f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(ctl.u.created.gpadl, c->gpadl);
	fake_chan_free(c);
}

/* Send one request of the child's. */
static inline int fake_send(struct fake_chan *c, uint64_t id, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = { .id = id,
				       .data = data,
				       .len = len,
				       .type = VMBUS_PKT_INBAND,
				       .flags = id ? VMBUS_PKT_FLAG_COMPLETE : 0 };

	return vmbus_ring_tx_put(&c->tx, &msg, 1);
}

/* Receive, arming when there is nothing; returns packets. */
static inline int fake_receive(struct fake_chan *c, struct vmbus_packet *pkt, uint32_t n)
{
	int got = vmbus_ring_rx_get(&c->rx, pkt, n);

	if (got == 0)
		(void)vmbus_ring_rx_arm(&c->rx);
	return got;
}

static inline uint64_t fake_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A device that completes every request with its payload. */
struct fake_echo {
	uint32_t opens, closes, packets, writables;
	uint64_t payload_bytes;
};

static inline void fake_echo_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct fake_echo *echo = vmbus_chan_ctx(chan);

	echo->packets++;
	echo->payload_bytes += pkt->len;
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static inline void fake_echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt,
				     uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, fake_echo_packet);
}

static inline int fake_echo_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	((struct fake_echo *)ctx)->opens++;
	return 0;
}

static inline int fake_echo_close(struct vmbus_chan *chan)
{
	((struct fake_echo *)vmbus_chan_ctx(chan))->closes++;
	return 0;
}

static const struct vmbus_vsp fake_echo_vsp = {
	.struct_bytes = sizeof(fake_echo_vsp),
	.name = "echo",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 1),
	.open = fake_echo_open,
	.packets = fake_echo_packets,
	.close = fake_echo_close,
};

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A provider of a small device, and its parent, which is a raw socket of the test's: it brings a
 * partition of one region, in which the child's ends of the rings are.
 */
#ifndef VMBUS_TESTS_PROVIDER_PLAY_H
#define VMBUS_TESTS_PROVIDER_PLAY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "script.h"

#define PAGES 64u
#define PAGE ((size_t)VMBUS_PAGE_BYTES)
#define RING_FIRST 8u /* pages 8 to 15: 4 up, 4 down */
#define FLAG 21u

struct play {
	struct vmbus_provider *provider;
	struct vmbus_vsp vsp;
	char path[64];
	int listen_fd;
	int sock; /* the parent's */
	int memfd;
	uint8_t *mem;
	int event;    /* what the child signals */
	int listener; /* what the provider hears it by */
	int wake;
	struct vmbus_ring_mem tx_mem, rx_mem;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	_Alignas(64) uint8_t buf[65536];
	struct vmbus__pv_msg answer; /* to PROVIDE */
	uint64_t timeout_ns;
	uint64_t spin_ns;
};

static unsigned int opens, closes, packets;

static inline int on_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	opens++;
	return ctx ? *(int *)ctx : 0;
}

static inline int on_close(struct vmbus_chan *chan)
{
	(void)chan;
	closes++;
	return 0;
}

static inline void on_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	packets++;
	must_eq(vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len), 0);
}

static inline void on_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, on_packet);
}

static inline void on_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

/* Answer PROVIDE while attach() waits. */
static inline void *parent_thread(void *arg)
{
	struct play *const p = arg;
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;

	p->sock = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (p->sock < 0 || vmbus__shm_recv_until(p->sock, vmbus__shm_now_ns() + 5000 * MS, &record))
		return NULL;
	if (vmbus__pv_decode(record.bytes, record.len, &msg) == 0 && msg.type == VMBUS_PV_PROVIDE &&
	    p->answer.type)
		(void)vmbus__pv_send(p->sock, &p->answer, NULL, 0);
	else
		shutdown(p->sock, SHUT_RDWR);
	return NULL;
}

static inline int attach(struct play *p, void *ctx)
{
	char why[160] = "";
	struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
					    .path = p->path,
					    .name = "test",
					    .vsp = &p->vsp,
					    .ctx = ctx,
					    .timeout_ns = p->timeout_ns,
					    .spin_ns = p->spin_ns,
					    .log = on_log,
					    .why = why,
					    .why_bytes = sizeof(why) };
	pthread_t thread;
	int err;

	must_eq(pthread_create(&thread, NULL, parent_thread, p), 0);
	err = vmbus_provider_attach(&opts, &p->provider);
	pthread_join(thread, NULL);
	must_eq(err != 0, why[0] != 0);
	return err;
}

static inline void child_signal(void *ctx)
{
	struct play *const p = ctx;

	must_eq(eventfd_write(p->event, 1), 0);
}

static inline void ring_mem(struct vmbus_ring_mem *mem, uint8_t *at)
{
	const struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts),
						  .window = VMBUS_RING_PLAIN,
						  .size = 3 * PAGE,
						  .ctl = at,
						  .data = at + PAGE };

	must_eq(vmbus_ring_mem_init(mem, &opts), 0);
	vmbus_ring_mem_clear(mem);
}

static inline void make_rings(struct play *p)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = child_signal,
					.signal_ctx = p };

	ring_mem(&p->tx_mem, p->mem + RING_FIRST * PAGE);
	ring_mem(&p->rx_mem, p->mem + (RING_FIRST + 4) * PAGE);
	must_eq(vmbus_ring_tx_init(&p->tx, &p->tx_mem, &opts), 0);
	opts.buf = p->buf;
	opts.buf_bytes = sizeof(p->buf);
	must_eq(vmbus_ring_rx_init(&p->rx, &p->rx_mem, &opts), 0);
	must(vmbus_ring_rx_arm(&p->rx) >= 0);
}

static inline void play_prepare(struct play *p)
{
	static unsigned int count;
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	memset(p, 0, sizeof(*p));
	opens = closes = packets = 0;
	p->vsp = (struct vmbus_vsp){ .struct_bytes = sizeof(p->vsp),
				     .name = "test",
				     .class_id = VMBUS_ECHO_CLASS,
				     .open = on_open,
				     .packets = on_packets,
				     .close = on_close };
	p->answer.type = VMBUS_PV_PROVIDED;
	p->sock = -1;
	(void)snprintf(p->path, sizeof(p->path), "/tmp/vmbus-pc-%d-%u.sock", (int)getpid(),
		       count++);
	memcpy(at.sun_path, p->path, strlen(p->path) + 1);
	p->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	must(p->listen_fd >= 0);
	must_eq(bind(p->listen_fd, (struct sockaddr *)&at, sizeof(at)), 0);
	must_eq(listen(p->listen_fd, 4), 0);
	p->memfd = memfd_create("child", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must_eq(ftruncate(p->memfd, (off_t)(PAGES * PAGE)), 0);
	must_eq(fcntl(p->memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	p->mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, p->memfd, 0);
	must(p->mem != MAP_FAILED);
	p->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	p->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	p->listener = epoll_create1(EPOLL_CLOEXEC);
	must_eq(vmbus__shm_epoll_add(p->listener, p->event, EPOLLIN | EPOLLET, 0), 0);
	make_rings(p);
}

static inline void play_init(struct play *p)
{
	play_prepare(p);
	must_eq(attach(p, NULL), 0);
}

static inline void play_fini(struct play *p)
{
	vmbus_provider_detach(p->provider);
	munmap(p->mem, PAGES * PAGE);
	close(p->memfd);
	close(p->event);
	close(p->wake);
	close(p->listener);
	if (p->sock >= 0)
		close(p->sock);
	close(p->listen_fd);
	unlink(p->path);
}

/* Dispatch until nothing is left; the last return that was not work. */
static inline int run(struct play *p)
{
	int i, done = 1;

	for (i = 0; i < 100000 && done > 0; i++)
		done = vmbus_provider_dispatch(p->provider, 64);
	must(i < 100000);
	/* Work may need one more look where a call did nothing but move it on. */
	if (done == 0)
		done = vmbus_provider_dispatch(p->provider, 64);
	return done > 0 ? run(p) : done;
}

static inline struct vmbus__pv_msg expect(struct play *p, uint32_t type)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;

	must_eq(run(p), 0);
	do {
		if (!script_take(p->sock, &record, &msg))
			ck_abort_msg("no message, expected type %u (%s)", type, vmbus_test_where);
		must_eq(record.fd_count, 0);
	} while (msg.type == VMBUS_PV_GPADL_KNOWN && type != msg.type); /* one for each list */
	must_eq(msg.type, type);
	return msg;
}

static inline void send_region(struct play *p)
{
	const struct vmbus__pv_msg region = {
		.type = VMBUS_PV_REGION, .bus = 1, .access = 3, .bytes = PAGES * PAGE
	};

	must_eq(vmbus__pv_send(p->sock, &region, &p->memfd, 1), 0);
}

static inline void bring_bus(struct play *p)
{
	const struct vmbus__pv_msg bus = {
		.type = VMBUS_PV_BUS, .bus = 1, .count = 1, .name = "kid"
	};

	script_send(p->sock, &bus);
	send_region(p);
	must_eq(expect(p, VMBUS_PV_BUS_READY).bus, 1);
}

static inline struct vmbus__pv_msg list_msg(void)
{
	struct vmbus__pv_msg msg = {
		.type = VMBUS_PV_GPADL, .bus = 1, .gpadl = 5, .count = 9, .ranges = 1
	};
	uint32_t i;

	msg.qwords[0] = 8 * PAGE;
	for (i = 0; i < 8; i++)
		msg.qwords[1 + i] = RING_FIRST + i;
	return msg;
}

static inline struct vmbus__pv_msg open_msg(void)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_OPEN,
				     .bus = 1,
				     .open = 3,
				     .gpadl = 5,
				     .down_page = 4,
				     .flags = VMBUS_PV_LISTENER | VMBUS_PV_WAKE,
				     .event_flag = FLAG,
				     .gpa = 2 * PAGE + 256 };

	return msg;
}

static inline void send_open(struct play *p, struct vmbus__pv_msg msg)
{
	const int fds[] = { p->listener, p->wake };

	must_eq(vmbus__pv_send(p->sock, &msg, fds, msg.flags & VMBUS_PV_WAKE ? 2 : 1), 0);
}

static inline void open_chan(struct play *p)
{
	const struct vmbus__pv_msg list = list_msg();

	script_send(p->sock, &list);
	send_open(p, open_msg());
	must_eq(expect(p, VMBUS_PV_OPENED).err, 0);
	must_eq(opens, 1);
}

static inline uint64_t flags_of(const struct play *p)
{
	return *(uint64_t *)(void *)(p->mem + 2 * PAGE + 256);
}

static inline void request(struct play *p, uint64_t id)
{
	const struct vmbus_msg msg = { .id = id,
				       .data = &id,
				       .len = sizeof(id),
				       .type = VMBUS_PKT_INBAND,
				       .flags = VMBUS_PKT_FLAG_COMPLETE };
	struct vmbus_packet pkt;

	must_eq(vmbus_ring_tx_put(&p->tx, &msg, 1), 1);
	must_eq(run(p), 0);
	must_eq(vmbus_ring_rx_get(&p->rx, &pkt, 1), 1);
	must_eq(pkt.id, id);
	must(memcmp(pkt.payload, &id, sizeof(id)) == 0);
	must_eq(vmbus_ring_rx_get(&p->rx, &pkt, 1), 0);
	must(vmbus_ring_rx_arm(&p->rx) >= 0);
}

#endif

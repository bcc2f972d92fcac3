/* SPDX-License-Identifier: MIT */
/*
 * The bus inside somebody else's event loop: the program owns an epoll descriptor with a timer of
 * its own in it, and gives the bus a turn when its descriptor is readable.
 *
 * Shows: no call of ours blocks, none needs a thread, and a budget keeps the program's own work
 * going however busy a child is.
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "example.h"

#define REQUESTS 3000u
#define BUDGET 64u /* units of work before the loop looks at its other descriptors */

#define CLOCK_CLASS                                                                                \
	VMBUS_GUID(0xc10cc0de, 0x0002, 0x4abc, 0xad, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab)
static const struct vmbus_guid clock_class = CLOCK_CLASS;

static uint64_t ticks; /* of the program's own timer */
static int left;

static void clock_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	must(vmbus_chan_complete(chan, pkt->id, &ticks, sizeof(ticks)), "complete");
}

static void clock_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, clock_one);
}

static const struct vmbus_vsp clock_vsp = {
	.struct_bytes = sizeof(clock_vsp),
	.name = "clock",
	.class_id = CLOCK_CLASS,
	.packets = clock_packets,
};

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)ctx;
	(void)child;
	return vmbus_bus_offer(bus, &clock_vsp, NULL, NULL, NULL);
}

static void detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	(void)ctx;
	(void)child;
	(void)why;
	left = 1;
}

/* ---- the child ---- */

static uint32_t done, wrong;

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	static uint64_t last;
	uint64_t now = 0;

	(void)vsc;
	(void)cookie;
	if (pkt && pkt->len == sizeof(now))
		memcpy(&now, pkt->payload, sizeof(now));
	wrong += !pkt || now < last;
	last = now;
	done++;
}

static int child(const char *path)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .completed = completed };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	struct example_child me = example_open(path, "clock watcher", &clock_class, &opts);
	uint32_t i;

	for (i = 0; i < REQUESTS; i++) {
		must(vmbus_vsc_request(me.vsc, &msg, NULL), "request");
		while (done <= i)
			must(vmbus_shm_attach_wait(me.attach, 5 * SECONDS), "wait");
	}
	printf("child:  asked %u times, %u answers wrong\n", done, wrong);
	example_close(&me);
	return wrong ? 1 : 0;
}

/* ---- the program whose loop it is ---- */

static void watch(int epoll, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) ? VMBUS_E_SYSTEM : 0, "epoll_ctl");
}

int main(void)
{
	const struct itimerspec every = { { 0, 1000000 }, { 0, 1000000 } };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	const int epoll = epoll_create1(EPOLL_CLOEXEC);
	const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct vmbus_shm_server *server;
	struct epoll_event e;
	int status = 1;
	uint64_t n;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/vmbus-loop-%d.sock", (int)getpid());
	opts.path = path;
	opts.attached = attached;
	opts.detached = detached;
	must(vmbus_shm_listen(&opts, &server), "listen");
	fflush(stdout);
	if (fork() == 0)
		exit(child(path));
	must(timerfd_settime(timer, 0, &every, NULL) ? VMBUS_E_SYSTEM : 0, "timerfd_settime");
	watch(epoll, timer);
	watch(epoll, vmbus_shm_server_fd(server));
	while (!left && epoll_wait(epoll, &e, 1, 5000) == 1) {
		if (e.data.fd == timer)
			ticks += read(timer, &n, sizeof(n)) == sizeof(n) ? n : 0;
		else
			must(vmbus_shm_server_dispatch(server, BUDGET), "dispatch");
	}
	printf("parent: %llu ticks of its own meanwhile\n", (unsigned long long)ticks);
	vmbus_shm_server_destroy(server);
	close(timer);
	close(epoll);
	return left && wait(&status) > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* SPDX-License-Identifier: MIT */
/* A live parent in the fuzzer's process, and what a child gets from it. */
#ifndef VMBUS_TESTS_FUZZ_SHM_PARENT_H
#define VMBUS_TESTS_FUZZ_SHM_PARENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>

#include "../../backends/shm/proto.h"
#include "../../backends/shm/sys.h"
#include "fuzz/input.h"

#define check(cond) ((cond) ? (void)0 : (fprintf(stderr, "%s\n", #cond), abort()))

struct shm_parent {
	struct vmbus_shm_server *server;
	char path[64];
	uint32_t attached, detached;
	int lowest_fd; /* free before the input */
};

static struct shm_parent parent;

static inline void fuzz_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (pkt[i].flags & VMBUS_PKT_FLAG_COMPLETE)
			(void)vmbus_chan_complete(chan, pkt[i].id, pkt[i].payload, pkt[i].len);
}

static const struct vmbus_vsp fuzz_vsp = {
	.struct_bytes = sizeof(fuzz_vsp),
	.name = "fuzz",
	.class_id = VMBUS_GUID(0x11223344, 0x5566, 0x7788, 1, 2, 3, 4, 5, 6, 7, 8),
	.packets = fuzz_packets,
};

static inline int fuzz_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	int i;

	(void)ctx;
	(void)child;
	for (i = 0; i < 4; i++)
		check(vmbus_bus_offer(bus, &fuzz_vsp, NULL, NULL, NULL) == 0);
	parent.attached++;
	return 0;
}

static inline void fuzz_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	(void)ctx;
	(void)child;
	(void)why;
	parent.detached++;
}

static inline int lowest_free_fd(void)
{
	const int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd;
}

static inline void parent_stop(void)
{
	vmbus_shm_server_destroy(parent.server);
}

static inline void parent_start(void)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };

	if (parent.server) {
		parent.lowest_fd = lowest_free_fd(); /* the fuzzer has files of its own */
		return;
	}
	(void)snprintf(parent.path, sizeof(parent.path), "/tmp/vmbus-fuzz-%d.sock", (int)getpid());
	opts.path = parent.path;
	opts.attached = fuzz_attached;
	opts.detached = fuzz_detached;
	opts.memory_bytes_max = 1 << 22;
	opts.children_max = 3;
	opts.vps_max = 4;
	opts.attach_rate_max = UINT32_MAX; /* an input is a child */
	check(vmbus_shm_listen(&opts, &parent.server) == 0);
	check(atexit(parent_stop) == 0);
	parent.lowest_fd = lowest_free_fd();
}

static inline void parent_spin(void)
{
	int turns, idle = 0;

	for (turns = 0; turns < 20000 && idle < 2; turns++) {
		const int done = vmbus_shm_server_dispatch(parent.server, 64);

		check(done >= 0);
		idle = done ? 0 : idle + 1;
	}
	check(turns < 20000); /* it comes to rest */
}

/* Everybody is gone: so is everything of theirs. */
static inline void parent_is_clean(void)
{
	parent_spin();
	check(parent.attached == parent.detached);
	check(lowest_free_fd() == parent.lowest_fd);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A parent to test with: a server at a path of its own that offers echo devices, and raw clients
 * that say to its socket whatever a test wants.  Everything has a deadline.
 */
#ifndef VMBUS_TESTS_SHM_HOST_H
#define VMBUS_TESTS_SHM_HOST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>

#include "../../backends/shm/proto.h"
#include "../../backends/shm/sys.h"
#include "vmbus_test.h"

#define SECOND_NS 1000000000u
#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0x3c5a0b91, 0x7d12, 0x4e0a, 0x9b, 0x44, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60)
static const struct vmbus_guid echo_class = ECHO_CLASS;

struct host {
	struct vmbus_shm_server *server;
	struct vmbus_shm_server_opts opts;
	char path[64];
	struct vmbus_shm_child *child; /* the one that attached last, while it is there */
	unsigned int attached, detached, removed, lines;
	unsigned int died_lines; /* logged */
	unsigned int ends[3];	 /* by enum vmbus_shm_end */
	unsigned int channels;
	uint32_t packets;		 /* that the echo devices saw */
	void (*stop)(struct host *host); /* called by detached(), or NULL */
	void *stop_arg;
	int refuse; /* attached() returns it */
	bool own_fd;
	struct vmbus_chan *chan; /* offered last, while it is there */
	char line[400];		 /* logged last */
};

static inline void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct host *const host = vmbus_chan_ctx(chan);
	uint32_t i;

	__atomic_fetch_add(&host->packets, n, __ATOMIC_RELAXED); /* may be another thread */
	for (i = 0; i < n; i++)
		if (pkt[i].flags & VMBUS_PKT_FLAG_COMPLETE)
			(void)vmbus_chan_complete(chan, pkt[i].id, pkt[i].payload, pkt[i].len);
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "echo",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
};

static inline int host_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer) };
	struct host *const host = ctx;
	unsigned int i;

	offer.own_fd = host->own_fd;
	host->attached++;
	host->child = child;
	if (host->refuse)
		return host->refuse;
	must(vmbus_shm_child_bus(child) == bus);
	for (i = 0; i < host->channels; i++)
		must_eq(vmbus_bus_offer(bus, &echo_vsp, host, &offer, &host->chan), 0);
	return 0;
}

/* For opts.attached: a device that needs long to close; slow is the channel that does so. */
static struct vmbus_chan *slow;

static inline int slow_close(struct vmbus_chan *chan)
{
	slow = chan;
	return VMBUS_E_AGAIN;
}

static const struct vmbus_vsp slow_vsp = {
	.struct_bytes = sizeof(slow_vsp),
	.name = "slow",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
	.close = slow_close,
};

static inline int slow_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct host *const host = ctx;

	host->attached++;
	host->child = child;
	return vmbus_bus_offer(bus, &slow_vsp, host, NULL, &host->chan);
}

static inline void host_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	struct host *const host = ctx;

	must(vmbus_shm_child_name(child)[0] != 0);
	must(vmbus_shm_child_pid(child) > 0);
	if (host->stop)
		host->stop(host);
	host->detached++;
	host->ends[why]++;
	if (host->child == child)
		host->child = NULL;
}

static inline void host_removed(void *ctx, struct vmbus_chan *chan)
{
	struct host *const host = ctx;

	if (host->chan == chan)
		host->chan = NULL;
	host->removed++;
}

static inline void host_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	struct host *const host = ctx;

	(void)level;
	host->lines++;
	host->died_lines += strstr(line, " died") != NULL;
	(void)snprintf(host->line, sizeof(host->line), "%s", line);
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

static inline void host_init(struct host *host)
{
	static unsigned int count;

	memset(host, 0, sizeof(*host));
	(void)snprintf(host->path, sizeof(host->path), "/tmp/vmbus-test-%d-%u.sock", (int)getpid(),
		       count++);
	host->opts = (struct vmbus_shm_server_opts){
		.struct_bytes = sizeof(host->opts),
		.path = host->path,
		.attached = host_attached,
		.detached = host_detached,
		.removed = host_removed,
		.ctx = host,
		.log = host_log,
	};
}

static inline void host_listen(struct host *host)
{
	const int err = vmbus_shm_listen(&host->opts, &host->server);

	must_eq(err, 0);
}

static inline void host_open(struct host *host)
{
	host_init(host);
	host_listen(host);
}

static inline void host_close(struct host *host)
{
	struct stat st;

	vmbus_shm_server_destroy(host->server);
	host->server = NULL;
	must_eq(lstat(host->path, &st), -1);
}

/* Dispatch until there is nothing to do, a bounded number of times. */
static inline void host_spin(struct host *host)
{
	int turns, idle = 0;

	for (turns = 0; turns < 10000 && idle < 2; turns++) {
		const int done = vmbus_shm_server_dispatch(host->server, 64);

		must(done >= 0);
		idle = done ? 0 : idle + 1;
	}
	must(turns < 10000);
}

/* Dispatch until a condition holds; fails after ten seconds. */
#define host_until(host, cond)                                                                     \
	do {                                                                                       \
		const uint64_t until_end = vmbus__shm_now_ns() + (uint64_t)10 * SECOND_NS;         \
		while (!(cond)) {                                                                  \
			const int until_done = vmbus_shm_server_run((host)->server, 20000000);     \
			must(until_done >= 0 || until_done == VMBUS_E_AGAIN);                      \
			if (vmbus__shm_now_ns() > until_end)                                       \
				ck_abort_msg("not in time: %s (%s)", #cond, vmbus_test_where);     \
		}                                                                                  \
	} while (0)

/* A raw client. */

static inline int raw_connect(const char *path)
{
	const int fd = vmbus__shm_connect(path, SECOND_NS);

	must(fd >= 0);
	return fd;
}

/* Room for the descriptors of a message. */
union raw_control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int) * VMBUS_SHM_FDS_MAX)];
};

/* Let a message carry count descriptors. */
static inline void raw_carry(struct msghdr *hdr, union raw_control *control, const int *fds,
			     int count)
{
	memset(control, 0, sizeof(*control));
	if (count) {
		hdr->msg_control = control;
		hdr->msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
		control->align.cmsg_level = SOL_SOCKET;
		control->align.cmsg_type = SCM_RIGHTS;
		control->align.cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
		memcpy(CMSG_DATA(&control->align), fds, sizeof(int) * (size_t)count);
	}
}

/* Send bytes with count descriptors; what the kernel refuses is not our test. */
static inline ssize_t raw_send(int sock, const void *bytes, size_t len, int count)
{
	union raw_control control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	int i, fds[VMBUS_SHM_FDS_MAX];
	const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	must(null >= 0);
	must(count <= VMBUS_SHM_FDS_MAX);
	for (i = 0; i < count; i++)
		fds[i] = null;
	raw_carry(&hdr, &control, fds, count);
	n = sendmsg(sock, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(null);
	return n;
}

static inline struct vmbus__shm_msg raw_hello(uint64_t memory, uint32_t vps)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_HELLO };

	msg.u.hello.memory = memory;
	msg.u.hello.vps = vps;
	memcpy(msg.u.hello.name, "raw", 4);
	return msg;
}

static inline void raw_say(int sock, const struct vmbus__shm_msg *msg)
{
	must_eq(vmbus__shm_send(sock, msg, NULL, 0), 0);
}

/* The answer, which must be there after the server had its turns; its descriptors stay open. */
static inline struct vmbus__shm_msg raw_answer(struct host *host, int sock,
					       struct vmbus__shm_record *record)
{
	struct vmbus__shm_msg msg;

	host_spin(host);
	must_eq(vmbus__shm_recv(sock, record), 1);
	must(!record->cut);
	must_eq(vmbus__shm_decode(record->bytes, record->len, &msg), 0);
	return msg;
}

/* Attach as a raw client: returns the socket, and what came with WELCOME. */
static inline int raw_attach(struct host *host, struct vmbus__shm_welcome *welcome,
			     struct vmbus__shm_record *record)
{
	const int sock = raw_connect(host->path);
	struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);

	raw_say(sock, &msg);
	msg = raw_answer(host, sock, record);
	must_eq(msg.type, VMBUS_SHM_WELCOME);
	*welcome = msg.u.welcome;
	return sock;
}

/* Whether the other side has closed; what it said before is thrown away. */
static inline bool raw_is_closed(int sock)
{
	struct vmbus__shm_record record;
	int got;

	while ((got = vmbus__shm_recv(sock, &record)) > 0)
		vmbus__shm_record_close(&record);
	return got < 0;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HOST_SANITIZED 1
#endif
#endif

/* Lines of this process's map; 0 where a sanitizer's own come and go. */
static inline int count_maps(void)
{
#ifdef HOST_SANITIZED
	return 0;
#else
	FILE *f = fopen("/proc/self/maps", "re");
	int c, n = 0;

	must(f != NULL);
	while ((c = fgetc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
#endif
}

/* Lines of the map that name memory of a child. */
static inline int count_memory(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	must(f != NULL);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:vmbus") != NULL;
	fclose(f);
	return n;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A NIC's side of a port for tests: one queue, and what came out of it; and a network namespace to
 * make interfaces in.
 */
#ifndef VMBUS_TEST_DRIVE_H
#define VMBUS_TEST_DRIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/port.h>

#include "vmbus_test.h"

#define GOT_MAX 256u
#define GOT_BYTES 66000u
#define WAIT_MS 3000

/* A frame that came. */
struct got {
	uint32_t bytes, flags;
	uint16_t csum_start, csum_offset, header_bytes, mss, vlan;
	uint8_t *at;
};

struct drive {
	struct vmbus_port port;
	struct vmbus_port_queue queue;
	uint32_t room;	/* frames that are taken; less than what comes for a guest that is full */
	uint32_t spans; /* of each room of receive() */
	uint32_t room_bytes;
	struct got got[GOT_MAX];
	uint32_t n;
};

static inline uint64_t test_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static inline void drive_keep(struct drive *d, const struct got *got, const struct vmbus_iov *piece,
			      uint32_t pieces)
{
	struct got *const to = &d->got[d->n++];
	uint32_t i, at = 0;

	*to = *got;
	to->at = malloc(GOT_BYTES);
	must(to->at);
	for (i = 0; i < pieces; i++) {
		must(piece[i].len <= GOT_BYTES - at);
		memcpy(to->at + at, piece[i].base, piece[i].len);
		at += (uint32_t)piece[i].len;
	}
	must(at >= to->bytes);
}

static inline uint32_t drive_deliver(struct vmbus_port_queue *queue,
				     const struct vmbus_frame *frame, uint32_t n)
{
	struct drive *const d = queue->up_p;
	uint32_t i;

	must(n && n <= VMBUS_PORT_BURST);
	for (i = 0; i < n && d->room && d->n < GOT_MAX; i++, d->room--) {
		const struct got got = {
			frame[i].bytes,	       frame[i].flags,
			frame[i].csum_start,   frame[i].csum_offset,
			frame[i].header_bytes, frame[i].mss,
			frame[i].vlan,	       NULL,
		};

		drive_keep(d, &got, frame[i].piece, frame[i].pieces);
	}
	return i;
}

static inline void drive_config(struct drive *d, uint32_t takes, bool running)
{
	const struct vmbus_port_config config = {
		.takes = takes, .mtu = 1500, .queues = 1, .running = running
	};

	if (d->port.ops->configure)
		d->port.ops->configure(d->port.ctx, &config);
}

static inline void drive_open_queue(struct drive *d, const struct vmbus_port *port, uint32_t number)
{
	memset(d, 0, sizeof(*d));
	d->port = *port;
	d->room = UINT32_MAX;
	d->spans = 3;
	d->room_bytes = GOT_BYTES;
	d->queue = (struct vmbus_port_queue){
		.ctx = port->ctx, .number = number, .fd = -1, .up_p = d, .deliver_p = drive_deliver
	};
	if (port->ops->open)
		must_eq(port->ops->open(&d->queue), 0);
}

static inline void drive_open(struct drive *d, const struct vmbus_port *port)
{
	drive_open_queue(d, port, 0);
	drive_config(d, 0, true);
}

static inline void drive_forget(struct drive *d)
{
	while (d->n)
		free(d->got[--d->n].at);
}

static inline void drive_close(struct drive *d)
{
	drive_forget(d);
	if (d->port.ops->close)
		d->port.ops->close(&d->queue);
}

/* One call of receive(), with rooms of several spans that do not lie side by side. */
static inline uint32_t drive_receive(struct drive *d)
{
	struct vmbus_port_room room[4];
	struct vmbus_span span[4][8];
	uint8_t *memory[4];
	uint32_t i, k, each = d->room_bytes / d->spans, filled;

	for (i = 0; i < 4; i++) {
		memory[i] = malloc(d->room_bytes + 64 * d->spans);
		must(memory[i] && d->spans <= 8);
		memset(&room[i], 0xee, sizeof(room[i]));
		for (k = 0; k < d->spans; k++)
			span[i][k] = (struct vmbus_span){
				memory[i] + k * (each + 64),
				k + 1 < d->spans ? each : d->room_bytes - each * (d->spans - 1)
			};
		room[i].span = span[i];
		room[i].spans = d->spans;
		room[i].room = d->room_bytes;
	}
	filled = d->port.ops->receive(&d->queue, room, 4);
	for (i = 0; i < 4; i++) {
		if (i < filled) {
			const struct got got = {
				room[i].bytes,	      room[i].flags,
				room[i].csum_start,   room[i].csum_offset,
				room[i].header_bytes, room[i].mss,
				room[i].vlan,	      NULL,
			};

			must(room[i].bytes <= room[i].room && d->n < GOT_MAX);
			drive_keep(d, &got, (const struct vmbus_iov *)span[i], d->spans);
		}
		free(memory[i]);
	}
	return filled;
}

/* What the descriptor says is done; false: nothing came in time. */
static inline bool drive_turn(struct drive *d, int ms)
{
	struct pollfd pollfd = { .fd = d->queue.fd, .events = POLLIN };

	if (poll(&pollfd, 1, ms) != 1)
		return false;
	if (d->port.ops->receive)
		(void)drive_receive(d);
	if (d->port.ops->ready)
		d->port.ops->ready(&d->queue);
	return true;
}

typedef bool drive_match(const struct got *got, const void *what);

/* The first frame that matches, from number *from on; NULL when none came in time. */
static inline const struct got *drive_find(struct drive *d, drive_match *match, const void *what,
					   int ms)
{
	const uint64_t until = test_ms() + (uint64_t)ms;
	uint32_t at = 0;
	uint64_t now;

	for (;;) {
		for (; at < d->n; at++)
			if (match(&d->got[at], what))
				return &d->got[at];
		now = test_ms();
		if (now >= until || !drive_turn(d, (int)(until - now)))
			return NULL;
	}
}

static inline uint32_t drive_send_pieces(struct drive *d, const struct vmbus_iov *piece,
					 uint32_t pieces, struct vmbus_frame frame)
{
	uint32_t i;

	frame.piece = piece;
	frame.pieces = pieces;
	frame.bytes = 0;
	for (i = 0; i < pieces; i++)
		frame.bytes += (uint32_t)piece[i].len;
	return d->port.ops->send(&d->queue, &frame, 1);
}

static inline void drive_send(struct drive *d, const void *bytes, uint32_t len)
{
	const struct vmbus_iov piece = { bytes, len };

	must_eq(drive_send_pieces(d, &piece, 1, (struct vmbus_frame){ 0 }), 1);
}

static inline void drive_drops(const struct drive *d, uint64_t sent, uint64_t received)
{
	uint64_t s = 99, r = 99;

	d->port.ops->dropped(d->port.ctx, &s, &r);
	must_eq(s, sent);
	must_eq(r, received);
}

/* ---- a network of our own ---- */

static inline bool put_file(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		(void)close(fd);
	return n == (ssize_t)strlen(text);
}

/* NULL: this process has an empty network namespace, and may do anything in it; or why not. */
static inline const char *own_network(void)
{
	const unsigned int uid = geteuid(), gid = getegid();
	char map[32];

	if (unshare(uid ? CLONE_NEWUSER | CLONE_NEWNET : CLONE_NEWNET))
		return "no right to make a network namespace";
	if (uid) { /* so that programs that are started are root in it, too */
		(void)snprintf(map, sizeof(map), "0 %u 1", uid);
		if (!put_file("/proc/self/uid_map", map))
			return "no right to be root in a namespace";
		(void)snprintf(map, sizeof(map), "0 %u 1", gid);
		(void)put_file("/proc/self/setgroups", "deny");
		(void)put_file("/proc/self/gid_map", map);
	}
	/* Else interfaces talk by themselves, which tests look past. */
	(void)put_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	return NULL;
}

static inline void interface_up(const char *name)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr;

	must(fd >= 0);
	memset(&ifr, 0, sizeof(ifr));
	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	must_eq(ioctl(fd, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags |= IFF_UP;
	must_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	(void)close(fd);
}

/*
 * The kernel finds out a little later, up to a second, that there is a link, and drops frames until then;
 * IFF_RUNNING does not tell.
 */
static inline void interface_runs(const char *name)
{
	const uint64_t until = test_ms() + WAIT_MS;
	char line[160];

	(void)snprintf(line, sizeof(line),
		       "ip -o link show %s | grep 'state UP' | grep -vq 'qdisc noop '", name);
	while (system(line) != 0)
		must(test_ms() < until);
}

#endif

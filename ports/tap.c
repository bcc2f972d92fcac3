/* SPDX-License-Identifier: MIT */
/*
 * The TAP port: one descriptor of /dev/net/tun for each queue, a read or write for each frame, straight
 * from and to the guest's memory, with the virtio-net header before it.
 *
 * Queue 0 is attached to the interface all the time, the others while they are open: the kernel gives
 * frames to attached queues only.
 */
#define _GNU_SOURCE
#include "vnet/vnet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/port_tap.h>

#define DEVICE "/dev/net/tun"
#define FLAGS (VMBUS_PORT_TAP_PERSIST | VMBUS_PORT_TAP_OWNER | VMBUS_PORT_TAP_NO_OFFLOAD)
#define READ_SPANS 64u	 /* of a room, at most */
#define IDLE_READS 64u	 /* frames thrown away in a call, for a guest that wants none */
#define OLD_READS 65536u /* of a queue when a guest begins; interfaces keep 1000 as a rule */

struct tap {
	struct vmbus__vnet_words words;
	char name[IFNAMSIZ];
	bool header;	 /* the kernel puts and takes it */
	bool multi;	 /* queues can be attached and detached */
	bool no_offload; /* asked for */
	uint32_t queues;
	struct {
		int fd;
		int epoll_fd; /* has fd in it, until the interface is gone: what a NIC watches */
	} queue[];
};

/* ---- frames ---- */

/*
 * What cannot be written is lost: there is no waiting for room in an interface, whose queue has no
 * end towards its owner.
 */
static uint32_t tap_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			 uint32_t n)
{
	struct tap *const tap = queue->ctx;
	const int fd = tap->queue[queue->number].fd;
	struct vmbus__vnet_out out;
	uint64_t lost = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		if (!vmbus__vnet_put(&frame[i], tap->header, &out) ||
		    writev(fd, out.iov, (int)out.iovs) < 0)
			lost++;
	if (lost)
		vmbus__vnet_drop_sent(&tap->words, lost);
	return n;
}

/* One byte of what was just read.  The guest may have changed it since: the caller checks it. */
static uint8_t byte_of(const struct vmbus_port_room *room, uint32_t at)
{
	uint32_t i;

	for (i = 0; i < room->spans; i++) {
		if (at < room->span[i].len)
			return *((const volatile uint8_t *)room->span[i].base + at);
		at -= (uint32_t)room->span[i].len;
	}
	return 0;
}

/* bytes of a frame are in the room: what of it? */
static bool describe(const struct virtio_net_hdr *hdr, uint32_t bytes, uint32_t takes,
		     struct vmbus_port_room *room)
{
	struct vmbus__vnet_in in;

	if (bytes < 14 || bytes > room->room || !vmbus__vnet_get(hdr, bytes, takes, &in))
		return false;
	room->bytes = bytes;
	room->flags = in.flags;
	room->csum_start = in.csum_start;
	room->csum_offset = in.csum_offset;
	room->mss = in.mss;
	room->header_bytes = 0;
	if (!(in.flags & VMBUS__VNET_TSO))
		return true;
	/* The kernel's own length of headers is that of its first piece of memory. */
	room->header_bytes = vmbus__vnet_header_bytes(
		&in, byte_of(room, in.csum_start + VMBUS__VNET_TCP_OFFSET), bytes);
	return room->header_bytes != 0;
}

/* Returns the frame's bytes, past the room's if it was cut off; negative: there is none. */
static ssize_t read_frame(const struct tap *tap, int fd, const struct vmbus_port_room *room,
			  struct virtio_net_hdr *hdr)
{
	struct iovec iov[READ_SPANS + 2];
	uint8_t beyond[4];
	uint32_t i, spans = room->spans < READ_SPANS ? room->spans : READ_SPANS;
	ssize_t got;
	int n = 0;

	memset(hdr, 0, sizeof(*hdr));
	if (tap->header)
		iov[n++] = (struct iovec){ hdr, sizeof(*hdr) };
	for (i = 0; i < spans; i++)
		iov[n++] = (struct iovec){ room->span[i].base, room->span[i].len };
	iov[n++] = (struct iovec){ beyond, sizeof(beyond) };
	got = readv(fd, iov, n);
	return got < 0 || !tap->header ? got : got - (ssize_t)sizeof(*hdr);
}

static void throw_away(struct tap *tap, int fd, uint32_t most)
{
	uint8_t begin[64];
	uint32_t n = 0;

	while (n < most && read(fd, begin, sizeof(begin)) > 0)
		n++;
	if (n)
		vmbus__vnet_drop_received(&tap->words, n);
}

/*
 * The interface is gone: its descriptor would be readable for ever.  It leaves the set that the NIC watches
 * while it has its number: an epoll set knows an open file by that, and the file stays if somebody else has
 * it open.  Then one to which nothing can be written, a timer that is not set, takes its place.
 */
static void be_silent(const struct tap *tap, uint32_t queue)
{
	const int fd = tap->queue[queue].fd;
	int silent;

	(void)epoll_ctl(tap->queue[queue].epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	silent = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (silent < 0)
		return;
	(void)dup3(silent, fd, O_CLOEXEC);
	(void)close(silent);
}

static uint32_t tap_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			    uint32_t n)
{
	struct tap *const tap = queue->ctx;
	const int fd = tap->queue[queue->number].fd;
	struct virtio_net_hdr hdr;
	uint32_t takes, filled = 0, lost = 0;
	ssize_t bytes;
	bool running;

	takes = vmbus__vnet_takes(&tap->words, &running);
	errno = 0;
	if (!running)
		throw_away(tap, fd, IDLE_READS);
	while (running && filled < n && lost < n) {
		bytes = read_frame(tap, fd, &room[filled], &hdr);
		if (bytes < 0)
			break;
		if (describe(&hdr, (uint32_t)bytes, takes, &room[filled]))
			filled++;
		else
			lost++;
	}
	if (errno == EBADFD)
		be_silent(tap, queue->number);
	if (lost)
		vmbus__vnet_drop_received(&tap->words, lost);
	return filled;
}

/* ---- the table ---- */

static int tap_info(void *ctx, struct vmbus_port_info *info)
{
	const struct tap *const tap = ctx;
	struct ifreq ifr;

	memset(info, 0, sizeof(*info));
	memset(&ifr, 0, sizeof(ifr));
	info->can = VMBUS_FRAME_VLAN;
	if (tap->header && !tap->no_offload)
		info->can |= VMBUS__VNET_OFFLOADS;
	info->queues = tap->queues;
	info->up = ioctl(tap->queue[0].fd, TUNGETIFF, &ifr) == 0; /* the interface is there */
	return 0;
}

static int attach(int fd, bool on)
{
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	ifr.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
	return ioctl(fd, TUNSETQUEUE, &ifr);
}

static int tap_open(struct vmbus_port_queue *queue)
{
	struct tap *const tap = queue->ctx;

	if (queue->number >= tap->queues)
		return VMBUS_E_RANGE;
	if (queue->number && attach(tap->queue[queue->number].fd, true))
		return VMBUS_E_SYSTEM;
	queue->fd = tap->queue[queue->number].epoll_fd;
	if (!queue->number) /* frames came while nobody looked */
		throw_away(tap, tap->queue[0].fd, OLD_READS);
	return 0;
}

static void tap_close(struct vmbus_port_queue *queue)
{
	const struct tap *const tap = queue->ctx;

	if (queue->number)
		(void)attach(tap->queue[queue->number].fd, false);
}

static void set_offload(const struct tap *tap, uint32_t takes)
{
	unsigned long offload = 0;

	if (!tap->header)
		return;
	if (takes & VMBUS_FRAME_CSUM && !tap->no_offload) {
		offload = TUN_F_CSUM;
		if (takes & VMBUS_FRAME_TSO4)
			offload |= TUN_F_TSO4;
		if (takes & VMBUS_FRAME_TSO6)
			offload |= TUN_F_TSO6;
	}
	(void)ioctl(tap->queue[0].fd, TUNSETOFFLOAD, offload);
}

/* A guest begins to take frames.  A NIC whose guest takes none need not look at what comes meanwhile. */
static void throw_old_away(struct tap *tap)
{
	uint32_t i;

	for (i = 0; i < tap->queues; i++) /* a queue that is not attached gives an error */
		throw_away(tap, tap->queue[i].fd, OLD_READS);
}

/* The kernel first: what it gives meanwhile and the guest does not take is dropped. */
static void tap_configure(void *ctx, const struct vmbus_port_config *config)
{
	struct tap *const tap = ctx;

	set_offload(tap, config->takes);
	if (vmbus__vnet_begins(&tap->words, config))
		throw_old_away(tap);
	vmbus__vnet_set(&tap->words, config);
}

static void tap_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	struct tap *const tap = ctx;

	vmbus__vnet_dropped(&tap->words, sent, received);
}

static void tap_destroy(void *ctx)
{
	struct tap *const tap = ctx;
	uint32_t i;

	for (i = 0; i < tap->queues; i++) {
		if (tap->queue[i].fd >= 0)
			(void)close(tap->queue[i].fd);
		if (tap->queue[i].epoll_fd >= 0)
			(void)close(tap->queue[i].epoll_fd);
	}
	free(tap);
}

static const struct vmbus_port_ops tap_ops = {
	.struct_bytes = sizeof(tap_ops),
	.name = "tap",
	.info = tap_info,
	.open = tap_open,
	.close = tap_close,
	.send = tap_send,
	.receive = tap_receive,
	.configure = tap_configure,
	.destroy = tap_destroy,
	.dropped = tap_dropped,
};

/* ---- opening ---- */

static int fail(const struct vmbus_port_tap_opts *opts, const char *name, const char *what)
{
	return vmbus__vnet_error(opts->why, opts->why_bytes, name, what);
}

static int open_device(void)
{
	const int fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT)
		errno = ENODEV;
	return fd;
}

static int set_interface(struct tap *tap, int fd, bool multi)
{
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	memcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multi ? IFF_MULTI_QUEUE : 0));
	if (ioctl(fd, TUNSETIFF, &ifr))
		return -1;
	memcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
	tap->multi = multi;
	return 0;
}

/* An interface that was made for one queue, or for several, is only to be had as that. */
static int open_first(struct tap *tap)
{
	tap->queue[0].fd = open_device();
	if (tap->queue[0].fd < 0)
		return -1;
	if (set_interface(tap, tap->queue[0].fd, tap->queues > 1) == 0)
		return 0;
	if (errno == EINVAL && tap->queues == 1)
		return set_interface(tap, tap->queue[0].fd, true);
	if (errno == EINVAL)
		errno = EBUSY;
	return -1;
}

static int open_named(const struct vmbus_port_tap_opts *opts, struct tap *tap)
{
	uint32_t i;

	(void)snprintf(tap->name, sizeof(tap->name), "%s", opts->name);
	if (open_first(tap))
		return fail(opts, tap->queue[0].fd < 0 ? DEVICE : opts->name,
			    "no TAP interface could be opened or made");
	for (i = 1; i < tap->queues; i++) {
		tap->queue[i].fd = open_device();
		if (tap->queue[i].fd < 0 || set_interface(tap, tap->queue[i].fd, true) ||
		    attach(tap->queue[i].fd, false))
			return fail(opts, tap->name, "a further queue could not be opened");
	}
	if (opts->flags & VMBUS_PORT_TAP_OWNER &&
	    ioctl(tap->queue[0].fd, TUNSETOWNER, (unsigned long)opts->owner))
		return fail(opts, tap->name, "its owner could not be set");
	if (opts->flags & VMBUS_PORT_TAP_PERSIST && ioctl(tap->queue[0].fd, TUNSETPERSIST, 1))
		return fail(opts, tap->name, "it could not be made to stay");
	return 0;
}

/* What may have been changed by who had the interface before: the size of the header, and of the queue
   towards its owner, which has no end here. */
static int set_header(struct tap *tap)
{
	int bytes = VMBUS__VNET_BYTES, no_end = INT_MAX;

	tap->header = true;
	return ioctl(tap->queue[0].fd, TUNSETVNETHDRSZ, &bytes) ||
			       ioctl(tap->queue[0].fd, TUNSETSNDBUF, &no_end)
		       ? -1
		       : 0;
}

static int take_one(struct tap *tap, uint32_t i, int from)
{
	struct ifreq ifr;
	int flags;

	memset(&ifr, 0, sizeof(ifr));
	if (ioctl(from, TUNGETIFF, &ifr))
		return VMBUS_E_INVAL;
	if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_NO_PI) ||
	    (i && strncmp(ifr.ifr_name, tap->name, IFNAMSIZ) != 0) ||
	    (tap->queues > 1 && !(ifr.ifr_flags & IFF_MULTI_QUEUE)))
		return VMBUS_E_INVAL;
	memcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
	tap->header = (ifr.ifr_flags & IFF_VNET_HDR) != 0;
	tap->multi = (ifr.ifr_flags & IFF_MULTI_QUEUE) != 0;
	tap->queue[i].fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
	flags = tap->queue[i].fd < 0 ? -1 : fcntl(tap->queue[i].fd, F_GETFL);
	if (flags < 0 || fcntl(tap->queue[i].fd, F_SETFL, flags | O_NONBLOCK))
		return VMBUS_E_SYSTEM;
	return i && attach(tap->queue[i].fd, false) ? VMBUS_E_SYSTEM : 0;
}

static int take_given(const struct vmbus_port_tap_opts *opts, struct tap *tap)
{
	uint32_t i;
	int err;

	for (i = 0; i < tap->queues; i++) {
		err = take_one(tap, i, opts->fd[i]);
		if (err == VMBUS_E_INVAL && opts->why && opts->why_bytes)
			(void)snprintf(
				opts->why, opts->why_bytes,
				"descriptor %d: it is no queue of a TAP interface without packet "
				"information, or not of the same as the ones before it",
				opts->fd[i]);
		if (err == VMBUS_E_SYSTEM)
			return fail(opts, "descriptor of a TAP interface", "it could not be taken");
		if (err)
			return err;
	}
	return 0;
}

static int make_sets(const struct vmbus_port_tap_opts *opts, struct tap *tap)
{
	struct epoll_event event = { .events = EPOLLIN };
	uint32_t i;

	for (i = 0; i < tap->queues; i++) {
		tap->queue[i].epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (tap->queue[i].epoll_fd < 0 ||
		    epoll_ctl(tap->queue[i].epoll_fd, EPOLL_CTL_ADD, tap->queue[i].fd, &event))
			return fail(opts, tap->name, "a queue could not be waited for");
	}
	return 0;
}

/* Which option it is that is refused. */
static int wrong(const struct vmbus_port_tap_opts *opts, int err, const char *what)
{
	if (opts->why && opts->why_bytes)
		(void)snprintf(opts->why, opts->why_bytes, "%s", what);
	return err;
}

static int check(const struct vmbus_port_tap_opts *opts)
{
	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL; /* then why is not where it should be */
	if (!opts->name == !opts->fd)
		return wrong(opts, VMBUS_E_INVAL,
			     opts->name ? "opts: name and fd: only one can be given"
					: "opts: neither name nor fd is given");
	if (opts->flags & ~(opts->fd ? VMBUS_PORT_TAP_NO_OFFLOAD : FLAGS))
		return wrong(opts, VMBUS_E_INVAL,
			     opts->fd ? "opts: flags: with fd there is only NO_OFFLOAD"
				      : "opts: flags that do not exist");
	if (opts->name && (!opts->name[0] || strnlen(opts->name, IFNAMSIZ) >= IFNAMSIZ))
		return wrong(opts, VMBUS_E_INVAL, "opts: name must have 1 to 15 characters");
	if (opts->queues > VMBUS_PORT_QUEUES_MAX)
		return wrong(opts, VMBUS_E_RANGE, "opts: queues is more than there can be");
	return 0;
}

int vmbus_port_tap(const struct vmbus_port_tap_opts *opts, struct vmbus_port *port)
{
	const uint32_t queues = opts->queues ? opts->queues : 1;
	struct tap *tap;
	uint32_t i;
	int err = check(opts);

	if (err)
		return err;
	tap = calloc(1, sizeof(*tap) + queues * sizeof(tap->queue[0]));
	if (!tap)
		return VMBUS_E_NOMEM;
	tap->queues = queues;
	tap->no_offload = (opts->flags & VMBUS_PORT_TAP_NO_OFFLOAD) != 0;
	for (i = 0; i < queues; i++)
		tap->queue[i].fd = tap->queue[i].epoll_fd = -1;
	err = opts->fd ? take_given(opts, tap) : open_named(opts, tap);
	if (!err && (opts->name || tap->header) && set_header(tap))
		err = fail(opts, tap->name, "the kernel's header could not be set");
	if (!err)
		err = make_sets(opts, tap);
	if (err) {
		const int error = errno;

		tap_destroy(tap);
		errno = error;
		return err;
	}
	set_offload(tap, 0);
	*port = (struct vmbus_port){ &tap_ops, tap };
	return 0;
}

int vmbus_port_tap_name(const struct vmbus_port *port, char name[16])
{
	if (!port || port->ops != &tap_ops)
		return VMBUS_E_INVAL;
	memcpy(name, ((const struct tap *)port->ctx)->name, IFNAMSIZ);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The slirp port: frames of the guest's go into libslirp, which answers them, or opens sockets and
 * talks for the guest.
 *
 * libslirp hands out a frame whenever it likes; they wait in a buffer until the guest takes them, and
 * as long as some wait no socket is read.  It is no library for several threads, and keeps things that
 * all its networks share: one lock is around every call, and not around what goes to the guest.
 *
 * The guest is not trusted: what it makes libslirp do costs sockets, of which there is a limit.
 */
#include "slirp/slirp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"

#define FLAGS                                                                                      \
	(VMBUS_PORT_SLIRP_RESTRICTED | VMBUS_PORT_SLIRP_NO_LOOPBACK | VMBUS_PORT_SLIRP_NO_IPV6 |   \
	 VMBUS_PORT_SLIRP_NO_DHCP | VMBUS_PORT_SLIRP_NO_DNS)
#define MTU_DEFAULT 1500u
#define MTU_MIN 576u
#define MTU_MAX 65521u
#define SOCKETS_DEFAULT 256u
#define SOCKETS_MIN 16u
#define SOCKETS_MAX 4096u
#define WAITING_BYTES 524288u /* of frames for the guest */
#define BATCH 32u
#define STALE_NS 2000000 /* its clock stands, and no timer runs, between two looks at its sockets */
#define TCP_FLAGS 13u	 /* offset in its header */
#define TCP_SYN 2u
#define TCP_ACK 16u
#define PROTOCOL_ICMP 1u
#define PROTOCOL_UDP 17u
#define IPV4_TO 16u /* offset in its header */
#define IPV4_ALL UINT32_MAX
#define DHCP_PORT 67u

struct slirp {
	Slirp *stack;
	struct vmbus__slirp_waits waits;
	struct vmbus_port_queue *queue; /* NULL: not open */
	uint32_t mtu, sockets_max;
	uint32_t host; /* its own address */
	int64_t looked_ns;
	uint64_t sent, received; /* shared: frames dropped */
	uint32_t running;	 /* shared */
	/* Frames that wait for the guest: from head to tail, each with its length before it. */
	uint32_t head, tail;
	uint8_t *waiting;
	uint8_t gather[VMBUS_FRAME_BYTES_MAX + 7];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- to the guest ---- */

static void drop_received(struct slirp *s)
{
	vmbus__add64_relaxed(vmbus__as_a64(&s->received), 1); /* PORTDROP.count */
}

static uint32_t room_of(uint32_t bytes)
{
	return (8 + bytes + 7) / 8 * 8;
}

/* From libslirp. */
static ssize_t on_packet(const void *buf, size_t len, void *opaque)
{
	struct slirp *const s = opaque;
	const uint32_t bytes = (uint32_t)len;

	if (len < 14 || len > VMBUS_FRAME_BYTES_MAX)
		return (ssize_t)len;
	if (room_of(bytes) > WAITING_BYTES - s->tail && s->head) {
		memmove(s->waiting, s->waiting + s->head, s->tail - s->head);
		s->tail -= s->head;
		s->head = 0;
	}
	if (room_of(bytes) > WAITING_BYTES - s->tail) {
		drop_received(s);
		return (ssize_t)len;
	}
	memcpy(s->waiting + s->tail, &bytes, sizeof(bytes));
	memcpy(s->waiting + s->tail + 8, buf, len);
	s->tail += room_of(bytes);
	return (ssize_t)len;
}

/* Up to BATCH of the frames that wait. */
static uint32_t list(const struct slirp *s, struct vmbus_frame *frame, struct vmbus_iov *piece)
{
	uint32_t at = s->head, n = 0, bytes;

	for (; at < s->tail && n < BATCH; n++) {
		memcpy(&bytes, s->waiting + at, sizeof(bytes));
		piece[n] = (struct vmbus_iov){ s->waiting + at + 8, bytes };
		memset(&frame[n], 0, sizeof(frame[n]));
		frame[n].piece = &piece[n];
		frame[n].pieces = 1;
		frame[n].bytes = bytes;
		frame[n].flags = VMBUS_FRAME_CSUM_OK;
		at += room_of(bytes);
	}
	return n;
}

/* What waits was for whoever had the queue before. */
static void drop_waiting(struct slirp *s)
{
	uint32_t bytes;

	while (s->head < s->tail) {
		memcpy(&bytes, s->waiting + s->head, sizeof(bytes));
		s->head += room_of(bytes);
		drop_received(s);
	}
	s->head = s->tail = 0;
}

/* Without the lock. */
static void hand_over(struct slirp *s)
{
	const bool running =
		vmbus__ld32_relaxed(vmbus__as_a32(&s->running)) != 0; /* PORTCONF.look */
	struct vmbus_frame frame[BATCH];
	struct vmbus_iov piece[BATCH];
	uint32_t n, taken, i;

	while (s->head < s->tail) {
		n = list(s, frame, piece);
		taken = running ? vmbus_port_deliver(s->queue, frame, n) : n;
		for (i = 0; i < taken; i++) {
			s->head += room_of(frame[i].bytes);
			if (!running)
				drop_received(s);
		}
		if (taken < n)
			return;
	}
	s->head = s->tail = 0;
}

/* ---- from the guest ---- */

static const uint8_t *one_piece(struct slirp *s, const struct vmbus_frame *frame)
{
	uint32_t i, at = 0;

	if (frame->pieces == 1)
		return frame->piece[0].base;
	for (i = 0; i < frame->pieces; i++) {
		if (frame->piece[i].len > VMBUS_FRAME_BYTES_MAX - at)
			return NULL;
		memcpy(s->gather + at, frame->piece[i].base, frame->piece[i].len);
		at += (uint32_t)frame->piece[i].len;
	}
	return at == frame->bytes ? s->gather : NULL;
}

static uint32_t be16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

/* libslirp answers it itself only if it is for its own host, or for all; else it gets a socket. */
static bool is_dhcp(const struct slirp *s, const uint8_t *bytes,
		    const struct vmbus_frame_headers *h)
{
	const uint8_t *const at = bytes + h->network + IPV4_TO;
	uint32_t to;

	if (!h->udp || h->ip != 4 || h->fragment || be16(bytes + h->transport + 2) != DHCP_PORT)
		return false;
	to = be16(at) << 16 | be16(at + 2);
	return to == s->host || to == IPV4_ALL;
}

/* Would it make libslirp open another socket?  Of a flow of datagrams that has one this is not known, and
   what makes no sense may be sense to libslirp. */
static bool begins(const struct slirp *s, const uint8_t *bytes, uint32_t len)
{
	struct vmbus_frame_headers h;
	uint8_t flags;

	if (vmbus_frame_look(bytes, len, len, &h) && !h.ip)
		return false;
	if (h.tcp) {
		flags = bytes[h.transport + TCP_FLAGS];
		return (flags & TCP_SYN) && !(flags & TCP_ACK);
	}
	if (is_dhcp(s, bytes, &h))
		return false;
	return h.ip && (h.protocol == PROTOCOL_UDP || h.protocol == PROTOCOL_ICMP || h.fragment);
}

static void take(struct slirp *s, const struct vmbus_frame *frame)
{
	const uint8_t *const bytes = one_piece(s, frame);

	if (!bytes || frame->bytes > s->mtu + 18 ||
	    (s->waits.sockets >= s->sockets_max && begins(s, bytes, frame->bytes))) {
		vmbus__add64_relaxed(vmbus__as_a64(&s->sent), 1); /* PORTDROP.count */
		return;
	}
	slirp_input(s->stack, bytes, (int)frame->bytes);
}

/* Its clock goes on when it looks at its sockets; what it makes with an old one ends too early.  With
   frames that wait it is told that nothing has come. */
static void look(struct slirp *s)
{
	s->looked_ns = vmbus__slirp_now_ns();
	vmbus__slirp_work(&s->waits, s->stack, s->head == s->tail);
}

static void begin_to_wait(struct slirp *s)
{
	(void)pthread_mutex_lock(&lock);
	vmbus__slirp_wait(&s->waits, s->stack, s->head < s->tail);
	(void)pthread_mutex_unlock(&lock);
}

static uint32_t slirp_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			   uint32_t n)
{
	struct slirp *const s = queue->ctx;
	uint32_t i;

	(void)pthread_mutex_lock(&lock);
	if (vmbus__slirp_now_ns() - s->looked_ns > STALE_NS)
		look(s);
	for (i = 0; i < n; i++)
		take(s, &frame[i]);
	(void)pthread_mutex_unlock(&lock);
	hand_over(s);
	begin_to_wait(s);
	return n;
}

static void slirp_ready(struct vmbus_port_queue *queue)
{
	struct slirp *const s = queue->ctx;

	hand_over(s);
	if (s->head == s->tail) {
		(void)pthread_mutex_lock(&lock);
		look(s);
		(void)pthread_mutex_unlock(&lock);
		hand_over(s);
	}
	begin_to_wait(s);
}

/* ---- what libslirp calls ---- */

static void on_guest_error(const char *msg, void *opaque)
{
	(void)msg;
	(void)opaque;
}

static int64_t on_clock(void *opaque)
{
	(void)opaque;
	return vmbus__slirp_now_ns();
}

static void *on_timer_new(SlirpTimerCb fn, void *fn_opaque, void *opaque)
{
	return vmbus__slirp_timer_new(&((struct slirp *)opaque)->waits, fn, fn_opaque);
}

static void on_timer_free(void *timer, void *opaque)
{
	(void)opaque;
	if (timer)
		((struct vmbus__slirp_timer *)timer)->fn = NULL;
}

static void on_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)opaque;
	if (timer)
		((struct vmbus__slirp_timer *)timer)->at_ms = expire_ms < 0 ? 0 : expire_ms;
}

static void on_register(int fd, void *opaque)
{
	vmbus__slirp_socket(&((struct slirp *)opaque)->waits, fd, true);
}

static void on_unregister(int fd, void *opaque)
{
	vmbus__slirp_socket(&((struct slirp *)opaque)->waits, fd, false);
}

static void on_notify(void *opaque)
{
	(void)opaque;
}

static const SlirpCb callbacks = {
	.send_packet = on_packet,
	.guest_error = on_guest_error,
	.clock_get_ns = on_clock,
	.timer_new = on_timer_new,
	.timer_free = on_timer_free,
	.timer_mod = on_timer_mod,
	.register_poll_fd = on_register,
	.unregister_poll_fd = on_unregister,
	.notify = on_notify,
};

/* ---- the table ---- */

static int slirp_info(void *ctx, struct vmbus_port_info *info)
{
	const struct slirp *const s = ctx;

	memset(info, 0, sizeof(*info));
	info->queues = 1;
	info->mtu_max = s->mtu;
	info->up = true;
	return 0;
}

static int slirp_open(struct vmbus_port_queue *queue)
{
	struct slirp *const s = queue->ctx;

	if (queue->number)
		return VMBUS_E_RANGE;
	if (s->queue)
		return VMBUS_E_STATE;
	s->queue = queue;
	drop_waiting(s);
	queue->fd = s->waits.epoll_fd;
	begin_to_wait(s);
	return 0;
}

static void slirp_close(struct vmbus_port_queue *queue)
{
	struct slirp *const s = queue->ctx;

	s->queue = NULL;
}

static void slirp_configure(void *ctx, const struct vmbus_port_config *config)
{
	struct slirp *const s = ctx;

	vmbus__st32_relaxed(vmbus__as_a32(&s->running), config->running); /* PORTCONF.set */
}

static void slirp_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	struct slirp *const s = ctx;
	const uint64_t out = vmbus__ld64_relaxed(vmbus__as_a64(&s->sent));    /* PORTDROP.look */
	const uint64_t in = vmbus__ld64_relaxed(vmbus__as_a64(&s->received)); /* PORTDROP.look */

	*sent = out;
	*received = in;
}

static void slirp_destroy(void *ctx)
{
	struct slirp *const s = ctx;

	if (s->stack) {
		(void)pthread_mutex_lock(&lock);
		slirp_cleanup(s->stack);
		(void)pthread_mutex_unlock(&lock);
	}
	vmbus__slirp_waits_end(&s->waits);
	free(s->waiting);
	free(s);
}

static const struct vmbus_port_ops slirp_ops = {
	.struct_bytes = sizeof(slirp_ops),
	.name = "slirp",
	.info = slirp_info,
	.open = slirp_open,
	.close = slirp_close,
	.send = slirp_send,
	.ready = slirp_ready,
	.configure = slirp_configure,
	.destroy = slirp_destroy,
	.dropped = slirp_dropped,
};

/* ---- making ---- */

static int fail(const struct vmbus_port_slirp_opts *opts, int err, const char *what,
		const char *subject)
{
	const int error = errno;
	char reason[64];

	if (opts->why && opts->why_bytes)
		(void)snprintf(opts->why, opts->why_bytes, "%s: %s%s%s", subject, what,
			       err == VMBUS_E_INVAL ? "" : ": ",
			       err == VMBUS_E_INVAL ? ""
						    : strerror_r(error, reason, sizeof(reason)));
	errno = error;
	return err;
}

static struct in_addr in_net(uint32_t address)
{
	return (struct in_addr){ .s_addr = htonl(address) };
}

static void configure(const struct vmbus_port_slirp_opts *opts, const struct vmbus__slirp_net *net,
		      uint32_t mtu, SlirpConfig *config)
{
	memset(config, 0, sizeof(*config));
	config->version = 4;
	config->restricted = (opts->flags & VMBUS_PORT_SLIRP_RESTRICTED) != 0;
	config->in_enabled = true;
	config->vnetwork = in_net(net->network);
	config->vnetmask = in_net(net->mask);
	config->vhost = in_net(net->host);
	config->vdhcp_start = in_net(net->guest);
	config->vnameserver = in_net(net->nameserver);
	config->in6_enabled = !(opts->flags & VMBUS_PORT_SLIRP_NO_IPV6);
	(void)inet_pton(AF_INET6, "fec0::", &config->vprefix_addr6);
	(void)inet_pton(AF_INET6, "fec0::2", &config->vhost6);
	(void)inet_pton(AF_INET6, "fec0::3", &config->vnameserver6);
	config->vprefix_len = 64;
	config->vhostname = opts->hostname;
	config->vdomainname = opts->domain;
	config->if_mtu = config->if_mru = mtu;
	config->disable_host_loopback = (opts->flags & VMBUS_PORT_SLIRP_NO_LOOPBACK) != 0;
	config->disable_dns = (opts->flags & VMBUS_PORT_SLIRP_NO_DNS) != 0;
	config->disable_dhcp = (opts->flags & VMBUS_PORT_SLIRP_NO_DHCP) != 0;
}

static int add_forwards(const struct vmbus_port_slirp_opts *opts,
			const struct vmbus__slirp_net *net, struct slirp *s)
{
	struct vmbus__slirp_forward f;
	uint32_t i;
	int err;

	for (i = 0; i < opts->hostfwds; i++) {
		err = vmbus__slirp_forward(opts->hostfwd[i], net, &f);
		if (err)
			return fail(
				opts, err,
				"it is tcp:[HOST]:PORT-[GUEST]:PORT, or udp, of numbers, with a "
				"guest of the network",
				opts->hostfwd[i]);
		if (slirp_add_hostfwd(s->stack, f.udp, f.host, f.host_port, f.guest,
				      f.guest_port) == 0)
			continue;
		err = errno == EADDRINUSE		  ? VMBUS_E_STATE
		      : errno == EACCES || errno == EPERM ? VMBUS_E_PERM
							  : VMBUS_E_SYSTEM;
		return fail(opts, err, "the port of this machine cannot be had", opts->hostfwd[i]);
	}
	return 0;
}

static int make(const struct vmbus_port_slirp_opts *opts, struct slirp *s)
{
	struct vmbus__slirp_net net;
	SlirpConfig config;
	int err;

	if (vmbus__slirp_network(opts->network, &net))
		return fail(opts, VMBUS_E_INVAL,
			    "it is an address with zeroes for the hosts, and /8 to /28",
			    opts->network);
	if (vmbus__slirp_waits_begin(&s->waits))
		return fail(opts, VMBUS_E_SYSTEM, "no descriptor to wait by", "slirp");
	s->waiting = malloc(WAITING_BYTES);
	if (!s->waiting)
		return VMBUS_E_NOMEM;
	s->host = net.host;
	configure(opts, &net, s->mtu, &config);
	(void)pthread_mutex_lock(&lock);
	s->stack = slirp_new(&config, &callbacks, s);
	err = s->stack ? add_forwards(opts, &net, s)
		       : fail(opts, VMBUS_E_SYSTEM, "libslirp has refused", "slirp");
	(void)pthread_mutex_unlock(&lock);
	return err;
}

static int refuse(const struct vmbus_port_slirp_opts *opts, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int refuse(const struct vmbus_port_slirp_opts *opts, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (opts->why && opts->why_bytes)
		(void)vsnprintf(opts->why, opts->why_bytes, format, args);
	va_end(args);
	return err;
}

static int check(const struct vmbus_port_slirp_opts *opts)
{
	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	if (opts->flags & ~FLAGS)
		return refuse(opts, VMBUS_E_INVAL, "flags 0x%x: bits 0x%x are unknown", opts->flags,
			      opts->flags & ~FLAGS);
	if (opts->hostfwds && !opts->hostfwd)
		return refuse(opts, VMBUS_E_INVAL, "hostfwds %u: hostfwd is NULL", opts->hostfwds);
	if (opts->mtu && (opts->mtu < MTU_MIN || opts->mtu > MTU_MAX))
		return refuse(opts, VMBUS_E_RANGE, "mtu %u: it is %u to %u", opts->mtu, MTU_MIN,
			      MTU_MAX);
	if (opts->sockets_max &&
	    (opts->sockets_max < SOCKETS_MIN || opts->sockets_max > SOCKETS_MAX))
		return refuse(opts, VMBUS_E_RANGE, "sockets_max %u: it is %u to %u",
			      opts->sockets_max, SOCKETS_MIN, SOCKETS_MAX);
	if (opts->hostfwds > VMBUS_PORT_SLIRP_FORWARDS_MAX)
		return refuse(opts, VMBUS_E_RANGE, "hostfwds %u: %u are the most", opts->hostfwds,
			      VMBUS_PORT_SLIRP_FORWARDS_MAX);
	return 0;
}

int vmbus_port_slirp(const struct vmbus_port_slirp_opts *opts, struct vmbus_port *port)
{
	struct slirp *s;
	int err = check(opts);

	if (err)
		return err;
	s = calloc(1, sizeof(*s));
	if (!s)
		return VMBUS_E_NOMEM;
	s->waits.epoll_fd = s->waits.timer_fd = -1;
	s->mtu = opts->mtu ? opts->mtu : MTU_DEFAULT;
	s->sockets_max = opts->sockets_max ? opts->sockets_max : SOCKETS_DEFAULT;
	err = make(opts, s);
	if (err) {
		const int error = errno;

		slirp_destroy(s);
		errno = error;
		return err;
	}
	*port = (struct vmbus_port){ &slirp_ops, s };
	return 0;
}

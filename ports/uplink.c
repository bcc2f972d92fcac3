/* SPDX-License-Identifier: MIT */
/*
 * A port that is a NIC of another parent's: a child of that parent over shared memory, with a client
 * (NetVSC) on it, both driven by the thread of the port's queue.  What comes from there lies in memory
 * that the parent can change: the head of each frame is copied before anybody looks at it.
 */
#define _GNU_SOURCE
#include <vmbus/port_uplink.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/net.h>
#include <vmbus/netvsc.h>
#include <vmbus/shm_bus.h>

#define BURST VMBUS_NETVSC_BURST
#define BUDGET 256u
#define OLD_TURNS 64u /* of what came before somebody opens: more than a ring holds */
#define BUFFER_BYTES (4u << 20)
#define BUFFER_MIN (256u << 10)
#define BUFFER_MAX (15u << 20)
#define RING_BYTES (256u << 10)
#define MORE_BYTES (2u << 20) /* of the child's memory, for what is no buffer and no ring */
#define TIMEOUT_NS UINT64_C(5000000000)
#define TURN_NS UINT64_C(10000000)
#define FILTER                                                                                     \
	(VMBUS_NETVSC_DIRECTED | VMBUS_NETVSC_ALL_MULTICAST | VMBUS_NETVSC_BROADCAST |             \
	 VMBUS_NETVSC_PROMISCUOUS)

struct uplink {
	struct vmbus_port_uplink_opts opts;
	struct vmbus_shm_attach *attach;
	struct vmbus_netvsc netvsc;
	struct vmbus_netvsc_chan chan;
	int fd; /* a duplicate of the attachment's descriptor; then of one that is never readable */
	bool is_ready, is_gone, changed;
	bool tx_waits; /* the last send() found no room, and no ready() came since */
	int ready_err;
	struct vmbus_netvsc_burst burst;
	uint32_t kept_at;	 /* of the burst: what the guest has not */
	uint64_t client_dropped; /* by the client, which found no room; counted below as well */
	struct vmbus_frame frame[BURST];
	struct vmbus_iov piece[VMBUS_NETVSC_PIECES + BURST];
	uint8_t head[BURST][VMBUS_FRAME_HEAD];
	pthread_mutex_t lock; /* of what follows, which any thread asks for */
	bool up, lost;	      /* link; the parent */
	uint64_t bits_per_s;
	uint64_t sent_dropped, received_dropped;
};

static int wrong(const struct vmbus_port_uplink_opts *opts, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int wrong(const struct vmbus_port_uplink_opts *opts, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (opts->why && opts->why_bytes)
		(void)vsnprintf(opts->why, opts->why_bytes, format, args);
	va_end(args);
	return err;
}

static uint64_t now_ns(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void set_link(struct uplink *u, bool up)
{
	pthread_mutex_lock(&u->lock);
	u->changed |= u->up != up || u->lost != u->is_gone || u->bits_per_s != u->netvsc.bits_per_s;
	u->up = up;
	u->lost = u->is_gone;
	u->bits_per_s = u->netvsc.bits_per_s;
	pthread_mutex_unlock(&u->lock);
}

static void count(struct uplink *u, uint64_t *what, uint64_t n)
{
	pthread_mutex_lock(&u->lock);
	*what += n;
	pthread_mutex_unlock(&u->lock);
}

/* Once it is over, what became of pages and channels is of no use to anybody. */
static void guest_log(void *ctx, const char *line)
{
	const struct uplink *const u = ctx;

	if (u->is_gone || !u->opts.log)
		return;
	if (!u->attach || vmbus_guest_state(vmbus_shm_guest(u->attach)) != VMBUS_GUEST_GONE)
		u->opts.log(u->opts.ctx, line);
}

/* ---- from the client ---- */

static void on_ready(void *ctx, int err)
{
	struct uplink *const u = ctx;

	u->is_ready = true;
	u->ready_err = err;
	if (!err)
		set_link(u, u->netvsc.up);
}

static void on_link(void *ctx, bool up)
{
	set_link(ctx, up);
}

static void on_closed(void *ctx)
{
	struct uplink *const u = ctx;

	u->is_gone = true;
	set_link(u, false);
}

/* ---- the port ---- */

static int uplink_info(void *ctx, struct vmbus_port_info *info)
{
	struct uplink *const u = ctx;
	bool lost;

	memset(info, 0, sizeof(*info));
	info->can = u->netvsc.tx &
		    (VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN);
	info->tso_max = u->netvsc.tso_max;
	if (info->tso_max == 0)
		info->can &= ~(VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6);
	info->queues = 1;
	info->mtu_max = u->netvsc.mtu;
	memcpy(info->mac, u->netvsc.permanent_mac, sizeof(info->mac));
	pthread_mutex_lock(&u->lock);
	info->up = u->up;
	info->bits_per_s = u->bits_per_s;
	lost = u->lost;
	pthread_mutex_unlock(&u->lock);
	return lost ? VMBUS_E_PEER : 0;
}

static int dispatch(struct uplink *u);
static void bring(struct uplink *u, struct vmbus_port_queue *queue);
static void tell_changed(struct uplink *u);

static bool throw_away(struct uplink *u)
{
	bool any = false;
	int n;

	while (!u->is_gone && (n = vmbus_netvsc_receive(&u->netvsc, 0, &u->burst, BURST)) > 0) {
		any = true;
		count(u, &u->received_dropped, (uint32_t)n);
		(void)vmbus_netvsc_release(&u->netvsc, 0, &u->burst);
	}
	return any;
}

/* What came while there was nobody to take it is old: it waits in the client's queue, and in the ring. */
static int uplink_open(struct vmbus_port_queue *queue)
{
	struct uplink *const u = queue->ctx;
	uint32_t turn;
	bool any = true;

	for (turn = 0; turn < OLD_TURNS && any; turn++) {
		any = throw_away(u);
		any |= dispatch(u) > 0;
	}
	u->kept_at = u->burst.frames = 0;
	u->tx_waits = false;
	queue->fd = u->fd;
	tell_changed(u);
	return 0;
}

/* The frames that the guest did not take are those of somebody who has gone. */
static void uplink_close(struct vmbus_port_queue *queue)
{
	struct uplink *const u = queue->ctx;

	if (u->kept_at < u->burst.frames && !u->is_gone) {
		count(u, &u->received_dropped, u->burst.frames - u->kept_at);
		(void)vmbus_netvsc_release(&u->netvsc, 0, &u->burst);
	}
	u->kept_at = u->burst.frames = 0;
}

static uint32_t uplink_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n)
{
	struct uplink *const u = queue->ctx;
	bool looked = false;
	uint32_t done = 0;
	int sent;

	while (done < n) {
		sent = u->is_gone ? VMBUS_E_STATE
				  : vmbus_netvsc_send(&u->netvsc, 0, frame + done, n - done);
		if (sent == VMBUS_E_FULL && !looked) {
			/* ready() is not called while the guest has no room to receive.  What comes with
			   that is handed on: the descriptor is not readable for it any more. */
			looked = true;
			(void)dispatch(u);
			bring(u, queue);
			tell_changed(u);
			continue;
		}
		if (sent == VMBUS_E_FULL) {
			u->tx_waits = true;
			return done;
		}
		if (sent == VMBUS_E_RANGE || sent == VMBUS_E_INVAL) { /* this one, not the next */
			count(u, &u->sent_dropped, 1);
			sent = 1;
		} else if (sent < 0) {
			count(u, &u->sent_dropped, n - done);
			return n;
		}
		done += (uint32_t)sent;
	}
	return n;
}

/* Copy the head; the rest stays where it is.  Returns the pieces used. */
static uint32_t privatise(struct vmbus_frame *frame, uint8_t *head, struct vmbus_iov *to)
{
	const struct vmbus_iov *from = frame->piece;
	const struct vmbus_iov *const end = from + frame->pieces;
	const uint32_t want = frame->bytes < VMBUS_FRAME_HEAD ? frame->bytes : VMBUS_FRAME_HEAD;
	uint32_t have = 0, pieces = 1;

	while (have < want && from < end) {
		const size_t left = want - have;
		const size_t part = from->len < left ? from->len : left;

		memcpy(head + have, from->base, part);
		have += (uint32_t)part;
		if (part < from->len) {
			to[pieces].base = (uint8_t *)from->base + part;
			to[pieces++].len = from->len - part;
		}
		from++;
	}
	to[0].base = head;
	to[0].len = have;
	while (from < end)
		to[pieces++] = *from++;
	frame->piece = to;
	frame->pieces = pieces;
	return pieces;
}

static void take_burst(struct uplink *u)
{
	uint32_t i, at = 0;

	for (i = 0; i < u->burst.frames; i++) {
		u->frame[i] = u->burst.frame[i];
		at += privatise(&u->frame[i], u->head[i], &u->piece[at]);
	}
	u->kept_at = 0;
}

/* What the guest does not take waits for the next turn.  False: it has no room. */
static bool give(struct uplink *u, struct vmbus_port_queue *queue)
{
	const uint32_t left = u->burst.frames - u->kept_at;

	if (left)
		u->kept_at += vmbus_port_deliver(queue, u->frame + u->kept_at, left);
	if (u->kept_at < u->burst.frames)
		return false;
	if (left)
		(void)vmbus_netvsc_release(&u->netvsc, 0, &u->burst);
	u->kept_at = u->burst.frames = 0;
	return true;
}

/*
 * The end.  The attachment's descriptor would be readable for ever: it is closed, and a silent one takes
 * the place of the number that the NIC watches.
 */
static void forget(struct uplink *u)
{
	const int silent = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct vmbus_netvsc_stats stats = { 0 };

	u->is_gone = true;
	(void)vmbus_netvsc_stats(&u->netvsc, 0, &stats);
	count(u, &u->received_dropped, u->burst.frames - u->kept_at + stats.waiting);
	u->kept_at = u->burst.frames = 0; /* its memory goes */
	/* A parent that is there, and has taken its NIC, would be waited for to let the guest go: this is a
	   thread that has other NICs. */
	vmbus_guest_parent_gone(vmbus_shm_guest(u->attach));
	vmbus_shm_detach(u->attach);
	u->attach = NULL;
	if (silent >= 0) {
		(void)dup3(silent, u->fd, O_CLOEXEC);
		(void)close(silent);
	}
	set_link(u, false);
}

/* The client's queue is bounded: what it loses while the guest takes nothing is lost here. */
static void count_dropped(struct uplink *u)
{
	struct vmbus_netvsc_stats stats;

	if (vmbus_netvsc_stats(&u->netvsc, 0, &stats) || stats.dropped == u->client_dropped)
		return;
	count(u, &u->received_dropped, stats.dropped - u->client_dropped);
	u->client_dropped = stats.dropped;
}

/* How much there was, 0 for nothing. */
static int dispatch(struct uplink *u)
{
	int done;

	if (!u->attach)
		return 0;
	done = vmbus_shm_attach_dispatch(u->attach, BUDGET);
	count_dropped(u);
	if (u->is_gone || vmbus_guest_state(vmbus_shm_guest(u->attach)) == VMBUS_GUEST_GONE)
		forget(u);
	return done > 0 ? done : 0;
}

static void tell_changed(struct uplink *u)
{
	if (!u->changed)
		return;
	u->changed = false;
	if (u->opts.changed)
		u->opts.changed(u->opts.ctx);
}

/* What the dispatch has brought, no more. */
static void bring(struct uplink *u, struct vmbus_port_queue *queue)
{
	while (!u->is_gone && give(u, queue)) {
		if (vmbus_netvsc_receive(&u->netvsc, 0, &u->burst, BURST) <= 0)
			break;
		take_burst(u);
	}
}

/* What has come since a send() that found no room may be room: it is left to the next one, or the
   descriptor would not be readable for it. */
static void uplink_ready(struct vmbus_port_queue *queue)
{
	struct uplink *const u = queue->ctx;

	if (!u->tx_waits)
		(void)dispatch(u);
	u->tx_waits = false;
	bring(u, queue);
	tell_changed(u);
}

static void uplink_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	struct uplink *const u = ctx;

	pthread_mutex_lock(&u->lock);
	*sent = u->sent_dropped;
	*received = u->received_dropped;
	pthread_mutex_unlock(&u->lock);
}

static void uplink_destroy(void *ctx)
{
	struct uplink *const u = ctx;

	u->is_gone = true;
	vmbus_shm_detach(u->attach);
	if (u->fd >= 0)
		(void)close(u->fd);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static const struct vmbus_port_ops uplink_ops = {
	.struct_bytes = sizeof(uplink_ops),
	.name = "uplink",
	.info = uplink_info,
	.open = uplink_open,
	.close = uplink_close,
	.send = uplink_send,
	.ready = uplink_ready,
	.destroy = uplink_destroy,
	.dropped = uplink_dropped,
};

/* ---- its making ---- */

static int attach(struct uplink *u, uint32_t buffer_bytes)
{
	char why[160] = "";
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts),
					      .path = u->opts.path,
					      .name = u->opts.name,
					      .memory_bytes = 2 * (uint64_t)buffer_bytes +
							      2 * RING_BYTES + MORE_BYTES,
					      .timeout_ns = u->opts.timeout_ns,
					      .why = why,
					      .why_bytes = sizeof(why) };
	int err;

	opts.guest.struct_bytes = sizeof(opts.guest);
	opts.guest.log = guest_log;
	opts.guest.ctx = u;
	err = vmbus_shm_attach(&opts, &u->attach);
	if (err)
		return wrong(&u->opts, err, "%s (%s)", why[0] ? why : "cannot attach",
			     vmbus_err_name(err));
	err = vmbus_guest_connect(vmbus_shm_guest(u->attach));
	if (!err)
		err = vmbus_guest_wait(vmbus_shm_guest(u->attach), VMBUS_GUEST_CONNECTED,
				       u->opts.timeout_ns);
	return err ? wrong(&u->opts, err, "cannot connect: %s", vmbus_err_name(err)) : 0;
}

static int start(struct uplink *u, uint32_t buffer_bytes)
{
	const struct vmbus_guid class_id = VMBUS_NET_CLASS;
	struct vmbus_vsc *const vsc =
		vmbus_vsc_find(vmbus_shm_guest(u->attach), &class_id, u->opts.nic);
	/* No merged frames: how they are to be cut is not on this wire, and what the guest's MTU is
	   the parent does not know; it cuts them as the sender meant. */
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts),
					  .chan = &u->chan,
					  .mtu = VMBUS_NET_MTU_MAX,
					  .filter = FILTER,
					  .receive_bytes = buffer_bytes,
					  .send_bytes = buffer_bytes,
					  .ready = on_ready,
					  .link = on_link,
					  .closed = on_closed,
					  .ctx = u };
	int err;

	if (!vsc)
		return wrong(&u->opts, VMBUS_E_RANGE,
			     "no network interface number %u is offered there", u->opts.nic);
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = RING_BYTES;
	err = vmbus_netvsc_start(&u->netvsc, vsc, &opts);
	return err ? wrong(&u->opts, err, "its network interface cannot be opened: %s",
			   vmbus_err_name(err))
		   : 0;
}

static int wait_ready(struct uplink *u)
{
	const uint64_t begin = now_ns();
	int err = 0;

	while (!err && !u->is_ready) {
		err = vmbus_shm_attach_wait(u->attach, TURN_NS);
		err = err == VMBUS_E_AGAIN || err > 0 ? 0 : err;
		if (!err && !u->is_ready && now_ns() - begin >= u->opts.timeout_ns)
			err = VMBUS_E_AGAIN;
	}
	if (!err)
		err = u->ready_err;
	if (err == VMBUS_E_PEER && vmbus_shm_attach_why(u->attach)[0])
		return wrong(&u->opts, err, "%s", vmbus_shm_attach_why(u->attach));
	return err ? wrong(&u->opts, err, "its network interface cannot be used: %s",
			   vmbus_err_name(err))
		   : 0;
}

static int set_up(struct uplink *u)
{
	const uint32_t buffer_bytes = u->opts.buffer_bytes ? u->opts.buffer_bytes : BUFFER_BYTES;
	int err = attach(u, buffer_bytes);

	if (!err)
		err = start(u, buffer_bytes);
	if (!err)
		err = wait_ready(u);
	u->changed = false;
	if (err)
		return err;
	u->fd = fcntl(vmbus_shm_attach_fd(u->attach), F_DUPFD_CLOEXEC, 0);
	return u->fd < 0 ? wrong(&u->opts, VMBUS_E_SYSTEM, "a descriptor: %s", strerror(errno)) : 0;
}

int vmbus_port_uplink(const struct vmbus_port_uplink_opts *opts, struct vmbus_port *port)
{
	struct uplink *u;
	int err;

	if (!opts || opts->struct_bytes < sizeof(*opts) || !opts->path || !port)
		return VMBUS_E_INVAL;
	if (opts->buffer_bytes &&
	    (opts->buffer_bytes < BUFFER_MIN || opts->buffer_bytes > BUFFER_MAX))
		return wrong(opts, VMBUS_E_RANGE, "buffer_bytes: 256 KiB to 15 MiB");
	u = calloc(1, sizeof(*u));
	if (!u)
		return VMBUS_E_NOMEM;
	u->opts = *opts;
	u->fd = -1;
	u->opts.timeout_ns = opts->timeout_ns ? opts->timeout_ns : TIMEOUT_NS;
	(void)pthread_mutex_init(&u->lock, NULL);
	err = set_up(u);
	u->opts.path = u->opts.name = NULL; /* what was borrowed is not kept */
	u->opts.why = NULL;
	if (err) {
		uplink_destroy(u);
		return err;
	}
	port->ops = &uplink_ops;
	port->ctx = u;
	return 0;
}

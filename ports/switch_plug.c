/* SPDX-License-Identifier: MIT */
/*
 * Ports plugged into a switch, which then is to them what a NIC is: it opens their first queue, takes
 * what they receive, and sends what waits in their inbox, with what they cannot do done in software.
 *
 * All of it runs in vmbus_switch_dispatch(), with the turn; one port that does not take its frames
 * loses them in its inbox, and holds up nobody.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lazy/lazy.h"
#include "switch/switch.h"

#define ROOMS 32u
#define ROOM_BYTES 65600u /* VMBUS_FRAME_BYTES_MAX in whole lines */
#define BUDGET_DEFAULT 256u
#define EVENTS 64
#define PASS_FRAMES 64u
#define PASS_BYTES (64u << 10)
#define AROUND 18u	   /* bytes of a frame beside its IP packet, with a tag */
#define SEGMENTS_MAX 1024u /* of a large frame */
#define OFFLOADS (VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN)
#define TSO (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)

_Static_assert(ROOM_BYTES >= VMBUS_FRAME_BYTES_MAX, "a room takes the largest frame");

struct vmbus__switch_plug {
	struct vmbus__switch_port *slot;
	struct vmbus_port port;
	struct vmbus_port_queue queue;
	uint32_t can, bytes_max, tso_max;
	uint64_t sent_before, received_before; /* dropped by the port before it was plugged in */
	uint32_t left;			/* of the budget of this turn, while the port delivers */
	uint32_t new_frames, new_bytes; /* delivered since they were passed on last */
	/* The frame at the inbox's head, made ready: what of it the port has not taken. */
	bool at_work, cutting;
	uint32_t segments; /* sent in this turn: they count, too */
	struct vmbus_frame frame;
	struct vmbus_frame_tagged tagged;
	struct vmbus_frame_cut cut;
	struct vmbus_frame segment; /* cutting: the next one */
	struct vmbus_port_room room[ROOMS];
	struct vmbus_span span[ROOMS];
	uint8_t *buffer;
};

/* ---- from the port ---- */

static uint32_t to_port(struct vmbus__switch_plug *plug, uint32_t budget);

/*
 * A port may deliver more in one turn than another one's inbox holds: what came goes on to the other
 * plugged ports before it is that much.  One of them may deliver meanwhile, and then waits for its turn.
 */
static void pass_on(struct vmbus__switch_plug *from)
{
	struct vmbus_switch *const sw = from->slot->sw;
	uint32_t i;

	if (from->new_frames < PASS_FRAMES && from->new_bytes < PASS_BYTES)
		return;
	from->new_frames = from->new_bytes = 0;
	if (sw->passing)
		return;
	sw->passing = true;
	for (i = 0; i < sw->opts.ports; i++)
		if (sw->port[i].plug && sw->port[i].plug != from)
			sw->passed += to_port(sw->port[i].plug, BUDGET_DEFAULT);
	sw->passing = false;
}

static uint32_t deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame, uint32_t n)
{
	struct vmbus__switch_plug *const plug = queue->up_p;
	uint32_t done, some;

	for (done = 0; done < n; done += some) {
		for (some = 0; some < VMBUS_PORT_BURST && done + some < n; some++) {
			if (some && plug->new_bytes >= PASS_BYTES)
				break;
			plug->new_bytes += frame[done + some].bytes;
		}
		plug->new_frames += some;
		vmbus__switch_send(plug->slot, frame + done, some);
		pass_on(plug);
	}
	plug->left = plug->left > n ? plug->left - n : 0;
	return n;
}

/* One with more bytes than its room has is a mistake of the port's: a frame of none, which is bad. */
static void room_frame(const struct vmbus_port_room *room, struct vmbus_iov *piece,
		       struct vmbus_frame *frame)
{
	const uint32_t bytes = room->bytes <= ROOM_BYTES ? room->bytes : 0;

	*piece = (struct vmbus_iov){ room->span->base, bytes };
	*frame = (struct vmbus_frame){
		.piece = piece,
		.pieces = 1,
		.bytes = bytes,
		.flags = room->flags,
		.csum_start = room->csum_start,
		.csum_offset = room->csum_offset,
		.header_bytes = room->header_bytes,
		.mss = room->mss,
		.vlan = room->vlan,
		.hash = room->hash,
	};
}

/* A port whose rooms are filled: how many frames came; up to the budget. */
static uint32_t receive(struct vmbus__switch_plug *plug)
{
	struct vmbus_frame frame[ROOMS];
	struct vmbus_iov piece[ROOMS];
	uint32_t sum = 0, n, i;

	do {
		for (i = 0; i < ROOMS; i++) {
			memset(&plug->room[i], 0, sizeof(plug->room[i]));
			plug->span[i] = (struct vmbus_span){ plug->buffer + (size_t)i * ROOM_BYTES,
							     ROOM_BYTES };
			plug->room[i].span = &plug->span[i];
			plug->room[i].spans = 1;
			plug->room[i].room = ROOM_BYTES;
		}
		n = plug->port.ops->receive(&plug->queue, plug->room, ROOMS);
		n = n < ROOMS ? n : ROOMS;
		for (i = 0; i < n; i++)
			room_frame(&plug->room[i], &piece[i], &frame[i]);
		if (n)
			(void)deliver(&plug->queue, frame, n);
		sum += n;
	} while (n == ROOMS && plug->left);
	return sum;
}

static uint32_t from_port(struct vmbus__switch_plug *plug, uint32_t budget)
{
	plug->left = budget;
	if (plug->port.ops->receive)
		return receive(plug);
	if (plug->port.ops->ready)
		plug->port.ops->ready(&plug->queue);
	return budget - plug->left;
}

/* ---- to the port ---- */

static void count_refused(struct vmbus__switch_plug *plug)
{
	vmbus__switch_count(&plug->slot->refused, 1);
}

/* Whether the port cuts a frame with TSO itself. */
static bool cuts(const struct vmbus__switch_plug *plug, const struct vmbus_frame *frame)
{
	return (frame->flags & TSO & ~plug->can) == 0 && frame->bytes <= plug->tso_max;
}

/* Whether the port takes a frame as it is. */
static bool is_plain(const struct vmbus__switch_plug *plug, const struct vmbus_frame *frame)
{
	const uint32_t due = frame->flags & (OFFLOADS | VMBUS_FRAME_IP_CSUM);

	/* CSUM is part of TSO, and IP_CSUM is allowed with TSO4 alone. */
	return (due & ~plug->can) == 0 &&
	       (frame->flags & TSO ? cuts(plug, frame) : frame->bytes <= plug->bytes_max);
}

/* Do what the port cannot.  False: it cannot be done, and the frame is dropped. */
static bool make_ready(struct vmbus__switch_plug *plug, const struct vmbus_frame *from)
{
	struct vmbus_frame *const frame = &plug->frame;

	*frame = *from;
	plug->cutting = false;
	if ((frame->flags & VMBUS_FRAME_VLAN) && !(plug->can & VMBUS_FRAME_VLAN) &&
	    vmbus_frame_tag(&plug->tagged, from, frame))
		return false;
	if (frame->flags & TSO) {
		if (cuts(plug, frame))
			return true;
		plug->cutting = true;
		return vmbus_frame_cut(&plug->cut, frame) == 0 &&
		       frame->bytes - frame->header_bytes <= frame->mss * SEGMENTS_MAX &&
		       vmbus_frame_cut_next(&plug->cut, &plug->segment) == 1 &&
		       plug->segment.bytes <= plug->bytes_max;
	}
	/* The first piece lies in memory of ours: the inbox, or the tagged copy. */
	if ((frame->flags & (VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM) & ~plug->can) &&
	    vmbus_frame_checksum(frame, (void *)(uintptr_t)frame->piece[0].base))
		return false;
	return frame->bytes <= plug->bytes_max;
}

/* Send the frame that is at work, or its segments.  False: the port takes no more now. */
static bool go_on(struct vmbus__switch_plug *plug)
{
	const struct vmbus_port_ops *const ops = plug->port.ops;

	if (!plug->cutting)
		return ops->send(&plug->queue, &plug->frame, 1) == 1;
	do {
		if (ops->send(&plug->queue, &plug->segment, 1) != 1)
			return false;
		plug->segments++;
	} while (vmbus_frame_cut_next(&plug->cut, &plug->segment) == 1);
	return true;
}

/* One frame that the port cannot take as it is.  False: it takes no more now. */
static bool send_one(struct vmbus__switch_plug *plug, const struct vmbus_frame *frame)
{
	if (!plug->at_work && !make_ready(plug, frame)) {
		count_refused(plug);
		vmbus__switch_done(plug->slot, frame, 1);
		return true;
	}
	plug->at_work = !go_on(plug);
	if (plug->at_work)
		return false;
	vmbus__switch_done(plug->slot, frame, 1);
	return true;
}

static uint32_t plain_run(const struct vmbus__switch_plug *plug, const struct vmbus_frame *frame,
			  uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n && is_plain(plug, &frame[i]); i++)
		;
	return i;
}

/* n frames that the port did not take, and no descriptor will tell when it does. */
static void lose(struct vmbus__switch_plug *plug, const struct vmbus_frame *frame, uint32_t n)
{
	plug->at_work = false;
	vmbus__switch_count(&plug->slot->refused, n);
	vmbus__switch_done(plug->slot, frame, n);
}

/* What waits for the port; how many frames it took, or lost. */
static uint32_t to_port(struct vmbus__switch_plug *plug, uint32_t budget)
{
	const struct vmbus_frame *frame;
	uint32_t sum = 0, n, run, taken;

	plug->segments = 0;
	while ((n = vmbus__switch_peek(plug->slot, &frame)) != 0) {
		if (sum + plug->segments >= budget) {
			vmbus__inbox_ring(plug->slot->inbox);
			return sum;
		}
		run = plain_run(plug, frame, n); /* none of what is at work */
		taken = run ? plug->port.ops->send(&plug->queue, frame, run) : 0;
		if (run)
			vmbus__switch_done(plug->slot, frame, taken);
		else if (send_one(plug, frame))
			taken = run = 1;
		sum += taken;
		if (run && taken >= run)
			continue;
		if (plug->queue.fd >= 0)
			return sum; /* until it is readable */
		n = run ? run - taken : 1;
		lose(plug, frame + taken, n);
		sum += n;
	}
	return sum;
}

/* ---- plug, unplug, turn ---- */

static int watch(struct vmbus_switch *sw, int fd, uint32_t number, bool inbox)
{
	struct epoll_event event = { .events = EPOLLIN };

	event.data.u32 = number * 2 + inbox;
	if (fd < 0)
		return 0;
	return epoll_ctl(sw->epoll, EPOLL_CTL_ADD, fd, &event) ? VMBUS_E_SYSTEM : 0;
}

static void unwatch(struct vmbus_switch *sw, int fd)
{
	if (fd >= 0)
		(void)epoll_ctl(sw->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static uint64_t since(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

void vmbus__switch_plug_dropped(const struct vmbus__switch_plug *plug, uint64_t *sent,
				uint64_t *received)
{
	const struct vmbus_port *const port = &plug->port;

	*sent = *received = 0;
	if (!port->ops->dropped)
		return;
	port->ops->dropped(port->ctx, sent, received);
	*sent = since(*sent, plug->sent_before);
	*received = since(*received, plug->received_before);
}

static void free_plug(struct vmbus__switch_plug *plug)
{
	if (plug)
		vmbus__lazy_put(plug->buffer, (size_t)ROOMS * ROOM_BYTES);
	free(plug);
}

/*
 * With the turn.  The port's functions are called without the lock: it may be one of another switch, that
 * has a port of this one plugged in.
 */
static void pull(struct vmbus__switch_plug *plug)
{
	struct vmbus__switch_port *const slot = plug->slot;
	struct vmbus_port_config config = { .running = false };

	(void)pthread_mutex_lock(&slot->sw->lock);
	vmbus__switch_end(slot);
	(void)pthread_mutex_unlock(&slot->sw->lock);
	unwatch(slot->sw, plug->queue.fd);
	unwatch(slot->sw, vmbus__inbox_fd(slot->inbox));
	if (plug->port.ops->configure)
		plug->port.ops->configure(plug->port.ctx, &config);
	if (plug->port.ops->close)
		plug->port.ops->close(&plug->queue);
	(void)pthread_mutex_lock(&slot->sw->lock);
	slot->plug = NULL;
	slot->used = false;
	(void)pthread_mutex_unlock(&slot->sw->lock);
	free_plug(plug);
}

void vmbus__switch_unplug_all(struct vmbus_switch *sw)
{
	uint32_t i;

	for (i = 0; i < sw->opts.ports; i++)
		if (sw->port[i].plug)
			pull(sw->port[i].plug);
}

static int open_port(struct vmbus__switch_plug *plug)
{
	const struct vmbus_port_ops *const ops = plug->port.ops;
	struct vmbus_port_config config = {
		.takes = OFFLOADS,
		.queues = 1,
		.running = true,
		.promiscuous = true,
		.all_multicast = true,
	};
	struct vmbus_port_info info = { 0 };
	int err = ops->info(plug->port.ctx, &info);

	if (err)
		return err;
	plug->can = info.can & OFFLOADS;
	if (info.can & VMBUS_FRAME_TSO4)
		plug->can |= VMBUS_FRAME_IP_CSUM;
	plug->bytes_max = VMBUS_FRAME_BYTES_MAX;
	if (info.mtu_max && info.mtu_max < VMBUS_FRAME_BYTES_MAX - AROUND)
		plug->bytes_max = info.mtu_max + AROUND;
	plug->tso_max = info.tso_max ? info.tso_max : UINT32_MAX;
	config.mtu = plug->bytes_max - AROUND;
	plug->queue = (struct vmbus_port_queue){
		.ctx = plug->port.ctx,
		.fd = -1,
		.up_p = plug,
		.deliver_p = deliver,
	};
	err = ops->open ? ops->open(&plug->queue) : 0;
	if (!err && ops->dropped) /* what waited in it is not this plug's */
		ops->dropped(plug->port.ctx, &plug->sent_before, &plug->received_before);
	if (!err && ops->configure)
		ops->configure(plug->port.ctx, &config);
	return err;
}

/* With the turn.  On error nothing was kept. */
static int put_in(struct vmbus__switch_plug *plug)
{
	struct vmbus__switch_port *const slot = plug->slot;
	int err = open_port(plug);

	if (err)
		return err;
	err = watch(slot->sw, vmbus__inbox_fd(slot->inbox), slot->number, true);
	if (!err) {
		err = watch(slot->sw, plug->queue.fd, slot->number, false);
		if (err)
			unwatch(slot->sw, vmbus__inbox_fd(slot->inbox));
	}
	if (err) {
		if (plug->port.ops->close)
			plug->port.ops->close(&plug->queue);
		return err;
	}
	(void)pthread_mutex_lock(&slot->sw->lock);
	slot->plug = plug;
	vmbus__switch_begin(slot);
	(void)pthread_mutex_unlock(&slot->sw->lock);
	return 0;
}

/* With the turn.  A port without a context has no state that two plugs could share. */
static bool is_plugged(const struct vmbus_switch *sw, const struct vmbus_port *port)
{
	uint32_t i;

	for (i = 0; port->ctx && i < sw->opts.ports; i++) {
		const struct vmbus__switch_plug *const plug = sw->port[i].plug;

		if (plug && plug->port.ctx == port->ctx && plug->port.ops == port->ops)
			return true;
	}
	return false;
}

/* With the turn: a slot, and the port in it. */
static int take_in(struct vmbus_switch *sw, const char *name, struct vmbus__switch_plug *plug)
{
	int err;

	(void)pthread_mutex_lock(&sw->lock);
	err = vmbus__switch_slot(sw, name, &plug->slot);
	(void)pthread_mutex_unlock(&sw->lock);
	if (err)
		return err;
	err = is_plugged(sw, &plug->port) ? VMBUS_E_STATE : put_in(plug);
	if (!err)
		return 0;
	(void)pthread_mutex_lock(&sw->lock);
	plug->slot->used = false;
	(void)pthread_mutex_unlock(&sw->lock);
	return err;
}

int vmbus_switch_plug(struct vmbus_switch *sw, const char *name, const struct vmbus_port *port,
		      uint32_t *number)
{
	struct vmbus__switch_plug *plug;
	int err;

	if (!port->ops || port->ops->struct_bytes < sizeof(*port->ops) || !port->ops->info ||
	    !port->ops->send || vmbus__switch_is_own(sw, port))
		return VMBUS_E_INVAL;
	plug = calloc(1, sizeof(*plug));
	if (plug)
		plug->buffer = vmbus__lazy_get((size_t)ROOMS * ROOM_BYTES);
	if (!plug || !plug->buffer) {
		free_plug(plug);
		return VMBUS_E_NOMEM;
	}
	plug->port = *port;
	(void)pthread_mutex_lock(&sw->turn);
	err = take_in(sw, name, plug);
	if (!err && number)
		*number = plug->slot->number;
	(void)pthread_mutex_unlock(&sw->turn);
	if (err)
		free_plug(plug);
	return err;
}

int vmbus_switch_unplug(struct vmbus_switch *sw, uint32_t number)
{
	int err = VMBUS_E_RANGE;

	(void)pthread_mutex_lock(&sw->turn);
	if (number < sw->opts.ports && sw->port[number].plug) {
		pull(sw->port[number].plug);
		err = 0;
	}
	(void)pthread_mutex_unlock(&sw->turn);
	return err;
}

int vmbus_switch_dispatch(struct vmbus_switch *sw, uint32_t budget)
{
	struct epoll_event event[EVENTS];
	struct vmbus__switch_plug *plug;
	uint32_t moved = 0;
	int i, n, err = 0;

	budget = budget ? budget : BUDGET_DEFAULT;
	(void)pthread_mutex_lock(&sw->turn);
	do {
		n = epoll_wait(sw->epoll, event, EVENTS, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		err = VMBUS_E_SYSTEM;
	for (i = 0; i < n; i++) {
		plug = sw->port[event[i].data.u32 / 2].plug;
		/* A port may have put another file at its descriptor's number: an epoll set knows the
		   old one still, if it is open elsewhere, and tells of it when the port is pulled. */
		if (VMBUS_UNLIKELY(!plug))
			continue;
		if (!(event[i].data.u32 & 1u))
			moved += from_port(plug, budget);
		/* Its descriptor may also mean that there is room. */
		moved += to_port(plug, budget);
	}
	moved += sw->passed;
	sw->passed = 0;
	(void)pthread_mutex_unlock(&sw->turn);
	return err ? err : (int)(moved < INT32_MAX ? moved : INT32_MAX);
}

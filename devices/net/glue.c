/* SPDX-License-Identifier: MIT */
/*
 * A channel and its queue of the port: which one it has, when its descriptor is looked after, and what
 * the port is told of the guest.
 *
 * Channel k has queue k when the port has so many.  One that has none gives its frames to the primary
 * channel's thread.
 */
#include "net/vsp.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define RETRY_NS 1000000 /* see vmbus__net_queue_hear() */
#define ALL_MULTICAST 0x6u
#define PROMISCUOUS 0x20u

/* ---- open and close ---- */

/* What the port told last. */
void vmbus__net_queue_takes(struct vmbus__net_chan *ch)
{
	const struct vmbus_port_info *const info = &ch->net->info;

	ch->takes = info->can;
	ch->tso_max = info->tso_max ? info->tso_max : UINT32_MAX;
}

static const char *port_name(const struct vmbus_net *net)
{
	const char *const name = net->opts.port.ops->name;

	return name ? name : "?";
}

static bool claim(struct vmbus__net_chan *ch)
{
	struct vmbus_net *const net = ch->net;
	const uint64_t bit = 1ull << ch->number;
	bool mine;

	pthread_mutex_lock(&net->lock);
	vmbus__net_queue_takes(ch);
	ch->single_queue = net->info.queues <= 1u;
	/* A channel of the guest before may have it still. */
	mine = ch->number < net->info.queues && !(net->queues & bit);
	if (mine)
		net->queues |= bit;
	pthread_mutex_unlock(&net->lock);
	return mine;
}

static void unclaim(struct vmbus__net_chan *ch)
{
	pthread_mutex_lock(&ch->net->lock);
	ch->net->queues &= ~(1ull << ch->number);
	pthread_mutex_unlock(&ch->net->lock);
}

int vmbus__net_queue_open(struct vmbus__net_chan *ch)
{
	const struct vmbus_port *const port = &ch->net->opts.port;
	int err = 0;

	if (!claim(ch))
		return vmbus__net_is_primary(ch) ? VMBUS_E_STATE : 0;
	ch->queue = (struct vmbus_port_queue){ .ctx = port->ctx,
					       .number = ch->number,
					       .fd = -1,
					       .up_p = ch,
					       .deliver_p = vmbus__net_deliver };
	if (port->ops->open)
		err = port->ops->open(&ch->queue);
	if (err) {
		unclaim(ch);
		vmbus__net_log(ch->net, "port %s: queue %u cannot be opened: %s",
			       port_name(ch->net), ch->number, vmbus_err_name(err));
		return vmbus__net_is_primary(ch) ? err : 0;
	}
	ch->has_queue = true;
	return 0;
}

void vmbus__net_queue_close(struct vmbus__net_chan *ch)
{
	const struct vmbus_port_ops *const ops = ch->net->opts.port.ops;

	if (!ch->has_queue)
		return;
	if (ch->queue_heard && ch->queue.fd >= 0)
		(void)epoll_ctl(ch->epoll_fd, EPOLL_CTL_DEL, ch->queue.fd, NULL);
	ch->queue_heard = false;
	if (ops->close)
		ops->close(&ch->queue);
	ch->has_queue = false;
	unclaim(ch);
}

/* ---- descriptors ---- */

/* One that wakes the channel, or -1: without the epoll nobody would ever hear it. */
static int make_timer(const struct vmbus__net_chan *ch)
{
	struct epoll_event event = { .events = EPOLLIN };
	const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd < 0 || epoll_ctl(ch->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static void set_retry(struct vmbus__net_chan *ch, bool on)
{
	const struct itimerspec times = { .it_value = { .tv_nsec = on ? RETRY_NS : 0 },
					  .it_interval = { .tv_nsec = on ? RETRY_NS : 0 } };

	if (on == ch->retry_set)
		return;
	if (ch->retry_fd < 0)
		ch->retry_fd = make_timer(ch);
	if (ch->retry_fd >= 0 && timerfd_settime(ch->retry_fd, 0, &times, NULL) == 0)
		ch->retry_set = on;
}

static void tell_deaf(struct vmbus__net_chan *ch, const char *what, const char *why)
{
	if (ch->deaf_told)
		return;
	ch->deaf_told = true;
	vmbus__net_log(ch->net, "port %s: queue %u %s%s: it is asked every millisecond",
		       port_name(ch->net), ch->number, what, why);
}

/*
 * Look after the port's descriptor while something can be done about it: frames can be received.  It is
 * readable for them, too, while we only wait for room to send; then we ask again after a while instead
 * of spinning.  The same for a port that has no room, and no descriptor to tell that it has again; and for
 * a descriptor that no set takes, as one that is a set itself when ours is in too many others.
 */
void vmbus__net_queue_hear(struct vmbus__net_chan *ch)
{
	struct epoll_event event = { .events = EPOLLIN };
	bool hear, waits, refused;

	if (!ch->has_queue)
		return;
	hear = vmbus__net_rx_is_open(ch) && !vmbus__net_rx_starves(ch);
	waits = vmbus__net_tx_waits(ch) || vmbus__net_rx_inbox_waits(ch);
	if (VMBUS_UNLIKELY(waits && ch->queue.fd < 0))
		tell_deaf(ch, "has no room, and no descriptor to tell when it has", "");
	if (hear != ch->queue_heard && ch->queue.fd >= 0 &&
	    epoll_ctl(ch->epoll_fd, hear ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, ch->queue.fd, &event) ==
		    0)
		ch->queue_heard = hear;
	refused = hear && !ch->queue_heard && ch->queue.fd >= 0;
	if (VMBUS_UNLIKELY(refused))
		tell_deaf(ch, "has a descriptor that cannot be waited for: ", strerror(errno));
	set_retry(ch, refused || (waits && (!hear || ch->queue.fd < 0)));
}

void vmbus__net_timer(struct vmbus__net_chan *ch, uint32_t ms)
{
	const struct itimerspec times = { .it_value = { .tv_sec = ms / 1000u,
							.tv_nsec = ms % 1000u * 1000000u } };

	if (ms == 0 && !ch->timer_set)
		return;
	if (ch->timer_fd < 0)
		ch->timer_fd = make_timer(ch);
	if (ch->timer_fd < 0) {
		vmbus__net_log(ch->net, "no timer: the link is told late");
		return;
	}
	ch->timer_set = timerfd_settime(ch->timer_fd, 0, &times, NULL) == 0 && ms;
}

/* ---- what the port is told ---- */

/* On the thread of the primary channel: from the shape. */
void vmbus__net_configure(struct vmbus__net_chan *ch)
{
	const struct vmbus__net_shape *const shape = &ch->shape;
	const struct vmbus_port *const port = &ch->net->opts.port;
	struct vmbus_port_config config = { .mtu = shape->mtu,
					    .running = shape->running && shape->filter,
					    .promiscuous = shape->filter & PROMISCUOUS,
					    .all_multicast = (shape->filter & ALL_MULTICAST) != 0 };

	if (!port->ops->configure)
		return;
	if (shape->rsc4)
		config.takes |= VMBUS_FRAME_TSO4;
	if (shape->rsc6)
		config.takes |= VMBUS_FRAME_TSO6;
	/* A sum that is due is made before delivery, since a guest may look at it without telling us; but
	   in large frames, which nobody can sum up again. */
	if (config.takes)
		config.takes |= VMBUS_FRAME_CSUM;
	if (shape->rx & VMBUS_FRAME_VLAN)
		config.takes |= VMBUS_FRAME_VLAN;
	pthread_mutex_lock(&ch->net->lock);
	config.queues = 64u - (ch->net->queues ? (uint32_t)__builtin_clzll(ch->net->queues) : 64u);
	pthread_mutex_unlock(&ch->net->lock);
	memcpy(config.mac, shape->mac, sizeof(config.mac));
	if (ch->told && !memcmp(&config, &ch->config, sizeof(config)))
		return;
	ch->told = true;
	ch->config = config;
	port->ops->configure(port->ctx, &config);
}

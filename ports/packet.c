/* SPDX-License-Identifier: MIT */
/*
 * The packet port: a packet socket on an interface, with the virtio-net header before each frame.
 *
 * The kernel gives what the interface gives: frames merged into large ones, tags beside them, whatever
 * the guest takes.  So frames are read into memory of this port, many in one call, and delivered, and
 * the NIC above cuts and sums where it has to.  Sending waits for room in the socket: the queue's
 * descriptor is an epoll set, which is readable when there is a frame, or room that was waited for.
 */
#include "vnet/vnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmbus/port_packet.h>

#define FLAGS                                                                                      \
	(VMBUS_PORT_PACKET_NO_PROMISC | VMBUS_PORT_PACKET_NO_OFFLOAD | VMBUS_PORT_PACKET_NO_QUEUE)
#define BUFFER_DEFAULT (4u << 20)
#define BUFFER_MIN 65536u
#define BUFFER_MAX (64u << 20)
#define BATCH 32u	  /* frames of a system call */
#define SLOT 66048u	  /* bytes of memory for a frame: the longest, and SLOT_HEAD */
#define SLOT_HEAD 64u	  /* before it: a tag may be put in */
#define MESSAGE_BYTES 64u /* of what the kernel says beside a frame */
#define BATCHES 4u	  /* of a ready() */
#define OLD_BATCHES 4096u /* thrown away when a guest begins: more than the socket keeps */
#define TELLS 8u	  /* of room, to one that does not send what it had none for */

/* A frame that was read, but its bytes. */
struct in {
	struct virtio_net_hdr hdr;
	struct sockaddr_ll from;
	_Alignas(struct cmsghdr) uint8_t message[MESSAGE_BYTES];
	struct iovec iov[2];
	struct vmbus_iov piece;
};

struct packet {
	struct vmbus__vnet_words words;
	int fd, epoll_fd;
	uint32_t flags;
	bool open;
	bool tx_waits; /* what was to be sent found no room: until all that is to be is sent */
	bool armed;    /* the descriptor is readable for room, too */
	uint32_t told; /* that there is, since the last send */
	char name[IFNAMSIZ];
	uint64_t bits_per_s;
	uint32_t held, next; /* frames that the guest has not taken yet: from next to held */
	uint32_t begun;	     /* how often a guest had begun when they were read */
	struct in in[BATCH];
	struct mmsghdr message[BATCH];
	struct vmbus_frame frame[BATCH];
	struct vmbus__vnet_out out[BATCH];
	uint8_t *memory; /* BATCH slots */
};

/* ---- sending ---- */

/*
 * Readable for room as well, while sending waits for it, or while the guest has none for frames that were
 * read: the socket, which takes frames nearly always, keeps the descriptor readable for those.
 */
static void arm(struct packet *p)
{
	const bool out = p->tx_waits || p->next < p->held;
	struct epoll_event event = { .events = out ? EPOLLIN | EPOLLOUT : EPOLLIN };

	if (p->armed != out)
		(void)epoll_ctl(p->epoll_fd, EPOLL_CTL_MOD, p->fd, &event);
	p->armed = out;
}

static void set_tx_waits(struct packet *p, bool waits)
{
	p->tx_waits = waits;
	p->told = 0;
	arm(p);
}

/* Messages of as many frames as go into one call, up to one that cannot be. */
static uint32_t prepare(struct packet *p, struct mmsghdr *message, const struct vmbus_frame *frame,
			uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n && i < BATCH; i++) {
		if (!vmbus__vnet_put(&frame[i], true, &p->out[i]))
			break;
		memset(&message[i], 0, sizeof(message[i]));
		message[i].msg_hdr.msg_iov = p->out[i].iov;
		message[i].msg_hdr.msg_iovlen = p->out[i].iovs;
	}
	return i;
}

/* Returns how many are gone: sent, or refused by the kernel for ever, and counted. */
static uint32_t push(struct packet *p, struct mmsghdr *message, uint32_t n)
{
	uint32_t at = 0;
	int sent;

	while (at < n) {
		sent = sendmmsg(p->fd, message + at, n - at, MSG_DONTWAIT);
		if (sent > 0) {
			at += (uint32_t)sent;
			continue;
		}
		if (errno == EAGAIN)
			break;
		vmbus__vnet_drop_sent(&p->words, 1);
		at++;
	}
	return at;
}

static uint32_t packet_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n)
{
	struct packet *const p = queue->ctx;
	struct mmsghdr message[BATCH];
	uint32_t taken = 0, made, gone;

	while (taken < n) {
		made = prepare(p, message, frame + taken, n - taken);
		if (made == 0) {
			vmbus__vnet_drop_sent(&p->words, 1);
			taken++;
			continue;
		}
		gone = push(p, message, made);
		taken += gone;
		if (gone < made)
			break;
	}
	if (p->tx_waits || taken < n)
		set_tx_waits(p, taken < n);
	return taken;
}

/* ---- receiving ---- */

static int fill(struct packet *p)
{
	uint32_t i;

	for (i = 0; i < BATCH; i++) {
		struct msghdr *const m = &p->message[i].msg_hdr;

		m->msg_namelen = sizeof(p->in[i].from);
		m->msg_controllen = sizeof(p->in[i].message);
		m->msg_flags = 0;
	}
	return recvmmsg(p->fd, p->message, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
}

static void put_tag_in(struct in *in, struct vmbus_frame *frame, uint16_t type, uint16_t tag)
{
	uint8_t *const from = in->iov[1].iov_base, *const to = from - 4;

	memmove(to, from, VMBUS__VNET_MAC_BYTES);
	to[12] = (uint8_t)(type >> 8);
	to[13] = (uint8_t)type;
	to[14] = (uint8_t)(tag >> 8);
	to[15] = (uint8_t)tag;
	in->piece.base = to;
	in->piece.len += 4;
	frame->bytes += 4;
	if (frame->flags & VMBUS_FRAME_CSUM)
		frame->csum_start = (uint16_t)(frame->csum_start + 4);
}

/* The tag that the kernel has taken out: beside the frame, or in it again, if it is none of 802.1Q. */
static void tag(struct in *in, struct msghdr *message, struct vmbus_frame *frame)
{
	struct cmsghdr *c;
	struct tpacket_auxdata aux;

	for (c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA ||
		    c->cmsg_len < CMSG_LEN(sizeof(aux)))
			continue;
		memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
			continue;
		if (aux.tp_status & TP_STATUS_VLAN_TPID_VALID &&
		    aux.tp_vlan_tpid != ETHERTYPE_VLAN) {
			put_tag_in(in, frame, aux.tp_vlan_tpid, aux.tp_vlan_tci);
			return;
		}
		frame->flags |= VMBUS_FRAME_VLAN;
		frame->vlan = aux.tp_vlan_tci;
	}
}

static bool describe(struct in *in, struct mmsghdr *message, struct vmbus_frame *frame)
{
	const uint32_t all = message->msg_len, bytes = all - VMBUS__VNET_BYTES;
	const uint8_t *const head = in->iov[1].iov_base;
	struct vmbus__vnet_in got;

	if (message->msg_hdr.msg_flags & MSG_TRUNC || all < VMBUS__VNET_BYTES + 14 ||
	    bytes > VMBUS_FRAME_BYTES_MAX - 4 ||
	    !vmbus__vnet_get(&in->hdr, bytes, VMBUS__VNET_OFFLOADS, &got))
		return false;
	memset(frame, 0, sizeof(*frame));
	in->piece.base = head;
	in->piece.len = bytes;
	frame->piece = &in->piece;
	frame->pieces = 1;
	frame->bytes = bytes;
	frame->flags = got.flags;
	frame->csum_start = got.csum_start;
	frame->csum_offset = got.csum_offset;
	frame->mss = got.mss;
	tag(in, &message->msg_hdr, frame);
	if (!(got.flags & VMBUS__VNET_TSO))
		return true;
	if ((uint32_t)got.csum_start + VMBUS__VNET_TCP_OFFSET >= bytes)
		return false;
	frame->header_bytes = vmbus__vnet_header_bytes(
		&got, head[got.csum_start + VMBUS__VNET_TCP_OFFSET], bytes);
	frame->header_bytes = (uint16_t)(frame->header_bytes + frame->bytes - bytes);
	return frame->header_bytes >= frame->bytes - bytes + 20;
}

/* Of n frames that were read, those that are for the guest. */
static void sort(struct packet *p, uint32_t n)
{
	uint32_t i, lost = 0;
	bool running;

	(void)vmbus__vnet_takes(&p->words, &running);
	p->begun = vmbus__vnet_begins_count(&p->words);
	p->held = p->next = 0;
	for (i = 0; i < n; i++) {
		if (p->in[i].from.sll_pkttype == PACKET_OUTGOING)
			continue;
		if (running && describe(&p->in[i], &p->message[i], &p->frame[p->held]))
			p->held++;
		else
			lost++;
	}
	if (lost)
		vmbus__vnet_drop_received(&p->words, lost);
}

static void forget_held(struct packet *p)
{
	if (p->next < p->held)
		vmbus__vnet_drop_received(&p->words, p->held - p->next);
	p->held = p->next = 0;
}

/* false: the guest has no room.  What it did not take comes again. */
static bool hand_over(struct packet *p, struct vmbus_port_queue *queue)
{
	if (p->next < p->held)
		p->next += vmbus_port_deliver(queue, p->frame + p->next, p->held - p->next);
	return p->next == p->held;
}

static void packet_ready(struct vmbus_port_queue *queue)
{
	struct packet *const p = queue->ctx;
	uint32_t turn;
	int n;

	/* Who waits sends again, and sooner or later finds room; who does not has given it up. */
	if (p->tx_waits && p->told++ == TELLS)
		p->tx_waits = false;
	if (p->begun != vmbus__vnet_begins_count(&p->words))
		forget_held(p);
	for (turn = 0; turn <= BATCHES && hand_over(p, queue); turn++) {
		n = turn < BATCHES ? fill(p) : 0;
		if (n <= 0)
			break;
		sort(p, (uint32_t)n);
	}
	arm(p);
}

/* What waits in the socket, from before the guest began to take frames.  Any thread: none of what the
   queue's thread uses. */
static void throw_old_away(struct packet *p)
{
	struct mmsghdr message[BATCH];
	struct sockaddr_ll from[BATCH];
	struct virtio_net_hdr hdr; /* nobody looks at it */
	struct iovec iov = { &hdr, sizeof(hdr) };
	uint32_t i, turn, lost = 0;
	int n = (int)BATCH;

	for (turn = 0; turn < OLD_BATCHES && n == (int)BATCH; turn++) {
		memset(message, 0, sizeof(message));
		for (i = 0; i < BATCH; i++) {
			message[i].msg_hdr.msg_name = &from[i];
			message[i].msg_hdr.msg_namelen = sizeof(from[i]);
			message[i].msg_hdr.msg_iov = &iov;
			message[i].msg_hdr.msg_iovlen = 1;
		}
		n = recvmmsg(p->fd, message, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
		for (i = 0; n > 0 && i < (uint32_t)n; i++)
			lost += from[i].sll_pkttype != PACKET_OUTGOING;
	}
	if (lost)
		vmbus__vnet_drop_received(&p->words, lost);
}

/* ---- the table ---- */

static int packet_info(void *ctx, struct vmbus_port_info *info)
{
	const struct packet *const p = ctx;
	struct ifreq ifr;

	memset(info, 0, sizeof(*info));
	memset(&ifr, 0, sizeof(ifr));
	memcpy(ifr.ifr_name, p->name, sizeof(ifr.ifr_name));
	if (ioctl(p->fd, SIOCGIFMTU, &ifr))
		return VMBUS_E_NOTSUP;
	info->can = VMBUS_FRAME_VLAN;
	if (!(p->flags & VMBUS_PORT_PACKET_NO_OFFLOAD))
		info->can |= VMBUS__VNET_OFFLOADS;
	info->queues = 1;
	info->mtu_max = (uint32_t)ifr.ifr_mtu;
	info->up = true;
	info->bits_per_s = p->bits_per_s;
	return 0;
}

static int packet_open(struct vmbus_port_queue *queue)
{
	struct packet *const p = queue->ctx;

	if (queue->number)
		return VMBUS_E_RANGE;
	if (p->open)
		return VMBUS_E_STATE;
	p->open = true;
	forget_held(p);
	set_tx_waits(p, false);
	throw_old_away(p);
	queue->fd = p->epoll_fd;
	return 0;
}

static void packet_close(struct vmbus_port_queue *queue)
{
	struct packet *const p = queue->ctx;

	p->open = false;
}

static void packet_configure(void *ctx, const struct vmbus_port_config *config)
{
	struct packet *const p = ctx;

	if (vmbus__vnet_begins(&p->words, config))
		throw_old_away(p);
	vmbus__vnet_set(&p->words, config);
}

/* The kernel's own count starts again each time that it is read. */
static void packet_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	struct packet *const p = ctx;
	struct tpacket_stats stats;
	socklen_t bytes = sizeof(stats);

	if (getsockopt(p->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &bytes) == 0 && stats.tp_drops)
		vmbus__vnet_drop_received(&p->words, stats.tp_drops);
	vmbus__vnet_dropped(&p->words, sent, received);
}

static void packet_destroy(void *ctx)
{
	struct packet *const p = ctx;

	if (p->fd >= 0)
		(void)close(p->fd);
	if (p->epoll_fd >= 0)
		(void)close(p->epoll_fd);
	free(p->memory);
	free(p);
}

static const struct vmbus_port_ops packet_ops = {
	.struct_bytes = sizeof(packet_ops),
	.name = "packet",
	.info = packet_info,
	.open = packet_open,
	.close = packet_close,
	.send = packet_send,
	.ready = packet_ready,
	.configure = packet_configure,
	.destroy = packet_destroy,
	.dropped = packet_dropped,
};

/* ---- opening ---- */

static int fail(const struct vmbus_port_packet_opts *opts, const char *what)
{
	return vmbus__vnet_error(opts->why, opts->why_bytes, opts->interface, what);
}

static int find(const struct vmbus_port_packet_opts *opts, struct packet *p, int *index)
{
	struct ethtool_cmd cmd = { .cmd = ETHTOOL_GSET };
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	memcpy(ifr.ifr_name, p->name, sizeof(ifr.ifr_name));
	if (ioctl(p->fd, SIOCGIFINDEX, &ifr))
		return fail(opts, "there is no such interface");
	*index = ifr.ifr_ifindex;
	if (ioctl(p->fd, SIOCGIFHWADDR, &ifr))
		return fail(opts, "its address could not be read");
	if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
		if (opts->why && opts->why_bytes)
			(void)snprintf(opts->why, opts->why_bytes,
				       "%s: it is not an Ethernet interface", opts->interface);
		return VMBUS_E_NOTSUP;
	}
	ifr.ifr_data = (char *)&cmd;
	if (ioctl(p->fd, SIOCETHTOOL, &ifr) == 0 &&
	    ethtool_cmd_speed(&cmd) != (uint32_t)SPEED_UNKNOWN)
		p->bits_per_s = ethtool_cmd_speed(&cmd) * UINT64_C(1000000);
	return 0;
}

static int set(const struct packet *p, int level, int option, int value)
{
	return setsockopt(p->fd, level, option, &value, sizeof(value));
}

/* Nothing comes before the socket is bound, and then only from the interface. */
static int bind_to(const struct vmbus_port_packet_opts *opts, struct packet *p, int index)
{
	const uint32_t buffer = opts->buffer_bytes ? opts->buffer_bytes : BUFFER_DEFAULT;
	const struct packet_mreq all = { .mr_ifindex = index, .mr_type = PACKET_MR_PROMISC };
	struct sockaddr_ll to;

	if (set(p, SOL_PACKET, PACKET_VNET_HDR, 1) || set(p, SOL_PACKET, PACKET_AUXDATA, 1))
		return fail(opts, "the kernel's header could not be set");
	(void)set(p, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	if (set(p, SOL_SOCKET, SO_RCVBUFFORCE, (int)(buffer / 2)))
		(void)set(p, SOL_SOCKET, SO_RCVBUF, (int)(buffer / 2)); /* the kernel doubles it */
	if (opts->flags & VMBUS_PORT_PACKET_NO_QUEUE && set(p, SOL_PACKET, PACKET_QDISC_BYPASS, 1))
		return fail(opts, "its queueing discipline could not be passed by");
	memset(&to, 0, sizeof(to));
	to.sll_family = AF_PACKET;
	to.sll_protocol = htons(ETH_P_ALL);
	to.sll_ifindex = index;
	if (bind(p->fd, (const struct sockaddr *)&to, sizeof(to)))
		return fail(opts, "the socket could not be bound to it");
	if (!(opts->flags & VMBUS_PORT_PACKET_NO_PROMISC) &&
	    setsockopt(p->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)))
		return fail(opts, "it could not be made promiscuous");
	return 0;
}

static int make(const struct vmbus_port_packet_opts *opts, struct packet *p)
{
	struct epoll_event event = { .events = EPOLLIN };
	int index = 0, err;
	uint32_t i;

	p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->fd < 0)
		return fail(opts, "no packet socket could be made");
	err = find(opts, p, &index);
	if (!err)
		err = bind_to(opts, p, index);
	if (err)
		return err;
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll_fd < 0 || epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->fd, &event))
		return fail(opts, "the socket could not be waited for");
	p->memory = malloc((size_t)BATCH * SLOT);
	if (!p->memory)
		return VMBUS_E_NOMEM;
	for (i = 0; i < BATCH; i++) {
		struct in *const in = &p->in[i];

		in->iov[0] = (struct iovec){ &in->hdr, sizeof(in->hdr) };
		in->iov[1] = (struct iovec){ p->memory + (size_t)i * SLOT + SLOT_HEAD,
					     SLOT - SLOT_HEAD };
		p->message[i].msg_hdr.msg_name = &in->from;
		p->message[i].msg_hdr.msg_iov = in->iov;
		p->message[i].msg_hdr.msg_iovlen = 2;
		p->message[i].msg_hdr.msg_control = in->message;
	}
	return 0;
}

int vmbus_port_packet(const struct vmbus_port_packet_opts *opts, struct vmbus_port *port)
{
	struct packet *p;
	int err;

	if (opts->struct_bytes < sizeof(*opts) || !opts->interface || !opts->interface[0] ||
	    strnlen(opts->interface, IFNAMSIZ) >= IFNAMSIZ || opts->flags & ~FLAGS)
		return VMBUS_E_INVAL;
	if (opts->buffer_bytes &&
	    (opts->buffer_bytes < BUFFER_MIN || opts->buffer_bytes > BUFFER_MAX))
		return VMBUS_E_RANGE;
	p = calloc(1, sizeof(*p));
	if (!p)
		return VMBUS_E_NOMEM;
	p->fd = p->epoll_fd = -1;
	p->flags = opts->flags;
	memcpy(p->name, opts->interface, strlen(opts->interface));
	err = make(opts, p);
	if (err) {
		const int error = errno;

		packet_destroy(p);
		errno = error;
		return err;
	}
	*port = (struct vmbus_port){ &packet_ops, p };
	return 0;
}

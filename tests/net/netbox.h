/* SPDX-License-Identifier: MIT */
/*
 * A guest without a driver: the messages of a NetVSC made by hand, on the rings of a child that is made
 * by hand too, against a NIC with a port that takes everything and gives what it is told to.
 */
#ifndef VMBUS_TESTS_NET_NETBOX_H
#define VMBUS_TESTS_NET_NETBOX_H

#include "../bus/fake.h"

#include <sys/eventfd.h>

#include <vmbus/net.h>
#include <vmbus/vsp.h>

#define NB_CHANNELS 4u
#define NB_UP 17u
#define NB_DOWN 17u
#define NB_RX_PAGES 128u /* the receive buffer */
#define NB_TX_PAGES 48u	 /* the send buffer */
#define NB_DATA_PAGES 32u
#define NB_ID 0xCAFEu
#define NB_MESSAGES 64u /* RNDIS messages of the NIC's that are kept */
#define NB_FRAME 65600u
#define NB_V61 0x00060001u

/* The port: what it was given last, and what it gives. */
struct nb_port {
	struct vmbus_port_info info;
	struct vmbus_port_config config;
	struct vmbus_port_queue *queue[NB_CHANNELS];
	int info_err, open_err;
	uint32_t infos, opens, closes, configs, destroys;
	uint32_t take; /* frames that send() takes from now on */
	uint32_t sent; /* frames taken */
	struct vmbus_frame last;
	uint8_t frame[NB_FRAME]; /* the bytes of the last */
	/* Frames for receive(): copies of one. */
	uint32_t give, given_bytes;
	uint8_t given[NB_FRAME];
};

/* An RNDIS message of the NIC's. */
struct nb_message {
	uint32_t channel;  /* 1: control */
	uint32_t bytes;	   /* of the range */
	uint64_t id;	   /* of its packet */
	uint8_t msg[2048]; /* as much of it as fits */
};

struct netbox {
	struct fake f;
	struct nb_port port;
	struct vmbus_net *net;
	struct vmbus_net_opts opts;
	struct fake_chan c[NB_CHANNELS];
	uint32_t channels;	  /* open */
	size_t rx, tx, data;	  /* first pages */
	uint32_t pages, rx_pages; /* of the guest; of the receive buffer */
	uint32_t rx_gpadl, tx_gpadl;
	uint32_t version, mtu;
	uint64_t caps, id;
	uint32_t rx_section, rx_count, tx_section;
	bool keep;    /* receive sections are not given back */
	bool scatter; /* the last page of the receive buffer is its first, and so on */
	/* What came: the last completion, RNDIS messages, other messages. */
	uint32_t completions, done_len;
	uint64_t done_id;
	uint8_t done[104];
	uint32_t messages, taken; /* taken of them by nb_message() */
	struct nb_message message[NB_MESSAGES];
	uint32_t inbands, inband_len;
	uint8_t inband[104];
};

static inline uint64_t nb_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	for (; bytes; bytes--)
		v = v << 8 | p[bytes - 1];
	return v;
}

static inline void nb_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

static inline uint32_t nb_32(const uint8_t *p)
{
	return (uint32_t)nb_get(p, 4);
}

/* ---- the port ---- */

static inline int nb_port_info(void *ctx, struct vmbus_port_info *info)
{
	struct nb_port *const port = ctx;

	port->infos++;
	*info = port->info;
	return port->info_err;
}

static inline int nb_port_open(struct vmbus_port_queue *queue)
{
	struct nb_port *const port = queue->ctx;

	if (port->open_err)
		return port->open_err;
	must(queue->number < NB_CHANNELS && queue->fd == -1);
	queue->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	must(queue->fd >= 0);
	port->queue[queue->number] = queue;
	port->opens++;
	return 0;
}

static inline void nb_port_close(struct vmbus_port_queue *queue)
{
	struct nb_port *const port = queue->ctx;

	close(queue->fd);
	port->queue[queue->number] = NULL;
	port->closes++;
}

static inline uint32_t nb_port_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
				    uint32_t n)
{
	struct nb_port *const port = queue->ctx;
	uint32_t i, k, at;

	for (i = 0; i < n && port->take; i++, port->take--) {
		for (k = at = 0; k < frame[i].pieces; k++) {
			must(frame[i].piece[k].len <= NB_FRAME - at);
			memcpy(port->frame + at, frame[i].piece[k].base, frame[i].piece[k].len);
			at += (uint32_t)frame[i].piece[k].len;
		}
		must_eq(at, frame[i].bytes);
		port->last = frame[i];
		port->sent++;
	}
	return i;
}

static inline uint32_t nb_port_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
				       uint32_t n)
{
	struct nb_port *const port = queue->ctx;
	uint64_t count;
	uint32_t i, k, at;

	(void)!read(queue->fd, &count, sizeof(count));
	for (i = 0; i < n && port->give; i++, port->give--) {
		must(port->given_bytes <= room[i].room);
		for (k = at = 0; at < port->given_bytes; k++) {
			const uint32_t left = port->given_bytes - at;
			const uint32_t len =
				left < room[i].span[k].len ? left : (uint32_t)room[i].span[k].len;

			memcpy(room[i].span[k].base, port->given + at, len);
			at += len;
		}
		room[i].bytes = port->given_bytes;
	}
	return i;
}

static inline void nb_port_configure(void *ctx, const struct vmbus_port_config *config)
{
	struct nb_port *const port = ctx;

	port->config = *config;
	port->configs++;
}

static inline void nb_port_destroy(void *ctx)
{
	((struct nb_port *)ctx)->destroys++;
}

static inline void nb_port_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	(void)ctx;
	*sent = 3;
	*received = 4;
}

static const struct vmbus_port_ops nb_port_ops = { .struct_bytes = sizeof(nb_port_ops),
						   .name = "box",
						   .info = nb_port_info,
						   .open = nb_port_open,
						   .close = nb_port_close,
						   .send = nb_port_send,
						   .receive = nb_port_receive,
						   .configure = nb_port_configure,
						   .destroy = nb_port_destroy,
						   .dropped = nb_port_dropped };

/* Frames for the guest: n copies of what is in port.given. */
static inline void nb_give(struct netbox *b, uint32_t queue, uint32_t n, uint32_t bytes)
{
	const uint64_t one = 1;

	b->port.give = n;
	b->port.given_bytes = bytes;
	must_eq(write(b->port.queue[queue]->fd, &one, sizeof(one)), sizeof(one));
}

/* ---- life ---- */

/* Options may be changed before nb_begin(). */
static inline void nb_prepare(struct netbox *b)
{
	memset(b, 0, sizeof(*b));
	b->port.info =
		(struct vmbus_port_info){ .queues = 1, .up = true, .bits_per_s = 1000000000 };
	b->port.take = UINT32_MAX;
	b->opts = (struct vmbus_net_opts){ .struct_bytes = sizeof(b->opts),
					   .port = { &nb_port_ops, &b->port },
					   .mac = { 0x02, 1, 2, 3, 4, 5 } };
	b->id = 1;
	b->version = NB_V61;
	b->mtu = 1514;
	b->caps = 8;
	b->pages = 1024;
	b->rx_pages = NB_RX_PAGES;
}

static inline void nb_offer(struct netbox *b)
{
	(void)fake_offer(&b->f, vmbus_net_vsp(), b->net, 0);
}

/* With a bus that is there. */
static inline void nb_begin_bus(struct netbox *b)
{
	must_eq(vmbus_net_create(&b->opts, &b->net), 0);
	nb_offer(b);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, b->c, 1), 1);
	b->rx = fake_pages(&b->f, b->rx_pages);
	b->tx = fake_pages(&b->f, NB_TX_PAGES);
	b->data = fake_pages(&b->f, NB_DATA_PAGES);
}

static inline void nb_begin(struct netbox *b)
{
	fake_init(&b->f, b->pages);
	nb_begin_bus(b);
}

static inline void nb_open(struct netbox *b)
{
	must_eq(fake_open(&b->f, &b->c[0], NB_UP, NB_DOWN), 0);
	b->channels = 1;
}

static inline uint8_t *nb_page(struct netbox *b, size_t page)
{
	return b->f.mem + page * FAKE_PAGE;
}

static inline void nb_end(struct netbox *b)
{
	uint32_t i;

	vmbus_bus_destroy(b->f.bus);
	b->f.bus = NULL;
	vmbus_net_destroy(b->net);
	must_eq(b->port.opens, b->port.closes);
	for (i = 0; i < NB_CHANNELS; i++)
		fake_chan_free(&b->c[i]);
	munmap(b->f.mem, b->f.pages * FAKE_PAGE);
	close(b->f.fd);
	free(b->f.posts);
}

/* ---- packets ---- */

static inline void nb_send(struct netbox *b, uint32_t chan, const struct vmbus_msg *msg)
{
	must_eq(vmbus_ring_tx_put(&b->c[chan].tx, msg, 1), 1);
}

/* Give the sections of a packet back. */
static inline void nb_return(struct netbox *b, uint32_t chan, uint64_t id)
{
	uint8_t done[8] = { 108, 0, 0, 0, 1, 0, 0, 0 };
	const struct vmbus_msg msg = {
		.id = id, .data = done, .len = sizeof(done), .type = VMBUS_PKT_COMPLETION
	};

	nb_send(b, chan, &msg);
}

/* Bytes of the receive buffer. */
static inline void nb_read(struct netbox *b, uint32_t offset, uint8_t *to, uint32_t bytes)
{
	uint32_t n;

	for (; bytes; bytes -= n, offset += n, to += n) {
		const uint32_t at = offset / FAKE_PAGE, left = FAKE_PAGE - offset % FAKE_PAGE;

		n = bytes < left ? bytes : left;
		memcpy(to,
		       nb_page(b, b->rx + (b->scatter ? b->rx_pages - 1 - at : at)) +
			       offset % FAKE_PAGE,
		       n);
	}
}

static inline void nb_keep(struct netbox *b, const struct vmbus_packet *pkt)
{
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;

	must_eq(vmbus_wire_ranges_begin(&it, pkt), 0);
	while (vmbus_wire_ranges_next(&it, &range) == 1) {
		struct nb_message *const m = &b->message[b->messages % NB_MESSAGES];

		must(range.byte_offset % b->rx_section + range.byte_count <= b->rx_section);
		must(range.byte_offset + range.byte_count <= b->rx_section * b->rx_count);
		m->channel = nb_32(pkt->payload + 4);
		m->bytes = range.byte_count;
		m->id = pkt->id;
		nb_read(b, range.byte_offset, m->msg,
			range.byte_count < sizeof(m->msg) ? range.byte_count : sizeof(m->msg));
		b->messages++;
	}
}

static inline void nb_took(struct netbox *b, uint32_t chan, const struct vmbus_packet *pkt)
{
	struct vmbus_wire_ext ext;

	switch (pkt->type) {
	case VMBUS_PKT_COMPLETION:
		must(pkt->len <= sizeof(b->done));
		b->completions++;
		b->done_id = pkt->id;
		b->done_len = pkt->len;
		memset(b->done, 0, sizeof(b->done));
		memcpy(b->done, pkt->payload, pkt->len);
		break;
	case VMBUS_PKT_XFER_PAGES:
		must_eq(vmbus_wire_ext_get(pkt, &ext), 0);
		must_eq(ext.xfer_set, NB_ID);
		must_eq(pkt->flags, VMBUS_PKT_FLAG_COMPLETE);
		must_eq(nb_32(pkt->payload), 107);
		must(pkt->id != 0);
		nb_keep(b, pkt);
		if (!b->keep)
			nb_return(b, chan, pkt->id);
		break;
	default:
		must_eq(pkt->type, VMBUS_PKT_INBAND);
		must(pkt->len <= sizeof(b->inband));
		b->inbands++;
		b->inband_len = pkt->len;
		memcpy(b->inband, pkt->payload, pkt->len);
		break;
	}
}

/* Run until nothing comes any more; returns packets. */
static inline uint32_t nb_run(struct netbox *b, uint32_t chan)
{
	struct vmbus_packet pkt;
	uint32_t n = 0;

	fake_run(&b->f);
	while (fake_receive(&b->c[chan], &pkt, 1) == 1) {
		nb_took(b, chan, &pkt);
		n++;
		fake_run(&b->f);
	}
	return n;
}

/* Run until a completion comes, for some seconds at most. */
static inline void nb_wait(struct netbox *b, uint32_t chan, uint32_t before)
{
	const uint64_t end = fake_now_ns() + 5000000000u;

	while (b->completions == before && fake_now_ns() < end) {
		struct pollfd p = { .fd = vmbus_bus_fd(b->f.bus), .events = POLLIN };

		(void)poll(&p, 1, 100);
		(void)nb_run(b, chan);
	}
}

/* An NVSP message that wants an answer; the answer is in done.  False: there was none. */
static inline bool nb_ask(struct netbox *b, uint32_t chan, const void *data, uint32_t len)
{
	const uint32_t before = b->completions;
	const struct vmbus_msg msg = { .id = b->id++,
				       .data = data,
				       .len = len,
				       .type = VMBUS_PKT_INBAND,
				       .flags = VMBUS_PKT_FLAG_COMPLETE };

	nb_send(b, chan, &msg);
	(void)nb_run(b, chan);
	if (b->completions == before && len >= 4 && (nb_32(data) == 101 || nb_32(data) == 104))
		nb_wait(b, chan, before); /* a page list may come later */
	if (b->completions == before)
		return false;
	must_eq(b->completions, before + 1);
	must_eq(b->done_id, msg.id);
	return true;
}

/* One that wants none. */
static inline void nb_tell(struct netbox *b, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = { .data = data, .len = len, .type = VMBUS_PKT_INBAND };

	nb_send(b, 0, &msg);
	(void)nb_run(b, 0);
}

/* ---- the initialisation ---- */

static inline uint32_t nb_init_version(struct netbox *b, uint32_t version)
{
	uint8_t msg[40] = { 1 };

	nb_put(msg + 4, 4, version);
	nb_put(msg + 8, 4, version);
	must(nb_ask(b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b->done), 2);
	return nb_32(b->done + 12);
}

static inline void nb_config(struct netbox *b)
{
	uint8_t msg[40] = { 125 };

	nb_put(msg + 4, 4, b->mtu);
	nb_put(msg + 12, 8, b->caps);
	nb_tell(b, msg, sizeof(msg));
}

static inline void nb_ndis(struct netbox *b)
{
	uint8_t msg[40] = { 100 };

	nb_put(msg + 4, 4, 6);
	nb_put(msg + 8, 4, b->version >= 0x50000 ? 30 : 1);
	nb_tell(b, msg, sizeof(msg));
}

/* 101 or 104 of a page list; the status of the answer. */
static inline uint32_t nb_buffer(struct netbox *b, uint32_t type, uint32_t gpadl)
{
	uint8_t msg[40] = { 0 };

	nb_put(msg, 4, type);
	nb_put(msg + 4, 4, gpadl);
	nb_put(msg + 8, 2, type == 101 ? NB_ID : 0);
	must(nb_ask(b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b->done), type + 1);
	return nb_32(b->done + 4);
}

static inline void nb_share_scattered(struct netbox *b)
{
	uint64_t pfns[2048];
	struct vmbus_ctl ctl;
	uint32_t i;

	must(b->rx_pages <= 2048);
	for (i = 0; i < b->rx_pages; i++)
		pfns[i] = b->rx + b->rx_pages - 1 - i;
	fake_gpadl(&b->f, b->c[0].relid, b->rx_gpadl, pfns, b->rx_pages);
	fake_expect(&b->f, VMBUS_CTL_GPADL_CREATED, &ctl);
}

static inline void nb_receive_buffer(struct netbox *b)
{
	if (!b->rx_gpadl && b->scatter) {
		b->rx_gpadl = b->f.next_gpadl++;
		nb_share_scattered(b);
	} else if (!b->rx_gpadl) {
		b->rx_gpadl = b->f.next_gpadl++;
		must_eq(fake_share(&b->f, b->c[0].relid, b->rx_gpadl, b->rx, b->rx_pages), 0);
	}
	must_eq(nb_buffer(b, 101, b->rx_gpadl), 1);
	b->rx_section = nb_32(b->done + 16);
	b->rx_count = nb_32(b->done + 20);
	must_eq(nb_32(b->done + 8), 1);
	must_eq(nb_32(b->done + 12), 0);
	must_eq(nb_32(b->done + 24), b->rx_section * b->rx_count);
	must(b->rx_section >= 68 && b->rx_section * b->rx_count <= b->rx_pages * FAKE_PAGE);
}

static inline void nb_send_buffer(struct netbox *b)
{
	if (!b->tx_gpadl) {
		b->tx_gpadl = b->f.next_gpadl++;
		must_eq(fake_share(&b->f, b->c[0].relid, b->tx_gpadl, b->tx, NB_TX_PAGES), 0);
	}
	must_eq(nb_buffer(b, 104, b->tx_gpadl), 1);
	b->tx_section = nb_32(b->done + 8);
}

#define NB_STEPS 7u

/* Steps of the initialisation, in Linux' order. */
static inline void nb_rndis_initialize(struct netbox *b);
static inline void nb_filter(struct netbox *b, uint32_t filter);

static inline void nb_steps(struct netbox *b, uint32_t from, uint32_t to)
{
	for (; from < to; from++)
		switch (from) {
		case 0:
			must_eq(nb_init_version(b, b->version), 1);
			break;
		case 1:
			if (b->version >= 0x30002)
				nb_config(b);
			break;
		case 2:
			nb_ndis(b);
			break;
		case 3:
			nb_receive_buffer(b);
			break;
		case 4:
			nb_send_buffer(b);
			break;
		case 5:
			nb_rndis_initialize(b);
			break;
		default:
			nb_filter(b, 0x0D);
			break;
		}
}

/* ---- RNDIS ---- */

/* A range of pages that follow each other; returns the bytes of the header. */
static inline uint32_t nb_range(uint8_t *ext, size_t page, uint32_t offset, uint32_t bytes)
{
	const struct vmbus_wire_ext head = { .range_count = 1 };
	const uint32_t pages = (offset + bytes + 4095) / 4096;
	uint64_t pfns[NB_DATA_PAGES];
	uint32_t i;
	int n;

	for (i = 0; i < pages; i++)
		pfns[i] = page + i;
	n = vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &head, ext, 16);
	must_eq(n, 8);
	n = vmbus_wire_range_put(bytes, offset, pfns, ext + 8, 8 + 8 * NB_DATA_PAGES);
	must(n > 0);
	return 8 + (uint32_t)n;
}

/* An RNDIS message by pages; the status of its 108, or 0 when there was none. */
static inline uint32_t nb_rndis(struct netbox *b, uint32_t chan, bool control, const void *data,
				uint32_t len)
{
	uint8_t msg[40] = { 107 }, ext[32 + 8 * NB_DATA_PAGES];
	struct vmbus_msg m = { .id = b->id++,
			       .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_GPA_DIRECT,
			       .flags = VMBUS_PKT_FLAG_COMPLETE,
			       .ext = ext };
	const uint32_t before = b->completions;

	nb_put(msg + 4, 4, control);
	nb_put(msg + 8, 4, UINT32_MAX);
	memcpy(nb_page(b, b->data), data, len);
	m.ext_len = nb_range(ext, b->data, 0, len);
	nb_send(b, chan, &m);
	(void)nb_run(b, chan);
	if (b->completions == before)
		return 0;
	must_eq(b->completions, before + 1);
	must_eq(b->done_id, m.id);
	must_eq(nb_32(b->done), 108);
	return nb_32(b->done + 4);
}

/* The next RNDIS message of the NIC's, or NULL. */
static inline const struct nb_message *nb_message(struct netbox *b)
{
	if (b->taken == b->messages)
		return NULL;
	must(b->messages - b->taken <= NB_MESSAGES);
	return &b->message[b->taken++ % NB_MESSAGES];
}

/* A control message and its answer, which must be of this type and id. */
static inline const uint8_t *nb_control(struct netbox *b, uint8_t *msg, uint32_t len)
{
	const struct nb_message *m;

	nb_put(msg + 4, 4, len);
	must_eq(nb_rndis(b, 0, true, msg, len), 1);
	m = nb_message(b);
	must(m != NULL);
	must_eq(m->channel, 1);
	must_eq(nb_32(m->msg), nb_32(msg) | 0x80000000u);
	must(nb_32(m->msg + 4) <= m->bytes);
	must_eq(nb_32(m->msg + 8), nb_32(msg + 8));
	return m->msg;
}

static inline const uint8_t *nb_initialize(struct netbox *b)
{
	uint8_t msg[24] = { 2 };

	nb_put(msg + 8, 4, (uint32_t)b->id);
	nb_put(msg + 12, 4, 1);
	nb_put(msg + 20, 4, 0x4000);
	return nb_control(b, msg, sizeof(msg));
}

static inline void nb_rndis_initialize(struct netbox *b)
{
	must_eq(nb_32(nb_initialize(b) + 12), 0);
}

/* A query; returns the status, and the information. */
static inline uint32_t nb_query(struct netbox *b, uint32_t oid, const void *in, uint32_t in_bytes,
				const uint8_t **out, uint32_t *bytes)
{
	uint8_t msg[28 + 256] = { 4 };
	const uint8_t *answer;

	must(in_bytes <= 256);
	nb_put(msg + 8, 4, (uint32_t)b->id);
	nb_put(msg + 12, 4, oid);
	nb_put(msg + 16, 4, in_bytes);
	nb_put(msg + 20, 4, 20);
	if (in_bytes)
		memcpy(msg + 28, in, in_bytes);
	answer = nb_control(b, msg, 28 + in_bytes);
	*bytes = nb_32(answer + 16);
	must_eq(nb_32(answer + 20), 16);
	must_eq(nb_32(answer + 4), 24 + *bytes);
	*out = answer + 24;
	if (nb_32(answer + 12))
		must_eq(*bytes, 0);
	return nb_32(answer + 12);
}

/* A query of a number, which must be answered with 4 bytes. */
static inline uint32_t nb_number(struct netbox *b, uint32_t oid)
{
	const uint8_t *out;
	uint32_t bytes;

	must_eq(nb_query(b, oid, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 4);
	return nb_32(out);
}

/* A set; returns the status. */
static inline uint32_t nb_set(struct netbox *b, uint32_t oid, const void *in, uint32_t in_bytes)
{
	uint8_t msg[28 + 1024] = { 5 };
	const uint8_t *answer;

	must(in_bytes <= 1024);
	nb_put(msg + 8, 4, (uint32_t)b->id);
	nb_put(msg + 12, 4, oid);
	nb_put(msg + 16, 4, in_bytes);
	nb_put(msg + 20, 4, 20);
	if (in_bytes)
		memcpy(msg + 28, in, in_bytes);
	answer = nb_control(b, msg, 28 + in_bytes);
	must_eq(nb_32(answer + 4), 16);
	return nb_32(answer + 12);
}

static inline void nb_filter(struct netbox *b, uint32_t filter)
{
	uint8_t info[4];

	nb_put(info, 4, filter);
	must_eq(nb_set(b, 0x0001010E, info, 4), 0);
}

/* All of it: frames go both ways. */
static inline void nb_start(struct netbox *b)
{
	nb_begin(b);
	nb_open(b);
	nb_steps(b, 0, NB_STEPS);
}

/* Sub-channels: asked for; returns how many are granted. */
static inline uint32_t nb_ask_subs(struct netbox *b, uint32_t n)
{
	uint8_t msg[40] = { 133, 0, 0, 0, 1 };

	nb_put(msg + 8, 4, n);
	must(nb_ask(b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b->done), 133);
	return nb_32(b->done + 4) == 1 ? nb_32(b->done + 8) : 0;
}

/* Those that are granted: offered, opened. */
static inline void nb_open_subs(struct netbox *b, uint32_t n)
{
	struct vmbus_ctl ctl;
	uint32_t i;

	for (i = 1; i <= n; i++) {
		fake_expect(&b->f, VMBUS_CTL_OFFER, &ctl);
		must_eq(ctl.u.offer.sub_index, i);
		memset(&b->c[i], 0, sizeof(b->c[i]));
		b->c[i].fake = &b->f;
		b->c[i].relid = ctl.u.offer.relid;
		b->c[i].conn = ctl.u.offer.conn_id;
	}
	for (i = 1; i <= n; i++)
		must_eq(fake_open(&b->f, &b->c[i], NB_UP, NB_DOWN), 0);
	b->channels += n;
}

static inline void nb_subs(struct netbox *b, uint32_t n)
{
	must_eq(nb_ask_subs(b, n), n);
	nb_open_subs(b, n);
}

#endif

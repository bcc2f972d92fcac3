/* SPDX-License-Identifier: MIT */
/*
 * The network device's host by hand, for tests of the client: it answers from a script, keeps what
 * comes, and delivers what it is told; the layouts of vmbus_wire(7) are written down here once more.
 *
 *	struct host h;
 *	host_start(&h);			a bus, a guest, the host offered
 *	... h.version = 0x00050000, ...	what it knows and does
 *	host_client(&h, &opts);		the client, up to ready()
 *	host_free(&h);
 */
#ifndef TESTS_NET_CLIENTHOST_H
#define TESTS_NET_CLIENTHOST_H

#include "clienthost_rndis.h"

/* ---- data ---- */

static inline void host_take_frame(struct host *h, uint32_t channel, const uint8_t *msg,
				   uint32_t message)
{
	struct host_frame *const f = &h->frame[h->frames];
	const uint32_t at = host_get32(msg + 8) + 8, bytes = host_get32(msg + 12);
	const uint32_t ppi = host_get32(msg + 28), ppi_bytes = host_get32(msg + 32);

	must(h->frames < HOST_FRAMES);
	must_eq(host_get32(msg), 1);
	must(at <= message && bytes <= message - at);
	must(ppi_bytes <= sizeof(f->ppi));
	must_eq(host_get(msg + 16, 8), 0);
	must_eq(host_get32(msg + 24), 0);
	must_eq(host_get(msg + 36, 8), 0);
	must_eq(ppi, ppi_bytes ? 36 : 0);
	f->channel = channel;
	f->packet = h->packets;
	f->bytes = bytes;
	f->message = message;
	f->ppi_bytes = ppi_bytes;
	memcpy(f->ppi, msg + 8 + ppi, ppi_bytes);
	f->data = malloc(bytes);
	must(f->data != NULL);
	memcpy(f->data, msg + at, bytes);
	h->frames++;
}

static inline uint32_t host_gather(struct host *h, struct vmbus_chan *chan,
				   const struct vmbus_packet *pkt, uint8_t *to)
{
	const uint32_t section = host_get32(pkt->payload + 8);
	const uint32_t bytes = host_get32(pkt->payload + 12);
	struct vmbus_piece pieces[128];
	struct vmbus_sgl sgl = { .pieces = pieces, .room = 128 };
	uint32_t n = 0;

	if (section != UINT32_MAX) {
		must(bytes <= h->send_section);
		must_eq(vmbus_sgl_read(&h->send, (uint64_t)section * h->send_section, to, bytes),
			bytes);
		n = bytes;
	}
	if (pkt->type == VMBUS_PKT_GPA_DIRECT) {
		must_eq(vmbus_chan_sgl(chan, pkt, VMBUS_READ, &sgl), 0);
		must(n + sgl.bytes <= HOST_FRAME_BYTES * 2);
		must_eq(vmbus_sgl_read(&sgl, 0, to + n, sgl.bytes), sgl.bytes);
		n += (uint32_t)sgl.bytes;
		vmbus_sgl_release(&sgl);
	}
	return n;
}

static inline void host_complete(struct vmbus_chan *chan, uint64_t id, uint32_t status)
{
	uint8_t out[32] = { 0 };

	host_put(out, 4, 108);
	host_put(out + 4, 4, status);
	host_must_eq(vmbus_chan_complete(chan, id, out, 32), 0);
}

static inline void host_rndis(struct host *h, struct vmbus_chan *chan, uint32_t channel,
			      const struct vmbus_packet *pkt)
{
	static uint8_t all[HOST_FRAME_BYTES * 2];
	const uint32_t n = host_gather(h, chan, pkt, all);
	uint32_t at = 0, len;

	if (host_get32(pkt->payload + 4) == 1) {
		must_eq(channel, 0);
		if (!h->late_copy)
			host_complete(chan, pkt->id, h->copy_fails ? 5 : 1);
		if (!h->copy_fails)
			host_control(h, all, n);
		if (h->late_copy)
			host_complete(chan, pkt->id, 1);
		return;
	}
	while (at < n) {
		len = host_get32(all + at + 4);
		must(n - at >= HOST_HEAD && len >= HOST_HEAD && len <= n - at);
		host_take_frame(h, channel, all + at, len);
		must(at + len == n || len % 8 == 0);
		at += len;
	}
	h->packets++;
	if (!h->keep) {
		host_complete(chan, pkt->id, h->data_status);
		return;
	}
	must(h->kept_count < 2048);
	h->kept[h->kept_count].chan = chan;
	h->kept[h->kept_count++].id = pkt->id;
}

/* Complete what was kept. */
static inline void host_let_go(struct host *h)
{
	uint32_t i;

	for (i = 0; i < h->kept_count; i++)
		host_complete(h->kept[i].chan, h->kept[i].id, h->data_status);
	h->kept_count = 0;
}

/* ---- NVSP ---- */

static inline uint32_t host_init(struct host *h, const uint8_t *in, uint8_t *out)
{
	const uint32_t v = host_get32(in + 4);

	must_eq(host_get32(in + 8), v);
	must(h->tried_count < 8);
	h->tried[h->tried_count++] = v;
	host_put(out, 4, 2);
	host_put(out + 4, 4, UINT32_MAX);
	host_put(out + 8, 4, 34);
	host_put(out + 12, 4, v <= h->version);
	return 32;
}

static inline uint32_t host_buffer(struct host *h, struct vmbus_chan *chan, const uint8_t *in,
				   uint8_t *out)
{
	const bool receive = host_get32(in) == 101;
	struct vmbus_sgl *const sgl = receive ? &h->receive : &h->send;

	sgl->pieces = receive ? h->receive_pieces : h->send_pieces;
	sgl->room = HOST_PIECES;
	must_eq(vmbus_chan_gpadl(chan, host_get32(in + 4), receive ? VMBUS_READ_WRITE : VMBUS_READ,
				 sgl),
		0);
	must_eq(host_get(in + 8, 2), receive ? 0xCAFE : 0);
	host_put(out, 4, receive ? 102 : 105);
	host_put(out + 4, 4, host_get32(in) == h->refuse_type ? h->refuse_status : 1);
	if (!receive) {
		host_put(out + 8, 4, h->send_section);
		return 32;
	}
	if (h->receive_count == 0)
		h->receive_count = (uint32_t)(sgl->bytes / h->receive_section);
	host_put(out + 8, 4, 1);
	host_put(out + 16, 4, h->receive_section);
	host_put(out + 20, 4, h->receive_count);
	host_put(out + 24, 4, h->receive_section * h->receive_count);
	return 32;
}

static inline uint32_t host_subchannels(struct host *h, const uint8_t *in, uint8_t *out)
{
	uint32_t n = host_get32(in + 8);

	must_eq(host_get32(in + 4), 1);
	if (h->grant != UINT32_MAX)
		n = h->grant;
	host_put(out, 4, 133);
	host_put(out + 4, 4, h->refuse_type == 133 ? h->refuse_status : 1);
	host_put(out + 8, 4, n);
	if (h->offers == UINT32_MAX)
		h->offers = n;
	return 32;
}

static inline void host_plain(struct host *h, const uint8_t *in)
{
	switch (host_get32(in)) {
	case 100:
		must_eq(host_get32(in + 4), 6);
		h->minor = host_get32(in + 8);
		break;
	case 125:
		h->mtu = host_get32(in + 4);
		h->caps = host_get(in + 12, 8);
		break;
	case 103:
		must_eq(host_get(in + 4, 2), 0xCAFE);
		h->revokes++;
		break;
	case 106:
		h->revokes++;
		break;
	default:
		must(false);
	}
}

static inline void host_nvsp(struct host *h, struct vmbus_chan *chan,
			     const struct vmbus_packet *pkt)
{
	const uint32_t type = host_get32(pkt->payload);
	const bool asked = (pkt->flags & VMBUS_PKT_FLAG_COMPLETE) != 0;
	uint8_t out[40] = { 0 };
	uint32_t n = 0;

	must(h->type_count < 64);
	h->types[h->type_count++] = type;
	must_eq(asked, type == 1 || type == 101 || type == 104 || type == 133);
	if (!asked) {
		host_plain(h, pkt->payload);
		return;
	}
	if (type == 1)
		n = host_init(h, pkt->payload, out);
	else if (type == 133)
		n = host_subchannels(h, pkt->payload, out);
	else
		n = host_buffer(h, chan, pkt->payload, out);
	if (type == h->cut_type)
		n = h->cut_bytes;
	if (type == h->odd_type)
		host_put(out, 4, 99);
	host_must_eq(vmbus_chan_complete(chan, pkt->id, out, n), 0);
	if (type == 133 && h->offers)
		host_must_eq(vmbus_chan_offer_subchannels(chan, h->offers), 0);
}

static inline uint32_t host_number(const struct host *h, const struct vmbus_chan *chan)
{
	uint32_t i;

	for (i = 0; i < HOST_CHANNELS; i++)
		if (h->channel[i] == chan)
			return i;
	return UINT32_MAX;
}

static inline void host_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct host *const h = vmbus_chan_ctx(chan);
	const uint32_t channel = host_number(h, chan);
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (pkt[i].type == VMBUS_PKT_COMPLETION) {
			if (pkt[i].len >= 8 && host_get32(pkt[i].payload) == 108 &&
			    host_get32(pkt[i].payload + 4) != 1)
				h->returned_bad++;
			h->returned_ids[h->returned++ % 512] = pkt[i].id;
			continue;
		}
		must_eq(pkt[i].len, 40);
		if (host_get32(pkt[i].payload) == 107)
			host_rndis(h, chan, channel, &pkt[i]);
		else
			host_nvsp(h, chan, &pkt[i]);
	}
}

static inline int host_open(struct vmbus_chan *chan, void *ctx)
{
	struct host *const h = ctx;
	struct vmbus_chan_info info;

	vmbus_chan_info(chan, &info);
	if (info.sub_index >= HOST_CHANNELS)
		return VMBUS_E_STATE;
	h->channel[info.sub_index] = chan;
	h->opens++;
	return 0;
}

static inline int host_close(struct vmbus_chan *chan)
{
	struct host *const h = vmbus_chan_ctx(chan);
	const uint32_t number = host_number(h, chan);

	h->closes++;
	must(number < HOST_CHANNELS);
	h->channel[number] = NULL;
	if (number == 0) {
		vmbus_sgl_release(&h->receive);
		vmbus_sgl_release(&h->send);
		h->kept_count = 0;
	}
	return 0;
}

static const struct vmbus_vsp host_vsp = {
	.struct_bytes = sizeof(host_vsp),
	.name = "host",
	.class_id = VMBUS_NET_CLASS,
	.open = host_open,
	.packets = host_packets,
	.close = host_close,
	.flags = VMBUS_VSP_READ_WHILE_FULL,
};

static inline void host_start(struct host *h)
{
	static const uint8_t mac[6] = { 2, 0, 0, 1, 2, 3 };

	memset(h, 0, sizeof(*h));
	h->frame = calloc(HOST_FRAMES, sizeof(*h->frame));
	h->chan = calloc(HOST_CHANNELS, sizeof(*h->chan));
	must(h->frame != NULL && h->chan != NULL);
	h->version = 0x00060001;
	h->receive_section = 2048;
	h->send_section = 6144;
	h->frames_max = 8;
	h->transfer = 0xEFFFFFFFu;
	h->frame_size = 9202;
	h->speed = 100000;
	h->queues = HOST_CHANNELS;
	h->entries = 128;
	h->tx4 = 0x155;
	h->tx6 = 0x55;
	h->lso4 = h->lso6 = 62780;
	h->offload_bytes = 156;
	h->grant = h->offers = UINT32_MAX;
	h->data_status = 1;
	h->mtu = 1514;
	h->next_id = 1;
	memcpy(h->mac, mac, 6);
	h->l = loop_new(NULL, NULL);
	must_eq(vmbus_bus_offer(h->l->bus, &host_vsp, h, NULL, &h->offered), 0);
	loop_connect(h->l);
}

static inline void host_free(struct host *h)
{
	uint32_t i;

	loop_free(h->l);
	for (i = 0; i < h->frames; i++)
		free(h->frame[i].data);
	free(h->frame);
	free(h->chan);
}

/* Frames that came are forgotten. */
static inline void host_forget(struct host *h)
{
	while (h->frames)
		free(h->frame[--h->frames].data);
	h->packets = 0;
}

/* ---- the client ---- */

static inline void host_on_ready(void *ctx, int err)
{
	struct host *const h = ctx;

	h->ready++;
	h->ready_err = err;
	must_eq(h->closed, 0);
	if (err == 0 && h->stop_in)
		must_eq(vmbus_netvsc_stop(&h->nv), 0);
}

static inline void host_on_opened(void *ctx, uint32_t channel)
{
	struct host *const h = ctx;

	h->opened++;
	must(vmbus_netvsc_channel(&h->nv, channel) != NULL);
}

static inline void host_on_writable(void *ctx, uint32_t channel)
{
	(void)channel;
	((struct host *)ctx)->writable++;
}

static inline void host_on_readable(void *ctx, uint32_t channel)
{
	struct host *const h = ctx;

	h->readable++;
	if (h->on_readable)
		h->on_readable(h, channel);
}

static inline void host_on_link(void *ctx, bool up)
{
	struct host *const h = ctx;

	h->links++;
	h->link_up = up;
	must_eq(h->nv.up, up);
}

static inline void host_on_closed(void *ctx)
{
	struct host *const h = ctx;

	h->closed++;
	must_eq(h->ready, 1);
	must_eq(h->ready_err, 0);
}

static inline void host_on_done(struct vmbus_netvsc_req *req)
{
	struct host *const h = req->ctx;

	h->done++;
	h->last_done = req;
}

static inline struct vmbus_netvsc_opts host_opts(struct host *h)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts) };

	opts.chan = h->chan;
	opts.receive_bytes = 256u << 10;
	opts.send_bytes = 256u << 10;
	opts.ready = host_on_ready;
	opts.opened = host_on_opened;
	opts.writable = host_on_writable;
	opts.readable = host_on_readable;
	opts.link = host_on_link;
	opts.closed = host_on_closed;
	opts.ctx = h;
	return opts;
}

static inline struct vmbus_vsc *host_vsc(struct host *h)
{
	struct vmbus_vsc *vsc = vmbus_vsc_find(h->l->guest, &host_class, 0);

	must(vsc != NULL);
	return vsc;
}

/* Start, and wait for ready(); opts NULL: the usual ones.  Returns what ready() told. */
static inline int host_client(struct host *h, const struct vmbus_netvsc_opts *opts)
{
	const struct vmbus_netvsc_opts usual = host_opts(h);

	must_eq(vmbus_netvsc_start(&h->nv, host_vsc(h), opts ? opts : &usual), 0);
	loop_settle(h->l);
	must_eq(h->ready, 1);
	return h->ready_err;
}

/* A frame of bytes, in one piece, whose bytes are made from seed. */
static inline void host_pattern(uint8_t *p, uint32_t bytes, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < bytes; i++)
		p[i] = (uint8_t)(seed * 31u + i * 7u + (i >> 8));
}

static inline int host_send_one(struct host *h, uint32_t channel, const void *data, uint32_t bytes)
{
	const struct vmbus_iov piece = { data, bytes };
	const struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = bytes };

	return vmbus_netvsc_send(&h->nv, channel, &frame, 1);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Of the network device's host by hand: what it has, how it delivers frames, and its answers to RNDIS.
 * See clienthost.h, which is the rest.
 */
#ifndef TESTS_NET_CLIENTHOST_RNDIS_H
#define TESTS_NET_CLIENTHOST_RNDIS_H

#include "loop.h"

#include <vmbus/netvsc.h>

/* What cannot be done, since the client has ended or was told nonsense, is a failure of the test; but
   where everything is input. */
#if defined(CLIENTHOST_LENIENT)
#define host_must_eq(a, b) ((void)((a) == (b)))
#else
#define host_must_eq(a, b) must_eq(a, b)
#endif

#define HOST_FRAMES 4096u
#define HOST_FRAME_BYTES 66000u
#define HOST_CHANNELS 4u
#define HOST_HEAD 44u
#define HOST_PIECES 64u

static const struct vmbus_guid host_class = VMBUS_NET_CLASS;

/* A frame that came. */
struct host_frame {
	uint32_t channel, packet; /* which packet of all it was in */
	uint32_t bytes, message;  /* of the frame, of its message */
	uint32_t ppi_bytes;
	uint8_t ppi[96];
	uint8_t *data;
};

struct host {
	struct loop *l;
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan *chan;
	struct vmbus_netvsc_burst burst;
	/* What it does. */
	uint32_t version, receive_section, receive_count, send_section;
	uint32_t frames_max, transfer, frame_size, media, speed, queues, entries;
	uint32_t tx4, tx6, lso4, lso6, rsc, offload_bytes;
	uint32_t grant, offers; /* sub-channels; UINT32_MAX: as many as are asked for */
	uint8_t mac[6];
	uint32_t refuse_type, refuse_status; /* a message of NVSP */
	uint32_t refuse_oid;		     /* with 0xC00000BB */
	uint32_t cut_type, cut_bytes;	     /* a message of NVSP whose answer is so short */
	uint32_t odd_type;		     /* one whose answer is of another type */
	uint32_t silent_oid;		     /* never answered */
	uint32_t long_oid;		     /* answered with more than fits */
	uint32_t stop_at_oid;		     /* the client is stopped when it comes */
	bool copy_fails;		     /* RNDIS messages are refused as such */
	bool late_copy;			     /* the answer comes before the completion */
	bool keep;			     /* data packets are not completed */
	uint32_t data_status;
	/* What came. */
	uint32_t types[64], type_count;
	uint32_t oids[64], oid_count;
	uint32_t tried[8], tried_count;
	uint32_t mtu, minor;
	uint64_t caps;
	uint32_t filter, halts, revokes, alive;
	uint8_t set[1024]; /* information of the last set */
	uint32_t set_bytes;
	uint8_t offloads[28], scale[600], param[128];
	uint32_t scale_bytes, param_bytes;
	struct host_frame *frame;
	uint32_t frames, packets, bad_messages;
	struct {
		struct vmbus_chan *chan;
		uint64_t id;
	} kept[2048];
	uint32_t kept_count;
	uint32_t returned, returned_bad; /* completions of what was delivered */
	uint64_t returned_ids[512];
	struct vmbus_chan *offered, *channel[HOST_CHANNELS];
	uint32_t opens, closes;
	struct vmbus_sgl receive, send;
	struct vmbus_piece receive_pieces[HOST_PIECES], send_pieces[HOST_PIECES];
	uint32_t next_section;
	uint64_t next_id;
	/* What the client said. */
	uint32_t ready, opened, closed, writable, readable, links, done;
	int ready_err;
	bool link_up;
	uint32_t stop_in; /* 1: ready() stops it */
	struct vmbus_netvsc_req *last_done;
	void (*on_readable)(struct host *h, uint32_t channel);
};

static inline uint64_t host_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static inline uint32_t host_get32(const uint8_t *p)
{
	return (uint32_t)host_get(p, 4);
}

static inline void host_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

/* ---- delivering ---- */

/* A transfer packet with n ranges {bytes, offset}; kind 0: data, 1: control. */
static inline uint64_t host_ranges(struct host *h, struct vmbus_chan *chan, uint32_t kind,
				   const uint32_t (*range)[2], uint32_t n)
{
	static uint8_t ext[8 + 8 * 2048];
	uint8_t msg[40] = { 0 };
	const uint64_t id = h->next_id++;
	struct vmbus_msg out = { .id = id, .type = VMBUS_PKT_XFER_PAGES, .data = msg, .len = 40 };
	uint32_t i;

	memset(ext, 0, 8);
	host_put(ext, 2, 0xCAFE);
	host_put(ext + 4, 4, n);
	for (i = 0; i < n; i++) {
		host_put(ext + 8 + i * 8, 4, range[i][0]);
		host_put(ext + 12 + i * 8, 4, range[i][1]);
	}
	host_put(msg, 4, 107);
	host_put(msg + 4, 4, kind);
	host_put(msg + 8, 4, UINT32_MAX);
	out.ext = ext;
	out.ext_len = 8 + 8 * n;
	out.flags = VMBUS_PKT_FLAG_COMPLETE;
	host_must_eq(vmbus_chan_send(chan, &out, 1), 1);
	return id;
}

static inline uint32_t host_section(struct host *h)
{
	const uint32_t at = h->next_section;

	h->next_section = at + 1 == h->receive_count ? 0 : at + 1;
	return at * h->receive_section;
}

static inline void host_write(struct host *h, uint32_t offset, const void *from, uint32_t bytes)
{
	host_must_eq(vmbus_sgl_write(&h->receive, offset, from, bytes), bytes);
}

/* The message of a frame, with ppi, into to.  Returns its bytes. */
static inline uint32_t host_message(uint8_t *to, const void *data, uint32_t bytes, const void *ppi,
				    uint32_t ppi_bytes)
{
	memset(to, 0, HOST_HEAD);
	host_put(to, 4, 1);
	host_put(to + 4, 4, HOST_HEAD + ppi_bytes + bytes);
	host_put(to + 8, 4, 36 + ppi_bytes);
	host_put(to + 12, 4, bytes);
	host_put(to + 28, 4, ppi_bytes ? 36 : 0);
	host_put(to + 32, 4, ppi_bytes);
	if (ppi_bytes)
		memcpy(to + HOST_HEAD, ppi, ppi_bytes);
	memcpy(to + HOST_HEAD + ppi_bytes, data, bytes);
	return HOST_HEAD + ppi_bytes + bytes;
}

/* One element of per-packet information. */
static inline uint32_t host_ppi(uint8_t *to, uint32_t type, uint32_t word)
{
	host_put(to, 4, 16);
	host_put(to + 4, 4, type);
	host_put(to + 8, 4, 12);
	host_put(to + 12, 4, word);
	return 16;
}

/* A frame in a section of its own. */
static inline void host_frame_put(struct host *h, const void *data, uint32_t bytes, const void *ppi,
				  uint32_t ppi_bytes, uint32_t range[2])
{
	static uint8_t msg[HOST_FRAME_BYTES];

	range[0] = host_message(msg, data, bytes, ppi, ppi_bytes);
	range[1] = host_section(h);
	must(range[0] <= h->receive_section);
	host_write(h, range[1], msg, range[0]);
}

static inline uint64_t host_deliver(struct host *h, uint32_t channel, const void *data,
				    uint32_t bytes, const void *ppi, uint32_t ppi_bytes)
{
	uint32_t range[1][2];

	host_frame_put(h, data, bytes, ppi, ppi_bytes, range[0]);
	return host_ranges(h, h->channel[channel], 0, (const uint32_t(*)[2])range, 1);
}

/* A message of RNDIS that is no frame. */
static inline void host_tell(struct host *h, const uint8_t *msg, uint32_t bytes)
{
	uint32_t range[1][2] = { { bytes, host_section(h) } };

	host_write(h, range[0][1], msg, bytes);
	(void)host_ranges(h, h->channel[0], 1, (const uint32_t(*)[2])range, 1);
}

static inline void host_indicate(struct host *h, uint32_t status, const void *data, uint32_t bytes)
{
	uint8_t msg[64] = { 0 };

	host_put(msg, 4, 7);
	host_put(msg + 4, 4, 20 + bytes);
	host_put(msg + 8, 4, status);
	host_put(msg + 12, 4, bytes);
	host_put(msg + 16, 4, bytes ? 12 : 0);
	if (bytes)
		memcpy(msg + 20, data, bytes);
	host_tell(h, msg, 20 + bytes);
}

/* ---- requests of RNDIS ---- */

static inline void host_put_offload(struct host *h, uint8_t *p)
{
	p[0] = 0xA7;
	p[1] = 3;
	host_put(p + 2, 2, h->offload_bytes);
	host_put(p + 4, 4, 2);
	host_put(p + 8, 4, h->tx4);
	host_put(p + 12, 4, 2);
	host_put(p + 16, 4, h->tx4);
	host_put(p + 20, 4, 2);
	host_put(p + 24, 4, h->tx6);
	host_put(p + 28, 4, 2);
	host_put(p + 32, 4, h->tx6);
	host_put(p + 80, 4, h->lso4 ? 2 : 0);
	host_put(p + 84, 4, h->lso4);
	host_put(p + 88, 4, 2);
	host_put(p + 92, 4, h->lso6 ? 2 : 0);
	host_put(p + 96, 4, h->lso6);
	host_put(p + 100, 4, 2);
	host_put(p + 104, 4, 5);
	if (h->offload_bytes >= 156)
		p[144] = p[145] = (uint8_t)h->rsc;
}

/* The information of an answer; UINT32_MAX: not supported. */
static inline uint32_t host_query(struct host *h, uint32_t oid, uint8_t *p)
{
	switch (oid) {
	case 0x00010106:
		host_put(p, 4, h->frame_size < h->mtu - 14 ? h->frame_size : h->mtu - 14);
		return 4;
	case 0x01010101:
		memcpy(p, h->mac, 6);
		return 6;
	case 0xFC01020D:
		host_put_offload(h, p);
		return h->offload_bytes;
	case 0x00010114:
		host_put(p, 4, h->media);
		return 4;
	case 0x00010107:
		host_put(p, 4, h->speed);
		return 4;
	case 0x00010203:
		p[0] = 0x88;
		p[1] = 2;
		host_put(p + 2, 2, 18);
		host_put(p + 4, 4, 0x301);
		host_put(p + 8, 4, 1);
		host_put(p + 12, 4, h->queues);
		host_put(p + 16, 2, h->entries);
		return 18;
	case 0x00020101:
		host_put(p, 4, h->frames);
		return 4;
	default:
		return UINT32_MAX;
	}
}

static inline bool host_set(struct host *h, uint32_t oid, const uint8_t *info, uint32_t bytes)
{
	must(bytes <= sizeof(h->set));
	memcpy(h->set, info, bytes);
	h->set_bytes = bytes;
	switch (oid) {
	case 0x0001010E:
		must_eq(bytes, 4);
		h->filter = host_get32(info);
		return true;
	case 0xFC01020C:
		must_eq(bytes, 28);
		memcpy(h->offloads, info, 28);
		return true;
	case 0x00010204:
		must(bytes <= sizeof(h->scale));
		memcpy(h->scale, info, bytes);
		h->scale_bytes = bytes;
		return true;
	case 0x0001021B:
		must(bytes <= sizeof(h->param));
		memcpy(h->param, info, bytes);
		h->param_bytes = bytes;
		return true;
	default:
		return false;
	}
}

static inline void host_ask(struct host *h, const uint8_t *msg, uint32_t bytes)
{
	const uint32_t type = host_get32(msg), oid = host_get32(msg + 12);
	const uint32_t info = host_get32(msg + 16), offset = host_get32(msg + 20);
	uint8_t out[1600] = { 0 };
	uint32_t n = UINT32_MAX;
	bool good;

	must_eq(offset, 20);
	must_eq(bytes, 28 + info);
	must(h->oid_count < 64);
	h->oids[h->oid_count++] = oid;
	good = oid != h->refuse_oid;
	if (good && type == 5)
		good = host_set(h, oid, msg + 28, info);
	else if (good)
		n = host_query(h, oid, out + 24);
	if (type == 4 && n == UINT32_MAX)
		good = false;
	if (type == 4 && good && oid == h->long_oid)
		n = 1200;
	host_put(out, 4, type | 0x80000000u);
	host_put(out + 4, 4, type == 5 ? 16 : 24 + (good ? n : 0));
	memcpy(out + 8, msg + 8, 4);
	host_put(out + 12, 4, good ? 0 : 0xC00000BBu);
	if (type == 4) {
		host_put(out + 16, 4, good ? n : 0);
		host_put(out + 20, 4, 16);
	}
	if (oid == h->stop_at_oid)
		must_eq(vmbus_netvsc_stop(&h->nv), 0);
	if (oid != h->silent_oid)
		host_tell(h, out, host_get32(out + 4));
}

static inline void host_initialize(struct host *h, const uint8_t *msg, uint32_t bytes)
{
	uint8_t out[52] = { 0 };

	must_eq(bytes, 24);
	must_eq(host_get32(msg + 12), 1);
	host_put(out, 4, 0x80000002u);
	host_put(out + 4, 4, 52);
	memcpy(out + 8, msg + 8, 4);
	host_put(out + 12, 4, h->refuse_type == 2 ? h->refuse_status : 0);
	host_put(out + 16, 4, 1);
	host_put(out + 24, 4, 1);
	host_put(out + 32, 4, h->frames_max);
	host_put(out + 36, 4, h->transfer);
	host_put(out + 40, 4, 3);
	host_tell(h, out, 52);
}

static inline void host_control(struct host *h, const uint8_t *msg, uint32_t bytes)
{
	must(bytes >= 12);
	must_eq(host_get32(msg + 4), bytes);
	switch (host_get32(msg)) {
	case 2:
		host_initialize(h, msg, bytes);
		break;
	case 3:
		h->halts++;
		break;
	case 4:
	case 5:
		host_ask(h, msg, bytes);
		break;
	case 0x80000008u:
		h->alive = host_get32(msg + 8);
		break;
	default:
		must(false);
	}
}

#endif

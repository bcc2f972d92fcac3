/* SPDX-License-Identifier: MIT */
/*
 * Frames out of a packet's RNDIS messages.  All that is checked is a private copy: of the whole packet
 * when its messages are small, else of each message's header and of the frame's first bytes.  The rest
 * of a frame stays in the guest's memory, which it may change until the port has sent it.
 *
 * [NET-DATA], [NET-PPI]
 */
#include "net/tx.h"

#include <string.h>

#include "base/untrusted.h"

#define SMALL 512u	     /* a first message up to here: the packet is copied whole */
#define COPY_MAX (16u << 10) /* if it is no longer than this */
#define CHUNK 256u	     /* of a message that is not: headers, and a frame's head most often */
#define MESSAGES_MAX 64u
#define AHEAD 4u	  /* messages that are looked at before those that are asked for */
#define AHEAD_BYTES 2048u /* of each */
#define ETHERNET_BYTES 14u
#define TAG_BYTES 4u

/* ---- bytes of a packet ---- */

/* Move over len bytes, that are there. */
void vmbus__tx_skip(const struct vmbus__tx_packet *p, struct vmbus__tx_at *at, uint32_t len)
{
	at->offset += len;
	while (len >= p->iov[at->piece].len - at->into && at->piece + 1u < p->iovs) {
		len -= (uint32_t)p->iov[at->piece].len - at->into;
		at->piece++;
		at->into = 0;
	}
	at->into += len;
}

/* Copy len bytes, that are there: each is read once. */
void vmbus__tx_read(const struct vmbus__tx_packet *p, struct vmbus__tx_at at, void *to,
		    uint32_t len)
{
	uint8_t *bytes = to;

	while (len) {
		const uint32_t left = (uint32_t)p->iov[at.piece].len - at.into;
		const uint32_t n = len < left ? len : left;

		vmbus__peer_read(bytes, (const uint8_t *)p->iov[at.piece].base + at.into, n);
		bytes += n;
		len -= n;
		at.into += n;
		if (at.into == p->iov[at.piece].len) {
			at.piece++;
			at.into = 0;
		}
	}
}

/* Room for len private bytes, aligned to 8; the caller has seen to it that there is some. */
static uint8_t *take_private(struct vmbus__net_tx *tx, uint32_t len)
{
	uint8_t *const at = tx->private_bytes + tx->used;

	tx->used += (len + 7u) / 8u * 8u;
	return at;
}

static uint32_t private_left(const struct vmbus__net_tx *tx)
{
	return VMBUS__TX_PRIVATE - tx->used;
}

/* Copy what is left of a packet whose messages are small. */
void vmbus__tx_copy_packet(struct vmbus__net_tx *tx, struct vmbus__tx_packet *p)
{
	const uint32_t left = p->bytes - p->at.offset;
	uint8_t head[VMBUS__RNDIS_HEAD_BYTES];

	if (left < sizeof(head) || left > COPY_MAX || left + VMBUS__TX_SLACK > private_left(tx))
		return;
	vmbus__tx_read(p, p->at, head, sizeof(head));
	if (vmbus__net_get32(head + 4) > SMALL)
		return;
	p->copy = take_private(tx, left);
	vmbus__tx_read(p, p->at, p->copy, left);
	p->copied = p->at.offset;
}

/* ---- messages ---- */

/* A message, as far as it is private. */
struct message {
	uint8_t *at;   /* its first bytes */
	uint32_t have; /* of them */
	uint32_t bytes;
	uint32_t data, data_bytes; /* the frame, from its begin */
	uint32_t ppi, ppi_bytes;
};

/* Its first bytes; all of it when the packet is copied. */
static bool begin_message(struct vmbus__net_tx *tx, struct vmbus__tx_packet *p, struct message *m)
{
	const uint32_t left = p->bytes - p->at.offset;

	if (VMBUS_LIKELY(left >= VMBUS__RNDIS_PACKET_BYTES && p->copy)) {
		m->at = p->copy + (p->at.offset - p->copied);
		m->have = left;
		return true;
	}
	if (left < VMBUS__RNDIS_PACKET_BYTES)
		return false;
	m->at = take_private(tx, CHUNK);
	m->have = left < CHUNK ? left : CHUNK;
	vmbus__tx_read(p, p->at, m->at, m->have);
	m->bytes = vmbus__net_get32(m->at + 4);
	if (m->bytes < VMBUS__RNDIS_PACKET_BYTES)
		return false;
	if (m->have > m->bytes)
		m->have = m->bytes;
	return true;
}

/* Its fields, of which nothing reaches past it. */
static bool check_message(const struct vmbus__tx_packet *p, struct message *m)
{
	struct vmbus__rndis_packet packet;

	vmbus__rndis_packet_get(&packet, m->at);
	m->bytes = packet.bytes;
	if (packet.type != VMBUS__RNDIS_PACKET || m->bytes < VMBUS__RNDIS_PACKET_BYTES ||
	    m->bytes > p->bytes - p->at.offset)
		return false;
	if (packet.data_offset > m->bytes - VMBUS__RNDIS_HEAD_BYTES)
		return false;
	m->data = packet.data_offset + VMBUS__RNDIS_HEAD_BYTES;
	m->data_bytes = packet.data_bytes;
	if (m->data_bytes == 0 || m->data_bytes > m->bytes - m->data)
		return false;
	m->ppi_bytes = packet.ppi_bytes;
	m->ppi = 0;
	if (VMBUS_LIKELY(!m->ppi_bytes))
		return true;
	if (packet.ppi_offset > m->bytes - VMBUS__RNDIS_HEAD_BYTES)
		return false;
	m->ppi = packet.ppi_offset + VMBUS__RNDIS_HEAD_BYTES;
	return m->ppi_bytes <= VMBUS__PPI_BYTES_MAX && m->ppi_bytes <= m->bytes - m->ppi;
}

static bool get_ppis(const struct vmbus__tx_packet *p, const struct message *m,
		     struct vmbus__ppis *ppis)
{
	uint8_t bytes[VMBUS__PPI_BYTES_MAX];
	struct vmbus__tx_at at = p->at;

	if (VMBUS_LIKELY(m->ppi <= m->have && m->ppi_bytes <= m->have - m->ppi))
		return vmbus__ppi_get(ppis, m->at + m->ppi, m->ppi_bytes);
	vmbus__tx_skip(p, &at, m->ppi);
	vmbus__tx_read(p, at, bytes, m->ppi_bytes);
	return vmbus__ppi_get(ppis, bytes, m->ppi_bytes);
}

/* ---- frames ---- */

/* The first bytes of the frame, private: returns how many. */
static uint32_t get_head(struct vmbus__net_tx *tx, const struct vmbus__tx_packet *p,
			 const struct message *m, uint8_t **head)
{
	const uint32_t want = m->data_bytes < VMBUS_FRAME_HEAD ? m->data_bytes : VMBUS_FRAME_HEAD;
	struct vmbus__tx_at at = p->at;

	if (VMBUS_LIKELY(m->data <= m->have && want <= m->have - m->data &&
			 m->data >= VMBUS__TX_SLACK)) {
		const uint32_t have = m->have - m->data;

		*head = m->at + m->data;
		return have < m->data_bytes ? have : m->data_bytes;
	}
	*head = take_private(tx, VMBUS__TX_SLACK + VMBUS_FRAME_HEAD) + VMBUS__TX_SLACK;
	vmbus__tx_skip(p, &at, m->data);
	vmbus__tx_read(p, at, *head, want);
	return want;
}

/* Pieces of the guest's memory behind the head.  Returns how many. */
static uint32_t get_rest(const struct vmbus__tx_packet *p, uint32_t skip, uint32_t len,
			 struct vmbus_iov *piece)
{
	struct vmbus__tx_at at = p->at;
	uint32_t n = 0;

	vmbus__tx_skip(p, &at, skip);
	for (; len; at.piece++, at.into = 0) {
		const uint32_t left = (uint32_t)p->iov[at.piece].len - at.into;
		const uint32_t some = len < left ? len : left;

		if (!some)
			continue;
		piece[n++] = (struct vmbus_iov){
			.base = (const uint8_t *)p->iov[at.piece].base + at.into, .len = some
		};
		len -= some;
	}
	return n;
}

/* A frame that does not go out is counted, but once: a burst that the port did not take is made again. */
static void count_dropped(struct vmbus__net_chan *ch, const struct vmbus__tx_packet *p,
			  enum vmbus__net_count which)
{
	vmbus__net_count(ch, which, p->at.offset >= p->dropped);
}

/* What the guest wants done with a frame.  Sums are counted but once, too. */
static bool offload(struct vmbus__net_chan *ch, struct vmbus__tx_packet *p,
		    struct vmbus_frame *frame, uint8_t **head, const struct vmbus__ppis *ppis)
{
	const uint64_t sums = ch->count[VMBUS__NET_SUMMED];
	const bool done = vmbus__tx_offload(ch, frame, head, ppis);

	if (p->at.offset < p->summed)
		ch->count[VMBUS__NET_SUMMED] = sums;
	else
		p->summed = p->at.offset + 1u;
	return done;
}

/* Whether a frame goes out at all. */
static bool is_wanted(struct vmbus__net_chan *ch, const struct vmbus__tx_packet *p,
		      const struct vmbus_frame *frame, const uint8_t *head)
{
	const uint32_t tag = head[12] == 0x81 && head[13] == 0 ? TAG_BYTES : 0;

	if (VMBUS_UNLIKELY(!ch->shape.running || !ch->shape.link)) {
		count_dropped(ch, p, VMBUS__NET_STOPPED);
		return false;
	}
	if (VMBUS_LIKELY(frame->bytes <= ch->shape.mtu + ETHERNET_BYTES + tag ||
			 frame->flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)))
		return true;
	count_dropped(ch, p, VMBUS__NET_SENT_BAD);
	return false;
}

/* The frame of a message joins the burst. */
static enum vmbus__tx_got make_frame(struct vmbus__net_chan *ch, struct vmbus__tx_packet *p,
				     const struct message *m)
{
	struct vmbus__net_tx *const tx = ch->tx;
	struct vmbus_frame *const frame = &tx->frame[tx->n];
	struct vmbus_iov *const piece = &tx->piece[tx->pieces];
	struct vmbus__ppis ppis = { 0 };
	uint32_t pieces = 1, have;
	uint8_t *head;

	if (VMBUS_UNLIKELY(m->data_bytes < ETHERNET_BYTES ||
			   m->data_bytes > VMBUS_FRAME_BYTES_MAX)) {
		count_dropped(ch, p, VMBUS__NET_SENT_BAD);
		return VMBUS__TX_NOTHING;
	}
	if (m->ppi_bytes && !get_ppis(p, m, &ppis))
		return VMBUS__TX_BAD;
	have = get_head(tx, p, m, &head);
	if (have < m->data_bytes)
		pieces += get_rest(p, m->data + have, m->data_bytes - have, piece + 1);
	*frame = (struct vmbus_frame){ .piece = piece, .pieces = pieces, .bytes = m->data_bytes };
	*piece = (struct vmbus_iov){ .base = head, .len = have };
	if (VMBUS_UNLIKELY(ppis.has) && !offload(ch, p, frame, &head, &ppis)) {
		count_dropped(ch, p, VMBUS__NET_SENT_BAD);
		return VMBUS__TX_NOTHING;
	}
	if (!is_wanted(ch, p, frame, head))
		return VMBUS__TX_NOTHING;
	tx->pieces += pieces;
	return VMBUS__TX_FRAME;
}

/* Room for any frame of the packet. */
static bool has_room(const struct vmbus__net_tx *tx, const struct vmbus__tx_packet *p)
{
	return tx->n < VMBUS_PORT_BURST && p->iovs + 2u <= VMBUS__TX_PIECES - tx->pieces &&
	       private_left(tx) >= CHUNK + 2u * (VMBUS__TX_SLACK + VMBUS_FRAME_HEAD);
}

/* Ask for a message of that size some messages further on. */
static inline void ask_ahead(const struct vmbus__tx_packet *p, uint32_t offset, uint32_t bytes)
{
	const uint32_t len = bytes < AHEAD_BYTES ? bytes : AHEAD_BYTES;
	const uint64_t from = offset + (uint64_t)AHEAD * bytes;

	if (from + len <= p->bytes)
		vmbus__peer_will_read_all((uintptr_t)p->iov[0].base + (uintptr_t)from, len);
}

enum vmbus__tx_got vmbus__tx_next(struct vmbus__net_chan *ch, struct vmbus__tx_packet *p)
{
	struct vmbus__net_tx *const tx = ch->tx;
	enum vmbus__tx_got got;
	struct message m;

	if (!has_room(tx, p))
		return VMBUS__TX_NO_ROOM;
	if (VMBUS_UNLIKELY(p->messages >= MESSAGES_MAX) || !begin_message(tx, p, &m) ||
	    !check_message(p, &m))
		return VMBUS__TX_BAD;
	if (p->iovs == 1 && !p->copy)
		ask_ahead(p, p->at.offset, m.bytes);
	got = make_frame(ch, p, &m);
	if (VMBUS_UNLIKELY(got == VMBUS__TX_BAD))
		return got;
	if (VMBUS_LIKELY(got == VMBUS__TX_FRAME)) {
		tx->made[tx->n++] = (struct vmbus__tx_made){ .packet = p,
							     .before = p->at,
							     .messages = p->messages };
		p->out++;
	} else {
		if (p->at.offset >= p->dropped)
			p->dropped = p->at.offset + 1u;
		/* Its sum may have been made. */
		ch->tx_work += VMBUS__TX_WORK_FRAME + m.data_bytes;
	}
	p->messages++;
	vmbus__tx_skip(p, &p->at, m.bytes);
	p->all = p->at.offset == p->bytes;
	return got;
}

/* ---- frames of the commonest kind ---- */

/* Whether a private message, of which left bytes may follow, is a frame of up to most bytes, the header
   right before it and nothing said of it. */
static inline bool is_plain(const uint8_t *m, uint32_t left, uint32_t most)
{
	const uint32_t bytes = vmbus__net_get32(m + 4);
	const uint32_t len = vmbus__net_get32(m + VMBUS__RNDIS_AT_DATA_BYTES);

	return vmbus__net_get32(m) == VMBUS__RNDIS_PACKET && bytes <= left &&
	       vmbus__net_get32(m + VMBUS__RNDIS_AT_DATA_OFFSET) == VMBUS__RNDIS_PPI_OFFSET &&
	       !vmbus__net_get32(m + VMBUS__RNDIS_AT_PPI_BYTES) &&
	       bytes >= VMBUS__RNDIS_PACKET_BYTES + ETHERNET_BYTES && len >= ETHERNET_BYTES &&
	       len <= bytes - VMBUS__RNDIS_PACKET_BYTES && len <= most;
}

/* Its frame joins the burst: have bytes of it are private, the rest is in the guest's memory. */
static inline void add_plain(struct vmbus__net_tx *tx, struct vmbus__tx_packet *p, uint8_t *m,
			     uint32_t offset, uint32_t have)
{
	struct vmbus_iov *const piece = &tx->piece[tx->pieces];
	const uint32_t len = vmbus__net_get32(m + VMBUS__RNDIS_AT_DATA_BYTES);
	const bool all = len <= have;

	piece[0] = (struct vmbus_iov){ .base = m + VMBUS__RNDIS_PACKET_BYTES,
				       .len = all ? len : have };
	if (!all)
		piece[1] = (struct vmbus_iov){
			.base = (const uint8_t *)p->iov[0].base + offset +
				VMBUS__RNDIS_PACKET_BYTES + have,
			.len = len - have,
		};
	tx->frame[tx->n] =
		(struct vmbus_frame){ .piece = piece, .pieces = all ? 1 : 2, .bytes = len };
	tx->made[tx->n++] = (struct vmbus__tx_made){ .packet = p,
						     .before = { .offset = offset, .into = offset },
						     .messages = p->messages++ };
	p->out++;
	tx->pieces += all ? 1 : 2;
}

/* Of a packet that is copied whole.  Returns where the first other message begins. */
static uint32_t plain_small(struct vmbus__net_tx *tx, struct vmbus__tx_packet *p, uint32_t room,
			    uint32_t most)
{
	uint32_t offset = p->at.offset;

	for (; room && p->bytes - offset >= VMBUS__RNDIS_PACKET_BYTES; room--) {
		uint8_t *const m = p->copy + (offset - p->copied);

		if (!is_plain(m, p->bytes - offset, most))
			break;
		add_plain(tx, p, m, offset, most);
		offset += vmbus__net_get32(m + 4);
	}
	return offset;
}

/* Of a packet in one piece whose messages are large: the begin of each is copied. */
static uint32_t plain_large(struct vmbus__net_tx *tx, struct vmbus__tx_packet *p, uint32_t room,
			    uint32_t most)
{
	const uint8_t *const base = p->iov[0].base;
	uint32_t offset = p->at.offset;

	for (; room && p->bytes - offset >= CHUNK && has_room(tx, p); room--) {
		uint8_t *const m = tx->private_bytes + tx->used;
		uint32_t bytes;

		vmbus__peer_read(m, base + offset, CHUNK);
		if (!is_plain(m, p->bytes - offset, most))
			break;
		tx->used += CHUNK;
		bytes = vmbus__net_get32(m + 4);
		ask_ahead(p, offset, bytes);
		add_plain(tx, p, m, offset, CHUNK - VMBUS__RNDIS_PACKET_BYTES);
		offset += bytes;
	}
	return offset;
}

void vmbus__tx_plain(struct vmbus__net_chan *ch, struct vmbus__tx_packet *p)
{
	struct vmbus__net_tx *const tx = ch->tx;
	const uint32_t most = ch->shape.mtu + ETHERNET_BYTES;
	uint32_t room = VMBUS_PORT_BURST - tx->n, offset;

	if (room > VMBUS__TX_PIECES - tx->pieces)
		room = VMBUS__TX_PIECES - tx->pieces;
	if (room > MESSAGES_MAX - p->messages)
		room = MESSAGES_MAX - p->messages;
	if (!ch->shape.running || !ch->shape.link || p->iovs != 1u)
		return;
	offset = p->copy ? plain_small(tx, p, room, most) : plain_large(tx, p, room, most);
	p->at.offset = p->at.into = offset;
	p->all = offset == p->bytes;
}

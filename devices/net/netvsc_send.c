/* SPDX-License-Identifier: MIT */
/*
 * Frames from the network device's client to the host: copied, or built in place, in sections of the
 * send buffer, of which each is one packet of the ring; a frame that is larger than a section lies in
 * several.  Runs on the thread of the channel, and touches nothing that other threads write.
 * [NET-DATA]
 *
 * Invariants: the send buffer is only written, never read, but for checksums, of which a wrong one is
 * all that can come.  A section belongs to the channel from divide() on; it is free, open (being
 * filled), or the host's until the completion, whose cookie is its number + 1.  What is reserved
 * (held_p) lies in the open one.
 */
#include "netvsc/netvsc_state.h"

#define NONE VMBUS__NETVSC_NONE
#define CHAIN_END UINT16_MAX
#define ALIGN VMBUS__RNDIS_ALIGN
#define RANGES_MAX 32u
#define AHEAD 3u /* frames that are written before those whose lines are asked for */
/* Of a page list: each range may have two pages more than whole ones. */
#define LIST_BYTES (8u + RANGES_MAX * 24u + (VMBUS_FRAME_BYTES_MAX / VMBUS_PAGE_BYTES + 1u) * 8u)

static uint32_t aligned(uint32_t bytes)
{
	return (bytes + ALIGN - 1u) & ~(ALIGN - 1u);
}

static uint8_t *section_at(const struct vmbus_netvsc_chan *chan, uint32_t section)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;

	return nv->buffer_p[VMBUS__NETVSC_SEND].pages +
	       (size_t)(chan->first_p + section) * nv->section_bytes;
}

void vmbus__netvsc_sections(struct vmbus_netvsc_chan *chan, uint32_t first, uint32_t count)
{
	uint32_t i;

	if (count > VMBUS_NETVSC_SECTIONS)
		count = VMBUS_NETVSC_SECTIONS;
	chan->first_p = first;
	chan->count_p = count;
	chan->free_count_p = count;
	for (i = 0; i < count; i++)
		chan->free_p[i] = (uint16_t)(count - 1u - i);
	chan->open_section_p = NONE;
}

/* ---- sections ---- */

static void give(struct vmbus_netvsc_chan *chan, uint32_t section)
{
	uint32_t next;

	for (; section != CHAIN_END; section = next) {
		next = chan->next_p[section];
		chan->free_p[chan->free_count_p++] = (uint16_t)section;
	}
}

static uint32_t take(struct vmbus_netvsc_chan *chan)
{
	const uint32_t section = chan->free_p[--chan->free_count_p];

	chan->next_p[section] = CHAIN_END;
	return section;
}

void vmbus__netvsc_sent(struct vmbus_netvsc_chan *chan, uint32_t section,
			const struct vmbus_packet *pkt)
{
	give(chan, section);
	if (VMBUS_UNLIKELY(!pkt))
		return;
	if (VMBUS_UNLIKELY(pkt->len < 8 ||
			   vmbus__net_get32(pkt->payload) != VMBUS__NVSP_RNDIS_DONE))
		chan->stats_p.bad++;
	else if (VMBUS_UNLIKELY(vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_STATUS) !=
				VMBUS__NVSP_OK))
		chan->stats_p.refused++;
	if (chan->wants_p)
		vmbus__netvsc_send_more(chan);
}

/* Send a section, and with it, in list_bytes of list, what follows it. */
static int send(struct vmbus_netvsc_chan *chan, uint32_t section, uint32_t bytes,
		const uint8_t *list, uint32_t list_bytes)
{
	const struct vmbus__nvsp_rndis rndis = { .channel = VMBUS__NVSP_CHANNEL_DATA,
						 .section = chan->first_p + section,
						 .section_bytes = bytes };
	uint8_t payload[VMBUS__NVSP_BYTES] = { 0 };
	const struct vmbus_msg msg = { .type = list ? VMBUS_PKT_GPA_DIRECT : VMBUS_PKT_INBAND,
				       .data = payload,
				       .len = sizeof(payload),
				       .ext = list,
				       .ext_len = list_bytes };
	int err;

	vmbus__nvsp_rndis_put(payload, &rndis);
	err = vmbus_vsc_request(chan->vsc_p, &msg, (void *)(uintptr_t)(section + 1u));
	if (!err)
		chan->stats_p.sent_packets++;
	return err;
}

/* An open section without a frame is free again, and the place that was reserved in it is gone: nothing
   that is under way would ever bring it back. */
static void give_empty(struct vmbus_netvsc_chan *chan)
{
	if (chan->open_section_p == NONE || chan->open_frames_p)
		return;
	give(chan, chan->open_section_p);
	chan->open_section_p = NONE;
	chan->held_p = false;
}

/* Send the open section, if frames are in it, and with it goes the place that was reserved in it.
   Errors: FULL, and both stay; as vmbus_vsc_request(). */
static int close_section(struct vmbus_netvsc_chan *chan)
{
	int err;

	if (chan->open_section_p == NONE || chan->open_frames_p == 0)
		return 0;
	err = send(chan, chan->open_section_p, chan->open_bytes_p, NULL, 0);
	if (err) {
		chan->wants_p = true;
		return err;
	}
	chan->open_section_p = NONE;
	chan->held_p = false;
	return 0;
}

void vmbus__netvsc_send_more(struct vmbus_netvsc_chan *chan)
{
	struct vmbus_netvsc *const nv = chan->netvsc_p;

	if (chan->number_p == 0)
		vmbus__netvsc_ask_more(nv);
	if (!chan->wants_p)
		return;
	chan->wants_p = false;
	if (close_section(chan))
		return;
	if (nv->opts_p.writable && vmbus__netvsc_state(nv) == VMBUS__NETVSC_READY)
		nv->opts_p.writable(nv->opts_p.ctx, chan->number_p);
}

static int is_full(struct vmbus_netvsc_chan *chan)
{
	chan->stats_p.full++;
	chan->wants_p = true;
	return VMBUS_E_FULL;
}

/*
 * Have the completions, if so many sections are not free.  Callbacks may send meanwhile: what they
 * reserve is given up, and what they commit goes out when this is FULL, so that then at least one
 * section is under way, and its completion brings writable().
 *
 * Returns 0, FULL, or STATE: own_thread, and it has left the channel, which must not be touched.
 */
static int have_sections(struct vmbus_netvsc_chan *chan, uint32_t n)
{
	const bool own = chan->own_p;

	if (VMBUS_LIKELY(chan->free_count_p >= n))
		return 0;
	if (chan->pull_p && vmbus__netvsc_pull(chan) < 0 && own)
		return VMBUS_E_STATE;
	chan->held_p = false;
	give_empty(chan);
	if (chan->free_count_p >= n)
		return 0;
	(void)close_section(chan); /* its error is told by the next call */
	return is_full(chan);
}

/* Whether a message of bytes has room in the open section. */
static bool fits(const struct vmbus_netvsc_chan *chan, uint32_t bytes)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;

	return VMBUS_LIKELY(chan->open_section_p != NONE &&
			    bytes <= nv->room_p - chan->open_bytes_p &&
			    chan->open_frames_p < nv->frames_max);
}

/* Room for a message of bytes in the open section; else in another. */
static int have_room(struct vmbus_netvsc_chan *chan, uint32_t bytes)
{
	int err;

	if (fits(chan, bytes))
		return 0;
	err = close_section(chan);
	if (err)
		return err == VMBUS_E_FULL ? is_full(chan) : err;
	if (chan->open_section_p != NONE) /* one without a frame */
		return 0;
	err = have_sections(chan, 1);
	if (VMBUS_UNLIKELY(err))
		return err;
	err = close_section(chan); /* a callback's, with frames */
	if (VMBUS_UNLIKELY(err))
		return err == VMBUS_E_FULL ? is_full(chan) : err;
	chan->open_section_p = take(chan);
	chan->open_bytes_p = 0;
	chan->open_frames_p = 0;
	return 0;
}

/* ---- one frame ---- */

static void count(struct vmbus_netvsc_chan *chan, uint32_t frame_bytes)
{
	chan->stats_p.sent_frames++;
	chan->stats_p.sent_bytes += frame_bytes;
}

static void add(struct vmbus_netvsc_chan *chan, uint32_t bytes)
{
	chan->open_bytes_p += bytes;
	chan->open_frames_p++;
}

static inline void copy_pieces(uint8_t *to, const struct vmbus_frame *frame)
{
	uint32_t i;

	for (i = 0; i < frame->pieces; i++) {
		vmbus__peer_write(to, frame->piece[i].base, frame->piece[i].len);
		to += frame->piece[i].len;
	}
}

/* Whether the pieces have as many bytes as the frame. */
static bool is_whole(const struct vmbus_frame *frame)
{
	uint64_t bytes = 0;
	uint32_t i;

	if (VMBUS_LIKELY(frame->pieces == 1))
		return frame->piece[0].len == frame->bytes;
	for (i = 0; i < frame->pieces && bytes <= frame->bytes; i++)
		bytes += frame->piece[i].len;
	return i == frame->pieces && bytes == frame->bytes;
}

static int check_bytes(const struct vmbus_netvsc *nv, uint32_t flags, uint32_t bytes)
{
	const bool cut = (flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)) != 0;
	const uint32_t most = cut ? nv->tso_max : nv->frame_max + VMBUS__NETVSC_TAG_BYTES;

	return bytes < VMBUS__NETVSC_FRAME_MIN || bytes > most ? VMBUS_E_RANGE : 0;
}

/* A frame that lies at `to` and in the sections behind it, its first bytes private.  Returns the pieces. */
static uint32_t list_copy(const struct vmbus_netvsc_chan *chan, uint32_t section, uint8_t *to,
			  uint32_t bytes, struct vmbus_iov *piece)
{
	const uint32_t each = chan->netvsc_p->section_bytes;
	uint8_t *at = to + piece[0].len;
	uint32_t room = (uint32_t)(section_at(chan, section) + each - at), n = 1, some;

	for (bytes -= (uint32_t)piece[0].len; bytes; bytes -= some) {
		if (room == 0) {
			section = chan->next_p[section];
			at = section_at(chan, section);
			room = each;
		}
		some = bytes < room ? bytes : room;
		piece[n++] = (struct vmbus_iov){ at, some };
		room = 0;
	}
	return n;
}

/* Make the checksum in what was copied to `to`, of which first bytes are there: headers are looked at in
   a private copy of them. */
static int make_sum(struct vmbus_netvsc_chan *chan, const struct vmbus_frame *frame,
		    uint32_t section, uint8_t *to, uint32_t first)
{
	struct vmbus_iov piece[RANGES_MAX + 3u];
	struct vmbus_frame ours = *frame;
	uint8_t head[VMBUS_FRAME_HEAD];

	if (first > frame->piece[0].len)
		first = (uint32_t)frame->piece[0].len;
	if (first > sizeof(head))
		first = (uint32_t)sizeof(head);
	vmbus__peer_read(head, frame->piece[0].base, first);
	piece[0] = (struct vmbus_iov){ head, first };
	ours.piece = piece;
	ours.pieces = list_copy(chan, section, to, frame->bytes, piece);
	ours.flags &= VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM;
	if (vmbus_frame_checksum(&ours, head))
		return VMBUS_E_RANGE;
	vmbus__peer_write(to, head, first);
	chan->stats_p.summed++;
	return 0;
}

/* The header with what is said of the frame behind it, and room for room bytes of that. */
static void put_header(uint8_t *at, uint32_t bytes, const struct vmbus_frame *frame,
		       const struct vmbus__netvsc_info *info, uint32_t room)
{
	uint8_t head[VMBUS__RNDIS_PACKET_BYTES + VMBUS__PPI_ALL_BYTES] = { 0 };

	vmbus__rndis_packet_put(head, bytes, frame->bytes, info->bytes);
	vmbus__net_put32(head + VMBUS__RNDIS_AT_DATA_OFFSET, VMBUS__RNDIS_PPI_OFFSET + room);
	__builtin_memcpy(head + VMBUS__RNDIS_PACKET_BYTES, info->ppi, info->bytes);
	vmbus__peer_write(at, head, VMBUS__RNDIS_PACKET_BYTES + room);
}

/* A frame with flags, that has room in a section. */
static int put_with_info(struct vmbus_netvsc_chan *chan, const struct vmbus_frame *frame,
			 const struct vmbus__netvsc_info *info)
{
	const uint32_t bytes = aligned(VMBUS__RNDIS_PACKET_BYTES + info->bytes + frame->bytes);
	uint8_t *at, *to;
	int err;

	err = have_room(chan, bytes);
	if (err)
		return err;
	at = section_at(chan, chan->open_section_p) + chan->open_bytes_p;
	to = at + VMBUS__RNDIS_PACKET_BYTES + info->bytes;
	copy_pieces(to, frame);
	if (info->sum && make_sum(chan, frame, chan->open_section_p, to, frame->bytes))
		return VMBUS_E_RANGE;
	if (info->cut)
		vmbus__netvsc_cut_head(info, frame->piece[0].base, to);
	put_header(at, bytes, frame, info, info->bytes);
	add(chan, bytes);
	return 0;
}

/* ---- a frame in several sections ---- */

/* What is left of a message, while it is laid out. */
struct layout {
	uint8_t *list;
	uint32_t list_bytes, ranges;
	const struct vmbus_frame *frame;
	uint32_t piece;
	size_t into; /* of that piece */
};

/* Copy bytes of the frame's to `to`. */
static void copy_some(struct layout *lay, uint8_t *to, size_t bytes)
{
	while (bytes) {
		const struct vmbus_iov *const piece = &lay->frame->piece[lay->piece];
		size_t n = piece->len - lay->into;

		if (n > bytes)
			n = bytes;
		vmbus__peer_write(to, (const uint8_t *)piece->base + lay->into, n);
		to += n;
		bytes -= n;
		lay->into += n;
		if (lay->into == piece->len) {
			lay->piece++;
			lay->into = 0;
		}
	}
}

/* A range of a section's bytes.  There is room for it in the list. */
static int add_range(const struct vmbus_netvsc_chan *chan, struct layout *lay, const uint8_t *at,
		     uint32_t bytes)
{
	const uint32_t offset = (uint32_t)((uintptr_t)at % VMBUS_PAGE_BYTES);
	const uint32_t pages = (offset + bytes + VMBUS_PAGE_BYTES - 1u) / VMBUS_PAGE_BYTES;
	uint64_t pfn[VMBUS_FRAME_BYTES_MAX / VMBUS_PAGE_BYTES + 3u];
	uint32_t i;
	int n;

	for (i = 0; i < pages; i++)
		pfn[i] = vmbus_vsc_pfn(chan->vsc_p, at - offset + (size_t)i * VMBUS_PAGE_BYTES);
	n = vmbus_wire_range_put(bytes, offset, pfn, lay->list + lay->list_bytes,
				 LIST_BYTES - lay->list_bytes);
	if (n < 0)
		return VMBUS_E_RANGE;
	lay->list_bytes += (uint32_t)n;
	lay->ranges++;
	return 0;
}

/* Copy the frame behind the first `into` bytes of the first section, and list the other ones. */
static int lay_out(const struct vmbus_netvsc_chan *chan, struct layout *lay, uint32_t section,
		   uint32_t into)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	uint32_t left = lay->frame->bytes, n = nv->section_bytes - into;
	int err = 0;

	if (n > left) /* padding would not have fitted */
		n = left;
	copy_some(lay, section_at(chan, section) + into, n);
	for (left -= n; left && !err; left -= n) {
		section = chan->next_p[section];
		n = left < nv->section_bytes ? left : nv->section_bytes;
		copy_some(lay, section_at(chan, section), n);
		err = add_range(chan, lay, section_at(chan, section), n);
	}
	return err;
}

/* A chain of n sections: they are free. */
static uint32_t take_chain(struct vmbus_netvsc_chan *chan, uint32_t n)
{
	uint32_t section = CHAIN_END, first;

	for (; n; n--) {
		first = take(chan);
		chan->next_p[first] = (uint16_t)section;
		section = first;
	}
	return section;
}

static int finish_large(struct vmbus_netvsc_chan *chan, const struct vmbus_frame *frame,
			const struct vmbus__netvsc_info *info, uint32_t section)
{
	const uint32_t head = VMBUS__RNDIS_PACKET_BYTES + info->bytes;
	const uint32_t room = chan->netvsc_p->section_bytes - head;
	const uint32_t in_first = frame->bytes < room ? frame->bytes : room;
	struct vmbus_wire_ext ext = { .range_count = 0 };
	uint8_t list[LIST_BYTES];
	uint8_t *const to = section_at(chan, section) + head;
	struct layout lay = { .list = list, .list_bytes = 8, .frame = frame };
	int err;

	/* What is written after the copy has to lie in the first section. */
	if ((info->sum && (uint32_t)frame->csum_start + frame->csum_offset + 2u > in_first) ||
	    (info->cut && info->h.transport + 18u > in_first))
		return VMBUS_E_RANGE;
	err = lay_out(chan, &lay, section, head);
	if (!err && info->sum)
		err = make_sum(chan, frame, section, to, in_first);
	if (err)
		return err;
	if (info->cut)
		vmbus__netvsc_cut_head(info, frame->piece[0].base, to);
	put_header(to - head, head + frame->bytes, frame, info, info->bytes);
	if (lay.ranges == 0)
		return send(chan, section, head + in_first, NULL, 0);
	ext.range_count = lay.ranges;
	(void)vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &ext, list, 8);
	return send(chan, section, head + in_first, list, lay.list_bytes);
}

__attribute__((noinline)) static int put_large(struct vmbus_netvsc_chan *chan,
					       const struct vmbus_frame *frame,
					       const struct vmbus__netvsc_info *info)
{
	const uint32_t bytes = VMBUS__RNDIS_PACKET_BYTES + info->bytes + frame->bytes;
	const uint32_t each = chan->netvsc_p->section_bytes;
	const uint32_t n = (bytes + each - 1u) / each;
	uint32_t section;
	int err = close_section(chan);

	if (err)
		return err == VMBUS_E_FULL ? is_full(chan) : err;
	if (n > chan->count_p || n > 1u + RANGES_MAX)
		return VMBUS_E_RANGE;
	err = have_sections(chan, n);
	if (err)
		return err;
	section = take_chain(chan, n);
	err = finish_large(chan, frame, info, section);
	if (err) {
		give(chan, section);
		return err == VMBUS_E_FULL ? is_full(chan) : err;
	}
	return 0;
}

/* ---- frames ---- */

/* A frame with flags, or one that is larger than a section. */
__attribute__((noinline)) static int put_other(struct vmbus_netvsc_chan *chan,
					       const struct vmbus_frame *frame)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	struct vmbus__netvsc_info info;
	int err;

	err = vmbus__netvsc_info(nv, frame, frame->piece[0].base, (uint32_t)frame->piece[0].len,
				 &info);
	if (err)
		return err;
	if (aligned(VMBUS__RNDIS_PACKET_BYTES + info.bytes + frame->bytes) > nv->room_p)
		return put_large(chan, frame, &info);
	return put_with_info(chan, frame, &info);
}

/* Ask for the lines that a frame of this size will be written to, some frames from now. */
static inline void own_ahead(const struct vmbus_netvsc_chan *chan, uint32_t bytes)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	const uint32_t frames = chan->open_frames_p + AHEAD;
	uint32_t section = chan->open_section_p, into = chan->open_bytes_p + AHEAD * bytes;

	if (frames >= nv->frames_max) {
		if (!chan->free_count_p)
			return;
		section = chan->free_p[chan->free_count_p - 1u];
		into = (frames - nv->frames_max) * bytes;
	}
	if (into <= nv->room_p && bytes <= nv->room_p - into)
		vmbus__peer_will_write_all((uintptr_t)section_at(chan, section) + into, bytes);
}

static inline int put(struct vmbus_netvsc_chan *chan, const struct vmbus_frame *frame)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	const uint32_t bytes = aligned(VMBUS__RNDIS_PACKET_BYTES + frame->bytes);
	uint8_t *at;
	int err;

	err = check_bytes(nv, frame->flags, frame->bytes);
	if (VMBUS_UNLIKELY(err || !is_whole(frame)))
		return VMBUS_E_RANGE;
	if (VMBUS_UNLIKELY(frame->flags || bytes > nv->room_p)) {
		err = put_other(chan, frame);
	} else {
		err = have_room(chan, bytes);
		if (VMBUS_UNLIKELY(err))
			return err;
		own_ahead(chan, bytes);
		at = section_at(chan, chan->open_section_p) + chan->open_bytes_p;
		vmbus__rndis_packet_put(at, bytes, frame->bytes, 0);
		copy_pieces(at + VMBUS__RNDIS_PACKET_BYTES, frame);
		add(chan, bytes);
	}
	if (VMBUS_LIKELY(!err))
		count(chan, frame->bytes);
	return err;
}

/* The channel, if it can send. */
static struct vmbus_netvsc_chan *sender(struct vmbus_netvsc *nv, uint32_t channel)
{
	struct vmbus_netvsc_chan *chan;

	if (vmbus__netvsc_state(nv) != VMBUS__NETVSC_READY || channel > nv->opts_p.subchannels)
		return NULL;
	chan = &nv->opts_p.chan[channel];
	return chan->open_p && !chan->left_p && chan->count_p ? chan : NULL;
}

int vmbus_netvsc_send(struct vmbus_netvsc *nv, uint32_t channel, const struct vmbus_frame *frame,
		      uint32_t n)
{
	struct vmbus_netvsc_chan *const chan = sender(nv, channel);
	bool held, own;
	uint32_t i;
	int err = 0, closed;

	if (VMBUS_UNLIKELY(!chan))
		return VMBUS_E_STATE;
	own = chan->own_p;
	chan->held_p = false;
	held = vmbus_vsc_hold(chan->vsc_p) == 1;
	for (i = 0; i < n; i++) {
		err = put(chan, &frame[i]);
		if (VMBUS_UNLIKELY(err))
			break;
	}
	/* Its thread has left it, just now: frames that were taken are lost, and it is to know. */
	if (VMBUS_UNLIKELY(err == VMBUS_E_STATE && own))
		return err;
	closed = close_section(chan);
	if (held)
		(void)vmbus_vsc_flush(chan->vsc_p);
	/* What was taken goes out when there is room, unless the channel is at its end. */
	if (closed && closed != VMBUS_E_FULL)
		return closed;
	return i ? (int)i : err;
}

int vmbus_netvsc_reserve(struct vmbus_netvsc *nv, uint32_t channel, uint32_t bytes, uint32_t flags,
			 void **data)
{
	struct vmbus_netvsc_chan *const chan = sender(nv, channel);
	const uint32_t info = vmbus__netvsc_info_room(flags);
	int err;

	if (VMBUS_UNLIKELY(!chan))
		return VMBUS_E_STATE;
	chan->held_p = false;
	if (flags & ~nv->tx)
		return VMBUS_E_INVAL;
	if (check_bytes(nv, flags, bytes) ||
	    aligned(VMBUS__RNDIS_PACKET_BYTES + info + bytes) > nv->room_p)
		return VMBUS_E_RANGE;
	err = have_room(chan, aligned(VMBUS__RNDIS_PACKET_BYTES + info + bytes));
	if (VMBUS_UNLIKELY(err))
		return err;
	*data = section_at(chan, chan->open_section_p) + chan->open_bytes_p +
		VMBUS__RNDIS_PACKET_BYTES + info;
	chan->held_p = true;
	chan->room_p = bytes;
	chan->room_info_p = info;
	chan->room_flags_p = flags;
	return 0;
}

/* The frame that was built in place has flags: look at a copy of its begin. */
__attribute__((noinline)) static int commit_info(struct vmbus_netvsc_chan *chan,
						 const struct vmbus_frame *frame, uint8_t *to,
						 struct vmbus__netvsc_info *info)
{
	uint8_t head[VMBUS_FRAME_HEAD];
	const uint32_t n = frame->bytes < sizeof(head) ? frame->bytes : (uint32_t)sizeof(head);
	const struct vmbus_iov piece = { to, frame->bytes };
	struct vmbus_frame whole = *frame;
	int err;

	vmbus__peer_read(head, to, n);
	err = vmbus__netvsc_info(chan->netvsc_p, frame, head, n, info);
	if (err)
		return err;
	whole.piece = &piece;
	whole.pieces = 1;
	if (info->sum)
		err = make_sum(chan, &whole, chan->open_section_p, to, frame->bytes);
	if (info->cut)
		vmbus__netvsc_cut_head(info, head, to);
	return err;
}

int vmbus_netvsc_commit(struct vmbus_netvsc *nv, uint32_t channel, const struct vmbus_frame *frame)
{
	struct vmbus_netvsc_chan *const chan = sender(nv, channel);
	struct vmbus__netvsc_info info;
	uint32_t bytes;
	uint8_t *at;
	int err;

	if (VMBUS_UNLIKELY(!chan || !chan->held_p))
		return VMBUS_E_STATE;
	if (frame->flags != chan->room_flags_p)
		return VMBUS_E_INVAL;
	if (frame->bytes > chan->room_p || frame->bytes < VMBUS__NETVSC_FRAME_MIN)
		return VMBUS_E_RANGE;
	at = section_at(chan, chan->open_section_p) + chan->open_bytes_p;
	bytes = aligned(VMBUS__RNDIS_PACKET_BYTES + chan->room_info_p + frame->bytes);
	if (frame->flags) {
		err = commit_info(chan, frame, at + VMBUS__RNDIS_PACKET_BYTES + chan->room_info_p,
				  &info);
		if (err)
			return err;
		put_header(at, bytes, frame, &info, chan->room_info_p);
	} else {
		vmbus__rndis_packet_put(at, bytes, frame->bytes, 0);
	}
	chan->held_p = false;
	add(chan, bytes);
	count(chan, frame->bytes);
	return 0;
}

int vmbus_netvsc_flush(struct vmbus_netvsc *nv, uint32_t channel)
{
	struct vmbus_netvsc_chan *const chan = sender(nv, channel);

	if (!chan)
		return VMBUS_E_STATE;
	chan->held_p = false;
	return close_section(chan);
}

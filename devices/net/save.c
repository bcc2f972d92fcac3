/* SPDX-License-Identifier: MIT */
/*
 * What the data path of a channel has under way, as bytes: which channel each receive section belongs
 * to, which sections the guest has, packet by packet, and which of its own packets are not answered
 * yet.  The frames of those are not saved: they are answered when the channel goes on, and lost, as on
 * a wire; so are frames for the guest that were not yet sent.
 *
 * The bytes are as hostile as a packet when they are read.
 */
#include "net/rx.h"
#include "net/tx.h"

#include <stdlib.h>
#include <string.h>

#define FORM 2u
#define CONTROL 1u /* flags of a packet */
#define BAD 1u	   /* of one of the guest's */

/* Bytes that are written, or read, one behind the other; at the end, or after an error, none are. */
struct bytes {
	uint8_t *to;
	const uint8_t *from;
	size_t left;
	bool bad;
};

static void put32(struct bytes *b, uint32_t v)
{
	if (b->left < 4u) {
		b->bad = true;
		b->left = 0;
		return;
	}
	vmbus__net_put32(b->to, v);
	b->to += 4;
	b->left -= 4u;
}

static void put64(struct bytes *b, uint64_t v)
{
	put32(b, (uint32_t)(v & UINT32_MAX));
	put32(b, (uint32_t)(v >> 32));
}

static uint32_t get32(struct bytes *b)
{
	uint32_t v;

	if (b->left < 4u) {
		b->bad = true;
		b->left = 0;
		return 0;
	}
	v = vmbus__net_get32(b->from);
	b->from += 4;
	b->left -= 4u;
	return v;
}

static uint64_t get64(struct bytes *b)
{
	const uint64_t low = get32(b);

	return low | (uint64_t)get32(b) << 32;
}

/* ---- saving ---- */

/* Of the primary: whose each section is. */
static void save_owners(struct bytes *b, const struct vmbus__net_chan *ch)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	const uint32_t n = vmbus__net_is_primary(ch) && buffer ? buffer->sections : 0;

	put32(b, n);
	if (b->left < n) {
		b->bad = true;
		b->left = 0;
		return;
	}
	if (n)
		memcpy(b->to, buffer->owner, n);
	b->to += n;
	b->left -= n;
}

static void save_lent(struct bytes *b, const struct vmbus__net_chan *ch)
{
	const struct vmbus__net_rx *const rx = ch->rx;
	uint32_t i, k, n = 0, section;

	for (i = 0; i < rx->lent_fresh; i++)
		n += rx->lent[i].out;
	put32(b, rx->generation); /* what was given back and is not read yet stays out of date */
	put32(b, n);
	for (i = 0; i < rx->lent_fresh; i++) {
		const struct vmbus__rx_lent *const lent = &rx->lent[i];

		if (!lent->out)
			continue;
		put64(b, ((uint64_t)lent->generation << 32) + i + 1u);
		put32(b, lent->control ? CONTROL : 0);
		put32(b, lent->chain.count);
		section = lent->chain.first;
		for (k = 0; k < lent->chain.count; k++) {
			put32(b, section);
			section = ch->shape.receive->next[section];
		}
	}
}

static void save_waiting(struct bytes *b, const struct vmbus__net_chan *ch)
{
	const struct vmbus__net_tx *const tx = ch->tx;
	uint32_t i, n = 0;

	for (i = 0; i < tx->count; i++)
		n += tx->queue[(tx->first + i) & tx->mask].complete;
	put32(b, n);
	for (i = 0; i < tx->count; i++) {
		const struct vmbus__tx_packet *const p = &tx->queue[(tx->first + i) & tx->mask];

		if (!p->complete)
			continue;
		put64(b, p->id);
		put32(b, p->bad ? BAD : 0);
	}
}

/* NVSP messages that wait for room in the ring. */
static void save_answers(struct bytes *b, const struct vmbus__net_chan *ch)
{
	uint32_t i;

	put32(b, ch->answers);
	for (i = 0; i < ch->answers; i++) {
		const struct vmbus__net_answer *const answer =
			&ch->answer[(ch->answer_first + i) % VMBUS__NET_ANSWERS];

		put64(b, answer->id);
		put32(b, answer->inband);
		put32(b, answer->len);
		if (b->left < answer->len) {
			b->bad = true;
			b->left = 0;
			return;
		}
		memcpy(b->to, answer->msg, answer->len);
		b->to += answer->len;
		b->left -= answer->len;
	}
}

int vmbus__net_data_save(struct vmbus__net_chan *ch, uint8_t *buf, size_t bytes)
{
	struct bytes b = { .to = buf, .left = bytes };

	put32(&b, FORM);
	save_owners(&b, ch);
	save_lent(&b, ch);
	save_waiting(&b, ch);
	save_answers(&b, ch);
	return b.bad ? VMBUS_E_RANGE : (int)(b.to - buf);
}

/* ---- restoring ---- */

/* A chain of those sections whose mark is what, in order. */
static struct vmbus__rx_chain chain_of(struct vmbus__net_buffer *buffer, const uint8_t *mark,
				       uint8_t what)
{
	struct vmbus__rx_chain chain = { 0 };
	uint32_t i;

	for (i = vmbus__net_control_sections(buffer->sections); i < buffer->sections; i++) {
		if (mark[i] != what)
			continue;
		if (chain.count)
			buffer->next[chain.last] = i;
		else
			chain.first = i;
		chain.last = i;
		chain.count++;
		buffer->next[i] = VMBUS__NET_NONE;
	}
	return chain;
}

/* Of the primary: the sections go to their owners, whose sub-channels come later. */
static bool restore_owners(struct bytes *b, struct vmbus__net_chan *ch)
{
	struct vmbus__net_buffer *const buffer = ch->shape.receive;
	const uint32_t n = get32(b);
	struct vmbus__rx_chain chain;
	uint32_t i;

	if (n == 0)
		return !b->bad && (!vmbus__net_is_primary(ch) || !buffer);
	if (!vmbus__net_is_primary(ch) || !buffer || n != buffer->sections || b->left < n)
		return false;
	/* The first ones, for control messages, are the primary's. */
	for (i = 0; i < n; i++)
		if (b->from[i] > (i < vmbus__net_control_sections(n) ? 0 : ch->session->subs))
			return false;
	memcpy(buffer->owner, b->from, n);
	b->from += n;
	b->left -= n;
	pthread_mutex_lock(&ch->net->lock);
	ch->rx->free = chain_of(buffer, buffer->owner, 0);
	for (i = 1; i <= ch->session->subs; i++) {
		chain = chain_of(buffer, buffer->owner, (uint8_t)i);
		ch->session->seat[i].first = chain.first;
		ch->session->seat[i].count = chain.count;
	}
	pthread_mutex_unlock(&ch->net->lock);
	return true;
}

#define MINE 1u
#define LENT 2u

/* Which sections are this channel's, by number; those for control messages are the primary's. */
static void mark_mine(const struct vmbus__net_chan *ch, uint8_t *mark)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	uint32_t i;

	for (i = 0; i < buffer->sections; i++)
		if (buffer->owner[i] == ch->number)
			mark[i] = MINE;
}

/* A packet that the guest has.  Each section is this channel's, and in one packet. */
static bool restore_packet(struct bytes *b, struct vmbus__net_chan *ch, uint8_t *mark)
{
	struct vmbus__net_buffer *const buffer = ch->shape.receive;
	struct vmbus__net_rx *const rx = ch->rx;
	const uint64_t id = get64(b);
	const uint32_t flags = get32(b), count = get32(b), slot = (uint32_t)(id & UINT32_MAX);
	struct vmbus__rx_lent *lent;
	uint32_t i;

	if (b->bad || slot == 0 || slot > VMBUS__RX_LENTS || flags & ~CONTROL || count == 0 ||
	    count > b->left / 4u)
		return false;
	lent = &rx->lent[slot - 1u];
	if (lent->out || (flags & CONTROL && count != 1u))
		return false;
	for (i = 0; i < count; i++) {
		const uint32_t section = get32(b);
		const bool control = section < vmbus__net_control_sections(buffer->sections);

		if (section >= buffer->sections || mark[section] != MINE ||
		    control != ((flags & CONTROL) != 0))
			return false;
		mark[section] = LENT;
		vmbus__rx_chain_add(buffer->next, &lent->chain, section);
	}
	lent->out = true;
	lent->control = flags & CONTROL;
	lent->generation = (uint32_t)(id >> 32);
	if (rx->lent_fresh < slot)
		rx->lent_fresh = slot;
	vmbus__rx_show_lent(ch, ch->lent + count);
	return true;
}

/* Those that are not out are free, and what no packet has can be used. */
static void settle_lent(struct vmbus__net_chan *ch, const uint8_t *mark)
{
	struct vmbus__net_buffer *const buffer = ch->shape.receive;
	struct vmbus__net_rx *const rx = ch->rx;
	uint32_t i;

	rx->lent_free = VMBUS__NET_NONE;
	for (i = 0; i < rx->lent_fresh; i++) {
		if (rx->lent[i].out)
			continue;
		rx->lent[i].next = rx->lent_free;
		rx->lent_free = i;
	}
	rx->free = chain_of(buffer, mark, MINE);
	rx->control = (struct vmbus__rx_chain){ 0 };
	for (i = 0; vmbus__net_is_primary(ch) && i < vmbus__net_control_sections(buffer->sections);
	     i++)
		if (mark[i] == MINE)
			vmbus__rx_chain_add(buffer->next, &rx->control, i);
}

static int restore_lent(struct bytes *b, struct vmbus__net_chan *ch)
{
	const uint32_t generation = get32(b), n = get32(b);
	uint8_t *mark;
	uint32_t i;
	bool ok = true;

	ch->rx->generation = generation & INT32_MAX;
	if (!ch->shape.receive)
		return n ? VMBUS_E_PEER : 0;
	mark = calloc(ch->shape.receive->sections, 1);
	if (!mark)
		return VMBUS_E_NOMEM;
	mark_mine(ch, mark);
	for (i = 0; i < n && ok; i++)
		ok = restore_packet(b, ch, mark);
	settle_lent(ch, mark);
	free(mark);
	return ok && !b->bad ? 0 : VMBUS_E_PEER;
}

/* Packets of the guest's: their frames are lost, and they are answered.  When as many wait as may, no
   more come before that. */
static bool restore_waiting(struct bytes *b, struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;
	const uint32_t n = get32(b);
	uint32_t i;

	if (n > ch->net->opts.packets_max + VMBUS__NET_BATCH)
		return false;
	for (i = 0; i < n; i++) {
		const uint64_t id = get64(b);
		const uint32_t flags = get32(b);

		if (b->bad || flags & ~BAD)
			return false;
		tx->queue[tx->count++] = (struct vmbus__tx_packet){
			.id = id, .complete = true, .all = true, .bad = flags & BAD
		};
	}
	vmbus__net_count(ch, VMBUS__NET_STOPPED, n);
	tx->waits = n != 0;
	if (n >= ch->net->opts.packets_max) {
		ch->paused = true;
		vmbus_chan_pause(ch->chan, true);
	}
	return true;
}

static bool restore_answers(struct bytes *b, struct vmbus__net_chan *ch)
{
	const uint32_t n = get32(b);

	if (n > VMBUS__NET_ANSWERS)
		return false;
	for (ch->answers = 0; ch->answers < n; ch->answers++) {
		struct vmbus__net_answer *const answer = &ch->answer[ch->answers];

		answer->id = get64(b);
		answer->inband = get32(b);
		answer->len = get32(b);
		if (b->bad || answer->len > sizeof(answer->msg) || answer->len > b->left)
			return false;
		memcpy(answer->msg, b->from, answer->len);
		b->from += answer->len;
		b->left -= answer->len;
	}
	return true;
}

int vmbus__net_data_restore(struct vmbus__net_chan *ch, const uint8_t *buf, size_t bytes)
{
	struct bytes b = { .from = buf, .left = bytes };
	int err;

	if (get32(&b) != FORM || !restore_owners(&b, ch))
		return VMBUS_E_PEER;
	err = restore_lent(&b, ch);
	if (err)
		return err;
	if (!restore_waiting(&b, ch) || !restore_answers(&b, ch) || b.bad || b.left)
		return VMBUS_E_PEER;
	vmbus__inbox_ring(ch->seat->inbox); /* answers go out in ready() */
	return 0;
}

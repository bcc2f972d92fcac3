/* SPDX-License-Identifier: MIT */
/*
 * The saved state of a channel of a NIC: of the primary what was agreed on, and answers that wait; of
 * each what the data path adds.  It is as hostile as a packet when it is read.
 */
#include "net/control.h"

#include <string.h>

#define get16 vmbus__net_get16
#define get32 vmbus__net_get32
#define get64 vmbus__net_get64
#define put16 vmbus__net_put16
#define put32 vmbus__net_put32
#define put64 vmbus__net_put64
#define FORM 1u
#define MTU_LEAST 68u
#define FILTERS                                                                                    \
	(VMBUS__FILTER_DIRECTED | VMBUS__FILTER_MULTICAST | VMBUS__FILTER_ALL_MULTICAST |          \
	 VMBUS__FILTER_BROADCAST | VMBUS__FILTER_PROMISCUOUS)

enum {
	HAVE_NDIS = 1,
	HAVE_CONFIG = 2,
	HAVE_RECEIVE = 4,
	HAVE_SEND = 8,
	TABLE_DUE = 16,
	TOLD_UP = 32,
	OFFLOAD_DUE = 64,
	HAVE_KEY = 128
};

/* Where things are. */
enum {
	AT_FORM = 0,
	AT_STATE = 4,
	AT_FLAGS = 5,
	AT_WAITING = 6,
	AT_NVSP = 8,
	AT_MTU = 12,
	AT_FILTER = 16,
	AT_NDIS = 20,
	AT_CAPS = 24,
	AT_RECEIVE = 32, /* GPADL, bytes of a section, sections, id */
	AT_SEND = 48,	 /* GPADL, bytes of a section, sections */
	AT_ASKED = 60,
	AT_OFFER_DUE = 64,
	AT_RSS = 68,
	AT_OFFLOADS = 70,
	AT_HASH = 80,
	AT_TABLE_MASK = 84,
	AT_TABLE = 88,
	AT_KEY = AT_TABLE + VMBUS__NET_TABLE,
	AT_ENCAPSULATION = AT_KEY + VMBUS_FRAME_KEY_BYTES,
	AT_MAC = AT_ENCAPSULATION + 28,
	AT_BITS = AT_MAC + 8,
	HEAD_BYTES = AT_BITS + 8
};

/* ---- saving ---- */

static uint8_t flags_of(const struct vmbus__net_control *control)
{
	return (uint8_t)((control->have_ndis ? HAVE_NDIS : 0) |
			 (control->have_config ? HAVE_CONFIG : 0) |
			 (control->have_receive ? HAVE_RECEIVE : 0) |
			 (control->have_send ? HAVE_SEND : 0) |
			 (control->table_due ? TABLE_DUE : 0) | (control->told_up ? TOLD_UP : 0) |
			 (control->offload_due ? OFFLOAD_DUE : 0) |
			 (control->have_key ? HAVE_KEY : 0));
}

static void save_shape(uint8_t *to, const struct vmbus__net_shape *shape)
{
	put32(to + AT_NVSP, shape->nvsp);
	put32(to + AT_MTU, shape->mtu);
	put32(to + AT_FILTER, shape->filter);
	put32(to + AT_RECEIVE + 12, shape->receive_id);
	to[AT_RSS] = shape->rss;
	put32(to + AT_HASH, shape->hash);
	put32(to + AT_TABLE_MASK, shape->table_mask);
	memcpy(to + AT_TABLE, shape->table, sizeof(shape->table));
	memcpy(to + AT_KEY, shape->key, sizeof(shape->key));
	memcpy(to + AT_MAC, shape->mac, sizeof(shape->mac));
}

static void save_head(uint8_t *to, const struct vmbus__net_chan *ch)
{
	const struct vmbus__net_control *const control = ch->session->control;

	memset(to, 0, HEAD_BYTES);
	put32(to + AT_FORM, FORM);
	to[AT_STATE] = control->state;
	to[AT_FLAGS] = flags_of(control);
	put16(to + AT_WAITING, control->waiting);
	save_shape(to, &ch->session->shape);
	put32(to + AT_NDIS, control->ndis);
	put64(to + AT_CAPS, control->caps);
	put32(to + AT_RECEIVE, control->receive_gpadl);
	put32(to + AT_RECEIVE + 4, control->receive_section);
	put32(to + AT_RECEIVE + 8, control->receive_count);
	put32(to + AT_SEND, control->send_gpadl);
	put32(to + AT_SEND + 4, ch->net->opts.section_bytes);
	put32(to + AT_SEND + 8, control->send_count);
	put32(to + AT_ASKED, control->asked);
	put32(to + AT_OFFER_DUE, control->offer_due);
	memcpy(to + AT_OFFLOADS, &control->offloads, sizeof(control->offloads));
	memcpy(to + AT_ENCAPSULATION, control->encapsulation, sizeof(control->encapsulation));
	put64(to + AT_BITS, control->told_bits);
}

/* Answers that wait: bytes (4) and the message of each.  Returns the bytes, or RANGE. */
static int save_waiting(uint8_t *to, size_t room, const struct vmbus__net_control *control)
{
	uint8_t *const begin = to;
	uint32_t i;

	for (i = 0; i < control->waiting; i++) {
		const struct vmbus__net_waiting *const wait =
			&control->wait[(control->first + i) % VMBUS__NET_WAITING_MAX];

		if (room < 4u + (size_t)wait->bytes)
			return VMBUS_E_RANGE;
		put32(to, wait->bytes);
		memcpy(to + 4, wait->msg, wait->bytes);
		to += 4u + wait->bytes;
		room -= 4u + (size_t)wait->bytes;
	}
	return (int)(to - begin);
}

int vmbus__net_save(struct vmbus__net_chan *ch, void *buf, size_t bytes)
{
	uint8_t *const to = buf;
	size_t used = 0;
	int n;

	if (vmbus__net_is_primary(ch)) {
		if (bytes < HEAD_BYTES)
			return VMBUS_E_RANGE;
		save_head(to, ch);
		n = save_waiting(to + HEAD_BYTES, bytes - HEAD_BYTES, ch->session->control);
		if (n < 0)
			return n;
		used = HEAD_BYTES + (size_t)n;
	}
	n = vmbus__net_data_save(ch, to + used, bytes - used);
	return n < 0 ? n : (int)used + n;
}

/* ---- restoring ---- */

static bool are_offloads(const struct vmbus__offload_set *set)
{
	const uint8_t sums[] = { set->ip4, set->tcp4, set->udp4, set->tcp6, set->udp6 };
	const uint8_t large[] = { set->lso1, set->lso4, set->lso6, set->rsc4, set->rsc6 };
	size_t i;

	for (i = 0; i < sizeof(sums); i++)
		if (sums[i] < VMBUS__OFFLOAD_OFF || sums[i] > VMBUS__OFFLOAD_BOTH ||
		    large[i] < VMBUS__OFFLOAD_OFF || large[i] > VMBUS__OFFLOAD_TX)
			return false;
	return true;
}

/* What state and version need is there, and nothing that they cannot have. */
static bool is_state(const uint8_t *from)
{
	const uint8_t state = from[AT_STATE], flags = from[AT_FLAGS];
	const uint32_t nvsp = get32(from + AT_NVSP);
	uint32_t need = 0;

	if (state > VMBUS__NET_REVOKED)
		return false;
	if (state == VMBUS__NET_BEGIN)
		return nvsp == 0 && (flags & (HAVE_NDIS | HAVE_CONFIG | HAVE_RECEIVE | HAVE_SEND |
					      TABLE_DUE)) == 0;
	if (!vmbus__net_is_version(nvsp))
		return false;
	if (state >= VMBUS__NET_RNDIS && state <= VMBUS__NET_HALTED)
		need = HAVE_NDIS | HAVE_RECEIVE;
	if ((need & HAVE_RECEIVE) && nvsp >= VMBUS__NVSP_2)
		need |= HAVE_CONFIG;
	return (flags & need) == need;
}

static bool is_shape(const struct vmbus__net_chan *ch, const uint8_t *from)
{
	const struct vmbus_net_opts *const opts = &ch->net->opts;
	const uint32_t mtu = get32(from + AT_MTU), filter = get32(from + AT_FILTER);
	const uint32_t mask = get32(from + AT_TABLE_MASK);
	uint32_t i;

	if (mtu < MTU_LEAST || mtu > opts->mtu_max || filter & ~FILTERS ||
	    (filter && from[AT_STATE] != VMBUS__NET_READY) ||
	    get32(from + AT_RECEIVE + 12) > 0xFFFFu)
		return false;
	if (mask != 0 && mask != VMBUS__NET_TABLE - 1u)
		return false;
	if (from[AT_RSS] > 1 || (from[AT_RSS] && mask == 0) || (from[AT_MAC] & 1u))
		return false;
	for (i = 0; i < VMBUS__NET_TABLE; i++)
		if (from[AT_TABLE + i] > opts->subchannels)
			return false;
	return get32(from + AT_ASKED) <= opts->subchannels &&
	       get32(from + AT_OFFER_DUE) <= get32(from + AT_ASKED);
}

static void restore_control(struct vmbus__net_control *control, const uint8_t *from)
{
	const uint8_t flags = from[AT_FLAGS];

	control->state = from[AT_STATE];
	control->have_ndis = flags & HAVE_NDIS;
	control->have_config = flags & HAVE_CONFIG;
	control->have_receive = flags & HAVE_RECEIVE;
	control->have_send = flags & HAVE_SEND;
	control->table_due = flags & TABLE_DUE;
	control->offload_due = flags & OFFLOAD_DUE;
	control->have_key = flags & HAVE_KEY;
	control->ndis = get32(from + AT_NDIS);
	control->caps = get64(from + AT_CAPS);
	control->asked = get32(from + AT_ASKED);
	control->offer_due = get32(from + AT_OFFER_DUE);
	memcpy(control->encapsulation, from + AT_ENCAPSULATION, sizeof(control->encapsulation));
	control->told_bits = get64(from + AT_BITS);
}

static void restore_shape(struct vmbus__net_chan *ch, const uint8_t *from)
{
	const uint8_t state = from[AT_STATE];
	struct vmbus__net_shape *const shape = vmbus__net_shape_begin(ch);

	shape->nvsp = get32(from + AT_NVSP);
	shape->mtu = get32(from + AT_MTU);
	shape->filter = get32(from + AT_FILTER);
	shape->receive_id = get32(from + AT_RECEIVE + 12);
	shape->rss = from[AT_RSS];
	shape->hash = get32(from + AT_HASH);
	shape->table_mask = get32(from + AT_TABLE_MASK);
	memcpy(shape->table, from + AT_TABLE, sizeof(shape->table));
	memcpy(shape->key, from + AT_KEY, sizeof(shape->key));
	memcpy(shape->mac, from + AT_MAC, sizeof(shape->mac));
	if (memcmp(shape->mac, ch->net->mac, sizeof(shape->mac)) != 0)
		memcpy(ch->net->guest_mac, shape->mac, sizeof(shape->mac));
	shape->messages = state >= VMBUS__NET_RNDIS && state <= VMBUS__NET_HALTED;
	shape->running = state == VMBUS__NET_READY;
	vmbus__net_offload_shape(ch, shape);
	vmbus__net_shape_end(ch);
}

/* The guest keeps to the sections that it was told of, so they must be the same here. */
static int restore_buffers(struct vmbus__net_chan *ch, const uint8_t *from)
{
	struct vmbus__net_control *const control = ch->session->control;
	int err = 0;

	control->receive_gpadl = get32(from + AT_RECEIVE);
	control->send_gpadl = get32(from + AT_SEND);
	if (control->have_receive)
		err = vmbus__net_take_receive(ch, control->receive_gpadl, &control->receive_section,
					      &control->receive_count);
	if (!err && control->have_send)
		err = vmbus__net_take_send(ch, control->send_gpadl, &control->send_count);
	if (err)
		return err;
	if ((control->have_receive && (control->receive_section != get32(from + AT_RECEIVE + 4) ||
				       control->receive_count != get32(from + AT_RECEIVE + 8))) ||
	    (control->have_send && (ch->net->opts.section_bytes != get32(from + AT_SEND + 4) ||
				    control->send_count != get32(from + AT_SEND + 8))))
		return VMBUS_E_PEER;
	return 0;
}

/* Returns the bytes taken, or PEER. */
static int restore_waiting(struct vmbus__net_control *control, const uint8_t *from, size_t bytes,
			   uint32_t n)
{
	const uint8_t *const begin = from;

	if (n > VMBUS__NET_WAITING_MAX)
		return VMBUS_E_PEER;
	for (control->waiting = 0; control->waiting < n; control->waiting++) {
		struct vmbus__net_waiting *const wait = &control->wait[control->waiting];
		uint32_t len;

		if (bytes < 4u)
			return VMBUS_E_PEER;
		len = get32(from);
		if (len < VMBUS__RNDIS_HEAD_BYTES || len > VMBUS__NET_RNDIS_MAX || len > bytes - 4u)
			return VMBUS_E_PEER;
		wait->bytes = len;
		memcpy(wait->msg, from + 4, len);
		from += 4u + len;
		bytes -= 4u + (size_t)len;
	}
	return (int)(from - begin);
}

/* Returns the bytes taken, or an error. */
static int restore_primary(struct vmbus__net_chan *ch, const uint8_t *from, size_t bytes)
{
	struct vmbus__net_control *control;
	struct vmbus__offload_set offloads;
	int err, n;

	err = vmbus__net_control_open(ch);
	if (err)
		return err;
	control = ch->session->control;
	if (bytes < HEAD_BYTES || get32(from + AT_FORM) != FORM || !is_state(from) ||
	    !is_shape(ch, from))
		return VMBUS_E_PEER;
	memcpy(&offloads, from + AT_OFFLOADS, sizeof(offloads));
	if (!are_offloads(&offloads))
		return VMBUS_E_PEER;
	control->offloads = offloads;
	restore_control(control, from);
	restore_shape(ch, from);
	err = restore_buffers(ch, from);
	if (err)
		return err;
	if (control->asked && vmbus__net_grant(ch, control->asked) != control->asked)
		return VMBUS_E_NOMEM;
	/* Buffers and channels are there now. */
	vmbus__net_offload_shape(ch, vmbus__net_shape_begin(ch));
	vmbus__net_shape_end(ch);
	n = restore_waiting(control, from + HEAD_BYTES, bytes - HEAD_BYTES,
			    get16(from + AT_WAITING));
	if (n < 0)
		return n;
	vmbus__net_link_told(ch, from[AT_FLAGS] & TOLD_UP);
	return HEAD_BYTES + n;
}

int vmbus__net_restore(struct vmbus__net_chan *ch, const void *buf, size_t bytes)
{
	const uint8_t *const from = buf;
	int used = 0, err;

	if (vmbus__net_is_primary(ch))
		used = restore_primary(ch, from, bytes);
	if (used < 0)
		return used;
	err = vmbus__net_data_restore(ch, from + used, bytes - (size_t)used);
	if (!err && vmbus__net_is_primary(ch))
		vmbus__net_control_again(ch);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * RNDIS control messages of the guest's: what they are, and what their answers look like.  An answer
 * goes to the guest in a receive section; while there is none it waits here, and when too many do,
 * what the guest asks is refused by the status of its packet.
 */
#include "net/control.h"

#include <string.h>

#define get32 vmbus__net_get32
#define put32 vmbus__net_put32
#define put64 vmbus__net_put64
#define ID_END 12u	     /* bytes of a message with nothing but its id */
#define TRANSFER 0xEFFFFFFFu /* the largest message, as Windows tells */
#define CONNECTIONLESS 1u
#define MEDIUM_8023 0u
#define INDICATE_INFO_MAX 160u

/* ---- answers ---- */

bool vmbus__net_answer(struct vmbus__net_chan *ch, const uint8_t *msg, uint32_t bytes)
{
	struct vmbus__net_control *const control = ch->session->control;
	struct vmbus__net_waiting *wait;

	if (control->waiting == 0 && vmbus__net_send_control(ch, msg, bytes) != VMBUS_E_FULL)
		return true; /* sent, or there is no way to the guest */
	if (control->waiting == VMBUS__NET_WAITING_MAX || bytes > VMBUS__NET_RNDIS_MAX)
		return false;
	wait = &control->wait[(control->first + control->waiting) % VMBUS__NET_WAITING_MAX];
	wait->bytes = bytes;
	memcpy(wait->msg, msg, bytes);
	control->waiting++;
	return true;
}

void vmbus__net_send_waiting(struct vmbus__net_chan *ch)
{
	struct vmbus__net_control *const control = ch->session->control;

	while (control->waiting) {
		const struct vmbus__net_waiting *const wait = &control->wait[control->first];

		if (vmbus__net_send_control(ch, wait->msg, wait->bytes) == VMBUS_E_FULL)
			return;
		control->first = (control->first + 1u) % VMBUS__NET_WAITING_MAX;
		control->waiting--;
	}
}

bool vmbus__net_indicate(struct vmbus__net_chan *ch, uint32_t status, const uint8_t *info,
			 uint32_t bytes)
{
	uint8_t msg[VMBUS__RNDIS_INDICATE_BYTES + INDICATE_INFO_MAX];

	put32(msg, VMBUS__RNDIS_INDICATE);
	put32(msg + 4, VMBUS__RNDIS_INDICATE_BYTES + bytes);
	put32(msg + VMBUS__RNDIS_AT_INDICATE_STATUS, status);
	put32(msg + VMBUS__RNDIS_AT_INDICATE_BYTES, bytes);
	put32(msg + VMBUS__RNDIS_AT_INDICATE_OFFSET, bytes ? VMBUS__RNDIS_INDICATE_OFFSET : 0);
	if (bytes)
		memcpy(msg + VMBUS__RNDIS_INDICATE_BYTES, info, bytes);
	return vmbus__net_answer(ch, msg, VMBUS__RNDIS_INDICATE_BYTES + bytes);
}

/* The head of an answer: type, length, and the id of what it answers; the status. */
static void begin_answer(uint8_t *out, const uint8_t *msg, uint32_t bytes, uint32_t status)
{
	put32(out, get32(msg) | VMBUS__RNDIS_DONE);
	put32(out + 4, bytes);
	put32(out + VMBUS__RNDIS_AT_ID, get32(msg + VMBUS__RNDIS_AT_ID));
	put32(out + VMBUS__RNDIS_AT_STATUS, status);
}

/* ---- queries and sets ---- */

/* Where the information of a message is; false when it lies outside. */
static bool find_info(const uint8_t *msg, uint32_t bytes, const uint8_t **info,
		      uint32_t *info_bytes)
{
	const uint32_t body = bytes - VMBUS__RNDIS_HEAD_BYTES;
	uint32_t offset;

	*info = msg;
	*info_bytes = get32(msg + VMBUS__RNDIS_AT_INFO_BYTES);
	offset = get32(msg + VMBUS__RNDIS_AT_INFO_OFFSET);
	if (*info_bytes == 0)
		return true;
	if (offset < VMBUS__RNDIS_ASK_OFFSET || offset > body || *info_bytes > body - offset)
		return false;
	*info = msg + VMBUS__RNDIS_HEAD_BYTES + offset;
	return true;
}

/* 0, or why it is not to be looked at. */
static uint32_t check_ask(const struct vmbus__net_chan *ch, const uint8_t *msg, uint32_t bytes,
			  const uint8_t **info, uint32_t *info_bytes)
{
	if (ch->session->control->state != VMBUS__NET_READY)
		return VMBUS__RNDIS_FAILURE;
	/* The last word of the head, the handle, need not be there. */
	if (bytes < VMBUS__RNDIS_ASK_BYTES - 4u || !find_info(msg, bytes, info, info_bytes))
		return VMBUS__RNDIS_INVALID_LENGTH;
	return VMBUS__RNDIS_OK;
}

/* An answer without information has an offset all the same, [NET-RNDIS]. */
static bool query(struct vmbus__net_chan *ch, const uint8_t *msg, uint32_t bytes)
{
	uint8_t out[VMBUS__RNDIS_QUERY_DONE_BYTES + VMBUS__NET_INFO_MAX];
	uint32_t out_bytes = 0, status;
	struct vmbus__net_ask ask = { .ch = ch,
				      .out = out + VMBUS__RNDIS_QUERY_DONE_BYTES,
				      .bytes = &out_bytes };

	status = check_ask(ch, msg, bytes, &ask.in, &ask.in_bytes);
	if (status == VMBUS__RNDIS_OK)
		status = vmbus__net_query(&ask, get32(msg + VMBUS__RNDIS_AT_OID));
	if (status != VMBUS__RNDIS_OK)
		out_bytes = 0;
	begin_answer(out, msg, VMBUS__RNDIS_QUERY_DONE_BYTES + out_bytes, status);
	put32(out + VMBUS__RNDIS_AT_INFO_BYTES, out_bytes);
	put32(out + VMBUS__RNDIS_AT_INFO_OFFSET, VMBUS__RNDIS_QUERY_DONE_OFFSET);
	return vmbus__net_answer(ch, out, VMBUS__RNDIS_QUERY_DONE_BYTES + out_bytes);
}

static bool set(struct vmbus__net_chan *ch, const uint8_t *msg, uint32_t bytes)
{
	const bool ex = get32(msg) == VMBUS__RNDIS_SET_EX;
	const uint32_t out_bytes = ex ? VMBUS__RNDIS_QUERY_DONE_BYTES : VMBUS__RNDIS_SET_DONE_BYTES;
	uint8_t out[VMBUS__RNDIS_QUERY_DONE_BYTES] = { 0 };
	uint32_t info_bytes = 0, status;
	const uint8_t *info;

	status = check_ask(ch, msg, bytes, &info, &info_bytes);
	if (status == VMBUS__RNDIS_OK)
		status = vmbus__net_set(ch, get32(msg + VMBUS__RNDIS_AT_OID), info, info_bytes);
	begin_answer(out, msg, out_bytes, status);
	if (ex)
		put32(out + VMBUS__RNDIS_AT_INFO_OFFSET, VMBUS__RNDIS_QUERY_DONE_OFFSET);
	if (!vmbus__net_answer(ch, out, out_bytes))
		return false;
	if (ch->session->control->offload_due)
		vmbus__net_offload_tell(ch);
	return true;
}

/* ---- the rest ---- */

/* From here on frames go, if the guest's filter has them. */
static void begin(struct vmbus__net_chan *ch)
{
	uint64_t bits;
	const bool up = vmbus__net_is_up(ch->net, &bits);
	struct vmbus__net_control *const control = ch->session->control;
	struct vmbus__net_shape *const shape = vmbus__net_shape_begin(ch);

	control->state = VMBUS__NET_READY;
	shape->running = true;
	shape->link = up;
	vmbus__net_shape_end(ch);
	control->told_bits = bits;
	vmbus__net_link_told(ch, up);
}

static bool initialize(struct vmbus__net_chan *ch, const uint8_t *msg, uint32_t bytes)
{
	const uint8_t state = ch->session->control->state;
	uint8_t out[VMBUS__RNDIS_INITIALIZE_DONE_BYTES] = { 0 };
	uint32_t status = VMBUS__RNDIS_OK;

	if (state != VMBUS__NET_RNDIS && state != VMBUS__NET_HALTED)
		status = VMBUS__RNDIS_FAILURE;
	else if (bytes < VMBUS__RNDIS_INITIALIZE_BYTES)
		status = VMBUS__RNDIS_INVALID_LENGTH;
	else if (get32(msg + VMBUS__RNDIS_AT_MAJOR) != 1)
		status = VMBUS__RNDIS_BAD_VERSION;
	begin_answer(out, msg, sizeof(out), status);
	put32(out + VMBUS__RNDIS_AT_DONE_MAJOR, 1);
	put32(out + VMBUS__RNDIS_AT_DONE_FLAGS, CONNECTIONLESS);
	put32(out + VMBUS__RNDIS_AT_DONE_MEDIUM, MEDIUM_8023);
	put32(out + VMBUS__RNDIS_AT_DONE_PACKETS, ch->net->opts.frames_max);
	put32(out + VMBUS__RNDIS_AT_DONE_TRANSFER, TRANSFER);
	put32(out + VMBUS__RNDIS_AT_DONE_ALIGN, VMBUS__RNDIS_ALIGN_FACTOR);
	if (!vmbus__net_answer(ch, out, sizeof(out)))
		return false;
	if (status == VMBUS__RNDIS_OK)
		begin(ch);
	return true;
}

/* Frames neither come nor go; nothing of what was set stays.  There is no answer, [NET-DOWN]. */
static bool halt(struct vmbus__net_chan *ch)
{
	struct vmbus__net_control *const control = ch->session->control;
	struct vmbus__net_shape *shape;

	if (control->state == VMBUS__NET_READY)
		control->state = VMBUS__NET_HALTED;
	control->waiting = 0;
	vmbus__net_offload_default(control);
	shape = vmbus__net_shape_begin(ch);
	shape->running = false;
	shape->filter = 0;
	shape->rss = false;
	vmbus__net_offload_shape(ch, shape);
	vmbus__net_shape_end(ch);
	return true;
}

static bool keepalive(struct vmbus__net_chan *ch, const uint8_t *msg)
{
	uint8_t out[VMBUS__RNDIS_KEEPALIVE_DONE_BYTES];

	begin_answer(out, msg, sizeof(out), VMBUS__RNDIS_OK);
	return vmbus__net_answer(ch, out, sizeof(out));
}

/* Nothing is lost that the guest would have to set again: it is told so. */
static bool reset(struct vmbus__net_chan *ch)
{
	uint8_t out[VMBUS__RNDIS_RESET_DONE_BYTES] = { 0 };

	put32(out, VMBUS__RNDIS_RESET | VMBUS__RNDIS_DONE);
	put32(out + 4, sizeof(out));
	return vmbus__net_answer(ch, out, sizeof(out));
}

bool vmbus__net_rndis(struct vmbus__net_chan *ch, uint8_t *msg, uint32_t len)
{
	const uint32_t type = get32(msg), bytes = get32(msg + 4);
	struct vmbus__net_control *const control = ch->session->control;

	if (bytes < ID_END || bytes > len || control->state == VMBUS__NET_REVOKED)
		return false;
	if (type != VMBUS__RNDIS_HALT && control->waiting == VMBUS__NET_WAITING_MAX)
		return false; /* before anything is done that cannot be told of */
	switch (type) {
	case VMBUS__RNDIS_INITIALIZE:
		return initialize(ch, msg, bytes);
	case VMBUS__RNDIS_HALT:
		return halt(ch);
	case VMBUS__RNDIS_QUERY:
		return query(ch, msg, bytes);
	case VMBUS__RNDIS_SET:
	case VMBUS__RNDIS_SET_EX:
		return set(ch, msg, bytes);
	case VMBUS__RNDIS_RESET:
		return reset(ch);
	case VMBUS__RNDIS_KEEPALIVE:
		return keepalive(ch, msg);
	case VMBUS__RNDIS_KEEPALIVE | VMBUS__RNDIS_DONE:
		return true; /* we ask for none */
	default:
		return false;
	}
}

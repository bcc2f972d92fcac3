/* SPDX-License-Identifier: MIT */
/*
 * Requests of RNDIS that the network device's client makes, one at a time, and what the host says
 * unasked: link changes, tables.  Runs on the primary's thread.  [NET-RNDIS]
 *
 * Invariant: a request is on the wire from asking_p on until the host has both copied it and answered
 * it; the page that its message lies in is not written meanwhile.
 */
#include "netvsc/netvsc_state.h"

#define HEAD_BYTES 24u		     /* of a message, as much as is looked at of any */
#define SIDE (VMBUS_PAGE_BYTES / 2u) /* where messages that are no requests lie in the page */
#define TABLE_OLD_BYTES 104u	     /* of a message whose table is elsewhere than it says */
#define TABLE_OLD_OFFSET 40u
#define SPEED_UNIT 100u
#define NAME_BYTES 28u
#define VALUE_BYTES 24u
#define MAC_AT VMBUS__NETVSC_MAC_BYTES /* in bytes_p of a request, for when it is done */

static void bad(struct vmbus_netvsc *nv)
{
	nv->bad++;
	nv->opts_p.chan[0].stats_p.bad++;
}

/* ---- messages to the host ---- */

/* Send bytes that lie in the page; their completion says that the host has copied them. */
static int send(struct vmbus_netvsc *nv, uint32_t offset, uint32_t bytes, void *cookie)
{
	const struct vmbus__nvsp_rndis rndis = { .channel = VMBUS__NVSP_CHANNEL_CONTROL,
						 .section = VMBUS__NVSP_NO_SECTION };
	const struct vmbus_wire_ext head = { .range_count = 1 };
	uint8_t payload[VMBUS__NVSP_BYTES] = { 0 };
	uint8_t ext[24];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_GPA_DIRECT,
				       .data = payload,
				       .len = sizeof(payload),
				       .ext = ext,
				       .ext_len = sizeof(ext) };

	vmbus__nvsp_rndis_put(payload, &rndis);
	(void)vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &head, ext, sizeof(ext));
	(void)vmbus_wire_range_put(bytes, offset, &nv->page_pfn_p, ext + 8, sizeof(ext) - 8);
	return vmbus_vsc_request(nv->opts_p.chan[0].vsc_p, &msg, cookie);
}

static uint32_t type_of(const struct vmbus_netvsc_req *req)
{
	if (req->oid == VMBUS__NETVSC_INITIALIZE)
		return VMBUS__RNDIS_INITIALIZE;
	return req->set ? VMBUS__RNDIS_SET : VMBUS__RNDIS_QUERY;
}

/* Write the request's message into the page.  Returns its bytes. */
static uint32_t build(struct vmbus_netvsc *nv, const struct vmbus_netvsc_req *req)
{
	uint8_t head[VMBUS__RNDIS_ASK_BYTES] = { 0 };
	const bool begin = req->oid == VMBUS__NETVSC_INITIALIZE;
	const uint32_t fixed = begin ? VMBUS__RNDIS_INITIALIZE_BYTES : VMBUS__RNDIS_ASK_BYTES;

	vmbus__net_put32(head, type_of(req));
	vmbus__net_put32(head + 4, fixed + req->in_bytes);
	vmbus__net_put32(head + VMBUS__RNDIS_AT_ID, req->id_p);
	if (begin) {
		vmbus__net_put32(head + VMBUS__RNDIS_AT_MAJOR, 1);
		vmbus__net_put32(head + VMBUS__RNDIS_AT_MAX_TRANSFER, 0x4000);
	} else {
		vmbus__net_put32(head + VMBUS__RNDIS_AT_OID, req->oid);
		vmbus__net_put32(head + VMBUS__RNDIS_AT_INFO_BYTES, req->in_bytes);
		vmbus__net_put32(head + VMBUS__RNDIS_AT_INFO_OFFSET, VMBUS__RNDIS_ASK_OFFSET);
	}
	vmbus__peer_write(nv->page_p, head, fixed);
	if (req->in_bytes)
		vmbus__peer_write(nv->page_p + fixed, req->in, req->in_bytes);
	return fixed + req->in_bytes;
}

static void finish(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req);

/* The next one, if none is on the wire; it waits when the ring is full. */
static void ask_next(struct vmbus_netvsc *nv)
{
	struct vmbus_netvsc_req *const req = nv->first_p;
	int err;

	if (!req || nv->asking_p)
		return;
	nv->id_p = nv->id_p == UINT32_MAX ? 1 : nv->id_p + 1;
	req->id_p = nv->id_p;
	err = send(nv, 0, build(nv, req), nv->page_p);
	if (err == VMBUS_E_FULL)
		return;
	nv->copied_p = false;
	nv->answered_p = false;
	nv->asking_p = true;
	if (err) {
		req->err = VMBUS_E_PEER;
		nv->copied_p = true;
		nv->answered_p = true;
		finish(nv, req);
	}
}

void vmbus__netvsc_ask_more(struct vmbus_netvsc *nv)
{
	ask_next(nv);
}

static void finish(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req)
{
	if (!nv->copied_p || !nv->answered_p)
		return;
	nv->asking_p = false;
	nv->first_p = req->next_p;
	if (!nv->first_p)
		nv->last_p = NULL;
	if (!req->err && req->in == req->bytes_p && req->oid == VMBUS__OID_RNDIS_CONFIG_PARAMETER)
		__builtin_memcpy(nv->mac, req->bytes_p + MAC_AT, 6);
	req->done(req);
	ask_next(nv);
}

void vmbus__netvsc_ask(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req)
{
	req->err = 0;
	req->status = 0;
	req->got = 0;
	req->next_p = NULL;
	if (nv->last_p)
		nv->last_p->next_p = req;
	else
		nv->first_p = req;
	nv->last_p = req;
	ask_next(nv);
}

void vmbus__netvsc_ask_end(struct vmbus_netvsc *nv)
{
	struct vmbus_netvsc_req *req;

	nv->last_p = NULL;
	nv->asking_p = true; /* nothing is sent any more */
	while (nv->first_p) {
		req = nv->first_p;
		nv->first_p = req->next_p;
		if (req == &nv->req_p)
			continue;
		req->err = VMBUS_E_PEER;
		req->done(req);
	}
}

void vmbus__netvsc_copied(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	struct vmbus_netvsc_req *const req = nv->first_p;

	if (!pkt || !req || !nv->asking_p) /* the channel has ended: ask_end() follows */
		return;
	nv->copied_p = true;
	if (pkt->len < 8 || vmbus__net_get32(pkt->payload) != VMBUS__NVSP_RNDIS_DONE ||
	    vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_STATUS) != VMBUS__NVSP_OK) {
		bad(nv);
		req->err = VMBUS_E_PEER;
		nv->answered_p = true; /* nothing will come */
	}
	finish(nv, req);
}

void vmbus__netvsc_halt(struct vmbus_netvsc *nv)
{
	uint8_t halt[VMBUS__RNDIS_HALT_BYTES] = { 0 };
	uint8_t revoke[2][VMBUS__NVSP_BYTES] = { { 0 } };
	const struct vmbus_msg msg[2] = {
		{ .type = VMBUS_PKT_INBAND, .data = revoke[0], .len = VMBUS__NVSP_BYTES },
		{ .type = VMBUS_PKT_INBAND, .data = revoke[1], .len = VMBUS__NVSP_BYTES },
	};

	vmbus__net_put32(halt, VMBUS__RNDIS_HALT);
	vmbus__net_put32(halt + 4, sizeof(halt));
	vmbus__peer_write(nv->page_p + SIDE, halt, sizeof(halt));
	if (send(nv, SIDE, sizeof(halt), &nv->id_p))
		return; /* the close says the same */
	vmbus__net_put32(revoke[0], VMBUS__NVSP_RECEIVE_BUFFER_REVOKE);
	vmbus__net_put16(revoke[0] + VMBUS__NVSP_AT_REVOKE_ID, VMBUS__NVSP_RECEIVE_ID);
	vmbus__net_put32(revoke[1], VMBUS__NVSP_SEND_BUFFER_REVOKE);
	(void)vmbus_vsc_send(nv->opts_p.chan[0].vsc_p, msg, 2);
}

/* ---- answers ---- */

/* The information of a query, out of the receive buffer.  head: a copy of the message's begin. */
static int take_information(struct vmbus_netvsc_req *req, const uint8_t *head, uint32_t len,
			    const uint8_t *at)
{
	const uint32_t bytes = vmbus__net_get32(head + 16), offset = vmbus__net_get32(head + 20);
	const uint32_t end = len - VMBUS__RNDIS_HEAD_BYTES;

	if (offset < VMBUS__RNDIS_QUERY_DONE_OFFSET && bytes)
		return VMBUS_E_PEER;
	if (offset > end || bytes > end - offset)
		return VMBUS_E_PEER;
	if (bytes > req->out_bytes)
		return VMBUS_E_RANGE;
	if (bytes)
		vmbus__peer_read(req->out, at + VMBUS__RNDIS_HEAD_BYTES + offset, bytes);
	req->got = bytes;
	return 0;
}

static int take_answer(struct vmbus_netvsc_req *req, const uint8_t *head, uint32_t len,
		       const uint8_t *at)
{
	if (len < VMBUS__RNDIS_SET_DONE_BYTES)
		return VMBUS_E_PEER;
	req->status = vmbus__net_get32(head + VMBUS__RNDIS_AT_STATUS);
	if (req->status != VMBUS__RNDIS_OK)
		return VMBUS_E_RANGE;
	if (req->oid == VMBUS__NETVSC_INITIALIZE) {
		req->got = len < VMBUS__RNDIS_INITIALIZE_DONE_BYTES
				   ? len
				   : VMBUS__RNDIS_INITIALIZE_DONE_BYTES;
		req->got -= VMBUS__RNDIS_AT_STATUS;
		vmbus__peer_read(req->out, at + VMBUS__RNDIS_AT_STATUS, req->got);
		return 0;
	}
	if (req->set)
		return 0;
	return len < VMBUS__RNDIS_QUERY_DONE_BYTES ? VMBUS_E_PEER
						   : take_information(req, head, len, at);
}

static void answered(struct vmbus_netvsc *nv, const uint8_t *head, uint32_t len, const uint8_t *at)
{
	struct vmbus_netvsc_req *const req = nv->first_p;

	if (!req || !nv->asking_p || nv->answered_p ||
	    vmbus__net_get32(head + VMBUS__RNDIS_AT_ID) != req->id_p ||
	    vmbus__net_get32(head) != (type_of(req) | VMBUS__RNDIS_DONE)) {
		bad(nv);
		return;
	}
	req->err = take_answer(req, head, len, at);
	if (req->err == VMBUS_E_PEER)
		bad(nv);
	nv->answered_p = true;
	finish(nv, req);
}

static void link(struct vmbus_netvsc *nv, bool up)
{
	nv->up = up;
	if (vmbus__netvsc_state(nv) == VMBUS__NETVSC_READY && nv->opts_p.link)
		nv->opts_p.link(nv->opts_p.ctx, up);
}

static void link_speed(struct vmbus_netvsc *nv, const uint8_t *head, uint32_t len,
		       const uint8_t *at)
{
	const uint32_t bytes = vmbus__net_get32(head + VMBUS__RNDIS_AT_INDICATE_BYTES);
	const uint32_t offset = vmbus__net_get32(head + VMBUS__RNDIS_AT_INDICATE_OFFSET);
	const uint32_t end = len - VMBUS__RNDIS_HEAD_BYTES;
	uint8_t speed[4];

	if (bytes < 4 || offset < VMBUS__RNDIS_INDICATE_OFFSET || offset > end ||
	    end - offset < 4) {
		bad(nv);
		return;
	}
	vmbus__peer_read(speed, at + VMBUS__RNDIS_HEAD_BYTES + offset, 4);
	nv->bits_per_s = (uint64_t)vmbus__net_get32(speed) * SPEED_UNIT;
	link(nv, nv->up);
}

static void indicated(struct vmbus_netvsc *nv, const uint8_t *head, uint32_t len, const uint8_t *at)
{
	if (len < VMBUS__RNDIS_INDICATE_BYTES) {
		bad(nv);
		return;
	}
	switch (vmbus__net_get32(head + VMBUS__RNDIS_AT_INDICATE_STATUS)) {
	case VMBUS__RNDIS_MEDIA_CONNECT:
		link(nv, true);
		break;
	case VMBUS__RNDIS_MEDIA_DISCONNECT:
		link(nv, false);
		break;
	case VMBUS__RNDIS_NETWORK_CHANGE:
		link(nv, nv->up);
		break;
	case VMBUS__RNDIS_LINK_SPEED:
		link_speed(nv, head, len, at);
		break;
	default: /* what else there is does not concern us */
		break;
	}
}

/* The host asks whether we live. */
static void alive(struct vmbus_netvsc *nv, const uint8_t *head)
{
	uint8_t answer[VMBUS__RNDIS_KEEPALIVE_DONE_BYTES] = { 0 };

	vmbus__net_put32(answer, VMBUS__RNDIS_KEEPALIVE | VMBUS__RNDIS_DONE);
	vmbus__net_put32(answer + 4, sizeof(answer));
	__builtin_memcpy(answer + VMBUS__RNDIS_AT_ID, head + VMBUS__RNDIS_AT_ID, 4);
	vmbus__peer_write(nv->page_p + SIDE, answer, sizeof(answer));
	(void)send(nv, SIDE, sizeof(answer), &nv->id_p); /* it asks again */
}

void vmbus__netvsc_told(struct vmbus_netvsc *nv, const uint8_t *at, uint32_t bytes)
{
	uint8_t head[HEAD_BYTES] = { 0 };
	uint32_t len;

	if (bytes < VMBUS__RNDIS_HEAD_BYTES + 4u) {
		bad(nv);
		return;
	}
	vmbus__peer_read(head, at, bytes < sizeof(head) ? bytes : sizeof(head));
	len = vmbus__net_get32(head + 4);
	if (len < VMBUS__RNDIS_HEAD_BYTES + 4u || len > bytes) {
		bad(nv);
		return;
	}
	switch (vmbus__net_get32(head)) {
	case VMBUS__RNDIS_INITIALIZE | VMBUS__RNDIS_DONE:
	case VMBUS__RNDIS_QUERY | VMBUS__RNDIS_DONE:
	case VMBUS__RNDIS_SET | VMBUS__RNDIS_DONE:
		answered(nv, head, len, at);
		break;
	case VMBUS__RNDIS_INDICATE:
		indicated(nv, head, len, at);
		break;
	case VMBUS__RNDIS_KEEPALIVE:
		alive(nv, head);
		break;
	default:
		bad(nv);
		break;
	}
}

/* ---- what the host says by NVSP ---- */

static void table(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	const uint32_t bytes = 4u * VMBUS__NVSP_TABLE_ENTRIES;
	uint32_t i, offset, channel;

	if (pkt->len < VMBUS__NVSP_TABLE_OFFSET ||
	    vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_TABLE_COUNT) !=
		    VMBUS__NVSP_TABLE_ENTRIES) {
		bad(nv);
		return;
	}
	offset = vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_TABLE_OFFSET);
	if (nv->version <= VMBUS__NVSP_6 && pkt->len >= TABLE_OLD_BYTES)
		offset = TABLE_OLD_OFFSET;
	if (offset > pkt->len || bytes > pkt->len - offset) {
		bad(nv);
		return;
	}
	for (i = 0; i < VMBUS__NVSP_TABLE_ENTRIES; i++) {
		channel = vmbus__net_get32(pkt->payload + offset + i * 4u);
		nv->table[i] = (uint8_t)(channel < nv->offered ? channel : 0);
	}
}

void vmbus__netvsc_said(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	struct vmbus_vsc *const vsc = nv->opts_p.chan[0].vsc_p;

	switch (pkt->len < 4 ? 0 : vmbus__net_get32(pkt->payload)) {
	case VMBUS__NVSP_TABLE:
		table(nv, pkt);
		break;
	case VMBUS__NVSP_VF: /* we have no other way to send */
	case VMBUS__NVSP_DATA_PATH:
		break;
	default:
		bad(nv);
		break;
	}
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		(void)vmbus_vsc_complete(vsc, pkt->id, NULL, 0);
}

/* ---- for the user ---- */

int vmbus_netvsc_control(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req)
{
	const struct vmbus_netvsc_chan *const chan = &nv->opts_p.chan[0];

	if (req->in_bytes > VMBUS_NETVSC_OID_BYTES)
		return VMBUS_E_RANGE;
	if (!req->done || (!req->in && req->in_bytes) || (!req->out && req->out_bytes) || !req->oid)
		return VMBUS_E_INVAL;
	if (vmbus__netvsc_state(nv) != VMBUS__NETVSC_READY || !chan->open_p || chan->left_p)
		return VMBUS_E_STATE;
	vmbus__netvsc_ask(nv, req);
	return 0;
}

/* Text as RNDIS has it: 16 bits for each character. */
static uint8_t *put_text(uint8_t *p, const char *text)
{
	for (; *text; text++, p += 2)
		vmbus__net_put16(p, (uint8_t)*text);
	return p;
}

uint32_t vmbus__netvsc_mac_put(uint8_t *p, const uint8_t mac[6])
{
	static const char digits[] = "0123456789ABCDEF";
	const struct vmbus__param param = { .name_offset = VMBUS__PARAM_BYTES,
					    .name_bytes = NAME_BYTES,
					    .type = VMBUS__PARAM_STRING,
					    .value_offset = VMBUS__PARAM_BYTES + NAME_BYTES,
					    .value_bytes = VALUE_BYTES };
	uint32_t i;

	vmbus__param_put(p, &param);
	p = put_text(p + VMBUS__PARAM_BYTES, "NetworkAddress");
	for (i = 0; i < 6; i++, p += 4) {
		vmbus__net_put16(p, (uint8_t)digits[mac[i] >> 4]);
		vmbus__net_put16(p + 2, (uint8_t)digits[mac[i] & 15]);
	}
	return VMBUS__NETVSC_MAC_BYTES;
}

int vmbus_netvsc_set_mac(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req,
			 const uint8_t mac[6])
{
	if (mac[0] & 1u || !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]))
		return VMBUS_E_INVAL;
	req->oid = VMBUS__OID_RNDIS_CONFIG_PARAMETER;
	req->set = true;
	req->in = req->bytes_p;
	req->in_bytes = vmbus__netvsc_mac_put(req->bytes_p, mac);
	__builtin_memcpy(req->bytes_p + MAC_AT, mac, 6);
	req->out = NULL;
	req->out_bytes = 0;
	return vmbus_netvsc_control(nv, req);
}

int vmbus_netvsc_set_filter(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req, uint32_t filter)
{
	req->oid = VMBUS__OID_PACKET_FILTER;
	req->set = true;
	req->in = req->bytes_p;
	req->in_bytes = 4;
	vmbus__net_put32(req->bytes_p, filter);
	req->out = NULL;
	req->out_bytes = 0;
	return vmbus_netvsc_control(nv, req);
}

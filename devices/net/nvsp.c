/* SPDX-License-Identifier: MIT */
/*
 * NVSP messages of the guest's, but those that carry RNDIS: version, buffers, sub-channels, and what a
 * NIC without a VF says to the rest.  Each message has a state that it belongs to; elsewhere it gets
 * the answer that it failed, and if it has no answer the channel ends.
 */
#include "net/control.h"

#include <stdlib.h>
#include <string.h>

#define get32 vmbus__net_get32
#define put32 vmbus__net_put32
#define CHAIN 34u /* pieces of a frame, as Windows tells */
#define NOT_USED UINT32_MAX
#define MESSAGE_BYTES VMBUS__NVSP_BYTES
#define LEAST_BYTES 4u

bool vmbus__net_is_version(uint32_t version)
{
	return version == VMBUS__NVSP_61 || version == VMBUS__NVSP_6 || version == VMBUS__NVSP_5 ||
	       version == VMBUS__NVSP_4 || version == VMBUS__NVSP_2 || version == VMBUS__NVSP_1;
}

/* The primary's thread alone changes the shape, so it needs no lock to read it. */
uint32_t vmbus__net_version(struct vmbus__net_chan *ch)
{
	return ch->session->shape.nvsp;
}

/* ---- answers ---- */

static void reply(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked, uint8_t *msg,
		  uint32_t type)
{
	put32(msg, type);
	if (asked->wants)
		vmbus__net_complete(ch, asked->id, msg, vmbus__nvsp_bytes(vmbus__net_version(ch)));
}

static void reply_empty(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	if (asked->wants)
		vmbus__net_complete(ch, asked->id, NULL, 0);
}

static void reply_status(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked,
			 uint32_t type, uint32_t status)
{
	uint8_t msg[MESSAGE_BYTES] = { 0 };

	put32(msg + VMBUS__NVSP_AT_STATUS, status);
	reply(ch, asked, msg, type);
}

/* ---- the beginning ---- */

static uint32_t agree(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	const uint32_t least = get32(asked->msg + VMBUS__NVSP_AT_INIT_MIN);
	const uint32_t most = get32(asked->msg + VMBUS__NVSP_AT_INIT_MAX);
	struct vmbus__net_control *const control = ch->session->control;
	struct vmbus__net_shape *shape;

	if (control->state != VMBUS__NET_BEGIN || asked->bytes < 12u)
		return VMBUS__NVSP_FAIL;
	if (least > most || !vmbus__net_is_version(most))
		return 0; /* the guest tries another one, [NET-INIT] */
	control->state = VMBUS__NET_SETUP;
	shape = vmbus__net_shape_begin(ch);
	shape->nvsp = most;
	vmbus__net_shape_end(ch);
	return VMBUS__NVSP_OK;
}

static void init(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	const uint32_t status = agree(ch, asked);
	uint8_t msg[MESSAGE_BYTES] = { 0 };

	put32(msg + VMBUS__NVSP_AT_DONE_VERSION,
	      vmbus__net_version(ch) == VMBUS__NVSP_1 ? VMBUS__NVSP_1 : NOT_USED);
	put32(msg + VMBUS__NVSP_AT_DONE_CHAIN, CHAIN);
	put32(msg + VMBUS__NVSP_AT_DONE_STATUS, status);
	reply(ch, asked, msg, VMBUS__NVSP_INIT_DONE);
}

static void ndis_version(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	struct vmbus__net_control *const control = ch->session->control;

	if (control->state != VMBUS__NET_SETUP || control->have_ndis || asked->bytes < 12u) {
		vmbus_chan_fail(ch->chan, "an NDIS version out of turn, or cut off");
		return;
	}
	control->have_ndis = true;
	control->ndis = (get32(asked->msg + VMBUS__NVSP_AT_NDIS_MAJOR) & 0xFFFFu) << 16 |
			(get32(asked->msg + VMBUS__NVSP_AT_NDIS_MINOR) & 0xFFFFu);
	reply_empty(ch, asked);
}

/* What a guest may send without large send, [NET-INIT]: its wish within our limits. */
static uint32_t agree_mtu(struct vmbus_net *net, uint32_t field)
{
	uint32_t least = VMBUS__NET_MTU, most = net->opts.mtu_max;

	pthread_mutex_lock(&net->lock);
	if (net->info.mtu_max && most > net->info.mtu_max)
		most = net->info.mtu_max;
	pthread_mutex_unlock(&net->lock);
	if (least > most)
		least = most;
	if (field < least + VMBUS__NET_ETHERNET)
		return least;
	return field > most + VMBUS__NET_ETHERNET ? most : field - VMBUS__NET_ETHERNET;
}

static void ndis_config(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	struct vmbus__net_control *const control = ch->session->control;
	struct vmbus__net_shape *shape;
	uint32_t mtu;

	if (control->state != VMBUS__NET_SETUP || control->have_config || control->have_receive ||
	    vmbus__net_version(ch) < VMBUS__NVSP_2 || asked->bytes < 20u) {
		vmbus_chan_fail(ch->chan, "an NDIS configuration out of turn, or cut off");
		return;
	}
	mtu = agree_mtu(ch->net, get32(asked->msg + VMBUS__NVSP_AT_MTU));
	control->have_config = true;
	control->caps = vmbus__net_get64(asked->msg + VMBUS__NVSP_AT_CAPS);
	shape = vmbus__net_shape_begin(ch);
	shape->mtu = mtu;
	vmbus__net_offload_shape(ch, shape);
	vmbus__net_shape_end(ch);
	reply_empty(ch, asked);
}

/* ---- buffers ---- */

static uint32_t refuse_buffer(struct vmbus__net_chan *ch, const char *which, int err)
{
	vmbus__net_log(ch->net, "%s%sthe guest's %s buffer cannot be used: %s", ch->net->name,
		       ch->net->name[0] ? ": " : "", which, vmbus_err_name(err));
	return VMBUS__NVSP_FAIL;
}

/* RNDIS may begin: both buffers, or one and a message. */
static void begin_rndis(struct vmbus__net_chan *ch)
{
	struct vmbus__net_shape *const shape = vmbus__net_shape_begin(ch);

	shape->messages = true;
	vmbus__net_shape_end(ch);
	ch->session->control->state = VMBUS__NET_RNDIS;
}

bool vmbus__net_may_begin(struct vmbus__net_chan *ch)
{
	const struct vmbus__net_control *const control = ch->session->control;

	if (control->state != VMBUS__NET_SETUP || !control->have_ndis || !control->have_receive)
		return false;
	begin_rndis(ch);
	return true;
}

static uint32_t take_receive(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	struct vmbus__net_control *const control = ch->session->control;
	const uint32_t gpadl = get32(asked->msg + VMBUS__NVSP_AT_GPADL);
	struct vmbus__net_shape *shape;
	int err;

	if (control->state != VMBUS__NET_SETUP || control->have_receive || asked->bytes < 10u ||
	    (!control->have_config && vmbus__net_version(ch) >= VMBUS__NVSP_2))
		return VMBUS__NVSP_FAIL;
	shape = vmbus__net_shape_begin(ch);
	shape->receive_id = vmbus__net_get16(asked->msg + VMBUS__NVSP_AT_BUFFER_ID);
	vmbus__net_shape_end(ch);
	err = vmbus__net_take_receive(ch, gpadl, &control->receive_section,
				      &control->receive_count);
	if (err)
		return refuse_buffer(ch, "receive", err);
	control->receive_gpadl = gpadl;
	control->have_receive = true;
	return VMBUS__NVSP_OK;
}

static void receive_buffer(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	const struct vmbus__net_control *const control = ch->session->control;
	const uint32_t status = take_receive(ch, asked);
	const bool ok = status == VMBUS__NVSP_OK;
	uint8_t msg[MESSAGE_BYTES] = { 0 };

	put32(msg + VMBUS__NVSP_AT_STATUS, status);
	if (ok) {
		put32(msg + VMBUS__NVSP_AT_SECTIONS, 1);
		put32(msg + VMBUS__NVSP_AT_AREA_SECTION, control->receive_section);
		put32(msg + VMBUS__NVSP_AT_AREA_COUNT, control->receive_count);
		put32(msg + VMBUS__NVSP_AT_AREA_END,
		      control->receive_section * control->receive_count);
	}
	reply(ch, asked, msg, VMBUS__NVSP_RECEIVE_BUFFER_DONE);
	if (ok && control->have_ndis && control->have_send)
		begin_rndis(ch);
}

static uint32_t take_send(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	struct vmbus__net_control *const control = ch->session->control;
	const uint32_t gpadl = get32(asked->msg + VMBUS__NVSP_AT_GPADL);
	int err;

	if (control->state != VMBUS__NET_SETUP || control->have_send || asked->bytes < 10u ||
	    (!control->have_config && vmbus__net_version(ch) >= VMBUS__NVSP_2))
		return VMBUS__NVSP_FAIL;
	err = vmbus__net_take_send(ch, gpadl, &control->send_count);
	if (err)
		return refuse_buffer(ch, "send", err);
	control->send_gpadl = gpadl;
	control->have_send = true;
	return VMBUS__NVSP_OK;
}

static void send_buffer(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	const struct vmbus__net_control *const control = ch->session->control;
	const uint32_t status = take_send(ch, asked);
	const bool ok = status == VMBUS__NVSP_OK;
	uint8_t msg[MESSAGE_BYTES] = { 0 };

	put32(msg + VMBUS__NVSP_AT_STATUS, status);
	if (ok)
		put32(msg + VMBUS__NVSP_AT_SEND_SECTION, ch->net->opts.section_bytes);
	reply(ch, asked, msg, VMBUS__NVSP_SEND_BUFFER_DONE);
	if (ok && control->have_ndis && control->have_receive)
		begin_rndis(ch);
}

/* The buffers are the guest's again at once, in any state; nothing but the close follows, [NET-DOWN]. */
static void revoke(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	struct vmbus__net_control *const control = ch->session->control;
	struct vmbus__net_shape *shape;

	control->waiting = 0;
	shape = vmbus__net_shape_begin(ch);
	shape->messages = false;
	shape->running = false;
	shape->filter = 0;
	shape->rss = false;
	vmbus__net_shape_end(ch);
	if (asked->type == VMBUS__NVSP_RECEIVE_BUFFER_REVOKE) {
		vmbus__net_revoke_receive(ch);
		control->have_receive = false;
	} else {
		vmbus__net_revoke_send(ch);
		control->have_send = false;
	}
	if (control->state != VMBUS__NET_BEGIN)
		control->state = VMBUS__NET_REVOKED;
	reply_empty(ch, asked);
}

/* ---- sub-channels ---- */

/* Not so many found room.  The guest waits for them for ever, so it begins anew: and would be promised as
   many again, if it were not remembered. */
static void fail_offer(struct vmbus__net_chan *ch, int err)
{
	struct vmbus_net *const net = ch->net;
	struct vmbus_chan_info info;

	if (err == VMBUS_E_FULL || err == VMBUS_E_NOMEM) { /* the bus's own thread, then */
		vmbus_chan_info(ch->chan, &info);
		pthread_mutex_lock(&net->lock);
		if (net->subs_max > info.subchannels)
			net->subs_max = info.subchannels;
		pthread_mutex_unlock(&net->lock);
	}
	vmbus_chan_fail(ch->chan, "not as many sub-channels as the guest was promised");
}

/* The guest counts them when it has the answer, so the offers come behind it, [NET-SUB]. */
static void offer(struct vmbus__net_chan *ch)
{
	struct vmbus__net_control *const control = ch->session->control;
	const uint32_t count = control->offer_due;
	int err;

	if (count == 0 || ch->answers)
		return;
	control->offer_due = 0;
	(void)vmbus_chan_flush(ch->chan);
	err = vmbus_chan_offer_subchannels(ch->chan, count);
	if (err)
		fail_offer(ch, err);
}

static uint32_t grant(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	struct vmbus__net_control *const control = ch->session->control;
	uint32_t count = get32(asked->msg + VMBUS__NVSP_AT_SUB_COUNT), most;

	if (asked->bytes < 12u || control->state != VMBUS__NET_READY || control->asked ||
	    vmbus__net_version(ch) < VMBUS__NET_RSS_VERSION || count == 0 ||
	    get32(asked->msg + VMBUS__NVSP_AT_SUB_OP) != VMBUS__NVSP_SUB_ALLOCATE)
		return 0;
	pthread_mutex_lock(&ch->net->lock);
	most = ch->net->subs_max;
	pthread_mutex_unlock(&ch->net->lock);
	if (count > most)
		count = most;
	return count ? vmbus__net_grant(ch, count) : 0;
}

static void subchannel(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	struct vmbus__net_control *const control = ch->session->control;
	const uint32_t count = grant(ch, asked);
	uint8_t msg[MESSAGE_BYTES] = { 0 };

	put32(msg + VMBUS__NVSP_AT_STATUS, count ? VMBUS__NVSP_OK : VMBUS__NVSP_FAIL);
	put32(msg + VMBUS__NVSP_AT_SUB_COUNT, count);
	reply(ch, asked, msg, VMBUS__NVSP_SUBCHANNEL);
	if (count == 0)
		return;
	/* There are fewer receive sections for each. */
	vmbus__net_offload_shape(ch, vmbus__net_shape_begin(ch));
	vmbus__net_shape_end(ch);
	control->asked = count;
	control->offer_due = count;
	control->table_due = true;
	offer(ch);
}

/* Which channel a guest is to send on, of 16 of its flows; all channels, in turn. */
static void tell_table(struct vmbus__net_chan *ch)
{
	struct vmbus__net_control *const control = ch->session->control;
	uint8_t msg[VMBUS__NVSP_TABLE_BYTES];
	uint32_t i;

	for (i = 1; i <= control->asked; i++)
		if (!vmbus__ld32_acquire(&ch->session->seat[i].open)) /* NETSEAT.look */
			return;
	control->table_due = false;
	put32(msg, VMBUS__NVSP_TABLE);
	put32(msg + VMBUS__NVSP_AT_TABLE_COUNT, VMBUS__NVSP_TABLE_ENTRIES);
	put32(msg + VMBUS__NVSP_AT_TABLE_OFFSET, VMBUS__NVSP_TABLE_OFFSET);
	for (i = 0; i < VMBUS__NVSP_TABLE_ENTRIES; i++)
		put32(msg + VMBUS__NVSP_TABLE_OFFSET + 4u * i, i % (control->asked + 1u));
	vmbus__net_inband(ch, msg, sizeof(msg));
}

/* ---- messages ---- */

/* One that there is no answer to but its completion: unknown, or of no use without a VF. */
static void other(struct vmbus__net_chan *ch, const struct vmbus__net_asked *asked)
{
	switch (asked->type) {
	case VMBUS__NVSP_OID_EX:
		reply_status(ch, asked, VMBUS__NVSP_OID_EX_DONE, VMBUS__RNDIS_NOT_SUPPORTED);
		break;
	case VMBUS__NVSP_PD_API:
		reply_status(ch, asked, VMBUS__NVSP_PD_API, VMBUS__RNDIS_NOT_SUPPORTED);
		break;
	case VMBUS__NVSP_DATA_PATH: /* a payload would be taken for something else, [NET-NVSP] */
	default:
		reply_empty(ch, asked);
		break;
	}
}

void vmbus__net_nvsp(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt)
{
	struct vmbus__net_asked asked = { .id = pkt->id,
					  .bytes = pkt->len,
					  .wants = pkt->flags & VMBUS_PKT_FLAG_COMPLETE };

	if (pkt->len < LEAST_BYTES || !vmbus__net_is_primary(ch)) {
		vmbus_chan_fail(ch->chan, "a network message that no channel of this kind gets");
		return;
	}
	memcpy(asked.msg, pkt->payload,
	       pkt->len < sizeof(asked.msg) ? pkt->len : sizeof(asked.msg));
	asked.type = get32(asked.msg);
	switch (asked.type) {
	case VMBUS__NVSP_INIT:
		init(ch, &asked);
		break;
	case VMBUS__NVSP_NDIS_VERSION:
		ndis_version(ch, &asked);
		break;
	case VMBUS__NVSP_NDIS_CONFIG:
		ndis_config(ch, &asked);
		break;
	case VMBUS__NVSP_RECEIVE_BUFFER:
		receive_buffer(ch, &asked);
		break;
	case VMBUS__NVSP_SEND_BUFFER:
		send_buffer(ch, &asked);
		break;
	case VMBUS__NVSP_RECEIVE_BUFFER_REVOKE:
	case VMBUS__NVSP_SEND_BUFFER_REVOKE:
		revoke(ch, &asked);
		break;
	case VMBUS__NVSP_SUBCHANNEL:
		subchannel(ch, &asked);
		break;
	default:
		other(ch, &asked);
		break;
	}
}

/* ---- a session ---- */

int vmbus__net_control_open(struct vmbus__net_chan *ch)
{
	struct vmbus__net_control *const control = calloc(1, sizeof(*control));
	static const uint8_t none[6];
	struct vmbus_net *const net = ch->net;
	struct vmbus__net_shape *shape;
	uint64_t bits;
	bool up;

	if (!control)
		return VMBUS_E_NOMEM;
	ch->session->control = control;
	vmbus__net_offload_default(control);
	up = vmbus__net_is_up(net, &bits);
	shape = vmbus__net_shape_begin(ch);
	shape->mtu = VMBUS__NET_MTU;
	shape->link = up;
	memcpy(shape->mac, memcmp(net->guest_mac, none, 6) ? net->guest_mac : net->mac, 6);
	vmbus__net_offload_shape(ch, shape);
	vmbus__net_shape_end(ch);
	return 0;
}

void vmbus__net_control_close(struct vmbus__net_chan *ch)
{
	free(ch->session->control);
	ch->session->control = NULL;
}

void vmbus__net_control_again(struct vmbus__net_chan *ch)
{
	struct vmbus__net_control *const control = ch->session->control;

	offer(ch);
	vmbus__net_send_waiting(ch);
	if (control->table_due && control->offer_due == 0 && control->state == VMBUS__NET_READY)
		tell_table(ch);
	if (control->offload_due)
		vmbus__net_offload_tell(ch);
	vmbus__net_link_go_on(ch);
}

/* SPDX-License-Identifier: MIT */
/*
 * Which checksums and large frames a guest may leave to the NIC, and which it takes: what it is told
 * that there is, what it sets, and what the data path makes of it.  What the port cannot do is done in
 * software, so a guest is always told of the same, [NET-OFFLOAD].
 */
#include "net/rx.h"

#include "net/control.h"

#include <string.h>

#define SUMS4                                                                                      \
	(VMBUS__OFFLOAD_IP_OPTIONS | VMBUS__OFFLOAD_TCP_OPTIONS | VMBUS__OFFLOAD_TCP |             \
	 VMBUS__OFFLOAD_UDP | VMBUS__OFFLOAD_IP_HEADER)
#define SUMS6                                                                                      \
	(VMBUS__OFFLOAD_IP_OPTIONS | VMBUS__OFFLOAD_TCP_OPTIONS | VMBUS__OFFLOAD_TCP |             \
	 VMBUS__OFFLOAD_UDP)
#define SEGMENTS 2u
#define ON 2u /* of large frames */

static bool none_at_all(const struct vmbus__net_chan *ch)
{
	return ch->net->opts.flags & VMBUS_NET_NO_OFFLOAD;
}

/* The guest has said that it knows frames in pieces, and may have them. */
static bool has_rsc(const struct vmbus__net_chan *ch)
{
	return !(ch->net->opts.flags & VMBUS_NET_NO_RSC) &&
	       ch->session->shape.nvsp >= VMBUS__NVSP_61 &&
	       (ch->session->control->caps & VMBUS__NVSP_CAP_RSC);
}

/* Each channel has sections for one of the largest: else they are cut, and the guest may think that
   there are none. */
static bool has_sections(const struct vmbus__net_chan *ch)
{
	const struct vmbus__net_control *const control = ch->session->control;
	const uint32_t bytes = control->receive_section, count = control->receive_count;
	uint32_t need;

	if (bytes <= VMBUS__RX_FRAME_AT)
		return false;
	need = VMBUS_FRAME_BYTES_MAX / (bytes - VMBUS__RX_FRAME_AT) + 1u;
	return need <= (count - vmbus__net_control_sections(count)) / (ch->session->subs + 1u);
}

/* ---- what is told ---- */

void vmbus__net_offload_can(struct vmbus__net_chan *ch, struct vmbus__offload *offload)
{
	const uint8_t rsc = has_rsc(ch);

	*offload = (struct vmbus__offload){ .rsc4 = rsc, .rsc6 = rsc };
	if (none_at_all(ch))
		return;
	offload->tx4 = offload->rx4 = SUMS4;
	offload->tx6 = offload->rx6 = SUMS6;
	offload->lso4_bytes = offload->lso6_bytes = VMBUS__NET_LSO_BYTES;
	offload->lso_segments = SEGMENTS;
}

static bool sends(uint8_t v)
{
	return v == VMBUS__OFFLOAD_TX || v == VMBUS__OFFLOAD_BOTH;
}

static bool receives(uint8_t v)
{
	return v == VMBUS__OFFLOAD_RX || v == VMBUS__OFFLOAD_BOTH;
}

/* Flags of one IP version and one direction; ip is of IPv4 only. */
static uint32_t flags_of(bool ip, bool tcp, bool udp)
{
	uint32_t flags = 0;

	if (ip)
		flags |= VMBUS__OFFLOAD_IP_HEADER;
	if (tcp)
		flags |= VMBUS__OFFLOAD_TCP | VMBUS__OFFLOAD_TCP_OPTIONS;
	if (udp)
		flags |= VMBUS__OFFLOAD_UDP;
	return flags ? flags | VMBUS__OFFLOAD_IP_OPTIONS : 0;
}

void vmbus__net_offload_is(struct vmbus__net_chan *ch, struct vmbus__offload *offload)
{
	const struct vmbus__offload_set *const set = &ch->session->control->offloads;

	*offload = (struct vmbus__offload){ .rsc4 = set->rsc4 == ON, .rsc6 = set->rsc6 == ON };
	offload->tx4 = flags_of(sends(set->ip4), sends(set->tcp4), sends(set->udp4));
	offload->rx4 = flags_of(receives(set->ip4), receives(set->tcp4), receives(set->udp4));
	offload->tx6 = flags_of(false, sends(set->tcp6), sends(set->udp6));
	offload->rx6 = flags_of(false, receives(set->tcp6), receives(set->udp6));
	offload->lso4_bytes = set->lso4 == ON ? VMBUS__NET_LSO_BYTES : 0;
	offload->lso6_bytes = set->lso6 == ON ? VMBUS__NET_LSO_BYTES : 0;
	offload->lso_segments = SEGMENTS;
}

uint32_t vmbus__net_offload_bytes(struct vmbus__net_chan *ch)
{
	const uint32_t version = ch->session->shape.nvsp;

	if (version >= VMBUS__NVSP_5)
		return VMBUS__OFFLOAD_3_BYTES;
	return version >= VMBUS__NVSP_4 ? VMBUS__OFFLOAD_2_BYTES : VMBUS__OFFLOAD_1_BYTES;
}

void vmbus__net_offload_tell(struct vmbus__net_chan *ch)
{
	const uint32_t bytes = vmbus__net_offload_bytes(ch);
	uint8_t info[VMBUS__OFFLOAD_3_BYTES];
	struct vmbus__offload offload;

	vmbus__net_offload_is(ch, &offload);
	vmbus__offload_put(info, bytes, &offload);
	if (vmbus__net_indicate(ch, VMBUS__RNDIS_OFFLOAD_CONFIG, info, bytes))
		ch->session->control->offload_due = false;
}

/* ---- what is set ---- */

void vmbus__net_offload_default(struct vmbus__net_control *control)
{
	memset(&control->offloads, VMBUS__OFFLOAD_OFF, sizeof(control->offloads));
	control->offload_due = false;
}

void vmbus__net_offload_shape(const struct vmbus__net_chan *ch, struct vmbus__net_shape *shape)
{
	const struct vmbus__net_control *const control = ch->session->control;
	const struct vmbus__offload_set *const set = &control->offloads;
	const uint32_t vlan =
		control->caps & VMBUS__NVSP_CAP_8021Q ? (uint32_t)VMBUS_FRAME_VLAN : 0;

	shape->tx = shape->rx = vlan;
	if (sends(set->tcp4) || sends(set->udp4) || sends(set->tcp6) || sends(set->udp6))
		shape->tx |= VMBUS_FRAME_CSUM;
	if (sends(set->ip4))
		shape->tx |= VMBUS_FRAME_IP_CSUM;
	if (set->lso4 == ON)
		shape->tx |= VMBUS_FRAME_TSO4;
	if (set->lso6 == ON)
		shape->tx |= VMBUS_FRAME_TSO6;
	/* A port tells no protocols apart. */
	if (receives(set->tcp4) && receives(set->udp4) && receives(set->tcp6) &&
	    receives(set->udp6))
		shape->rx |= VMBUS_FRAME_CSUM;
	shape->rsc4 = set->rsc4 == ON && has_sections(ch);
	shape->rsc6 = set->rsc6 == ON && has_sections(ch);
	if (shape->rsc4)
		shape->rx |= VMBUS_FRAME_TSO4;
	if (shape->rsc6)
		shape->rx |= VMBUS_FRAME_TSO6;
}

static void publish(struct vmbus__net_chan *ch)
{
	struct vmbus__net_shape *const shape = vmbus__net_shape_begin(ch);

	vmbus__net_offload_shape(ch, shape);
	vmbus__net_shape_end(ch);
	ch->session->control->offload_due = true;
}

/* No change, or a number up to most: what cannot be on stays off. */
static bool take(uint8_t *now, uint8_t asked, uint32_t most, bool can)
{
	if (asked > most)
		return false;
	if (asked)
		*now = can ? asked : (uint8_t)VMBUS__OFFLOAD_OFF;
	return true;
}

uint32_t vmbus__net_offload_set(struct vmbus__net_chan *ch, const uint8_t *in, uint32_t bytes)
{
	struct vmbus__net_control *const control = ch->session->control;
	struct vmbus__offload_set now = control->offloads, asked;
	const bool can = !none_at_all(ch), rsc = has_rsc(ch);

	if (bytes < VMBUS__OFFLOAD_SET_SHORT_BYTES)
		return VMBUS__RNDIS_INVALID_LENGTH;
	if (in[0] != VMBUS__NDIS_DEFAULT ||
	    vmbus__net_get16(in + 2) < VMBUS__OFFLOAD_SET_SHORT_BYTES)
		return VMBUS__RNDIS_INVALID_DATA;
	if (bytes > vmbus__net_get16(in + 2))
		bytes = vmbus__net_get16(in + 2);
	vmbus__offload_set_get(&asked, in, bytes);
	if (asked.lso1 == ON)
		return VMBUS__RNDIS_NOT_SUPPORTED;
	if (!take(&now.ip4, asked.ip4, VMBUS__OFFLOAD_BOTH, can) ||
	    !take(&now.tcp4, asked.tcp4, VMBUS__OFFLOAD_BOTH, can) ||
	    !take(&now.udp4, asked.udp4, VMBUS__OFFLOAD_BOTH, can) ||
	    !take(&now.tcp6, asked.tcp6, VMBUS__OFFLOAD_BOTH, can) ||
	    !take(&now.udp6, asked.udp6, VMBUS__OFFLOAD_BOTH, can) ||
	    !take(&now.lso4, asked.lso4, ON, can) || !take(&now.lso6, asked.lso6, ON, can) ||
	    !take(&now.rsc4, asked.rsc4, ON, rsc) || !take(&now.rsc6, asked.rsc6, ON, rsc))
		return VMBUS__RNDIS_INVALID_DATA;
	control->offloads = now;
	publish(ch);
	return VMBUS__RNDIS_OK;
}

/* The names of parameters that stand for one offload each. */
static uint8_t *named(struct vmbus__offload_set *set, const char *name, uint32_t *most)
{
	*most = 3;
	if (!strcmp(name, "*IPChecksumOffloadIPv4"))
		return &set->ip4;
	if (!strcmp(name, "*TCPChecksumOffloadIPv4"))
		return &set->tcp4;
	if (!strcmp(name, "*UDPChecksumOffloadIPv4"))
		return &set->udp4;
	if (!strcmp(name, "*TCPChecksumOffloadIPv6"))
		return &set->tcp6;
	if (!strcmp(name, "*UDPChecksumOffloadIPv6"))
		return &set->udp6;
	*most = 1;
	if (!strcmp(name, "*LsoV2IPv4"))
		return &set->lso4;
	if (!strcmp(name, "*LsoV2IPv6"))
		return &set->lso6;
	return NULL;
}

uint32_t vmbus__net_offload_name(struct vmbus__net_chan *ch, const char *name, uint32_t value)
{
	struct vmbus__net_control *const control = ch->session->control;
	uint32_t most;
	uint8_t *const what = named(&control->offloads, name, &most);

	if (!what)
		return VMBUS__RNDIS_OK; /* a name that we have no use for */
	if (value < '0' || value - '0' > most)
		return VMBUS__RNDIS_INVALID_DATA;
	/* 0 off, 1 sends, 2 receives, 3 both; of large frames 1 is on. */
	*what = (uint8_t)(none_at_all(ch) ? (uint32_t)VMBUS__OFFLOAD_OFF : value - '0' + 1u);
	publish(ch);
	return VMBUS__RNDIS_OK;
}

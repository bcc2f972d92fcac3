/* SPDX-License-Identifier: MIT */
/*
 * How the network device's client and its host agree: version, buffers, limits, offloads, channels, in
 * messages of which each waits for the answer before it.  [NET-INIT]
 *
 * Invariant: one message is under way until the NIC is ready or has failed.  Where an answer of RNDIS
 * says no, the NIC does without, but for what nobody can do without.
 */
#include "netvsc/netvsc_state.h"

enum step {
	STEP_VERSION,
	STEP_RECEIVE,
	STEP_SEND,
	STEP_INITIALIZE,
	STEP_FRAME_SIZE,
	STEP_ADDRESS,
	STEP_OFFLOADS,
	STEP_OFFLOADS_SET,
	STEP_MEDIA,
	STEP_SPEED,
	STEP_SCALE,
	STEP_SUBCHANNELS,
	STEP_SCALE_SET,
	STEP_ADDRESS_SET,
	STEP_FILTER,
	STEP_READY
};

static const uint32_t versions[] = { VMBUS__NVSP_61, VMBUS__NVSP_6, VMBUS__NVSP_5,
				     VMBUS__NVSP_4,  VMBUS__NVSP_2, VMBUS__NVSP_1 };
#define VERSIONS (sizeof(versions) / sizeof(versions[0]))

#define HEAD_MTU 14u /* of Ethernet, in the MTU of NDIS_CONFIG */
#define MTU_MIN 68u
#define MTU_1 1500u /* there is no NDIS_CONFIG in version 1 */
#define RECEIVE_SECTION_MIN 68u
#define SEND_SECTION_MIN 256u
#define LARGE_RANGES 32u /* of a frame in several sections */
#define HEAD_ROOM (VMBUS__RNDIS_PACKET_BYTES + VMBUS__PPI_ALL_BYTES)
#define FRAME_MAX 65535u
#define SPEED_UNIT 100u
#define SEND_ID 0u

/* ---- messages of NVSP ---- */

/* Send one, and have its answer, if there is one to come. */
static int say(struct vmbus_netvsc *nv, uint8_t *bytes, uint32_t type, bool answered)
{
	struct vmbus_vsc *const vsc = nv->opts_p.chan[0].vsc_p;
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = bytes,
				       .len = VMBUS__NVSP_BYTES };
	int err;

	vmbus__net_put32(bytes, type);
	if (answered)
		return vmbus_vsc_request(vsc, &msg, nv);
	err = vmbus_vsc_send(vsc, &msg, 1);
	return err < 0 ? err : 0;
}

static int say_version(struct vmbus_netvsc *nv)
{
	uint8_t bytes[VMBUS__NVSP_BYTES] = { 0 };

	vmbus__net_put32(bytes + VMBUS__NVSP_AT_INIT_MIN, versions[nv->versions_p]);
	vmbus__net_put32(bytes + VMBUS__NVSP_AT_INIT_MAX, versions[nv->versions_p]);
	return say(nv, bytes, VMBUS__NVSP_INIT, true);
}

static int say_config(struct vmbus_netvsc *nv)
{
	uint8_t bytes[VMBUS__NVSP_BYTES] = { 0 };
	uint64_t caps = VMBUS__NVSP_CAP_8021Q;

	if (nv->version == VMBUS__NVSP_61 && nv->opts_p.flags & VMBUS_NETVSC_RSC)
		caps |= VMBUS__NVSP_CAP_RSC;
	vmbus__net_put32(bytes + VMBUS__NVSP_AT_MTU, nv->opts_p.mtu + HEAD_MTU);
	vmbus__net_put64(bytes + VMBUS__NVSP_AT_CAPS, caps);
	return say(nv, bytes, VMBUS__NVSP_NDIS_CONFIG, false);
}

static int say_ndis(struct vmbus_netvsc *nv)
{
	uint8_t bytes[VMBUS__NVSP_BYTES] = { 0 };

	vmbus__net_put32(bytes + VMBUS__NVSP_AT_NDIS_MAJOR, 6);
	vmbus__net_put32(bytes + VMBUS__NVSP_AT_NDIS_MINOR,
			 nv->version >= VMBUS__NVSP_5 ? 30u : 1u);
	return say(nv, bytes, VMBUS__NVSP_NDIS_VERSION, false);
}

static int say_buffer(struct vmbus_netvsc *nv, uint32_t which)
{
	uint8_t bytes[VMBUS__NVSP_BYTES] = { 0 };
	const bool receive = which == VMBUS__NETVSC_RECEIVE;

	vmbus__net_put32(bytes + VMBUS__NVSP_AT_GPADL, nv->buffer_p[which].gpadl);
	vmbus__net_put16(bytes + VMBUS__NVSP_AT_BUFFER_ID,
			 receive ? VMBUS__NVSP_RECEIVE_ID : SEND_ID);
	return say(nv, bytes, receive ? VMBUS__NVSP_RECEIVE_BUFFER : VMBUS__NVSP_SEND_BUFFER, true);
}

static int say_subchannels(struct vmbus_netvsc *nv)
{
	uint8_t bytes[VMBUS__NVSP_BYTES] = { 0 };

	vmbus__net_put32(bytes + VMBUS__NVSP_AT_SUB_OP, VMBUS__NVSP_SUB_ALLOCATE);
	vmbus__net_put32(bytes + VMBUS__NVSP_AT_SUB_COUNT, nv->subs_p);
	return say(nv, bytes, VMBUS__NVSP_SUBCHANNEL, true);
}

/* ---- requests of RNDIS ---- */

static void asked(struct vmbus_netvsc_req *req);

static void ask(struct vmbus_netvsc *nv, uint32_t oid, bool set, uint32_t bytes)
{
	nv->req_p = (struct vmbus_netvsc_req){ .oid = oid,
					       .set = set,
					       .in = nv->bytes_p,
					       .in_bytes = bytes,
					       .out = nv->bytes_p,
					       .out_bytes = sizeof(nv->bytes_p),
					       .done = asked,
					       .ctx = nv };
	vmbus__netvsc_ask(nv, &nv->req_p);
}

static void ask_offloads(struct vmbus_netvsc *nv)
{
	static const struct vmbus__offload none;
	const uint32_t bytes = nv->version >= VMBUS__NVSP_5   ? VMBUS__OFFLOAD_3_BYTES
			       : nv->version == VMBUS__NVSP_4 ? VMBUS__OFFLOAD_2_BYTES
							      : VMBUS__OFFLOAD_1_BYTES;

	vmbus__offload_put(nv->bytes_p, bytes, &none);
	ask(nv, VMBUS__OID_OFFLOAD_CAPABILITIES, false, bytes);
}

static uint8_t on_off(bool on, uint32_t value)
{
	return (uint8_t)(on ? value : VMBUS__OFFLOAD_OFF);
}

static void ask_offloads_set(struct vmbus_netvsc *nv)
{
	const bool rsc = (nv->rx & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)) != 0;
	const struct vmbus__offload_set set = {
		.ip4 = VMBUS__OFFLOAD_OFF,
		.tcp4 = on_off(nv->made_p & VMBUS__NETVSC_TCP4, VMBUS__OFFLOAD_BOTH),
		.udp4 = on_off(nv->made_p & VMBUS__NETVSC_UDP4, VMBUS__OFFLOAD_BOTH),
		.tcp6 = on_off(nv->made_p & VMBUS__NETVSC_TCP6, VMBUS__OFFLOAD_BOTH),
		.udp6 = on_off(nv->made_p & VMBUS__NETVSC_UDP6, VMBUS__OFFLOAD_BOTH),
		.lso4 = on_off(nv->tx & VMBUS_FRAME_TSO4, VMBUS__OFFLOAD_TX),
		.lso6 = on_off(nv->tx & VMBUS_FRAME_TSO6, VMBUS__OFFLOAD_TX),
		.rsc4 = on_off(rsc, VMBUS__OFFLOAD_TX),
		.rsc6 = on_off(rsc, VMBUS__OFFLOAD_TX),
	};

	vmbus__offload_set_put(nv->bytes_p, &set);
	ask(nv, VMBUS__OID_OFFLOAD_PARAMETERS, true, VMBUS__OFFLOAD_SET_BYTES);
}

static void ask_scale(struct vmbus_netvsc *nv)
{
	static const struct vmbus__rss_caps none;

	vmbus__rss_caps_put(nv->bytes_p, &none);
	ask(nv, VMBUS__OID_RECEIVE_SCALE_CAPABILITIES, false, VMBUS__RSS_CAPS_BYTES);
}

/* Each channel in turn; one that is not open yet is the host's to pass over. */
static void ask_scale_set(struct vmbus_netvsc *nv)
{
	static const uint8_t key[VMBUS__RSS_KEY_BYTES] = {
		0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
		0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
		0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa
	};
	const uint32_t table = nv->entries_p * 4u;
	const struct vmbus__rss_set set = { .hash = VMBUS__RSS_TOEPLITZ | VMBUS__RSS_IPV4 |
						    VMBUS__RSS_TCPV4 | VMBUS__RSS_IPV6 |
						    VMBUS__RSS_TCPV6,
					    .table_bytes = table,
					    .table_offset = VMBUS__RSS_BYTES,
					    .key_bytes = VMBUS__RSS_KEY_BYTES,
					    .key_offset = VMBUS__RSS_BYTES + table };
	uint32_t i, channel = 0;

	vmbus__rss_set_put(nv->bytes_p, &set);
	for (i = 0; i < nv->entries_p; i++) {
		vmbus__net_put32(nv->bytes_p + VMBUS__RSS_BYTES + i * 4u, channel);
		channel = channel == nv->subs_p ? 0 : channel + 1;
	}
	__builtin_memcpy(nv->bytes_p + VMBUS__RSS_BYTES + table, key, sizeof(key));
	ask(nv, VMBUS__OID_RECEIVE_SCALE_PARAMETERS, true,
	    VMBUS__RSS_BYTES + table + VMBUS__RSS_KEY_BYTES);
}

static bool has_address(const uint8_t mac[6])
{
	return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) != 0;
}

static void ask_address_set(struct vmbus_netvsc *nv)
{
	ask(nv, VMBUS__OID_RNDIS_CONFIG_PARAMETER, true,
	    vmbus__netvsc_mac_put(nv->bytes_p, nv->opts_p.mac));
}

/* ---- what was found ---- */

/*
 * How many channels there can be at most, so that each has the sections for a frame of the MTU, however
 * few they are: a channel that cannot send such frames is worth less than none.  [NET-DATA]
 */
static uint32_t channels_max(const struct vmbus_netvsc *nv)
{
	const uint32_t whole = nv->mtu + HEAD_MTU + HEAD_ROOM;
	const uint32_t bytes = whole < nv->room_p ? whole : nv->room_p; /* as limits() */
	uint32_t n = bytes / nv->section_bytes + (bytes % nv->section_bytes != 0);

	if (n > 1u + LARGE_RANGES) /* more sections would not make frames larger */
		n = 1u + LARGE_RANGES;
	return n < nv->sections_p ? nv->sections_p / n : 1u;
}

/* How large a frame may be: in one section, or in several, as ranges, of those that a channel has. */
static void limits(struct vmbus_netvsc *nv)
{
	const uint32_t each = nv->sections_p / (nv->subs_p + 1u);
	const uint32_t n = each < 1u + LARGE_RANGES ? each : 1u + LARGE_RANGES;
	const uint64_t most = (uint64_t)nv->section_bytes * n;
	const uint32_t host = nv->room_p; /* until here, of INITIALIZE: bytes of a message */
	const uint32_t room = most < host ? (uint32_t)most : host;
	const uint32_t frame = room - HEAD_ROOM;

	nv->room_p = host < nv->section_bytes ? host : nv->section_bytes;
	nv->room_p -= nv->room_p % VMBUS__RNDIS_ALIGN;
	nv->frame_max = nv->mtu + HEAD_MTU;
	if (nv->frame_max > frame)
		nv->frame_max = frame;
	if (nv->tso_max > frame)
		nv->tso_max = frame;
}

/* A part of the send buffer for each channel that there will be. */
static void divide(struct vmbus_netvsc *nv)
{
	const uint32_t channels = nv->subs_p + 1u, each = nv->sections_p / channels;
	uint32_t i;

	for (i = 0; i < channels; i++)
		vmbus__netvsc_sections(&nv->opts_p.chan[i], i * each, each);
	for (i = 0; i < 16; i++)
		nv->table[i] = (uint8_t)(i % channels);
	nv->offered = channels;
}

static void ready(struct vmbus_netvsc *nv)
{
	nv->step_p = STEP_READY;
	vmbus__st32_release(vmbus__as_a32(&nv->state_p), VMBUS__NETVSC_READY); /* NETVSC.primary */
	if (nv->opts_p.ready)
		nv->opts_p.ready(nv->opts_p.ctx, 0);
}

void vmbus__netvsc_fail(struct vmbus_netvsc *nv, int err, const char *why)
{
	nv->err_p = err;
	(void)vmbus_vsc_fail(nv->opts_p.chan[0].vsc_p, why);
}

static int filter(struct vmbus_netvsc *nv)
{
	limits(nv);
	divide(nv);
	vmbus__st32_release(vmbus__as_a32(&nv->state_p), VMBUS__NETVSC_DATA); /* NETVSC.primary */
	vmbus__net_put32(nv->bytes_p, nv->opts_p.filter);
	ask(nv, VMBUS__OID_PACKET_FILTER, true, 4);
	return 0;
}

/* Whether a step has anything to do. */
static bool has_step(const struct vmbus_netvsc *nv, uint32_t step)
{
	switch (step) {
	case STEP_SPEED:
		return nv->version >= VMBUS__NVSP_5;
	case STEP_SCALE:
		return nv->version >= VMBUS__NVSP_5 && nv->opts_p.subchannels;
	case STEP_SUBCHANNELS:
	case STEP_SCALE_SET:
		return nv->subs_p != 0;
	case STEP_ADDRESS_SET:
		return has_address(nv->opts_p.mac);
	default:
		return true;
	}
}

static int take_step(struct vmbus_netvsc *nv)
{
	switch (nv->step_p) {
	case STEP_SEND:
		return say_buffer(nv, VMBUS__NETVSC_SEND);
	case STEP_INITIALIZE:
		ask(nv, VMBUS__NETVSC_INITIALIZE, false, 0);
		break;
	case STEP_FRAME_SIZE:
		ask(nv, VMBUS__OID_MAXIMUM_FRAME_SIZE, false, 0);
		break;
	case STEP_ADDRESS:
		ask(nv, VMBUS__OID_PERMANENT_ADDRESS, false, 0);
		break;
	case STEP_OFFLOADS:
		ask_offloads(nv);
		break;
	case STEP_OFFLOADS_SET:
		ask_offloads_set(nv);
		break;
	case STEP_MEDIA:
		ask(nv, VMBUS__OID_MEDIA_CONNECT_STATUS, false, 0);
		break;
	case STEP_SPEED:
		ask(nv, VMBUS__OID_LINK_SPEED, false, 0);
		break;
	case STEP_SCALE:
		ask_scale(nv);
		break;
	case STEP_SUBCHANNELS:
		return say_subchannels(nv);
	case STEP_SCALE_SET:
		ask_scale_set(nv);
		break;
	case STEP_ADDRESS_SET:
		ask_address_set(nv);
		break;
	case STEP_FILTER:
		return filter(nv);
	default:
		ready(nv);
		break;
	}
	return 0;
}

static void go_on(struct vmbus_netvsc *nv)
{
	int err;

	do
		nv->step_p++;
	while (!has_step(nv, nv->step_p));
	err = take_step(nv);
	if (err)
		vmbus__netvsc_fail(nv, err, "no room for a message of the NIC's own");
}

int vmbus__netvsc_begin(struct vmbus_netvsc *nv)
{
	nv->step_p = STEP_VERSION;
	return say_version(nv);
}

/* ---- answers of NVSP ---- */

static void answered_version(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	int err = 0;

	if (pkt->len < VMBUS__NVSP_AT_DONE_STATUS + 4u) {
		vmbus__netvsc_fail(nv, VMBUS_E_PEER, "the NIC's first answer is cut off");
		return;
	}
	if (vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_DONE_STATUS) == VMBUS__NVSP_OK) {
		nv->version = versions[nv->versions_p];
		if (nv->version == VMBUS__NVSP_1 && nv->opts_p.mtu > MTU_1)
			nv->opts_p.mtu = MTU_1;
		if (nv->version >= VMBUS__NVSP_2)
			err = say_config(nv);
		if (!err)
			err = say_ndis(nv);
		nv->step_p = STEP_RECEIVE;
		if (!err)
			err = say_buffer(nv, VMBUS__NETVSC_RECEIVE);
	} else if (++nv->versions_p < VERSIONS) {
		err = say_version(nv);
	} else {
		vmbus__netvsc_fail(nv, VMBUS_E_NOTSUP, "the NIC knows none of our versions");
	}
	if (err)
		vmbus__netvsc_fail(nv, err, "no room for a message of the NIC's own");
}

static void answered_receive(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	const uint8_t *const p = pkt->payload;
	uint32_t section, count;

	if (pkt->len < VMBUS__NVSP_AT_AREA_END + 4u ||
	    vmbus__net_get32(p + VMBUS__NVSP_AT_STATUS) != VMBUS__NVSP_OK ||
	    vmbus__net_get32(p + VMBUS__NVSP_AT_SECTIONS) != 1 ||
	    vmbus__net_get32(p + VMBUS__NVSP_AT_AREA_OFFSET) != 0) {
		vmbus__netvsc_fail(nv, VMBUS_E_PEER, "the NIC did not take the receive buffer");
		return;
	}
	section = vmbus__net_get32(p + VMBUS__NVSP_AT_AREA_SECTION);
	count = vmbus__net_get32(p + VMBUS__NVSP_AT_AREA_COUNT);
	if (section < RECEIVE_SECTION_MIN || count == 0 ||
	    (uint64_t)section * count > nv->opts_p.receive_bytes) {
		vmbus__netvsc_fail(nv, VMBUS_E_PEER,
				   "the NIC's sections do not fit the receive buffer");
		return;
	}
	nv->receive_section_p = section;
	go_on(nv);
}

static void answered_send(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	const uint8_t *const p = pkt->payload;
	uint32_t section;

	if (pkt->len < VMBUS__NVSP_AT_SEND_SECTION + 4u ||
	    vmbus__net_get32(p + VMBUS__NVSP_AT_STATUS) != VMBUS__NVSP_OK) {
		vmbus__netvsc_fail(nv, VMBUS_E_PEER, "the NIC did not take the send buffer");
		return;
	}
	section = vmbus__net_get32(p + VMBUS__NVSP_AT_SEND_SECTION);
	if (section < SEND_SECTION_MIN || section > nv->opts_p.send_bytes) {
		vmbus__netvsc_fail(nv, VMBUS_E_PEER,
				   "the NIC's sections do not fit the send buffer");
		return;
	}
	nv->section_bytes = section;
	nv->sections_p = nv->opts_p.send_bytes / section;
	go_on(nv);
}

/* A host that gives no sub-channels is no reason to do without it. */
static void answered_subchannels(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	uint32_t count;

	if (pkt->len < VMBUS__NVSP_AT_SUB_COUNT + 4u) {
		vmbus__netvsc_fail(nv, VMBUS_E_PEER, "the NIC's answer is cut off");
		return;
	}
	count = vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_SUB_COUNT);
	if (vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_STATUS) != VMBUS__NVSP_OK)
		count = 0;
	if (count < nv->subs_p)
		nv->subs_p = count;
	go_on(nv);
}

void vmbus__netvsc_answer(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt)
{
	static const uint32_t types[] = { [STEP_VERSION] = VMBUS__NVSP_INIT_DONE,
					  [STEP_RECEIVE] = VMBUS__NVSP_RECEIVE_BUFFER_DONE,
					  [STEP_SEND] = VMBUS__NVSP_SEND_BUFFER_DONE,
					  [STEP_SUBCHANNELS] = VMBUS__NVSP_SUBCHANNEL };

	if (!pkt) /* the channel ended; closed() follows */
		return;
	if (pkt->len < 8 || vmbus__net_get32(pkt->payload) != types[nv->step_p])
		vmbus__netvsc_fail(nv, VMBUS_E_PEER, "an answer of the NIC's is none");
	else if (nv->step_p == STEP_VERSION)
		answered_version(nv, pkt);
	else if (nv->step_p == STEP_RECEIVE)
		answered_receive(nv, pkt);
	else if (nv->step_p == STEP_SEND)
		answered_send(nv, pkt);
	else
		answered_subchannels(nv, pkt);
}

/* ---- answers of RNDIS ---- */

/* How much the host takes at once; its status is in front. */
static bool told_initialize(struct vmbus_netvsc *nv, uint32_t got)
{
	const uint8_t *const p = nv->bytes_p;
	const uint32_t at = VMBUS__RNDIS_AT_STATUS; /* bytes_p begins there */
	uint32_t frames, bytes;

	if (got < VMBUS__RNDIS_INITIALIZE_DONE_BYTES - at)
		return false;
	frames = vmbus__net_get32(p + VMBUS__RNDIS_AT_DONE_PACKETS - at);
	bytes = vmbus__net_get32(p + VMBUS__RNDIS_AT_DONE_TRANSFER - at);
	if (frames > nv->opts_p.frames_max)
		frames = nv->opts_p.frames_max;
	nv->frames_max = frames ? frames : 1;
	nv->room_p = bytes;
	return bytes >= SEND_SECTION_MIN;
}

static bool told_frame_size(struct vmbus_netvsc *nv, uint32_t got)
{
	uint32_t mtu;

	nv->mtu = nv->opts_p.mtu;
	if (got < 4)
		return true;
	mtu = vmbus__net_get32(nv->bytes_p);
	if (mtu < nv->mtu)
		nv->mtu = mtu;
	return nv->mtu >= MTU_MIN;
}

static bool told_address(struct vmbus_netvsc *nv, uint32_t got)
{
	if (got < 6)
		return false;
	__builtin_memcpy(nv->permanent_mac, nv->bytes_p, 6);
	__builtin_memcpy(nv->mac, nv->bytes_p, 6);
	return true;
}

static uint32_t made_of(const struct vmbus__offload *o)
{
	const uint32_t tcp4 = VMBUS__OFFLOAD_TCP | VMBUS__OFFLOAD_TCP_OPTIONS;
	const uint32_t tcp6 = tcp4 | VMBUS__OFFLOAD_IP_OPTIONS;
	uint32_t made = 0;

	if ((o->tx4 & tcp4) == tcp4)
		made |= VMBUS__NETVSC_TCP4;
	if (o->tx4 & VMBUS__OFFLOAD_UDP && made & VMBUS__NETVSC_TCP4)
		made |= VMBUS__NETVSC_UDP4;
	if ((o->tx6 & tcp6) == tcp6)
		made |= VMBUS__NETVSC_TCP6;
	if (o->tx6 & VMBUS__OFFLOAD_UDP && made & VMBUS__NETVSC_TCP6)
		made |= VMBUS__NETVSC_UDP6;
	return made;
}

/* What is not understood is not used. */
static void told_offloads(struct vmbus_netvsc *nv, uint32_t got)
{
	struct vmbus__offload o;
	uint32_t lso4, lso6;

	nv->tx = VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM | VMBUS_FRAME_VLAN | VMBUS_FRAME_CSUM_OK |
		 VMBUS_FRAME_HASH;
	nv->rx = VMBUS_FRAME_CSUM | VMBUS_FRAME_CSUM_OK | VMBUS_FRAME_VLAN | VMBUS_FRAME_HASH;
	if (nv->opts_p.flags & VMBUS_NETVSC_NO_OFFLOAD || !vmbus__offload_get(&o, nv->bytes_p, got))
		return;
	nv->made_p = made_of(&o);
	lso4 = nv->made_p & VMBUS__NETVSC_TCP4 ? o.lso4_bytes : 0;
	lso6 = nv->made_p & VMBUS__NETVSC_TCP6 ? o.lso6_bytes : 0;
	nv->tx |= (lso4 ? VMBUS_FRAME_TSO4 : 0) | (lso6 ? VMBUS_FRAME_TSO6 : 0);
	nv->tso_max = !lso6 || (lso4 && lso4 < lso6) ? lso4 : lso6;
	if (nv->tso_max > FRAME_MAX)
		nv->tso_max = FRAME_MAX;
	if (nv->version == VMBUS__NVSP_61 && nv->opts_p.flags & VMBUS_NETVSC_RSC && o.rsc4 &&
	    o.rsc6)
		nv->rx |= VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6;
}

/* It does not do them after all. */
static void no_offloads(struct vmbus_netvsc *nv)
{
	nv->made_p = 0;
	nv->tso_max = 0;
	nv->tx &= ~(VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6);
	nv->rx &= ~(VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6);
}

static void told_scale(struct vmbus_netvsc *nv, uint32_t got)
{
	struct vmbus__rss_caps caps;
	uint32_t subs = nv->opts_p.subchannels;

	if (got < VMBUS__RSS_CAPS_BYTES)
		return;
	vmbus__rss_caps_get(&caps, nv->bytes_p);
	if (caps.queues < 2)
		return;
	if (caps.queues - 1u < subs)
		subs = caps.queues - 1u;
	if (channels_max(nv) - 1u < subs)
		subs = channels_max(nv) - 1u;
	nv->subs_p = subs;
	nv->entries_p = VMBUS__RSS_ENTRIES_MAX;
	if (caps.entries && caps.entries < VMBUS__RSS_ENTRIES_MAX)
		nv->entries_p = caps.entries;
}

/* Returns what is wrong, NULL when it goes on. */
static const char *told(struct vmbus_netvsc *nv, int err, uint32_t got)
{
	switch (nv->step_p) {
	case STEP_INITIALIZE:
		return err || !told_initialize(nv, got) ? "the NIC did not begin" : NULL;
	case STEP_FRAME_SIZE:
		return told_frame_size(nv, got) ? NULL : "the NIC's frames are too short";
	case STEP_ADDRESS:
		return told_address(nv, got) ? NULL : "the NIC has no address";
	case STEP_OFFLOADS:
		told_offloads(nv, got);
		break;
	case STEP_OFFLOADS_SET:
		if (err)
			no_offloads(nv);
		break;
	case STEP_MEDIA:
		nv->up = got < 4 || vmbus__net_get32(nv->bytes_p) == 0;
		break;
	case STEP_SPEED:
		if (got >= 4)
			nv->bits_per_s = (uint64_t)vmbus__net_get32(nv->bytes_p) * SPEED_UNIT;
		break;
	case STEP_SCALE:
		told_scale(nv, got);
		break;
	case STEP_ADDRESS_SET:
		if (err)
			return "the NIC does not take its address";
		__builtin_memcpy(nv->mac, nv->opts_p.mac, 6);
		break;
	case STEP_FILTER:
		return err ? "the NIC does not take its filter" : NULL;
	default:
		break;
	}
	return NULL;
}

static void asked(struct vmbus_netvsc_req *req)
{
	struct vmbus_netvsc *const nv = req->ctx;
	const char *why;

	if (req->err == VMBUS_E_PEER) {
		vmbus__netvsc_fail(nv, VMBUS_E_PEER, "an answer of the NIC's makes no sense");
		return;
	}
	why = told(nv, req->err, req->err ? 0 : req->got);
	if (why)
		vmbus__netvsc_fail(nv, VMBUS_E_PEER, why);
	else
		go_on(nv);
}

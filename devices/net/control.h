/* SPDX-License-Identifier: MIT */
/*
 * What the files of the NIC's control share: the state of NVSP and RNDIS, and answers that wait.  All
 * of it belongs to the thread of the primary channel.
 */
#ifndef VMBUS_NET_CONTROL_H
#define VMBUS_NET_CONTROL_H

#include "net/vsp.h"
#include "netwire/wire_oid.h"

#define VMBUS__NET_WAITING_MAX 32u  /* answers that wait for a section, or for room in the ring */
#define VMBUS__NET_RNDIS_MAX 640u   /* bytes of an answer at most */
#define VMBUS__NET_INFO_MAX 600u    /* of what it carries */
#define VMBUS__NET_ETHERNET 14u	    /* bytes of a header */
#define VMBUS__NET_MTU 1500u	    /* the least, and what is taken when a guest does not say */
#define VMBUS__NET_LINK_MS 2000u    /* between two changes of the link that a guest is told of */
#define VMBUS__NET_LSO_BYTES 62780u /* of a large frame that a guest may send */
#define VMBUS__NET_RSS_VERSION VMBUS__NVSP_5 /* from which on there are sub-channels */

/* Where the initialisation is, [NET-INIT]. */
enum vmbus__net_state {
	VMBUS__NET_BEGIN = 0,  /* no version */
	VMBUS__NET_SETUP = 1,  /* a version, but not yet all that RNDIS needs */
	VMBUS__NET_RNDIS = 2,  /* before INITIALIZE */
	VMBUS__NET_READY = 3,  /* everything; whether frames come is the filter's */
	VMBUS__NET_HALTED = 4, /* after HALT */
	VMBUS__NET_REVOKED = 5 /* a buffer is gone: until it closes */
};

/* An RNDIS message of ours that waits. */
struct vmbus__net_waiting {
	uint32_t bytes;
	uint8_t msg[VMBUS__NET_RNDIS_MAX];
};

/* An NVSP message of the guest's, zeroes where it sent fewer bytes. */
struct vmbus__net_asked {
	uint64_t id;
	uint32_t type, bytes;
	bool wants; /* an answer */
	uint8_t msg[VMBUS__NVSP_BYTES];
};

struct vmbus__net_control {
	uint8_t state; /* enum vmbus__net_state */
	bool have_ndis, have_config, have_receive, have_send;
	bool have_key;	    /* of receive-side scaling */
	bool table_due;	    /* number 134, once all sub-channels are open */
	bool told_up;	    /* link, as the guest knows it */
	bool speed_due;	    /* the guest is to be told of another speed */
	bool offload_due;   /* and of the offloads that are on */
	uint32_t offer_due; /* sub-channels, behind the answer that grants them */
	uint32_t asked;	    /* sub-channels that were granted */
	uint32_t ndis;	    /* version: major in the upper half */
	uint64_t caps;
	uint32_t receive_gpadl, receive_section, receive_count;
	uint32_t send_gpadl, send_count;
	uint64_t told_ms; /* when the guest was told of the link, or asked */
	uint64_t told_bits;
	uint8_t encapsulation[28];	    /* as it was set; type 0: never */
	struct vmbus__offload_set offloads; /* as they are: 1 off, 2 and up on */
	uint32_t first, waiting;
	struct vmbus__net_waiting wait[VMBUS__NET_WAITING_MAX];
};

/* nvsp.c */
bool vmbus__net_is_version(uint32_t version);
uint32_t vmbus__net_version(struct vmbus__net_chan *ch);

/* rndis.c: send a message, or keep it.  False: too many wait. */
bool vmbus__net_answer(struct vmbus__net_chan *ch, const uint8_t *msg, uint32_t bytes);
void vmbus__net_send_waiting(struct vmbus__net_chan *ch);
/* Tell of something by itself; bytes of info, at most 160. */
bool vmbus__net_indicate(struct vmbus__net_chan *ch, uint32_t status, const uint8_t *info,
			 uint32_t bytes);

/* A query: what it brings, and room for VMBUS__NET_INFO_MAX bytes of answer, of which *bytes are set. */
struct vmbus__net_ask {
	struct vmbus__net_chan *ch;
	const uint8_t *in;
	uint32_t in_bytes;
	uint8_t *out;
	uint32_t *bytes;
};

/* oid.c, oid_set.c: the status. */
uint32_t vmbus__net_query(const struct vmbus__net_ask *ask, uint32_t oid);
uint32_t vmbus__net_set(struct vmbus__net_chan *ch, uint32_t oid, const uint8_t *in,
			uint32_t bytes);

/* offload.c: what can be on, what is; the largest structure that a guest of this version knows. */
void vmbus__net_offload_can(struct vmbus__net_chan *ch, struct vmbus__offload *offload);
void vmbus__net_offload_is(struct vmbus__net_chan *ch, struct vmbus__offload *offload);
uint32_t vmbus__net_offload_bytes(struct vmbus__net_chan *ch);
void vmbus__net_offload_default(struct vmbus__net_control *control);
uint32_t vmbus__net_offload_set(struct vmbus__net_chan *ch, const uint8_t *in, uint32_t bytes);
/* Tell the guest what is on; when there is no room, later. */
void vmbus__net_offload_tell(struct vmbus__net_chan *ch);
/* The shape's words of them, within vmbus__net_shape_begin() and its end. */
void vmbus__net_offload_shape(const struct vmbus__net_chan *ch, struct vmbus__net_shape *shape);
/* A parameter by name, of which the value begins with this character: the status. */
uint32_t vmbus__net_offload_name(struct vmbus__net_chan *ch, const char *name, uint32_t value);

/* rss.c */
uint32_t vmbus__net_rss_set(struct vmbus__net_chan *ch, const uint8_t *in, uint32_t bytes);
uint32_t vmbus__net_rss_hash(uint32_t info);

/* link.c */
uint64_t vmbus__net_now_ms(void);
bool vmbus__net_is_up(struct vmbus_net *net, uint64_t *bits_per_s);
void vmbus__net_link_go_on(struct vmbus__net_chan *ch);
/* The guest knows the link from here on: it has asked, or begins. */
void vmbus__net_link_told(struct vmbus__net_chan *ch, bool up);

/* net.c */
void vmbus__net_sum(const struct vmbus_net *net, uint32_t channel, struct vmbus_net_stats *stats);

#endif

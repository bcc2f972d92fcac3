/* SPDX-License-Identifier: MIT */
/*
 * How the block device's client and its host agree: version, properties, sub-channels, in messages
 * of which each waits for the answer before it.  [STOR-INIT]
 *
 * Invariant: one message is under way until the controller is ready or has failed.
 */
#include "storvsc/storvsc_state.h"

enum step {
	STEP_BEGIN,
	STEP_VERSION,
	STEP_PROPERTIES,
	STEP_END,
	STEP_SUBCHANNELS
};

static const uint16_t versions[] = { VMBUS__STOR_WIN10, VMBUS__STOR_BLUE, VMBUS__STOR_WIN8 };
#define VERSIONS (sizeof(versions) / sizeof(versions[0]))

static const uint32_t ops[] = {
	[STEP_BEGIN] = VMBUS__STOR_BEGIN_INIT,
	[STEP_VERSION] = VMBUS__STOR_QUERY_VERSION,
	[STEP_PROPERTIES] = VMBUS__STOR_QUERY_PROPERTIES,
	[STEP_END] = VMBUS__STOR_END_INIT,
	[STEP_SUBCHANNELS] = VMBUS__STOR_CREATE_SUBS,
};

#define PROPS_BYTES (VMBUS__STOR_HEAD_BYTES + 24u)

bool vmbus__storvsc_is_ready(const struct vmbus_storvsc *s)
{
	return vmbus__ld32_acquire(vmbus__as_a32c(&s->ready_p)) != 0; /* STORVSC.user */
}

/* Send the message of a step. */
static int send(struct vmbus_storvsc *s, enum step step, uint16_t number)
{
	struct vmbus_storvsc_chan *const chan = &s->chan_p[0];
	const struct vmbus__stor_head head = { .op = ops[step], .flags = VMBUS__STOR_REPLY_WANTED };
	uint8_t bytes[VMBUS__STOR_BYTES];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = bytes,
				       .len = sizeof(bytes) };

	vmbus__stor_head_put(bytes, &head);
	vmbus__stor_number_put(bytes, number);
	s->step_p = step;
	return vmbus_vsc_request(chan->vsc_p, &msg, chan);
}

/* It cannot be: the channel ends, and the guest's thread tells ready(). */
static void fail(struct vmbus_storvsc *s, int err, const char *why)
{
	s->err_p = err;
	(void)vmbus_vsc_fail(s->chan_p[0].vsc_p, why);
}

static void go_on(struct vmbus_storvsc *s, enum step step, uint16_t number)
{
	const int err = send(s, step, number);

	if (err)
		fail(s, err, "no room for a message of the block device's own");
}

int vmbus__storvsc_begin(struct vmbus_storvsc *s)
{
	return send(s, STEP_BEGIN, 0);
}

static void ready(struct vmbus_storvsc *s)
{
	s->offered = 1u + s->subs_p;
	vmbus__st32_release(vmbus__as_a32(&s->ready_p), 1); /* STORVSC.primary */
	if (s->opts_p.ready)
		s->opts_p.ready(s->opts_p.ctx, 0);
	if (s->changed_p && s->opts_p.changed)
		s->opts_p.changed(s->opts_p.ctx);
}

static void answered_version(struct vmbus_storvsc *s, const struct vmbus__stor_head *head)
{
	if (head->status == VMBUS__STOR_OK) {
		s->version = versions[s->versions_p];
		go_on(s, STEP_PROPERTIES, 0);
	} else if (++s->versions_p < VERSIONS) {
		go_on(s, STEP_VERSION, versions[s->versions_p]);
	} else {
		fail(s, VMBUS_E_NOTSUP, "the block device knows none of our versions");
	}
}

static void answered_properties(struct vmbus_storvsc *s, const struct vmbus_packet *pkt)
{
	struct vmbus__stor_props props;
	uint32_t subs;

	if (pkt->len < PROPS_BYTES) {
		fail(s, VMBUS_E_PEER, "the block device's properties are cut off");
		return;
	}
	vmbus__stor_props_get(&props, pkt->payload);
	props.transfer_bytes -= props.transfer_bytes % VMBUS_PAGE_BYTES;
	if (props.transfer_bytes == 0) {
		fail(s, VMBUS_E_PEER, "the block device moves not even a page at once");
		return;
	}
	if (props.transfer_bytes < s->transfer_bytes)
		s->transfer_bytes = props.transfer_bytes;
	subs = props.flags & VMBUS__STOR_MULTI_CHANNEL ? props.subchannels : 0;
	s->subs_p = subs < s->opts_p.subchannels ? subs : s->opts_p.subchannels;
	go_on(s, STEP_END, 0);
}

void vmbus__storvsc_answer(struct vmbus_storvsc *s, const struct vmbus_packet *pkt)
{
	struct vmbus__stor_head head;

	if (!pkt) /* the channel ended; closed() follows */
		return;
	if (pkt->len < VMBUS__STOR_HEAD_BYTES) {
		fail(s, VMBUS_E_PEER, "an answer of the block device's is cut off");
		return;
	}
	vmbus__stor_head_get(&head, pkt->payload);
	if (head.op != VMBUS__STOR_COMPLETE_IO) {
		fail(s, VMBUS_E_PEER, "an answer of the block device's is none");
		return;
	}
	if (s->step_p == STEP_VERSION) {
		answered_version(s, &head);
		return;
	}
	/* A host that makes no sub-channels is no reason to do without it. */
	if (s->step_p == STEP_SUBCHANNELS) {
		if (head.status != VMBUS__STOR_OK)
			s->subs_p = 0;
		ready(s);
		return;
	}
	if (head.status != VMBUS__STOR_OK) {
		fail(s, VMBUS_E_PEER, "the block device refused to begin");
		return;
	}
	if (s->step_p == STEP_BEGIN)
		go_on(s, STEP_VERSION, versions[0]);
	else if (s->step_p == STEP_PROPERTIES)
		answered_properties(s, pkt);
	else if (s->subs_p)
		go_on(s, STEP_SUBCHANNELS, (uint16_t)s->subs_p);
	else
		ready(s);
}

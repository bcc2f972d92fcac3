/* SPDX-License-Identifier: MIT */
/*
 * The child's end of an integration component: it answers, and never begins.  As Linux does, it
 * sends back what came, with the answer written into it, so an answer is as long as its request.
 * It allocates nothing and keeps nothing but the versions agreed on.
 */
#include <vmbus/ic.h>

#include "ic/wire.h"

#define RING_BYTES 12288u /* [IC-OFFER]: what Linux has */
#define NEGOTIATED 1u	  /* of flags_p */
#define HEAD_BYTES 44u	  /* headers, and the body of a negotiation's answer */
#define ANSWER_BYTES 16u  /* that body */
#define RINGS_MAX 4096u	  /* longest message that is answered, [IC-OFFER] */

/* An answer in the making: the changed beginning, and the rest of the request. */
struct answer {
	uint8_t head[HEAD_BYTES];
	uint32_t head_bytes;
	uint32_t status;
	uint32_t bytes; /* of the whole, as the pipe's length tells */
};

/* The best version of ours that is among count at list; 0: none. */
static uint32_t choose(const struct vmbus__ic_versions *ours, const uint8_t *list, uint32_t count)
{
	uint32_t i, best = 0;

	for (i = 0; i < count; i++) {
		const uint32_t v = vmbus__ic_get_version(list + (size_t)i * 4u);

		if (v > best && vmbus__ic_knows(ours, v))
			best = v;
	}
	return best;
}

/* [IC-NEGOTIATE].  No match is told by counts of 0.  Returns whether there is an answer. */
static bool negotiate(struct vmbus_ic_client *client, const struct vmbus__ic_msg *msg,
		      struct answer *answer)
{
	uint8_t *const body = answer->head + VMBUS__IC_BODY;
	uint32_t f, m, framework, message;

	if (msg->body_bytes < ANSWER_BYTES)
		return false;
	f = (uint32_t)vmbus__ic_get(msg->body, 2);
	m = (uint32_t)vmbus__ic_get(msg->body + 2, 2);
	if (f > VMBUS__IC_TAKEN_MAX || m > VMBUS__IC_TAKEN_MAX ||
	    (f + m) * 4u > msg->body_bytes - 8u)
		return false;
	framework = choose(vmbus__ic_frameworks(), msg->body + 8, f);
	message =
		choose(vmbus__ic_messages(client->component_p), msg->body + 8 + (size_t)f * 4u, m);
	client->flags_p &= ~NEGOTIATED;
	if (framework && message) {
		client->flags_p |= NEGOTIATED;
		client->framework_p = framework;
		client->message_p = message;
	}
	vmbus__ic_put(body, 2, framework && message);
	vmbus__ic_put(body + 2, 2, framework && message);
	vmbus__ic_put(body + 4, 4, 0);
	vmbus__ic_put_version(body + 8, framework);
	vmbus__ic_put_version(body + 12, message);
	vmbus__ic_put(answer->head + 18, 2, ANSWER_BYTES);
	answer->head_bytes = HEAD_BYTES;
	return true;
}

static uint32_t shut_down(struct vmbus_ic_client *client, const struct vmbus__ic_msg *msg)
{
	const struct vmbus_ic_client_opts *const opts = &client->opts_p;

	if (msg->body_bytes < VMBUS__IC_SHUTDOWN_BYTES) /* [IC-SHUTDOWN] */
		return VMBUS_IC_INVALID;
	if (!opts->shutdown)
		return VMBUS_IC_NOT_SUPPORTED;
	return opts->shutdown(opts->ctx, (uint32_t)vmbus__ic_get(msg->body + 8, 4),
			      (uint32_t)vmbus__ic_get(msg->body + 4, 4));
}

static uint32_t set_time(struct vmbus_ic_client *client, const struct vmbus__ic_msg *msg)
{
	const struct vmbus_ic_client_opts *const opts = &client->opts_p;
	const bool refers = client->message_p >= VMBUS__IC_VERSION(4, 0);
	const uint32_t at = refers ? VMBUS__IC_TIME_FLAGS : VMBUS__IC_OLD_TIME_FLAGS;
	uint8_t flags;

	if (msg->body_bytes <= at) /* [IC-TIME] */
		return VMBUS_IC_INVALID;
	flags = msg->body[at];
	if (opts->time && flags & (VMBUS__IC_TIME_SYNC | VMBUS__IC_TIME_SAMPLE))
		opts->time(opts->ctx, vmbus__ic_get(msg->body, 8),
			   refers ? vmbus__ic_get(msg->body + 8, 8) : 0,
			   (flags & VMBUS__IC_TIME_SYNC) != 0);
	return VMBUS_IC_OK;
}

static uint32_t beat(struct vmbus_ic_client *client, const struct vmbus__ic_msg *msg,
		     struct answer *answer)
{
	const struct vmbus_ic_client_opts *const opts = &client->opts_p;
	uint64_t sequence;

	if (msg->body_bytes < 8u) /* [IC-HEARTBEAT] */
		return VMBUS_IC_INVALID;
	sequence = vmbus__ic_get(msg->body, 8);
	vmbus__ic_put(answer->head + VMBUS__IC_BODY, 8, sequence == UINT64_MAX ? 0 : sequence + 1u);
	answer->head_bytes = VMBUS__IC_BODY + 8u;
	if (opts->beat)
		opts->beat(opts->ctx, sequence);
	return VMBUS_IC_OK;
}

/* Returns whether there is an answer. */
static bool serve(struct vmbus_ic_client *client, const struct vmbus__ic_msg *msg,
		  struct answer *answer)
{
	if (msg->type == VMBUS__IC_NEGOTIATE)
		return negotiate(client, msg, answer);
	if (msg->type != vmbus__ic_type(client->component_p) || !(client->flags_p & NEGOTIATED))
		answer->status = VMBUS_IC_FAILED;
	else if (client->component_p == VMBUS_IC_SHUTDOWN)
		answer->status = shut_down(client, msg);
	else if (client->component_p == VMBUS_IC_TIMESYNC)
		answer->status = set_time(client, msg);
	else
		answer->status = beat(client, msg, answer);
	return true;
}

/* Answer one packet, or pass over it. */
static void take(struct vmbus_ic_client *client, const struct vmbus_packet *pkt)
{
	struct answer answer = { .head_bytes = VMBUS__IC_BODY };
	struct vmbus_msg out = { .type = VMBUS_PKT_INBAND, .id = pkt->id };
	struct vmbus_iov rest;
	struct vmbus__ic_msg msg;

	if (pkt->type != VMBUS_PKT_INBAND || pkt->len > RINGS_MAX ||
	    vmbus__ic_read(&msg, pkt->payload, pkt->len))
		return;
	answer.bytes = VMBUS__IC_PIPE_BYTES + (uint32_t)vmbus__ic_get(pkt->payload + 4, 4);
	__builtin_memcpy(answer.head, pkt->payload,
			 answer.bytes < HEAD_BYTES ? answer.bytes : HEAD_BYTES);
	if (!serve(client, &msg, &answer))
		return;
	vmbus__ic_put(answer.head + 20, 4, answer.status);
	answer.head[25] = VMBUS__IC_TRANSACTION | VMBUS__IC_RESPONSE;
	rest.base = pkt->payload + answer.head_bytes;
	rest.len = answer.bytes - answer.head_bytes;
	out.data = answer.head;
	out.len = answer.head_bytes;
	out.more = &rest;
	out.more_count = rest.len ? 1 : 0;
	/* A parent has one request under way; one that fills the ring with more gets no answer. */
	(void)vmbus_vsc_send(client->vsc_p, &out, 1);
}

static void on_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		take(vmbus_vsc_priv(vsc), &pkt[i]);
}

static uint32_t component_of(const struct vmbus_vsc *vsc)
{
	static const struct {
		struct vmbus_guid class_id;
		uint32_t component;
	} known[] = {
		{ VMBUS_IC_SHUTDOWN_CLASS, VMBUS_IC_SHUTDOWN },
		{ VMBUS_IC_TIMESYNC_CLASS, VMBUS_IC_TIMESYNC },
		{ VMBUS_IC_HEARTBEAT_CLASS, VMBUS_IC_HEARTBEAT },
	};
	struct vmbus_vsc_info info;
	uint32_t i;

	vmbus_vsc_info(vsc, &info);
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (vmbus_guid_equal(&info.offer.class_id, &known[i].class_id))
			return known[i].component;
	return 0;
}

int vmbus_ic_client_start(struct vmbus_ic_client *client, struct vmbus_vsc *vsc,
			  const struct vmbus_ic_client_opts *opts)
{
	struct vmbus_vsc_opts open = { .struct_bytes = sizeof(open) };
	uint32_t component;
	int err;

	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	component = component_of(vsc);
	if (!component)
		return VMBUS_E_INVAL;
	if (opts->open) {
		if (opts->open->struct_bytes < sizeof(open))
			return VMBUS_E_INVAL;
		open = *opts->open;
	}
	if (!open.send_bytes)
		open.send_bytes = RING_BYTES;
	if (!open.recv_bytes)
		open.recv_bytes = RING_BYTES;
	open.opened = NULL;
	open.packets = on_packets;
	open.completed = NULL;
	open.writable = NULL;
	open.closed = NULL;
	open.priv = client;
	/* Nothing is called back before the guest is dispatched. */
	err = vmbus_vsc_open(vsc, &open);
	if (err)
		return err;
	*client = (struct vmbus_ic_client){ .opts_p = *opts, .vsc_p = vsc };
	client->opts_p.open = NULL;
	client->component_p = component;
	return 0;
}

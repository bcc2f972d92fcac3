/* SPDX-License-Identifier: MIT */
/*
 * The parent's end of the integration components: the requests, and what the child answers.  An
 * answer is the child's word: one that does not fit the request that is under way ends the channel,
 * and no other.
 */
#include "ic_vsp/vsp.h"

#include <string.h>
#include <time.h>

#include <vmbus/vsp.h>

#define EPOCH_100NS 116444736000000000ull /* from 1601-01-01 to 1970-01-01, [IC-TIME] */
#define REASON_PLANNED 0x80000000u	  /* [IC-SHUTDOWN] */
#define SAMPLE_TRIES 3u
#define SAMPLE_100NS 500u /* that taking both times may take */

/* Send a request: msg has its type, versions and body_bytes, whose body is in place behind. */
static int request(struct vmbus__ic_part *part, uint8_t *whole, uint16_t type, uint32_t body_bytes)
{
	const struct vmbus__ic_msg head = {
		.framework = part->framework,
		.message = part->message,
		.type = type,
		.body_bytes = (uint16_t)body_bytes,
		.transaction = (uint8_t)(part->transaction + 1u),
		.flags = VMBUS__IC_TRANSACTION | VMBUS__IC_REQUEST,
	};
	const struct vmbus_msg msg = {
		.id = part->count + 1u,
		.data = whole,
		.len = vmbus__ic_write(whole, &head),
		.type = VMBUS_PKT_INBAND,
	};
	const int err = vmbus_chan_send(part->chan, &msg, 1);

	if (err < 0)
		return err;
	part->count++;
	part->transaction = head.transaction;
	part->asked = type;
	part->waits = true;
	return 0;
}

/* [IC-NEGOTIATE].  Without a reference time the version that refers to it is not offered. */
int vmbus__ic_ask(struct vmbus__ic_part *part)
{
	uint8_t whole[VMBUS__IC_BODY + 8u + 8u * VMBUS__IC_VERSIONS_MAX];
	int err;

	part->offers = *vmbus__ic_messages(part->component);
	if (part->component == VMBUS_IC_TIMESYNC && vmbus_bus_time(part->ic->bus) == 0)
		part->offers.count--; /* the last one, 4.0 */
	part->framework = 0;
	part->message = 0;
	err = request(
		part, whole, VMBUS__IC_NEGOTIATE,
		vmbus__ic_offer(whole + VMBUS__IC_BODY, vmbus__ic_frameworks(), &part->offers));
	part->state = err ? VMBUS__IC_TO_ASK : VMBUS__IC_ASKED;
	return err;
}

/* ---- shutdown ---- */

/* [IC-SHUTDOWN]: always the whole body; Linux does not answer a shorter one. */
int vmbus__ic_send_shutdown(struct vmbus__ic_part *part, uint32_t flags, uint32_t timeout_s,
			    const char *text)
{
	uint8_t whole[VMBUS__IC_MESSAGE_MAX] = { 0 };
	uint8_t *const body = whole + VMBUS__IC_BODY;
	size_t i;

	vmbus__ic_put(body, 4, REASON_PLANNED);
	vmbus__ic_put(body + 4, 4, timeout_s);
	vmbus__ic_put(body + 8, 4, flags);
	for (i = 0; text && text[i]; i++)
		body[VMBUS__IC_SHUTDOWN_TEXT + 2u * i] = (uint8_t)text[i];
	return request(part, whole, VMBUS__IC_SHUTDOWN, VMBUS__IC_SHUTDOWN_BYTES);
}

/* ---- time ---- */

static uint64_t wall_time(const struct vmbus_ic *ic)
{
	struct timespec now;

	if (ic->opts.wall_time)
		return ic->opts.wall_time(ic->opts.ctx);
	clock_gettime(CLOCK_REALTIME, &now);
	return EPOCH_100NS + (uint64_t)now.tv_sec * 10000000u + (uint64_t)now.tv_nsec / 100u;
}

/* Both times of one moment: the wall clock's is between two looks at the other, close together. */
static void sample(const struct vmbus_ic *ic, uint64_t *wall, uint64_t *reference)
{
	uint64_t before, after;
	uint32_t i;

	for (i = 0; i < SAMPLE_TRIES; i++) {
		before = vmbus_bus_time(ic->bus);
		*wall = wall_time(ic);
		after = vmbus_bus_time(ic->bus);
		*reference = before + (after - before) / 2u;
		if (after - before <= SAMPLE_100NS)
			return;
	}
}

/* [IC-TIME] */
static int send_time(struct vmbus__ic_part *part)
{
	const bool refers = part->message >= VMBUS__IC_VERSION(4, 0);
	uint8_t whole[VMBUS__IC_BODY + VMBUS__IC_OLD_TIME_BYTES] = { 0 };
	uint8_t *const body = whole + VMBUS__IC_BODY;
	uint64_t wall = 0, reference = 0;

	sample(part->ic, &wall, &reference);
	vmbus__ic_put(body, 8, wall);
	if (refers)
		vmbus__ic_put(body + 8, 8, reference);
	body[refers ? VMBUS__IC_TIME_FLAGS : VMBUS__IC_OLD_TIME_FLAGS] =
		part->synced ? VMBUS__IC_TIME_SAMPLE : VMBUS__IC_TIME_SYNC;
	return request(part, whole, VMBUS__IC_TIMESYNC,
		       refers ? VMBUS__IC_TIME_BYTES : VMBUS__IC_OLD_TIME_BYTES);
}

/* The answer makes the next one due: a sample that waits in the ring would be old when it is read. */
static uint32_t time_due(struct vmbus__ic_part *part, uint64_t now)
{
	const int err = send_time(part);

	part->due = err ? now + part->ic->opts.sample_ns : 0;
	return err ? 0 : 1;
}

/* ---- heartbeat ---- */

/* [IC-HEARTBEAT] */
static int send_beat(struct vmbus__ic_part *part)
{
	uint8_t whole[VMBUS__IC_BODY + VMBUS__IC_BEAT_BYTES] = { 0 };

	vmbus__ic_put(whole + VMBUS__IC_BODY, 8, part->count);
	return request(part, whole, VMBUS__IC_HEARTBEAT, VMBUS__IC_BEAT_BYTES);
}

/* Another beat, if the last one was answered; else, or if there is no room, one more is missing. */
static uint32_t beat_due(struct vmbus__ic_part *part, uint64_t now)
{
	struct vmbus_ic *const ic = part->ic;

	part->due = now + ic->opts.heartbeat_ns;
	if (!part->waits && send_beat(part) == 0)
		return 1;
	ic->info.missed++;
	if (part->missing < UINT32_MAX)
		part->missing++;
	if (part->missing >= ic->opts.lost_after && !part->lost) {
		part->lost = true;
		ic->info.alive = false;
		vmbus__ic_tell(part, VMBUS_IC_LOST, part->missing);
	}
	return 0;
}

/* Send what is due; returns how many messages. */
uint32_t vmbus__ic_due(struct vmbus__ic_part *part, uint64_t now)
{
	if (part->state != VMBUS__IC_IN_USE || part->due == 0 || part->due > now)
		return 0;
	return part->component == VMBUS_IC_TIMESYNC ? time_due(part, now) : beat_due(part, now);
}

/* ---- answers ---- */

/* The child broke this component's protocol. */
static void broke(struct vmbus__ic_part *part, const char *why)
{
	part->ic->info.broken++;
	vmbus_chan_fail(part->chan, why);
}

/* The versions are agreed on: begin with what the component is for. */
static void begin(struct vmbus__ic_part *part)
{
	struct vmbus_ic *const ic = part->ic;

	part->state = VMBUS__IC_IN_USE;
	ic->info.framework = part->framework;
	ic->info.message = part->message;
	ic->info.ready |= part->component;
	if (part->component != VMBUS_IC_SHUTDOWN) {
		const uint64_t now = vmbus__ic_now();

		part->due = now;
		(void)vmbus__ic_due(part, now);
		vmbus__ic_want(ic, part->due);
	}
	vmbus__ic_tell(part, VMBUS_IC_READY, part->message);
}

/* [IC-NEGOTIATE]: the counts tell whether there is an agreement, the versions do not. */
static void agreed(struct vmbus__ic_part *part, const struct vmbus__ic_msg *msg)
{
	uint64_t f, m;

	if (msg->body_bytes < 4u) {
		broke(part, "an answer to the negotiation without counts");
		return;
	}
	f = vmbus__ic_get(msg->body, 2);
	m = vmbus__ic_get(msg->body + 2, 2);
	if (f > 1u || m > 1u) {
		broke(part, "an answer to the negotiation with more than one version");
		return;
	}
	if (f == 0 || m == 0) {
		part->state = VMBUS__IC_UNUSED;
		vmbus__ic_tell(part, VMBUS_IC_REFUSED, 0);
		return;
	}
	if (msg->body_bytes < 16u) {
		broke(part, "an answer to the negotiation without versions");
		return;
	}
	part->framework = vmbus__ic_get_version(msg->body + 8);
	part->message = vmbus__ic_get_version(msg->body + 12);
	if (!vmbus__ic_knows(vmbus__ic_frameworks(), part->framework) ||
	    !vmbus__ic_knows(&part->offers, part->message))
		broke(part, "a version that was not offered");
	else
		begin(part);
}

/* What the child answered to a request; bodies are not looked at, since nothing in them is needed. */
static void answered(struct vmbus__ic_part *part, const struct vmbus__ic_msg *msg)
{
	struct vmbus_ic *const ic = part->ic;

	switch (part->component) {
	case VMBUS_IC_SHUTDOWN:
		vmbus__ic_tell(part, VMBUS_IC_ANSWERED, msg->status);
		break;
	case VMBUS_IC_TIMESYNC:
		part->synced = !part->resync;
		part->resync = false;
		ic->info.samples += msg->status == VMBUS_IC_OK;
		part->due = vmbus__ic_now() + (part->synced ? ic->opts.sample_ns : 0);
		vmbus__ic_want(ic, part->due);
		break;
	default:
		part->missing = 0;
		part->lost = false;
		ic->info.beats++;
		if (!ic->info.alive) {
			ic->info.alive = true;
			vmbus__ic_tell(part, VMBUS_IC_ALIVE, 0);
		}
		break;
	}
}

/* What is wrong with a message as an answer to the request that is under way. */
static const char *misfit(const struct vmbus__ic_part *part, const struct vmbus__ic_msg *msg)
{
	if (!part->waits)
		return "an answer that nothing asked for";
	if (!(msg->flags & VMBUS__IC_RESPONSE))
		return "a message that is no answer";
	if (msg->type != part->asked)
		return "an answer of another type than the request";
	if (msg->transaction != part->transaction)
		return "an answer with another transaction number than the request";
	return NULL;
}

void vmbus__ic_answer(struct vmbus__ic_part *part, const struct vmbus_packet *pkt)
{
	struct vmbus__ic_msg msg;
	const char *why;

	if (pkt->type == VMBUS_PKT_COMPLETION) {
		vmbus_chan_bad_completion(part->chan);
		return;
	}
	if (pkt->type != VMBUS_PKT_INBAND)
		why = "a packet that is no message";
	else
		why = vmbus__ic_read(&msg, pkt->payload, pkt->len);
	if (!why)
		why = misfit(part, &msg);
	if (why) {
		broke(part, why);
		return;
	}
	part->waits = false;
	if (part->state == VMBUS__IC_ASKED)
		agreed(part, &msg);
	else
		answered(part, &msg);
}

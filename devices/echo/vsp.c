/* SPDX-License-Identifier: MIT */
/*
 * The provider of the echo device.  What finds the ring to the child full is kept, in order: at most
 * the packets of one callback, since the bus delivers none while a send waits for room.  It is
 * pended as well, so that a process after this one goes on with it.
 *
 * Invariant: the list of what is kept is empty whenever packets() is called.
 */
#include <stdlib.h>
#include <string.h>

#include <vmbus/echo.h>
#include <vmbus/vsp.h>

#define KEPT_MAX 64u	 /* the packets of one callback */
#define HEADER_MAX 1024u /* of a packet that is echoed without it */

/* A packet that waits for room. */
struct kept {
	uint64_t id;
	uint32_t len;
	bool completion;
	const uint8_t *payload;
};

/* What waits on one channel: one piece of memory, payloads behind the list. */
struct waiting {
	uint32_t next;
	uint32_t count;
	struct kept list[];
};

static bool wants_echo(const struct vmbus_packet *pkt)
{
	return pkt->type != VMBUS_PKT_COMPLETION &&
	       ((pkt->flags & VMBUS_PKT_FLAG_COMPLETE) || pkt->type == VMBUS_PKT_INBAND);
}

/* Returns 0 or an error. */
static int send_one(struct vmbus_chan *chan, const struct kept *one)
{
	const struct vmbus_msg msg = {
		.id = one->id, .data = one->payload, .len = one->len, .type = VMBUS_PKT_INBAND
	};
	int err;

	if (one->completion)
		return vmbus_chan_complete(chan, one->id, one->payload, one->len);
	err = vmbus_chan_send(chan, &msg, 1);
	return err < 0 ? err : 0;
}

static struct kept view(const struct vmbus_packet *pkt)
{
	return (struct kept){
		.id = pkt->id,
		.len = pkt->len,
		.completion = (pkt->flags & VMBUS_PKT_FLAG_COMPLETE) != 0,
		.payload = pkt->payload,
	};
}

/* Have the journal, if there is one, keep them.  Returns whether it does. */
static bool pend(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (wants_echo(&pkt[i]) && vmbus_chan_pend(chan, &pkt[i])) {
			vmbus_chan_fail(chan, "a packet with a header larger than can be kept");
			return false;
		}
	return true;
}

/* Keep the packets for which there is no room now. */
static void keep(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	size_t bytes = sizeof(struct waiting) + n * sizeof(struct kept);
	struct waiting *wait;
	uint8_t *to;
	uint32_t i;

	if (!pend(chan, pkt, n))
		return;
	for (i = 0; i < n; i++)
		bytes += pkt[i].len;
	wait = malloc(bytes);
	if (!wait) {
		vmbus_chan_fail(chan, "no memory for packets that wait for room");
		return;
	}
	wait->next = 0;
	wait->count = 0;
	to = (uint8_t *)&wait->list[n];
	for (i = 0; i < n; i++) {
		if (!wants_echo(&pkt[i]))
			continue;
		wait->list[wait->count] = view(&pkt[i]);
		wait->list[wait->count++].payload = to;
		memcpy(to, pkt[i].payload, pkt[i].len);
		to += pkt[i].len;
	}
	vmbus_chan_set_priv(chan, wait);
}

/* An error other than FULL: only a packet that its child cannot take back is the child's doing. */
static void refused(struct vmbus_chan *chan, int err)
{
	if (err == VMBUS_E_RANGE)
		vmbus_chan_fail(chan, "a packet larger than the child's own ring takes back");
}

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct kept one = view(&pkt[i]);
		int err;

		if (pkt[i].type == VMBUS_PKT_COMPLETION)
			vmbus_chan_bad_completion(chan);
		if (!wants_echo(&pkt[i]))
			continue;
		err = send_one(chan, &one);
		if (err == VMBUS_E_FULL)
			keep(chan, &pkt[i], n - i);
		else if (err)
			refused(chan, err);
		if (err)
			return;
	}
}

static void echo_writable(struct vmbus_chan *chan)
{
	struct waiting *const wait = vmbus_chan_priv(chan);

	while (wait && wait->next < wait->count) {
		const int err = send_one(chan, &wait->list[wait->next]);

		if (err == VMBUS_E_FULL)
			return;
		if (err) {
			refused(chan, err);
			break;
		}
		if (!wait->list[wait->next].completion)
			vmbus_chan_pend_done(chan, wait->list[wait->next].id);
		wait->next++;
	}
	free(wait);
	vmbus_chan_set_priv(chan, NULL);
}

static int echo_open(struct vmbus_chan *chan, void *ctx)
{
	const uint8_t *const user = vmbus_chan_open_data(chan);
	uint32_t wanted = 0, i;

	(void)ctx;
	vmbus_chan_set_priv(chan, NULL);
	if (vmbus_chan_resumed(chan)) /* they were offered before */
		return 0;
	for (i = 0; i < 4; i++)
		wanted |= (uint32_t)user[i] << 8u * i;
	if (wanted == 0 || vmbus_chan_primary(chan) != chan)
		return 0;
	if (wanted > VMBUS_ECHO_SUBCHANNELS_MAX)
		return VMBUS_E_RANGE;
	/* As many as the quota allows; the child sees which are offered. */
	(void)vmbus_chan_offer_subchannels(chan, wanted);
	return 0;
}

static int echo_close(struct vmbus_chan *chan)
{
	free(vmbus_chan_priv(chan));
	vmbus_chan_set_priv(chan, NULL);
	return 0;
}

/*
 * The saved state of a channel: how many packets are kept, 4 bytes little-endian, then for each its
 * id 8, length 4 and whether it is a completion 4, and then their payloads.
 */
#define STATE_HEAD 4u
#define STATE_ONE 16u

static void put(uint8_t *to, uint32_t bytes, uint64_t v)
{
	uint32_t i;

	for (i = 0; i < bytes; i++)
		to[i] = (uint8_t)(v >> 8u * i & 255u);
}

static uint64_t get(const uint8_t *from, uint32_t bytes)
{
	uint64_t v = 0;

	for (; bytes; bytes--)
		v = v << 8 | from[bytes - 1u];
	return v;
}

static int echo_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	const struct waiting *const wait = vmbus_chan_priv(chan);
	const uint32_t count = wait ? wait->count - wait->next : 0;
	size_t need = STATE_HEAD + (size_t)count * STATE_ONE;
	uint8_t *one = (uint8_t *)buf + STATE_HEAD, *payload = (uint8_t *)buf + need;
	uint32_t i;

	for (i = 0; i < count; i++)
		need += wait->list[wait->next + i].len;
	if (need > bytes)
		return VMBUS_E_RANGE;
	put(buf, 4, count);
	for (i = 0; i < count; i++, one += STATE_ONE) {
		const struct kept *const kept = &wait->list[wait->next + i];

		put(one, 8, kept->id);
		put(one + 8, 4, kept->len);
		put(one + 12, 4, kept->completion);
		memcpy(payload, kept->payload, kept->len);
		payload += kept->len;
	}
	return (int)need;
}

/* The list of what is kept, whose bytes follow each other; false: it cannot be. */
static bool take_list(struct waiting *wait, const uint8_t *from, size_t payloads)
{
	const uint8_t *const at = from + (size_t)wait->count * STATE_ONE;
	uint8_t *to = (uint8_t *)&wait->list[wait->count];
	uint32_t i;

	memcpy(to, at, payloads);
	for (i = 0; i < wait->count; i++, from += STATE_ONE) {
		const uint32_t len = (uint32_t)get(from + 8, 4);

		if (len > payloads || len > VMBUS_ECHO_PAYLOAD_MAX || get(from + 12, 4) > 1)
			return false;
		wait->list[i] = (struct kept){ .id = get(from, 8),
					       .len = len,
					       .completion = get(from + 12, 4) == 1,
					       .payload = to };
		to += len;
		payloads -= len;
	}
	return payloads == 0;
}

static int echo_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	const size_t left = bytes < STATE_HEAD ? 0 : bytes - STATE_HEAD;
	const uint64_t count = bytes < STATE_HEAD ? 0 : get(buf, 4);
	struct waiting *wait;
	size_t payloads;

	vmbus_chan_set_priv(chan, NULL);
	if (bytes < STATE_HEAD || count > left / STATE_ONE || (count == 0 && left))
		return VMBUS_E_INVAL;
	if (count == 0)
		return 0;
	payloads = left - (size_t)count * STATE_ONE;
	wait = malloc(sizeof(*wait) + (size_t)count * sizeof(struct kept) + payloads);
	if (!wait)
		return VMBUS_E_NOMEM;
	wait->next = 0;
	wait->count = (uint32_t)count;
	if (!take_list(wait, (const uint8_t *)buf + STATE_HEAD, payloads)) {
		free(wait);
		return VMBUS_E_INVAL;
	}
	vmbus_chan_set_priv(chan, wait);
	echo_writable(chan); /* what does not fit waits, and no packets come before it has gone */
	return 0;
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "echo",
	.class_id = VMBUS_ECHO_CLASS,
	.max_payload = VMBUS_ECHO_PAYLOAD_MAX,
	.flags = VMBUS_VSP_RESUMABLE,
	.pending_bytes = VMBUS_ECHO_PAYLOAD_MAX + HEADER_MAX,
	.open = echo_open,
	.packets = echo_packets,
	.writable = echo_writable,
	.close = echo_close,
	.save = echo_save,
	.restore = echo_restore,
	.save_bytes_max = STATE_HEAD + KEPT_MAX * (STATE_ONE + VMBUS_ECHO_PAYLOAD_MAX),
};

const struct vmbus_vsp *vmbus_echo_vsp(void)
{
	return &echo_vsp;
}

/* SPDX-License-Identifier: MIT */
/*
 * The provider of the echo device.  What finds the ring to the child full is kept, in order: at most
 * the packets of one callback, since the bus delivers none while a send waits for room.
 *
 * Invariant: the list of what is kept is empty whenever packets() is called.
 */
#include <stdlib.h>
#include <string.h>

#include <vmbus/echo.h>
#include <vmbus/vsp.h>

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

/* Keep the packets for which there is no room now. */
static void keep(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	size_t bytes = sizeof(struct waiting) + n * sizeof(struct kept);
	struct waiting *wait;
	uint8_t *to;
	uint32_t i;

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

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "echo",
	.class_id = VMBUS_ECHO_CLASS,
	.max_payload = VMBUS_ECHO_PAYLOAD_MAX,
	.open = echo_open,
	.packets = echo_packets,
	.writable = echo_writable,
	.close = echo_close,
};

const struct vmbus_vsp *vmbus_echo_vsp(void)
{
	return &echo_vsp;
}

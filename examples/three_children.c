/* SPDX-License-Identifier: MIT */
/*
 * One parent, three children: one VSP serves all of them, and keeps what belongs to each apart.
 *
 * Shows: per-channel state that open() makes and close() frees, and packets that nobody asked for.
 */
#include <string.h>

#include "example.h"

#define CHILDREN 3u
#define NUMBERS 1000u

#define SUM_CLASS                                                                                  \
	VMBUS_GUID(0x50a5c0de, 0x0001, 0x4abc, 0x9d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab)
static const struct vmbus_guid sum_class = SUM_CLASS;

/* ---- the provider: adds up the numbers that a child sends ---- */

struct adder {
	uint64_t sum;
	uint32_t count;
};

static int adder_open(struct vmbus_chan *chan, void *ctx)
{
	struct adder *const me = calloc(1, sizeof(*me));

	(void)ctx;
	if (!me)
		return VMBUS_E_NOMEM;
	vmbus_chan_set_priv(chan, me);
	return 0;
}

static void adder_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct adder *const me = vmbus_chan_priv(chan);
	struct vmbus_msg total = { .type = VMBUS_PKT_INBAND, .data = &me->sum, .len = 8 };
	uint64_t number;
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (pkt[i].len != sizeof(number)) {
			vmbus_chan_fail(chan, "a number that is not 8 bytes long");
			return;
		}
		memcpy(&number, pkt[i].payload, sizeof(number));
		me->sum += number;
		if (++me->count == NUMBERS)
			must(vmbus_chan_send(chan, &total, 1), "send the sum");
	}
}

static int adder_close(struct vmbus_chan *chan)
{
	free(vmbus_chan_priv(chan));
	return 0;
}

static const struct vmbus_vsp adder_vsp = {
	.struct_bytes = sizeof(adder_vsp),
	.name = "adder",
	.class_id = SUM_CLASS,
	.max_payload = 8,
	.open = adder_open,
	.packets = adder_packets,
	.close = adder_close,
};

/* ---- the client ---- */

static uint64_t sum;

static void sum_came(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)vsc;
	if (n == 1 && pkt->len == sizeof(sum))
		memcpy(&sum, pkt->payload, sizeof(sum));
}

static int child(const char *path)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .packets = sum_came };
	const uint64_t factor = (uint64_t)getpid();
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .len = 8 };
	struct example_child me;
	uint64_t i, number, expected = 0;
	char name[32];
	int err;

	snprintf(name, sizeof(name), "child %d", (int)getpid());
	me = example_open(path, name, &sum_class, &opts);
	for (i = 0; i < NUMBERS;) {
		number = i * factor;
		msg.data = &number;
		err = vmbus_vsc_send(me.vsc, &msg, 1);
		if (err == VMBUS_E_FULL) {
			must(vmbus_shm_attach_wait(me.attach, 5 * SECONDS), "wait for room");
			continue;
		}
		must(err, "send");
		expected += number;
		i++;
	}
	while (!sum)
		must(vmbus_shm_attach_wait(me.attach, 5 * SECONDS), "wait for the sum");
	printf("%s: sum %llu, %s\n", name, (unsigned long long)sum,
	       sum == expected ? "right" : "WRONG");
	example_close(&me);
	return sum != expected;
}

int main(void)
{
	return example_run(&adder_vsp, CHILDREN, child);
}

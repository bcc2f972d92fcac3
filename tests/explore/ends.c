/* SPDX-License-Identifier: MIT */
/* One small ring, and a receiver that checks what it gets. */
#include <string.h>

#include "ends.h"
#include "ring/ctl.h"

struct ends_plan plan;
struct vmbus_ring_mem ends_mem;
struct vmbus_ring_tx ends_tx;
struct vmbus_ring_rx ends_rx;
uint32_t ends_got, ends_want;

static union {
	struct vmbus_ring_ctl ctl;
	uint8_t bytes[128];
} page __attribute__((aligned(64)));
static uint8_t data[ENDS_SIZE] __attribute__((aligned(64)));
static uint8_t buf[ENDS_SIZE + 64] __attribute__((aligned(64)));
static uint64_t payloads[EX_THREADS][4][ENDS_PAYLOAD_MAX / 8];
static uint32_t next_of[EX_THREADS];

struct vmbus_ring_ctl *ends_ctl = &page.ctl;

static void ring_bell(void *ctx)
{
	ex_ring(*(const uint32_t *)ctx);
}

struct vmbus_ring_opts ends_opts(uint32_t bell)
{
	static uint32_t bells[EX_BELLS] = { 0, 1, 2, 3 };
	const struct vmbus_ring_opts opts = {
		.struct_bytes = sizeof(opts),
		.signal = ring_bell,
		.signal_ctx = &bells[bell],
		.buf = buf,
		.buf_bytes = sizeof(buf),
	};

	return opts;
}

uint32_t ends_bytes(void)
{
	return (uint32_t)vmbus_wire_ring_bytes(0, plan.payload);
}

static uint64_t qword(uint32_t sender, uint32_t number, uint32_t i)
{
	return (uint64_t)(sender + 1) << 56 | (uint64_t)(number + 1) << 32 | i;
}

static uint32_t payload_of(uint32_t sender)
{
	return plan.small && sender == 1 ? 8u : plan.payload;
}

void ends_setup(void)
{
	const struct vmbus_ring_mem_opts mem_opts = {
		.struct_bytes = sizeof(mem_opts),
		.window = VMBUS_RING_PLAIN,
		.size = ENDS_SIZE,
		.ctl = &page,
		.data = data,
	};
	const struct vmbus_ring_opts opts = ends_opts(BELL_TX);
	struct vmbus_ring_ctl *ctl = ends_ctl;

	ends_got = 0;
	ends_want = plan.senders * plan.packets;
	memset(next_of, 0, sizeof(next_of));
	EX_CHECK(vmbus_ring_mem_init(&ends_mem, &mem_opts) == 0, "mem_init");
	vmbus_ring_mem_clear(&ends_mem);
	vmbus__st32_relaxed(&ctl->in, plan.start);
	vmbus__st32_relaxed(&ctl->out, plan.start);
	EX_CHECK(vmbus_ring_rx_init(&ends_rx, &ends_mem, &opts) == 0, "rx_init");
	ex_name(&ctl->in, "in");
	ex_name(&ctl->out, "out");
	ex_name(&ctl->mask, "mask");
	ex_name(&ctl->pending_send, "pending");
	ex_window(data, sizeof(data));
}

struct vmbus_msg ends_msg(uint32_t sender, uint32_t number)
{
	struct vmbus_msg msg = { 0 };
	uint64_t *p = payloads[sender][number % 4u];
	const uint32_t len = payload_of(sender);
	uint32_t i;

	if (p[0] != qword(sender, number, 0) ||
	    p[len / 8u - 1] != qword(sender, number, len / 8u - 1))
		for (i = 0; i < len / 8u; i++)
			p[i] = qword(sender, number, i);
	msg.type = VMBUS_PKT_INBAND;
	msg.id = (uint64_t)sender << 32 | number;
	msg.data = p;
	msg.len = len;
	return msg;
}

static void check_packet(const struct vmbus_packet *pkt)
{
	const uint32_t sender = (uint32_t)(pkt->id >> 32), number = (uint32_t)pkt->id;
	uint64_t v;
	uint32_t i;

	EX_CHECK(sender < plan.senders, "a packet of nobody: id 0x%llx",
		 (unsigned long long)pkt->id);
	EX_CHECK(number == next_of[sender], "packet %u of sender %u instead of %u", number, sender,
		 next_of[sender]);
	EX_CHECK(pkt->len == payload_of(sender) && pkt->type == VMBUS_PKT_INBAND,
		 "packet %u of sender %u has length %u", number, sender, (unsigned int)pkt->len);
	if (plan.in_place)
		ex_read_bytes(pkt->payload, pkt->len);
	for (i = 0; i < pkt->len / 8u; i++) {
		memcpy(&v, (const uint8_t *)pkt->payload + 8u * i, 8);
		EX_CHECK(v == qword(sender, number, i), "packet %u of sender %u: wrong payload",
			 number, sender);
	}
	next_of[sender]++;
	ends_got++;
}

/* Nothing is there: sleep until the bell, or look when the index moves. */
static void nothing_there(void)
{
	int err;

	if (!plan.rx_sleeps) {
		ex_await(&ends_ctl->in, 4);
		return;
	}
	err = vmbus_ring_rx_arm(&ends_rx);
	EX_CHECK(err >= 0, "rx_arm: %s", vmbus_err_name(err));
	if (err == VMBUS_RING_READY)
		return;
	ex_wait(BELL_RX);
	vmbus_ring_rx_disarm(&ends_rx);
}

void ends_receive(void)
{
	struct vmbus_packet pkt[4];
	int n, i;

	while (ends_got < ends_want) {
		n = plan.in_place ? vmbus_ring_rx_get_in_peer_memory(&ends_rx, pkt, plan.per_get)
				  : vmbus_ring_rx_get(&ends_rx, pkt, plan.per_get);
		EX_CHECK(n >= 0, "rx_get: %s", vmbus_err_name(n));
		for (i = 0; i < n; i++)
			check_packet(&pkt[i]);
		if (n == 0)
			nothing_there();
		else if (plan.consumes)
			EX_CHECK(vmbus_ring_rx_consume(&ends_rx) == 0, "rx_consume");
	}
}

void ends_check_faults(void)
{
	EX_CHECK(vmbus_ring_rx_fault(&ends_rx)->field == VMBUS_FAULT_NONE, "receiver has a fault");
	EX_CHECK(ends_got == ends_want, "%u packets came", ends_got);
}

/* SPDX-License-Identifier: MIT */
/*
 * Both ends of rings are led through everything that has a probe; then the ends' own counters are told,
 * one a line, "probe times", and what the faults were, "probe argument value", for tests/probes/run to
 * compare with what the tracer has seen.
 */
#include <vmbus/vmbus.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_BYTES 4096u
#define PAYLOAD 200u
#define SLOTS 16u
#define ROUNDS 50u

struct ends {
	struct vmbus_shm_ring ring;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	_Alignas(64) struct vmbus_ring_mtx mtx;
	struct vmbus_ring_mtx_slot slots[SLOTS];
	uint8_t payload[PAYLOAD];
	uint32_t *words; /* the control page */
	void *buf;
};

static struct ends ends;
static unsigned signals;

static void signal_other(void *ctx)
{
	(void)ctx;
	signals++;
}

static void must(int got, const char *what)
{
	if (got >= 0)
		return;
	fprintf(stderr, "ring: %s: %s\n", what, vmbus_err_name(got));
	exit(1);
}

static void set_up(struct ends *e, int many)
{
	struct vmbus_shm_ring_opts map = { .struct_bytes = sizeof(map),
					   .window = VMBUS_RING_PLAIN,
					   .size = RING_BYTES };
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .signal = signal_other };
	const int fd = vmbus_shm_create(vmbus_shm_ring_bytes(RING_BYTES));

	must(fd, "vmbus_shm_create");
	must(vmbus_shm_ring_map(&e->ring, fd, &map), "vmbus_shm_ring_map");
	close(fd);
	vmbus_ring_mem_clear(&e->ring.mem);
	if (many)
		must(vmbus_ring_mtx_init(&e->mtx, &e->ring.mem, &opts, e->slots, SLOTS), "mtx");
	else
		must(vmbus_ring_tx_init(&e->tx, &e->ring.mem, &opts), "tx");
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(RING_BYTES);
	e->buf = malloc(opts.buf_bytes);
	if (!e->buf)
		must(VMBUS_E_NOMEM, "malloc");
	opts.buf = e->buf;
	must(vmbus_ring_rx_init(&e->rx, &e->ring.mem, &opts), "rx");
	e->words = e->ring.mem.ctl_p ? (uint32_t *)(void *)e->ring.mem.ctl_p : NULL;
}

static int put(struct ends *e, int many)
{
	const struct vmbus_msg msg = {
		.id = 1, .data = e->payload, .len = PAYLOAD, .type = VMBUS_PKT_INBAND
	};

	return many ? vmbus_ring_mtx_put(&e->mtx, &msg, 1) : vmbus_ring_tx_put(&e->tx, &msg, 1);
}

/* Fill the ring with the receiver asleep, wait for room, and read it empty. */
static void go_round(struct ends *e, int many)
{
	struct vmbus_packet pkt[8];
	int got;

	must(vmbus_ring_rx_arm(&e->rx), "rx arm");
	while (put(e, many) == 1)
		;
	vmbus_ring_rx_disarm(&e->rx);
	must(many ? vmbus_ring_mtx_arm(&e->mtx, RING_BYTES / 2)
		  : vmbus_ring_tx_arm(&e->tx, RING_BYTES / 2),
	     "tx arm");
	do {
		got = vmbus_ring_rx_get(&e->rx, pkt, 1);
		must(got, "get");
		must(vmbus_ring_rx_consume(&e->rx), "consume");
	} while (got);
	if (many)
		vmbus_ring_mtx_disarm(&e->mtx);
	else
		vmbus_ring_tx_disarm(&e->tx);
}

static void tell_fault(const char *name, const struct vmbus_fault *fault)
{
	printf("%s 1 %u\n%s 2 %u\n%s 3 %llu\n%s 4 %llu\n", name, fault->field, name, fault->where,
	       name, (unsigned long long)fault->value, name, (unsigned long long)fault->limit);
}

int main(int argc, char **argv)
{
	const int many = argc > 1 && !strcmp(argv[1], "many");
	struct vmbus_ring_stats tx, rx;
	struct ends *const e = &ends;
	struct vmbus_fault fault;
	struct vmbus_packet pkt;
	uint32_t i;

	set_up(e, many);
	for (i = 0; i < ROUNDS; i++)
		go_round(e, many);
	e->words[0] = 12345; /* the peer's words: no index of this ring */
	if (vmbus_ring_rx_get(&e->rx, &pkt, 1) != VMBUS_E_PEER)
		must(VMBUS_E_STATE, "a wrong write index");
	e->words[1] = 4; /* and none that packets begin at */
	while (put(e, many) == 1)
		;
	if (many) {
		vmbus_ring_mtx_stats(&e->mtx, &tx);
		vmbus_ring_mtx_fault(&e->mtx, &fault);
	} else {
		vmbus_ring_tx_stats(&e->tx, &tx);
		fault = *vmbus_ring_tx_fault(&e->tx);
	}
	vmbus_ring_rx_stats(&e->rx, &rx);
	if (signals != tx.signals + rx.signals)
		must(VMBUS_E_STATE, "signals");
	printf("tx_signal %llu\ntx_suppressed %llu\ntx_full %llu\ntx_fault %llu\n",
	       (unsigned long long)tx.signals, (unsigned long long)tx.signals_suppressed,
	       (unsigned long long)tx.full, (unsigned long long)tx.faults);
	printf("rx_signal %llu\nrx_suppressed %llu\nrx_fault %llu\n",
	       (unsigned long long)rx.signals, (unsigned long long)rx.signals_suppressed,
	       (unsigned long long)rx.faults);
	tell_fault("tx_fault", &fault);
	tell_fault("rx_fault", vmbus_ring_rx_fault(&e->rx));
	free(e->buf);
	return 0;
}

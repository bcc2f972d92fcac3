/* SPDX-License-Identifier: MIT */
/*
 * What bench/budget-check runs under callgrind: a fixed number of 64-byte packets through one ring
 * in one process, the same each time.  The two functions that send and receive are the only ones
 * that callgrind collects in, one of them a run.
 */
#include <vmbus/vmbus.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_BYTES 65536u
#define PAYLOAD 64u
#define PACKETS 8192u
#define BATCH_MAX 32u
#define SLOTS 64u

enum how {
	COPY,
	IN_PLACE,
	MANY
};

struct ends {
	struct vmbus_shm_ring ring;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	_Alignas(64) struct vmbus_ring_mtx mtx;
	struct vmbus_ring_mtx_slot slots[SLOTS];
	struct vmbus_msg msg[BATCH_MAX];
	struct vmbus_packet pkt[BATCH_MAX];
	uint8_t payload[BATCH_MAX * PAYLOAD];
	uint32_t batch;
	enum how how;
};

static struct ends ends;

int budget_send(struct ends *e, uint32_t from);
int budget_receive(struct ends *e);

__attribute__((noinline)) int budget_send(struct ends *e, uint32_t from)
{
	struct vmbus_span span[2];

	if (e->how == COPY)
		return vmbus_ring_tx_put(&e->tx, &e->msg[from], e->batch - from);
	if (e->how == MANY)
		return vmbus_ring_mtx_put(&e->mtx, &e->msg[from], e->batch - from);
	for (uint32_t i = from; i < e->batch; i++) {
		if (vmbus_ring_tx_reserve(&e->tx, &e->msg[i], span, 2) != 1)
			return -1;
		memcpy(span[0].base, &e->payload[i * PAYLOAD], PAYLOAD);
	}
	return vmbus_ring_tx_commit(&e->tx);
}

__attribute__((noinline)) int budget_receive(struct ends *e)
{
	if (e->how == IN_PLACE)
		return vmbus_ring_rx_get_in_peer_memory(&e->rx, e->pkt, e->batch);
	return vmbus_ring_rx_get(&e->rx, e->pkt, e->batch);
}

static int set_up(struct ends *e)
{
	struct vmbus_shm_ring_opts map = { .struct_bytes = sizeof(map) };
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) };
	int fd = vmbus_shm_create(vmbus_shm_ring_bytes(RING_BYTES)), err;

	if (fd < 0)
		return fd;
	map.window = VMBUS_RING_MIRRORED;
	map.size = RING_BYTES;
	err = vmbus_shm_ring_map(&e->ring, fd, &map);
	close(fd);
	if (err)
		return err;
	vmbus_ring_mem_clear(&e->ring.mem);
	if (e->how == MANY)
		err = vmbus_ring_mtx_init(&e->mtx, &e->ring.mem, NULL, e->slots, SLOTS);
	else
		err = vmbus_ring_tx_init(&e->tx, &e->ring.mem, NULL);
	if (err)
		return err;
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(RING_BYTES);
	opts.buf = malloc(opts.buf_bytes);
	if (!opts.buf)
		return VMBUS_E_NOMEM;
	for (uint32_t i = 0; i < BATCH_MAX; i++) {
		e->msg[i].id = i + 1u;
		e->msg[i].data = e->how == IN_PLACE ? NULL : &e->payload[i * PAYLOAD];
		e->msg[i].len = PAYLOAD;
		e->msg[i].type = VMBUS_PKT_INBAND;
	}
	return vmbus_ring_rx_init(&e->rx, &e->ring.mem, &opts);
}

int main(int argc, char **argv)
{
	static const char *const hows[] = { "copy", "in-place", "many" };
	struct ends *e = &ends;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: budget copy|in-place|many BATCH\n");
		return 2;
	}
	while (e->how < MANY && strcmp(argv[1], hows[e->how]))
		e->how++;
	e->batch = (uint32_t)strtoul(argv[2], NULL, 10);
	if (e->batch < 1 || e->batch > BATCH_MAX) {
		fprintf(stderr, "budget: batch %s: expected 1 to %u\n", argv[2], BATCH_MAX);
		return 2;
	}
	err = set_up(e);
	if (err) {
		fprintf(stderr, "budget: %s\n", vmbus_err_name(err));
		return 1;
	}
	for (uint32_t done = 0; done < PACKETS; done += e->batch) {
		int sent = 0, got = 0;

		/* A sender may take less than a batch at a time. */
		for (int n = 1; sent < (int)e->batch && n > 0; sent += n)
			n = budget_send(e, (uint32_t)sent);
		for (int n = 1; got < sent && n > 0; got += n)
			n = budget_receive(e);
		if (sent != (int)e->batch || got != sent) {
			fprintf(stderr, "budget: packet %u: sent %d, received %d\n", done, sent,
				got);
			return 1;
		}
	}
	printf("%u\n", PACKETS);
	return 0;
}

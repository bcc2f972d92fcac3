/* SPDX-License-Identifier: MIT */
/*
 * Two ports that are each other's far end, for two NICs of this process.  Each has an inbox, into
 * which the other one's send() puts; what finds no room there is dropped and counted, so that
 * neither NIC ever waits for the other.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/port.h>

#include "base/atomic.h"
#include "port/inbox.h"

#define BYTES_DEFAULT 262144u

struct side {
	struct pair *pair;
	struct side *other;
	struct vmbus__inbox *inbox; /* of what comes out here */
	bool open;		    /* with the pair's lock */
	uint64_t dropped;	    /* shared: sent here, and no room at the other's */
	uint64_t missed;	    /* shared: came here while it was not open */
};

struct pair {
	pthread_mutex_t lock;
	unsigned int ports; /* that are not destroyed */
	struct side side[2];
};

static int pair_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info));
	info->can = VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN;
	info->queues = 1;
	info->up = true;
	return 0;
}

static int pair_open(struct vmbus_port_queue *queue)
{
	struct side *const side = queue->ctx;
	bool taken;

	(void)pthread_mutex_lock(&side->pair->lock);
	taken = side->open || queue->number;
	if (!taken)
		side->open = true;
	(void)pthread_mutex_unlock(&side->pair->lock);
	if (taken)
		return VMBUS_E_STATE;
	/* What came while nobody was here has been lost on the way. */
	vmbus__add64_relaxed(vmbus__as_a64(&side->missed),
			     vmbus__inbox_drain(side->inbox)); /* PAIRDROP.count */
	queue->fd = vmbus__inbox_fd(side->inbox);
	return 0;
}

static void pair_close(struct vmbus_port_queue *queue)
{
	struct side *const side = queue->ctx;

	(void)pthread_mutex_lock(&side->pair->lock);
	side->open = false;
	(void)pthread_mutex_unlock(&side->pair->lock);
}

static uint32_t pair_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			  uint32_t n)
{
	struct side *const side = queue->ctx;
	const uint32_t put = vmbus__inbox_put(side->other->inbox, frame, n, 0);

	if (put < n)
		vmbus__add64_relaxed(vmbus__as_a64(&side->dropped), n - put); /* PAIRDROP.count */
	return n;
}

static void pair_ready(struct vmbus_port_queue *queue)
{
	struct side *const side = queue->ctx;
	const struct vmbus_frame *frame;
	uint32_t turns = VMBUS__INBOX_TURNS, n, taken;

	while ((n = vmbus__inbox_look(side->inbox, &frame, NULL)) != 0) {
		taken = vmbus_port_deliver(queue, frame, n);
		vmbus__inbox_done(side->inbox, taken);
		if (taken < n)
			return;
		if (--turns == 0) {
			/* The channel's other work has its turn before the rest. */
			vmbus__inbox_ring(side->inbox);
			return;
		}
	}
}

static void pair_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	struct side *const side = ctx;
	const uint64_t dropped =
		vmbus__ld64_relaxed(vmbus__as_a64(&side->dropped)); /* PAIRDROP.look */
	const uint64_t missed =
		vmbus__ld64_relaxed(vmbus__as_a64(&side->missed)); /* PAIRDROP.look */

	*sent = dropped;
	*received = missed;
}

static void free_pair(struct pair *pair)
{
	vmbus__inbox_destroy(pair->side[0].inbox);
	vmbus__inbox_destroy(pair->side[1].inbox);
	(void)pthread_mutex_destroy(&pair->lock);
	free(pair);
}

static void pair_destroy(void *ctx)
{
	struct pair *const pair = ((struct side *)ctx)->pair;
	unsigned int left;

	(void)pthread_mutex_lock(&pair->lock);
	left = --pair->ports;
	(void)pthread_mutex_unlock(&pair->lock);
	if (left == 0)
		free_pair(pair);
}

static const struct vmbus_port_ops pair_ops = {
	.struct_bytes = sizeof(pair_ops),
	.name = "pair",
	.info = pair_info,
	.open = pair_open,
	.close = pair_close,
	.send = pair_send,
	.ready = pair_ready,
	.destroy = pair_destroy,
	.dropped = pair_dropped,
};

int vmbus_port_pair(uint32_t bytes, struct vmbus_port two[2])
{
	struct pair *const pair = calloc(1, sizeof(*pair));
	int i, err = 0;

	if (!pair)
		return VMBUS_E_NOMEM;
	(void)pthread_mutex_init(&pair->lock, NULL);
	for (i = 0; i < 2 && !err; i++) {
		pair->side[i].pair = pair;
		pair->side[i].other = &pair->side[1 - i];
		err = vmbus__inbox_create(bytes ? bytes : BYTES_DEFAULT, &pair->side[i].inbox);
	}
	if (err) {
		free_pair(pair);
		return err;
	}
	pair->ports = 2;
	for (i = 0; i < 2; i++)
		two[i] = (struct vmbus_port){ &pair_ops, &pair->side[i] };
	return 0;
}

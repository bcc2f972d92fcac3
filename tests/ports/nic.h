/* SPDX-License-Identifier: MIT */
/*
 * A NIC as a port sees it, without a guest: it opens a queue, keeps what it is given, and has as much
 * room as the test says.
 */
#ifndef VMBUS_TEST_NIC_H
#define VMBUS_TEST_NIC_H

#include <poll.h>

#include <vmbus/port.h>

#include "frames.h"

#define NIC_KEPT 512u
#define NIC_KEPT_BYTES 96u /* of each frame */

struct nic {
	struct vmbus_port port;
	struct vmbus_port_queue queue;
	uint32_t room; /* frames that it still takes */
	uint32_t count;
	uint64_t bytes;
	struct vmbus_frame frame[NIC_KEPT]; /* without pieces */
	uint8_t kept[NIC_KEPT][NIC_KEPT_BYTES];
};

static inline uint32_t nic_deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
				   uint32_t n)
{
	struct nic *const nic = queue->up_p;
	uint32_t i;

	n = n < nic->room ? n : nic->room;
	for (i = 0; i < n; i++) {
		const size_t len = frame[i].piece[0].len;

		must(frame[i].bytes == len || len >= VMBUS_FRAME_HEAD);
		if (nic->count < NIC_KEPT) {
			nic->frame[nic->count] = frame[i];
			memcpy(nic->kept[nic->count], frame[i].piece[0].base,
			       len < NIC_KEPT_BYTES ? len : NIC_KEPT_BYTES);
		}
		nic->count++;
		nic->bytes += frame[i].bytes;
	}
	nic->room -= n;
	return n;
}

static inline int nic_try_open(struct nic *nic, const struct vmbus_port *port, uint32_t number)
{
	memset(nic, 0, sizeof(*nic));
	nic->port = *port;
	nic->room = UINT32_MAX;
	nic->queue = (struct vmbus_port_queue){
		.ctx = port->ctx,
		.number = number,
		.fd = -1,
		.up_p = nic,
		.deliver_p = nic_deliver,
	};
	return port->ops->open(&nic->queue);
}

static inline void nic_open(struct nic *nic, const struct vmbus_port *port)
{
	must_eq(nic_try_open(nic, port, 0), 0);
	must(nic->queue.fd >= 0);
}

static inline void nic_close(struct nic *nic)
{
	nic->port.ops->close(&nic->queue);
}

/* Forget what was taken. */
static inline void nic_clear(struct nic *nic)
{
	nic->count = 0;
}

/* Everything that there is now; how many frames that was. */
static inline uint32_t nic_take(struct nic *nic)
{
	struct pollfd p = { .fd = nic->queue.fd, .events = POLLIN };
	uint32_t before;

	if (nic->count >= NIC_KEPT)
		nic_clear(nic);
	before = nic->count;
	while (poll(&p, 1, 0) == 1 && nic->room)
		nic->port.ops->ready(&nic->queue);
	return nic->count - before;
}

/* A frame between two addresses 02:00:00:00:xx:xx; 255 is broadcast.  Its number is at byte 14. */
static inline struct vmbus_frame between(uint8_t *bytes, struct vmbus_iov *iov, int from, int to,
					 uint32_t number)
{
	memset(bytes, 0, 60);
	memset(bytes, to == 255 ? 255 : 0, 6);
	if (to != 255) {
		bytes[0] = 2;
		bytes[4] = (uint8_t)(to >> 8);
		bytes[5] = (uint8_t)to;
	}
	bytes[6] = 2;
	bytes[10] = (uint8_t)(from >> 8);
	bytes[11] = (uint8_t)from;
	put16(bytes + 12, 0x88b5);
	memcpy(bytes + 14, &number, 4);
	*iov = (struct vmbus_iov){ bytes, 60 };
	return (struct vmbus_frame){ .piece = iov, .pieces = 1, .bytes = 60 };
}

static inline void nic_send(struct nic *nic, int from, int to, uint32_t number)
{
	struct vmbus_frame frame;
	struct vmbus_iov iov;
	uint8_t bytes[60];

	frame = between(bytes, &iov, from, to, number);
	must_eq(nic->port.ops->send(&nic->queue, &frame, 1), 1);
}

static inline uint32_t nic_number(const struct nic *nic, uint32_t i)
{
	uint32_t number;

	must(i < nic->count);
	memcpy(&number, nic->kept[i] + 14, 4);
	return number;
}

#endif

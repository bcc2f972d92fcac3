/* SPDX-License-Identifier: MIT */
/*
 * Answers to DIAG and RECORDS, a few lines at a time from where the last ones ended, as those to
 * LIST are.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>

#include "shm/diag_proto.h"
#include "shm/parent.h"

static int send_msg(int sock, const struct vmbus__dg_msg *msg)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	const uint32_t len = vmbus__dg_encode(msg, bytes);

	return vmbus__shm_send_bytes(sock, bytes, len, NULL, 0);
}

int vmbus__shm_tell_bus(struct vmbus_bus *bus, int sock)
{
	struct vmbus__dg_msg msg = { .type = VMBUS_DG_BUS };

	vmbus_bus_diag(bus, &msg.bus);
	return send_msg(sock, &msg);
}

int vmbus__shm_tell_diags(struct vmbus_bus *bus, struct vmbus__shm_lister *lister, int sock,
			  uint32_t room)
{
	struct vmbus__dg_msg msg = { .type = VMBUS_DG_CHAN };
	uint32_t at = lister->index, told;
	int err;

	for (told = 0; told < room && vmbus_bus_diag_next(bus, &at, &msg.chan); told++) {
		err = send_msg(sock, &msg);
		if (err)
			return err;
		lister->index = at;
		lister->channels++;
	}
	return (int)told;
}

/* The bytes as they are: the reader finds out which events are whole. */
int vmbus__shm_tell_record(struct vmbus_bus *bus, struct vmbus__shm_lister *lister, int sock,
			   uint32_t room)
{
	struct vmbus__dg_msg msg = { .type = VMBUS_DG_PART };
	struct vmbus__dg_part *const part = &msg.part;
	size_t bytes, left;
	const uint8_t *const mem = vmbus_bus_record_mem(bus, &bytes);
	uint32_t told;
	int err;

	for (told = 0; told < room && lister->index < bytes; told++) {
		left = bytes - lister->index;
		part->offset = lister->index;
		part->total = bytes;
		part->bytes = left < VMBUS_DG_PART_BYTES ? (uint32_t)left : VMBUS_DG_PART_BYTES;
		memset(part->data, 0, sizeof(part->data));
		memcpy(part->data, mem + lister->index, part->bytes);
		err = send_msg(sock, &msg);
		if (err)
			return err;
		lister->index += part->bytes;
	}
	return (int)told;
}

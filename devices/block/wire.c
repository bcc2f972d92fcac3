/* SPDX-License-Identifier: MIT */
/*
 * Messages of the block device, to and from bytes.  Nothing here judges a value.
 */
#include "storwire/wire.h"

#define BODY VMBUS__STOR_HEAD_BYTES

static void put16(uint8_t *p, uint32_t v)
{
	vmbus__stor_put(p, 2, v);
}

static void put32(uint8_t *p, uint32_t v)
{
	vmbus__stor_put(p, 4, v);
}

void vmbus__stor_head_get(struct vmbus__stor_head *head, const uint8_t *msg)
{
	head->op = vmbus__stor_get32(msg);
	head->flags = vmbus__stor_get32(msg + 4);
	head->status = vmbus__stor_get32(msg + 8);
}

void vmbus__stor_head_put(uint8_t *msg, const struct vmbus__stor_head *head)
{
	__builtin_memset(msg, 0, VMBUS__STOR_BYTES);
	put32(msg, head->op);
	put32(msg + 4, head->flags);
	put32(msg + 8, head->status);
}

void vmbus__stor_srb_get(struct vmbus__stor_srb *srb, const uint8_t *msg, uint32_t bytes)
{
	const uint8_t *const p = msg + BODY;

	srb->srb_status = p[2];
	srb->scsi_status = p[3];
	srb->port = p[4];
	srb->path = p[5];
	srb->target = p[6];
	srb->lun = p[7];
	srb->cdb_bytes = p[8];
	srb->sense_bytes = p[9];
	srb->data_in = p[10];
	srb->bytes = vmbus__stor_get32(p + 12);
	__builtin_memcpy(srb->data, p + 16, sizeof(srb->data));
	srb->flags = bytes >= VMBUS__STOR_BYTES ? vmbus__stor_get32(p + 40) : 0;
	srb->timeout = bytes >= VMBUS__STOR_BYTES ? vmbus__stor_get32(p + 44) : 0;
}

static void put_srb(uint8_t *p, const struct vmbus__stor_srb *srb, uint32_t data_bytes)
{
	put16(p, VMBUS__SRB_BYTES);
	p[2] = srb->srb_status;
	p[3] = srb->scsi_status;
	p[4] = srb->port;
	p[5] = srb->path;
	p[6] = srb->target;
	p[7] = srb->lun;
	p[8] = srb->cdb_bytes;
	p[9] = srb->sense_bytes;
	p[10] = srb->data_in;
	p[11] = 0;
	put32(p + 12, srb->bytes);
	__builtin_memcpy(p + 16, srb->data, data_bytes);
}

void vmbus__stor_request_put(uint8_t *msg, const struct vmbus__stor_srb *srb)
{
	uint8_t *const p = msg + BODY;

	put_srb(p, srb, VMBUS__SRB_CDB_BYTES);
	__builtin_memset(p + 32, 0, VMBUS__SRB_BYTES - 32u);
	p[38] = VMBUS__SRB_UNTAGGED;
	p[39] = VMBUS__SRB_SIMPLE_QUEUE;
	put32(p + 40, srb->flags);
	put32(p + 44, srb->timeout);
}

void vmbus__stor_answer_put(uint8_t *msg, const struct vmbus__stor_srb *srb)
{
	uint8_t *const p = msg + BODY;

	put_srb(p, srb, VMBUS__SRB_SENSE_BYTES);
	__builtin_memset(p + 36, 0, VMBUS__SRB_BYTES - 36u);
}

void vmbus__stor_props_get(struct vmbus__stor_props *props, const uint8_t *msg)
{
	const uint8_t *const p = msg + BODY;

	props->subchannels = (uint16_t)vmbus__stor_get(p + 4, 2);
	props->flags = vmbus__stor_get32(p + 8);
	props->transfer_bytes = vmbus__stor_get32(p + 12);
}

void vmbus__stor_props_put(uint8_t *msg, const struct vmbus__stor_props *props)
{
	uint8_t *const p = msg + BODY;

	__builtin_memset(p, 0, 24);
	put16(p + 4, props->subchannels);
	put32(p + 8, props->flags);
	put32(p + 12, props->transfer_bytes);
}

uint16_t vmbus__stor_number_get(const uint8_t *msg)
{
	return (uint16_t)vmbus__stor_get(msg + BODY, 2);
}

void vmbus__stor_number_put(uint8_t *msg, uint16_t number)
{
	put16(msg + BODY, number);
}

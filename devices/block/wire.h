/* SPDX-License-Identifier: MIT */
/*
 * Messages of the block device, as both ends read and write them: layout only.  Whoever uses the
 * fields decides what may be in them.
 */
#ifndef VMBUS_STORWIRE_WIRE_H
#define VMBUS_STORWIRE_WIRE_H

#include <vmbus/base.h>

/* [STOR-FRAME]: bytes of a message; a guest sends long ones whatever was agreed on. */
#define VMBUS__STOR_HEAD_BYTES 12u
#define VMBUS__STOR_SHORT_BYTES 48u /* below VMBUS__STOR_WIN8 */
#define VMBUS__STOR_BYTES 64u

enum vmbus__stor_op {
	VMBUS__STOR_COMPLETE_IO = 1,
	VMBUS__STOR_REMOVE_DEVICE = 2,
	VMBUS__STOR_EXECUTE_SRB = 3,
	VMBUS__STOR_RESET_LUN = 4,
	VMBUS__STOR_RESET_ADAPTER = 5,
	VMBUS__STOR_RESET_BUS = 6,
	VMBUS__STOR_BEGIN_INIT = 7,
	VMBUS__STOR_END_INIT = 8,
	VMBUS__STOR_QUERY_VERSION = 9,
	VMBUS__STOR_QUERY_PROPERTIES = 10,
	VMBUS__STOR_ENUMERATE_BUS = 11,
	VMBUS__STOR_FCHBA_DATA = 12,
	VMBUS__STOR_CREATE_SUBS = 13,
	VMBUS__STOR_EVENT = 14
};

#define VMBUS__STOR_REPLY_WANTED 1u /* flags of a message */

/* Versions, [STOR-INIT]. */
#define VMBUS__STOR_WIN6 0x0200u
#define VMBUS__STOR_WIN7 0x0402u
#define VMBUS__STOR_WIN8 0x0501u
#define VMBUS__STOR_BLUE 0x0600u
#define VMBUS__STOR_WIN10 0x0602u

/* Status words of a message. */
#define VMBUS__STOR_OK 0u
#define VMBUS__STOR_DEVICE_BUSY 0x80000011u
#define VMBUS__STOR_BUFFER_OVERFLOW 0x80000005u
#define VMBUS__STOR_UNSUCCESSFUL 0xC0000001u
#define VMBUS__STOR_INVALID_PARAMETER 0xC000000Du
#define VMBUS__STOR_INVALID_REQUEST 0xC0000010u
#define VMBUS__STOR_REVISION_MISMATCH 0xC0000059u
#define VMBUS__STOR_NO_DEVICE 0xC00000C0u
#define VMBUS__STOR_CANCELLED 0xC0000120u
#define VMBUS__STOR_INVALID_STATE 0xC0000184u
#define VMBUS__STOR_IO_ERROR 0xC0000185u

/* Status of an SRB, [STOR-SRB]. */
#define VMBUS__SRB_PENDING 0x00u
#define VMBUS__SRB_SUCCESS 0x01u
#define VMBUS__SRB_ABORTED 0x02u
#define VMBUS__SRB_ERROR 0x04u
#define VMBUS__SRB_BUSY 0x05u
#define VMBUS__SRB_INVALID_REQUEST 0x06u
#define VMBUS__SRB_OVERRUN 0x12u
#define VMBUS__SRB_INVALID_LUN 0x20u
#define VMBUS__SRB_CODE 0x3Fu
#define VMBUS__SRB_FROZEN 0x40u
#define VMBUS__SRB_AUTOSENSE 0x80u

/* Status of a SCSI command. */
#define VMBUS__SCSI_GOOD 0x00u
#define VMBUS__SCSI_CHECK_CONDITION 0x02u
#define VMBUS__SCSI_CONDITION_MET 0x04u
#define VMBUS__SCSI_BUSY 0x08u
#define VMBUS__SCSI_RESERVATION_CONFLICT 0x18u
#define VMBUS__SCSI_TASK_SET_FULL 0x28u

/* Flags of an SRB. */
#define VMBUS__SRB_QUEUE_ACTION 0x2u
#define VMBUS__SRB_NO_SYNCH_TRANSFER 0x8u
#define VMBUS__SRB_DATA_IN 0x40u
#define VMBUS__SRB_DATA_OUT 0x80u
#define VMBUS__SRB_NO_QUEUE_FREEZE 0x100u

/* data_in of an SRB. */
#define VMBUS__SRB_TO_DEVICE 0u
#define VMBUS__SRB_FROM_DEVICE 1u
#define VMBUS__SRB_NO_DATA 2u

#define VMBUS__SRB_BYTES 52u
#define VMBUS__SRB_SHORT_BYTES 36u
#define VMBUS__SRB_CDB_BYTES 16u
#define VMBUS__SRB_SENSE_BYTES 20u
#define VMBUS__SRB_UNTAGGED 0xFFu
#define VMBUS__SRB_SIMPLE_QUEUE 0x20u

struct vmbus__stor_head {
	uint32_t op;
	uint32_t flags;
	uint32_t status;
};

/* An SRB; which fields have a meaning is the direction's. */
struct vmbus__stor_srb {
	uint8_t srb_status, scsi_status;
	uint8_t port, path, target, lun;
	uint8_t cdb_bytes, sense_bytes, data_in;
	uint32_t bytes;			      /* to move, or moved */
	uint8_t data[VMBUS__SRB_SENSE_BYTES]; /* the CDB of a request, the sense of an answer */
	uint32_t flags, timeout;	      /* of a request, in a long message */
};

#define VMBUS__STOR_MULTI_CHANNEL 1u /* flags of the properties */

struct vmbus__stor_props {
	uint16_t subchannels;
	uint32_t flags;
	uint32_t transfer_bytes;
};

static inline uint64_t vmbus__stor_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	for (; bytes > 0; bytes--)
		v = v << 8 | p[bytes - 1];
	return v;
}

/* The same for four bytes, in words that a compiler makes one load of. */
static inline uint32_t vmbus__stor_get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void vmbus__stor_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	uint32_t i;

	for (i = 0; i < bytes; i++, v >>= 8)
		p[i] = (uint8_t)(v & 255u);
}

/* The head of a message; the caller made sure that the bytes are there. */
void vmbus__stor_head_get(struct vmbus__stor_head *head, const uint8_t *msg);
/* The same into VMBUS__STOR_BYTES, of which the rest becomes zero. */
void vmbus__stor_head_put(uint8_t *msg, const struct vmbus__stor_head *head);

/* An SRB behind the head, of a message of bytes: VMBUS__STOR_SHORT_BYTES at least. */
void vmbus__stor_srb_get(struct vmbus__stor_srb *srb, const uint8_t *msg, uint32_t bytes);
/* A request, and an answer: VMBUS__STOR_BYTES but the head, which is there already. */
void vmbus__stor_request_put(uint8_t *msg, const struct vmbus__stor_srb *srb);
void vmbus__stor_answer_put(uint8_t *msg, const struct vmbus__stor_srb *srb);

/* The properties behind the head: 24 bytes. */
void vmbus__stor_props_get(struct vmbus__stor_props *props, const uint8_t *msg);
void vmbus__stor_props_put(uint8_t *msg, const struct vmbus__stor_props *props);

/* The one number of a message that has one: the version, or how many sub-channels. */
uint16_t vmbus__stor_number_get(const uint8_t *msg);
void vmbus__stor_number_put(uint8_t *msg, uint16_t number);

#endif

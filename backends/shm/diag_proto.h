/* SPDX-License-Identifier: MIT */
/*
 * The part of the socket's protocol that tools ask by what is stuck: snapshots and flight records.
 * vmbus_shm(7) has it byte by byte.  Nothing here knows a bus.
 */
#ifndef VMBUS_SHM_DIAG_PROTO_H
#define VMBUS_SHM_DIAG_PROTO_H

#include <vmbus/diag.h>

#include "shm/proto.h"

enum vmbus__dg_type {
	VMBUS_DG_DIAG = 40,    /* anybody: tell me how everything is */
	VMBUS_DG_RECORDS = 41, /* anybody: give me the flight records */
	VMBUS_DG_BUS = 42,     /* parent: how the bus of the child told last is */
	VMBUS_DG_CHAN = 43,    /* parent: how a channel of it is */
	VMBUS_DG_PART = 44     /* parent: bytes of the record of the child told last */
};
#define VMBUS_DG_FIRST 40u
#define VMBUS_DG_END 45u
#define VMBUS_DG_PART_BYTES 960u
#define VMBUS_DG_WHAT_BYTES 96u
#define VMBUS_DG_VSP_BYTES 32u
#define VMBUS_DG_REFUSED_BYTES 120u

struct vmbus__dg_part {
	uint64_t offset;
	uint64_t total; /* bytes of the record */
	uint32_t bytes; /* here */
	uint8_t data[VMBUS_DG_PART_BYTES];
};

/* One message, decoded; texts that diag and bus name are here. */
struct vmbus__dg_msg {
	uint32_t type; /* enum vmbus__dg_type */
	char what[VMBUS_DG_WHAT_BYTES];
	char vsp[VMBUS_DG_VSP_BYTES];
	char refused[VMBUS_DG_REFUSED_BYTES];
	struct vmbus_bus_diag bus;   /* BUS */
	struct vmbus_chan_diag chan; /* CHAN */
	struct vmbus__dg_part part;  /* PART */
};

/* Bytes of a message of this type, 0 for a type that is none of these. */
uint32_t vmbus__dg_msg_bytes(uint32_t type);

/* Which of these a record is by its header, if its header is whole and of our version; or 0. */
uint32_t vmbus__dg_type_of(const uint8_t *bytes, size_t len);

/* Write a message; returns its bytes.  Texts are taken from bus and chan. */
uint32_t vmbus__dg_encode(const struct vmbus__dg_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX]);

/* Read a message from a private copy; errors as vmbus__shm_decode(). */
int vmbus__dg_decode(const uint8_t *bytes, size_t len, struct vmbus__dg_msg *msg);

#endif

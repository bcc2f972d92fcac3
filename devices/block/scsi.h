/* SPDX-License-Identifier: MIT */
/*
 * A SCSI disk on a store: what one command does.  It knows nothing of VMBus, channels and controllers:
 * it is given a command, the data buffer and a store's queue, and tells the end.
 *
 * Everything in a task that came from the guest is a private copy, but for the bytes of the buffer.
 */
#ifndef VMBUS_BLOCK_SCSI_H
#define VMBUS_BLOCK_SCSI_H

#include <sys/uio.h>

#include <vmbus/ctl.h>
#include <vmbus/mem.h>
#include <vmbus/store.h>

#define VMBUS__CDB_BYTES 16u
#define VMBUS__SENSE_BYTES 20u

/* What a disk is; one for all channels.  Only its size changes while it is used: it is read once
   for each command. */
struct vmbus__disk {
	struct vmbus_store store;
	uint64_t bytes;		      /* relaxed atomic; whole sectors */
	struct vmbus_store_info info; /* as it was when the disk was added */
	uint32_t sector_shift;	      /* 9 or 12 */
	uint32_t transfer_bytes;      /* of one request at most */
	uint8_t target, lun;
	bool read_only, write_through;
	struct vmbus_guid id;
	char serial[33], vendor[9], product[17],
		revision[5]; /* padded with spaces but the serial */
};

#define VMBUS__UA_CAPACITY 1u /* 6/2A/09 */
#define VMBUS__UA_LIMITS 2u   /* 6/3F/01: what the store tells of itself has changed */
/* No unit attentions: a disk that the guest knew at this address is gone, whatever is there now.  LEFT:
   it was not told.  SAID: it is, by the answer to a command, which it cannot have yet.  TOLD: it was, and
   has not asked what is there. */
#define VMBUS__UA_LEFT 4u
#define VMBUS__UA_TOLD 8u
#define VMBUS__UA_SAID 16u
#define VMBUS__UA_GONE (VMBUS__UA_LEFT | VMBUS__UA_TOLD | VMBUS__UA_SAID)
#define VMBUS__UA_ALL 31u

/* What counts in which counter of struct vmbus_block_stats. */
enum vmbus__scsi_kind {
	VMBUS__SCSI_OTHER = 0,
	VMBUS__SCSI_READ,
	VMBUS__SCSI_WRITE,
	VMBUS__SCSI_FLUSH,
	VMBUS__SCSI_DISCARD
};

/* One command under way: caller's storage, pooled by the caller, up to done(). */
struct vmbus__scsi_task {
	/* From the caller. */
	uint8_t cdb[VMBUS__CDB_BYTES];
	struct vmbus_sgl
		*data;	   /* the guest's buffer, pinned; NULL: none.  access as data_in tells */
	struct iovec *iov; /* the same, as a list of iov_count; may be shortened */
	uint32_t iov_count;
	uint32_t data_bytes;	  /* that the guest gave */
	struct vmbus__disk *disk; /* NULL: there is none at this address */
	struct vmbus_store_queue *queue;
	const bool *over;    /* true: no more requests for the queue; NULL: it never is */
	bool *begun;	     /* set when a request is given to the queue; NULL: nobody looks */
	uint64_t *ua;	     /* atomic: VMBUS__UA_* of this address for this guest; NULL: none */
	uint8_t target, lun; /* as addressed */
	uint32_t *scratches; /* that commands of this channel have; NULL: nobody counts */
	bool data_in; /* as the guest tells, true: to it; where it tells nothing, by the opcode */
	/* For REPORT LUNS: the numbers of the target's disks, ascending; returns how many there are. */
	uint32_t (*luns)(void *ctx, uint8_t target, uint8_t *luns, uint32_t room);
	void *ctx;
	void (*done)(struct vmbus__scsi_task *task); /* once, also before start returns */
	/* The outcome, for done(). */
	uint8_t scsi_status;
	uint8_t srb_status; /* B7, autosense flag included */
	uint8_t sense_len;
	uint8_t kind; /* enum vmbus__scsi_kind */
	bool told;    /* the first that says that the disk before this one is gone: SAID is due to
			 become TOLD once the guest can have the answer */
	uint8_t sense[VMBUS__SENSE_BYTES];
	uint64_t covered; /* bytes of the disk that were discarded, with VMBUS__SCSI_DISCARD */
	uint32_t moved;	  /* bytes of the buffer */
	uint32_t status;  /* NTSTATUS of the packet */
	/* What it made the store do within the calls, for who shares out time: its bytes, and 4096
	   for each request.  0: the store was not asked. */
	uint64_t work;
	uint64_t looked_at; /* bytes that the command itself has compared, whenever that was */
	/* The command's own, while it is under way. */
	struct vmbus_io io;
	bool (*next)(struct vmbus__scsi_task *task); /* begin a request of io; false: it is over */
	uint64_t at, left; /* bytes of the disk, of what is done piece by piece */
	uint64_t covers;   /* what covered becomes */
	uint8_t turn, plan, doing, end;
	uint32_t list_at, list_count;
	uint32_t compared, total;  /* bytes of the buffer: so far, at the end */
	struct vmbus__unmap *list; /* a private copy of UNMAP's, freed by the command */
	uint8_t *scratch;	   /* what is bounced, repeated or compared; freed by the command */
	struct iovec piece;	   /* of the scratch */
};

/*
 * The direction of a command by its opcode: what the host does with the buffer, whatever the guest
 * tells.  0: it has none; an opcode that is not known: 0.
 */
enum vmbus_access vmbus__scsi_access(const uint8_t *cdb);

/* Make a bit of a word of VMBUS__UA_* another one, or with 0 none.  Returns whether it was there. */
bool vmbus__scsi_turn(uint64_t *ua, uint64_t from, uint64_t to);

/* Begin a command.  The store's commit() is the caller's to call, once for a batch. */
void vmbus__scsi_start(struct vmbus__scsi_task *task);

/* End one without the disk: BUSY and TASK SET FULL of a queue that is full; done() is not called. */
void vmbus__scsi_refuse(struct vmbus__scsi_task *task, bool full);
/* CHECK CONDITION 5/24/00: the buffer cannot be, B10; done() is not called. */
void vmbus__scsi_bad_buffer(struct vmbus__scsi_task *task);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * How a command of the SCSI disk ends, and the engine that takes it through several requests of the
 * store.
 *
 * Invariant: a command ends in exactly one call of finish().
 */
#include "block/scsi_cmd.h"

#include <stdlib.h>

/* SRB status, [STOR-SRB]; the last one is a flag. */
#define SRB_SUCCESS 0x01u
#define SRB_ERROR 0x04u
#define SRB_BUSY 0x05u
#define SRB_INVALID_REQUEST 0x06u
#define SRB_DATA_OVERRUN 0x12u
#define SRB_INVALID_LUN 0x20u
#define SRB_SENSE_VALID 0x80u
/* SCSI status */
#define STATUS_GOOD 0x00u
#define STATUS_CHECK_CONDITION 0x02u
#define STATUS_BUSY 0x08u
#define STATUS_TASK_SET_FULL 0x28u
/* Of the packet, [STOR-STATUS]. */
#define NT_SUCCESS 0u
#define NT_BUFFER_OVERFLOW 0x80000005u
#define NT_BUSY 0x80000011u
#define NT_NO_DEVICE 0xC00000C0u
#define NT_IO_DEVICE_ERROR 0xC0000185u

#define SENSE_FIXED_BYTES 18u
#define KEY_ILLEGAL_REQUEST 5u
#define REQUEST_WORK 4096u /* what a request of the store counts beside its bytes */

/* Where a command stands: task->turn. */
enum {
	CALLING, /* in next() */
	ENDED,	 /* in next(), and the request that it began has ended: task->end */
	WAITING	 /* for the store */
};

/* ---- ends ---- */

static void finish(struct vmbus__scsi_task *task)
{
	if (VMBUS_UNLIKELY(task->list || task->scratch)) {
		if (task->scratch && task->scratches)
			--*task->scratches;
		free(task->list);
		free(task->scratch);
		task->list = NULL;
		task->scratch = NULL;
	}
	task->done(task);
}

static void outcome(struct vmbus__scsi_task *task, uint32_t scsi, uint32_t srb, uint32_t nt)
{
	task->scsi_status = (uint8_t)scsi;
	task->srb_status = (uint8_t)srb;
	task->status = nt;
	task->sense_len = 0;
	task->moved = 0;
	task->covered = 0;
}

void vmbus__scsi_good(struct vmbus__scsi_task *task, uint32_t moved)
{
	outcome(task, STATUS_GOOD, SRB_SUCCESS, NT_SUCCESS);
	task->moved = moved;
	finish(task);
}

void vmbus__scsi_good_covered(struct vmbus__scsi_task *task, uint32_t moved, uint64_t covered)
{
	outcome(task, STATUS_GOOD, SRB_SUCCESS, NT_SUCCESS);
	task->moved = moved;
	task->covered = covered;
	finish(task);
}

/* [STOR-SENSE] */
void vmbus__scsi_sense(uint8_t *to, uint32_t sense)
{
	__builtin_memset(to, 0, SENSE_FIXED_BYTES);
	to[0] = 0x70;
	to[2] = (uint8_t)(sense >> 16);
	to[7] = SENSE_FIXED_BYTES - 8u;
	vmbus__scsi_put(to + 12, 2, sense);
}

static void check_outcome(struct vmbus__scsi_task *task, uint32_t sense)
{
	const uint32_t srb = sense >> 16 == KEY_ILLEGAL_REQUEST ? SRB_INVALID_REQUEST : SRB_ERROR;

	outcome(task, STATUS_CHECK_CONDITION, srb | SRB_SENSE_VALID, NT_IO_DEVICE_ERROR);
	__builtin_memset(task->sense, 0, sizeof(task->sense));
	vmbus__scsi_sense(task->sense, sense);
	task->sense_len = SENSE_FIXED_BYTES;
}

void vmbus__scsi_check(struct vmbus__scsi_task *task, uint32_t sense)
{
	check_outcome(task, sense);
	finish(task);
}

void vmbus__scsi_busy(struct vmbus__scsi_task *task)
{
	outcome(task, STATUS_BUSY, SRB_BUSY, NT_BUSY);
	finish(task);
}

void vmbus__scsi_no_lun(struct vmbus__scsi_task *task)
{
	outcome(task, STATUS_CHECK_CONDITION, SRB_INVALID_LUN, NT_NO_DEVICE);
	finish(task);
}

void vmbus__scsi_refuse(struct vmbus__scsi_task *task, bool full)
{
	task->kind = VMBUS__SCSI_OTHER;
	outcome(task, full ? STATUS_TASK_SET_FULL : STATUS_BUSY, SRB_BUSY, NT_BUSY);
}

void vmbus__scsi_bad_buffer(struct vmbus__scsi_task *task)
{
	task->kind = VMBUS__SCSI_OTHER;
	check_outcome(task, VMBUS__SENSE_CDB);
}

/* An error of the medium, with the first sector that is bad, [STOR-SENSE]; a flush has none. */
static void medium(struct vmbus__scsi_task *task)
{
	const struct vmbus_io *const io = &task->io;
	const bool reads = task->doing == VMBUS__SCSI_READ;
	uint64_t lba;

	check_outcome(task, reads ? VMBUS__SENSE_READ_ERROR : VMBUS__SENSE_WRITE_ERROR);
	if (io->bad_offset >= io->offset && io->bad_offset - io->offset < io->bytes) {
		lba = io->bad_offset >> task->disk->sector_shift;
		if (lba <= UINT32_MAX) {
			task->sense[0] |= 0x80u;
			vmbus__scsi_put(task->sense + 3, 4, lba);
		} else {
			const uint8_t head[12] = { 0x72,
						   task->sense[2],
						   task->sense[12],
						   task->sense[13],
						   0,
						   0,
						   0,
						   12,
						   0,
						   0x0A,
						   0x80,
						   0 };

			__builtin_memcpy(task->sense, head, sizeof(head));
			vmbus__scsi_put(task->sense + 12, 8, lba);
			task->sense_len = VMBUS__SENSE_BYTES;
		}
	}
	finish(task);
}

static void failed(struct vmbus__scsi_task *task, enum vmbus_io_end end)
{
	switch (end) {
	case VMBUS_IO_BUSY:
		vmbus__scsi_busy(task);
		break;
	case VMBUS_IO_MEDIUM:
		medium(task);
		break;
	case VMBUS_IO_SPACE:
		vmbus__scsi_check(task, VMBUS__SENSE_SPACE);
		break;
	case VMBUS_IO_READ_ONLY:
		vmbus__scsi_check(task, VMBUS__SENSE_PROTECTED);
		break;
	default:
		vmbus__scsi_check(task, VMBUS__SENSE_INTERNAL);
		break;
	}
}

void vmbus__scsi_reply(struct vmbus__scsi_task *task, const uint8_t *data, uint32_t bytes,
		       uint64_t alloc)
{
	uint64_t n = bytes < alloc ? bytes : alloc;

	if (n > task->data_bytes)
		n = task->data_bytes;
	if (n && (!task->data || vmbus_sgl_write(task->data, 0, data, n) != n))
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else
		vmbus__scsi_good(task, (uint32_t)n);
}

void vmbus__scsi_reply_whole(struct vmbus__scsi_task *task, const uint8_t *data, uint32_t bytes,
			     uint64_t alloc)
{
	if (task->data_bytes >= (bytes < alloc ? bytes : alloc)) {
		vmbus__scsi_reply(task, data, bytes, alloc);
		return;
	}
	check_outcome(task, VMBUS__SENSE_CDB);
	task->srb_status = SRB_DATA_OVERRUN | SRB_SENSE_VALID;
	task->status = NT_BUFFER_OVERFLOW;
	finish(task);
}

/* ---- checks ---- */

bool vmbus__scsi_in_disk(struct vmbus__scsi_task *task, uint64_t lba, uint64_t sectors)
{
	const uint64_t all = vmbus__disk_sectors(task->disk);

	if (VMBUS_LIKELY(sectors <= all && lba <= all - sectors))
		return true;
	vmbus__scsi_check(task, VMBUS__SENSE_LBA);
	return false;
}

bool vmbus__scsi_scratch(struct vmbus__scsi_task *task, uint32_t bytes)
{
	if (!task->scratches || *task->scratches < VMBUS__SCSI_SCRATCHES)
		task->scratch = aligned_alloc(VMBUS_PAGE_BYTES, bytes);
	if (task->scratch && task->scratches)
		++*task->scratches;
	if (task->scratch)
		return true;
	vmbus__scsi_busy(task);
	return false;
}

/* ---- the engine ---- */

/* Call next() until it has to wait, or the command is over and the task somebody else's. */
static void go_on(struct vmbus__scsi_task *task)
{
	for (;;) {
		task->turn = CALLING;
		if (!task->next(task))
			return;
		if (task->turn != ENDED) {
			task->turn = WAITING;
			return;
		}
		if (task->end != VMBUS_IO_OK) {
			failed(task, task->end);
			return;
		}
	}
}

static void request_done(struct vmbus_io *io, enum vmbus_io_end end)
{
	struct vmbus__scsi_task *const task = io->user_p;

	/* What would begin the next request of the command ends it; nobody waits for its answer. */
	if (VMBUS_UNLIKELY(task->over && *task->over) && end == VMBUS_IO_OK)
		end = VMBUS_IO_GONE;
	if (task->turn == CALLING) {
		task->turn = ENDED;
		task->end = (uint8_t)end;
	} else if (end == VMBUS_IO_OK) {
		go_on(task);
	} else {
		failed(task, end);
	}
}

void vmbus__scsi_run(struct vmbus__scsi_task *task, bool (*next)(struct vmbus__scsi_task *task))
{
	task->work = 0;
	task->io.queue = task->queue;
	task->io.done_p = request_done;
	task->io.user_p = task;
	task->next = next;
	go_on(task);
}

/* Who calls commit() is to see what is begun within it. */
static inline void begins(const struct vmbus__scsi_task *task)
{
	if (task->begun)
		*task->begun = true;
}

bool vmbus__scsi_read(struct vmbus__scsi_task *task)
{
	task->doing = VMBUS__SCSI_READ;
	task->io.flags = 0;
	task->work += REQUEST_WORK + task->io.bytes;
	begins(task);
	task->disk->store.ops->read(&task->io);
	return true;
}

bool vmbus__scsi_write(struct vmbus__scsi_task *task, uint32_t io_flags)
{
	task->doing = VMBUS__SCSI_WRITE;
	task->io.flags = io_flags;
	task->work += REQUEST_WORK + task->io.bytes;
	begins(task);
	task->disk->store.ops->write(&task->io);
	return true;
}

static void without_buffer(struct vmbus__scsi_task *task, uint8_t doing, uint32_t io_flags)
{
	task->doing = doing;
	task->io.iov = NULL;
	task->io.iov_count = 0;
	task->io.flags = io_flags;
	task->work += REQUEST_WORK;
}

bool vmbus__scsi_discard(struct vmbus__scsi_task *task)
{
	without_buffer(task, VMBUS__SCSI_DISCARD, 0);
	task->work += task->io.bytes; /* memory gives its pages back one by one */
	begins(task);
	task->disk->store.ops->discard(&task->io);
	return true;
}

bool vmbus__scsi_zero(struct vmbus__scsi_task *task, uint32_t io_flags)
{
	without_buffer(task, VMBUS__SCSI_DISCARD, io_flags);
	task->work += task->io.bytes;
	begins(task);
	task->disk->store.ops->zero(&task->io);
	return true;
}

bool vmbus__scsi_flush(struct vmbus__scsi_task *task)
{
	without_buffer(task, VMBUS__SCSI_FLUSH, 0);
	task->io.offset = 0;
	task->io.bytes = 0;
	begins(task);
	task->disk->store.ops->flush(&task->io);
	return true;
}

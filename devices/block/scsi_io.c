/* SPDX-License-Identifier: MIT */
/*
 * The SCSI commands that move sectors: reads, writes, verification, and the flush.
 *
 * The guest's memory goes to the store as it is, without a copy; what is verified is compared in a
 * scratch, piece by piece, since the guest may change its memory at any time.
 */
#include "block/scsi_cmd.h"

#include <sys/uio.h>

#define FUA 0x08u	    /* in the second byte of a command block */
#define NOT_SUPPORTED 0xE1u /* protection information, relative addresses */
#define BYTCHK 0x06u
#define BYTCHK_ALL 0x02u
#define BYTCHK_ONE 0x06u

/* What is still to be done: task->plan. */
#define FLUSH 1u   /* before a read, after a write */
#define COMPARE 2u /* what is verified, with the buffer */
#define ONE 4u	   /* the buffer is one sector, for all */
#define VERIFY 8u  /* after a write */

/* The first bytes of the guest's buffer are the request's. */
static void use_buffer(struct vmbus__scsi_task *task, uint64_t bytes)
{
	uint32_t n = task->iov_count;
	uint64_t left = bytes;

	if (VMBUS_UNLIKELY(bytes != task->data_bytes)) {
		for (n = 0; n < task->iov_count && left > task->iov[n].iov_len; n++)
			left -= task->iov[n].iov_len;
		task->iov[n++].iov_len = left;
	}
	task->io.iov = task->iov;
	task->io.iov_count = n;
}

/*
 * The range of a command that needs buffer bytes of the guest's for it, or 0: in at and left.
 * Returns false if the command has ended.
 */
static bool take_range(struct vmbus__scsi_task *task, bool with_buffer)
{
	const uint32_t shift = task->disk->sector_shift;
	uint64_t lba = 0, sectors = 0;

	vmbus__scsi_range(task->cdb, &lba, &sectors);
	if (!vmbus__scsi_in_disk(task, lba, sectors))
		return false;
	if (sectors > task->disk->transfer_bytes >> shift ||
	    (with_buffer && sectors << shift > task->data_bytes)) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return false;
	}
	task->at = lba << shift;
	task->left = sectors << shift;
	return true;
}

/* The flags of a command of ten bytes and more; they lie elsewhere in one of six. */
static uint8_t flags_of(const struct vmbus__scsi_task *task)
{
	return task->cdb[0] >> 5 ? task->cdb[1] : 0;
}

/* ---- reads ---- */

static bool next_read(struct vmbus__scsi_task *task)
{
	if (VMBUS_UNLIKELY(task->plan & FLUSH)) {
		task->plan = 0;
		return vmbus__scsi_flush(task);
	}
	if (task->left) {
		use_buffer(task, task->left);
		task->io.offset = task->at;
		task->io.bytes = task->left;
		task->left = 0;
		return vmbus__scsi_read(task);
	}
	vmbus__scsi_good(task, (uint32_t)task->io.bytes);
	return false;
}

void vmbus__scsi_do_read(struct vmbus__scsi_task *task)
{
	const uint8_t flags = flags_of(task);

	if (VMBUS_UNLIKELY(flags & NOT_SUPPORTED)) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	if (!take_range(task, true))
		return;
	if (VMBUS_UNLIKELY(!task->left)) {
		vmbus__scsi_good(task, 0);
		return;
	}
	/* Read from the medium: what is only in the store's cache goes there first. */
	task->plan = flags & FUA && vmbus__disk_volatile(task->disk) ? FLUSH : 0;
	vmbus__scsi_run(task, next_read);
}

/* ---- verification ---- */

/* Compare what was read just now with what the guest has for it. */
static bool same(const struct vmbus__scsi_task *task)
{
	const uint32_t n = (uint32_t)task->piece.iov_len;
	const uint8_t *const disk = task->scratch;
	uint8_t *const guest = task->scratch + VMBUS__SCSI_PIECE_BYTES;
	const uint32_t sector = vmbus__disk_sector(task->disk);
	uint32_t i;

	if (!(task->plan & ONE))
		return vmbus_sgl_read(task->data, task->compared, guest, n) == n &&
		       !__builtin_memcmp(disk, guest, n);
	for (i = 0; i < n; i += sector)
		if (__builtin_memcmp(disk + i, guest, sector))
			return false;
	return true;
}

static bool next_verify(struct vmbus__scsi_task *task)
{
	const uint64_t n =
		task->left < VMBUS__SCSI_PIECE_BYTES ? task->left : VMBUS__SCSI_PIECE_BYTES;

	if (task->piece.iov_len && task->plan & COMPARE) {
		task->looked_at += task->piece.iov_len;
		if (!same(task)) {
			vmbus__scsi_check(task, VMBUS__SENSE_MISCOMPARE);
			return false;
		}
		task->compared += (uint32_t)task->piece.iov_len;
	}
	if (!task->left) {
		vmbus__scsi_good(task, task->total);
		return false;
	}
	task->piece = (struct iovec){ .iov_base = task->scratch, .iov_len = n };
	task->io.offset = task->at;
	task->io.bytes = n;
	task->io.iov = &task->piece;
	task->io.iov_count = 1;
	task->at += n;
	task->left -= n;
	return vmbus__scsi_read(task);
}

/* What next_verify() needs.  Returns false if the command has ended. */
static bool ready_to_verify(struct vmbus__scsi_task *task)
{
	const uint32_t sector = vmbus__disk_sector(task->disk);

	if (!vmbus__scsi_scratch(task, 2 * VMBUS__SCSI_PIECE_BYTES))
		return false;
	task->piece.iov_len = 0;
	task->compared = 0;
	if (!(task->plan & ONE) ||
	    vmbus_sgl_read(task->data, 0, task->scratch + VMBUS__SCSI_PIECE_BYTES, sector) ==
		    sector)
		return true;
	vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	return false;
}

void vmbus__scsi_verify(struct vmbus__scsi_task *task)
{
	const uint8_t check = task->cdb[1] & BYTCHK;
	const uint32_t sector = vmbus__disk_sector(task->disk);

	if (task->cdb[1] & NOT_SUPPORTED || (check && check != BYTCHK_ALL && check != BYTCHK_ONE)) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	if (!take_range(task, check == BYTCHK_ALL))
		return;
	if (!task->left) {
		vmbus__scsi_good(task, 0);
		return;
	}
	if (check && (!task->data || task->data_bytes < sector)) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	task->plan = check == BYTCHK_ALL ? COMPARE : check ? COMPARE | ONE : 0;
	task->total = check == BYTCHK_ALL ? (uint32_t)task->left : check ? sector : 0;
	if (ready_to_verify(task))
		vmbus__scsi_run(task, next_verify);
}

/* ---- writes ---- */

/* Once all is written: a flush if it is to be durable, and a look at it if that is wanted. */
static bool next_write(struct vmbus__scsi_task *task)
{
	if (task->plan & FLUSH) {
		task->plan &= (uint8_t)~FLUSH;
		return vmbus__scsi_flush(task);
	}
	if (VMBUS_LIKELY(!(task->plan & VERIFY))) {
		vmbus__scsi_good(task, task->total);
		return false;
	}
	task->next = next_verify;
	return next_verify(task);
}

static bool first_write(struct vmbus__scsi_task *task)
{
	uint32_t flags = 0;

	use_buffer(task, task->left);
	task->io.offset = task->at;
	task->io.bytes = task->left;
	task->total = (uint32_t)task->left;
	if (task->plan & FLUSH && task->disk->info.flags & VMBUS_STORE_FUA) {
		task->plan &= (uint8_t)~FLUSH;
		flags = VMBUS_IO_FUA;
	}
	task->next = next_write;
	return vmbus__scsi_write(task, flags);
}

/* Whether the guest counts on a write that is done.  It is told of no cache where there is no flush. */
static bool has_no_cache(const struct vmbus__disk *disk)
{
	return disk->write_through ||
	       (disk->info.flags & VMBUS_STORE_VOLATILE && !disk->store.ops->flush);
}

static void write_or_verify(struct vmbus__scsi_task *task, bool durable, uint8_t plan)
{
	const struct vmbus__disk *const disk = task->disk;

	if (!take_range(task, true))
		return;
	if (VMBUS_UNLIKELY(!task->left)) {
		vmbus__scsi_good(task, 0);
		return;
	}
	task->plan = plan;
	if ((durable || has_no_cache(disk)) &&
	    (vmbus__disk_volatile(disk) || disk->info.flags & VMBUS_STORE_FUA))
		task->plan |= FLUSH;
	if (VMBUS_LIKELY(!(plan & VERIFY)) || ready_to_verify(task))
		vmbus__scsi_run(task, first_write);
}

void vmbus__scsi_do_write(struct vmbus__scsi_task *task)
{
	const uint8_t flags = flags_of(task);

	if (VMBUS_UNLIKELY(flags & NOT_SUPPORTED))
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else
		write_or_verify(task, flags & FUA, 0);
}

void vmbus__scsi_write_verify(struct vmbus__scsi_task *task)
{
	const uint8_t check = task->cdb[1] & BYTCHK;

	if (task->cdb[1] & NOT_SUPPORTED || (check && check != BYTCHK_ALL))
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else
		write_or_verify(task, true, check ? VERIFY | COMPARE : VERIFY);
}

/* ---- the flush ---- */

static bool next_flush(struct vmbus__scsi_task *task)
{
	if (task->plan & FLUSH) {
		task->plan = 0;
		return vmbus__scsi_flush(task);
	}
	vmbus__scsi_good(task, 0);
	return false;
}

static void flush(struct vmbus__scsi_task *task)
{
	task->plan = task->disk->store.ops->flush ? FLUSH : 0;
	vmbus__scsi_run(task, next_flush);
}

/* The whole disk, whatever the range; with IMMED too, it ends when that is durable. */
void vmbus__scsi_synchronize(struct vmbus__scsi_task *task)
{
	uint64_t lba, sectors;

	vmbus__scsi_range(task->cdb, &lba, &sectors);
	if (task->cdb[1] & 0x01u)
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else if (vmbus__scsi_in_disk(task, lba, sectors))
		flush(task);
}

/* Stopped, the disk goes on to work; there is nothing to be loaded or ejected. */
void vmbus__scsi_start_stop(struct vmbus__scsi_task *task)
{
	const bool power = task->cdb[4] & 0xF0u, loej = task->cdb[4] & 0x02u;
	const bool start = task->cdb[4] & 0x01u;

	if (!power && loej)
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else if (power || start)
		vmbus__scsi_good(task, 0);
	else
		flush(task);
}

/* GOOD says that not all of it lies in a cache: there is no promise. */
void vmbus__scsi_prefetch(struct vmbus__scsi_task *task)
{
	uint64_t lba, sectors;

	vmbus__scsi_range(task->cdb, &lba, &sectors);
	if (vmbus__scsi_in_disk(task, lba, sectors))
		vmbus__scsi_good(task, 0);
}

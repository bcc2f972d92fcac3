/* SPDX-License-Identifier: MIT */
/*
 * The SCSI commands that give sectors back, and that write one sector many times.
 *
 * A list of the guest's is copied once, and the copy checked before anything is done.  What one
 * command can make us do is bounded: by descriptors, and by the bytes of all of them or of a WRITE SAME.
 */
#include "block/scsi_cmd.h"

#include <stdlib.h>
#include <sys/uio.h>

#define NOT_SUPPORTED 0xE0u /* protection information */
#define ANCHOR 0x10u
#define UNMAP 0x08u
#define NDOB 0x01u
#define OBSOLETE_10 0x07u
#define OBSOLETE_16 0x06u

#define LIST_BYTES_MAX                                                                             \
	(VMBUS__SCSI_UNMAP_HEAD + VMBUS__SCSI_UNMAP_DESCRIPTORS * VMBUS__SCSI_UNMAP_DESCRIPTOR)

/* task->plan */
#define FLUSH 1u
#define PATTERN 2u /* scratch is full of it, else zeroes */
#define DISCARDS 4u
#define DURABLE 8u /* each write; a store that has no flush */

static uint8_t zeroes[VMBUS__SCSI_PIECE_BYTES]
	__attribute__((aligned(4096))); /* written to by nobody */

/* A flush if what is done must be durable, or the end. */
static bool last(struct vmbus__scsi_task *task)
{
	if (task->plan & FLUSH) {
		task->plan &= (uint8_t)~FLUSH;
		return vmbus__scsi_flush(task);
	}
	vmbus__scsi_good_covered(task, task->total, task->covers);
	return false;
}

static uint8_t flush_after(const struct vmbus__disk *disk)
{
	return disk->write_through && vmbus__disk_volatile(disk) ? FLUSH : 0;
}

/* Without a flush the guest is told of no cache: zeroes are durable as writes with FUA. */
static uint8_t durable_writes(const struct vmbus__disk *disk)
{
	const uint32_t flags = VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA;

	return (disk->info.flags & flags) == flags && !disk->store.ops->flush ? DURABLE : 0;
}

/* ---- UNMAP, [STOR-UNMAP] ---- */

static bool next_unmap(struct vmbus__scsi_task *task)
{
	const struct vmbus__unmap *piece;

	if (task->list_at == task->list_count)
		return last(task);
	piece = &task->list[task->list_at++];
	task->io.offset = piece->at;
	task->io.bytes = piece->bytes;
	return vmbus__scsi_discard(task);
}

/* Copy the descriptors that are not empty.  Returns false if the command has ended. */
static bool take_list(struct vmbus__scsi_task *task, const uint8_t *from, uint32_t count)
{
	const uint32_t shift = task->disk->sector_shift;
	uint32_t i;

	task->list = malloc(count * sizeof(*task->list));
	if (!task->list) {
		vmbus__scsi_busy(task);
		return false;
	}
	task->list_at = 0;
	task->list_count = 0;
	task->covers = 0;
	for (i = 0; i < count; i++, from += VMBUS__SCSI_UNMAP_DESCRIPTOR) {
		const uint64_t lba = vmbus__scsi_get64(from);
		const uint64_t sectors = vmbus__scsi_get32(from + 8);

		if (!vmbus__scsi_in_disk(task, lba, sectors))
			return false;
		task->covers += sectors << shift;
		if (sectors)
			task->list[task->list_count++] =
				(struct vmbus__unmap){ .at = lba << shift,
						       .bytes = sectors << shift };
	}
	if (task->covers > VMBUS__SCSI_UNMAP_BYTES) {
		vmbus__scsi_check(task, VMBUS__SENSE_LIST);
		return false;
	}
	return true;
}

/* Copy the list of given bytes, or what of it we would use.  Returns 0, or what is wrong with it. */
static uint32_t copy_list(const struct vmbus__scsi_task *task, uint32_t given, uint8_t *list)
{
	const uint32_t bytes = given < LIST_BYTES_MAX ? given : LIST_BYTES_MAX;
	uint32_t described;

	if (given > task->data_bytes || !task->data)
		return VMBUS__SENSE_CDB;
	if (given < VMBUS__SCSI_UNMAP_HEAD)
		return VMBUS__SENSE_LIST_LENGTH;
	if (vmbus_sgl_read(task->data, 0, list, bytes) != bytes)
		return VMBUS__SENSE_CDB;
	described = (uint32_t)vmbus__scsi_get16(list + 2);
	if (described > given - VMBUS__SCSI_UNMAP_HEAD)
		return VMBUS__SENSE_LIST_LENGTH;
	if (described > LIST_BYTES_MAX - VMBUS__SCSI_UNMAP_HEAD ||
	    described % VMBUS__SCSI_UNMAP_DESCRIPTOR ||
	    vmbus__scsi_get16(list) < described + VMBUS__SCSI_UNMAP_HEAD - 2u)
		return VMBUS__SENSE_LIST;
	return 0;
}

void vmbus__scsi_unmap(struct vmbus__scsi_task *task)
{
	const uint32_t given = (uint32_t)vmbus__scsi_get16(task->cdb + 7);
	uint8_t list[LIST_BYTES_MAX];
	uint32_t sense = 0, count;

	if (!vmbus__disk_discards(task->disk))
		sense = VMBUS__SENSE_OPCODE;
	else if (task->cdb[1] & 0x01u) /* ANCHOR */
		sense = VMBUS__SENSE_CDB;
	else if (given)
		sense = copy_list(task, given, list);
	if (sense) {
		vmbus__scsi_check(task, sense);
		return;
	}
	count = given ? (uint32_t)vmbus__scsi_get16(list + 2) / VMBUS__SCSI_UNMAP_DESCRIPTOR : 0;
	task->total = given;
	task->plan = flush_after(task->disk);
	if (count == 0)
		vmbus__scsi_good(task, given);
	else if (take_list(task, list + VMBUS__SCSI_UNMAP_HEAD, count))
		vmbus__scsi_run(task, next_unmap);
}

/* ---- WRITE SAME ---- */

static bool next_same(struct vmbus__scsi_task *task)
{
	const uint64_t n =
		task->left < VMBUS__SCSI_PIECE_BYTES ? task->left : VMBUS__SCSI_PIECE_BYTES;

	if (!task->left)
		return last(task);
	task->io.offset = task->at;
	if (!(task->plan & (PATTERN | DURABLE)) && task->disk->store.ops->zero) {
		task->io.bytes = task->left;
		task->left = 0;
		return vmbus__scsi_zero(task, task->plan & DISCARDS ? VMBUS_IO_MAY_DISCARD : 0);
	}
	task->piece = (struct iovec){ .iov_base = task->plan & PATTERN ? task->scratch : zeroes,
				      .iov_len = n };
	task->io.bytes = n;
	task->io.iov = &task->piece;
	task->io.iov_count = 1;
	task->at += n;
	task->left -= n;
	return vmbus__scsi_write(task, task->plan & DURABLE ? VMBUS_IO_FUA : 0);
}

/* The sector that the guest gave, as often as a piece holds it.  Returns false if it has ended. */
static bool take_pattern(struct vmbus__scsi_task *task)
{
	const uint32_t sector = vmbus__disk_sector(task->disk);
	uint8_t block[4096];
	uint32_t i;

	if (task->data_bytes != sector || !task->data ||
	    vmbus_sgl_read(task->data, 0, block, sector) != sector) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return false;
	}
	task->total = sector;
	if (!__builtin_memcmp(block, zeroes, sector))
		return true;
	if (!vmbus__scsi_scratch(task, VMBUS__SCSI_PIECE_BYTES))
		return false;
	for (i = 0; i < VMBUS__SCSI_PIECE_BYTES; i += sector)
		__builtin_memcpy(task->scratch + i, block, sector);
	task->plan |= PATTERN;
	return true;
}

void vmbus__scsi_write_same(struct vmbus__scsi_task *task)
{
	const bool sixteen = task->cdb[0] == 0x93;
	const uint8_t flags = task->cdb[1];
	const uint32_t shift = task->disk->sector_shift;
	uint64_t lba, sectors;

	vmbus__scsi_range(task->cdb, &lba, &sectors);
	if (flags & (NOT_SUPPORTED | ANCHOR | (sixteen ? OBSOLETE_16 : OBSOLETE_10)) ||
	    (flags & UNMAP && !vmbus__disk_discards(task->disk))) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	if (!vmbus__scsi_in_disk(task, lba, sectors))
		return;
	if (sectors == 0 || sectors > vmbus__disk_same(task->disk)) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	task->at = lba << shift;
	task->left = sectors << shift;
	task->plan = flush_after(task->disk) | durable_writes(task->disk);
	task->covers = 0;
	if (flags & UNMAP) {
		task->plan |= DISCARDS;
		task->kind = VMBUS__SCSI_DISCARD;
		task->covers = task->left;
	}
	task->total = 0;
	if ((sixteen && flags & NDOB) || take_pattern(task))
		vmbus__scsi_run(task, next_same);
}

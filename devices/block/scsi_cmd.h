/* SPDX-License-Identifier: MIT */
/*
 * What the files of the SCSI disk share: numbers out of command blocks, how commands end, and the
 * engine of those that take several requests of the store.
 *
 * A function that ends a command calls its done(): the task is not to be touched after it.
 */
#ifndef VMBUS_BLOCK_SCSI_CMD_H
#define VMBUS_BLOCK_SCSI_CMD_H

#include "base/atomic.h"
#include "block/scsi.h"

/* Sense key, additional code and qualifier: 0xKAAQQ, [STOR-SENSE]. */
#define VMBUS__SENSE_READ_ERROR 0x31100u
#define VMBUS__SENSE_WRITE_ERROR 0x30C00u
#define VMBUS__SENSE_INTERNAL 0x44400u
#define VMBUS__SENSE_LIST_LENGTH 0x51A00u
#define VMBUS__SENSE_OPCODE 0x52000u
#define VMBUS__SENSE_LBA 0x52100u
#define VMBUS__SENSE_CDB 0x52400u
#define VMBUS__SENSE_LIST 0x52600u
#define VMBUS__SENSE_NOT_SAVED 0x53900u
#define VMBUS__SENSE_CAPACITY 0x62A09u
#define VMBUS__SENSE_LIMITS 0x63F01u
#define VMBUS__SENSE_PROTECTED 0x72700u
#define VMBUS__SENSE_SPACE 0x72707u
#define VMBUS__SENSE_MISCOMPARE 0xE1D00u

#define VMBUS__SCSI_PIECE_BYTES 65536u	     /* of what is done piece by piece */
#define VMBUS__SCSI_SAME_SECTORS 65535u	     /* what a WRITE SAME of 10 bytes can tell */
#define VMBUS__SCSI_SCRATCHES 16u	     /* of one channel, two pieces each at most */
#define VMBUS__SCSI_UNMAP_DESCRIPTORS 256u   /* of one UNMAP */
#define VMBUS__SCSI_UNMAP_BYTES (512u << 20) /* of all its descriptors */
#define VMBUS__SCSI_UNMAP_HEAD 8u
#define VMBUS__SCSI_UNMAP_DESCRIPTOR 16u

/* One descriptor of UNMAP, in bytes of the disk, checked. */
struct vmbus__unmap {
	uint64_t at, bytes;
};

/* Numbers, the highest byte first: expressions that a compiler makes one load of. */
static inline uint32_t vmbus__scsi_get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t vmbus__scsi_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t vmbus__scsi_get64(const uint8_t *p)
{
	return (uint64_t)vmbus__scsi_get32(p) << 32 | vmbus__scsi_get32(p + 4);
}

static inline void vmbus__scsi_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	while (bytes) {
		p[--bytes] = (uint8_t)v;
		v >>= 8;
	}
}

/* ---- what the disk is now ---- */

static inline uint64_t vmbus__disk_sectors(struct vmbus__disk *disk)
{
	return vmbus__ld64_relaxed(vmbus__as_a64(&disk->bytes)) /* DISKSIZE.read */
	       >> disk->sector_shift;
}

static inline uint32_t vmbus__disk_sector(const struct vmbus__disk *disk)
{
	return 1u << disk->sector_shift;
}

static inline bool vmbus__disk_read_only(const struct vmbus__disk *disk)
{
	return disk->read_only || disk->info.flags & VMBUS_STORE_READ_ONLY;
}

/* Whether a write that is done may still be lost. */
static inline bool vmbus__disk_volatile(const struct vmbus__disk *disk)
{
	return disk->info.flags & VMBUS_STORE_VOLATILE && disk->store.ops->flush;
}

/* The write cache that the guest is told of. */
static inline bool vmbus__disk_cache(const struct vmbus__disk *disk)
{
	return vmbus__disk_volatile(disk) && !disk->write_through;
}

static inline bool vmbus__disk_discards(const struct vmbus__disk *disk)
{
	return disk->store.ops->discard && !vmbus__disk_read_only(disk);
}

/* Sectors of one WRITE SAME: it makes us write no more than a WRITE does. */
static inline uint32_t vmbus__disk_same(const struct vmbus__disk *disk)
{
	const uint32_t sectors = disk->transfer_bytes >> disk->sector_shift;

	return sectors < VMBUS__SCSI_SAME_SECTORS ? sectors : VMBUS__SCSI_SAME_SECTORS;
}

/* ---- ends: each calls done() ---- */

/* GOOD; moved: bytes of the buffer. */
void vmbus__scsi_good(struct vmbus__scsi_task *task, uint32_t moved);
void vmbus__scsi_good_covered(struct vmbus__scsi_task *task, uint32_t moved, uint64_t covered);
/* CHECK CONDITION with VMBUS__SENSE_*. */
void vmbus__scsi_check(struct vmbus__scsi_task *task, uint32_t sense);
/* SRB status 0x20, without sense: there is no disk. */
void vmbus__scsi_no_lun(struct vmbus__scsi_task *task);
void vmbus__scsi_busy(struct vmbus__scsi_task *task);
/* GOOD with data for the guest, cut to what it has room for. */
void vmbus__scsi_reply(struct vmbus__scsi_task *task, const uint8_t *data, uint32_t bytes,
		       uint64_t alloc);
/* The same, but an error if the buffer does not hold what the command asks for. */
void vmbus__scsi_reply_whole(struct vmbus__scsi_task *task, const uint8_t *data, uint32_t bytes,
			     uint64_t alloc);

/* ---- checks: false: the command has ended ---- */

/* That the sectors lie in the disk. */
bool vmbus__scsi_in_disk(struct vmbus__scsi_task *task, uint64_t lba, uint64_t sectors);
/* A piece of memory for next(), freed at the end; BUSY if the channel has too many. */
bool vmbus__scsi_scratch(struct vmbus__scsi_task *task, uint32_t bytes);

/* ---- requests of the store ---- */

/*
 * Do the command by calls of next(), which begins one request of the store's by one of the calls
 * below and returns what that returned, or ends the command and returns false.
 */
void vmbus__scsi_run(struct vmbus__scsi_task *task, bool (*next)(struct vmbus__scsi_task *task));

/* Each: task->io.offset and bytes are set, iov and iov_count too.  Returns true. */
bool vmbus__scsi_read(struct vmbus__scsi_task *task);
bool vmbus__scsi_write(struct vmbus__scsi_task *task, uint32_t io_flags);
/* These need no iov. */
bool vmbus__scsi_discard(struct vmbus__scsi_task *task);
bool vmbus__scsi_zero(struct vmbus__scsi_task *task, uint32_t io_flags);
bool vmbus__scsi_flush(struct vmbus__scsi_task *task);

/* The range of a command by the group of its opcode, [STOR-CDB]. */
static inline void vmbus__scsi_range(const uint8_t *cdb, uint64_t *lba, uint64_t *sectors)
{
	switch (cdb[0] >> 5) {
	case 0:
		*lba = vmbus__scsi_get32(cdb) & 0x1FFFFFu;
		*sectors = cdb[4] ? cdb[4] : 256u;
		break;
	case 4:
		*lba = vmbus__scsi_get64(cdb + 2);
		*sectors = vmbus__scsi_get32(cdb + 10);
		break;
	case 5:
		*lba = vmbus__scsi_get32(cdb + 2);
		*sectors = vmbus__scsi_get32(cdb + 6);
		break;
	default:
		*lba = vmbus__scsi_get32(cdb + 2);
		*sectors = vmbus__scsi_get16(cdb + 7);
		break;
	}
}

/* ---- the commands ---- */

void vmbus__scsi_inquiry(struct vmbus__scsi_task *task);
void vmbus__scsi_inquiry_absent(struct vmbus__scsi_task *task);
void vmbus__scsi_read_capacity_10(struct vmbus__scsi_task *task);
void vmbus__scsi_service_in(struct vmbus__scsi_task *task);
void vmbus__scsi_report_luns(struct vmbus__scsi_task *task);
void vmbus__scsi_request_sense(struct vmbus__scsi_task *task);
void vmbus__scsi_mode_sense(struct vmbus__scsi_task *task);
void vmbus__scsi_mode_select(struct vmbus__scsi_task *task);
void vmbus__scsi_do_read(struct vmbus__scsi_task *task);
void vmbus__scsi_do_write(struct vmbus__scsi_task *task);
void vmbus__scsi_verify(struct vmbus__scsi_task *task);
void vmbus__scsi_write_verify(struct vmbus__scsi_task *task);
void vmbus__scsi_synchronize(struct vmbus__scsi_task *task);
void vmbus__scsi_start_stop(struct vmbus__scsi_task *task);
void vmbus__scsi_prefetch(struct vmbus__scsi_task *task);
void vmbus__scsi_unmap(struct vmbus__scsi_task *task);
void vmbus__scsi_write_same(struct vmbus__scsi_task *task);

/* The unit attention that is due, which is then no more: VMBUS__SENSE_*, or 0. */
uint32_t vmbus__scsi_attention(struct vmbus__scsi_task *task);
/* Write sense data in the fixed format: 18 bytes. */
void vmbus__scsi_sense(uint8_t *to, uint32_t sense);

#endif

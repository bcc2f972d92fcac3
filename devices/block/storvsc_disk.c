/* SPDX-License-Identifier: MIT */
/*
 * Reads, writes, flushes and discards of a disk as SCSI commands.  Nothing is sent here.
 */
#include "storvsc/storvsc_state.h"

#define READ10 0x28u
#define WRITE10 0x2Au
#define READ16 0x88u
#define WRITE16 0x8Au
#define FLUSH10 0x35u
#define UNMAP 0x42u
#define FUA 0x08u
#define SECTORS10_MAX 65535u
#define UNMAP_BYTES 24u /* a list of one descriptor */

static void put_be(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		p[bytes - 1] = (uint8_t)(v & 255u);
}

static bool is_on(const struct vmbus_storvsc_disk *disk, uint64_t sector, uint32_t sectors)
{
	return sectors && sector < disk->sectors && sectors <= disk->sectors - sector;
}

/* A command of a disk, whose CDB is zero but for the opcode. */
static void begin(const struct vmbus_storvsc_disk *disk, struct vmbus_storvsc_req *req,
		  uint8_t opcode, uint8_t cdb_bytes)
{
	req->target = disk->target;
	req->lun = disk->lun;
	req->cdb_bytes = cdb_bytes;
	req->want_p = 0;
	__builtin_memset(req->cdb, 0, sizeof(req->cdb));
	req->cdb[0] = opcode;
}

/* Read or write: the form of 10 bytes where it is enough. */
static int move(const struct vmbus_storvsc_disk *disk, struct vmbus_storvsc_req *req,
		uint64_t sector, uint32_t sectors)
{
	const bool write = req->way == VMBUS_STORVSC_TO_DISK;

	if (sector + sectors <= UINT32_MAX && sectors <= SECTORS10_MAX) {
		begin(disk, req, write ? WRITE10 : READ10, 10);
		put_be(&req->cdb[2], 4, sector);
		put_be(&req->cdb[7], 2, sectors);
	} else {
		begin(disk, req, write ? WRITE16 : READ16, 16);
		put_be(&req->cdb[2], 8, sector);
		put_be(&req->cdb[10], 4, sectors);
	}
	req->want_p = sectors * disk->sector;
	return 0;
}

static bool fits(const struct vmbus_storvsc_disk *disk, uint64_t sector, uint32_t sectors)
{
	return is_on(disk, sector, sectors) &&
	       (uint64_t)sectors * disk->sector <= disk->storvsc->transfer_bytes;
}

int vmbus_storvsc_read(const struct vmbus_storvsc_disk *disk, struct vmbus_storvsc_req *req,
		       uint64_t sector, uint32_t sectors)
{
	if (!fits(disk, sector, sectors))
		return VMBUS_E_RANGE;
	req->way = VMBUS_STORVSC_FROM_DISK;
	return move(disk, req, sector, sectors);
}

int vmbus_storvsc_write(const struct vmbus_storvsc_disk *disk, struct vmbus_storvsc_req *req,
			uint64_t sector, uint32_t sectors, bool fua)
{
	if (!fits(disk, sector, sectors))
		return VMBUS_E_RANGE;
	if (disk->read_only)
		return VMBUS_E_PERM;
	if (fua && !disk->fua)
		return VMBUS_E_NOTSUP;
	req->way = VMBUS_STORVSC_TO_DISK;
	(void)move(disk, req, sector, sectors);
	if (fua)
		req->cdb[1] = FUA;
	return 0;
}

int vmbus_storvsc_flush(const struct vmbus_storvsc_disk *disk, struct vmbus_storvsc_req *req)
{
	begin(disk, req, FLUSH10, 10);
	req->way = VMBUS_STORVSC_NONE;
	req->pieces = 0;
	return 0;
}

int vmbus_storvsc_discard(const struct vmbus_storvsc_disk *disk, struct vmbus_storvsc_req *req,
			  uint64_t sector, uint32_t sectors)
{
	uint8_t *list;

	if (!is_on(disk, sector, sectors) || (disk->discard && sectors > disk->discard_max))
		return VMBUS_E_RANGE;
	if (disk->read_only)
		return VMBUS_E_PERM;
	if (!disk->discard)
		return VMBUS_E_NOTSUP;
	if (req->pieces != 1 || !req->piece || !req->piece->data ||
	    req->piece->bytes != UNMAP_BYTES)
		return VMBUS_E_INVAL;
	begin(disk, req, UNMAP, 10);
	req->way = VMBUS_STORVSC_TO_DISK;
	put_be(&req->cdb[7], 2, UNMAP_BYTES);
	list = req->piece->data;
	__builtin_memset(list, 0, UNMAP_BYTES);
	put_be(list, 2, UNMAP_BYTES - 2);
	put_be(list + 2, 2, UNMAP_BYTES - 8);
	put_be(list + 8, 8, sector);
	put_be(list + 16, 4, sectors);
	return 0;
}

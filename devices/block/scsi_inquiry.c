/* SPDX-License-Identifier: MIT */
/*
 * What a SCSI disk tells of itself: INQUIRY with its pages, the capacity, the disks of a target.
 */
#include "block/scsi_cmd.h"

#define INQUIRY_BYTES 104u
#define PAGE_HEAD 4u
#define PAGE_BYTES_MAX 64u
#define PHYSICAL_BYTES_MAX 4096u
#define LARGE_TRANSFER (1u << 20)

/* [STOR-INQUIRY] */
static void standard(uint8_t *data, uint8_t type)
{
	__builtin_memset(data, 0, INQUIRY_BYTES);
	data[0] = type;
	data[2] = 0x05; /* SPC-3 */
	data[3] = 0x02;
	data[4] = INQUIRY_BYTES - 5u;
}

void vmbus__scsi_inquiry_absent(struct vmbus__scsi_task *task)
{
	uint8_t data[INQUIRY_BYTES];

	if (task->cdb[1] || task->cdb[2]) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	standard(data, 0x7F);
	if (task->lun == 0)
		__builtin_memcpy(data + 8, "Msft    Virtual Disk    1.0 ", 28);
	vmbus__scsi_reply(task, data, sizeof(data), vmbus__scsi_get16(task->cdb + 3));
}

/* ---- pages: each writes what follows the head, and returns how many bytes ---- */

static uint32_t serial_page(const struct vmbus__disk *disk, uint8_t *body)
{
	uint32_t n = 0;

	while (n < sizeof(disk->serial) - 1u && disk->serial[n]) {
		body[n] = (uint8_t)disk->serial[n];
		n++;
	}
	return n;
}

/* Designators: by vendor and GUID, and a locally made NAA 6 number of Microsoft's OUI. */
static uint32_t identity_page(const struct vmbus__disk *disk, uint8_t *body)
{
	static const uint8_t vendor[4] = { 0x01, 0x01, 0x00, 0x18 };
	static const uint8_t naa[8] = { 0x01, 0x03, 0x00, 0x10, 0x60, 0x02, 0x24, 0x80 };

	__builtin_memcpy(body, vendor, sizeof(vendor));
	__builtin_memcpy(body + 4, disk->vendor, 8);
	__builtin_memcpy(body + 12, disk->id.b, 16);
	__builtin_memcpy(body + 28, naa, sizeof(naa));
	__builtin_memcpy(body + 36, disk->id.b, 6);
	__builtin_memcpy(body + 42, disk->id.b + 10, 6);
	return 48;
}

/* Sectors of what the store works on best; 0 if that is no more than a sector, or too much. */
static uint32_t granularity(const struct vmbus__disk *disk)
{
	const uint32_t bytes = disk->info.block_bytes;

	if (bytes <= vmbus__disk_sector(disk) || disk->transfer_bytes % bytes)
		return 0;
	return bytes >> disk->sector_shift;
}

/* [STOR-LIMITS] */
static uint32_t limits_page(const struct vmbus__disk *disk, uint8_t *body)
{
	const uint32_t shift = disk->sector_shift;
	const uint32_t discard = disk->info.discard_bytes >> shift;

	__builtin_memset(body, 0, 60);
	body[0] = 0x01; /* WSNZ: WRITE SAME of no sectors is not "up to the end" */
	vmbus__scsi_put(body + 2, 2, granularity(disk));
	vmbus__scsi_put(body + 4, 4, disk->transfer_bytes >> shift);
	/* Linux makes requests of 1280 KiB unless it is told a larger number here. */
	if (disk->transfer_bytes > LARGE_TRANSFER)
		vmbus__scsi_put(body + 8, 4, disk->transfer_bytes >> shift);
	if (vmbus__disk_discards(disk)) {
		vmbus__scsi_put(body + 16, 4, VMBUS__SCSI_UNMAP_BYTES >> shift);
		vmbus__scsi_put(body + 20, 4, VMBUS__SCSI_UNMAP_DESCRIPTORS);
		vmbus__scsi_put(body + 24, 4, discard ? discard : 1u);
		vmbus__scsi_put(body + 28, 4, 0x80000000u); /* aligned at sector 0 */
	}
	if (!vmbus__disk_read_only(disk))
		vmbus__scsi_put(body + 32, 8, vmbus__disk_same(disk));
	return 60;
}

static uint32_t character_page(const struct vmbus__disk *disk, uint8_t *body)
{
	__builtin_memset(body, 0, 60);
	/* 1: nothing rotates; 0: nothing is told. */
	body[1] = disk->info.flags & VMBUS_STORE_ROTATES ? 0 : 1;
	return 60;
}

static uint32_t provisioning_page(struct vmbus__disk *disk, uint8_t *body)
{
	uint32_t exponent = 1;

	while (vmbus__disk_sectors(disk) >> exponent > UINT32_MAX)
		exponent++;
	__builtin_memset(body, 0, 4);
	body[0] = (uint8_t)exponent;
	if (vmbus__disk_discards(disk)) {
		body[1] = 0xE0; /* by UNMAP and both WRITE SAME */
		body[2] = 0x02; /* thin */
		if (disk->info.flags & VMBUS_STORE_ZEROES)
			body[1] |= 0x04;
	}
	return 4;
}

static uint32_t list_page(const struct vmbus__disk *disk, uint8_t *body)
{
	static const uint8_t all[] = { 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2 };
	uint32_t i, n = 0;

	for (i = 0; i < sizeof(all); i++)
		if (all[i] != 0x80 || disk->serial[0])
			body[n++] = all[i];
	return n;
}

static void page(struct vmbus__scsi_task *task)
{
	struct vmbus__disk *const disk = task->disk;
	uint8_t data[PAGE_BYTES_MAX] = { 0, task->cdb[2] };
	uint8_t *const body = data + PAGE_HEAD;
	uint32_t n = 0;

	switch (task->cdb[2]) {
	case 0x00:
		n = list_page(disk, body);
		break;
	case 0x80:
		n = serial_page(disk, body);
		break;
	case 0x83:
		n = identity_page(disk, body);
		break;
	case 0xB0:
		n = limits_page(disk, body);
		break;
	case 0xB1:
		n = character_page(disk, body);
		break;
	case 0xB2:
		n = provisioning_page(disk, body);
		break;
	default:
		break;
	}
	if (n == 0) { /* no such page */
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	vmbus__scsi_put(data + 2, 2, n);
	vmbus__scsi_reply(task, data, PAGE_HEAD + n, vmbus__scsi_get16(task->cdb + 3));
}

void vmbus__scsi_inquiry(struct vmbus__scsi_task *task)
{
	/* SAM-3, SPC-3, SBC-3: the last one has the pages B0 to B2. */
	static const uint16_t standards[] = { 0x0060, 0x0300, 0x04C0 };
	const struct vmbus__disk *const disk = task->disk;
	uint8_t data[INQUIRY_BYTES];
	uint32_t i;

	if (task->cdb[1] & 0x02u || (!(task->cdb[1] & 0x01u) && task->cdb[2])) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	if (task->cdb[1] & 0x01u) {
		page(task);
		return;
	}
	standard(data, 0);
	data[7] = 0x02; /* commands are queued */
	for (i = 0; i < sizeof(standards) / sizeof(standards[0]); i++)
		vmbus__scsi_put(data + 58 + 2 * i, 2, standards[i]);
	__builtin_memcpy(data + 8, disk->vendor, 8);
	__builtin_memcpy(data + 16, disk->product, 16);
	__builtin_memcpy(data + 32, disk->revision, 4);
	vmbus__scsi_reply(task, data, sizeof(data), vmbus__scsi_get16(task->cdb + 3));
}

/* ---- capacity, [STOR-CAPACITY] ---- */

/* A disk has one sector at least. */
static uint64_t last_sector(struct vmbus__disk *disk)
{
	const uint64_t sectors = vmbus__disk_sectors(disk);

	return sectors ? sectors - 1u : 0;
}

void vmbus__scsi_read_capacity_10(struct vmbus__scsi_task *task)
{
	const uint64_t last = last_sector(task->disk);
	uint8_t data[8];

	vmbus__scsi_put(data, 4, last < UINT32_MAX ? last : UINT32_MAX);
	vmbus__scsi_put(data + 4, 4, vmbus__disk_sector(task->disk));
	vmbus__scsi_reply_whole(task, data, sizeof(data), sizeof(data));
}

/* log2 of the sectors in a physical block. */
static uint8_t physical_exponent(const struct vmbus__disk *disk)
{
	uint8_t exponent = 0;

	while (vmbus__disk_sector(disk) << exponent < disk->info.block_bytes &&
	       vmbus__disk_sector(disk) << exponent < PHYSICAL_BYTES_MAX)
		exponent++;
	return exponent;
}

void vmbus__scsi_service_in(struct vmbus__scsi_task *task)
{
	struct vmbus__disk *const disk = task->disk;
	uint8_t data[32] = { 0 };

	if ((task->cdb[1] & 0x1Fu) != 0x10u) { /* READ CAPACITY(16) */
		vmbus__scsi_check(task, VMBUS__SENSE_OPCODE);
		return;
	}
	vmbus__scsi_put(data, 8, last_sector(disk));
	vmbus__scsi_put(data + 8, 4, vmbus__disk_sector(disk));
	data[13] = physical_exponent(disk);
	if (vmbus__disk_discards(disk))
		data[14] = disk->info.flags & VMBUS_STORE_ZEROES ? 0xC0 : 0x80;
	vmbus__scsi_reply_whole(task, data, sizeof(data), vmbus__scsi_get32(task->cdb + 10));
}

/* [STOR-LUNS] */
void vmbus__scsi_report_luns(struct vmbus__scsi_task *task)
{
	uint8_t luns[256], data[8 + 8 * sizeof(luns)] = { 0 };
	uint32_t i, n = 0;

	if (task->cdb[2] > 2u) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	if (task->cdb[2] != 1u) /* well known ones: we have none */
		n = task->luns(task->ctx, task->target, luns, sizeof(luns));
	for (i = 0; i < n; i++)
		data[8 + 8 * i + 1] = luns[i];
	vmbus__scsi_put(data, 4, 8u * (uint64_t)n);
	vmbus__scsi_reply(task, data, 8 + 8 * n, vmbus__scsi_get32(task->cdb + 6));
}

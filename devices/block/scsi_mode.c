/* SPDX-License-Identifier: MIT */
/*
 * The mode of a SCSI disk, of which nothing can be changed, and the sense data that are asked for.
 */
#include "block/scsi_cmd.h"

#define CACHING 0x08u
#define CONTROL 0x0Au
#define ALL_PAGES 0x3Fu
#define PAGE_BYTES 12u /* of both */
#define WRITE_CACHE 0x04u
#define REORDERS 0x10u
#define PROTECTED 0x80u
#define DPO_FUA 0x10u
#define CHANGEABLE 1u /* page controls */
#define SAVED 3u
#define LIST_BYTES_MAX 64u /* more than any list that we could take */

static bool is_ten(const struct vmbus__scsi_task *task)
{
	return task->cdb[0] & 0x40u;
}

/* A page as it is: PAGE_BYTES.  Returns false if there is no such page. */
static bool write_page(const struct vmbus__disk *disk, uint8_t code, uint8_t *page)
{
	__builtin_memset(page, 0, PAGE_BYTES);
	page[0] = code;
	page[1] = PAGE_BYTES - 2u;
	if (code == CACHING)
		page[2] = vmbus__disk_cache(disk) ? WRITE_CACHE : 0;
	else
		page[3] = REORDERS;
	return code == CACHING || code == CONTROL;
}

/* The pages that are wanted, by rising number.  Returns their bytes; 0: there is no such page. */
static uint32_t write_pages(const struct vmbus__scsi_task *task, uint8_t *to)
{
	const uint8_t code = task->cdb[2] & 0x3Fu, subpage = task->cdb[3];

	if (subpage != 0 && !(code == ALL_PAGES && subpage == 0xFF))
		return 0;
	if (code != ALL_PAGES)
		return write_page(task->disk, code, to) ? PAGE_BYTES : 0;
	(void)write_page(task->disk, CACHING, to);
	(void)write_page(task->disk, CONTROL, to + PAGE_BYTES);
	return 2 * PAGE_BYTES;
}

/* [STOR-MODE] */
void vmbus__scsi_mode_sense(struct vmbus__scsi_task *task)
{
	const uint32_t head = is_ten(task) ? 8 : 4;
	const uint64_t alloc = is_ten(task) ? vmbus__scsi_get16(task->cdb + 7) : task->cdb[4];
	uint8_t data[8 + 2 * PAGE_BYTES] = { 0 }, special = DPO_FUA;
	const uint32_t pages = write_pages(task, data + head);
	uint32_t i;

	if (!pages) {
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
		return;
	}
	if (task->cdb[2] >> 6 == SAVED) {
		vmbus__scsi_check(task, VMBUS__SENSE_NOT_SAVED);
		return;
	}
	if (vmbus__disk_read_only(task->disk))
		special |= PROTECTED;
	if (is_ten(task)) {
		vmbus__scsi_put(data, 2, head + pages - 2u);
		data[3] = special;
	} else {
		data[0] = (uint8_t)(head + pages - 1u);
		data[2] = special;
	}
	for (i = 0; task->cdb[2] >> 6 == CHANGEABLE && i < pages; i += PAGE_BYTES)
		__builtin_memset(data + head + i + 2, 0, PAGE_BYTES - 2u);
	vmbus__scsi_reply(task, data, head + pages, alloc);
}

/* A list of pages that changes nothing: 0, or what is wrong. */
static uint32_t judge_pages(const struct vmbus__disk *disk, const uint8_t *at, uint32_t left)
{
	uint8_t page[PAGE_BYTES];

	while (left) {
		if (!write_page(disk, at[0] & 0x7Fu, page))
			return VMBUS__SENSE_LIST;
		if (left >= 2 && at[1] != page[1])
			return VMBUS__SENSE_LIST;
		if (left < PAGE_BYTES)
			return VMBUS__SENSE_LIST_LENGTH;
		if (__builtin_memcmp(at + 2, page + 2, PAGE_BYTES - 2u))
			return VMBUS__SENSE_LIST;
		at += PAGE_BYTES;
		left -= PAGE_BYTES;
	}
	return 0;
}

static uint32_t judge_list(const struct vmbus__scsi_task *task, const uint8_t *list, uint32_t bytes)
{
	const uint32_t head = is_ten(task) ? 8 : 4;
	uint64_t blocks;

	if (bytes < head)
		return VMBUS__SENSE_LIST_LENGTH;
	blocks = is_ten(task) ? vmbus__scsi_get16(list + 6) : list[3];
	if (blocks) /* descriptors: there are none to be had by MODE SENSE either */
		return VMBUS__SENSE_LIST;
	return judge_pages(task->disk, list + head, bytes - head);
}

void vmbus__scsi_mode_select(struct vmbus__scsi_task *task)
{
	const uint64_t bytes = is_ten(task) ? vmbus__scsi_get16(task->cdb + 7) : task->cdb[4];
	uint8_t list[LIST_BYTES_MAX];
	uint32_t sense;

	/* Pages of the standard's form, and none that are to be saved. */
	if ((task->cdb[1] & 0x11u) != 0x10u || bytes > task->data_bytes)
		sense = VMBUS__SENSE_CDB;
	else if (bytes > sizeof(list))
		sense = VMBUS__SENSE_LIST_LENGTH;
	else if (bytes && (!task->data || vmbus_sgl_read(task->data, 0, list, bytes) != bytes))
		sense = VMBUS__SENSE_CDB;
	else
		sense = bytes ? judge_list(task, list, (uint32_t)bytes) : 0;
	if (sense)
		vmbus__scsi_check(task, sense);
	else
		vmbus__scsi_good(task, (uint32_t)bytes);
}

/* Errors come with their sense data; what is left to be told is a unit attention. */
void vmbus__scsi_request_sense(struct vmbus__scsi_task *task)
{
	const uint32_t sense = vmbus__scsi_attention(task);
	uint8_t data[18] = { 0 };

	vmbus__scsi_sense(data, sense);
	if (task->cdb[1] & 0x01u) { /* the format with descriptors, of which there are none */
		const uint8_t head[8] = { 0x72, data[2], data[12], data[13] };

		vmbus__scsi_reply(task, head, sizeof(head), task->cdb[4]);
	} else {
		vmbus__scsi_reply(task, data, sizeof(data), task->cdb[4]);
	}
}

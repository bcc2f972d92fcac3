/* SPDX-License-Identifier: MIT */
/*
 * A look at what is at an address: one command after the other, each when the answer to the one before
 * is there, on the primary channel.
 *
 * Invariant: one request of a probe is under way, or the probe waits on waiting_p for room.
 */
#include "base/untrusted.h"
#include "storvsc/storvsc_state.h"

#define TRIES 256u /* of one command, when the disk is busy or has news */
#define SHORT_BYTES 255u
#define ILLEGAL_REQUEST 5u

enum step {
	STEP_INQUIRY,
	STEP_PAGES,
	STEP_SERIAL,
	STEP_ID,
	STEP_LIMITS,
	STEP_PROVISIONING,
	STEP_CAPACITY16,
	STEP_CAPACITY10,
	STEP_MODES,
	STEP_CACHING,
	STEP_FOUND
};

/* What a step sends; which page of those that not every disk has it needs. */
static const struct {
	uint8_t cdb[16];
	uint8_t cdb_bytes;
	uint8_t bytes; /* of the answer, at most */
	uint8_t needs;
} commands[STEP_FOUND] = {
	[STEP_INQUIRY] = { { 0x12, 0, 0, 0, 96 }, 6, 96, 0 },
	[STEP_PAGES] = { { 0x12, 1, 0, 0, SHORT_BYTES }, 6, SHORT_BYTES, 0 },
	[STEP_SERIAL] = { { 0x12, 1, 0x80, 0, SHORT_BYTES }, 6, SHORT_BYTES, VMBUS__FOUND_SERIAL },
	[STEP_ID] = { { 0x12, 1, 0x83, 0, SHORT_BYTES }, 6, SHORT_BYTES, VMBUS__FOUND_ID },
	[STEP_LIMITS] = { { 0x12, 1, 0xB0, 0, 64 }, 6, 64, VMBUS__FOUND_LIMITS },
	[STEP_PROVISIONING] = { { 0x12, 1, 0xB2, 0, 64 }, 6, 64, VMBUS__FOUND_PROVISIONING },
	[STEP_CAPACITY16] = { { 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32 }, 16, 32, 0 },
	[STEP_CAPACITY10] = { { 0x25 }, 10, 8, 0 },
	[STEP_MODES] = { { 0x1A, 0, 0x3F, 0, SHORT_BYTES }, 6, SHORT_BYTES, 0 },
	[STEP_CACHING] = { { 0x1A, 0, 0x08, 0, SHORT_BYTES }, 6, SHORT_BYTES, 0 },
};

static void finish(struct vmbus_storvsc_disk *disk, int err)
{
	disk->done_p(disk, err, disk->ctx_p);
}

static void answered(struct vmbus_storvsc_req *req);

/* Send the command of the present step, now or when there is room.  Returns 0 or an error. */
static int send(struct vmbus_storvsc_disk *disk)
{
	struct vmbus_storvsc *const s = disk->storvsc;
	struct vmbus_storvsc_req *const req = &disk->req_p;
	int err;

	__builtin_memset(req, 0, sizeof(*req));
	__builtin_memcpy(req->cdb, commands[disk->step_p].cdb, sizeof(req->cdb));
	req->target = disk->target;
	req->lun = disk->lun;
	req->cdb_bytes = commands[disk->step_p].cdb_bytes;
	req->way = VMBUS_STORVSC_FROM_DISK;
	req->pieces = 1;
	req->piece = &disk->piece_p;
	req->done = answered;
	req->ctx = disk;
	disk->piece_p.bytes = commands[disk->step_p].bytes;
	err = vmbus_storvsc_submit(s, 0, req);
	if (err != VMBUS_E_FULL)
		return err;
	disk->next_p = s->waiting_p;
	s->waiting_p = disk;
	return 0;
}

static void go_on(struct vmbus_storvsc_disk *disk)
{
	int err;

	while (disk->step_p < STEP_FOUND && commands[disk->step_p].needs &&
	       !(disk->pages_p & commands[disk->step_p].needs))
		disk->step_p++;
	if (disk->step_p == STEP_FOUND) {
		finish(disk, 0);
		return;
	}
	disk->tries_p = 0;
	err = send(disk);
	if (err)
		finish(disk, VMBUS_E_PEER);
}

void vmbus__storvsc_probe_more(struct vmbus_storvsc *s)
{
	struct vmbus_storvsc_disk *disk = s->waiting_p, *next;

	/* Those that find no room again are put on a new list. */
	s->waiting_p = NULL;
	for (; disk; disk = next) {
		next = disk->next_p;
		if (send(disk))
			finish(disk, VMBUS_E_PEER);
	}
}

void vmbus__storvsc_probe_end(struct vmbus_storvsc *s)
{
	struct vmbus_storvsc_disk *disk = s->waiting_p, *next;

	s->waiting_p = NULL;
	for (; disk; disk = next) {
		next = disk->next_p;
		finish(disk, VMBUS_E_PEER);
	}
}

/* A command that did not end well: 0, the next step follows; or the end. */
static int refused(struct vmbus_storvsc_disk *disk, const struct vmbus_storvsc_req *req)
{
	switch (disk->step_p) {
	case STEP_INQUIRY:
	case STEP_CAPACITY10:
		return VMBUS_E_RANGE;
	case STEP_CAPACITY16:
		if (vmbus__storvsc_key(req) != ILLEGAL_REQUEST)
			return VMBUS_E_RANGE;
		break;
	default: /* what it does not tell has its default */
		break;
	}
	disk->step_p++;
	return 0;
}

/* What a good answer says: 0, the next step follows; or the end. */
static int told(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	uint32_t next = disk->step_p + 1;
	int err = 0;

	switch (disk->step_p) {
	case STEP_INQUIRY:
		err = vmbus__found_inquiry(disk, p, bytes) ? 0 : VMBUS_E_RANGE;
		break;
	case STEP_PAGES:
		vmbus__found_pages(disk, p, bytes);
		break;
	case STEP_SERIAL:
		vmbus__found_serial(disk, p, bytes);
		break;
	case STEP_ID:
		vmbus__found_id(disk, p, bytes);
		break;
	case STEP_LIMITS:
		vmbus__found_limits(disk, p, bytes);
		break;
	case STEP_PROVISIONING:
		vmbus__found_provisioning(disk, p, bytes);
		break;
	case STEP_CAPACITY16:
		err = vmbus__found_capacity16(disk, p, bytes) ? 0 : VMBUS_E_PEER;
		next = STEP_MODES;
		break;
	case STEP_CAPACITY10:
		err = vmbus__found_capacity10(disk, p, bytes) ? 0 : VMBUS_E_PEER;
		break;
	case STEP_MODES:
		if (vmbus__found_modes(disk, p, bytes))
			next = STEP_FOUND;
		break;
	default:
		(void)vmbus__found_modes(disk, p, bytes);
		break;
	}
	disk->step_p = next;
	return err;
}

static void answered(struct vmbus_storvsc_req *req)
{
	struct vmbus_storvsc_disk *const disk = req->ctx;
	uint8_t copy[SHORT_BYTES];
	int err = 0;

	if (req->err == VMBUS_E_PEER) {
		finish(disk, VMBUS_E_PEER);
		return;
	}
	if (req->err && vmbus_storvsc_retry(req)) {
		if (++disk->tries_p == TRIES)
			finish(disk, VMBUS_E_AGAIN);
		else if (send(disk))
			finish(disk, VMBUS_E_PEER);
		return;
	}
	if (req->err) {
		err = refused(disk, req);
	} else {
		/* What was moved is there: never more than was asked for. */
		vmbus__peer_read(copy, disk->piece_p.data, req->moved);
		err = told(disk, copy, req->moved);
	}
	if (err)
		finish(disk, err);
	else
		go_on(disk);
}

int vmbus_storvsc_probe(struct vmbus_storvsc_disk *disk, struct vmbus_storvsc *s, uint8_t target,
			uint8_t lun, void *page,
			void (*done)(struct vmbus_storvsc_disk *disk, int err, void *ctx),
			void *ctx)
{
	struct vmbus_vsc *const vsc = vmbus_storvsc_channel(s, 0);

	if (!page || (uintptr_t)page % VMBUS_PAGE_BYTES || !done)
		return VMBUS_E_INVAL;
	if (!vmbus__storvsc_is_ready(s) || !vsc)
		return VMBUS_E_STATE;
	if (vmbus_vsc_pfn(vsc, page) == UINT64_MAX)
		return VMBUS_E_INVAL;
	__builtin_memset(disk, 0, sizeof(*disk));
	disk->storvsc = s;
	disk->target = target;
	disk->lun = lun;
	disk->piece_p.data = page;
	disk->done_p = done;
	disk->ctx_p = ctx;
	return send(disk);
}

/* SPDX-License-Identifier: MIT */
/*
 * The SCSI disk: which commands there are, and what is looked at before one begins.
 */
#include "block/scsi_cmd.h"

#define NACA 0x04u /* of the control byte: we have no auto contingent allegiance */

/* What a command is, by its opcode. */
struct command {
	void (*run)(struct vmbus__scsi_task *task);
	uint8_t access; /* enum vmbus_access */
	uint8_t kind;	/* enum vmbus__scsi_kind */
	uint8_t flags;
};

static void nothing(struct vmbus__scsi_task *task)
{
	vmbus__scsi_good(task, 0);
}

/* FORMAT UNIT and SEND DIAGNOSTIC without parameters: there is nothing to do. */
static void format_unit(struct vmbus__scsi_task *task)
{
	if (task->cdb[1])
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else
		vmbus__scsi_good(task, 0);
}

static void send_diagnostic(struct vmbus__scsi_task *task)
{
	if (task->cdb[1] & 0xF3u || vmbus__scsi_get16(task->cdb + 3))
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else
		vmbus__scsi_good(task, 0);
}

/* struct command.flags */
#define MEDIUM 1u /* it writes: refused by a disk that may only be read */
#define QUIET 2u  /* a unit attention waits for another command, [STOR-EVENT] */
#define BYTCHK 4u /* without these bits nothing is compared, so there is no buffer */
#define NDOB 8u	  /* with this bit there is no buffer */

#define OTHER VMBUS__SCSI_OTHER

/* clang-format off */
#define READS(function) { (function), VMBUS_WRITE, VMBUS__SCSI_READ, 0 }
#define WRITES(function) { (function), VMBUS_READ, VMBUS__SCSI_WRITE, MEDIUM }
#define VERIFIES { vmbus__scsi_verify, VMBUS_READ, OTHER, BYTCHK }
#define FLUSHES { vmbus__scsi_synchronize, 0, VMBUS__SCSI_FLUSH, 0 }
#define TELLS(function) { (function), VMBUS_WRITE, OTHER, QUIET }
/* clang-format on */

/* Those that are not here end with 5/20/00, [STOR-CDB]: persistent and old reservations, too. */
static const struct command commands[256] = {
	[0x00] = { nothing, 0, OTHER, 0 }, /* TEST UNIT READY */
	[0x03] = TELLS(vmbus__scsi_request_sense),
	[0x04] = { format_unit, 0, OTHER, MEDIUM },
	[0x08] = READS(vmbus__scsi_do_read),
	[0x0A] = WRITES(vmbus__scsi_do_write),
	[0x12] = TELLS(vmbus__scsi_inquiry),
	[0x15] = { vmbus__scsi_mode_select, VMBUS_READ, OTHER, 0 },
	[0x1A] = TELLS(vmbus__scsi_mode_sense),
	[0x1B] = { vmbus__scsi_start_stop, 0, OTHER, 0 },
	[0x1D] = { send_diagnostic, 0, OTHER, 0 },
	[0x1E] = { nothing, 0, OTHER, 0 }, /* PREVENT ALLOW MEDIUM REMOVAL */
	[0x25] = { vmbus__scsi_read_capacity_10, VMBUS_WRITE, OTHER, 0 },
	[0x28] = READS(vmbus__scsi_do_read),
	[0x2A] = WRITES(vmbus__scsi_do_write),
	[0x2E] = WRITES(vmbus__scsi_write_verify),
	[0x2F] = VERIFIES,
	[0x34] = { vmbus__scsi_prefetch, 0, OTHER, 0 },
	[0x35] = FLUSHES,
	[0x41] = WRITES(vmbus__scsi_write_same),
	[0x42] = { vmbus__scsi_unmap, VMBUS_READ, VMBUS__SCSI_DISCARD, MEDIUM },
	[0x55] = { vmbus__scsi_mode_select, VMBUS_READ, OTHER, 0 },
	[0x5A] = TELLS(vmbus__scsi_mode_sense),
	[0x88] = READS(vmbus__scsi_do_read),
	[0x8A] = WRITES(vmbus__scsi_do_write),
	[0x8E] = WRITES(vmbus__scsi_write_verify),
	[0x8F] = VERIFIES,
	[0x90] = { vmbus__scsi_prefetch, 0, OTHER, 0 },
	[0x91] = FLUSHES,
	[0x93] = { vmbus__scsi_write_same, VMBUS_READ, VMBUS__SCSI_WRITE, MEDIUM | NDOB },
	[0x9E] = { vmbus__scsi_service_in, VMBUS_WRITE, OTHER, 0 },
	[0xA0] = TELLS(vmbus__scsi_report_luns),
	[0xA8] = READS(vmbus__scsi_do_read),
	[0xAA] = WRITES(vmbus__scsi_do_write),
	[0xAE] = WRITES(vmbus__scsi_write_verify),
	[0xAF] = VERIFIES,
};

static uint32_t access_of(const struct command *command, const uint8_t *cdb)
{
	if (VMBUS_LIKELY(!(command->flags & (BYTCHK | NDOB))))
		return command->access;
	if (command->flags & BYTCHK)
		return cdb[1] & 0x06u ? command->access : 0;
	return cdb[1] & 0x01u ? 0 : command->access;
}

enum vmbus_access vmbus__scsi_access(const uint8_t *cdb)
{
	return (enum vmbus_access)access_of(&commands[cdb[0]], cdb);
}

/* The last byte of a command block. */
static uint8_t control_byte(const uint8_t *cdb)
{
	static const uint8_t last[8] = { 5, 9, 9, 0, 15, 11, 0, 0 };

	return last[cdb[0] >> 5] ? cdb[last[cdb[0] >> 5]] : 0;
}

/* ---- the beginning ---- */

uint32_t vmbus__scsi_attention(struct vmbus__scsi_task *task)
{
	vmbus__a64 *const word = task->ua ? vmbus__as_a64(task->ua) : NULL;
	const uint64_t due = word ? vmbus__ld64_relaxed(word) : 0; /* UNITATT.take */

	if (VMBUS_LIKELY(!(due & (VMBUS__UA_CAPACITY | VMBUS__UA_LIMITS))))
		return 0;
	/* If another channel was faster, what is left is told by the next command. */
	if (!vmbus__cas64_acq_rel(word, due, due & (due - 1u))) /* UNITATT.take */
		return 0;
	return due & VMBUS__UA_CAPACITY ? VMBUS__SENSE_CAPACITY : VMBUS__SENSE_LIMITS;
}

/* [STOR-ABSENT] */
static void absent(struct vmbus__scsi_task *task)
{
	switch (task->cdb[0]) {
	case 0x12:
		vmbus__scsi_inquiry_absent(task);
		break;
	case 0xA0:
		vmbus__scsi_report_luns(task);
		break;
	default:
		vmbus__scsi_no_lun(task);
		break;
	}
}

bool vmbus__scsi_turn(uint64_t *ua, uint64_t from, uint64_t to)
{
	vmbus__a64 *const word = vmbus__as_a64(ua);
	uint64_t was;

	do {
		was = vmbus__ld64_relaxed(word); /* UNITATT.take */
		if (!(was & from))
			return false;
	} while (!vmbus__cas64_acq_rel(word, was, (was & ~from) | to)); /* UNITATT.take */
	return true;
}

/*
 * Whether the guest means a disk that is gone, whatever is at its address now.  It does until it was told
 * so, and has asked then what is there: what it had sent before it knew is not for another disk.  An
 * INQUIRY that comes with what is told so was sent before that, and asks nothing.
 */
static VMBUS_NOINLINE bool means_another(struct vmbus__scsi_task *task)
{
	switch (task->cdb[0]) {
	case 0x12:
		(void)vmbus__scsi_turn(task->ua, VMBUS__UA_TOLD, 0);
		return false;
	case 0x03:
	case 0xA0:
		return false;
	default:
		task->told = vmbus__scsi_turn(task->ua, VMBUS__UA_LEFT, VMBUS__UA_SAID);
		return true;
	}
}

void vmbus__scsi_start(struct vmbus__scsi_task *task)
{
	const struct command *const command = &commands[task->cdb[0]];
	const uint32_t access = access_of(command, task->cdb);
	const uint64_t word =
		task->ua ? vmbus__ld64_relaxed(vmbus__as_a64(task->ua)) : 0; /* UNITATT.take */
	uint32_t sense = 0;

	task->list = NULL;
	task->scratch = NULL;
	task->kind = VMBUS__SCSI_OTHER;
	task->told = false;
	task->work = 0;
	task->looked_at = 0;
	if (VMBUS_UNLIKELY(word & VMBUS__UA_GONE) && means_another(task)) {
		vmbus__scsi_no_lun(task);
		return;
	}
	if (VMBUS_UNLIKELY(!task->disk)) {
		absent(task);
		return;
	}
	if (VMBUS_UNLIKELY(word) && !(command->flags & QUIET))
		sense = vmbus__scsi_attention(task);
	if (VMBUS_UNLIKELY(sense))
		vmbus__scsi_check(task, sense);
	else if (VMBUS_UNLIKELY(!command->run))
		vmbus__scsi_check(task, VMBUS__SENSE_OPCODE);
	else if (VMBUS_UNLIKELY(control_byte(task->cdb) & NACA))
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else if (VMBUS_UNLIKELY(access && task->data_bytes &&
				task->data_in != (access == VMBUS_WRITE)))
		vmbus__scsi_check(task, VMBUS__SENSE_CDB);
	else if (VMBUS_UNLIKELY(command->flags & MEDIUM && vmbus__disk_read_only(task->disk)))
		vmbus__scsi_check(task, VMBUS__SENSE_PROTECTED);
	else {
		task->kind = command->kind;
		command->run(task);
	}
}

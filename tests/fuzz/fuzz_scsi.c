/* SPDX-License-Identifier: MIT */
/*
 * Commands of any bytes for a SCSI disk on a store that ends each request at once or later, well or
 * badly; the guest changes its buffer at each request.  Each command ends exactly once, with an
 * outcome that is none of those that make Linux hang; the store is asked only for what lies in the
 * disk; nothing outside of the buffer changes, and nothing in it against the command's direction.
 *
 * Input: what disk (4 bytes), then for each command: flags, ends of the store, unit attentions,
 * buffer bytes (2), command block (16), and up to 64 bytes that the buffer begins with.
 */
#include "block/scsi_cmd.h"

#include <sys/uio.h>

#include "fuzz/input.h"

#define BUFFER_BYTES 8192u
#define EDGE 64u
#define DISK_BYTES (1u << 20)
#define REQUESTS_MAX 1024u /* of one command: 256 descriptors, 512 pieces of a WRITE SAME */

static struct vmbus__disk disk;
static struct vmbus_store_ops ops;
static struct vmbus_store_queue queue = { .fd = -1, .depth = 1 };
static uint8_t bytes[DISK_BYTES];
static uint8_t room[EDGE + BUFFER_BYTES + EDGE], before[sizeof(room)];
static struct vmbus_io *kept;
static uint32_t ends, asked, done, changes;
static bool later, wrote;

static enum vmbus_io_end next_end(void)
{
	const uint32_t end = ends & 7u;

	ends >>= 3;
	return (enum vmbus_io_end)end;
}

/* Bytes past our memory are there, but nobody remembers them: the disk may be larger. */
static void move(const struct vmbus_io *io, bool out)
{
	uint64_t at = io->offset;
	uint32_t i;

	for (i = 0; i < io->iov_count; i++) {
		const size_t n = io->iov[i].iov_len;

		if (out)
			memset(io->iov[i].iov_base, (int)(at >> 9 & 3u), n);
		else if (at < DISK_BYTES)
			memcpy(bytes + at, io->iov[i].iov_base, n < DISK_BYTES - at ? n : 1);
		at += n;
	}
	MUST(at - io->offset == io->bytes);
}

static void take_request(struct vmbus_io *io, char op)
{
	const enum vmbus_io_end end = next_end();
	const uint64_t mask = (UINT64_C(1) << disk.sector_shift) - 1;

	MUST(!kept && !done && ++asked <= REQUESTS_MAX);
	MUST(io->queue == &queue);
	MUST(((io->offset | io->bytes) & mask) == 0);
	MUST(io->offset <= disk.bytes && io->bytes <= disk.bytes - io->offset);
	MUST(op == 'f' || io->bytes > 0);
	MUST((op == 'r' || op == 'w') == (io->iov_count > 0));
	MUST(op == 'r' || op == 'f' || !vmbus__disk_read_only(&disk));
	wrote = wrote || (op != 'r' && op != 'f');
	if (op == 'r' || op == 'w')
		move(io, op == 'r');
	io->bad_offset = ends & 1 ? 0 : io->offset + (uint64_t)end * 300u;
	if (later) {
		kept = io;
		io->store[0] = end;
	} else {
		vmbus_io_done(io, end);
	}
}

static void do_read(struct vmbus_io *io)
{
	take_request(io, 'r');
}
static void do_write(struct vmbus_io *io)
{
	take_request(io, 'w');
}
static void do_flush(struct vmbus_io *io)
{
	take_request(io, 'f');
}
static void do_discard(struct vmbus_io *io)
{
	take_request(io, 'd');
}
static void do_zero(struct vmbus_io *io)
{
	take_request(io, 'z');
}

static void task_done(struct vmbus__scsi_task *task)
{
	(void)task;
	MUST(done == 0);
	done++;
}

static uint32_t luns(void *ctx, uint8_t target, uint8_t *list, uint32_t count)
{
	uint32_t i;

	(void)ctx;
	MUST(count == 256);
	for (i = 0; i < target; i++)
		list[i] = (uint8_t)i;
	return target;
}

/* [STOR-SRB]: pairs of status that Linux understands, sense data where it looks for them. */
static void check_outcome(const struct vmbus__scsi_task *task)
{
	const uint8_t srb = task->srb_status;

	switch (task->scsi_status) {
	case 0x00:
		MUST(srb == 0x01 && task->status == 0 && task->sense_len == 0);
		MUST(task->moved <= task->data_bytes);
		break;
	case 0x02:
		MUST((srb == 0x20 && !task->disk && task->sense_len == 0) || srb == 0x84 ||
		     srb == 0x86 || srb == 0x92);
		MUST(srb == 0x20 || task->sense_len == 18 || task->sense_len == 20);
		MUST(srb == 0x20 || task->sense[0] == 0x70 || task->sense[0] == 0xF0 ||
		     task->sense[0] == 0x72);
		MUST(task->moved == 0 && task->covered == 0 && task->status != 0);
		break;
	default:
		MUST(task->scsi_status == 0x08 && srb == 0x05 && task->status == 0x80000011u);
		MUST(task->moved == 0 && task->sense_len == 0);
		break;
	}
}

static void take_disk(struct input *in)
{
	const uint32_t what = take(in, 1), flags = take(in, 1), shift = take(in, 2);

	ops = (struct vmbus_store_ops){
		.struct_bytes = sizeof(ops), .name = "fuzz", .read = do_read, .write = do_write
	};
	ops.flush = what & 1 ? do_flush : NULL;
	ops.discard = what & 2 ? do_discard : NULL;
	ops.zero = what & 4 ? do_zero : NULL;
	disk = (struct vmbus__disk){ .store = { &ops, NULL } };
	disk.transfer_bytes = what & 0x40 ? 8u << 20 : 1u << 20;
	disk.sector_shift = what & 8 ? 12 : 9;
	disk.read_only = what & 0x10;
	disk.write_through = what & 0x20;
	disk.info.flags = flags & 0x1F;
	disk.bytes = (UINT64_C(1) << (9 + shift % 53)) + (shift & 0xFF00);
	disk.info.block_bytes = 1u << (flags >> 5 << 1 & 15);
	memcpy(disk.serial, "fuzz", 4);
}

static void command(struct input *in)
{
	const uint32_t flags = take(in, 1), first = take(in, 2), attention = take(in, 1);
	const uint32_t given = take(in, 2) % (BUFFER_BYTES + 1);
	struct vmbus_piece pieces[2] = { { .host = room + EDGE, .len = given / 3 },
					 { .host = room + EDGE + given / 3,
					   .len = given - given / 3 } };
	struct iovec iov[2] = { { room + EDGE, given / 3 },
				{ room + EDGE + given / 3, given - given / 3 } };
	struct vmbus_sgl sgl = { .pieces = pieces, .room = 2, .count = 2, .bytes = given };
	struct vmbus__scsi_task task;
	uint64_t ua = attention & 3u;
	uint32_t scratches = attention >> 3, i, access;

	memset(&task, 0xA5, sizeof(task));
	for (i = 0; i < sizeof(task.cdb); i++)
		task.cdb[i] = (uint8_t)take(in, 1);
	for (i = 0; i < 64; i++)
		room[EDGE + i] = (uint8_t)take(in, 1);
	access = vmbus__scsi_access(task.cdb);
	sgl.access = flags & 1 ? VMBUS_WRITE : VMBUS_READ;
	task.data = given ? &sgl : NULL;
	task.iov = given ? iov : NULL;
	task.iov_count = given ? 2 : 0;
	task.data_bytes = given;
	task.data_in = flags & 1;
	task.disk = flags & 2 ? NULL : &disk;
	task.queue = &queue;
	task.over = NULL;
	task.begun = NULL;
	task.ua = flags & 4 ? &ua : NULL;
	task.scratches = flags & 4 ? &scratches : NULL;
	task.target = (uint8_t)(flags >> 6);
	task.lun = (uint8_t)(flags >> 5 & 1);
	task.luns = luns;
	task.done = task_done;
	later = flags & 8;
	ends = flags & 16 ? first : 0;
	asked = 0;
	done = 0;
	wrote = false;
	memcpy(before, room, sizeof(room));
	vmbus__scsi_start(&task);
	while (kept) {
		struct vmbus_io *const io = kept;

		kept = NULL;
		if (flags & 32) { /* the guest changes its mind */
			room[EDGE + changes++ % 64] ^= 0xFF;
			memcpy(before, room, sizeof(room));
		}
		vmbus_io_done(io, (enum vmbus_io_end)io->store[0]);
	}
	MUST(done == 1 && scratches == attention >> 3);
	check_outcome(&task);
	MUST(ua == (attention & 3u) || task.ua);
	MUST(memcmp(before, room, EDGE) == 0);
	MUST(memcmp(before + EDGE + given, room + EDGE + given, sizeof(room) - EDGE - given) == 0);
	if (access != VMBUS_WRITE || !task.data_in)
		MUST(memcmp(before, room, sizeof(room)) == 0);
	if (access != VMBUS_READ && task.cdb[0] != 0x93)
		MUST(!wrote);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t n;

	take_disk(&in);
	memset(room, 0x33, sizeof(room));
	for (n = 0; n < 32 && in.left; n++)
		command(&in);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * A SCSI disk without a bus: a store that writes down what is asked of it and can keep requests back
 * or let them fail, a buffer in pieces, and one command at a time.
 */
#ifndef VMBUS_TESTS_BLOCK_SCSI_RIG_H
#define VMBUS_TESTS_BLOCK_SCSI_RIG_H

#include <sys/uio.h>

#include "block/scsi.h"
#include "vmbus_test.h"

#define RIG_LOG_MAX 2048u
#define RIG_BUFFER_BYTES (256u << 10)
#define RIG_SECTORS 4096u

/* One request that the store was given. */
struct rig_request {
	char op; /* r w f d z */
	uint32_t flags, iov_count;
	uint64_t offset, bytes;
};

struct rig {
	struct vmbus__disk disk;
	struct vmbus_store_queue queue;
	struct vmbus_store_ops ops;
	struct vmbus__scsi_task task;
	struct vmbus_sgl sgl;
	struct vmbus_piece pieces[4];
	struct iovec iov[4];
	uint64_t ua;
	uint8_t *bytes;	 /* of the disk */
	uint8_t *buffer; /* the guest's */
	struct rig_request log[RIG_LOG_MAX];
	uint32_t asked; /* requests */
	uint32_t done;	/* ends of the command */
	bool keep;	/* requests back until rig_let_go() */
	bool over;	/* the queue gets no more requests */
	struct vmbus_io *kept;
	uint32_t fail_at; /* the request that fails, from 1 on; 0: none */
	enum vmbus_io_end fail;
	uint64_t fail_offset; /* from the start of the request */
	uint32_t luns, scratches;
	void (*before)(struct rig *rig); /* each request */
};

static inline void rig_move(struct rig *rig, const struct vmbus_io *io, bool out)
{
	uint64_t at = io->offset, sum = 0;
	uint32_t i;

	for (i = 0; i < io->iov_count; i++) {
		const size_t n = io->iov[i].iov_len;

		must(n > 0 && at + n <= (uint64_t)RIG_SECTORS * 4096);
		if (out)
			memcpy(io->iov[i].iov_base, rig->bytes + at, n);
		else
			memcpy(rig->bytes + at, io->iov[i].iov_base, n);
		at += n;
		sum += n;
	}
	must_eq(sum, io->bytes);
}

/* Every request of the store comes here: within the disk, whole sectors, one at a time. */
static inline void rig_take(struct vmbus_io *io, char op)
{
	struct rig *const rig = io->queue->ctx;
	const uint32_t sector = 1u << rig->disk.sector_shift;
	enum vmbus_io_end end = VMBUS_IO_OK;

	must(io->queue == &rig->queue && !rig->kept && rig->done == 0);
	must(rig->asked < RIG_LOG_MAX);
	must(io->offset % sector == 0 && io->bytes % sector == 0);
	must(op == 'f' || io->bytes > 0);
	must(io->offset <= rig->disk.bytes && io->bytes <= rig->disk.bytes - io->offset);
	must((op == 'r' || op == 'w') == (io->iov_count > 0));
	rig->log[rig->asked++] =
		(struct rig_request){ op, io->flags, io->iov_count, io->offset, io->bytes };
	if (rig->before)
		rig->before(rig);
	if (rig->asked == rig->fail_at) {
		end = rig->fail;
		io->bad_offset = io->offset + rig->fail_offset;
	} else if (op == 'r' || op == 'w') {
		rig_move(rig, io, op == 'r');
	} else if (op == 'z' || op == 'd') {
		memset(rig->bytes + io->offset, 0, io->bytes);
	}
	if (rig->keep) {
		rig->kept = io;
		io->store[0] = end;
	} else {
		vmbus_io_done(io, end);
	}
}

/* The store ends the request that it has kept back.  Returns whether there was one. */
static inline bool rig_let_go(struct rig *rig)
{
	struct vmbus_io *const io = rig->kept;

	if (!io)
		return false;
	rig->kept = NULL;
	vmbus_io_done(io, (enum vmbus_io_end)io->store[0]);
	return true;
}

static inline void rig_read(struct vmbus_io *io)
{
	rig_take(io, 'r');
}
static inline void rig_write(struct vmbus_io *io)
{
	rig_take(io, 'w');
}
static inline void rig_flush(struct vmbus_io *io)
{
	rig_take(io, 'f');
}
static inline void rig_discard(struct vmbus_io *io)
{
	rig_take(io, 'd');
}
static inline void rig_zero(struct vmbus_io *io)
{
	rig_take(io, 'z');
}

static inline void rig_done(struct vmbus__scsi_task *task)
{
	struct rig *const rig = task->ctx;

	rig->done++;
}

static inline uint32_t rig_luns(void *ctx, uint8_t target, uint8_t *luns, uint32_t room)
{
	const struct rig *const rig = ctx;
	uint32_t i;

	must(target == rig->task.target && rig->luns <= room);
	for (i = 0; i < rig->luns; i++)
		luns[i] = (uint8_t)i;
	return rig->luns;
}

/* A disk of RIG_SECTORS sectors on a store that has everything. */
static inline void rig_open(struct rig *rig, uint32_t sector_shift)
{
	memset(rig, 0, sizeof(*rig));
	rig->ops = (struct vmbus_store_ops){
		.struct_bytes = sizeof(rig->ops),
		.name = "rig",
		.read = rig_read,
		.write = rig_write,
		.flush = rig_flush,
		.discard = rig_discard,
		.zero = rig_zero,
	};
	rig->queue = (struct vmbus_store_queue){ .ctx = rig, .fd = -1, .depth = 16 };
	rig->disk = (struct vmbus__disk){
		.store = { &rig->ops, rig },
		.bytes = (uint64_t)RIG_SECTORS << sector_shift,
		.sector_shift = sector_shift,
		.transfer_bytes = RIG_BUFFER_BYTES,
		.serial = "S-1",
		.vendor = "Msft    ",
		.product = "Virtual Disk    ",
		.revision = "1.0 ",
		.id = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } },
	};
	rig->disk.info.bytes = rig->disk.bytes;
	rig->disk.info.flags = VMBUS_STORE_ZEROES | VMBUS_STORE_VOLATILE;
	rig->bytes = calloc(RIG_SECTORS, 4096);
	rig->buffer = calloc(1, RIG_BUFFER_BYTES);
	ck_assert(rig->bytes && rig->buffer);
}

static inline void rig_close(struct rig *rig)
{
	free(rig->bytes);
	free(rig->buffer);
}

/* The guest's buffer: bytes of it, in up to three pieces; the direction that it tells. */
static inline void rig_buffer(struct rig *rig, uint32_t bytes, bool data_in)
{
	const uint32_t cuts[] = { bytes < 100 ? bytes : 100, bytes < 5000 ? bytes : 5000, bytes };
	struct vmbus__scsi_task *const task = &rig->task;
	uint32_t i, at = 0;

	memset(&rig->sgl, 0, sizeof(rig->sgl));
	rig->sgl.pieces = rig->pieces;
	rig->sgl.room = 4;
	rig->sgl.access = data_in ? VMBUS_WRITE : VMBUS_READ;
	for (i = 0; i < 3; i++) {
		const uint32_t len = cuts[i] - at;

		if (!len)
			continue;
		rig->pieces[rig->sgl.count].host = rig->buffer + at;
		rig->pieces[rig->sgl.count].len = len;
		rig->iov[rig->sgl.count].iov_base = rig->buffer + at;
		rig->iov[rig->sgl.count++].iov_len = len;
		at += len;
	}
	rig->sgl.bytes = bytes;
	task->data = bytes ? &rig->sgl : NULL;
	task->iov = rig->iov;
	task->iov_count = rig->sgl.count;
	task->data_bytes = bytes;
	task->data_in = data_in;
}

/* Begin a command with the buffer as it was set. */
static inline void rig_begin(struct rig *rig, const uint8_t *cdb, uint32_t len)
{
	struct vmbus__scsi_task *const task = &rig->task;

	memset(task->cdb, 0, sizeof(task->cdb));
	memcpy(task->cdb, cdb, len);
	task->disk = rig->disk.store.ops ? &rig->disk : NULL;
	task->queue = &rig->queue;
	task->over = &rig->over;
	task->ua = &rig->ua;
	task->scratches = &rig->scratches;
	task->luns = rig_luns;
	task->ctx = rig;
	task->done = rig_done;
	rig->asked = 0;
	rig->done = 0;
	memset(&task->io, 0x5A, sizeof(task->io)); /* of an earlier command */
	task->list = (void *)task;
	task->scratch = (void *)task;
	task->scsi_status = 0xEE;
	vmbus__scsi_start(task);
}

/* A whole command: with the store's ends one by one if it keeps them back. */
static inline void rig_run(struct rig *rig, const uint8_t *cdb, uint32_t len)
{
	rig_begin(rig, cdb, len);
	while (rig_let_go(rig))
		;
	must_eq(rig->done, 1);
}

/* A command by its bytes: RUN(&rig, buffer bytes, data in, 0x12, 0, ...) */
#define RUN(rig, bytes, in, ...)                                                                   \
	do {                                                                                       \
		const uint8_t run_cdb[] = { __VA_ARGS__ };                                         \
		rig_buffer(rig, bytes, in);                                                        \
		rig_run(rig, run_cdb, sizeof(run_cdb));                                            \
	} while (0)

/* GOOD, and what moved. */
#define GOOD(rig, n)                                                                               \
	do {                                                                                       \
		must_eq((rig)->task.scsi_status, 0x00);                                            \
		must_eq((rig)->task.srb_status, 0x01);                                             \
		must_eq((rig)->task.status, 0);                                                    \
		must_eq((rig)->task.sense_len, 0);                                                 \
		must_eq((rig)->task.moved, n);                                                     \
	} while (0)

/* CHECK CONDITION with sense data in the fixed format, without a sector. */
static inline void rig_check(const struct rig *rig, uint8_t srb, uint8_t key, uint16_t asc)
{
	const uint8_t want[VMBUS__SENSE_BYTES] = {
		0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, (uint8_t)(asc >> 8), (uint8_t)asc
	};

	must_eq(rig->task.scsi_status, 0x02);
	must_eq(rig->task.srb_status, srb);
	must_eq(rig->task.status, 0xC0000185u);
	must_eq(rig->task.sense_len, 18);
	must(memcmp(rig->task.sense, want, sizeof(want)) == 0);
	must_eq(rig->task.moved, 0);
}

#define CHECK(rig, srb, key, asc) rig_check(rig, srb, key, asc)
#define ILLEGAL(rig, asc) rig_check(rig, 0x86, 5, asc)

/* Number n of what the store was asked. */
#define ASKED(rig, n, what, at, len, how)                                                          \
	do {                                                                                       \
		must((rig)->asked > (n));                                                          \
		must_eq((rig)->log[n].op, what);                                                   \
		must_eq((rig)->log[n].offset, at);                                                 \
		must_eq((rig)->log[n].bytes, len);                                                 \
		must_eq((rig)->log[n].flags, how);                                                 \
	} while (0)

static inline uint64_t rig_be(const struct rig *rig, uint32_t at, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | rig->buffer[at++];
	return v;
}

#endif

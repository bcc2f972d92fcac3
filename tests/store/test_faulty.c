/* SPDX-License-Identifier: MIT */
/* The store that fails, stalls and forgets as it is told. */
#include "conform.h"

static const char *make_passing(struct vmbus_store *store)
{
	must_eq(vmbus_store_memory(CONFORM_BYTES, -1, store), 0);
	must_eq(vmbus_store_faulty(store, store), 0);
	return NULL;
}

static const char *make_dropping(struct vmbus_store *store)
{
	const struct vmbus_store_faults faults = { .drop = true };

	(void)make_passing(store);
	must_eq(vmbus_store_faulty_set(store, &faults), 0);
	return NULL;
}

static const struct variant variants[] = {
	{ "faulty", make_passing, NULL, 512, false,
	  VMBUS_STORE_ZEROES | VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA, 0 },
	{ "faulty that drops", make_dropping, NULL, 512, false, VMBUS_STORE_VOLATILE, 0 },
};

/* ---- a store below that is slow, and not durable at once ---- */

struct lake {
	uint8_t bytes[65536];	/* what is read */
	uint8_t durable[65536]; /* what a power cut would leave */
	uint32_t flushes, through;
	uint32_t destroyed;
	struct vmbus_io *first;
	int broken; /* 1: info fails, 2: open does */
};

static int lake_info(void *ctx, struct vmbus_store_info *info)
{
	if (((struct lake *)ctx)->broken == 1)
		return VMBUS_E_AGAIN;
	*info = (struct vmbus_store_info){ .bytes = 65536, .flags = VMBUS_STORE_VOLATILE };
	return 0;
}

static int lake_open(struct vmbus_store_queue *queue)
{
	int pipe_fd[2];

	if (((struct lake *)queue->ctx)->broken == 2)
		return VMBUS_E_FULL;
	must(!pipe(pipe_fd));
	queue->fd = pipe_fd[0];
	queue->priv = (void *)(intptr_t)pipe_fd[1];
	return 0;
}

static void lake_close(struct vmbus_store_queue *queue)
{
	must(!close(queue->fd) && !close((int)(intptr_t)queue->priv));
}

/* One at a time is enough here. */
static void lake_later(struct vmbus_io *io)
{
	struct lake *const lake = io->queue->ctx;

	must(!lake->first);
	lake->first = io;
	must(write((int)(intptr_t)io->queue->priv, "x", 1) == 1);
}

static void lake_ready(struct vmbus_store_queue *queue)
{
	struct lake *const lake = queue->ctx;
	struct vmbus_io *const io = lake->first;
	char byte;

	must(read(queue->fd, &byte, 1) == 1);
	lake->first = NULL;
	vmbus_io_done(io, VMBUS_IO_OK);
}

static void lake_move(struct vmbus_io *io, bool write)
{
	struct lake *const lake = io->queue->ctx;
	uint8_t *at = lake->bytes + io->offset;
	uint32_t i;

	for (i = 0; i < io->iov_count; i++) {
		memcpy(write ? at : io->iov[i].iov_base, write ? io->iov[i].iov_base : at,
		       io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
	lake_later(io);
}

static void lake_read(struct vmbus_io *io)
{
	lake_move(io, false);
}

static void lake_write(struct vmbus_io *io)
{
	lake_move(io, true);
}

static void lake_flush(struct vmbus_io *io)
{
	struct lake *const lake = io->queue->ctx;

	memcpy(lake->durable, lake->bytes, sizeof(lake->bytes));
	lake->flushes++;
	lake_later(io);
}

static void lake_destroy(void *ctx)
{
	((struct lake *)ctx)->destroyed++;
}

static const struct vmbus_store_ops lake_ops = {
	.struct_bytes = sizeof(lake_ops),
	.name = "lake",
	.info = lake_info,
	.open = lake_open,
	.close = lake_close,
	.read = lake_read,
	.write = lake_write,
	.flush = lake_flush,
	.ready = lake_ready,
	.destroy = lake_destroy,
};

static struct lake lake;

static void begin(struct vmbus_store *store, struct drive *d)
{
	const struct vmbus_store below = { &lake_ops, &lake };

	memset(&lake, 0, sizeof(lake));
	must_eq(vmbus_store_faulty(&below, store), 0);
	drive_open(d, store);
}

static void end(struct vmbus_store *store, struct drive *d)
{
	drive_close(d);
	vmbus_store_destroy(store);
	must_eq(lake.destroyed, 1);
}

static void set(const struct vmbus_store *store, struct vmbus_store_faults faults)
{
	must_eq(vmbus_store_faulty_set(store, &faults), 0);
}

static enum vmbus_io_end write_byte(struct drive *d, uint64_t sector, uint8_t byte, uint32_t flags)
{
	uint8_t data[512];
	const struct iovec iov = { data, sizeof(data) };

	memset(data, byte, sizeof(data));
	return drive_one(d, DRIVE_WRITE,
			 (struct vmbus_io){ .offset = sector * 512,
					    .bytes = 512,
					    .iov = &iov,
					    .iov_count = 1,
					    .flags = flags });
}

static int read_byte(struct drive *d, uint64_t sector)
{
	uint8_t data[512];
	enum vmbus_io_end how;

	how = drive_move(d, DRIVE_READ, sector * 512, data, sizeof(data));
	return how == VMBUS_IO_OK ? data[511] : -(int)how;
}

START_TEST(store_faulty__refuses_what_is_no_store)
{
	const struct vmbus_store_faults none = { 0 };
	struct vmbus_store_faults odd = { .ops = 16 };
	struct vmbus_store_ops old = lake_ops;
	struct vmbus_store store = { NULL, NULL }, memory;

	must_eq(vmbus_store_faulty(NULL, &store), VMBUS_E_INVAL);
	must_eq(vmbus_store_faulty(&store, &store), VMBUS_E_INVAL);
	old.struct_bytes = 8;
	store.ops = &old;
	must_eq(vmbus_store_faulty(&store, &store), VMBUS_E_INVAL);
	must_eq(vmbus_store_memory(4096, -1, &memory), 0);
	must_eq(vmbus_store_faulty_set(&memory, &none), VMBUS_E_INVAL);
	must_eq(vmbus_store_faulty_set(NULL, &none), VMBUS_E_INVAL);
	must_eq(vmbus_store_faulty(&memory, &memory), 0);
	must_eq(vmbus_store_faulty_set(&memory, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_store_faulty_set(&memory, &odd), VMBUS_E_INVAL);
	odd = (struct vmbus_store_faults){ .end = 6 };
	must_eq(vmbus_store_faulty_set(&memory, &odd), VMBUS_E_INVAL);
	must_eq(vmbus_store_faulty_set(&memory, &none), 0);
	vmbus_store_destroy(&memory);
}
END_TEST

START_TEST(store_faulty__has_what_the_store_below_has)
{
	struct vmbus_store_info info;
	struct vmbus_store store;
	struct drive d;

	begin(&store, &d);
	must(store.ops->write && store.ops->flush && !store.ops->discard && !store.ops->zero);
	must_eq(store.ops->info(store.ctx, &info), 0);
	must_eq(info.flags, VMBUS_STORE_VOLATILE); /* no FUA: the one below has none */
	end(&store, &d);
}
END_TEST

START_TEST(store_faulty__ends_requests_in_a_range_as_told)
{
	uint8_t data[4096];
	const struct iovec iov = { data, sizeof(data) };
	struct vmbus_store store;
	struct req req;
	struct drive d;
	int how;

	begin(&store, &d);
	for (how = VMBUS_IO_MEDIUM; how <= VMBUS_IO_BUSY; how++) {
		set(&store, (struct vmbus_store_faults){
				    .from = 5120, .bytes = 1024, .ops = 1, .end = (uint32_t)how });
		must_eq(read_byte(&d, 9), 0);
		must_eq(read_byte(&d, 10), -how);
		must_eq(read_byte(&d, 11), -how);
		must_eq(read_byte(&d, 12), 0);
		must_eq(write_byte(&d, 10, 1, 0), VMBUS_IO_OK);
	}
	set(&store, (struct vmbus_store_faults){
			    .from = 5120, .bytes = 1024, .ops = 3, .end = VMBUS_IO_MEDIUM });
	req = (struct req){
		.io = { .offset = 4096, .bytes = 4096, .iov = &iov, .iov_count = 1 },
	};
	drive_begin(&d, &req, DRIVE_READ);
	drive_all(&d);
	must(req.end == VMBUS_IO_MEDIUM && req.io.bad_offset == 5120);
	req.io.offset = 5632;
	drive_begin(&d, &req, DRIVE_WRITE);
	drive_all(&d);
	must(req.end == VMBUS_IO_MEDIUM && req.io.bad_offset == 5632);
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_OK);
	set(&store, (struct vmbus_store_faults){ .bytes = 1, .ops = 4, .end = VMBUS_IO_SPACE });
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_SPACE);
	must_eq(read_byte(&d, 0), 0);
	end(&store, &d);
}
END_TEST

START_TEST(store_faulty__fails_discards_and_zeroes)
{
	struct vmbus_store store;
	struct drive d;

	(void)make_passing(&store);
	drive_open(&d, &store);
	set(&store, (struct vmbus_store_faults){
			    .from = 0, .bytes = 512, .ops = 8, .end = VMBUS_IO_SPACE });
	must_eq(drive_range(&d, DRIVE_DISCARD, 0, 4096, 0), VMBUS_IO_SPACE);
	must_eq(drive_range(&d, DRIVE_ZERO, 0, 4096, 0), VMBUS_IO_SPACE);
	must_eq(drive_range(&d, DRIVE_ZERO, 512, 4096, 0), VMBUS_IO_OK);
	drive_close(&d);
	vmbus_store_destroy(&store);
}
END_TEST

START_TEST(store_faulty__stalls_until_it_is_told)
{
	uint8_t data[2][512] = { { 7 }, { 8 } };
	const struct iovec iov[2] = { { data[0], 512 }, { data[1], 512 } };
	struct vmbus_store store;
	struct req req[2];
	struct drive d;
	int i;

	begin(&store, &d);
	set(&store, (struct vmbus_store_faults){ .stall = true });
	for (i = 0; i < 2; i++) {
		req[i] = (struct req){ .io = { .bytes = 512, .iov = &iov[i], .iov_count = 1 } };
		drive_begin(&d, &req[i], DRIVE_WRITE);
	}
	drive_commit(&d);
	must(!drive_wait(&d, 20));
	set(&store, (struct vmbus_store_faults){ .stall = true, .bytes = 1 });
	must(!drive_wait(&d, 20));
	must_eq(lake.bytes[0], 0);
	lake.first = NULL;
	set(&store, (struct vmbus_store_faults){ .bytes = 512, .ops = 2, .end = VMBUS_IO_BUSY });
	drive_all(&d); /* in order, and as the faults are by now */
	must(req[0].end == VMBUS_IO_BUSY && req[1].end == VMBUS_IO_BUSY);
	set(&store, (struct vmbus_store_faults){ .stall = true });
	drive_begin(&d, &req[0], DRIVE_WRITE);
	set(&store, (struct vmbus_store_faults){ .stall = true, .cut = true });
	drive_all(&d);
	must_eq(req[0].end, VMBUS_IO_GONE);
	set(&store, (struct vmbus_store_faults){ .stall = true });
	drive_begin(&d, &req[0], DRIVE_WRITE);
	set(&store, (struct vmbus_store_faults){ 0 });
	drive_all(&d);
	must(req[0].end == VMBUS_IO_OK && lake.bytes[0] == 7);
	end(&store, &d);
}
END_TEST

START_TEST(store_faulty__ends_what_stalls_when_it_is_cancelled)
{
	uint8_t data[2][512] = { { 7 }, { 8 } };
	const struct iovec iov[2] = { { data[0], 512 }, { data[1], 512 } };
	struct vmbus_store below, store;
	struct req req[2];
	struct drive d;
	int i;

	must_eq(vmbus_store_memory(65536, -1, &below), 0);
	must_eq(vmbus_store_faulty(&below, &below), 0);
	must_eq(vmbus_store_faulty(&below, &store), 0);
	drive_open(&d, &store);
	set(_i ? &below : &store, (struct vmbus_store_faults){ .stall = true });
	for (i = 0; i < 2; i++) {
		req[i] = (struct req){ .io = { .bytes = 512, .iov = &iov[i], .iov_count = 1 } };
		drive_begin(&d, &req[i], DRIVE_WRITE);
	}
	drive_commit(&d);
	must(!drive_wait(&d, 20));
	drive_cancel(&d);
	must_eq(d.under_way, 0);
	must(req[0].end == VMBUS_IO_GONE && req[1].end == VMBUS_IO_GONE);
	set(_i ? &below : &store, (struct vmbus_store_faults){ 0 });
	must_eq(read_byte(&d, 0), 0); /* it was not written */
	drive_close(&d);
	vmbus_store_destroy(&store);
}
END_TEST

START_TEST(store_faulty__loses_what_was_not_flushed)
{
	struct vmbus_store store;
	struct drive d;

	begin(&store, &d);
	set(&store, (struct vmbus_store_faults){ .drop = true });
	must_eq(write_byte(&d, 0, 1, 0), VMBUS_IO_OK);
	must_eq(write_byte(&d, 1, 1, 0), VMBUS_IO_OK);
	must_eq(read_byte(&d, 0), 1);
	must_eq(lake.bytes[0], 0);
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_OK);
	must_eq(lake.flushes, 1);
	must(lake.durable[0] == 1 && lake.durable[512] == 1);
	must_eq(write_byte(&d, 1, 2, 0), VMBUS_IO_OK);
	must_eq(write_byte(&d, 2, 2, VMBUS_IO_FUA), VMBUS_IO_OK); /* alone, and not the other */
	must_eq(write_byte(&d, 3, 3, 0), VMBUS_IO_OK);
	must(lake.durable[2 * 512] == 2 && lake.durable[512] == 1 && lake.durable[3 * 512] == 0);
	must_eq(read_byte(&d, 1), 2);
	set(&store, (struct vmbus_store_faults){ .drop = true, .cut = true });
	must_eq(read_byte(&d, 0), -VMBUS_IO_GONE);
	must_eq(write_byte(&d, 0, 9, 0), VMBUS_IO_GONE);
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_GONE);
	set(&store, (struct vmbus_store_faults){ 0 }); /* the power is back */
	must_eq(read_byte(&d, 0), 1);
	must_eq(read_byte(&d, 1), 1);
	must_eq(read_byte(&d, 2), 2);
	must_eq(read_byte(&d, 3), 0);
	set(&store, (struct vmbus_store_faults){ .drop = true });
	must_eq(write_byte(&d, 5, 5, 0), VMBUS_IO_OK);
	end(&store, &d);
	must_eq(lake.bytes[5 * 512], 0); /* destroyed: lost as well */
}
END_TEST

START_TEST(store_faulty__writes_back_when_it_drops_no_more)
{
	struct vmbus_store store;
	struct drive d;

	begin(&store, &d);
	set(&store, (struct vmbus_store_faults){ .drop = true });
	must_eq(write_byte(&d, 100, 1, 0), VMBUS_IO_OK);
	must_eq(write_byte(&d, 100, 4, 0), VMBUS_IO_OK);
	set(&store, (struct vmbus_store_faults){ 0 });
	must_eq(lake.bytes[100 * 512], 4);
	must_eq(read_byte(&d, 100), 4);
	end(&store, &d);
}
END_TEST

START_TEST(store_faulty__passes_on_what_the_store_below_refuses)
{
	struct vmbus_store below = { &lake_ops, &lake }, store = { NULL, NULL };
	struct vmbus_store_queue queue = { .ctx = NULL, .fd = -1 };
	struct vmbus_store_info info;

	memset(&lake, 0, sizeof(lake));
	lake.broken = 1;
	must_eq(vmbus_store_faulty(&below, &store), VMBUS_E_AGAIN);
	lake.broken = 2;
	must_eq(vmbus_store_faulty(&below, &store), VMBUS_E_FULL);
	must(!store.ops && lake.destroyed == 0);
	lake.broken = 0;
	must_eq(vmbus_store_faulty(&below, &store), 0);
	lake.broken = 1;
	must_eq(store.ops->info(store.ctx, &info), VMBUS_E_AGAIN);
	lake.broken = 2;
	queue.ctx = store.ctx;
	must_eq(store.ops->open(&queue), VMBUS_E_FULL);
	must(queue.fd == -1 && !queue.priv);
	vmbus_store_destroy(&store);
}
END_TEST

START_TEST(store_faulty__keeps_what_cannot_be_written_back)
{
	struct vmbus_store below, store;
	struct drive d;

	must_eq(vmbus_store_memory(65536, -1, &below), 0);
	must_eq(vmbus_store_faulty(&below, &below), 0);
	must_eq(vmbus_store_faulty(&below, &store), 0);
	drive_open(&d, &store);
	set(&store, (struct vmbus_store_faults){ .drop = true });
	must_eq(write_byte(&d, 1, 7, 0), VMBUS_IO_OK);
	set(&below, (struct vmbus_store_faults){ .bytes = 65536, .ops = 2, .end = VMBUS_IO_SPACE });
	must_eq(vmbus_store_faulty_set(&store, &(struct vmbus_store_faults){ 0 }), VMBUS_E_SYSTEM);
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_SPACE);
	must_eq(write_byte(&d, 2, 7, VMBUS_IO_FUA), VMBUS_IO_SPACE);
	must_eq(read_byte(&d, 1), 7);
	set(&below, (struct vmbus_store_faults){ 0 });
	set(&store, (struct vmbus_store_faults){ 0 });
	must_eq(read_byte(&d, 1), 7);
	drive_close(&d);
	vmbus_store_destroy(&store);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "faulty", 10);

	conform_tests(suite, variants, (int)(sizeof(variants) / sizeof(variants[0])));
	tcase_add_test(tc, store_faulty__refuses_what_is_no_store);
	tcase_add_test(tc, store_faulty__has_what_the_store_below_has);
	tcase_add_test(tc, store_faulty__ends_requests_in_a_range_as_told);
	tcase_add_test(tc, store_faulty__fails_discards_and_zeroes);
	tcase_add_test(tc, store_faulty__stalls_until_it_is_told);
	tcase_add_loop_test(tc, store_faulty__ends_what_stalls_when_it_is_cancelled, 0, 2);
	tcase_add_test(tc, store_faulty__loses_what_was_not_flushed);
	tcase_add_test(tc, store_faulty__writes_back_when_it_drops_no_more);
	tcase_add_test(tc, store_faulty__passes_on_what_the_store_below_refuses);
	tcase_add_test(tc, store_faulty__keeps_what_cannot_be_written_back);
}

VMBUS_TEST_MAIN("store.faulty", tests)

/* SPDX-License-Identifier: MIT */
/*
 * What every block store must do, one suite for all.  A test file says how its stores are made, in
 * variants, and calls conform_tests(); a variant that cannot be made here is skipped with a reason.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include "drive.h"

#define CONFORM_BYTES (UINT64_C(24) << 20)
#define CONFORM_ZONE (UINT64_C(16) << 20) /* where contents are compared */

struct variant {
	const char *name;
	/* Make a store of CONFORM_BYTES; NULL, or why this cannot be made here. */
	const char *(*make)(struct vmbus_store *store);
	void (*unmake)(void); /* after the store was destroyed; may be NULL */
	uint32_t sector;
	bool forgets; /* contents are not kept */
	/* mandatory flags, and those that may not be there */
	uint32_t flags, not_flags;
};

static const struct variant *conform_variants;

/* A store and a queue, or skipped. */
#define CONFORM_BEGIN(store, d)                                                                    \
	const struct variant *const v = &conform_variants[_i];                                     \
	struct vmbus_store store;                                                                  \
	struct drive d;                                                                            \
	const char *const why = v->make(&store);                                                   \
                                                                                                   \
	vmbus_test_at("%s", v->name);                                                              \
	if (why)                                                                                   \
		VMBUS_TEST_SKIP(why);                                                              \
	drive_open(&d, &store)

#define CONFORM_END(store, d)                                                                      \
	do {                                                                                       \
		drive_close(&d);                                                                   \
		vmbus_store_destroy(&store);                                                       \
		must(!store.ops);                                                                  \
		if (v->unmake)                                                                     \
			v->unmake();                                                               \
	} while (0)

static inline void *conform_memory(size_t bytes)
{
	void *const p = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);

	must(p != NULL);
	memset(p, 0x5a, bytes);
	return p;
}

static inline void must_same(const struct variant *v, const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t i;

	if (v->forgets || memcmp(a, b, n) == 0)
		return;
	for (i = 0; a[i] == b[i]; i++)
		;
	ck_abort_msg("byte %zu of %zu is %02x, not %02x (%s)", i, n, a[i], b[i], vmbus_test_where);
}

START_TEST(store__tells_what_it_is)
{
	struct vmbus_store_info info;

	CONFORM_BEGIN(store, d);
	memset(&info, 0xa5, sizeof(info));
	must_eq(store.ops->info(store.ctx, &info), 0);
	must_eq(info.bytes, CONFORM_BYTES);
	must_eq(info.flags & v->flags, v->flags);
	must_eq(info.flags & v->not_flags, 0);
	must(!(info.flags & ~31u));
	must(!(info.block_bytes & (info.block_bytes - 1)));
	must(!(info.discard_bytes & (info.discard_bytes - 1)));
	must(info.align_bytes <= v->sector && !(info.align_bytes & (info.align_bytes - 1)));
	must(info.reserved[0] == 0 && info.reserved[3] == 0);
	must(store.ops->struct_bytes == sizeof(*store.ops) && store.ops->name && store.ops->read);
	must(store.ops->write || info.flags & VMBUS_STORE_READ_ONLY);
	must(d.queue.fd < 0 || store.ops->ready);
	CONFORM_END(store, d);
}
END_TEST

START_TEST(store__begins_with_zeroes_and_keeps_what_is_written)
{
	const size_t most = 1 << 20;
	uint8_t *data = conform_memory(most), *back = conform_memory(most);
	size_t bytes;

	CONFORM_BEGIN(store, d);
	for (bytes = v->sector; bytes <= most; bytes *= 2) {
		memset(back, 0x11, bytes);
		memset(data, 0, bytes);
		must_eq(drive_move(&d, DRIVE_READ, 2 * most, back, bytes), VMBUS_IO_OK);
		must_same(v, back, data, bytes);
	}
	for (bytes = v->sector; bytes <= most; bytes *= 2) {
		vmbus_test_at("%s, %zu bytes", v->name, bytes);
		drive_fill(data, bytes, bytes);
		must_eq(drive_move(&d, DRIVE_WRITE, bytes, data, bytes), VMBUS_IO_OK);
		must_eq(drive_move(&d, DRIVE_READ, bytes, back, bytes), VMBUS_IO_OK);
		must_same(v, back, data, bytes);
	}
	must_eq(drive_move(&d, DRIVE_WRITE, CONFORM_BYTES - most, data, most), VMBUS_IO_OK);
	must_eq(drive_move(&d, DRIVE_READ, CONFORM_BYTES - v->sector, back, v->sector),
		VMBUS_IO_OK);
	must_same(v, back, data + most - v->sector, v->sector);
	CONFORM_END(store, d);
	free(data);
	free(back);
}
END_TEST

/* The bytes of data in many pieces, none of which needs to be a sector, or to begin anywhere. */
static inline uint32_t conform_cut(struct iovec *iov, uint32_t room, uint8_t *data, size_t bytes,
				   uint64_t *seed)
{
	uint32_t n = 0;

	while (bytes) {
		size_t len =
			n + 1 == room ? bytes : 1 + drive_random(seed) % (2 * bytes / room + 1);

		len = len > bytes ? bytes : len;
		iov[n++] = (struct iovec){ data, len };
		data += len;
		bytes -= len;
	}
	return n;
}

START_TEST(store__takes_pieces_of_any_number_and_alignment)
{
	static const uint32_t rooms[] = { 2, 3, 17, 256, 1024, 1025, 2300 };
	const size_t bytes = 512 << 10;
	uint8_t *data = conform_memory(bytes + 64), *back = conform_memory(bytes + 64);
	struct iovec *iov = calloc(2300, sizeof(*iov));
	uint64_t seed = 7;
	uint32_t i;

	CONFORM_BEGIN(store, d);
	for (i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		struct vmbus_io io = { .offset = i * v->sector, .bytes = bytes, .iov = iov };

		vmbus_test_at("%s, %u pieces", v->name, rooms[i]);
		drive_fill(data, bytes + 64, i);
		io.iov_count = conform_cut(iov, rooms[i], data + i, bytes, &seed);
		must_eq(drive_one(&d, DRIVE_WRITE, io), VMBUS_IO_OK);
		memset(back, 0, bytes);
		io.iov_count = conform_cut(iov, rooms[i], back + 2 * i, bytes, &seed);
		must_eq(drive_one(&d, DRIVE_READ, io), VMBUS_IO_OK);
		must_same(v, back + 2 * i, data + i, bytes);
	}
	CONFORM_END(store, d);
	free(iov);
	free(data);
	free(back);
}
END_TEST

/* What the model says of a zone, against all of the store. */
static inline void conform_compare(const struct variant *v, struct drive *d, const uint8_t *model)
{
	const size_t step = 1 << 20;
	uint8_t *const back = conform_memory(step);
	uint64_t at;

	for (at = 0; at < CONFORM_ZONE; at += step) {
		vmbus_test_at("%s, compared at %" PRIu64, v->name, at);
		must_eq(drive_move(d, DRIVE_READ, at, back, step), VMBUS_IO_OK);
		must_same(v, back, model + at, step);
	}
	free(back);
}

START_TEST(store__zeroes_ranges)
{
	uint8_t *model = conform_memory(CONFORM_ZONE);
	uint64_t seed = 3;
	uint32_t i;

	CONFORM_BEGIN(store, d);
	drive_fill(model, CONFORM_ZONE, 1);
	must_eq(drive_move(&d, DRIVE_WRITE, 0, model, CONFORM_ZONE), VMBUS_IO_OK);
	for (i = 0; store.ops->zero && i < 60; i++) {
		const uint64_t most = i % 10 == 9 ? 2 << 20 : 200 << 10;
		const uint64_t sectors = 1 + drive_random(&seed) % (most / v->sector);
		const uint64_t at = drive_random(&seed) % (CONFORM_ZONE / v->sector - sectors);

		vmbus_test_at("%s, %" PRIu64 " sectors at %" PRIu64, v->name, sectors, at);
		must_eq(drive_range(&d, DRIVE_ZERO, at * v->sector, sectors * v->sector,
				    i % 2 ? VMBUS_IO_MAY_DISCARD : 0),
			VMBUS_IO_OK);
		memset(model + at * v->sector, 0, sectors * v->sector);
	}
	conform_compare(v, &d, model);
	CONFORM_END(store, d);
	free(model);
}
END_TEST

START_TEST(store__discards_ranges_and_nothing_else)
{
	uint8_t *model = conform_memory(CONFORM_ZONE), *back = conform_memory(2 << 20);
	struct vmbus_store_info info;
	uint64_t seed = 5;
	uint32_t i;

	CONFORM_BEGIN(store, d);
	must_eq(store.ops->info(store.ctx, &info), 0);
	drive_fill(model, CONFORM_ZONE, 2);
	must_eq(drive_move(&d, DRIVE_WRITE, 0, model, CONFORM_ZONE), VMBUS_IO_OK);
	for (i = 0; store.ops->discard && i < 40; i++) {
		const uint64_t sectors = 1 + drive_random(&seed) % ((1 << 20) / v->sector);
		const uint64_t at = drive_random(&seed) % (CONFORM_ZONE / v->sector - sectors);

		must_eq(drive_range(&d, DRIVE_DISCARD, at * v->sector, sectors * v->sector, 0),
			VMBUS_IO_OK);
		if (info.flags & VMBUS_STORE_ZEROES) {
			memset(model + at * v->sector, 0, sectors * v->sector);
			continue;
		}
		/* Anything may be read there now. */
		must_eq(drive_move(&d, DRIVE_READ, at * v->sector, back, sectors * v->sector),
			VMBUS_IO_OK);
		memcpy(model + at * v->sector, back, sectors * v->sector);
	}
	conform_compare(v, &d, model);
	CONFORM_END(store, d);
	free(model);
	free(back);
}
END_TEST

START_TEST(store__flushes_and_writes_through)
{
	uint8_t *data = conform_memory(8192), *back = conform_memory(8192);
	const struct iovec iov = { data, 8192 };
	struct vmbus_store_info info;

	CONFORM_BEGIN(store, d);
	must_eq(store.ops->info(store.ctx, &info), 0);
	must(store.ops->flush || !(info.flags & VMBUS_STORE_VOLATILE));
	drive_fill(data, 8192, 9);
	must_eq(drive_one(&d, DRIVE_WRITE,
			  (struct vmbus_io){ .offset = 8192,
					     .bytes = 8192,
					     .iov = &iov,
					     .iov_count = 1,
					     .flags = info.flags & VMBUS_STORE_FUA ? VMBUS_IO_FUA
										   : 0 }),
		VMBUS_IO_OK);
	if (store.ops->flush)
		must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_OK);
	must_eq(drive_move(&d, DRIVE_READ, 8192, back, 8192), VMBUS_IO_OK);
	must_same(v, back, data, 8192);
	CONFORM_END(store, d);
	free(data);
	free(back);
}
END_TEST

/* Random requests, up to the queue's depth at once, none over another. */
struct slot {
	struct req req;
	struct iovec iov[9];
	uint8_t *data;
	uint64_t at, bytes;
	enum drive_op op;
};

static inline bool conform_overlaps(const struct slot *slots, uint32_t n, const struct slot *one)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (&slots[i] != one && slots[i].bytes && slots[i].at < one->at + one->bytes &&
		    one->at < slots[i].at + slots[i].bytes)
			return true;
	return false;
}

static inline void conform_slot_begin(const struct variant *v, struct drive *d, struct slot *slots,
				      struct slot *slot, uint64_t *seed)
{
	const uint64_t sectors = 1 + drive_random(seed) % ((128 << 10) / v->sector);
	static const enum drive_op ops[] = { DRIVE_READ,  DRIVE_READ, DRIVE_WRITE,
					     DRIVE_WRITE, DRIVE_ZERO, DRIVE_FLUSH };

	slot->op = ops[drive_random(seed) % 6];
	if ((slot->op == DRIVE_ZERO && !d->store.ops->zero) ||
	    (slot->op == DRIVE_FLUSH && !d->store.ops->flush))
		slot->op = DRIVE_READ;
	do {
		slot->at = drive_random(seed) % (CONFORM_ZONE / v->sector - sectors) * v->sector;
		slot->bytes = sectors * v->sector;
	} while (conform_overlaps(slots, DRIVE_DEPTH, slot));
	slot->req.io = (struct vmbus_io){ .offset = slot->at, .bytes = slot->bytes };
	if (slot->op == DRIVE_WRITE)
		drive_fill(slot->data, slot->bytes, *seed);
	if (slot->op <= DRIVE_WRITE) {
		slot->req.io.iov = slot->iov;
		slot->req.io.iov_count = conform_cut(slot->iov, 1 + drive_random(seed) % 9,
						     slot->data, slot->bytes, seed);
	}
	drive_begin(d, &slot->req, slot->op);
}

static inline void conform_slot_end(const struct variant *v, struct slot *slot, uint8_t *model)
{
	must_eq(slot->req.end, VMBUS_IO_OK);
	if (slot->op == DRIVE_READ)
		must_same(v, slot->data, model + slot->at, slot->bytes);
	if (slot->op == DRIVE_WRITE)
		memcpy(model + slot->at, slot->data, slot->bytes);
	if (slot->op == DRIVE_ZERO)
		memset(model + slot->at, 0, slot->bytes);
	slot->bytes = 0;
}

START_TEST(store__has_the_depth_under_way_at_once)
{
	const uint32_t rounds = vmbus_test_full() ? 20000 : 600;
	uint8_t *model = conform_memory(CONFORM_ZONE);
	struct slot *slots = calloc(DRIVE_DEPTH, sizeof(*slots));
	uint64_t seed = 11;
	uint32_t i, round;

	CONFORM_BEGIN(store, d);
	memset(model, 0, CONFORM_ZONE);
	for (i = 0; i < DRIVE_DEPTH; i++)
		slots[i].data = conform_memory(128 << 10);
	for (round = 0; round < rounds; round++) {
		const uint32_t n = round % 20 == 0 ? DRIVE_DEPTH : 1 + drive_random(&seed) % 8;

		vmbus_test_at("%s, round %u", v->name, round);
		for (i = 0; i < n; i++)
			conform_slot_begin(v, &d, slots, &slots[i], &seed);
		drive_all(&d);
		for (i = 0; i < n; i++)
			conform_slot_end(v, &slots[i], model);
	}
	conform_compare(v, &d, model);
	CONFORM_END(store, d);
	for (i = 0; i < DRIVE_DEPTH; i++)
		free(slots[i].data);
	free(slots);
	free(model);
}
END_TEST

static uint32_t conform_left;

static void conform_again(struct req *req)
{
	must_eq(req->end, VMBUS_IO_OK);
	if (conform_left-- == 0)
		return;
	req->io.offset += 4096;
	drive_begin(req->drive, req, DRIVE_READ);
}

START_TEST(store__takes_a_request_from_within_done)
{
	uint8_t *data = conform_memory(4096);
	const struct iovec iov = { data, 4096 };
	struct req req = {
		.io = { .bytes = 4096, .iov = &iov, .iov_count = 1 },
		.then = conform_again,
	};

	CONFORM_BEGIN(store, d);
	conform_left = 500;
	drive_begin(&d, &req, DRIVE_READ);
	drive_all(&d);
	must_eq(conform_left, UINT32_MAX);
	CONFORM_END(store, d);
	free(data);
}
END_TEST

struct worker {
	const struct variant *v;
	const struct vmbus_store *store;
	uint64_t from;
	pthread_t thread;
};

/* Its own queue and its own megabyte: written, read, zeroed. */
static inline void *conform_work(void *arg)
{
	const struct worker *const w = arg;
	const size_t bytes = 64 << 10;
	uint8_t *const data = conform_memory(bytes), *const back = conform_memory(bytes);
	struct drive d;
	uint32_t i;

	drive_open(&d, w->store);
	for (i = 0; i < 100; i++) {
		const uint64_t at = w->from + i % 16 * bytes;

		drive_fill(data, bytes, w->from + i);
		must_eq(drive_move(&d, DRIVE_WRITE, at, data, bytes), VMBUS_IO_OK);
		if (i % 10 == 0 && w->store->ops->flush)
			must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_OK);
		must_eq(drive_move(&d, DRIVE_READ, at, back, bytes), VMBUS_IO_OK);
		must_same(w->v, back, data, bytes);
	}
	drive_close(&d);
	free(data);
	free(back);
	return NULL;
}

START_TEST(store__serves_queues_on_threads_at_once)
{
	struct worker workers[4];
	uint32_t i;

	CONFORM_BEGIN(store, d);
	for (i = 0; i < 4; i++) {
		workers[i] = (struct worker){ v, &store, i << 20, 0 };
		must(!pthread_create(&workers[i].thread, NULL, conform_work, &workers[i]));
	}
	for (i = 0; i < 4; i++)
		must(!pthread_join(workers[i].thread, NULL));
	CONFORM_END(store, d);
}
END_TEST

/* What began on one thread may end on another: a channel may be dispatched by any. */
static inline void *conform_elsewhere(void *arg)
{
	drive_all(arg);
	return NULL;
}

START_TEST(store__ends_requests_on_another_thread)
{
	uint8_t *data = conform_memory(DRIVE_DEPTH * 4096);
	struct iovec iov[DRIVE_DEPTH];
	struct req req[DRIVE_DEPTH];
	pthread_t thread;
	uint32_t i, turn;

	CONFORM_BEGIN(store, d);
	for (turn = 0; turn < 20; turn++) {
		for (i = 0; i < DRIVE_DEPTH; i++) {
			iov[i] = (struct iovec){ data + i * 4096, 4096 };
			req[i] = (struct req){ .io = { .offset = i * 4096,
						       .bytes = 4096,
						       .iov = &iov[i],
						       .iov_count = 1 } };
			drive_begin(&d, &req[i], turn % 2 ? DRIVE_READ : DRIVE_WRITE);
		}
		if (turn % 4 == 0)
			drive_commit(&d);
		must(!pthread_create(&thread, NULL, conform_elsewhere, &d));
		must(!pthread_join(thread, NULL));
		for (i = 0; i < DRIVE_DEPTH; i++)
			must(req[i].ends == 1 && req[i].end == VMBUS_IO_OK);
	}
	CONFORM_END(store, d);
	free(data);
}
END_TEST

START_TEST(store__is_opened_again_with_its_contents)
{
	uint8_t *data = conform_memory(65536), *back = conform_memory(65536);
	uint32_t i;

	CONFORM_BEGIN(store, d);
	for (i = 0; i < 20; i++) {
		drive_fill(data, 65536, i);
		must_eq(drive_move(&d, DRIVE_WRITE, i * 65536, data, 65536), VMBUS_IO_OK);
		drive_close(&d);
		drive_open(&d, &store);
		must_eq(drive_move(&d, DRIVE_READ, i * 65536, back, 65536), VMBUS_IO_OK);
		must_same(v, back, data, 65536);
	}
	CONFORM_END(store, d);
	free(data);
	free(back);
}
END_TEST

/* Requests that are to end: each does, once, and the next channel finds the store as it was. */
START_TEST(store__ends_what_is_cancelled)
{
	struct req req[DRIVE_DEPTH];
	uint8_t *data = conform_memory(DRIVE_DEPTH * 65536u);
	struct iovec iov[DRIVE_DEPTH];
	uint32_t i;

	CONFORM_BEGIN(store, d);
	memset(req, 0, sizeof(req));
	for (i = 0; store.ops->cancel && i < DRIVE_DEPTH; i++) {
		iov[i] = (struct iovec){ data + i * 65536u, 65536 };
		req[i].io = (struct vmbus_io){
			.offset = i * 65536u, .bytes = 65536, .iov = &iov[i], .iov_count = 1
		};
		drive_begin(&d, &req[i], i % 2 ? DRIVE_WRITE : DRIVE_READ);
		if (i % 8 == 7)
			drive_commit(&d);
		if (i % 16 == 15)
			drive_cancel(&d);
	}
	drive_all(&d);
	for (i = 0; store.ops->cancel && i < DRIVE_DEPTH; i++) {
		must_eq(req[i].ends, 1);
		must(req[i].end == VMBUS_IO_OK || req[i].end == VMBUS_IO_GONE);
	}
	if (store.ops->cancel)
		drive_cancel(&d); /* nothing is under way */
	drive_close(&d);
	free(data);
	if (!drive_open_again(&d, &store)) {
		vmbus_store_destroy(&store);
		if (v->unmake)
			v->unmake();
		VMBUS_TEST_SKIP("the server ended when its client went in the midst");
	}
	data = conform_memory(4096);
	must(drive_move(&d, DRIVE_WRITE, 0, data, 4096) == VMBUS_IO_OK ||
	     (drive_over && drive_over()));
	CONFORM_END(store, d);
	free(data);
}
END_TEST

static inline void conform_tests(Suite *suite, const struct variant *variants, int n)
{
	TCase *const tc = vmbus_test_case(suite, "conform", 30);

	conform_variants = variants;
	tcase_add_loop_test(tc, store__tells_what_it_is, 0, n);
	tcase_add_loop_test(tc, store__begins_with_zeroes_and_keeps_what_is_written, 0, n);
	tcase_add_loop_test(tc, store__takes_pieces_of_any_number_and_alignment, 0, n);
	tcase_add_loop_test(tc, store__zeroes_ranges, 0, n);
	tcase_add_loop_test(tc, store__discards_ranges_and_nothing_else, 0, n);
	tcase_add_loop_test(tc, store__flushes_and_writes_through, 0, n);
	tcase_add_loop_test(tc, store__has_the_depth_under_way_at_once, 0, n);
	tcase_add_loop_test(tc, store__takes_a_request_from_within_done, 0, n);
	tcase_add_loop_test(tc, store__serves_queues_on_threads_at_once, 0, n);
	tcase_add_loop_test(tc, store__ends_requests_on_another_thread, 0, n);
	tcase_add_loop_test(tc, store__is_opened_again_with_its_contents, 0, n);
	tcase_add_loop_test(tc, store__ends_what_is_cancelled, 0, n);
}

#endif

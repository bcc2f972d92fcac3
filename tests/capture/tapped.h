/* SPDX-License-Identifier: MIT */
/*
 * A tap to test with: memory that its reader shares, and records as they come; and a file in memory.
 */
#ifndef VMBUS_TESTS_TAPPED_H
#define VMBUS_TESTS_TAPPED_H

#include "bus/fake.h"

#include <vmbus/tap.h>

struct tapped {
	void *mem;
	size_t bytes;
	unsigned int wakes, dones;
	struct vmbus_tap_reader *reader;
};

static inline void tapped_wake(void *ctx)
{
	__atomic_fetch_add(&((struct tapped *)ctx)->wakes, 1, __ATOMIC_RELAXED);
}

static inline void tapped_done(void *ctx)
{
	__atomic_fetch_add(&((struct tapped *)ctx)->dones, 1, __ATOMIC_RELAXED);
}

static inline struct vmbus_tap_opts tapped_opts(struct tapped *t, uint32_t bytes)
{
	t->bytes = bytes;
	t->mem = aligned_alloc(4096, bytes);
	must(t->mem != NULL);
	return (struct vmbus_tap_opts){ .struct_bytes = sizeof(struct vmbus_tap_opts),
					.mem = t->mem,
					.bytes = bytes,
					.wake = tapped_wake,
					.done = tapped_done,
					.ctx = t };
}

static inline void tapped_begin(struct tapped *t, struct vmbus_chan *chan, uint32_t bytes,
				uint32_t snap)
{
	struct vmbus_tap_opts opts;

	memset(t, 0, sizeof(*t));
	opts = tapped_opts(t, bytes);
	opts.snap = snap;
	must_eq(vmbus_chan_tap(chan, &opts), 0);
	must_eq(vmbus_tap_reader_create(t->mem, t->bytes, &t->reader), 0);
}

static inline void tapped_free(struct tapped *t)
{
	vmbus_tap_reader_destroy(t->reader);
	free(t->mem);
}

/* The next record, which must be there and of that kind. */
static inline struct vmbus_capture_record tapped_expect(struct tapped *t, uint32_t kind)
{
	struct vmbus_capture_record r;

	must_eq(vmbus_tap_reader_next(t->reader, &r), 1);
	must_eq(r.kind, kind);
	must(r.time_ns > 1000000000ull * 1000000000ull);
	return r;
}

/* A file in memory, written and read. */
struct file {
	uint8_t *bytes;
	size_t len, room, at;
	int err;     /* of the next write, or read */
	size_t most; /* bytes that one read brings, 0: all */
};

static inline int file_write(void *ctx, const void *bytes, size_t n)
{
	struct file *f = ctx;

	if (f->err)
		return f->err;
	if (f->room - f->len < n) {
		f->room = (f->room + n) * 2;
		f->bytes = realloc(f->bytes, f->room);
		must(f->bytes != NULL);
	}
	memcpy(f->bytes + f->len, bytes, n);
	f->len += n;
	return 0;
}

static inline long file_read(void *ctx, void *bytes, size_t n)
{
	struct file *f = ctx;

	if (f->err)
		return f->err;
	if (f->most && n > f->most)
		n = f->most;
	if (n > f->len - f->at)
		n = f->len - f->at;
	if (n)
		memcpy(bytes, f->bytes + f->at, n);
	f->at += n;
	return (long)n;
}

static inline struct vmbus_capture_writer *file_writer(struct file *f, const char *application)
{
	const struct vmbus_capture_writer_opts opts = { .struct_bytes = sizeof(opts),
							.write = file_write,
							.ctx = f,
							.application = application };
	struct vmbus_capture_writer *w;

	must_eq(vmbus_capture_writer_create(&opts, &w), 0);
	return w;
}

static inline struct vmbus_capture_reader *file_reader(struct file *f)
{
	const struct vmbus_capture_reader_opts opts = { .struct_bytes = sizeof(opts),
							.read = file_read,
							.ctx = f };
	struct vmbus_capture_reader *r;

	f->at = 0;
	must_eq(vmbus_capture_reader_create(&opts, &r), 0);
	return r;
}

#endif

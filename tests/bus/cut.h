/* SPDX-License-Identifier: MIT */
/*
 * A session of a child as a script that can be cut anywhere: after every message that the child
 * posts, every dispatch of one unit and every packet.  At the cut the bus is saved, the child's
 * memory is copied to a new mapping, everything old is destroyed, and a new bus goes on.  The child
 * itself, which is the script, notices nothing: it keeps its ends of the rings, moved to where its
 * memory is now.
 */
#ifndef VMBUS_TESTS_BUS_CUT_H
#define VMBUS_TESTS_BUS_CUT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/bus.h>

static int cut_dispatch(struct vmbus_bus *bus, uint32_t budget);
static uint32_t cut_post(struct vmbus_bus *bus, uint32_t conn_id, uint32_t type,
			 const void *payload, uint32_t bytes);

/* What the helpers of fake.h call. */
#define vmbus_bus_dispatch cut_dispatch
#define vmbus_bus_post_message cut_post
#include "fake.h"
#undef vmbus_bus_dispatch
#undef vmbus_bus_post_message

#define CUT_PAGES 256u
#define CUT_CHANS 4u
#define CUT_LOG ((size_t)1 << 20)
#define CUT_NEVER UINT32_MAX

enum cut_how {
	CUT_HERE,
	CUT_FORK
};

struct cut_log {
	uint8_t *bytes;
	size_t len;
};

struct cut {
	struct fake f;
	struct vmbus_region *region; /* of the bus that there is */
	struct fake_chan chan[CUT_CHANS];
	uint32_t point, at; /* this one, and where to cut */
	enum cut_how how;
	bool forked;
	struct cut_log messages, packets[CUT_CHANS];
	size_t state_bytes;
	void (*offer)(struct cut *cut);					 /* what a new bus needs */
	void (*saved)(struct cut *cut, const void *state, size_t bytes); /* NULL, or a look at it */
	void *ctx;
	/* What the bus changes lies in marked pages. */
	bool watch;
	struct vmbus_dirty dirty;
	uint64_t marks[CUT_PAGES / 64u];
	uint8_t *before; /* the child's memory before a dispatch */
	uint32_t changed;
};

static struct cut *cut_now; /* the helpers of fake.h know only their fake */
static struct vmbus_bus *volatile cut_left;

static inline void cut_log(struct cut_log *log, const void *bytes, size_t len)
{
	must(len <= CUT_LOG - log->len);
	memcpy(log->bytes + log->len, bytes, len);
	log->len += len;
}

static inline int cut_backend_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type,
				   const void *payload, uint32_t bytes)
{
	struct cut *cut = cut_now;
	const int err = fake_backend_post(ctx, vp, sint, type, payload, bytes);

	if (!err) {
		cut_log(&cut->messages, &vp, sizeof(vp));
		cut_log(&cut->messages, payload, bytes);
	}
	return err;
}

static inline void *cut_save(struct vmbus_bus *bus, size_t *bytes)
{
	size_t again = 0;
	void *state;

	must_eq(vmbus_bus_save(bus, NULL, 0, bytes), VMBUS_E_RANGE);
	state = malloc(*bytes);
	must(state != NULL);
	must_eq(vmbus_bus_save(bus, state, *bytes, &again), 0);
	must_eq(again, *bytes);
	return state;
}

/* Move a pointer from one mapping to the other. */
static inline void cut_move(const uint8_t *from, uint8_t *to, void *pointer)
{
	uint8_t *p;

	memcpy(&p, pointer, sizeof(p));
	if (p)
		p = to + (p - from);
	memcpy(pointer, &p, sizeof(p));
}

static inline void cut_move_mem(const uint8_t *from, uint8_t *to, struct vmbus_ring_mem *mem)
{
	cut_move(from, to, &mem->ctl_p);
	cut_move(from, to, &mem->data_p);
}

static inline void cut_new_memory(struct cut *cut)
{
	struct fake *f = &cut->f;
	uint8_t *const old = f->mem;
	const size_t bytes = f->pages * FAKE_PAGE;
	const int fd = memfd_create("child", MFD_CLOEXEC);
	uint32_t i;

	must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	f->mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(f->mem != MAP_FAILED);
	memcpy(f->mem, old, bytes);
	for (i = 0; i < CUT_CHANS; i++) {
		struct fake_chan *c = &cut->chan[i];

		cut_move_mem(old, f->mem, &c->tx_mem);
		cut_move_mem(old, f->mem, &c->rx_mem);
		cut_move_mem(old, f->mem, &c->tx.mem_p);
		cut_move_mem(old, f->mem, &c->rx.mem_p);
	}
	close(f->fd);
	f->fd = fd;
	f->opts.regions = f->regions;
}

static inline void cut_new_region(struct cut *cut)
{
	cut->region = malloc(sizeof(*cut->region));
	must(cut->region != NULL);
	*cut->region = (struct vmbus_region){ .bytes = cut->f.pages * FAKE_PAGE,
					      .host = cut->f.mem,
					      .fd = cut->f.fd,
					      .access = VMBUS_READ_WRITE };
	cut->f.regions[0] = cut->region;
}

/* Go on with another bus. */
static inline void cut_restore(struct cut *cut, const void *state, size_t bytes)
{
	char why[160] = "";
	int err;

	fake_create(&cut->f);
	cut->offer(cut);
	err = vmbus_bus_restore(cut->f.bus, state, bytes, why, sizeof(why));
	if (err)
		ck_abort_msg("cut at %u: %s: %s", cut->at, vmbus_err_name(err), why);
}

static inline void cut_do(struct cut *cut)
{
	struct vmbus_bus *const old = cut->f.bus;
	struct vmbus_region *const old_region = cut->region;
	uint8_t *const old_mem = cut->f.mem;
	size_t bytes;
	void *state = cut_save(old, &bytes);

	cut->state_bytes = bytes;
	if (cut->saved)
		cut->saved(cut, state, bytes);
	cut_new_memory(cut);
	if (cut->how == CUT_FORK) {
		const pid_t pid = fork();
		int status = -1;

		must(pid >= 0);
		if (pid > 0) { /* the other process runs the rest of the script */
			must(waitpid(pid, &status, 0) == pid);
			vmbus_bus_destroy(old);
			free(state);
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
		}
		cut->forked = true;
		cut_left = old; /* what it has is left alone */
	} else {
		memset(old_mem, 0xa5, cut->f.pages * FAKE_PAGE); /* nobody has use for it */
		vmbus_bus_destroy(old);
		must_eq(vmbus_region_pins(old_region), 0);
		munmap(old_mem, cut->f.pages * FAKE_PAGE);
		free(old_region);
	}
	cut_new_region(cut);
	cut_restore(cut, state, bytes);
	free(state);
}

/* A place where the session can be cut. */
static inline void cut_point(struct cut *cut)
{
	if (cut->point++ == cut->at)
		cut_do(cut);
}

static inline void cut_watch(struct cut *cut)
{
	uint32_t page;

	for (page = 0; page < CUT_PAGES; page++) {
		if (memcmp(cut->before + page * FAKE_PAGE, cut->f.mem + page * FAKE_PAGE,
			   FAKE_PAGE) == 0)
			continue;
		cut->changed++;
		if (!(cut->marks[page / 64u] >> page % 64u & 1u))
			ck_abort_msg("page %u was changed and is not marked (%s)", page,
				     vmbus_test_where);
	}
	memset(cut->marks, 0, sizeof(cut->marks));
}

static int cut_dispatch(struct vmbus_bus *bus, uint32_t budget)
{
	int done;

	if (cut_now->watch)
		memcpy(cut_now->before, cut_now->f.mem, CUT_PAGES * FAKE_PAGE);
	done = vmbus_bus_dispatch(bus, budget ? 1 : 0);
	must(done >= 0);
	if (cut_now->watch)
		cut_watch(cut_now);
	if (done)
		cut_point(cut_now);
	return done;
}

static uint32_t cut_post(struct vmbus_bus *bus, uint32_t conn_id, uint32_t type,
			 const void *payload, uint32_t bytes)
{
	const uint32_t status = vmbus_bus_post_message(bus, conn_id, type, payload, bytes);

	cut_point(cut_now);
	return status;
}

static inline void cut_begin(struct cut *cut)
{
	struct fake *f = &cut->f;
	uint32_t i;

	fake_prepare(f, CUT_PAGES);
	f->backend.post = cut_backend_post;
	cut_now = cut;
	cut->messages = (struct cut_log){ .bytes = malloc(CUT_LOG) };
	for (i = 0; i < CUT_CHANS; i++)
		cut->packets[i] = (struct cut_log){ .bytes = malloc(CUT_LOG) };
	memset(cut->chan, 0, sizeof(cut->chan));
	cut->point = 0;
	if (cut->watch) {
		cut->before = malloc(CUT_PAGES * FAKE_PAGE);
		must(cut->before != NULL);
		cut->dirty = (struct vmbus_dirty){ .bitmap = cut->marks, .frames = CUT_PAGES };
		f->opts.dirty = &cut->dirty;
	}
	f->opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f->opts.limits),
						  .version_max = VMBUS_PROTO_6_0 };
	cut_new_region(cut);
	fake_create(f);
	cut->offer(cut);
}

static inline void cut_end(struct cut *cut)
{
	uint32_t i;

	for (i = 0; i < CUT_CHANS; i++)
		fake_chan_free(&cut->chan[i]);
	fake_fini(&cut->f);
	must_eq(vmbus_region_pins(cut->region), 0);
	free(cut->region);
	free(cut->before);
}

static inline void cut_free_logs(struct cut *cut)
{
	uint32_t i;

	free(cut->messages.bytes);
	for (i = 0; i < CUT_CHANS; i++)
		free(cut->packets[i].bytes);
}

static inline void cut_compare(const struct cut_log *a, const struct cut_log *b, const char *what)
{
	size_t i;

	for (i = 0; i < a->len && i < b->len && a->bytes[i] == b->bytes[i]; i++)
		;
	if (a->len != b->len || i != a->len)
		ck_abort_msg("%s: %zu bytes, %zu without a cut; first difference at %zu (%s)", what,
			     a->len, b->len, i, vmbus_test_where);
}

static inline void cut_same(const struct cut *a, const struct cut *b)
{
	uint32_t i;

	cut_compare(&a->messages, &b->messages, "messages");
	for (i = 0; i < CUT_CHANS; i++)
		cut_compare(&a->packets[i], &b->packets[i], "packets");
}

#endif

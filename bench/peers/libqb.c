/* SPDX-License-Identifier: MIT */
/*
 * libqb's ring buffer of chunks of any length, without its semaphores, so that both sides poll like
 * all others.  It creates files of its own in /dev/shm; both sides inherit the mapping.
 */
#include "../loop.h"
#include "../subject.h"

#include <qb/qbconfig.h>
#include <qb/qbrb.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

struct qb_state {
	qb_ringbuffer_t *rb;
};

static const char *qb_version(void)
{
	return QB_VER_STR;
}

static const char *qb_refuses(const struct cell *cell)
{
	if (cell->payload + 64u > cell->ring_bytes)
		return "chunk larger than the ring takes";
	if (cell->producers != 1u)
		return "one producer only";
	return NULL;
}

static size_t qb_bytes(const struct chan *chan)
{
	(void)chan;
	return 0; /* maps its own */
}

static void qb_unlink(const char *name, const char *part)
{
	char path[128];

	snprintf(path, sizeof(path), "/dev/shm/qb-%s-%s", name, part);
	(void)unlink(path);
}

static int qb_setup(struct chan *chan)
{
	static unsigned serial;
	char name[64];

	snprintf(name, sizeof(name), "vmbus-bench-%ld-%u", (long)getpid(), serial++);
	chan->priv = qb_rb_open(
		name, chan->cell->ring_bytes,
		QB_RB_FLAG_CREATE | QB_RB_FLAG_SHARED_PROCESS | QB_RB_FLAG_NO_SEMAPHORE, 0);
	if (!chan->priv)
		return -1;
	/* Both sides have it mapped: nothing may stay behind when the program is killed. */
	qb_unlink(name, "header");
	qb_unlink(name, "data");
	return 0;
}

static void qb_teardown(struct chan *chan)
{
	qb_rb_close(chan->priv);
}

static void qb_open(struct qb_state *st, struct chan *chan, struct side *side)
{
	(void)side;
	st->rb = chan->priv;
}

static inline uint32_t qb_send(struct qb_state *st, struct side *side, uint32_t first, uint32_t n)
{
	(void)n;
	return qb_rb_chunk_write(st->rb, side_packet(side, first), side->payload) > 0;
}

static inline uint32_t qb_receive(struct qb_state *st, struct side *side, uint32_t n)
{
	(void)n;
	if (qb_rb_chunk_read(st->rb, side->buf, side->payload, 0) != (ssize_t)side->payload)
		return 0;
	side_check(side, side->buf);
	return 1;
}

SUBJECT_LOOPS(qb, struct qb_state, qb_open, qb_open, qb_send, qb_receive);

const struct subject subject_libqb = {
	.name = "libqb",
	.what = "libqb's ring buffer, chunks of any length",
	.caps = CAP_VARIABLE,
	.version = qb_version,
	.refuses = qb_refuses,
	.bytes = qb_bytes,
	.setup = qb_setup,
	.produce = qb_produce,
	.consume = qb_consume,
	.ping = qb_ping,
	.pong = qb_pong,
	.teardown = qb_teardown,
};

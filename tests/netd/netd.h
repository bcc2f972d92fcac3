/* SPDX-License-Identifier: MIT */
/*
 * For tests of vmbus-switch as people run it: a switch in a process of its own, and its children, which
 * are ports of this library in the test's process or in others that do not outlive it.
 */
#ifndef VMBUS_TESTS_NETD_H
#define VMBUS_TESTS_NETD_H

#include "programs.h"

#include <vmbus/port_uplink.h>

#define NEEDS_SWITCH()                                                                             \
	do {                                                                                       \
		if (access(built("tools/vmbus-switch"), X_OK))                                     \
			VMBUS_TEST_SKIP("vmbus-switch was not built");                             \
	} while (0)

/* A switch; its socket is s.  It answers when this returns. */
static inline pid_t start_switch(const char *words)
{
	const uint64_t until = now_ns() + WAIT_NS;
	char command[512];
	pid_t pid;

	(void)snprintf(command, sizeof(command), "$sw serve s" SANDBOX " %s", words);
	pid = start(command, NULL);
	wait_for_file("s.ctl");
	while (shell("grep -q 'listening on' errors")) {
		ck_assert_msg(now_ns() < until, "the switch does not begin");
		a_while();
	}
	return pid;
}

/* The number behind name= in the line of what was said that begins with these words. */
static inline uint64_t counter(const char *line, const char *name)
{
	char key[64];
	const char *at = strstr(said, line), *end;

	ck_assert_msg(at != NULL, "no line %s in: %s", line, said);
	end = strchr(at + 1, '\n');
	(void)snprintf(key, sizeof(key), " %s=", name);
	at = strstr(at, key);
	ck_assert_msg(at && at < end, "no %s in %s: %s", name, line, said);
	return strtoull(at + strlen(key), NULL, 10);
}

/* ---- a child that is a port ---- */

#define FRAME_BYTES 128u

struct end {
	struct vmbus_port port;
	struct vmbus_port_queue queue;
	uint8_t mac[6];
	uint64_t got, wrong;	/* frames; of other senders than is expected, or out of order */
	uint32_t next;		/* the number of the next frame from whom it listens to */
	const struct end *from; /* whose frames count; NULL: all */
	bool full;		/* takes nothing */
	uint64_t refused;	/* while it is */
	uint32_t buffer_bytes;	/* of its port; 0: as usual */
	uint64_t timeout_ns;	/* of its port; 0: as usual */
	bool counts;		/* looks at numbers */
	bool changed;
};

static inline void end_changed(void *ctx)
{
	((struct end *)ctx)->changed = true;
}

static inline uint32_t end_deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
				   uint32_t n)
{
	struct end *const e = queue->up_p;
	uint32_t i, number;

	if (e->full) {
		e->refused += n;
		return 0;
	}
	for (i = 0; i < n; i++) {
		must(frame[i].piece[0].len >= 60);
		if (e->from &&
		    memcmp((const uint8_t *)frame[i].piece[0].base + 6, e->from->mac, 6) != 0)
			continue;
		e->got++;
		memcpy(&number, (const uint8_t *)frame[i].piece[0].base + 14, sizeof(number));
		if (e->counts && number != e->next++)
			e->wrong++;
	}
	return n;
}

static inline void end_open(struct end *e, const char *name)
{
	char why[200] = "";
	const struct vmbus_port_uplink_opts opts = { .struct_bytes = sizeof(opts),
						     .path = in_place("s"),
						     .name = name,
						     .buffer_bytes = e->buffer_bytes,
						     .timeout_ns = e->timeout_ns,
						     .changed = end_changed,
						     .ctx = e,
						     .why = why,
						     .why_bytes = sizeof(why) };
	struct vmbus_port_info info;
	const int err = vmbus_port_uplink(&opts, &e->port);

	ck_assert_msg(err == 0, "%s: %s", name, why);
	must_eq(e->port.ops->info(e->port.ctx, &info), 0);
	memcpy(e->mac, info.mac, sizeof(e->mac));
	must_eq(info.queues, 1);
	must_eq(info.tso_max, 62780); /* of its NIC; who has larger ones cuts them */
	e->queue = (struct vmbus_port_queue){
		.ctx = e->port.ctx, .fd = -1, .up_p = e, .deliver_p = end_deliver
	};
	must_eq(e->port.ops->open(&e->queue), 0);
	must(e->queue.fd >= 0);
}

static inline void end_close(struct end *e)
{
	e->port.ops->close(&e->queue);
	vmbus_port_destroy(&e->port);
}

/* Wait for something, at most so many ms, and do it. */
static inline void end_turn(struct end *e, int ms)
{
	struct pollfd p = { .fd = e->queue.fd, .events = POLLIN };

	if (poll(&p, 1, ms) > 0)
		e->port.ops->ready(&e->queue);
}

/* One frame with a number, to whom (NULL: all); false: there is no room now. */
static inline bool end_send(struct end *e, const struct end *to, uint32_t number)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	uint8_t bytes[FRAME_BYTES] = { 0 };
	const struct vmbus_iov piece = { .base = bytes, .len = sizeof(bytes) };
	const struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = sizeof(bytes) };

	memcpy(bytes, to ? to->mac : all, 6);
	memcpy(bytes + 6, e->mac, 6);
	bytes[12] = 0x88; /* an EtherType for experiments */
	bytes[13] = 0xB5;
	memcpy(bytes + 14, &number, sizeof(number));
	return e->port.ops->send(&e->queue, &frame, 1) == 1;
}

static inline void until_got(struct end *e, uint64_t got)
{
	const uint64_t until = now_ns() + WAIT_NS;

	while (e->got < got) {
		ck_assert_msg(now_ns() < until, "%llu frames came of %llu",
			      (unsigned long long)e->got, (unsigned long long)got);
		end_turn(e, 10);
	}
}

#endif

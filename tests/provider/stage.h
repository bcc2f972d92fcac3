/* SPDX-License-Identifier: MIT */
/*
 * A host, a provider that is a raw socket, and a child made by hand, and the steps of a provider's
 * life.
 */
#ifndef VMBUS_TESTS_PROVIDER_STAGE_H
#define VMBUS_TESTS_PROVIDER_STAGE_H

#include "../bus/fake.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "script.h"

struct stage {
	struct fake f;
	struct fake_chan chan;
	struct vmbus_provider_host_opts opts;
	struct vmbus_provider_host *host;
	char path[64];
	char line[400];
	int sock;
	uint32_t bus;	 /* its number on the socket */
	uint32_t serial; /* of the opening told last */
	uint32_t flags;	 /* of PROVIDE */
	struct vmbus_guid instance;
	int refuse;
	bool with_helper;
	pid_t helper; /* the process that connects, if it is not this one */
};

static inline void on_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	struct stage *const s = ctx;

	(void)level;
	(void)snprintf(s->line, sizeof(s->line), "%s", line);
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

static inline int on_attach(void *ctx, const struct vmbus_provider_info *info)
{
	must(strcmp(info->name, "raw") == 0);
	must(info->pid ==
	     (((struct stage *)ctx)->helper ? ((struct stage *)ctx)->helper : getpid()));
	return ((struct stage *)ctx)->refuse;
}

/* Host and bus until neither has work. */
static inline void run(struct stage *s)
{
	uint32_t i;

	for (i = 0; i < FAKE_RUNS; i++) {
		const int a = vmbus_provider_host_dispatch(s->host, 64);
		const int b = vmbus_bus_dispatch(s->f.bus, 64);

		must(a >= 0 && b >= 0);
		if (!a && !b && !fake_readable(vmbus_provider_host_fd(s->host)) &&
		    !fake_readable(vmbus_bus_fd(s->f.bus)))
			return;
	}
	ck_abort_msg("never through");
}

static inline void run_until_dead(struct stage *s, uint64_t most_ns)
{
	const uint64_t end = fake_now_ns() + most_ns;

	while (!script_closed(s->sock)) {
		must(fake_now_ns() < end);
		run(s);
		usleep(1000);
	}
}

static inline void stage_prepare(struct stage *s)
{
	static unsigned int count;

	memset(s, 0, sizeof(*s));
	s->sock = -1;
	fake_prepare(&s->f, 256);
	s->f.region.fd = s->f.fd;
	(void)snprintf(s->path, sizeof(s->path), "/tmp/vmbus-ph-%d-%u.sock", (int)getpid(),
		       count++);
	s->opts = (struct vmbus_provider_host_opts){ .struct_bytes = sizeof(s->opts),
						     .path = s->path,
						     .attach = on_attach,
						     .log = on_log,
						     .ctx = s };
}

static inline void stage_start(struct stage *s)
{
	fake_create(&s->f);
	must_eq(vmbus_provider_listen(&s->opts, &s->host), 0);
	must_eq(vmbus_provider_host_add_bus(s->host, s->f.bus, s->f.regions, 1), 0);
}

static inline void stage_init(struct stage *s)
{
	stage_prepare(s);
	stage_start(s);
}

static inline void stage_fini(struct stage *s)
{
	if (s->sock >= 0)
		close(s->sock);
	run(s);
	fake_chan_free(&s->chan);
	vmbus_provider_host_remove_bus(s->host, s->f.bus);
	fake_fini(&s->f);
	vmbus_provider_host_destroy(s->host);
	must(access(s->path, F_OK) != 0);
}

/* The next message of the host must be of this type and have so many descriptors. */
static inline struct vmbus__pv_msg expect(struct stage *s, uint32_t type, int fds)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;

	run(s);
	if (!script_take(s->sock, &record, &msg))
		ck_abort_msg("no message, expected type %u (%s; %s)", type, vmbus_test_where,
			     s->line);
	must_eq(record.fd_count, fds);
	vmbus__shm_record_close(&record);
	must_eq(msg.type, type);
	return msg;
}

static inline void expect_none(struct stage *s)
{
	struct vmbus__shm_record record;

	run(s);
	must_eq(vmbus__shm_recv(s->sock, &record), 0);
}

static inline void drop_signals(struct stage *s)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	uint8_t header[16];

	run(s);
	while (recv(s->sock, header, sizeof(header), MSG_PEEK | MSG_DONTWAIT) == sizeof(header) &&
	       header[6] == VMBUS_PV_SIGNAL)
		must(script_take(s->sock, &record, &msg));
}

static inline void say(struct stage *s, uint32_t type)
{
	const struct vmbus__pv_msg msg = { .type = type, .bus = s->bus, .open = s->serial };

	script_send(s->sock, &msg);
	run(s);
}

/* A process connects, gives us the socket, and is still there. */
static inline int helper_connect(struct stage *s)
{
	const struct vmbus__pv_msg any = { .type = VMBUS_PV_YIELDED };
	struct vmbus__shm_record record;
	int pair[2], fd;

	must_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	s->helper = fork();
	must(s->helper >= 0);
	if (s->helper == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = vmbus__shm_connect(s->path, 1000 * MS);
		(void)vmbus__pv_send(pair[1], &any, &fd, 1);
		for (;;)
			pause();
	}
	while (vmbus__shm_recv(pair[0], &record) == 0)
		usleep(1000);
	must_eq(record.fd_count, 1);
	close(pair[0]);
	close(pair[1]);
	return record.fds[0];
}

static inline void reach(struct stage *s)
{
	struct vmbus__pv_msg msg = script_provide(s->flags);

	msg.instance_id = s->instance;
	if (s->sock >= 0)
		close(s->sock);
	s->sock = s->with_helper ? helper_connect(s) : vmbus__shm_connect(s->path, 1000 * MS);
	must(s->sock >= 0);
	script_send(s->sock, &msg);
}

/* The steps of a provider's life, each a message of its own or an answer. */
enum step {
	S_PROVIDE,
	S_READY,
	S_CHILD_OPENS,
	S_OPENED,
	S_CHILD_CLOSES,
	S_CLOSED,
	S_DONE,
	STEPS
};

static inline void child_opens(struct stage *s)
{
	struct fake *const f = &s->f;

	fake_rings(f, &s->chan, 4, 4);
	s->chan.gpadl = f->next_gpadl++;
	must_eq(fake_share(f, s->chan.relid, s->chan.gpadl, s->chan.first, 8), 0);
	fake_post_open(f, &s->chan, 0);
}

static inline void provide(struct stage *s)
{
	reach(s);
	(void)expect(s, VMBUS_PV_PROVIDED, 0);
	s->bus = expect(s, VMBUS_PV_BUS, 0).bus;
	(void)expect(s, VMBUS_PV_REGION, 1);
}

static inline void step(struct stage *s, enum step what)
{
	struct vmbus__pv_msg msg = { 0 };

	vmbus_test_at("step %d, last line: %.120s", (int)what, s->line);
	switch (what) {
	case S_PROVIDE:
		provide(s);
		if (!s->f.version)
			fake_contact(&s->f, VMBUS_PROTO_5_3);
		break;
	case S_READY:
		say(s, VMBUS_PV_BUS_READY);
		if (!s->chan.relid)
			must_eq(fake_offers(&s->f, &s->chan, 1), 1);
		break;
	case S_CHILD_OPENS:
		child_opens(s);
		msg = expect(s, VMBUS_PV_GPADL, 0);
		must_eq(msg.gpadl, s->chan.gpadl);
		must_eq(msg.count, 9);
		must_eq(msg.qwords[0], 8 * FAKE_PAGE);
		must_eq(msg.qwords[1], s->chan.first);
		msg = expect(s, VMBUS_PV_OPEN, s->flags & VMBUS_PV_RESUMABLE ? 2 : 1);
		must_eq(msg.down_page, 4);
		must_eq(msg.user[0], 0x5a);
		s->serial = msg.open;
		(void)expect(s, VMBUS_PV_SIGNAL, 0); /* for what came before it was bound */
		fake_expect_none(&s->f);
		break;
	case S_OPENED:
		say(s, VMBUS_PV_OPENED);
		drop_signals(s); /* the bus looks at whatever is open */
		break;
	case S_CHILD_CLOSES:
		fake_post_close(&s->f, &s->chan);
		fake_post_teardown(&s->f, s->chan.relid, s->chan.gpadl);
		(void)expect(s, VMBUS_PV_CLOSE, 0);
		break;
	case S_CLOSED:
		say(s, VMBUS_PV_CLOSED);
		(void)expect(s, VMBUS_PV_GPADL_GONE, 0);
		break;
	case S_DONE:
	default:
		msg.type = VMBUS_PV_GPADL_DONE;
		msg.bus = s->bus;
		msg.gpadl = s->chan.gpadl;
		script_send(s->sock, &msg);
		run(s);
		break;
	}
}

static inline void steps_to(struct stage *s, enum step last)
{
	uint32_t i;

	for (i = 0; i <= (uint32_t)last; i++)
		step(s, (enum step)i);
}

#endif

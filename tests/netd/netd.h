/* SPDX-License-Identifier: MIT */
/*
 * For tests of vmbus-switch as people run it: a switch in a process of its own, and its children, which
 * are ports of this library in the test's process or in others that do not outlive it.
 */
#ifndef VMBUS_TESTS_NETD_H
#define VMBUS_TESTS_NETD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/port_uplink.h>

#include "vmbus_test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED /* which makes system calls of its own */
#define SANDBOX " --no-sandbox"
#else
#define SANDBOX ""
#endif

#define WAIT_NS 30000000000u

static char place[64];	 /* a folder of the test's */
static char said[65536]; /* by the last command */

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void a_while(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

static inline const char *built(const char *name)
{
	static char path[2][512];
	static unsigned int turn;
	const char *const build = getenv("VMBUS_BUILD_DIR");
	char *const to = path[turn++ % 2];

	(void)snprintf(to, sizeof(path[0]), "%s/%s", build ? build : ".", name);
	return to;
}

#define NEEDS_SWITCH()                                                                             \
	do {                                                                                       \
		if (access(built("tools/vmbus-switch"), X_OK))                                     \
			VMBUS_TEST_SKIP("vmbus-switch was not built");                             \
	} while (0)

/* A command of the shell's in the folder, with sw for the program; what it says, and its status. */
static inline int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int shell(const char *format, ...)
{
	char command[2048];
	va_list args;
	FILE *pipe;
	int n, status;
	size_t got;

	n = snprintf(command, sizeof(command), "cd %s; sw=%s; ", place,
		     built("tools/vmbus-switch"));
	va_start(args, format);
	(void)vsnprintf(command + n, sizeof(command) - (size_t)n, format, args);
	va_end(args);
	pipe = popen(command, "re");
	must(pipe != NULL);
	got = fread(said, 1, sizeof(said) - 1, pipe);
	said[got] = 0;
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define must_say(part) ck_assert_msg(strstr(said, part) != NULL, "it said: %s", said)

/* A program in the folder, by the shell, which becomes it; errors go to the file "errors". */
static inline pid_t start(const char *command)
{
	char text[2048];
	pid_t pid;

	(void)snprintf(text, sizeof(text), "cd %s; sw=%s; blk=%s; exec %s 2>>errors", place,
		       built("tools/vmbus-switch"), built("tools/vmbus-blk"), command);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sh", "sh", "-c", text, NULL);
		_exit(127);
	}
	return pid;
}

/* Its exit status, or 128 and the signal; killed when it takes too long. */
static inline int end_of(pid_t pid)
{
	const uint64_t until = now_ns() + WAIT_NS;
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now_ns() > until)
			kill(pid, SIGKILL);
		a_while();
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int stop(pid_t pid)
{
	kill(pid, SIGTERM);
	return end_of(pid);
}

static inline void begin(void)
{
	(void)snprintf(place, sizeof(place), "/tmp/vmbus-netd-%d", (int)getpid());
	must_eq(mkdir(place, 0700), 0);
}

static inline void finish(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", place);
	must_eq(system(command), 0);
}

static inline const char *in_place(const char *name)
{
	static char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", place, name);
	return path;
}

static inline void wait_for_file(const char *name)
{
	const uint64_t until = now_ns() + WAIT_NS;

	while (access(in_place(name), F_OK)) {
		if (now_ns() >= until) {
			(void)shell("cat errors");
			ck_abort_msg("%s does not come: %s", name, said);
		}
		a_while();
	}
}

/* A switch; its socket is s.  It answers when this returns. */
static inline pid_t start_switch(const char *words)
{
	const uint64_t until = now_ns() + WAIT_NS;
	char command[512];
	pid_t pid;

	(void)snprintf(command, sizeof(command), "$sw serve s" SANDBOX " %s", words);
	pid = start(command);
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

	if (e->full)
		return 0;
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

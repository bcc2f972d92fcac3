/* SPDX-License-Identifier: MIT */
/*
 * Set-ups that are broken in one way: a parent in this process, children that are processes, and
 * vmbusctl, which is one too.
 */
#ifndef VMBUS_TESTS_DIAG_BROKEN_H
#define VMBUS_TESTS_DIAG_BROKEN_H

#include "shm/guests.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "../../backends/shm/parent.h"

struct out {
	char text[1 << 18]; /* standard output and standard error */
	int status;
};

static inline const char *tool(void)
{
	static char path[512];
	const char *build = getenv("VMBUS_BUILD_DIR");

	(void)snprintf(path, sizeof(path), "%s/tools/vmbusctl", build ? build : ".");
	return path;
}

#define NEED_TOOL()                                                                                \
	do {                                                                                       \
		if (access(tool(), X_OK))                                                          \
			VMBUS_TEST_SKIP("vmbusctl is not built");                                  \
	} while (0)

/* The tool in a thread, while this one serves. */
struct runner {
	pthread_t thread;
	char command[1100];
	struct out out;
	int done;
};

static inline void *run_thread(void *arg)
{
	struct runner *const r = arg;
	FILE *const pipe = popen(r->command, "re");
	size_t len = 0;
	int status = -1;

	if (pipe) {
		len = fread(r->out.text, 1, sizeof(r->out.text) - 1, pipe);
		status = pclose(pipe);
	}
	r->out.text[len] = 0;
	r->out.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	__atomic_store_n(&r->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Run the tool; %s in args is the socket. */
static inline const struct out *ctl(struct host *host, const char *args)
{
	static struct runner runner;
	char text[512];

	memset(&runner, 0, sizeof(runner));
	(void)snprintf(text, sizeof(text), args, host->path);
	(void)snprintf(runner.command, sizeof(runner.command), "%s %s 2>&1", tool(), text);
	must_eq(pthread_create(&runner.thread, NULL, run_thread, &runner), 0);
	host_until(host, __atomic_load_n(&runner.done, __ATOMIC_ACQUIRE));
	must_eq(pthread_join(runner.thread, NULL), 0);
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s", runner.out.text);
	return &runner.out;
}

static inline unsigned int count(const char *text, const char *what)
{
	unsigned int n = 0;

	for (text = strstr(text, what); text; text = strstr(text + 1, what))
		n++;
	return n;
}

/* The doctor finds this, so often, and nothing else. */
static inline void expect_found(struct host *host, const char *code, unsigned int times)
{
	const struct out *const out = ctl(host, "doctor -s %s -t 20 -g 0.2 -i 0.2 --json");
	char member[96];

	(void)snprintf(member, sizeof(member), "\"code\": \"%s\"", code);
	if (count(out->text, member) != times || count(out->text, "\"code\"") != times)
		ck_abort_msg("%s expected, %u times: %s", code, times, out->text);
	must_eq(out->status, times ? 1 : 0);
	must(strstr(out->text, "\"complete\": true") != NULL);
}

/* Serve for so long. */
static inline void serve_for(struct host *host, uint64_t ns)
{
	const uint64_t end = vmbus__shm_now_ns() + ns;

	host_until(host, vmbus__shm_now_ns() >= end);
}

/* A channel of the child that attached last, by its place; false: there is none. */
static inline bool look(struct host *host, uint32_t place, struct vmbus_chan_diag *diag)
{
	uint32_t at = 0;

	if (!host->child)
		return false;
	while (vmbus_bus_diag_next(vmbus_shm_child_bus(host->child), &at, diag))
		if (place-- == 0)
			return true;
	return false;
}

/* What the child process does once it is connected. */
enum kid_does {
	KID_NOTHING, /* connects, and opens nothing */
	KID_OPENS,   /* opens channel 0 of the class and is idle */
	KID_REFUSED, /* the same, and the open must fail */
	KID_LOSES,   /* opens, is served once; its doorbells are lost from then on, and it sends */
	KID_SENDS,   /* opens, and sends 20 requests without waiting */
	KID_NO_CONTACT /* attaches, and makes no contact */
};

/* Every eventfd of this process is another one from now on, which nobody watches. */
static inline void lose_eventfds(void)
{
	DIR *const dir = opendir("/proc/self/fd");
	struct dirent *entry;
	char link[64], path[64];
	int fds[64], n = 0, i;

	while (dir && (entry = readdir(dir)) && n < 64) {
		ssize_t len;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%.20s", entry->d_name);
		len = readlink(path, link, sizeof(link) - 1);
		link[len > 0 ? len : 0] = 0;
		if (strstr(link, "[eventfd]"))
			fds[n++] = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	for (i = 0; i < n; i++) {
		const int other = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

		(void)dup2(other, fds[i]);
		close(other);
	}
}

static inline void kid_request(struct guest_run *run)
{
	uint8_t buf[64];
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = buf };
	const uint32_t n = run->chan[0].sent++;

	msg.len = guest_fill(buf, 0, n, 64);
	(void)vmbus_vsc_request(run->chan[0].vsc, &msg, (void *)(uintptr_t)n);
}

static inline int kid_open(struct guest_run *run, enum kid_does does)
{
	const int status = guest_open(run);
	uint32_t i;

	if (does == KID_REFUSED)
		return status == GUEST_NO_OPEN ? 0 : GUEST_WRONG;
	if (status)
		return status;
	if (does == KID_SENDS)
		for (i = 0; i < 20; i++)
			kid_request(run);
	if (does == KID_LOSES) {
		const uint64_t end = vmbus__shm_now_ns() + SECOND_NS / 4;

		kid_request(run);
		while (run->done == 0 || vmbus__shm_now_ns() < end)
			if (vmbus_shm_attach_dispatch(run->attach, 16) == 0)
				(void)vmbus_shm_attach_wait(run->attach, 10000000);
		lose_eventfds();
		kid_request(run);
	}
	return 0;
}

static inline int kid_main(const char *path, enum kid_does does)
{
	static const struct job job = {
		.channels = 1, .payload = 64, .ring = 65536, .memory = 4 << 20, .vps = 1
	};
	static struct guest_run run;
	int status;

	run.job = &job;
	guest_now = &run;
	status = guest_attach(&run, path);
	if (!status && does != KID_NO_CONTACT &&
	    (vmbus_guest_connect(run.guest) ||
	     vmbus_guest_wait(run.guest, VMBUS_GUEST_CONNECTED, 20ull * SECOND_NS)))
		status = GUEST_NO_CONNECT;
	if (!status && does != KID_NOTHING && does != KID_NO_CONTACT)
		status = kid_open(&run, does);
	while (!status && !guest_lost(&run))
		(void)vmbus_shm_attach_wait(run.attach, 50000000);
	return status;
}

static inline pid_t kid_start(struct host *host, enum kid_does does)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	alarm(100);
	_exit(kid_main(host->path, does));
}

static inline void kid_kill(struct host *host, pid_t pid)
{
	const unsigned int before = host->detached;

	kill(pid, SIGKILL);
	must_eq(guest_end(host, pid), 1000 + SIGKILL);
	host_until(host, host->detached > before);
}

#endif

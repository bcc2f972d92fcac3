/* SPDX-License-Identifier: MIT */
/*
 * For tests of programs as people run them: each is a process of its own that does not outlive the test,
 * in a folder of the test's, and what it says is looked at.
 */
#ifndef VMBUS_TESTS_PROGRAMS_H
#define VMBUS_TESTS_PROGRAMS_H

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
	static char path[4][512];
	static unsigned int turn;
	const char *const build = getenv("VMBUS_BUILD_DIR");
	char *const to = path[turn++ % 4];

	(void)snprintf(to, sizeof(path[0]), "%s/%s", build ? build : ".", name);
	return to;
}

#define SETTING "cd %s; blk=%s; sw=%s; "

/* A command of the shell's in the folder, with blk and sw for the programs; what it says, and its status. */
static inline int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int shell(const char *format, ...)
{
	char command[2048];
	va_list args;
	FILE *pipe;
	int n, status;
	size_t got;

	n = snprintf(command, sizeof(command), SETTING, place, built("tools/vmbus-blk"),
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

/* A program in the folder, by the shell, which becomes it; errors go to the file "errors".  out: NULL, or
   where to read what it says. */
static inline pid_t start(const char *command, int *out)
{
	char text[2048];
	int ends[2] = { -1, -1 };
	pid_t pid;

	(void)snprintf(text, sizeof(text), SETTING "exec %s 2>>errors", place,
		       built("tools/vmbus-blk"), built("tools/vmbus-switch"), command);
	must(!out || pipe2(ends, O_CLOEXEC) == 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (out)
			dup2(ends[1], STDOUT_FILENO);
		execl("/bin/sh", "sh", "-c", text, NULL);
		_exit(127);
	}
	if (out) {
		close(ends[1]);
		*out = ends[0];
	}
	return pid;
}

/* Its exit status, or 128 and the signal; killed when it takes too long. */
static inline int end_of(pid_t pid)
{
	const uint64_t until = now_ns() + 4 * WAIT_NS;
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
	/* no pid in its name: numbers of processes come back, within one run of all tests even */
	(void)snprintf(place, sizeof(place), "/tmp/vmbus-test-XXXXXX");
	must(mkdtemp(place));
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

static inline bool is_there(const char *name)
{
	return access(in_place(name), F_OK) == 0;
}

static inline void wait_for_file(const char *name)
{
	const uint64_t until = now_ns() + WAIT_NS;

	while (!is_there(name)) {
		if (now_ns() >= until) {
			(void)shell("cat errors");
			ck_abort_msg("%s does not come: %s", name, said);
		}
		a_while();
	}
}

#endif

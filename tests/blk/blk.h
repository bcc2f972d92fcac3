/* SPDX-License-Identifier: MIT */
/*
 * For tests of vmbus-blk as people run it: a parent, providers and loads, each a process of its own
 * that does not outlive the test.
 */
#ifndef VMBUS_TESTS_BLK_H
#define VMBUS_TESTS_BLK_H

#include "programs.h"

/* What one channel writes and another reads is put in order by the client, which is another process. */
#if defined(__SANITIZE_THREAD__)
#define BLK_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BLK_TSAN 1
#endif
#endif
#ifndef BLK_TSAN
#define BLK_TSAN 0
#endif

#define NEEDS_BLK()                                                                                \
	do {                                                                                       \
		if (BLK_TSAN)                                                                      \
			VMBUS_TEST_SKIP(                                                           \
				"the thread sanitizer does not see what another process orders");  \
		if (access(built("tools/vmbus-blk"), X_OK))                                        \
			VMBUS_TEST_SKIP("vmbus-blk was not built");                                \
	} while (0)

/* A parent with these disks of its own; its socket is p. */
static inline pid_t start_parent(const char *disks, int *out)
{
	char command[512];
	pid_t pid;

	(void)snprintf(command, sizeof(command), "$blk parent --quiet -s p %s", disks);
	pid = start(command, out);
	wait_for_file("p");
	return pid;
}

static inline pid_t start_provider(const char *words)
{
	char command[512];

	(void)snprintf(command, sizeof(command), "$blk serve --quiet -s p" SANDBOX " %s", words);
	return start(command, NULL);
}

/* It has its channels open when this returns. */
static inline pid_t start_load(const char *words)
{
	const uint64_t until = now_ns() + WAIT_NS;
	char command[512];
	pid_t pid;

	(void)snprintf(command, sizeof(command),
		       "$blk load -s p --verify --seconds 1000 --json %s >load", words);
	pid = start(command, NULL);
	while (shell("grep -q 'load: begins' errors")) {
		ck_assert_msg(now_ns() < until, "the load does not begin");
		a_while();
	}
	return pid;
}

static inline uint64_t member(const char *json, const char *name)
{
	char key[64];
	const char *at;

	(void)snprintf(key, sizeof(key), "\"%s\": ", name);
	at = strstr(json, key);
	ck_assert_msg(at != NULL, "no %s in: %s", name, json);
	return strtoull(at + strlen(key), NULL, 10);
}

#endif

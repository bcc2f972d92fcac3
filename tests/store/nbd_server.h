/* SPDX-License-Identifier: MIT */
/* NBD servers for the tests of the store behind them: nbdkit with words, and parts of made-up ones. */
#ifndef NBD_SERVER_H
#define NBD_SERVER_H

#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <vmbus/store_nbd.h>

static char folder[64], uri[192], sock[128], image[128];
static char why[256];
static pid_t server;

static inline bool have(const char *program)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/usr/bin/%s", program);
	if (!access(path, X_OK))
		return true;
	(void)snprintf(path, sizeof(path), "/usr/sbin/%s", program);
	return !access(path, X_OK);
}

static inline void names(void)
{
	(void)snprintf(folder, sizeof(folder), "/tmp/vmbus-nbd-XXXXXX");
	must(mkdtemp(folder) != NULL);
	(void)snprintf(sock, sizeof(sock), "%s/s", folder);
	(void)snprintf(image, sizeof(image), "%s/image", folder);
	(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
}

static inline pid_t run(const char *const *argv)
{
	const pid_t pid = fork();

	must(pid >= 0);
	if (pid == 0) {
		const int null = open("/dev/null", O_RDWR);

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(null, 1);
		(void)dup2(null, 2);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	return pid;
}

/* Until the server listens. */
static inline void wait_for_server(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timespec ms = { .tv_nsec = 1000000 };
	int tries, fd, err = -1, status;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", sock);
	for (tries = 0; err && tries < DRIVE_DEADLINE_MS; tries++) {
		must(waitpid(server, &status, WNOHANG) == 0);
		if (access(sock, F_OK)) { /* it is bound a little before it listens */
			(void)nanosleep(&ms, NULL);
			continue;
		}
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		must(fd >= 0);
		err = connect(fd, (struct sockaddr *)&address, sizeof(address));
		must(!close(fd));
	}
	must(!err);
}

/*
 * nbdkit 1.32 aborts now and then, by an assertion of its own, when a client goes while it answers.
 * Its sockets are closed a little before it can be waited for.
 */
static inline bool server_over(void)
{
	siginfo_t info = { .si_pid = 0 };
	uint32_t ms;

	for (ms = 0; ms < 1000 && info.si_pid != server; ms++) {
		if (waitid(P_PID, (id_t)server, &info, WEXITED | WNOHANG | WNOWAIT))
			return false;
		if (info.si_pid != server)
			(void)usleep(1000);
	}
	return info.si_pid == server && info.si_status == SIGABRT &&
	       (info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED);
}

static inline void start(const char *const *argv)
{
	drive_over = server_over;
	server = run(argv);
	wait_for_server();
}

static inline void stop(void)
{
	int status;

	if (server) {
		must(!kill(server, SIGKILL));
		must(waitpid(server, &status, 0) == server);
	}
	server = 0;
	(void)unlink(sock);
	(void)unlink(image);
	(void)rmdir(folder);
}

static inline struct vmbus_store_nbd_opts options(void)
{
	return (struct vmbus_store_nbd_opts){ .struct_bytes = sizeof(struct vmbus_store_nbd_opts),
					      .uri = uri,
					      .why = why,
					      .why_bytes = sizeof(why) };
}

static inline int connect_store(struct vmbus_store *store)
{
	const struct vmbus_store_nbd_opts opts = options();
	const int err = vmbus_store_nbd(&opts, store);

	vmbus_test_at("%s", why);
	return err;
}

/* nbdkit with filters and arguments; up to six words. */
static inline const char *nbdkit(struct vmbus_store *store, const char *const *more)
{
	const char *argv[12] = { "nbdkit", "-f", "-U", sock };
	uint32_t n = 4;

	if (!have("nbdkit"))
		return "nbdkit is not installed";
	names();
	while (*more)
		argv[n++] = *more++;
	start(argv);
	must_eq(connect_store(store), 0);
	return NULL;
}

#define NEED_NBDKIT()                                                                              \
	do {                                                                                       \
		if (!have("nbdkit"))                                                               \
			VMBUS_TEST_SKIP("nbdkit is not installed");                                \
	} while (0)

/* The old greeting: a size and flags, and nothing to agree on. */
static const uint8_t greeting[152] = { 'N',  'B',  'D',	 'M',  'A',  'G',  'I', 'C', 0, 0,
				       0x42, 0x02, 0x81, 0x86, 0x12, 0x53, 0,	0,   0, 0,
				       1,    0,	   0,	 0,    0,    0,	   0,	1 };

static inline void put_be(uint8_t *to, uint64_t value, uint32_t bytes)
{
	while (bytes--) {
		to[bytes] = (uint8_t)(value & 0xFFu);
		value >>= 8;
	}
}

/* Until the queue waits for its bell and one connection: its own is there, where it is to have one. */
static inline void settle(struct drive *d)
{
	char path[64], line[128];
	uint32_t watched, turn;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", d->queue.fd);
	for (turn = 0; turn < DRIVE_DEADLINE_MS; turn++) {
		FILE *const file = fopen(path, "re");

		must(file != NULL);
		for (watched = 0; fgets(line, sizeof(line), file);)
			watched += strncmp(line, "tfd:", 4) == 0;
		must(!fclose(file));
		if (watched == 2)
			return;
		(void)drive_wait(d, 1);
	}
	must(watched == 2);
}

#endif

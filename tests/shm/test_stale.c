/* SPDX-License-Identifier: MIT */
/* A socket that nobody listens behind, and who takes its place: backends/shm/socket.c. */
#include "shm/host.h"

#include <sys/syscall.h>

static const struct vmbus_shm_server_opts *rival; /* listens when we have looked at the socket */
static pid_t rival_pid;
static const char *vanishes; /* this path, when we have looked at it */
static int no_exchange;	     /* errno of a system that cannot */

static void rival_listens(void)
{
	const struct vmbus_shm_server_opts *const opts = rival;
	struct vmbus_shm_server *server;
	char word = 0;
	int ends[2];

	rival = NULL;
	if (!opts)
		return;
	must_eq(pipe(ends), 0);
	rival_pid = fork();
	if (rival_pid == 0) {
		word = vmbus_shm_listen(opts, &server) ? 'n' : 'y';
		must_eq(write(ends[1], &word, 1), 1);
		pause();
		_exit(0);
	}
	must_eq(read(ends[0], &word, 1), 1);
	must_eq(word, 'y');
	close(ends[0]);
	close(ends[1]);
}

/* In front of the C library's. */
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
	rival_listens();
	if (vanishes)
		unlink(vanishes);
	if (flags && no_exchange) {
		errno = no_exchange;
		return -1;
	}
	return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

START_TEST(shm_listen__two_over_one_stale_socket)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat before, after;
	struct host host;
	char own[80];
	int sock;

	host_init(&host);
	memcpy(at.sun_path, host.path, sizeof(host.path));
	sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	must_eq(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	must_eq(lstat(host.path, &before), 0);
	close(sock);
	rival = &host.opts;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_STATE);
	must_eq(errno, EADDRINUSE);
	must(rival == NULL);
	must_eq(lstat(host.path, &after), 0);
	must(before.st_ino != after.st_ino);
	close(raw_connect(host.path)); /* the other one has it */
	(void)snprintf(own, sizeof(own), "%s.%x", host.path, (unsigned int)getpid());
	must_eq(access(own, F_OK), -1);
	must_eq(unlink(host.path), 0);
	must_eq(kill(rival_pid, SIGKILL), 0);
	must_eq(waitpid(rival_pid, NULL, 0), rival_pid);
}
END_TEST

/* One that cannot change places is replaced; one that is gone by then leaves its name. */
START_TEST(shm_listen__a_stale_socket_that_cannot_be_exchanged)
{
	static const int errors[] = { EINVAL, ENOSYS, EPERM, 0 };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct host host;
	unsigned int i;
	int sock;

	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		vmbus_test_at("error %d", errors[i]);
		host_init(&host);
		memcpy(at.sun_path, host.path, sizeof(host.path));
		sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		must_eq(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
		close(sock);
		no_exchange = errors[i];
		vanishes = errors[i] ? NULL : host.path;
		host_listen(&host);
		vanishes = NULL;
		close(raw_connect(host.path));
		host_close(&host);
	}
	host_init(&host);
	memcpy(at.sun_path, host.path, sizeof(host.path));
	sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	must_eq(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	close(sock);
	no_exchange = EIO;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_SYSTEM);
	must_eq(errno, EIO);
	must_eq(unlink(host.path), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "stale", 2);

	tcase_add_test(tc, shm_listen__two_over_one_stale_socket);
	tcase_add_test(tc, shm_listen__a_stale_socket_that_cannot_be_exchanged);
}

VMBUS_TEST_MAIN("shm.stale", tests)

/* SPDX-License-Identifier: MIT */
/* The store behind NBD servers: nbdkit and qemu-nbd, in several ways of theirs, and servers that lie. */
#if defined(VMBUS_HAVE_NBD)
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <vmbus/store_nbd.h>

static char folder[64], uri[192], sock[128], image[128];
static char why[256];
static pid_t server;

static bool have(const char *program)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/usr/bin/%s", program);
	if (!access(path, X_OK))
		return true;
	(void)snprintf(path, sizeof(path), "/usr/sbin/%s", program);
	return !access(path, X_OK);
}

static void names(void)
{
	(void)snprintf(folder, sizeof(folder), "/tmp/vmbus-nbd-XXXXXX");
	must(mkdtemp(folder) != NULL);
	(void)snprintf(sock, sizeof(sock), "%s/s", folder);
	(void)snprintf(image, sizeof(image), "%s/image", folder);
	(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
}

static pid_t run(const char *const *argv)
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
static void wait_for_server(void)
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

static void start(const char *const *argv)
{
	server = run(argv);
	wait_for_server();
}

static void stop(void)
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

static struct vmbus_store_nbd_opts options(void)
{
	return (struct vmbus_store_nbd_opts){ .struct_bytes = sizeof(struct vmbus_store_nbd_opts),
					      .uri = uri,
					      .why = why,
					      .why_bytes = sizeof(why) };
}

static int connect_store(struct vmbus_store *store)
{
	const struct vmbus_store_nbd_opts opts = options();
	const int err = vmbus_store_nbd(&opts, store);

	vmbus_test_at("%s", why);
	return err;
}

/* nbdkit with filters and arguments; up to six words. */
static const char *nbdkit(struct vmbus_store *store, const char *const *more)
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

static const char *make_memory(struct vmbus_store *store)
{
	static const char *const more[] = { "memory", "24M", NULL };

	return nbdkit(store, more);
}

/* One connection for all queues. */
static const char *make_shared(struct vmbus_store *store)
{
	static const char *const more[] = { "--filter=multi-conn", "memory", "24M",
					    "multi-conn-mode=disable", NULL };

	return nbdkit(store, more);
}

/* More rounds than one for most requests. */
static const char *make_small(struct vmbus_store *store)
{
	static const char *const more[] = { "--filter=blocksize-policy",
					    "memory",
					    "24M",
					    "blocksize-minimum=4096",
					    "blocksize-maximum=64K",
					    "blocksize-error-policy=error",
					    NULL };

	return nbdkit(store, more);
}

/* No flush, no zero, no discard. */
static const char *make_poor(struct vmbus_store *store)
{
	static const char *const more[] = {
		"eval",
		"get_size=echo 25165824",
		"pread=dd if=/dev/zero count=$3 iflag=count_bytes status=none",
		"pwrite=cat >/dev/null",
		"can_write=exit 0",
		NULL
	};

	return nbdkit(store, more);
}

static const char *make_qemu(struct vmbus_store *store, const char *format)
{
	const char *const create[] = { "qemu-img", "create", "-f", format, image, "24M", NULL };
	const char *const serve[] = { "qemu-nbd",	 "-f",	format, "-k", sock, "-t",
				      "--discard=unmap", image, NULL };
	int status;
	pid_t pid;

	if (!have("qemu-nbd") || !have("qemu-img"))
		return "qemu-utils is not installed";
	names();
	pid = run(create);
	must(waitpid(pid, &status, 0) == pid && status == 0);
	server = run(serve);
	/* It takes one client at a time: the store's own connection is what waits for it. */
	for (;;) {
		const struct timespec ms = { .tv_nsec = 1000000 };

		must(waitpid(server, &status, WNOHANG) == 0);
		if (!access(sock, F_OK) && connect_store(store) == 0)
			return NULL;
		(void)nanosleep(&ms, NULL);
	}
}

static const char *make_qemu_raw(struct vmbus_store *store)
{
	return make_qemu(store, "raw");
}

static const char *make_qcow2(struct vmbus_store *store)
{
	return make_qemu(store, "qcow2");
}

static const struct variant variants[] = {
	{ "nbdkit memory", make_memory, stop, 512, false, VMBUS_STORE_FUA | VMBUS_STORE_VOLATILE,
	  VMBUS_STORE_READ_ONLY },
	{ "nbdkit, one connection", make_shared, stop, 512, false, 0, VMBUS_STORE_READ_ONLY },
	{ "nbdkit, at most 64 KiB", make_small, stop, 4096, false, 0, VMBUS_STORE_READ_ONLY },
	{ "qemu-nbd raw", make_qemu_raw, stop, 512, false, VMBUS_STORE_FUA | VMBUS_STORE_VOLATILE,
	  VMBUS_STORE_READ_ONLY },
	{ "qemu-nbd qcow2", make_qcow2, stop, 512, false, VMBUS_STORE_FUA | VMBUS_STORE_VOLATILE,
	  VMBUS_STORE_READ_ONLY },
};

#define NEED_NBDKIT()                                                                              \
	do {                                                                                       \
		if (!have("nbdkit"))                                                               \
			VMBUS_TEST_SKIP("nbdkit is not installed");                                \
	} while (0)

START_TEST(store_nbd__refuses_what_it_cannot_use)
{
	static const char *const empty[] = { "memory", "0", NULL };
	struct vmbus_store_nbd_opts opts;
	struct vmbus_store store = { NULL, NULL };
	char text[8];

	NEED_NBDKIT();
	names();
	opts = options();
	must_eq(vmbus_store_nbd(NULL, &store), VMBUS_E_INVAL);
	opts.struct_bytes--;
	must_eq(vmbus_store_nbd(&opts, &store), VMBUS_E_INVAL);
	opts = options();
	opts.uri = NULL;
	must_eq(vmbus_store_nbd(&opts, &store), VMBUS_E_INVAL);
	opts.uri = "http://localhost/";
	must_eq(vmbus_store_nbd(&opts, &store), VMBUS_E_INVAL);
	must(why[0] != '\0');
	opts = options();
	opts.why = text;
	opts.why_bytes = sizeof(text);
	must_eq(vmbus_store_nbd(&opts, &store), VMBUS_E_SYSTEM); /* nobody is there */
	must_eq(errno, ENOENT);
	must(strlen(text) == 7);
	must(!rmdir(folder));
	{
		const char *argv[8] = { "nbdkit", "-f", "-U", sock, empty[0], empty[1] };

		names();
		start(argv);
		must_eq(connect_store(&store), VMBUS_E_NOTSUP);
		must(strstr(why, "empty") != NULL);
		stop();
	}
	must(!store.ops);
}
END_TEST

START_TEST(store_nbd__waits_for_an_answer_until_its_time_is_over)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct vmbus_store_nbd_opts opts;
	struct vmbus_store store;
	int fd;

	names();
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", sock);
	must(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, 1));
	opts = options();
	opts.timeout_ns = 50000000;
	must_eq(vmbus_store_nbd(&opts, &store), VMBUS_E_AGAIN);
	must(strstr(why, "in time") != NULL);
	must(!close(fd));
	stop();
}
END_TEST

START_TEST(store_nbd__reads_only)
{
	static const char *const more[] = { "-r", "memory", "24M", NULL };
	const char *argv[8] = { "nbdkit", "-f", "-U", sock, more[0], more[1], more[2] };
	struct vmbus_store_nbd_opts opts;
	struct vmbus_store_info info;
	struct vmbus_store store;
	uint8_t data[512];
	struct drive d;

	NEED_NBDKIT();
	names();
	start(argv);
	must_eq(connect_store(&store), VMBUS_E_PERM);
	must(strstr(why, "read-only") != NULL);
	opts = options();
	opts.read_only = true;
	must_eq(vmbus_store_nbd(&opts, &store), 0);
	must_eq(store.ops->info(store.ctx, &info), 0);
	must(info.flags & VMBUS_STORE_READ_ONLY);
	must(!store.ops->write && !store.ops->discard && !store.ops->zero);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_READ, 512, data, 512), VMBUS_IO_OK);
	drive_close(&d);
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

/* A server that has reads only, and says neither that it flushes nor discards. */
START_TEST(store_nbd__leaves_out_what_the_server_has_not)
{
	struct vmbus_store_info info;
	struct vmbus_store store;
	uint8_t data[4096];
	struct drive d;

	NEED_NBDKIT();
	must(make_poor(&store) == NULL);
	must(store.ops->write && !store.ops->flush && !store.ops->discard);
	must_eq(store.ops->info(store.ctx, &info), 0);
	must_eq(info.flags, 0);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_READ, 512, data, 4096), VMBUS_IO_OK);
	must_eq(drive_move(&d, DRIVE_WRITE, 512, data, 4096), VMBUS_IO_OK);
	drive_close(&d);
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

START_TEST(store_nbd__passes_errors_on)
{
	static const struct {
		const char *error;
		enum vmbus_io_end end;
	} rows[] = { { "error=EIO", VMBUS_IO_MEDIUM },
		     { "error=ENOSPC", VMBUS_IO_SPACE },
		     { "error=EPERM", VMBUS_IO_READ_ONLY },
		     { "error=ENOMEM", VMBUS_IO_BUSY },
		     { "error=EINVAL", VMBUS_IO_GONE } };
	struct vmbus_store store;
	uint8_t data[4096] = { 0 };
	const struct iovec iov = { data, 4096 };
	struct req req;
	struct drive d;
	uint32_t i;

	NEED_NBDKIT();
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *const more[] = { "--filter=error",	    "memory", "24M", rows[i].error,
					     "error-pwrite-rate=1", NULL };

		must(nbdkit(&store, more) == NULL);
		vmbus_test_at("%s", rows[i].error);
		drive_open(&d, &store);
		req = (struct req){
			.io = { .offset = 8192, .bytes = 4096, .iov = &iov, .iov_count = 1 },
		};
		drive_begin(&d, &req, DRIVE_WRITE);
		drive_all(&d);
		must_eq(req.end, rows[i].end);
		must(req.end != VMBUS_IO_MEDIUM || req.io.bad_offset == 8192);
		must_eq(drive_move(&d, DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
		drive_close(&d);
		vmbus_store_destroy(&store);
		stop();
	}
}
END_TEST

/* The server dies with requests under way, on connections of their own or on a shared one: all end. */
START_TEST(store_nbd__ends_all_with_gone_when_the_server_dies)
{
	static const char *const shared[] = {
		"--filter=multi-conn",	   "--filter=delay", "memory", "24M",
		"multi-conn-mode=disable", "rdelay=20",	     NULL
	};
	static const char *const own[] = { "--filter=delay", "memory", "24M", "rdelay=20", NULL };
	static uint8_t data[16][4096];
	struct req req[16] = { { .ends = 0 } };
	struct vmbus_store store;
	struct iovec iov[16];
	struct drive d[2];
	int i;

	NEED_NBDKIT();
	must(nbdkit(&store, _i ? shared : own) == NULL);
	drive_open(&d[0], &store);
	drive_open(&d[1], &store);
	for (i = 0; i < 16; i++) {
		iov[i] = (struct iovec){ data[i], 4096 };
		req[i].io = (struct vmbus_io){ .bytes = 4096, .iov = &iov[i], .iov_count = 1 };
		drive_begin(&d[i % 2], &req[i], DRIVE_READ);
	}
	drive_commit(&d[0]);
	drive_commit(&d[1]);
	must(!drive_wait(&d[0], 50));
	must(!kill(server, SIGKILL));
	drive_all(&d[0]);
	drive_all(&d[1]);
	for (i = 0; i < 16; i++)
		must_eq(req[i].end, VMBUS_IO_GONE);
	must_eq(drive_move(&d[0], DRIVE_READ, 0, data[0], 4096), VMBUS_IO_GONE);
	must(!drive_wait(&d[0], 20)); /* and nothing wakes us any more */
	drive_close(&d[0]);
	drive_close(&d[1]);
	must_eq(waitpid(server, NULL, 0), server);
	(void)unlink(sock);
	{
		/* A server that is there again is found when a channel opens. */
		const char *argv[8] = { "nbdkit", "-f", "-U", sock, "memory", "24M" };

		start(argv);
	}
	drive_open(&d[0], &store);
	must_eq(drive_move(&d[0], DRIVE_READ, 0, data[0], 4096), VMBUS_IO_OK);
	drive_close(&d[0]);
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

/* ---- servers that lie ---- */

/* The old greeting: a size and flags, and nothing to agree on. */
static const uint8_t greeting[152] = { 'N',  'B',  'D',	 'M',  'A',  'G',  'I', 'C', 0, 0,
				       0x42, 0x02, 0x81, 0x86, 0x12, 0x53, 0,	0,   0, 0,
				       1,    0,	   0,	 0,    0,    0,	   0,	1 };

struct liar {
	int listen_fd;
	int what;
	pthread_t thread;
};

static const char *const lies[] = { "another magic", "another cookie",	 "half an answer",
				    "half the data", "an unknown error", "nothing",
				    "the truth" };

static void *lie(void *arg)
{
	const struct liar *const liar = arg;
	uint8_t request[28], answer[4096 + 16] = { 0x67, 0x44, 0x66, 0x98 };
	const int fd = accept(liar->listen_fd, NULL, NULL);
	size_t bytes = sizeof(answer);

	must(fd >= 0 && write(fd, greeting, sizeof(greeting)) == sizeof(greeting));
	must(recv(fd, request, sizeof(request), MSG_WAITALL) == sizeof(request));
	memcpy(answer + 8, request + 8, 8);
	if (liar->what == 0)
		answer[0] ^= 1;
	if (liar->what == 1)
		answer[15] ^= 1;
	if (liar->what == 2)
		bytes = 9;
	if (liar->what == 3)
		bytes = 1000;
	if (liar->what == 4)
		answer[4] = 0xff;
	if (liar->what == 5)
		bytes = 0;
	must(bytes == 0 || send(fd, answer, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
	must(!close(fd));
	return NULL;
}

START_TEST(store_nbd__ends_all_with_gone_when_the_server_makes_no_sense)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct liar liar = { .what = _i };
	struct vmbus_store store;
	uint8_t data[4096];
	struct drive d;

	names();
	liar.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", sock);
	must(liar.listen_fd >= 0);
	must(!bind(liar.listen_fd, (struct sockaddr *)&address, sizeof(address)));
	must(!listen(liar.listen_fd, 1));
	must(!pthread_create(&liar.thread, NULL, lie, &liar));
	must_eq(connect_store(&store), 0);
	vmbus_test_at("%s", lies[_i]);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_READ, 0, data, 4096), _i == 6 ? VMBUS_IO_OK : VMBUS_IO_GONE);
	must_eq(drive_move(&d, DRIVE_READ, 0, data, 4096), VMBUS_IO_GONE);
	drive_close(&d);
	must(!pthread_join(liar.thread, NULL));
	must(!close(liar.listen_fd));
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "nbd", 30);

	conform_tests(suite, variants, (int)(sizeof(variants) / sizeof(variants[0])));
	tcase_add_test(tc, store_nbd__refuses_what_it_cannot_use);
	tcase_add_test(tc, store_nbd__waits_for_an_answer_until_its_time_is_over);
	tcase_add_test(tc, store_nbd__reads_only);
	tcase_add_test(tc, store_nbd__leaves_out_what_the_server_has_not);
	tcase_add_test(tc, store_nbd__passes_errors_on);
	tcase_add_loop_test(tc, store_nbd__ends_all_with_gone_when_the_server_dies, 0, 2);
	tcase_add_loop_test(tc, store_nbd__ends_all_with_gone_when_the_server_makes_no_sense, 0,
			    (int)(sizeof(lies) / sizeof(lies[0])));
}

VMBUS_TEST_MAIN("store.nbd", tests)
#else
#include <stdio.h>

int main(void)
{
	puts("SKIP store.nbd: built without libnbd (Debian: libnbd-dev)");
	return 77;
}
#endif

/* SPDX-License-Identifier: MIT */
/* The store behind NBD servers: nbdkit and qemu-nbd, in several ways of theirs, and servers that lie. */
#if defined(VMBUS_HAVE_NBD)
#include "nbd_server.h"

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

static const char *make_fua(struct vmbus_store *store)
{
	static const char *const more[] = {
		"eval",
		"get_size=echo 25165824",
		"pread=dd if=/dev/zero count=$3 iflag=count_bytes status=none",
		"pwrite=case $5 in *fua*) cat >/dev/null;; *) exit 1;; esac",
		"can_fua=echo native",
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

/* What it has not made durable by FUA may be lost, and there is no flush for it. */
START_TEST(store_nbd__is_volatile_without_a_flush)
{
	const uint32_t wants = VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA;
	struct vmbus_store_info info;
	struct vmbus_store store;
	uint8_t data[4096] = { 0 };
	const struct iovec iov = { data, 4096 };
	struct vmbus_io fua = { .bytes = 4096, .iov = &iov, .iov_count = 1, .flags = VMBUS_IO_FUA };
	struct drive d;

	NEED_NBDKIT();
	must(make_fua(&store) == NULL);
	must(store.ops->write && !store.ops->flush);
	must_eq(store.ops->info(store.ctx, &info), 0);
	must_eq(info.flags, wants);
	drive_open(&d, &store);
	must_eq(drive_one(&d, DRIVE_WRITE, fua), VMBUS_IO_OK);
	must(drive_move(&d, DRIVE_WRITE, 0, data, 4096) != VMBUS_IO_OK);
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

/* A server that stands still, with requests that it has, and some that do not get through to it; when
   it goes on, the next channel has a connection. */
START_TEST(store_nbd__ends_all_when_it_is_cancelled)
{
	static const char *const shared[] = { "--filter=multi-conn", "memory", "24M",
					      "multi-conn-mode=disable", NULL };
	static const char *const own[] = { "memory", "24M", NULL };
	uint8_t *const data = calloc(16, 1 << 20);
	struct req req[16] = { { .ends = 0 } };
	struct vmbus_store store;
	struct iovec iov[16];
	struct drive d[2];
	int i, status;

	NEED_NBDKIT();
	must(data && nbdkit(&store, _i & 1 ? shared : own) == NULL);
	drive_open(&d[0], &store);
	drive_open(&d[1], &store);
	must_eq(drive_move(&d[1], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	settle(&d[1]);
	must(!kill(server, SIGSTOP) && waitpid(server, &status, WUNTRACED) == server);
	for (i = 0; i < 16; i++) {
		iov[i] = (struct iovec){ data + (i << 20), 1 << 20 };
		req[i].io = (struct vmbus_io){ .bytes = 1 << 20, .iov = &iov[i], .iov_count = 1 };
		drive_begin(&d[i % 2], &req[i], _i & 2 ? DRIVE_WRITE : DRIVE_READ);
	}
	drive_commit(&d[0]);
	drive_commit(&d[1]);
	while (drive_wait(&d[0], 50) || drive_wait(&d[1], 50))
		must(d[0].under_way == 8 && d[1].under_way == 8);
	drive_cancel(&d[0]);
	must_eq(d[0].under_way, 0);
	must_eq(d[1].under_way, 8); /* told by its own thread, or not touched */
	if (!(_i & 1)) {
		must(!drive_wait(&d[1], 20));
		drive_cancel(&d[1]);
	}
	drive_all(&d[1]);
	for (i = 0; i < 16; i++)
		must_eq(req[i].end, VMBUS_IO_GONE);
	drive_cancel(&d[0]); /* and again */
	drive_close(&d[0]);
	drive_close(&d[1]);
	must(!kill(server, SIGCONT));
	if (drive_open_again(&d[0], &store)) { /* else the server ended when we went */
		must(drive_move(&d[0], DRIVE_WRITE, 0, data, 4096) == VMBUS_IO_OK || server_over());
		drive_close(&d[0]);
	}
	vmbus_store_destroy(&store);
	stop();
	free(data);
}
END_TEST

#define LARGE (1u << 20)

/* Requests in pieces need buffers: those of 32 MiB on a queue, or one that is more. */
START_TEST(store_nbd__has_a_limit_for_buffers)
{
	static const char *const more[] = { "memory", "64M", NULL };
	static struct req req[34];
	uint8_t *const data = calloc(33, LARGE);
	struct iovec iov[2] = { { data, 4096 }, { data + 4096, LARGE - 4096 } };
	struct vmbus_store store;
	uint32_t i, turn;
	struct drive d;
	int status;

	NEED_NBDKIT();
	must(data && nbdkit(&store, more) == NULL);
	drive_open(&d, &store);
	for (turn = 0; turn < 2; turn++) {
		must(!kill(server, SIGSTOP) && waitpid(server, &status, WUNTRACED) == server);
		iov[1].iov_len = LARGE - 4096;
		for (i = 0; i < 34; i++) {
			req[i].io = (struct vmbus_io){ .bytes = LARGE, .iov = iov, .iov_count = 2 };
			drive_begin(&d, &req[i], turn ? DRIVE_READ : DRIVE_WRITE);
			must_eq(req[i].ends, i >= 32);
		}
		must(!kill(server, SIGCONT));
		drive_all(&d);
		for (i = 0; i < 34; i++)
			must_eq(req[i].end, i < 32 ? VMBUS_IO_OK : VMBUS_IO_BUSY);
		iov[1].iov_len = 33 * LARGE - 4096;
		must_eq(drive_one(&d, DRIVE_READ,
				  (struct vmbus_io){
					  .bytes = 33 * LARGE, .iov = iov, .iov_count = 2 }),
			VMBUS_IO_OK);
	}
	drive_close(&d);
	vmbus_store_destroy(&store);
	stop();
	free(data);
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

/* ---- servers that say that a read is done, and have sent less ---- */

static const char *const shorts[] = { "nothing", "the first half", "the first half twice" };

static void send_option(int fd, const uint8_t *option, uint32_t type, const uint8_t *data,
			uint32_t bytes)
{
	uint8_t head[20];

	put_be(head, UINT64_C(0x3e889045565a9), 8);
	memcpy(head + 8, option, 4);
	put_be(head + 12, type, 4);
	put_be(head + 16, bytes, 4);
	must(send(fd, head, sizeof(head), MSG_NOSIGNAL) == sizeof(head));
	must(!bytes || send(fd, data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
}

/* The new greeting: structured replies and an export of 1 MiB, and no other option. */
static void agree(int fd)
{
	static const uint8_t hello[18] = "NBDMAGICIHAVEOPT\0\3";
	uint8_t option[16], data[512], export[12] = { 0 };
	uint32_t bytes, kind = 0;

	must(send(fd, hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello));
	must(recv(fd, data, 4, MSG_WAITALL) == 4);
	put_be(export + 2, 1u << 20, 8);
	put_be(export + 10, 1, 2);
	while (kind != 7) { /* NBD_OPT_GO */
		must(recv(fd, option, sizeof(option), MSG_WAITALL) == sizeof(option));
		kind = option[11];
		bytes = (uint32_t)option[14] << 8 | option[15];
		must(bytes <= sizeof(data));
		must(!bytes || recv(fd, data, bytes, MSG_WAITALL) == (ssize_t)bytes);
		if (kind == 7)
			send_option(fd, option + 8, 3, export, sizeof(export));
		send_option(fd, option + 8, kind == 7 || kind == 8 ? 1u : 0x80000001u, NULL, 0);
	}
}

/* One chunk: of data, or the end alone. */
static void send_chunk(int fd, const uint8_t *request, bool last, uint32_t bytes)
{
	uint8_t chunk[20 + 8 + 4096] = { 0x66, 0x8e, 0x33, 0xef };
	const uint32_t body = bytes ? 8 + bytes : 0;

	must(bytes <= 4096);
	chunk[5] = last;
	chunk[7] = bytes != 0; /* NBD_REPLY_TYPE_OFFSET_DATA */
	memcpy(chunk + 8, request + 8, 8);
	put_be(chunk + 16, body, 4);
	memcpy(chunk + 20, request + 16, 8);
	must(send(fd, chunk, 20 + body, MSG_NOSIGNAL) == (ssize_t)(20 + body));
}

static void *say_done(void *arg)
{
	const struct liar *const liar = arg;
	const int fd = accept(liar->listen_fd, NULL, NULL);
	uint8_t request[28];

	must(fd >= 0);
	agree(fd);
	while (recv(fd, request, sizeof(request), MSG_WAITALL) == sizeof(request) && !request[7]) {
		if (liar->what > 0)
			send_chunk(fd, request, liar->what == 1, 4096);
		if (liar->what != 1)
			send_chunk(fd, request, true, liar->what ? 4096 : 0);
	}
	must(!close(fd));
	return NULL;
}

START_TEST(store_nbd__gives_a_guest_nothing_that_the_server_did_not_send)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static uint8_t data[8192], zeroes[8192];
	const struct iovec iov[2] = { { data, 4096 }, { data + 4096, 4096 } };
	struct liar liar = { .what = _i };
	struct vmbus_store store;
	enum vmbus_io_end end;
	uint32_t pieces;
	struct drive d;

	names();
	liar.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", sock);
	must(liar.listen_fd >= 0);
	must(!bind(liar.listen_fd, (struct sockaddr *)&address, sizeof(address)));
	must(!listen(liar.listen_fd, 1));
	must(!pthread_create(&liar.thread, NULL, say_done, &liar));
	must_eq(connect_store(&store), 0);
	vmbus_test_at("%s", shorts[_i]);
	drive_open(&d, &store);
	for (pieces = 1; pieces <= 2; pieces++) {
		const struct iovec one = { data, sizeof(data) };

		memset(data, 0xA5, sizeof(data));
		end = drive_one(&d, DRIVE_READ,
				(struct vmbus_io){ .bytes = sizeof(data),
						   .iov = pieces == 1 ? &one : iov,
						   .iov_count = pieces });
		must(end != VMBUS_IO_OK || memcmp(data, zeroes, sizeof(data)) == 0);
	}
	drive_close(&d);
	vmbus_store_destroy(&store);
	must(!pthread_join(liar.thread, NULL));
	must(!close(liar.listen_fd));
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
	tcase_add_test(tc, store_nbd__is_volatile_without_a_flush);
	tcase_add_test(tc, store_nbd__passes_errors_on);
	tcase_add_loop_test(tc, store_nbd__ends_all_when_it_is_cancelled, 0, 4);
	tcase_add_test(tc, store_nbd__has_a_limit_for_buffers);
	tcase_add_loop_test(tc, store_nbd__ends_all_with_gone_when_the_server_dies, 0, 2);
	tcase_add_loop_test(tc, store_nbd__ends_all_with_gone_when_the_server_makes_no_sense, 0,
			    (int)(sizeof(lies) / sizeof(lies[0])));
	tcase_add_loop_test(tc, store_nbd__gives_a_guest_nothing_that_the_server_did_not_send, 0,
			    (int)(sizeof(shorts) / sizeof(shorts[0])));
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

/* SPDX-License-Identifier: MIT */
/* Connections of the store behind NBD servers: how long they are waited for, and when they are used. */
#if defined(VMBUS_HAVE_NBD)
#include "nbd_server.h"

/* ---- a server that takes a second connection, and says nothing on it until it is told ---- */

struct mute {
	int listen_fd;
	int told[2];		/* a pipe: a byte for each connection that may be greeted */
	_Atomic uint32_t taken; /* connections */
	_Atomic uint32_t reads[3];
	pthread_t thread, of[3];
};

struct mute_conn {
	struct mute *mute;
	uint32_t at;
	int fd;
};

static void *mute_serve(void *arg)
{
	uint8_t hello[sizeof(greeting)], request[28], answer[16 + 4096];
	struct mute_conn *const c = arg;
	char byte;

	memcpy(hello, greeting, sizeof(hello));
	hello[26] = 1; /* NBD_FLAG_CAN_MULTI_CONN */
	if (c->at == 0 || read(c->mute->told[0], &byte, 1) == 1)
		(void)!send(c->fd, hello, sizeof(hello), MSG_NOSIGNAL);
	while (recv(c->fd, request, sizeof(request), MSG_WAITALL) == sizeof(request) &&
	       !request[7]) {
		memset(answer, 0xA5, sizeof(answer));
		put_be(answer, 0x67446698, 4);
		put_be(answer + 4, 0, 4);
		memcpy(answer + 8, request + 8, 8);
		c->mute->reads[c->at]++;
		must(send(c->fd, answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer));
	}
	must(!close(c->fd));
	free(c);
	return NULL;
}

static void *mute_accept(void *arg)
{
	struct mute *const m = arg;
	int fd;

	while (m->taken < 3 && (fd = accept(m->listen_fd, NULL, NULL)) >= 0) {
		struct mute_conn *const c = malloc(sizeof(*c));

		must(c != NULL);
		*c = (struct mute_conn){ m, m->taken, fd };
		must(!pthread_create(&m->of[m->taken], NULL, mute_serve, c));
		m->taken++;
	}
	return NULL;
}

static void mute_start(struct mute *m)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	names();
	m->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", sock);
	must(m->listen_fd >= 0 && !pipe(m->told));
	must(!bind(m->listen_fd, (struct sockaddr *)&address, sizeof(address)));
	must(!listen(m->listen_fd, 3));
	must(!pthread_create(&m->thread, NULL, mute_accept, m));
}

static void mute_stop(struct mute *m)
{
	uint32_t i;

	must(!close(m->told[1]));
	must(!shutdown(m->listen_fd, SHUT_RDWR));
	must(!pthread_join(m->thread, NULL));
	for (i = 0; i < m->taken; i++)
		must(!pthread_join(m->of[i], NULL));
	must(!close(m->listen_fd) && !close(m->told[0]));
	stop();
}

static uint64_t clock_ms(void)
{
	struct timespec time;

	must(!clock_gettime(CLOCK_MONOTONIC, &time));
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

START_TEST(store_nbd__waits_for_no_second_connection)
{
	struct mute m = { .taken = 0 };
	struct vmbus_store store;
	struct drive d[2];
	uint8_t data[4096];
	uint64_t began;

	mute_start(&m);
	must_eq(connect_store(&store), 0);
	began = clock_ms();
	drive_open(&d[0], &store);
	drive_open(&d[1], &store);
	must_eq(drive_move(&d[0], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	must_eq(drive_move(&d[1], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	must(clock_ms() - began < 2000); /* timeout_ns is 10 s */
	must(data[0] == 0xA5 && data[4095] == 0xA5);
	must_eq(m.reads[0], 2);
	/* It is used once it is there. */
	must(write(m.told[1], "", 1) == 1);
	settle(&d[1]);
	must_eq(drive_move(&d[1], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	must(m.reads[0] == 2 && m.reads[1] == 1);
	must_eq(drive_move(&d[0], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	must(m.reads[0] == 3 && m.reads[1] == 1);
	drive_close(&d[1]);
	drive_open(&d[1], &store); /* and is closed while it is not there */
	must_eq(drive_move(&d[1], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	must(m.reads[0] == 4 && m.reads[1] == 1);
	drive_close(&d[1]);
	drive_close(&d[0]);
	vmbus_store_destroy(&store);
	mute_stop(&m);
}
END_TEST

static uint32_t again_left;

static void again(struct req *req)
{
	must_eq(req->end, VMBUS_IO_OK);
	if (again_left == 0)
		return;
	again_left--;
	drive_begin(req->drive, req, DRIVE_READ);
}

/* The queue goes over with requests under way on both, and each of them ends once. */
START_TEST(store_nbd__goes_over_to_its_connection_under_load)
{
	static const char *const more[] = { "--filter=delay", "memory", "24M", "rdelay=1ms", NULL };
	static uint8_t data[DRIVE_DEPTH][4096];
	struct req req[DRIVE_DEPTH];
	struct iovec iov[DRIVE_DEPTH];
	struct vmbus_store store;
	struct drive d[2];
	uint32_t i, turn;

	NEED_NBDKIT();
	must(nbdkit(&store, more) == NULL);
	for (turn = 0; turn < 20; turn++) {
		drive_open(&d[0], &store);
		drive_open(&d[1], &store);
		for (i = 0; i < DRIVE_DEPTH; i++) {
			iov[i] = (struct iovec){ data[i], 4096 };
			req[i] = (struct req){
				.io = { .offset = 4096,
					.bytes = 4096,
					.iov = &iov[i],
					.iov_count = 1 },
				.then = again,
			};
		}
		again_left = 1000;
		for (i = 0; i < DRIVE_DEPTH; i++)
			drive_begin(&d[1], &req[i], DRIVE_READ);
		while (again_left) {
			must(drive_wait(&d[1], DRIVE_DEADLINE_MS));
			must_eq(drive_move(&d[0], DRIVE_READ, 0, data[0], 4096), VMBUS_IO_OK);
			drive_commit(&d[1]);
		}
		drive_all(&d[1]);
		drive_close(&d[0]);
		drive_close(&d[1]);
	}
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

/* The server is gone, and what comes after it takes connections and says nothing. */
START_TEST(store_nbd__does_not_wait_long_to_renew_its_connection)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static const char *const more[] = { "memory", "24M", NULL };
	const char *argv[8] = { "nbdkit", "-f", "-U", sock, "memory", "24M" };
	struct vmbus_store store;
	uint8_t data[4096];
	struct drive d;
	uint64_t began;
	int fd, i, err = -1;

	NEED_NBDKIT();
	must(nbdkit(&store, more) == NULL);
	must(!kill(server, SIGKILL) && waitpid(server, NULL, 0) == server && !unlink(sock));
	server = 0;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", sock);
	must(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, 4));
	began = clock_ms();
	d.queue = (struct vmbus_store_queue){ .ctx = store.ctx, .fd = -1, .depth = 1 };
	for (i = 0; i < 20; i++)
		must_eq(store.ops->open(&d.queue), VMBUS_E_AGAIN);
	must(clock_ms() - began < 2000);
	must(!close(fd) && !unlink(sock));
	start(argv);
	for (i = 0; err && i < 3; i++)
		err = store.ops->open(&d.queue);
	must_eq(err, 0);
	store.ops->close(&d.queue);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	drive_close(&d);
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

/* A server that has its bytes in memory, killed and started again. */
static void restart(const char *bytes, bool multi)
{
	const char *const argv[] = { "nbdkit",
				     "-f",
				     "-U",
				     sock,
				     "--filter=multi-conn",
				     "memory",
				     bytes,
				     multi ? "multi-conn-mode=auto" : "multi-conn-mode=disable",
				     NULL };

	if (server)
		must(!kill(server, SIGKILL) && waitpid(server, NULL, 0) == server && !unlink(sock));
	start(argv);
}

/* What a queue was told done is lost: another queue, that comes later, has no flush that is good, whether
   the first one (0 and 2), or nobody has seen yet that the server was gone. */
START_TEST(store_nbd__has_no_good_flush_after_the_server_was_another)
{
	const struct vmbus_io none = { 0 };
	const bool multi = _i >= 2;
	struct vmbus_store store;
	enum vmbus_io_end end;
	struct drive d[2];
	uint8_t data[4096];
	uint32_t turn;

	NEED_NBDKIT();
	names();
	restart("24M", multi);
	must_eq(connect_store(&store), 0);
	must(store.ops->flush != NULL);
	drive_open(&d[0], &store);
	memset(data, 0x42, sizeof(data));
	must_eq(drive_move(&d[0], DRIVE_WRITE, 0, data, 4096), VMBUS_IO_OK);
	restart("24M", multi);
	if (_i % 2 == 0)
		must(drive_wait(&d[0], DRIVE_DEADLINE_MS));
	must(drive_open_again(&d[1], &store));
	for (turn = 0; _i == 3 && turn < 20; turn++)
		(void)drive_wait(&d[1], 20); /* until it has gone over to its own connection */
	end = drive_one(&d[1], DRIVE_FLUSH, none);
	(void)drive_wait(&d[1], 20); /* it has no second end */
	must_eq(end, _i == 1 ? VMBUS_IO_GONE : VMBUS_IO_MEDIUM);
	if (_i != 1) {
		must_eq(drive_move(&d[1], DRIVE_WRITE, 0, data, 4096), VMBUS_IO_OK);
		must_eq(drive_move(&d[1], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	}
	drive_close(&d[1]);
	must(drive_open_again(&d[1], &store));
	must_eq(drive_one(&d[1], DRIVE_FLUSH, none), VMBUS_IO_MEDIUM);
	must_eq(drive_one(&d[0], DRIVE_FLUSH, none), VMBUS_IO_GONE);
	drive_close(&d[0]);
	drive_close(&d[1]);
	drive_open(&d[0], &store); /* a guest that begins anew */
	must_eq(drive_one(&d[0], DRIVE_FLUSH, none), VMBUS_IO_OK);
	drive_close(&d[0]);
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

/* Guests were told what the first server has. */
START_TEST(store_nbd__takes_no_other_export_for_its_own)
{
	struct vmbus_store store;
	struct drive d;
	uint32_t i;
	int err;

	NEED_NBDKIT();
	names();
	restart("24M", true);
	must_eq(connect_store(&store), 0);
	for (i = 0; i < 3; i++) {
		restart(i == 1 ? "24M" : "23M", i != 1);
		do {
			d.queue = (struct vmbus_store_queue){ .ctx = store.ctx,
							      .fd = -1,
							      .depth = DRIVE_DEPTH };
			err = store.ops->open(&d.queue);
		} while (err == VMBUS_E_AGAIN);
		must_eq(err, VMBUS_E_NOTSUP);
	}
	restart("24M", true);
	must(drive_open_again(&d, &store));
	drive_close(&d);
	vmbus_store_destroy(&store);
	stop();
}
END_TEST

static void no_more(int signal)
{
	(void)signal;
}

START_TEST(store_nbd__keeps_its_deadline_under_signals)
{
	const struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, off = { { 0, 0 }, { 0, 0 } };
	const struct sigaction action = { .sa_handler = no_more };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct vmbus_store_nbd_opts opts;
	struct vmbus_store store;
	uint64_t began;
	int fd;

	names();
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", sock);
	must(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, 1));
	must(!sigaction(SIGALRM, &action, NULL) && !setitimer(ITIMER_REAL, &every, NULL));
	opts = options();
	opts.timeout_ns = 100000000;
	began = clock_ms();
	must_eq(vmbus_store_nbd(&opts, &store), VMBUS_E_AGAIN);
	must(!setitimer(ITIMER_REAL, &off, NULL));
	must(clock_ms() - began >= 100 && clock_ms() - began < 3000);
	must(!close(fd));
	stop();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "nbd_conn", 30);

	tcase_add_test(tc, store_nbd__keeps_its_deadline_under_signals);
	tcase_add_test(tc, store_nbd__waits_for_no_second_connection);
	tcase_add_test(tc, store_nbd__goes_over_to_its_connection_under_load);
	tcase_add_test(tc, store_nbd__does_not_wait_long_to_renew_its_connection);
	tcase_add_loop_test(tc, store_nbd__has_no_good_flush_after_the_server_was_another, 0, 4);
	tcase_add_test(tc, store_nbd__takes_no_other_export_for_its_own);
}

VMBUS_TEST_MAIN("store.nbd_conn", tests)
#else
#include <stdio.h>

int main(void)
{
	puts("SKIP store.nbd_conn: built without libnbd (Debian: libnbd-dev)");
	return 77;
}
#endif

/* SPDX-License-Identifier: MIT */
/*
 * Captures over the socket: a parent, a child process that talks to its echo device, and a third
 * process that sees what passes.
 */
#include "shm/guests.h"

#include <pthread.h>

#include <vmbus/shm_capture.h>
#include <vmbus/tap.h>

#define PAYLOAD 512u

static const struct job talk_for_ever = {
	.channels = 1, .payload = PAYLOAD, .ring = 65536, .forever = true
};

static void host_allow(struct host *host)
{
	host_init(host);
	host->channels = 1;
	host->opts.allow_capture = true;
}

/* A child whose channel is open; returns the channel's number. */
static uint32_t begin_talk(struct host *host, const struct job *job, pid_t *pid)
{
	struct vmbus_chan_info info = { 0 };

	host->chan = NULL;
	host->packets = 0;
	*pid = guest_start(host->path, job);
	host_until(host, host->chan && (vmbus_chan_info(host->chan, &info), info.opens > 0) &&
				 __atomic_load_n(&host->packets, __ATOMIC_RELAXED) > 100);
	return info.relid;
}

static void end_talk(struct host *host, pid_t pid)
{
	kill(pid, SIGKILL);
	must_eq(guest_end(host, pid), 1000 + SIGKILL);
	host_until(host, host->detached == host->attached);
}

/* What a reader does in its process; its exit status is what this returns. */
typedef int reader_fn(const char *path, uint32_t relid);

static pid_t start_reader(struct host *host, reader_fn *fn, uint32_t relid)
{
	const pid_t pid = fork();

	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	alarm(60);
	_exit(fn(host->path, relid));
}

static int read_in_process(struct host *host, reader_fn *fn, uint32_t relid)
{
	return guest_end(host, start_reader(host, fn, relid));
}

static int begin(const char *path, uint32_t relid, struct vmbus_shm_capture **c)
{
	const struct vmbus_shm_capture_opts opts = { .struct_bytes = sizeof(opts),
						     .path = path,
						     .child = "guest",
						     .relid = relid,
						     .bytes = 4 << 20 };

	return vmbus_shm_capture_begin(&opts, c);
}

/* The next record; an error as the capture says it. */
static int next(struct vmbus_shm_capture *c, struct vmbus_capture_record *r)
{
	int got;

	while ((got = vmbus_shm_capture_next(c, r)) == 0)
		(void)vmbus_shm_capture_wait(c, SECOND_NS);
	return got;
}

/*
 * Every request is that of the child, none is missing, and the device's answers are the same in the
 * same order.  The child has at most 16 under way.
 */
static int equals_what_was_sent(const char *path, uint32_t relid)
{
	uint8_t want[PAYLOAD], asked[64][PAYLOAD];
	uint64_t ids[64], requests = 0, answers = 0;
	uint32_t lens[64], n = 0, len;
	struct vmbus_shm_capture *c;
	struct vmbus_capture_record r;
	int tries = 0, err;

	/* The tap of a reader before us goes when the channel's thread has let go of it. */
	for (err = begin(path, relid, &c); err == VMBUS_E_FULL && tries < 500; tries++) {
		usleep(10000);
		err = begin(path, relid, &c);
	}
	if (err)
		return 1;
	if (next(c, &r) != 1 || r.kind != VMBUS_CAPTURE_CHANNEL)
		return 2;
	if (next(c, &r) != 1 || r.kind != VMBUS_CAPTURE_OPEN)
		return 3;
	while (requests < 5000) {
		if (next(c, &r) != 1 || r.kind != VMBUS_CAPTURE_PACKET || r.dropped)
			return 4;
		if (r.data_len != r.len || r.ext_len)
			return 5;
		if (r.dir == VMBUS_CAPTURE_FROM_CHILD) {
			const uint32_t at = (uint32_t)(requests % 64);

			if (requests++ == 0)
				memcpy(&n, r.data + 4, 4);
			len = guest_fill(want, 0, n++ & 0xFFFFFu, PAYLOAD);
			if (r.len != (len + 7) / 8 * 8 || memcmp(r.data, want, len) != 0)
				return 6;
			memcpy(asked[at], r.data, r.len);
			ids[at] = r.id;
			lens[at] = r.len;
		} else if (requests) { /* else of a request before the tap */
			const uint32_t at = (uint32_t)(answers % 64);

			if (answers++ >= requests || r.type != VMBUS_PKT_COMPLETION)
				return 7;
			if (r.id != ids[at] || r.len != lens[at] ||
			    memcmp(r.data, asked[at], r.len) != 0)
				return 8;
		}
	}
	vmbus_shm_capture_end(c);
	return 0;
}

START_TEST(shm_capture__is_what_the_child_sent)
{
	struct host host;
	uint32_t relid;
	pid_t pid;
	int maps, round;

	host_allow(&host);
	host_listen(&host);
	relid = begin_talk(&host, &talk_for_ever, &pid);
	host_spin(&host);
	maps = count_maps();
	for (round = 0; round < 3; round++) {
		must_eq(read_in_process(&host, equals_what_was_sent, relid), 0);
		host_until(&host, count_maps() == maps);
	}
	end_talk(&host, pid);
	host_close(&host);
}
END_TEST

static void *dispatch_chan(void *arg)
{
	struct host *const host = arg;

	while (!__atomic_load_n(&host->stop_arg, __ATOMIC_ACQUIRE)) {
		struct pollfd p = { .fd = vmbus_chan_fd(host->chan), .events = POLLIN };

		(void)poll(&p, 1, 1);
		(void)vmbus_chan_dispatch(host->chan, 64);
	}
	return NULL;
}

static pthread_t chan_thread;

static void stop_thread(struct host *host)
{
	__atomic_store_n(&host->stop_arg, host, __ATOMIC_RELEASE);
	must_eq(pthread_join(chan_thread, NULL), 0);
}

START_TEST(shm_capture__of_a_channel_with_a_thread_of_its_own)
{
	struct host host;
	uint32_t relid;
	pid_t pid;

	host_allow(&host);
	host.own_fd = true;
	host_listen(&host);
	pid = guest_start(host.path, &talk_for_ever);
	host_until(&host, host.chan != NULL);
	must_eq(pthread_create(&chan_thread, NULL, dispatch_chan, &host), 0);
	host.stop = stop_thread;
	host_until(&host, __atomic_load_n(&host.packets, __ATOMIC_RELAXED) > 100);
	{
		struct vmbus_chan_info info;

		vmbus_chan_info(host.chan, &info);
		relid = info.relid;
	}
	must_eq(read_in_process(&host, equals_what_was_sent, relid), 0);
	must_eq(read_in_process(&host, equals_what_was_sent, relid), 0);
	end_talk(&host, pid);
	host_close(&host);
}
END_TEST

static int is_refused(const char *path, uint32_t relid)
{
	char why[120] = "";
	struct vmbus_shm_capture *c;
	struct vmbus_shm_capture_opts opts = { .struct_bytes = sizeof(opts),
					       .path = path,
					       .relid = relid,
					       .why = why,
					       .why_bytes = sizeof(why) };

	if (vmbus_shm_capture_begin(&opts, &c) != VMBUS_E_PERM || c)
		return 1;
	return strstr(why, "allow_capture") ? 0 : 2;
}

START_TEST(shm_capture__is_refused_unless_it_is_allowed)
{
	struct host host;
	uint32_t relid;
	pid_t pid;

	host_init(&host);
	host.channels = 1;
	host_listen(&host);
	relid = begin_talk(&host, &talk_for_ever, &pid);
	must_eq(read_in_process(&host, is_refused, relid), 0);
	end_talk(&host, pid);
	host_close(&host);
}
END_TEST

static int errors(const char *path, uint32_t relid)
{
	char why[120] = "", longname[65];
	struct vmbus_shm_capture *c, *first;
	struct vmbus_shm_capture_opts opts = { .struct_bytes = sizeof(opts),
					       .path = path,
					       .relid = relid,
					       .why = why,
					       .why_bytes = sizeof(why) };
	struct vmbus_shm_capture_opts wrong = opts;
	struct vmbus_capture_record r;

	memset(longname, 'x', 64);
	longname[64] = 0;
	wrong.struct_bytes--;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_INVAL)
		return 1;
	wrong = opts;
	wrong.path = NULL;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_INVAL)
		return 2;
	wrong = opts;
	wrong.child = longname;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_INVAL)
		return 3;
	wrong = opts;
	wrong.relid = relid + 1;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_RANGE || !strstr(why, "no channel"))
		return 4;
	wrong = opts;
	wrong.child = "somebody";
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_RANGE || !strstr(why, "somebody"))
		return 5;
	wrong = opts;
	wrong.pid = 1;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_RANGE)
		return 6;
	wrong = opts;
	wrong.bytes = 4096;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_RANGE || !strstr(why, "4096 bytes"))
		return 7;
	wrong.bytes = (16 << 20) + 1;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_RANGE)
		return 8;
	wrong = opts;
	wrong.snap = VMBUS_CAPTURE_SNAP_MAX + 1;
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_RANGE || !strstr(why, "262144"))
		return 9;
	wrong = opts;
	wrong.path = "/tmp/there-is-no-such-socket";
	if (vmbus_shm_capture_begin(&wrong, &c) != VMBUS_E_SYSTEM)
		return 10;
	if (vmbus_shm_capture_begin(&opts, &first))
		return 11;
	if (vmbus_shm_capture_begin(&opts, &c) != VMBUS_E_FULL || !strstr(why, "already"))
		return 12;
	while (vmbus_shm_capture_next(first, &r) == 1)
		;
	if (vmbus_shm_capture_wait(first, SECOND_NS)) /* the child talks for ever */
		return 13;
	vmbus_shm_capture_end(first);
	vmbus_shm_capture_end(NULL);
	return 0;
}

START_TEST(shm_capture__errors_say_what_is_wrong)
{
	struct host host;
	uint32_t relid;
	pid_t pid;

	host_allow(&host);
	host.opts.captures_max = 65;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	host.opts.captures_max = 2;
	host_listen(&host);
	relid = begin_talk(&host, &talk_for_ever, &pid);
	must_eq(read_in_process(&host, errors, relid), 0);
	end_talk(&host, pid);
	host_close(&host);
}
END_TEST

static int hold(const char *path, uint32_t relid)
{
	struct vmbus_shm_capture *c;
	struct vmbus_capture_record r;

	if (begin(path, relid, &c) || next(c, &r) != 1)
		return 1;
	for (;;)
		pause();
}

static int is_full(const char *path, uint32_t relid)
{
	struct vmbus_shm_capture *c;

	return begin(path, relid, &c) == VMBUS_E_FULL ? 0 : 1;
}

static int lowest_fd(void)
{
	const int fd = dup(0);

	close(fd);
	return fd;
}

/* A reader that stops reading, then dies: the child goes on, the tap goes, another can begin. */
START_TEST(shm_capture__a_reader_that_stops_and_dies_harms_nobody)
{
	struct host host;
	uint32_t relid, before;
	pid_t pid, reader;
	int maps, fds;

	host_allow(&host);
	host.opts.captures_max = 1;
	host_listen(&host);
	relid = begin_talk(&host, &talk_for_ever, &pid);
	host_spin(&host);
	maps = count_maps();
	fds = lowest_fd();
	reader = start_reader(&host, hold, relid);
	host_until(&host, strstr(host.line, "is captured") != NULL);
	before = host.packets;
	host_until(&host, host.packets > before + 50000); /* far more than 4 MiB of records */
	must_eq(read_in_process(&host, is_full, relid), 0);
	kill(reader, SIGKILL);
	must_eq(guest_end(&host, reader), 1000 + SIGKILL);
	host_until(&host, count_maps() == maps);
	host_until(&host, lowest_fd() == fds); /* no descriptor is left */
	must_eq(read_in_process(&host, equals_what_was_sent, relid), 0);
	end_talk(&host, pid);
	host_close(&host);
}
END_TEST

/* Read up to the end; how it ended is the exit status. */
static int to_the_end(const char *path, uint32_t relid)
{
	struct vmbus_capture_record r, last = { 0 };
	struct vmbus_tap_counts counts;
	struct vmbus_shm_capture *c;
	int got;

	if (begin(path, relid, &c))
		return 1;
	while ((got = next(c, &r)) == 1)
		last = r;
	vmbus_shm_capture_counts(c, &counts);
	vmbus_shm_capture_end(c);
	if (got == VMBUS_E_PEER)
		return 20;
	if (got != VMBUS_E_STATE || last.kind != VMBUS_CAPTURE_CLOSE || !counts.ended)
		return 2;
	return 10;
}

START_TEST(shm_capture__ends_with_the_channel_or_the_parent)
{
	struct host host;
	uint32_t relid;
	pid_t pid, reader;
	int status;

	host_allow(&host);
	host_listen(&host);
	relid = begin_talk(&host, &talk_for_ever, &pid);
	reader = start_reader(&host, to_the_end, relid);
	host_until(&host, strstr(host.line, "is captured") != NULL);
	end_talk(&host, pid);
	must_eq(guest_end(&host, reader), 10);
	relid = begin_talk(&host, &talk_for_ever, &pid);
	reader = start_reader(&host, to_the_end, relid);
	host_until(&host, strstr(host.line, "is captured") != NULL);
	host_close(&host);
	must_eq(waitpid(reader, &status, 0), reader);
	must(WIFEXITED(status));
	must_eq(WEXITSTATUS(status), 10);
	must_eq(waitpid(pid, &status, 0), pid);
}
END_TEST

/* A parent process that is killed: what it had written is read, then it is told. */
START_TEST(shm_capture__tells_that_the_parent_died)
{
	struct host host;
	uint32_t relid = 0;
	pid_t parent, pid;
	int told[2], status;

	host_allow(&host);
	must_eq(pipe2(told, O_CLOEXEC), 0);
	parent = fork();
	must(parent >= 0);
	if (parent == 0) {
		alarm(60);
		host_listen(&host);
		relid = begin_talk(&host, &talk_for_ever, &pid);
		must_eq(write(told[1], &relid, sizeof(relid)), (ssize_t)sizeof(relid));
		for (;;)
			(void)vmbus_shm_server_run(host.server, SECOND_NS);
	}
	must_eq(read(told[0], &relid, sizeof(relid)), (ssize_t)sizeof(relid));
	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		_exit(to_the_end(host.path, relid));
	usleep(100000); /* it may or may not have begun: either is an end */
	kill(parent, SIGKILL);
	must_eq(waitpid(parent, &status, 0), parent);
	must_eq(waitpid(pid, &status, 0), pid);
	must(WIFEXITED(status));
	must(WEXITSTATUS(status) == 20 || WEXITSTATUS(status) == 1);
	close(told[0]);
	close(told[1]);
	unlink(host.path);
}
END_TEST

/* A bus that is no child's: two permissions are needed, the server's and its own. */
static int other_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type, const void *payload,
		      uint32_t bytes)
{
	(void)ctx;
	(void)vp;
	(void)sint;
	(void)type;
	(void)payload;
	(void)bytes;
	return 0;
}

static int other_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	(void)ctx;
	(void)vp;
	(void)sint;
	(void)flag;
	return 0;
}

static int any_begin(const char *path, uint32_t relid)
{
	char why[120] = "";
	const struct vmbus_shm_capture_opts opts = { .struct_bytes = sizeof(opts),
						     .path = path,
						     .child = "machine",
						     .relid = relid,
						     .why = why,
						     .why_bytes = sizeof(why) };
	struct vmbus_shm_capture *c;
	struct vmbus_capture_record r;
	int err = vmbus_shm_capture_begin(&opts, &c);

	if (err == VMBUS_E_PERM)
		return strstr(why, "on the bus") ? 30 : 1;
	if (err)
		return 2;
	if (next(c, &r) != 1 || r.kind != VMBUS_CAPTURE_CHANNEL)
		return 3;
	vmbus_shm_capture_end(c);
	return 31;
}

START_TEST(shm_capture__of_a_bus_that_is_no_childs)
{
	const struct vmbus_backend backend = { .struct_bytes = sizeof(backend),
					       .post = other_post,
					       .raise = other_raise };
	const struct vmbus_bus_opts opts = { .struct_bytes = sizeof(opts),
					     .backend = &backend,
					     .name = "machine" };
	struct vmbus_chan_info info;
	struct vmbus_chan *chan;
	struct vmbus_bus *bus;
	struct host host;
	pid_t reader;
	int round;

	host_allow(&host);
	host_listen(&host);
	must_eq(vmbus_bus_create(&opts, &bus), 0);
	must_eq(vmbus_bus_offer(bus, &echo_vsp, &host, NULL, &chan), 0);
	must(vmbus_bus_dispatch(bus, 64) >= 0);
	vmbus_chan_info(chan, &info);
	must_eq(vmbus_shm_server_add_bus(host.server, bus, 1, 4096), 0);
	must_eq(read_in_process(&host, any_begin, info.relid), 30);
	vmbus_bus_allow_capture(bus, true);
	for (round = 0; round < 3; round++) {
		must_eq(read_in_process(&host, any_begin, info.relid), 31);
		host_spin(&host);
		must(vmbus_bus_dispatch(bus, 64) >= 0); /* the tap's end */
	}
	/* Both goes while a capture is under way: bus first, or server first. */
	reader = start_reader(&host, to_the_end, info.relid);
	(void)reader;
	must_eq(guest_end(&host, reader), 1); /* its name is not guest */
	vmbus_shm_server_remove_bus(host.server, bus);
	host_close(&host);
	vmbus_bus_destroy(bus);
}
END_TEST

/* Messages that cannot be, and an answer that makes no sense. */
START_TEST(shm_capture__hostile_messages)
{
	static const uint32_t lens[] = { 96, 16, 95, 97, 32, 144 };
	uint8_t bytes[256];
	struct host host;
	uint32_t i, type;

	host_allow(&host);
	host_listen(&host);
	for (type = 50; type < 56; type++)
		for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			const int sock = raw_connect(host.path);
			const uint32_t head[4] = { 0x53424D56u, 1u | type << 16, lens[i], 0 };

			memset(bytes, 0xFF, sizeof(bytes));
			memcpy(bytes, head, sizeof(head));
			(void)raw_send(sock, bytes, lens[i], (int)(i % 3));
			host_spin(&host);
			must(raw_is_closed(sock));
			close(sock);
		}
	host_close(&host);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "shm", 60);

	signal(SIGPIPE, SIG_IGN);
	tcase_add_test(tc, shm_capture__is_what_the_child_sent);
	tcase_add_test(tc, shm_capture__of_a_channel_with_a_thread_of_its_own);
	tcase_add_test(tc, shm_capture__is_refused_unless_it_is_allowed);
	tcase_add_test(tc, shm_capture__errors_say_what_is_wrong);
	tcase_add_test(tc, shm_capture__a_reader_that_stops_and_dies_harms_nobody);
	tcase_add_test(tc, shm_capture__ends_with_the_channel_or_the_parent);
	tcase_add_test(tc, shm_capture__tells_that_the_parent_died);
	tcase_add_test(tc, shm_capture__of_a_bus_that_is_no_childs);
	tcase_add_test(tc, shm_capture__hostile_messages);
}

VMBUS_TEST_MAIN("capture.shm", tests)

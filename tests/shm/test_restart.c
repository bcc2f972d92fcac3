/* SPDX-License-Identifier: MIT */
/*
 * A parent that gives way to another process while its children work: each parent is a process of its
 * own, this one only tells them when.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>

#include "shm/guests.h"

#include <vmbus/shm_restart.h>

#include "../../backends/shm/parent.h"
#include "../../backends/shm/restart_proto.h"

#define ROUNDS 20u
#define CHANNELS 3u

/* What is told to a parent, and what it says. */
enum {
	HAND_OVER = 'h',
	END = 'e',
	SERVING = 's'
};

struct parent {
	pid_t pid;
	int control; /* ours of a pair: words to it and from it */
};

static bool is_told(int control, char *word)
{
	return recv(control, word, 1, MSG_DONTWAIT) == 1;
}

/* outs: a socket for each time that it is to hand over. */
static void serve(struct host *host, int control, const int *outs)
{
	char word = SERVING;

	must_eq(write(control, &word, 1), 1);
	for (;;) {
		(void)vmbus_shm_server_run(host->server, 1000000);
		if (host->own_fd && host->chan)
			(void)vmbus_chan_dispatch(host->chan, 256);
		if (!is_told(control, &word))
			continue;
		if (word == END)
			break;
		for (;;) {
			const int err =
				vmbus_shm_server_hand_over(host->server, *outs, 10ull * SECOND_NS);

			if (!err)
				goto out;
			if (err != VMBUS_E_AGAIN)
				break; /* the other did not want: we serve on */
			(void)vmbus_shm_server_run(host->server, 1000000);
			if (host->own_fd && host->chan)
				(void)vmbus_chan_dispatch(host->chan, 256);
		}
		outs++;
		word = (char)SERVING;
		must_eq(write(control, &word, 1), 1);
	}
out:
	vmbus_shm_server_destroy(host->server);
}

/* Descriptors that a first parent must not have. */
static int others[16];
static uint32_t other_count;

/* A parent process; in: to take over from, -1: it is the first; outs: to hand over by. */
static struct parent start(struct host *host, int in, const int *outs)
{
	struct parent p;
	int pair[2], err;

	must_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	p.control = pair[0];
	p.pid = fork();
	must(p.pid >= 0);
	if (p.pid) {
		close(pair[1]);
		return p;
	}
	alarm(100);
	close(pair[0]);
	while (in < 0 && other_count)
		close(others[--other_count]);
	if (in < 0)
		err = vmbus_shm_listen(&host->opts, &host->server);
	else
		err = vmbus_shm_take_over(&host->opts, in, 10ull * SECOND_NS, &host->server);
	if (err)
		_exit(40 - err);
	serve(host, pair[1], outs);
	_exit(0);
}

static void tell(const struct parent *p, char word)
{
	must_eq(send(p->control, &word, 1, MSG_NOSIGNAL), 1);
}

static void wait_serving(const struct parent *p)
{
	struct pollfd fd = { .fd = p->control, .events = POLLIN };
	char word = 0;

	must_eq(poll(&fd, 1, 20000), 1);
	must_eq(read(p->control, &word, 1), 1);
	must_eq(word, SERVING);
}

static int end_of(struct parent *p)
{
	int status;

	must_eq(waitpid(p->pid, &status, 0), p->pid);
	close(p->control);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void make_host(struct host *host)
{
	host_init(host);
	host->channels = CHANNELS;
}

static void pair_of(int pair[2])
{
	must_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

/* A guest that also looks for answers that came twice. */
static pid_t start_guest(const char *path, const struct job *job)
{
	struct guest_run *run;
	struct vmbus_vsc_info info;
	pid_t pid;
	uint32_t c;
	int status;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	alarm(100);
	run = calloc(1, sizeof(*run));
	run->job = job;
	guest_now = run;
	status = guest_attach(run, path);
	if (!status && (vmbus_guest_connect(run->guest) ||
			vmbus_guest_wait(run->guest, VMBUS_GUEST_CONNECTED, 60ull * SECOND_NS)))
		status = GUEST_NO_CONNECT;
	if (!status)
		status = guest_open(run);
	if (!status)
		status = guest_talk(run);
	for (c = 0; !status && c < job->channels; c++) {
		vmbus_vsc_info(run->chan[c].vsc, &info);
		if (info.bad_completions || run->chan[c].done != run->chan[c].sent)
			status = GUEST_WRONG;
	}
	if (!status)
		status = guest_close(run);
	vmbus_shm_detach(run->attach);
	_exit(status);
}

static int guest_status(pid_t pid)
{
	int status;

	must_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

START_TEST(shm_restart__under_load_loses_and_doubles_nothing)
{
	const struct job job = {
		.channels = CHANNELS, .requests = 60000, .payload = 512, .ring = 65536, .vps = 2
	};
	struct parent now, next;
	struct host host;
	uint32_t round;
	struct stat st;
	int pair[2];
	pid_t guests[2];

	make_host(&host);
	pair_of(pair);
	now = start(&host, -1, pair);
	wait_serving(&now);
	guests[0] = start_guest(host.path, &job);
	guests[1] = start_guest(host.path, &job);
	for (round = 1; round <= ROUNDS; round++) {
		int to_next[2];

		vmbus_test_at("round %u", round);
		pair_of(to_next);
		next = start(&host, pair[1], to_next);
		usleep(1000 * (round * 7 % 23)); /* any moment will do */
		tell(&now, HAND_OVER);
		wait_serving(&next);
		must_eq(end_of(&now), 0);
		close(pair[0]);
		close(pair[1]);
		memcpy(pair, to_next, sizeof(pair));
		now = next;
	}
	must_eq(guest_status(guests[0]), 0);
	must_eq(guest_status(guests[1]), 0);
	/* The last one listens as the first did. */
	guests[0] = start_guest(
		host.path,
		&(struct job){ .channels = 1, .requests = 100, .payload = 64, .ring = 8192 });
	must_eq(guest_status(guests[0]), 0);
	tell(&now, END);
	must_eq(end_of(&now), 0);
	must_eq(lstat(host.path, &st), -1);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

/* Signals that were bound to an eventfd of the old parent come to the new one. */
START_TEST(shm_restart__of_a_channel_with_a_descriptor_of_its_own)
{
	const struct job job = { .channels = 1, .requests = 5000, .payload = 512, .ring = 65536 };
	struct parent now, next;
	struct host host;
	uint32_t round;
	int pair[2];
	pid_t guest;

	make_host(&host);
	host.channels = 1;
	host.own_fd = true;
	pair_of(pair);
	now = start(&host, -1, pair);
	wait_serving(&now);
	guest = start_guest(host.path, &job);
	for (round = 1; round <= 8; round++) {
		int to_next[2];

		vmbus_test_at("round %u", round);
		pair_of(to_next);
		next = start(&host, pair[1], to_next);
		usleep(20000);
		tell(&now, HAND_OVER);
		wait_serving(&next);
		must_eq(end_of(&now), 0);
		close(pair[0]);
		close(pair[1]);
		memcpy(pair, to_next, sizeof(pair));
		now = next;
	}
	must_eq(guest_status(guest), 0);
	tell(&now, END);
	must_eq(end_of(&now), 0);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

static const struct job talk_for_ever = {
	.channels = CHANNELS, .payload = 512, .ring = 65536, .forever = true
};

/* The child watches the new parent, and not the old one. */
START_TEST(shm_restart__the_child_sees_the_new_parents_end)
{
	struct parent now, next;
	struct host host;
	int pair[2], status;
	pid_t guest;

	make_host(&host);
	pair_of(pair);
	now = start(&host, -1, pair);
	wait_serving(&now);
	guest = start_guest(host.path, &talk_for_ever);
	usleep(100000);
	next = start(&host, pair[1], NULL);
	tell(&now, HAND_OVER);
	wait_serving(&next);
	must_eq(end_of(&now), 0);
	usleep(100000);
	must_eq(waitpid(guest, &status, WNOHANG), 0); /* it works on */
	kill(next.pid, SIGKILL);
	must_eq(end_of(&next), 1000 + SIGKILL);
	must_eq(guest_status(guest), GUEST_PARENT_GONE);
	unlink(host.path);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

static int refuse_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)ctx;
	(void)child;
	(void)bus;
	return VMBUS_E_PERM;
}

static int attached_and_die(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)ctx;
	(void)child;
	(void)bus;
	kill(getpid(), SIGKILL);
	return 0;
}

#define FAILURES 4u

/* How the new parent is wrong. */
static void make_wrong(struct host *other, uint32_t how)
{
	switch (how) {
	case 0:
		other->opts.attached = refuse_attached;
		break;
	case 1:
		other->opts.attached = attached_and_die;
		break;
	case 2:
		other->opts.path = "/tmp/another-path";
		break;
	default:
		other->opts.memory_bytes_max = 1 << 20;
		break;
	}
}

/* Whatever goes wrong with the new one: the old one serves on, and the child does not notice. */
START_TEST(shm_restart__failures_leave_the_old_parent)
{
	const struct job job = {
		.channels = CHANNELS, .requests = 60000, .payload = 512, .ring = 65536
	};
	int pairs[2 * FAILURES + 1][2], outs[2 * FAILURES + 1];
	struct host host, other;
	struct parent now, next;
	uint32_t i;
	pid_t guest;

	make_host(&host);
	for (i = 0; i <= 2 * FAILURES; i++) {
		pair_of(pairs[i]);
		outs[i] = pairs[i][0];
		others[other_count++] = pairs[i][1];
	}
	now = start(&host, -1, outs);
	wait_serving(&now);
	for (i = 0; i < 2 * FAILURES; i++)
		close(pairs[i][0]); /* so that the end of the new one is seen */
	guest = start_guest(host.path, &job);
	usleep(50000);
	for (i = 0; i < 2 * FAILURES; i++) {
		vmbus_test_at("failure %u", i % FAILURES);
		other = host;
		other.opts.ctx = &other;
		make_wrong(&other, i % FAILURES);
		next = start(&other, pairs[i][1], NULL);
		close(pairs[i][1]);
		tell(&now, HAND_OVER);
		must(end_of(&next) != 0);
		wait_serving(&now);
	}
	/* And then it goes well. */
	next = start(&host, pairs[i][1], NULL);
	tell(&now, HAND_OVER);
	wait_serving(&next);
	must_eq(end_of(&now), 0);
	must_eq(guest_status(guest), 0);
	tell(&next, END);
	must_eq(end_of(&next), 0);
	close(pairs[i][0]);
	close(pairs[i][1]);
}
END_TEST

/* A child that does not know the message of a restart: it gets a record that it cannot read. */
START_TEST(shm_restart__the_message_to_the_child)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct vmbus_shm_server *next;
	struct host host, other;
	uint16_t type;
	int sock, pair[2];
	pid_t new;

	host_open(&host);
	pair_of(pair);
	sock = raw_attach(&host, &welcome, &record);
	vmbus__shm_record_close(&record);
	other = host;
	other.opts.ctx = &other;
	new = fork();
	must(new >= 0);
	if (new == 0)
		_exit(vmbus_shm_take_over(&other.opts, pair[1], 5ull * SECOND_NS, &next) ? 1 : 0);
	must_eq(vmbus_shm_server_hand_over(host.server, pair[0], 5ull * SECOND_NS), 0);
	must_eq(host.detached, 1);
	must_eq(vmbus_shm_server_hand_over(host.server, pair[0], 1), VMBUS_E_STATE);
	must_eq(guest_status(new), 0);
	must_eq(vmbus__shm_recv(sock, &record), 1);
	must_eq(record.len, 32);
	memcpy(&type, record.bytes + 6, 2);
	must_eq(type, 55);
	must_eq(record.fd_count, 1);
	vmbus__shm_record_close(&record);
	must(raw_is_closed(sock)); /* by the end of the new one */
	close(sock);
	vmbus_shm_server_destroy(host.server);
	unlink(host.path);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

static char last_line[400];

static void keep_line(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)snprintf(last_line, sizeof(last_line), "%s", line);
}

START_TEST(shm_restart__errors)
{
	struct vmbus_shm_server_opts wrong;
	struct vmbus_shm_server *next;
	struct host host;
	int pair[2];
	pid_t new;

	host_open(&host);
	pair_of(pair);
	/* Nobody answers; somebody talks nonsense; nobody is there. */
	must_eq(vmbus_shm_server_hand_over(host.server, pair[0], 10000000), VMBUS_E_AGAIN);
	wrong = host.opts;
	wrong.log = keep_line;
	must_eq(vmbus_shm_take_over(&wrong, pair[1], 10000000, &next), VMBUS_E_PEER); /* CANCEL */
	must(strstr(last_line, "the old parent serves on") != NULL);
	must(next == NULL);
	close(pair[0]);
	close(pair[1]);
	pair_of(pair);
	must_eq(send(pair[1], "nonsense", 8, 0), 8);
	must_eq(vmbus_shm_server_hand_over(host.server, pair[0], 10000000), VMBUS_E_PEER);
	close(pair[1]);
	must_eq(vmbus_shm_server_hand_over(host.server, pair[0], 10000000), VMBUS_E_PEER);
	close(pair[0]);
	pair_of(pair);
	new = fork();
	must(new >= 0);
	if (new == 0) {
		close(pair[1]);
		usleep(30000);
		_exit(0);
	}
	close(pair[0]); /* the longest time is not over at once */
	must_eq(vmbus_shm_take_over(&host.opts, pair[1], UINT64_MAX, &next), VMBUS_E_PEER);
	must_eq(guest_status(new), 0);
	close(pair[1]);
	pair_of(pair);
	must_eq(vmbus_shm_take_over(&host.opts, pair[1], 10000000, &next), VMBUS_E_AGAIN);
	must_eq(send(pair[0], "nonsense", 8, MSG_NOSIGNAL), -1); /* a failure ends both ways */
	close(pair[0]);
	close(pair[1]);
	pair_of(pair);
	must_eq(send(pair[0], "nonsense", 8, 0), 8);
	must_eq(vmbus_shm_take_over(&host.opts, pair[1], 10000000, &next), VMBUS_E_PEER);
	wrong = host.opts;
	wrong.struct_bytes--;
	must_eq(vmbus_shm_take_over(&wrong, pair[1], 10000000, &next), VMBUS_E_INVAL);
	close(pair[0]);
	must_eq(vmbus_shm_take_over(&host.opts, pair[1], 10000000, &next), VMBUS_E_PEER);
	close(pair[1]);
	host_close(&host);
}
END_TEST

static uint32_t busy; /* times that the device cannot be saved */

static int busy_save(struct vmbus_chan *chan, void *buf, size_t room)
{
	(void)chan;
	(void)buf;
	(void)room;
	if (!busy)
		return 0;
	busy--;
	return VMBUS_E_AGAIN;
}

static const struct vmbus_vsp busy_vsp = {
	.struct_bytes = sizeof(busy_vsp),
	.name = "busy",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
	.save = busy_save,
};

static int busy_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct host *const host = ctx;

	(void)child;
	return vmbus_bus_offer(bus, &busy_vsp, host, NULL, &host->chan);
}

/* Nothing was said, so the same socket will do. */
START_TEST(shm_restart__again_while_a_device_cannot)
{
	const struct job job = { .channels = 1, .requests = 60000, .payload = 512, .ring = 65536 };
	struct parent now, next;
	struct host host;
	int pair[2];
	pid_t guest;

	make_host(&host);
	host.opts.attached = busy_attached;
	pair_of(pair);
	busy = 5;
	now = start(&host, -1, pair);
	wait_serving(&now);
	guest = start_guest(host.path, &job);
	usleep(100000);
	next = start(&host, pair[1], NULL);
	tell(&now, HAND_OVER);
	wait_serving(&next);
	must_eq(end_of(&now), 0);
	must_eq(guest_status(guest), 0);
	tell(&next, END);
	must_eq(end_of(&next), 0);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

/* A server with a raw child. */
struct served {
	struct host host;
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	int sock, pair[2];
};

static void served_open(struct served *s)
{
	host_open(&s->host);
	pair_of(s->pair);
	s->sock = raw_attach(&s->host, &s->welcome, &s->record);
}

/* It serves: the child is there, and another can come. */
static void served_close(struct served *s)
{
	struct vmbus__shm_record record;
	int sock;

	must_eq(s->host.detached, 0);
	sock = raw_attach(&s->host, &s->welcome, &record);
	vmbus__shm_record_close(&record);
	must(!raw_is_closed(s->sock));
	vmbus__shm_record_close(&s->record);
	close(sock);
	close(s->sock);
	close(s->pair[0]);
	close(s->pair[1]);
	host_close(&s->host);
}

/* A process that takes over after a while, and exits with the error; this one has its socket too. */
static pid_t start_taking(const struct host *host, int sock, useconds_t after, uint64_t timeout_ns)
{
	struct vmbus_shm_server *next;
	struct host other = *host;
	pid_t pid = fork();

	must(pid >= 0);
	if (pid)
		return pid;
	other.opts.ctx = &other;
	usleep(after);
	_exit(-vmbus_shm_take_over(&other.opts, sock, timeout_ns, &next));
}

START_TEST(shm_restart__a_cancel_in_place_of_done)
{
	struct served s;

	served_open(&s);
	must_eq(vmbus__rs_send_word(s.pair[1], VMBUS_RS_READY, "", 0), 0);
	must_eq(vmbus__rs_send_word(s.pair[1], VMBUS_RS_CANCEL, "not in time", 0), 0);
	must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], SECOND_NS), VMBUS_E_PEER);
	must(strstr(s.host.line, "not in time") != NULL);
	served_close(&s);
}
END_TEST

/* Reads all that comes before GO, and ends when that has come. */
static void *end_before_go(void *arg)
{
	int *const sock = arg;
	struct pollfd wait = { .fd = *sock, .events = POLLIN };
	struct vmbus__shm_record record;
	uint32_t i;

	for (i = 0; i < 2; i++) { /* SERVER, STATE */
		if (vmbus__shm_recv_until(*sock, vmbus__shm_now_ns() + SECOND_NS, &record))
			return NULL;
		vmbus__shm_record_close(&record);
	}
	(void)vmbus__rs_send_word(*sock, VMBUS_RS_READY, "", 0);
	if (poll(&wait, 1, 1000) == 1)
		close(*sock);
	*sock = -1;
	return sock;
}

START_TEST(shm_restart__an_end_before_go_was_read)
{
	struct served s;
	pthread_t other;
	void *came;

	served_open(&s);
	must_eq(pthread_create(&other, NULL, end_before_go, &s.pair[1]), 0);
	must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], SECOND_NS), VMBUS_E_PEER);
	must_eq(pthread_join(other, &came), 0);
	must(came != NULL);
	served_close(&s);
}
END_TEST

static int late_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	usleep(1300000);
	return host_attached(ctx, child, bus);
}

START_TEST(shm_restart__restored_too_late)
{
	struct served s;
	pid_t new;

	served_open(&s);
	s.host.opts.attached = late_attached;
	new = start_taking(&s.host, s.pair[1], 0, SECOND_NS);
	must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], 5ull * SECOND_NS),
		VMBUS_E_PEER);
	must_eq(guest_status(new), -VMBUS_E_AGAIN);
	must(strstr(s.host.line, "not restored in time") != NULL);
	served_close(&s);
}
END_TEST

/* Each of them for the other, which ends without a word. */
START_TEST(shm_restart__waits_as_long_as_told)
{
	struct served s;
	pid_t new;

	served_open(&s);
	new = fork();
	must(new >= 0);
	if (new == 0) {
		usleep(50000);
		_exit(0);
	}
	close(s.pair[1]);
	must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], UINT64_MAX), VMBUS_E_PEER);
	must_eq(guest_status(new), 0);
	close(s.pair[0]);
	pair_of(s.pair);
	new = start_taking(&s.host, s.pair[1], 0, UINT64_MAX);
	usleep(50000);
	must_eq(shutdown(s.pair[0], SHUT_RDWR), 0);
	must_eq(guest_status(new), -VMBUS_E_PEER);
	served_close(&s);
}
END_TEST

/* What the first attempt left in the socket is nothing to the second. */
START_TEST(shm_restart__a_second_attempt_after_the_time)
{
	struct served s;
	pid_t new;

	served_open(&s);
	new = start_taking(&s.host, s.pair[1], 100000, 5ull * SECOND_NS);
	must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], 10000000), VMBUS_E_AGAIN);
	must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], 5ull * SECOND_NS),
		VMBUS_E_PEER);
	must_eq(guest_status(new), -VMBUS_E_PEER);
	served_close(&s);
}
END_TEST

/* An old parent whose GO comes after the new one's time: it hears so. */
START_TEST(shm_restart__a_go_too_late_fails)
{
	struct vmbus__rs_msg msg = { .type = VMBUS_RS_SERVER };
	struct vmbus__shm_record record;
	struct served s;
	int other;
	pid_t new;

	served_open(&s);
	other = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	(void)snprintf(msg.u.server.path, sizeof(msg.u.server.path), "%s", s.host.path);
	must_eq(vmbus__rs_send(s.pair[0], &msg, &other, 1, 0), 0);
	new = start_taking(&s.host, s.pair[1], 0, SECOND_NS);
	must_eq(vmbus__shm_recv_until(s.pair[0], vmbus__shm_now_ns() + 5ull * SECOND_NS, &record),
		0);
	must_eq(vmbus__rs_decode(record.bytes, record.len, &msg), 0);
	must_eq(msg.u.word.code, VMBUS_RS_READY);
	vmbus__shm_record_close(&record);
	must_eq(guest_status(new), -VMBUS_E_AGAIN);
	must_eq(vmbus__rs_send_word(s.pair[0], VMBUS_RS_GO, "", 0), VMBUS_E_PEER);
	close(other);
	served_close(&s);
}
END_TEST

#define FULL_CHILDREN 10u

/* Whatever fits into the socket: the new one never takes the end for leave. */
START_TEST(shm_restart__a_full_socket)
{
	struct vmbus__shm_record record;
	int socks[FULL_CHILDREN], small = 1;
	struct served s;
	uint32_t i;
	pid_t new;

	served_open(&s);
	for (i = 0; i < FULL_CHILDREN; i++) {
		vmbus_test_at("%u children", i + 1);
		close(s.pair[0]);
		close(s.pair[1]);
		pair_of(s.pair);
		must_eq(setsockopt(s.pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
		must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], 1000000),
			VMBUS_E_AGAIN);
		new = fork();
		must(new >= 0);
		if (new == 0) {
			close(s.pair[0]);
			_exit(guest_status(start_taking(&s.host, s.pair[1], 0, SECOND_NS)));
		}
		usleep(150000);
		close(s.pair[0]); /* READY, if it could be said, was said */
		must(guest_status(new) != 0);
		close(s.pair[1]);
		pair_of(s.pair);
		socks[i] = raw_attach(&s.host, &s.welcome, &record);
		vmbus__shm_record_close(&record);
	}
	for (i = 0; i < FULL_CHILDREN; i++)
		close(socks[i]);
	served_close(&s);
}
END_TEST

/* A child that has not read its socket for a while hears of its new parent when it reads it. */
START_TEST(shm_restart__a_child_whose_socket_is_full)
{
	const int most = INT32_MAX; /* it gets no more room than this */
	struct vmbus__shm_record record;
	struct vmbus_shm_server *next;
	struct host other;
	struct served s;
	uint32_t type;
	pid_t new;

	served_open(&s);
	vmbus__shm_record_close(&s.record);
	must_eq(setsockopt(s.host.server->children[0]->sock, SOL_SOCKET, SO_SNDBUF, &most,
			   sizeof(most)),
		0);
	while (vmbus__shm_child_unbind(s.host.server->children[0], 1) == 0)
		continue;
	other = s.host;
	other.opts.ctx = &other;
	new = fork();
	must(new >= 0);
	if (new == 0) {
		alarm(100);
		must_eq(vmbus_shm_take_over(&other.opts, s.pair[1], 5ull * SECOND_NS, &next), 0);
		for (;;)
			(void)vmbus_shm_server_run(next, SECOND_NS);
	}
	must_eq(vmbus_shm_server_hand_over(s.host.server, s.pair[0], 5ull * SECOND_NS), 0);
	do {
		must_eq(vmbus__shm_recv_until(s.sock, vmbus__shm_now_ns() + 5ull * SECOND_NS,
					      &record),
			0);
		type = vmbus__rs_type_of(record.bytes, record.len);
		must_eq(record.fd_count, type == VMBUS_RS_PARENT);
		vmbus__shm_record_close(&record);
	} while (type != VMBUS_RS_PARENT);
	kill(new, SIGKILL);
	must_eq(guest_status(new), 1000 + SIGKILL);
	must(raw_is_closed(s.sock));
	close(s.sock);
	close(s.pair[0]);
	close(s.pair[1]);
	vmbus_shm_server_destroy(s.host.server);
	unlink(s.host.path);
}
END_TEST

/* Take over, and stop. */
static pid_t start_stopping(struct host *host, int sock)
{
	struct vmbus_shm_server *next;
	pid_t pid = fork();

	must(pid >= 0);
	if (pid)
		return pid;
	alarm(100);
	must_eq(vmbus_shm_take_over(&host->opts, sock, 10ull * SECOND_NS, &next), 0);
	for (;;)
		pause();
}

/* Serve a child, fill its socket, hand over, and end. */
static pid_t start_ending(struct host *host, int sock)
{
	struct vmbus_shm_server *server;
	pid_t pid = fork();

	must(pid >= 0);
	if (pid)
		return pid;
	alarm(100);
	must_eq(vmbus_shm_listen(&host->opts, &server), 0);
	while (!server->attached)
		(void)vmbus_shm_server_run(server, SECOND_NS);
	while (vmbus__shm_child_unbind(server->children[0], 1) == 0)
		continue;
	_exit(vmbus_shm_server_hand_over(server, sock, 10ull * SECOND_NS) != 0);
}

/* The old parent ends before the child reads anything, and the new one has not looked since. */
START_TEST(shm_restart__a_child_whose_socket_is_full_and_whose_parent_ends)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts),
					      .name = "kid",
					      .memory_bytes = 1 << 20,
					      .timeout_ns = 10ull * SECOND_NS };
	struct vmbus_shm_attach *attach;
	struct host host;
	pid_t old, new;
	int pair[2], i;

	host_init(&host);
	pair_of(pair);
	old = start_ending(&host, pair[0]);
	opts.path = host.path;
	for (i = 0; i < 1000 && vmbus_shm_attach(&opts, &attach); i++)
		usleep(10000); /* it does not listen yet */
	must(i < 1000);
	new = start_stopping(&host, pair[1]);
	must_eq(guest_status(old), 0);
	must(vmbus_shm_attach_dispatch(attach, 64) >= 0);
	ck_assert_str_eq(vmbus_shm_attach_why(attach), "");
	kill(new, SIGKILL);
	must_eq(guest_status(new), 1000 + SIGKILL);
	must_eq(vmbus_shm_attach_wait(attach, 10ull * SECOND_NS), VMBUS_E_PEER);
	vmbus_shm_detach(attach);
	close(pair[0]);
	close(pair[1]);
	unlink(host.path);
}
END_TEST

static int make_huge(uint64_t *page)
{
	const int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	struct stat st;

	if (fd < 0)
		return fd;
	must_eq(fstat(fd, &st), 0);
	*page = (uint64_t)st.st_blksize;
	return fd;
}

static int adopt_huge(struct host *host, uint64_t bytes)
{
	struct vmbus__rs_state state = { .memory = bytes, .vps = 1, .name = "huge" };
	struct vmbus_shm_child *child;
	int pair[2], fds[VMBUS_RS_FDS], err;
	uint64_t page;
	uint32_t i;

	pair_of(pair);
	fds[0] = pair[0];
	fds[1] = make_huge(&page);
	must_eq(ftruncate(fds[1], (off_t)bytes), 0);
	must_eq(fcntl(fds[1], F_ADD_SEALS, F_SEAL_SHRINK), 0);
	for (i = 2; i < 5; i++)
		fds[i] = vmbus__shm_doorbell();
	fds[5] = -1;
	err = vmbus__shm_child_adopt(host->server, &state, fds, &child);
	for (i = 0; i < VMBUS_RS_FDS; i++)
		vmbus__shm_close(&fds[i]);
	close(pair[1]);
	return err;
}

/* The limit is of what a child asks for, which its parent rounds to whole huge pages. */
START_TEST(shm_restart__memory_of_huge_pages_is_more_than_was_asked_for)
{
	struct host host;
	uint64_t page;
	int fd = make_huge(&page);

	if (fd < 0)
		VMBUS_TEST_SKIP("no huge pages in this kernel");
	close(fd);
	host_init(&host);
	host.opts.huge_pages = true;
	host.opts.memory_bytes_max = page / 2;
	host_listen(&host);
	must_eq(adopt_huge(&host, 2 * page), VMBUS_E_RANGE);
	/* Whether there is any is the system's to say. */
	must(adopt_huge(&host, page) != VMBUS_E_RANGE);
	host_close(&host);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "restart", 100);

	signal(SIGPIPE, SIG_IGN);
	tcase_add_test(tc, shm_restart__under_load_loses_and_doubles_nothing);
	tcase_add_test(tc, shm_restart__of_a_channel_with_a_descriptor_of_its_own);
	tcase_add_test(tc, shm_restart__the_child_sees_the_new_parents_end);
	tcase_add_test(tc, shm_restart__failures_leave_the_old_parent);
	tcase_add_test(tc, shm_restart__the_message_to_the_child);
	tcase_add_test(tc, shm_restart__errors);
	tcase_add_test(tc, shm_restart__again_while_a_device_cannot);
	tcase_add_test(tc, shm_restart__a_cancel_in_place_of_done);
	tcase_add_test(tc, shm_restart__an_end_before_go_was_read);
	tcase_add_test(tc, shm_restart__restored_too_late);
	tcase_add_test(tc, shm_restart__waits_as_long_as_told);
	tcase_add_test(tc, shm_restart__a_second_attempt_after_the_time);
	tcase_add_test(tc, shm_restart__a_go_too_late_fails);
	tcase_add_test(tc, shm_restart__a_full_socket);
	tcase_add_test(tc, shm_restart__a_child_whose_socket_is_full);
	tcase_add_test(tc, shm_restart__a_child_whose_socket_is_full_and_whose_parent_ends);
	tcase_add_test(tc, shm_restart__memory_of_huge_pages_is_more_than_was_asked_for);
}

VMBUS_TEST_MAIN("shm.restart", tests)

/* SPDX-License-Identifier: MIT */
/* How a parent ends: the order of its callbacks, and what it tells people about refusals. */
#include "shm/local.h"

#include <urcu-bp.h>

/* Letters of the callbacks, in the order in which they came. */
static char order[32];

static void note(char what)
{
	const size_t n = strlen(order);

	must(n + 1 < sizeof(order));
	order[n] = what;
}

static int order_close(struct vmbus_chan *chan)
{
	(void)chan;
	note('c');
	return 0;
}

static const struct vmbus_vsp order_vsp = {
	.struct_bytes = sizeof(order_vsp),
	.name = "order",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
	.close = order_close,
};

static int order_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)child;
	must_eq(vmbus_bus_offer(bus, &order_vsp, ctx, NULL, NULL), 0);
	return vmbus_bus_offer(bus, &order_vsp, ctx, NULL, NULL);
}

static void order_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	struct host *const host = ctx;

	note('d');
	host->detached++;
	host->ends[why]++;
	must_eq(vmbus_shm_server_dispatch(host->server, 8), VMBUS_E_STATE);
	must_eq(vmbus_shm_server_run(host->server, 0), VMBUS_E_STATE);
	must_eq(vmbus_bus_dispatch(vmbus_shm_child_bus(child), 8) > 0, 0);
	vmbus_shm_server_destroy(host->server); /* it is ignored */
}

static void order_removed(void *ctx, struct vmbus_chan *chan)
{
	struct host *const host = ctx;

	(void)chan;
	note('r');
	host->removed++;
}

static void order_start(struct host *host)
{
	host_init(host);
	host->opts.attached = order_attached;
	host->opts.detached = order_detached;
	host->opts.removed = order_removed;
	memset(order, 0, sizeof(order));
	host_listen(host);
}

/* The same order, whoever ends it. */
START_TEST(server_destroy__closes_then_detaches_then_removes)
{
	static const struct job forever = {
		.channels = 2, .payload = 90, .ring = 4096, .forever = true
	};
	static const struct job leaves = {
		.channels = 2, .payload = 90, .ring = 4096, .requests = 5, .leave_open = true
	};
	struct host host;
	int status;
	pid_t pid;

	order_start(&host);
	pid = guest_start(host.path, &leaves);
	must_eq(guest_end(&host, pid), 0);
	host_until(&host, host.detached == 1);
	must_eq(strcmp(order, "ccdrr"), 0);
	memset(order, 0, sizeof(order));
	pid = guest_start(host.path, &forever);
	host_until(&host, host.packets > 100);
	host_close(&host);
	must_eq(waitpid(pid, &status, 0), pid);
	must(WIFEXITED(status) && WEXITSTATUS(status) == GUEST_PARENT_GONE);
	must_eq(strcmp(order, "ccdrr"), 0);
	must_eq(host.ends[VMBUS_SHM_LEFT], 2);
}
END_TEST

static char said[4096];

static void keep_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	const size_t n = strlen(said);

	(void)ctx;
	(void)level;
	(void)snprintf(said + n, sizeof(said) - n, "%s\n", line);
}

START_TEST(child_kick__is_told_and_logged)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	struct host host;
	int sock;

	host_init(&host);
	host.opts.log = keep_log;
	host_listen(&host);
	sock = raw_attach(&host, &welcome, &record);
	vmbus__shm_record_close(&record);
	vmbus_shm_child_kick(host.child, "enough");
	msg = raw_answer(&host, sock, &record);
	vmbus__shm_record_close(&record);
	must_eq(msg.type, VMBUS_SHM_BYE);
	must_eq(msg.u.text.code, VMBUS_SHM_CODE_KICKED);
	must_eq(strcmp(msg.u.text.text, "enough"), 0);
	must_eq(host.ends[VMBUS_SHM_BROKE], 1);
	must(strstr(said, "raw: process") != NULL);
	must(strstr(said, "was thrown out by the embedder: enough\n") != NULL);
	must(strstr(said, "broke the rules") == NULL);
	close(sock);
	host_close(&host);
}
END_TEST

static pthread_t late_thread;

static void *late_done(void *arg)
{
	usleep(1400000);
	vmbus_chan_close_done(arg);
	return NULL;
}

static int late_close(struct vmbus_chan *chan)
{
	must_eq(pthread_create(&late_thread, NULL, late_done, chan), 0);
	return VMBUS_E_AGAIN;
}

static const struct vmbus_vsp late_vsp = {
	.struct_bytes = sizeof(late_vsp),
	.name = "late",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
	.close = late_close,
};

static int late_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)child;
	return vmbus_bus_offer(bus, &late_vsp, ctx, NULL, NULL);
}

/* An end that takes long says in the server's log for which device. */
START_TEST(server_destroy__tells_for_whom_it_waits)
{
	static const struct job forever = {
		.channels = 1, .payload = 90, .ring = 4096, .forever = true
	};
	struct host host;
	int status;
	pid_t pid;

	host_init(&host);
	host.opts.attached = late_attached;
	host.opts.log = keep_log;
	said[0] = '\0';
	host_listen(&host);
	pid = guest_start(host.path, &forever);
	host_until(&host, host.packets > 100);
	must(strstr(said, "the end waits") == NULL);
	host_close(&host);
	must_eq(pthread_join(late_thread, NULL), 0);
	must_eq(waitpid(pid, &status, 0), pid);
	must(strstr(said, "the end waits for channel 1 (late): its close() said AGAIN, and "
			  "vmbus_chan_close_done() has not come\n") != NULL);
}
END_TEST

static void keep_line(void *ctx, const char *line)
{
	struct local *const local = ctx;

	keep_log(NULL, VMBUS_LOG_INFO, line);
	vmbus_shm_detach(local->attach); /* ignored from here */
}

/* Until the child has noticed, and its guest knows. */
static void child_until_gone(struct local *local)
{
	const uint64_t end = vmbus__shm_now_ns() + 10 * (uint64_t)SECOND_NS;

	while (vmbus_shm_attach_wait(local->attach, 20000000) != VMBUS_E_PEER)
		must(vmbus__shm_now_ns() < end);
	must_eq(vmbus_guest_state(vmbus_shm_guest(local->attach)), VMBUS_GUEST_GONE);
}

START_TEST(attach_why__is_what_the_parent_said)
{
	static const char *const want[] = { "no more room", "it ended the connection",
					    "the parent ends" };
	struct local local;
	const struct vmbus_guest_opts guest = { .struct_bytes = sizeof(guest),
						.log = keep_line,
						.ctx = &local };
	struct host host;

	host_open(&host);
	said[0] = '\0';
	local_attach_with(&host, &local, &guest);
	must_eq(vmbus_guest_connect(vmbus_shm_guest(local.attach)), 0);
	must(vmbus_shm_attach_dispatch(local.attach, 16) >= 0);
	must_eq(strcmp(vmbus_shm_attach_why(local.attach), ""), 0);
	if (_i < 2)
		vmbus_shm_child_kick(host.child, _i ? NULL : want[0]);
	if (_i < 2)
		host_spin(&host);
	else
		host_close(&host);
	child_until_gone(&local);
	must_eq(strcmp(vmbus_shm_attach_why(local.attach), want[_i]), 0);
	must(strstr(said, "the parent is gone: ") != NULL);
	must(strstr(said, want[_i]) != NULL);
	vmbus_shm_detach(local.attach);
	if (_i < 2)
		host_close(&host);
}
END_TEST

/* A parent in a process of its own, which is killed. */
START_TEST(attach_why__a_parent_that_died)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts) };
	struct local local = { .attach = NULL };
	struct host host;
	int status, err;
	pid_t pid;

	host_init(&host);
	opts.path = host.path;
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		alarm(60);
		host_listen(&host);
		for (;;)
			(void)vmbus_shm_server_run(host.server, SECOND_NS);
	}
	do {
		usleep(1000);
		err = vmbus_shm_attach(&opts, &local.attach);
	} while (err == VMBUS_E_SYSTEM); /* not there yet */
	must_eq(err, 0);
	must_eq(vmbus_guest_connect(vmbus_shm_guest(local.attach)), 0);
	kill(pid, SIGKILL);
	must_eq(waitpid(pid, &status, 0), pid);
	child_until_gone(&local);
	must(vmbus_shm_attach_why(local.attach)[0] != '\0');
	vmbus_shm_detach(local.attach);
	(void)unlink(host.path);
}
END_TEST

static int reading, read_enough;

static void *read_on(void *arg)
{
	(void)arg;
	urcu_bp_read_lock();
	__atomic_store_n(&reading, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&read_enough, __ATOMIC_ACQUIRE))
		usleep(100);
	urcu_bp_read_unlock();
	return NULL;
}

/* Decision 12: while a thread reads, grace periods do not end; dispatch needs none. */
START_TEST(server_dispatch__waits_for_no_grace_period)
{
	static const struct job forever = {
		.channels = 2, .payload = 90, .ring = 4096, .forever = true
	};
	const int before = vmbus_test_count_fds();
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);
	uint64_t longest = 0, begin;
	struct host host;
	pthread_t thread;
	int sock;
	pid_t pid;

	host_open(&host);
	host.channels = 2;
	pid = guest_start(host.path, &forever);
	host_until(&host, host.packets > 100);
	must_eq(pthread_create(&thread, NULL, read_on, NULL), 0);
	while (!__atomic_load_n(&reading, __ATOMIC_ACQUIRE))
		usleep(100);
	kill(pid, SIGKILL);
	while (host.removed < 2 || count_memory()) {
		begin = vmbus__shm_now_ns();
		must(vmbus_shm_server_dispatch(host.server, 64) >= 0);
		begin = vmbus__shm_now_ns() - begin;
		longest = begin > longest ? begin : longest;
	}
	printf("the longest dispatch took %llu us\n", (unsigned long long)longest / 1000);
	must_eq(host.detached, 1);
	(void)guest_end(&host, pid);
	/* One that the embedder refuses: its bus goes at once. */
	host.refuse = VMBUS_E_NOMEM;
	sock = raw_connect(host.path);
	raw_say(sock, &msg);
	msg = raw_answer(&host, sock, &record);
	vmbus__shm_record_close(&record);
	must_eq(msg.type, VMBUS_SHM_REFUSED);
	must_eq(host.detached, 1);
	must_eq(count_memory(), 0);
	close(sock);
	__atomic_store_n(&read_enough, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(thread, NULL), 0);
	host_close(&host);
	must_eq(vmbus_test_count_fds(), before);
}
END_TEST

START_TEST(attached__a_refusal_names_the_child)
{
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);
	struct host host;
	int sock;

	host_open(&host);
	host.refuse = VMBUS_E_NOMEM;
	sock = raw_connect(host.path);
	raw_say(sock, &msg);
	msg = raw_answer(&host, sock, &record);
	vmbus__shm_record_close(&record);
	must_eq(msg.type, VMBUS_SHM_REFUSED);
	must(strstr(msg.u.text.text, "raw: the embedder refused"));
	must(strstr(msg.u.text.text, "NOMEM"));
	must(strstr(host.line, "raw: the embedder refused"));
	close(sock);
	host_close(&host);
}
END_TEST

START_TEST(listen__logs_what_is_wrong)
{
	struct vmbus_shm_server *server;
	char path[128];
	struct host host;

	host_init(&host);
	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	host.opts.path = path;
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_RANGE);
	must(strstr(host.line, "127 bytes") && strstr(host.line, "96"));
	host.opts.path = "/nonexistent/p";
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_SYSTEM);
	must(strstr(host.line, "/nonexistent/p") && strstr(host.line, "No such file"));
	host.opts.path = NULL;
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_INVAL);
	must(strstr(host.line, "path"));
	host.opts.path = host.path;
	host.opts.children_max = 5000;
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_RANGE);
	must(strstr(host.line, "children_max") && strstr(host.line, "5000"));
	host.opts.children_max = 0;
	host.opts.mode = 07777;
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_RANGE);
	must(strstr(host.line, "mode"));
	host.opts.mode = 0;
	host.opts.limits.struct_bytes = 1;
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_INVAL);
	must(strstr(host.line, "limits.struct_bytes"));
	host.opts.limits.struct_bytes = 0;
	host.opts.limits.chans_max = 5; /* would not count without the size */
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_INVAL);
	must(strstr(host.line, "limits.struct_bytes is 0"));
	host.opts.limits.chans_max = 0;
	host_listen(&host);
	must_eq(vmbus_shm_listen(&host.opts, &server), VMBUS_E_STATE);
	must(strstr(host.line, "somebody listens"));
	host_close(&host);
}
END_TEST

static uint64_t *no_list(void *ctx, uint32_t bytes)
{
	(void)ctx, (void)bytes;
	return NULL;
}

/* As vmbus_bus_create() does, which otherwise would refuse every child. */
START_TEST(listen__refuses_limits_that_no_child_could_have)
{
	static const struct {
		struct vmbus_srv_opts limits;
		int err;
		const char *said;
	} rows[] = {
		{ { .chans_max = 2048 },
		  VMBUS_E_RANGE,
		  "limits.chans_max is 2048, must be at most 2047 (" },
		{ { .gpadls_max = UINT32_MAX }, VMBUS_E_RANGE, "gpadls_max 4294967295, " },
		{ { .queue_max = UINT32_MAX }, VMBUS_E_RANGE, "queue_max 4294967295, " },
		{ { .tl_max = UINT32_MAX }, VMBUS_E_RANGE, "tl_max 4294967295, " },
		{ { .version_max = 0x70000 }, VMBUS_E_RANGE, "version_max 0x70000 or " },
		{ { .features = 0x80000000u },
		  VMBUS_E_RANGE,
		  "0x80000000 is past what vmbus_srv_init(3) takes (" },
		{ { .list_get = no_list }, VMBUS_E_INVAL, "list_get" },
	};
	struct vmbus_shm_server *server;
	struct host host;
	size_t n;

	host_init(&host);
	for (n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		vmbus_test_at("row %zu", n);
		host.opts.limits = rows[n].limits;
		host.opts.limits.struct_bytes = sizeof(host.opts.limits);
		must_eq(vmbus_shm_listen(&host.opts, &server), rows[n].err);
		must(strstr(host.line, "cannot listen: limits") != NULL);
		must(strstr(host.line, rows[n].said) != NULL);
	}
	memset(&host.opts.limits, 0, sizeof(host.opts.limits));
	host.opts.limits.struct_bytes = sizeof(host.opts.limits);
	host.opts.limits.chans_max = 2047;
	host_listen(&host);
	host_close(&host);
}
END_TEST

#define MANY 700u /* more than one dispatch of a wait's tells */

static unsigned int told_gone;

static void count_gone(void *ctx, struct vmbus_vsc *vsc)
{
	(void)ctx, (void)vsc;
	told_gone++;
}

static const struct vmbus_guest_opts counting = { .struct_bytes = sizeof(counting),
						  .gone = count_gone };

static void local_connect(struct host *host, struct local *local, unsigned int channels)
{
	struct vmbus_guest *guest;

	told_gone = 0;
	host_init(host);
	host->channels = channels;
	host_listen(host);
	local_attach_with(host, local, &counting);
	guest = vmbus_shm_guest(local->attach);
	must_eq(vmbus_guest_connect(guest), 0);
	host_until(host, vmbus_shm_attach_dispatch(local->attach, 64) >= 0 &&
				 vmbus_guest_state(guest) == VMBUS_GUEST_CONNECTED);
}

START_TEST(attach_wait__says_peer_when_all_were_told)
{
	struct local local;
	struct host host;
	int did, turns = 0;

	local_connect(&host, &local, MANY);
	host_close(&host);
	do {
		did = vmbus_shm_attach_wait(local.attach, (uint64_t)SECOND_NS);
		must(did >= 0 || did == VMBUS_E_PEER);
		must(turns++ < 1000);
	} while (did >= 0);
	must_eq(told_gone, MANY);
	must(turns > 1);
	must_eq(vmbus_shm_attach_wait(local.attach, UINT64_MAX), VMBUS_E_PEER); /* at once */
	must_eq(vmbus_shm_attach_dispatch(local.attach, 1), 0);
	vmbus_shm_detach(local.attach);
	must_eq(told_gone, MANY);
}
END_TEST

/* Its contact was given up while the parent had not taken it; nothing is left to be told. */
START_TEST(attach_wait__says_peer_to_who_has_given_up)
{
	struct vmbus_guest *guest;
	struct local local;
	struct host host;
	int did, turns = 0;

	host_init(&host);
	host_listen(&host);
	local_attach_with(&host, &local, &counting);
	guest = vmbus_shm_guest(local.attach);
	must_eq(vmbus_guest_connect(guest), 0);
	must(vmbus_shm_attach_dispatch(local.attach, 64) >= 0);
	must_eq(vmbus_guest_disconnect(guest), 0);
	must(vmbus_shm_attach_dispatch(local.attach, 64) >= 0);
	must_eq(vmbus_guest_state(guest), VMBUS_GUEST_IDLE);
	host_close(&host);
	do {
		did = vmbus_shm_attach_wait(local.attach, (uint64_t)SECOND_NS);
		must(did >= 0 || did == VMBUS_E_PEER);
		must(turns++ < 30);
	} while (did >= 0);
	vmbus_shm_detach(local.attach);
}
END_TEST

START_TEST(attach_wait__waits_for_threads_that_leave_their_channels)
{
	const struct vmbus_vsc_opts own = { .struct_bytes = sizeof(own),
					    .send_bytes = 4096,
					    .recv_bytes = 4096,
					    .own_thread = true };
	struct vmbus_vsc *vsc;
	struct local local;
	struct host host;
	int turns;

	local_connect(&host, &local, 2);
	vsc = vmbus_vsc_find(vmbus_shm_guest(local.attach), &echo_class, 1);
	must(vsc != NULL);
	must_eq(vmbus_vsc_open(vsc, &own), 0);
	host_until(&host, vmbus_shm_attach_dispatch(local.attach, 64) >= 0 &&
				  vmbus_vsc_state(vsc) == VMBUS_VSC_OPEN);
	host_close(&host);
	for (turns = 0; turns < 20; turns++) {
		const int did = vmbus_shm_attach_wait(local.attach, SECOND_NS / 100);

		must(did >= 0 || did == VMBUS_E_AGAIN);
	}
	must_eq(told_gone, 1);
	must(vmbus_vsc_dispatch(vsc, 1) < 0); /* and now the thread does not use it any more */
	child_until_gone(&local);
	must_eq(told_gone, 2);
	vmbus_shm_detach(local.attach);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "ending", 30);

	tcase_add_test(tc, server_destroy__closes_then_detaches_then_removes);
	tcase_add_test(tc, server_destroy__tells_for_whom_it_waits);
	tcase_add_test(tc, child_kick__is_told_and_logged);
	tcase_add_loop_test(tc, attach_why__is_what_the_parent_said, 0, 3);
	tcase_add_test(tc, attach_why__a_parent_that_died);
	tcase_add_test(tc, server_dispatch__waits_for_no_grace_period);
	tcase_add_test(tc, attached__a_refusal_names_the_child);
	tcase_add_test(tc, listen__logs_what_is_wrong);
	tcase_add_test(tc, listen__refuses_limits_that_no_child_could_have);
	tcase_add_test(tc, attach_wait__says_peer_when_all_were_told);
	tcase_add_test(tc, attach_wait__says_peer_to_who_has_given_up);
	tcase_add_test(tc, attach_wait__waits_for_threads_that_leave_their_channels);
}

VMBUS_TEST_MAIN("shm.ending", tests)

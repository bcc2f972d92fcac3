/* SPDX-License-Identifier: MIT */
/* How a parent ends: the order of its callbacks, and what it tells people about refusals. */
#include "shm/guests.h"

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

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "ending", 30);

	tcase_add_test(tc, server_destroy__closes_then_detaches_then_removes);
	tcase_add_test(tc, child_kick__is_told_and_logged);
	tcase_add_test(tc, attached__a_refusal_names_the_child);
	tcase_add_test(tc, listen__logs_what_is_wrong);
}

VMBUS_TEST_MAIN("shm.ending", tests)

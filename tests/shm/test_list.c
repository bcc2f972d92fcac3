/* SPDX-License-Identifier: MIT */
/* Listings: backends/shm/list.c and query.c, children and buses that are no child's. */
#include "shm/liar.h"
#include "shm/local.h"

#include "../../backends/shm/parent.h"

#define MIB ((uint64_t)1 << 20)

/* What a listing tells, for the test to compare. */
struct told {
	int machines;
	unsigned int children, channels, open, wrong;
	int32_t pid;
};

static void told_child(void *ctx, const struct vmbus_shm_child_info *info)
{
	struct told *const told = ctx;

	told->children++;
	told->pid = info->pid;
	if (strcmp(info->name, "machine") == 0) {
		told->machines++;
		told->wrong += info->vps != 3 || info->memory_bytes != 5 * MIB || info->ending ||
			       info->pid != (int32_t)getpid();
		return;
	}
	told->wrong += strcmp(info->name, "guest") != 0 || info->vps != 1 || info->ending ||
		       info->memory_bytes != 16 * MIB;
}

static void told_channel(void *ctx, const struct vmbus_chan_info *info)
{
	struct told *const told = ctx;

	told->channels++;
	told->open += info->send_bytes == 4096 && info->recv_bytes == 4096;
	told->wrong += strcmp(info->vsp, "echo") != 0 ||
		       !vmbus_guid_equal(&info->class_id, &echo_class) || info->faulted;
}

struct asker {
	pthread_t thread;
	const char *path;
	struct told told;
	int result, done;
};

static void *ask(void *arg)
{
	static const struct vmbus_shm_list_ops ops = { .struct_bytes = sizeof(ops),
						       .child = told_child,
						       .channel = told_channel };
	struct asker *const asker = arg;

	asker->result = vmbus_shm_list(asker->path, 10ull * SECOND_NS, &ops, &asker->told);
	__atomic_store_n(&asker->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void ask_host(struct host *host, struct asker *asker)
{
	memset(asker, 0, sizeof(*asker));
	asker->path = host->path;
	must_eq(pthread_create(&asker->thread, NULL, ask, asker), 0);
	host_until(host, __atomic_load_n(&asker->done, __ATOMIC_ACQUIRE));
	must_eq(pthread_join(asker->thread, NULL), 0);
}

START_TEST(shm_list__tells_children_and_channels)
{
	const struct job few = { .channels = 3, .payload = 100, .ring = 4096, .forever = true };
	struct asker asker;
	struct host host;
	pid_t pid[2];

	host_open(&host);
	ask_host(&host, &asker);
	must_eq(asker.result, 0);
	must_eq(asker.told.children, 0);
	host.channels = 1500; /* more than a socket's buffer holds */
	pid[0] = guest_start(host.path, &few);
	host_until(&host, host.packets > 100);
	ask_host(&host, &asker);
	must_eq(asker.result, 1500);
	must_eq(asker.told.children, 1);
	must_eq(asker.told.channels, 1500);
	must_eq(asker.told.open, 3);
	must_eq(asker.told.wrong, 0);
	must_eq(asker.told.pid, pid[0]);
	pid[1] = guest_start(host.path, &few);
	host_until(&host, host.attached == 2);
	ask_host(&host, &asker);
	must_eq(asker.result, 3000);
	must_eq(asker.told.children, 2);
	kill(pid[0], SIGKILL);
	kill(pid[1], SIGKILL);
	(void)guest_end(&host, pid[0]);
	(void)guest_end(&host, pid[1]);
	host_until(&host, host.detached == 2);
	host_close(&host);
}
END_TEST

START_TEST(shm_list__errors)
{
	struct vmbus_shm_list_ops ops = { .struct_bytes = sizeof(ops) };
	struct host host;

	host_open(&host);
	must_eq(vmbus_shm_list(host.path, 50000000, &ops, NULL), VMBUS_E_AGAIN); /* no dispatch */
	ops.struct_bytes = 1;
	must_eq(vmbus_shm_list(host.path, 0, &ops, NULL), VMBUS_E_INVAL);
	ops.struct_bytes = sizeof(ops);
	must_eq(vmbus_shm_list("", 0, &ops, NULL), VMBUS_E_RANGE);
	must_eq(vmbus_shm_list("/tmp/no such socket", 0, &ops, NULL), VMBUS_E_SYSTEM);
	must_eq(errno, ENOENT);
	host_close(&host);
}
END_TEST

/* A bus that is no child's, as that of a virtual machine. */

static int no_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type, const void *payload,
		   uint32_t bytes)
{
	(void)ctx, (void)vp, (void)sint, (void)type, (void)payload, (void)bytes;
	return VMBUS_E_AGAIN;
}

static int no_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	(void)ctx, (void)vp, (void)sint, (void)flag;
	return 0;
}

static struct vmbus_bus *make_machine(struct host *host, uint32_t channels)
{
	static const struct vmbus_backend backend = { .struct_bytes = sizeof(backend),
						      .post = no_post,
						      .raise = no_raise };
	const struct vmbus_bus_opts opts = { .struct_bytes = sizeof(opts),
					     .backend = &backend,
					     .name = "machine" };
	struct vmbus_bus *bus;

	must_eq(vmbus_bus_create(&opts, &bus), 0);
	while (channels--)
		must_eq(vmbus_bus_offer(bus, &echo_vsp, host, NULL, NULL), 0);
	return bus;
}

START_TEST(shm_server_add_bus__is_listed_after_the_children)
{
	const struct job few = { .channels = 1, .payload = 100, .ring = 4096, .forever = true };
	struct vmbus_bus *bus;
	struct asker asker;
	struct host host;
	pid_t pid;

	host_open(&host);
	bus = make_machine(&host, 700);
	must_eq(vmbus_shm_server_add_bus(host.server, bus, 3, 5 * MIB), 0);
	ask_host(&host, &asker);
	must_eq(asker.result, 700);
	must_eq(asker.told.machines, 1);
	must_eq(asker.told.children, 1);
	must_eq(asker.told.wrong, 0);
	host.channels = 2;
	pid = guest_start(host.path, &few);
	host_until(&host, host.packets > 10);
	ask_host(&host, &asker);
	must_eq(asker.result, 702);
	must_eq(asker.told.children, 2);
	must_eq(asker.told.machines, 1);
	must_eq(asker.told.pid, getpid()); /* told last */
	must_eq(asker.told.wrong, 0);
	vmbus_shm_server_remove_bus(host.server, bus);
	vmbus_shm_server_remove_bus(host.server, bus);
	vmbus_shm_server_remove_bus(host.server, NULL);
	ask_host(&host, &asker);
	must_eq(asker.result, 2);
	must_eq(asker.told.machines, 0);
	vmbus_bus_destroy(bus);
	kill(pid, SIGKILL);
	(void)guest_end(&host, pid);
	host_until(&host, host.detached == 1);
	host_close(&host);
}
END_TEST

START_TEST(shm_server_add_bus__errors)
{
	struct vmbus_bus *bus[65];
	struct local local;
	struct host host;
	uint32_t i;

	host_open(&host);
	for (i = 0; i < 65; i++)
		bus[i] = make_machine(&host, 0);
	for (i = 0; i < 64; i++)
		must_eq(vmbus_shm_server_add_bus(host.server, bus[i], 1, 0), 0);
	must_eq(vmbus_shm_server_add_bus(host.server, bus[64], 1, 0), VMBUS_E_FULL);
	must_eq(vmbus_shm_server_add_bus(host.server, bus[63], 1, 0), VMBUS_E_STATE);
	vmbus_shm_server_remove_bus(host.server, bus[64]); /* not told */
	vmbus_shm_server_remove_bus(host.server, bus[5]);
	local_attach(&host, &local);
	must_eq(vmbus_shm_server_add_bus(host.server, vmbus_shm_child_bus(host.child), 1, 0),
		VMBUS_E_STATE);
	must_eq(vmbus_shm_server_add_bus(host.server, bus[64], 1, 0), 0);
	vmbus_shm_detach(local.attach);
	for (i = 0; i < 65; i++) {
		vmbus_shm_server_remove_bus(host.server, bus[i]);
		vmbus_bus_destroy(bus[i]);
	}
	host_close(&host);
}
END_TEST

/* Take what a listing says until there is no more for now; returns the type of the last message. */
static uint32_t take_lines(int sock, uint32_t *children, uint32_t *channels)
{
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg = { 0 };

	while (vmbus__shm_recv(sock, &record) == 1) {
		must_eq(vmbus__shm_decode(record.bytes, record.len, &msg), 0);
		*children += msg.type == VMBUS_SHM_CHILD;
		*channels += msg.type == VMBUS_SHM_CHANNEL;
	}
	return msg.type;
}

/* The bus goes, and another takes its place, while it is being told. */
START_TEST(shm_server_remove_bus__while_it_is_told)
{
	const struct vmbus__shm_msg query = { .type = VMBUS_SHM_LIST };
	uint32_t children = 0, channels = 0, last = 0, i;
	struct vmbus_bus *bus, *next;
	struct host host;
	int sock;

	host_open(&host);
	bus = make_machine(&host, 500);
	next = make_machine(&host, 500);
	must_eq(vmbus_shm_server_add_bus(host.server, bus, 1, 0), 0);
	sock = raw_connect(host.path);
	raw_say(sock, &query);
	for (i = 0; i < 10 && channels == 0; i++) {
		must(vmbus_shm_server_dispatch(host.server, 1) >= 0);
		last = take_lines(sock, &children, &channels);
	}
	must(channels > 0 && channels < 500);
	must_eq(last, VMBUS_SHM_CHANNEL);
	vmbus_shm_server_remove_bus(host.server, bus);
	vmbus_bus_destroy(bus);
	must_eq(vmbus_shm_server_add_bus(host.server, next, 1, 0), 0);
	i = channels;
	for (last = 0; last != VMBUS_SHM_LIST_END;) {
		must(vmbus_shm_server_dispatch(host.server, 64) >= 0);
		last = take_lines(sock, &children, &channels);
	}
	must_eq(channels, i); /* the new one is not taken for the rest of the old one */
	must_eq(children, 1);
	close(sock);
	vmbus_shm_server_remove_bus(host.server, next);
	vmbus_bus_destroy(next);
	host_close(&host);
}
END_TEST

/* The time of the listing that is under way is over. */
static void end_time(struct host *host)
{
	uint32_t i, found = 0;
	int other;

	for (i = 0; i < VMBUS_SHM_CONNS_MAX; i++)
		if (host->server->conns[i].fd >= 0 && host->server->conns[i].listing) {
			host->server->conns[i].deadline = 1;
			found++;
		}
	must_eq(found, 1);
	other = raw_connect(host->path); /* has the server look at its deadlines anew */
	must(vmbus_shm_server_dispatch(host->server, 1) >= 0);
	close(other);
	usleep(10000);
}

/* A client that is too slow hears why, and not what says that its question is not known. */
START_TEST(list__that_is_not_taken_in_time_is_refused_as_late)
{
	const struct vmbus__shm_msg query = { .type = VMBUS_SHM_LIST };
	struct vmbus_shm_server_stats stats;
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg = { 0 };
	struct vmbus_bus *bus;
	struct host host;
	int sock, i;

	host_open(&host);
	bus = make_machine(&host, 1000);
	must_eq(vmbus_shm_server_add_bus(host.server, bus, 1, 0), 0);
	sock = raw_connect(host.path);
	raw_say(sock, &query);
	for (i = 0; i < 30; i++) /* until the socket is full */
		must(vmbus_shm_server_dispatch(host.server, 1) >= 0);
	end_time(&host);
	for (i = 0; i < 20; i++) /* room for an answer */
		must_eq(vmbus__shm_recv(sock, &record), 1);
	must(vmbus_shm_server_dispatch(host.server, 1) >= 0);
	while (vmbus__shm_recv(sock, &record) == 1)
		must_eq(vmbus__shm_decode(record.bytes, record.len, &msg), 0);
	must_eq(msg.type, VMBUS_SHM_REFUSED);
	must_eq(msg.u.text.code, VMBUS_SHM_CODE_LATE);
	must(strstr(msg.u.text.text, "not taken in time") != NULL);
	vmbus_shm_server_stats(host.server, &stats);
	must_eq(stats.quota_conns, 1);
	close(sock);
	vmbus_shm_server_remove_bus(host.server, bus);
	vmbus_bus_destroy(bus);
	host_close(&host);
}
END_TEST

/* n: the code of a refusal, and from 100 on one behind a line; from 200 on it takes its time. */
static void play_refusal(int sock, int n)
{
	const struct vmbus__shm_msg child = { .type = VMBUS_SHM_CHILD,
					      .u.child = { .name = "c", .vps = 1 } };

	if (n >= 200)
		usleep(50000);
	else if (n >= 100)
		(void)vmbus__shm_send(sock, &child, NULL, 0);
	vmbus__shm_send_text(sock, VMBUS_SHM_REFUSED, (uint32_t)n % 100u, "no");
	wait_for_end(sock);
}

static void no_record(void *ctx, const struct vmbus_shm_child_info *info, const void *mem,
		      size_t bytes)
{
	(void)ctx, (void)info, (void)mem, (void)bytes;
}

static int ask_liar(int play, int which, uint64_t timeout_ns)
{
	const struct vmbus_shm_list_ops list = { .struct_bytes = sizeof(list) };
	const struct vmbus_shm_diag_ops diag = { .struct_bytes = sizeof(diag) };
	struct liar liar;
	int got;

	liar_start(&liar, play_refusal, play);
	if (which == 0)
		got = vmbus_shm_list(liar.path, timeout_ns, &list, NULL);
	else if (which == 1)
		got = vmbus_shm_diag(liar.path, timeout_ns, &diag, NULL);
	else
		got = vmbus_shm_records(liar.path, timeout_ns, no_record, NULL);
	liar_end(&liar);
	return got;
}

START_TEST(list_diag_records__tell_refusals_apart)
{
	static const struct {
		int play, list, diag;
	} rows[] = {
		{ VMBUS_SHM_CODE_VERSION, VMBUS_E_NOTSUP, VMBUS_E_NOTSUP },
		{ VMBUS_SHM_CODE_MESSAGE, VMBUS_E_PERM,
		  VMBUS_E_NOTSUP }, /* it knows no such query */
		{ VMBUS_SHM_CODE_FULL, VMBUS_E_PERM, VMBUS_E_PERM },
		{ VMBUS_SHM_CODE_LATE, VMBUS_E_AGAIN, VMBUS_E_AGAIN },
		{ 100 + VMBUS_SHM_CODE_LATE, VMBUS_E_AGAIN, VMBUS_E_AGAIN },
		/* What earlier parents say when it was not taken in time. */
		{ 100 + VMBUS_SHM_CODE_MESSAGE, VMBUS_E_PERM, VMBUS_E_AGAIN },
		{ 99, VMBUS_E_PERM, VMBUS_E_PERM },
	};
	size_t n;

	for (n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		vmbus_test_at("row %zu", n);
		must_eq(ask_liar(rows[n].play, 0, 0), rows[n].list);
		must_eq(ask_liar(rows[n].play, 1, 0), rows[n].diag);
		must_eq(ask_liar(rows[n].play, 2, 0), rows[n].diag);
	}
}
END_TEST

START_TEST(list_diag_records__wait_as_long_as_told)
{
	int which;

	for (which = 0; which < 3; which++)
		must_eq(ask_liar(200 + VMBUS_SHM_CODE_FULL, which, UINT64_MAX), VMBUS_E_PERM);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "list", 8);

	tcase_add_test(tc, shm_list__tells_children_and_channels);
	tcase_add_test(tc, shm_list__errors);
	tcase_add_test(tc, shm_server_add_bus__is_listed_after_the_children);
	tcase_add_test(tc, shm_server_add_bus__errors);
	tcase_add_test(tc, shm_server_remove_bus__while_it_is_told);
	tcase_add_test(tc, list__that_is_not_taken_in_time_is_refused_as_late);
	tcase_add_test(tc, list_diag_records__tell_refusals_apart);
	tcase_add_test(tc, list_diag_records__wait_as_long_as_told);
}

VMBUS_TEST_MAIN("shm.list", tests)

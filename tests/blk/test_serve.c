/* SPDX-License-Identifier: MIT */
/* vmbus-blk between several processes: which disk is found and known by what, kills, ends that stall. */
#include "blk.h"

static int load(const char *words)
{
	return shell("$blk load -s p %s 2>&1", words);
}

static bool until_said(const char *command, const char *part)
{
	const uint64_t until = now_ns() + WAIT_NS;

	while (now_ns() < until) {
		(void)shell("%s 2>&1", command);
		if (strstr(said, part))
			return true;
		a_while();
	}
	return false;
}

static void wait_for_disk(const char *where)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "$blk load -s p --requests 1 --read 100 %s",
		       where);
	ck_assert_msg(until_said(command, "1 requests:"), "it said: %s", said);
}

START_TEST(blk_load__finds_the_disk_on_any_controller)
{
	pid_t parent, one, two;

	NEEDS_BLK();
	begin();
	parent = start_parent("mem=8M mem=8M,lun=5,serial=S5", NULL);
	one = start_provider("--name one mem=8M,lun=1");
	wait_for_disk("--disk 1");
	two = start_provider("--name two mem=8M,lun=2 mem=8M,lun=5,serial=T5");
	wait_for_disk("--disk 2");
	must_eq(load("--verify --requests 1000"), 0);
	must_eq(load("--verify --requests 1000 --disk 1"), 0);
	must_eq(load("--verify --requests 1000 --disk 2 --channels 2"), 0);
	must_eq(load("--requests 1 --disk 3"), 1);
	must_say("there is no disk at target 0, LUN 3 of 3 controllers");
	must_eq(load("--requests 1 --disk 5"), 1);
	must_say("2 controllers have such a disk at target 0, LUN 5");
	must_eq(load("--requests 1 --disk 5 --serial S5"), 0);
	must_say("serial S5");
	must_eq(load("--requests 1 --disk 5 --serial T5"), 0);
	must_say("serial T5");
	must_eq(load("--requests 1 --disk 5 --serial U5"), 1);
	must_say("LUN 5 with the serial U5 of 3 controllers");
	must_eq(stop(two), 0);
	must_eq(stop(one), 0);
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

/* What a disk is known by, as its guest sees it. */
static void id_of(const char *where, char id[40])
{
	const char *at;

	wait_for_disk(where);
	at = strstr(said, " id ");
	ck_assert_msg(at != NULL, "it said: %s", said);
	(void)snprintf(id, 40, "%.36s", at + 4);
}

START_TEST(blk_serve__each_disk_has_an_id_of_its_own)
{
	static const char *const words[] = {
		"mem=1M",
		"--name other mem=1M",
		"file=f",
		"file=g",
		"file=f,id=00112233-4455-6677-8899-aabbccddeeff",
	};
	char id[5][40], again[40];
	pid_t parent, provider;
	size_t i, k;

	NEEDS_BLK();
	begin();
	must_eq(shell("truncate -s 1M f g"), 0);
	for (i = 0; i < 5; i++) {
		parent = start_parent("mem=1M,lun=3", NULL);
		provider = start_provider(words[i]);
		id_of("--disk 0", id[i]);
		id_of("--disk 3", again);
		ck_assert_str_ne(id[i], again);
		must_eq(stop(provider), 0);
		provider = start_provider(words[i]);
		id_of("--disk 0", again);
		ck_assert_str_eq(id[i], again);
		must_eq(stop(provider), 0);
		must_eq(stop(parent), 0);
		for (k = 0; k < i; k++)
			ck_assert_str_ne(id[i], id[k]);
	}
	ck_assert_str_eq(id[4], "00112233-4455-6677-8899-aabbccddeeff");
	finish();
}
END_TEST

/* A parent may see the new one before it sees that the old one died. */
START_TEST(blk_serve__can_be_started_again_at_once)
{
	pid_t parent, provider, old;
	uint32_t i;

	NEEDS_BLK();
	begin();
	parent = start_parent("", NULL);
	provider = start_provider("mem=8M");
	wait_for_disk("");
	for (i = 0; i < 10; i++) {
		old = provider;
		if (i % 2) { /* as if the parent were slow: it is refused at first */
			provider = start_provider("mem=8M");
			nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
			kill(old, SIGKILL);
		} else {
			kill(old, SIGKILL);
			provider = start_provider("mem=8M");
		}
		must_eq(end_of(old), 128 + SIGKILL);
		wait_for_disk("");
		must_eq(waitpid(provider, NULL, WNOHANG), 0);
	}
	must_eq(shell("$blk serve -s p mem=8M 2>&1"), 1);
	must_say("there is a provider of this class and name, blk: --take-over replaces it");
	must_eq(stop(provider), 0);
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

START_TEST(blk_parent__takes_its_times)
{
	pid_t parent, provider, client;
	uint64_t began;

	NEEDS_BLK();
	begin();
	parent = start_parent("--wait 1 --answer 2", NULL);
	provider = start_provider("mem=8M");
	client = start_load("");
	kill(provider, SIGKILL);
	began = now_ns();
	must_eq(end_of(provider), 128 + SIGKILL);
	must_eq(end_of(client), 1);
	must(now_ns() - began >= 900000000u);
	must_eq(shell("cat errors"), 0);
	must_say("went away");
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

/* ---- a store that stalls ---- */

static pid_t start_nbd_server(void)
{
	const pid_t pid = start("nbdkit -f -U n -P pid memory 8M", NULL);

	wait_for_file("pid");
	return pid;
}

#define NEEDS_NBD()                                                                                \
	do {                                                                                       \
		NEEDS_BLK();                                                                       \
		if (system("command -v nbdkit >/dev/null"))                                        \
			VMBUS_TEST_SKIP("nbdkit is not installed");                                \
		begin();                                                                           \
		if (shell("$blk serve -s nowhere nbd=nbd://x/ 2>&1") && strstr(said, "libnbd")) {  \
			finish();                                                                  \
			VMBUS_TEST_SKIP("built without libnbd");                                   \
		}                                                                                  \
	} while (0)

#define NBD "'nbd=nbd+unix:///?socket=n'"

static const char *const where[] = { "in a provider", "in the parent" };

/* One signal and half a second; then another, and it ends whatever it waits for. */
START_TEST(vmbus_blk__a_second_signal_ends_it)
{
	pid_t server, parent, provider = 0, client, one;
	uint64_t began;
	int status;

	NEEDS_NBD();
	vmbus_test_at("%s", where[_i]);
	server = start_nbd_server();
	parent = start_parent(_i ? NBD : "", NULL);
	if (!_i)
		provider = start_provider(NBD);
	client = start_load("");
	kill(server, SIGSTOP);
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	one = _i ? parent : provider;
	began = now_ns();
	kill(one, SIGTERM);
	nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	kill(one, SIGTERM); /* as timeout(1) does; it says nothing */
	nanosleep(&(struct timespec){ .tv_nsec = 700000000 }, NULL);
	kill(one, SIGTERM);
	began = now_ns() - began;
	status = end_of(one);
	must_eq(shell("cat errors"), 0);
	if (began < 1500000000u) { /* else its store may have let go before */
		must_eq(status, 1);
		must_say("a second signal: ends at once");
	}
	if (!_i) {
		kill(parent, SIGTERM);
		(void)end_of(parent);
	}
	(void)end_of(client);
	kill(server, SIGKILL);
	(void)end_of(server);
	finish();
}
END_TEST

/* What has stalled is given up. */
START_TEST(vmbus_blk__one_signal_ends_it_though_a_store_stalls)
{
	pid_t server, parent, provider = 0, client, one;
	uint64_t began;

	NEEDS_NBD();
	vmbus_test_at("%s", where[_i]);
	server = start_nbd_server();
	parent = start_parent(_i ? NBD : "", NULL);
	if (!_i)
		provider = start_provider(NBD);
	client = start_load("");
	kill(server, SIGSTOP);
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	one = _i ? parent : provider;
	began = now_ns();
	must_eq(stop(one), 0);
	ck_assert_msg(now_ns() - began < 20000000000u, "it took %llu ms",
		      (unsigned long long)(now_ns() - began) / 1000000u);
	if (!_i)
		must_eq(stop(parent), 0);
	must_eq(end_of(client), 1);
	kill(server, SIGKILL);
	(void)end_of(server);
	finish();
}
END_TEST

/* Each channel connects to the server by itself, from within the sandbox. */
START_TEST(blk_serve__connects_for_each_channel)
{
	pid_t server, parent, provider;

	NEEDS_NBD();
	server = start_nbd_server();
	parent = start_parent("", NULL);
	provider = start_provider("'nbd=nbd+unix:///?socket=n,queues=3'");
	wait_for_disk("");
	must_eq(load("--verify --channels 3 --requests 3000"), 0);
	must_eq(load("--verify --channels 3 --requests 3000"), 0);
	must_eq(shell("$blk serve -s p --name other nbd=nbd://localhost:1/ 2>&1"), 1);
	must_eq(stop(provider), 0);
	must_eq(stop(parent), 0);
	kill(server, SIGKILL);
	(void)end_of(server);
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "serve", 90);

	tcase_add_test(tc, blk_serve__connects_for_each_channel);
	tcase_add_test(tc, blk_load__finds_the_disk_on_any_controller);
	tcase_add_test(tc, blk_serve__each_disk_has_an_id_of_its_own);
	tcase_add_test(tc, blk_serve__can_be_started_again_at_once);
	tcase_add_test(tc, blk_parent__takes_its_times);
	tcase_add_loop_test(tc, vmbus_blk__a_second_signal_ends_it, 0, 2);
	tcase_add_loop_test(tc, vmbus_blk__one_signal_ends_it_though_a_store_stalls, 0, 2);
}

VMBUS_TEST_MAIN("blk.serve", tests)

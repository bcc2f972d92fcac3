/* SPDX-License-Identifier: MIT */
/* vmbus-blk parent and load: disks of all kinds, what is refused, and that wrong data is seen. */
#include "blk.h"

static int load(const char *words)
{
	return shell("$blk load -s p --json %s 2>&1", words);
}

START_TEST(blk_load__verifies)
{
	static const char *const ways[] = {
		"--requests 20000",
		"--requests 3000 --size 512-256K --unaligned --flush 3 --fua 10",
		"--requests 3000 --size 4K-64K --trim 20 --flush 5 --depth 64",
		"--requests 3000 --size 128K --sequential --read 30",
		"--requests 20000 --channels 2 --spin",
		"--requests 2000 --depth 1 --seed 77",
	};
	pid_t parent;

	NEEDS_BLK();
	begin();
	parent = start_parent("mem=32M,queues=2", NULL);
	ck_assert_msg(shell("$blk load -s p --json --verify %s 2>&1", ways[_i]) == 0, "it said: %s",
		      said);
	must_say("\"ok\": true");
	must_say("\"failed\": 0");
	must_say("\"wrong\": 0");
	must_eq(stop(parent), 0);
	must(!is_there("p"));
	finish();
}
END_TEST

START_TEST(blk_load__uses_each_kind_of_disk)
{
	pid_t parent;

	NEEDS_BLK();
	begin();
	must_eq(shell("truncate -s 16M f"), 0);
	parent = start_parent("mem=16M,sector=4096 null=1T,lun=7 mem=8M,target=1,ro "
			      "mem=8M,lun=3,write-through,serial=S0,faulty",
			      NULL);
	must_eq(load("--verify --requests 2000 --size 4K-64K"), 0);
	must_eq(load("--disk 7 --requests 20000"), 0);
	must_eq(load("--disk 1:0 --requests 2000 --read 100"), 0);
	must_eq(load("--disk 0:3 --verify --requests 2000"), 0);
	must_eq(load("--requests 10 --size 512"), 1);
	must_say("--size: the disk has sectors of 4096 bytes");
	must_eq(load("--disk 1:0 --requests 10"), 1);
	must_say("the disk is read-only: --read 100 reads it");
	must_eq(load("--disk 2 --requests 10"), 1);
	must_say("there is no disk at target 0, LUN 2");
	must_eq(load("--requests 10 --size 8M"), 1);
	must_say("bytes at once at most");
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

START_TEST(blk_load__sees_wrong_data)
{
	pid_t parent;

	NEEDS_BLK();
	begin();
	parent = start_parent("null=16M", NULL);
	must_eq(load("--verify --requests 5000"), 1);
	must_say("are not what was written");
	must_say("\"ok\": false");
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

START_TEST(blk_serve__files)
{
	pid_t parent, provider;

	NEEDS_BLK();
	begin();
	must_eq(shell("truncate -s 32M f"), 0);
	parent = start_parent("", NULL);
	must_eq(shell("$blk serve -s p file=f,frob 2>&1"), 2);
	must_say("frob: no such word");
	must_eq(shell("$blk serve -s p file=nowhere 2>&1"), 1);
	must_say("nowhere: No such file");
	provider = start_provider("file=f,queues=2 mem=8M,lun=5");
	if (load("--verify --requests 5000 --size 512-128K --trim 5 --flush 5 --channels 2") ||
	    strstr(said, "liburing"))
		ck_abort_msg("it said: %s", said);
	must_eq(load("--verify --requests 5000 --disk 5"), 0);
	must_eq(shell("$blk serve -s p file=f --name other 2>&1"), 1);
	must_say("f: another process has it open");
	must_eq(shell("$blk serve -s p null=1M 2>&1"), 1);
	must_say("there is a provider of this class and name");
	must_eq(stop(provider), 0);
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

/* The parent's end is an end of its own. */
START_TEST(blk_serve__ends_with_its_parent)
{
	pid_t parent, provider, client;

	NEEDS_BLK();
	begin();
	parent = start_parent("", NULL);
	provider = start_provider("mem=8M");
	client = start_load("--size 4K-64K");
	must_eq(load("--requests 100 --read 100"), 0);
	must_eq(stop(parent), 0);
	must_eq(end_of(provider), 3);
	must_eq(end_of(client), 1);
	must_eq(shell("cat errors"), 0);
	must_say("went away");
	must_eq(shell("$blk serve -s p mem=1M 2>&1"), 1);
	must_say("cannot attach");
	finish();
}
END_TEST

static const struct {
	const char *words, *said;
} wrong[] = {
	{ "", "what? serve, parent or load" },
	{ "frob", "frob: what?" },
	{ "serve mem=1M", "-s SOCKET is missing" },
	{ "serve -s p", "which disks?" },
	{ "serve -s p --frob", "what is this: --frob" },
	{ "serve -s p mem=1X", "mem=1X: a size" },
	{ "serve -s p mem=1000", "mem=1000: it is not of whole sectors of 512 bytes" },
	{ "parent -s p --wait 0", "--wait 0: seconds, 1 to 3600" },
	{ "parent -s p --answer x", "--answer x: seconds, 1 to 3600" },
	{ "parent", "where to listen: -s SOCKET is missing" },
	{ "parent -s p --name x", "what is this: --name" },
	{ "load", "of which parent: -s SOCKET is missing" },
	{ "load -s p word", "what is this: word" },
	{ "load -s", "-s needs a value" },
	{ "load -s p --frob", "no such option: --frob" },
	{ "load -s p --size 4K-2K", "a wrong value: 4K-2K" },
	{ "load -s p --size 16M", "a wrong value: 16M" },
	{ "load -s p --depth 0", "a wrong value: 0" },
	{ "load -s p --channels 66", "a wrong value: 66" },
	{ "load -s p --read 101", "a wrong value: 101" },
	{ "load -s p --disk 2:0", "a wrong value: 2:0" },
	{ "load -s p --seconds 0", "a wrong value: 0" },
	{ "load -s p --seed x", "a wrong value: x" },
};

START_TEST(vmbus_blk__says_what_is_wrong)
{
	NEEDS_BLK();
	begin();
	must_eq(shell("$blk %s 2>&1", wrong[_i].words), 2);
	must_say(wrong[_i].said);
	must_say("usage: vmbus-blk serve");
	finish();
}
END_TEST

START_TEST(vmbus_blk__tells_of_itself)
{
	NEEDS_BLK();
	begin();
	must_eq(shell("$blk --help"), 0);
	must_say("usage: vmbus-blk serve");
	must_eq(shell("$blk --version"), 0);
	must_say("vmbus-blk ");
	must_eq(shell("$blk load -s nowhere --timeout 1 2>&1"), 1);
	must_say("load: nowhere: No such file");
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "load", 90);

	tcase_add_loop_test(tc, blk_load__verifies, 0, 6);
	tcase_add_test(tc, blk_load__uses_each_kind_of_disk);
	tcase_add_test(tc, blk_load__sees_wrong_data);
	tcase_add_test(tc, blk_serve__files);
	tcase_add_test(tc, blk_serve__ends_with_its_parent);
	tcase_add_loop_test(tc, vmbus_blk__says_what_is_wrong, 0,
			    (int)(sizeof(wrong) / sizeof(wrong[0])));
	tcase_add_test(tc, vmbus_blk__tells_of_itself);
}

VMBUS_TEST_MAIN("blk.load", tests)

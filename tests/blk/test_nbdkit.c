/* SPDX-License-Identifier: MIT */
/* The plugin for nbdkit, with the programs that people use NBD by: nbdinfo, nbdcopy, qemu-img, fio. */
#include "blk.h"

#define URI "'nbd+unix:///?socket=n'"
#define KILLS 200
#define FIO                                                                                        \
	"fio --name=x --ioengine=nbd --uri=" URI " --rw=randrw --bsrange=4k-128k --iodepth=16 "    \
	"--verify=crc32c --verify_fatal=1 --randrepeat=0 "

static bool there(const char *program)
{
	begin();
	must_eq(shell("command -v %s; true", program), 0);
	finish();
	return said[0] != 0;
}

#define NEEDS(program)                                                                             \
	do {                                                                                       \
		if (!there(program))                                                               \
			VMBUS_TEST_SKIP(program " is not installed");                              \
	} while (0)

#define NEEDS_PLUGIN()                                                                             \
	do {                                                                                       \
		NEEDS_BLK();                                                                       \
		if (access(built("tools/nbdkit-vmbus-plugin.so"), R_OK))                           \
			VMBUS_TEST_SKIP("the plugin was not built");                               \
		NEEDS("nbdkit");                                                                   \
	} while (0)

static pid_t start_nbdkit(const char *more)
{
	char command[800];
	pid_t pid;

	(void)snprintf(command, sizeof(command), "nbdkit -f -U n -P pid %s socket=p %s",
		       built("tools/nbdkit-vmbus-plugin.so"), more);
	pid = start(command, NULL);
	wait_for_file("pid");
	return pid;
}

START_TEST(nbdkit_vmbus__exports_a_disk)
{
	pid_t parent, nbdkit;

	NEEDS_PLUGIN();
	NEEDS("nbdinfo");
	begin();
	parent = start_parent("mem=16M,serial=S0 mem=8M,lun=4,sector=4096,ro", NULL);
	nbdkit = start_nbdkit("disk=0 depth=8");
	must_eq(shell("nbdinfo " URI " 2>&1"), 0);
	must_say("export-size: 16777216");
	must_say("is_read_only: false");
	must_say("can_trim: true");
	must_say("can_fua: true");
	must_say("block_size_minimum: 512");
	must_eq(shell("head -c 9437184 /dev/urandom >a && nbdcopy a " URI " && nbdcopy " URI
		      " b && cmp -n 9437184 a b 2>&1"),
		0);
	must_eq(stop(nbdkit), 0);
	must_eq(shell("rm -f n pid"), 0);
	nbdkit = start_nbdkit("disk=0:4 queues=1");
	must_eq(shell("nbdinfo " URI " 2>&1"), 0);
	must_say("is_read_only: true");
	must_say("block_size_minimum: 4096");
	must_eq(stop(nbdkit), 0);
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

START_TEST(nbdkit_vmbus__says_what_is_wrong)
{
	pid_t parent;

	NEEDS_PLUGIN();
	begin();
	parent = start_parent("mem=1M", NULL);
	must_eq(shell("nbdkit -f -U n %s disk=0 2>&1", built("tools/nbdkit-vmbus-plugin.so")), 1);
	must_say("socket=PATH is missing");
	must_eq(shell("nbdkit -f -U n %s socket=p disk=x 2>&1",
		      built("tools/nbdkit-vmbus-plugin.so")),
		1);
	must_say("disk=x: it is a LUN");
	must_eq(shell("nbdkit -f -U n %s socket=p queues=17 2>&1",
		      built("tools/nbdkit-vmbus-plugin.so")),
		1);
	must_say("queues=17: it is 1 to 16");
	must_eq(shell("nbdkit -f -U n %s socket=p frob=1 2>&1",
		      built("tools/nbdkit-vmbus-plugin.so")),
		1);
	must_say("no such parameter: frob");
	must_eq(shell("nbdkit -f -U n %s socket=p disk=9 2>&1",
		      built("tools/nbdkit-vmbus-plugin.so")),
		1);
	must_say("there is no disk at target 0, LUN 9 of 1 controller");
	must_eq(shell("nbdkit -f -U n %s socket=p serial=S 2>&1",
		      built("tools/nbdkit-vmbus-plugin.so")),
		1);
	must_say("LUN 0 with the serial S");
	must_eq(shell("nbdkit -f -U n %s socket=q 2>&1", built("tools/nbdkit-vmbus-plugin.so")), 1);
	must_say("q: No such file");
	/* Into the background: it says so before, and leaves no socket. */
	must_eq(shell("nbdkit -U n %s socket=q 2>&1", built("tools/nbdkit-vmbus-plugin.so")), 1);
	must_eq(shell("nbdkit -U n %s socket=p disk=9 2>&1", built("tools/nbdkit-vmbus-plugin.so")),
		1);
	must(!is_there("n"));
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

START_TEST(nbdkit_vmbus__qemu_img_works_on_it)
{
	pid_t parent, nbdkit;

	NEEDS_PLUGIN();
	NEEDS("qemu-img");
	begin();
	parent = start_parent("mem=16M", NULL);
	nbdkit = start_nbdkit("");
	must_eq(shell("qemu-img create -q -f raw a 16M && qemu-io -f raw -c 'write -P 77 1M 3M' "
		      "-c 'write -z 2M 64K' a && qemu-img convert -n -f raw -O raw a " URI
		      " && qemu-img compare -f raw -F raw a " URI " 2>&1"),
		0);
	must_say("Images are identical");
	must_eq(shell("qemu-io -f raw -c 'discard 1M 1M' -c 'read -P 0 1M 1M' -c 'write -z 3M 64K' "
		      "-c 'read -P 0 3M 64K' -c 'read -P 77 2240K 64K' -c flush " URI " 2>&1"),
		0);
	must_eq(stop(nbdkit), 0);
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

/* Verified fio, and the process that has the disk is killed meanwhile. */
START_TEST(nbdkit_vmbus__fio_sees_no_kill)
{
	pid_t parent, nbdkit, provider, fio;
	uint32_t i;
	int out, status;

	NEEDS_PLUGIN();
	NEEDS("fio");
	if (system("fio --enghelp=nbd >/dev/null 2>&1"))
		VMBUS_TEST_SKIP("fio has no nbd");
	begin();
	parent = start_parent("", &out);
	provider = start_provider("mem=32M");
	nbdkit = start_nbdkit("");
	must_eq(shell(FIO "--size=32M 2>&1"), 0);
	must_say("err= 0");
	fio = start(FIO "--size=32M --verify_backlog=32 --time_based --runtime=1000 >fio 2>&1",
		    NULL);
	for (i = 0; i < KILLS; i++) {
		char line[128];
		size_t used = 0;

		vmbus_test_at("kill %u", i);
		nanosleep(&(struct timespec){ .tv_nsec = (long)(i * 7919u % 23u) * 1000000 + 1 },
			  NULL);
		kill(provider, SIGKILL);
		must_eq(end_of(provider), 128 + SIGKILL);
		provider = start_provider("mem=32M");
		while (used == 0 || line[used - 1] != '\n')
			must(used < sizeof(line) && read(out, line + used++, 1) == 1);
		must_eq(waitpid(fio, NULL, WNOHANG), 0);
	}
	kill(fio, SIGINT);
	status = end_of(fio);
	must_eq(shell("cat fio"), 0);
	/* Stopped by a signal it says 128, and what went wrong besides. */
	ck_assert_msg((status == 0 || status == 128) && strstr(said, "err= 0") &&
			      !strstr(said, "verify:") && !strstr(said, "io_u error"),
		      "status %d: %s", status, said);
	must_eq(stop(nbdkit), 0);
	must_eq(stop(provider), 0);
	must_eq(stop(parent), 0);
	close(out);
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "nbdkit", 110);

	tcase_add_test(tc, nbdkit_vmbus__exports_a_disk);
	tcase_add_test(tc, nbdkit_vmbus__says_what_is_wrong);
	tcase_add_test(tc, nbdkit_vmbus__qemu_img_works_on_it);
	tcase_add_test(tc, nbdkit_vmbus__fio_sees_no_kill);
}

VMBUS_TEST_MAIN("blk.nbdkit", tests)

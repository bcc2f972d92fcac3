/* SPDX-License-Identifier: MIT */
/*
 * The program as people run it: what it says when something is missing, and guests of a few
 * instructions on this machine's /dev/kvm, where there is one.
 */
#define _GNU_SOURCE
#include "vmm_guest.h"

#include <sys/eventfd.h>

/* ---- without KVM ---- */

START_TEST(vmm__usage_and_version)
{
	ck_assert_int_eq(shell("%s --help 2>&1", vmm()), 0);
	ck_output("usage: vmbus-vmm --kernel FILE");
	ck_assert_int_eq(shell("%s --version 2>&1", vmm()), 0);
	ck_output("vmbus-vmm 0.");
	ck_assert_int_eq(shell("%s 2>&1", vmm()), VMM_USAGE);
	ck_output("no kernel: name one with --kernel");
	ck_assert_int_eq(shell("%s --kernel k --frob 2>&1", vmm()), VMM_USAGE);
	ck_output("--frob: no such option");
}
END_TEST

START_TEST(vmm__a_bad_image_or_too_little_memory)
{
	static uint8_t image[BZ_BYTES];
	const char *path;

	ck_assert_int_eq(shell("%s --kernel /etc/passwd 2>&1", vmm()), VMM_ERROR);
	ck_output("--kernel /etc/passwd: is neither a bzImage");
	make_bzimage(image);
	path = make_file("image", image, sizeof(image));
	ck_assert_int_eq(shell("%s --kernel %s --mem 16M 2>&1", vmm(), path), VMM_ERROR);
	ck_output("--mem 16M is too little: kernel and initrd alone need 18M");
	unlink(path);
}
END_TEST

START_TEST(vmm__without_kvm_says_what_to_do)
{
	const char *const path = GUEST(powers_off);

	if (geteuid() != 0)
		VMBUS_TEST_SKIP("only root can hide /dev/kvm");
	if (shell("unshare -m true 2>&1"))
		VMBUS_TEST_SKIP("no mount name space here");
	ck_assert_int_eq(shell("unshare -m sh -c 'mount -t tmpfs none /dev && exec %s --kernel %s' "
			       "2>&1",
			       vmm(), path),
			 VMM_ERROR);
	ck_output("/dev/kvm is missing: load the module kvm_intel or kvm_amd");
	unlink(path);
}
END_TEST

START_TEST(vmm__a_forbidden_kvm_names_the_group)
{
	const char *const path = GUEST(powers_off);

	if (geteuid() != 0)
		VMBUS_TEST_SKIP("only root can become nobody");
	if (shell("unshare -m sh -c 'mount -t tmpfs none /dev && mknod -m 600 /dev/kvm c 10 232 && "
		  "exec setpriv --reuid 65534 --regid 65534 --clear-groups %s --kernel %s' 2>&1",
		  vmm(), path) != VMM_ERROR ||
	    strstr(output, "ermission denied"))
		VMBUS_TEST_SKIP("nobody cannot start programs of this build tree");
	ck_output("/dev/kvm: not allowed: join the group kvm");
	unlink(path);
}
END_TEST

START_TEST(vmm_send__says_that_nobody_listens)
{
	ck_assert_int_eq(shell("%s --send /tmp/vmm-test-none status 2>&1", vmm()), VMM_ERROR);
	ck_output("no vmbus-vmm --control listens there");
}
END_TEST

/* ---- with KVM ---- */

START_TEST(vmm__a_guest_that_powers_off)
{
	NEEDS_KVM();
	ck_assert_msg(run(GUEST(powers_off), "--cpus 2") == VMM_POWEROFF, "%s", output);
	ck_output("hi\n");
	ck_output("loading kernel ... 0 MB");
	ck_output("started 2 processors, SynIC in ");
	ck_output("the guest powered off");
}
END_TEST

START_TEST(vmm__quiet_leaves_the_guests_words)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(powers_off), "--quiet"), VMM_POWEROFF);
	ck_assert_str_eq(output, "hi\n");
}
END_TEST

START_TEST(vmm__no_reboot_ends_at_a_reset)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(resets), "--no-reboot"), VMM_RESET);
	ck_output("the guest reset itself (--no-reboot)");
}
END_TEST

START_TEST(vmm__the_reset_register_is_the_last_that_it_does)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(resets_by_register), "--no-reboot --quiet"), VMM_RESET);
	ck_assert_str_eq(output, "");
}
END_TEST

START_TEST(vmm__two_hundred_processors)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(powers_off), "--cpus 200"), VMM_POWEROFF);
	ck_output("started 200 processors");
	ck_output("hi\n");
}
END_TEST

START_TEST(vmm__a_triple_fault_is_a_reset)
{
	NEEDS_KVM();
	ck_assert_msg(run(GUEST(faults), "--no-reboot --verbose") == VMM_RESET, "%s", output);
	ck_output("triple fault, taken as a reset");
}
END_TEST

START_TEST(vmm__a_reset_begins_with_empty_memory)
{
	const char *at;
	int count = 0;

	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(resets_again), "--quiet --cpus 2 --timeout 3"), VMM_TIMEOUT);
	for (at = output; *at == 'A'; at++)
		count++;
	ck_assert_msg(count >= 3, "it said: %s", output);
	ck_no_output("B");
	ck_output("--timeout: 3 seconds are over");
}
END_TEST

START_TEST(vmm__a_guest_that_hangs_ends_by_timeout)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(hangs), "--timeout 0.3"), VMM_TIMEOUT);
	ck_output("--timeout: 0.3 seconds are over");
}
END_TEST

/* More than the port's FIFO at once, while there is a deadline too. */
START_TEST(vmm__pasted_input_arrives)
{
	const char *const path = GUEST(reads_to_q);

	NEEDS_KVM();
	ck_assert_int_eq(shell("{ head -c 300 /dev/zero | tr '\\0' a; printf q; } | %s --kernel %s "
			       "--mem 32M --timeout 15 " SANDBOX " 2>&1",
			       vmm(), path),
			 VMM_POWEROFF);
	unlink(path);
}
END_TEST

START_TEST(vmm__a_crash_is_told_with_its_text)
{
	NEEDS_KVM();
	ck_assert_msg(run(GUEST(crashes), "") == VMM_CRASH, "%s", output);
	ck_output("the guest crashed:\nvmbus-vmm:   it\nvmbus-vmm:   burns\n");
}
END_TEST

START_TEST(vmm__where_nothing_is_reads_are_ones)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(reads_nothing), "--quiet --timeout 3"), VMM_POWEROFF);
	ck_assert_str_eq(output, "k");
}
END_TEST

START_TEST(vmm__reports)
{
	const char *const name = make_file("report", "", 0);
	const char *overhead;
	char args[256];

	NEEDS_KVM();
	(void)snprintf(args, sizeof(args), "--report %s", name);
	ck_assert_int_eq(run(GUEST(marks), args), VMM_POWEROFF);
	ck_assert_int_eq(shell("python3 -m json.tool %s 2>&1", name), 0);
	ck_output("\"schema\": \"vmbus-vmm-report/1\"");
	ck_output("\"end\": \"poweroff\"");
	ck_output("\"id\": 42");
	ck_output("\"exits\": ");
	ck_output("\"guest_bytes\": 33554432");
	overhead = strstr(output, "\"overhead_bytes\": ");
	ck_assert_ptr_nonnull(overhead);
#ifndef SANITIZED
	ck_assert_int_lt(atoll(overhead + strlen("\"overhead_bytes\": ")), 8 << 20);
#endif
	unlink(name);
}
END_TEST

START_TEST(vmm__copies_the_console_to_a_file)
{
	const char *const name = make_file("serial", "", 0);
	char args[256];

	NEEDS_KVM();
	(void)snprintf(args, sizeof(args), "--serial %s", name);
	ck_assert_int_eq(run(GUEST(powers_off), args), VMM_POWEROFF);
	ck_assert_int_eq(shell("cat %s", name), 0);
	ck_assert_str_eq(output, "hi\n");
	unlink(name);
}
END_TEST

START_TEST(vmm__files_that_cannot_be_made)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(powers_off), "--serial /nowhere/x"), VMM_ERROR);
	ck_output("--serial /nowhere/x: No such file");
	ck_assert_int_eq(run(GUEST(powers_off), "--report /nowhere/x"), VMM_ERROR);
	ck_output("--report /nowhere/x: No such file");
	ck_assert_int_eq(run(GUEST(powers_off), "--control /nowhere/x"), VMM_ERROR);
	ck_output("--control /nowhere/x: No such file");
	ck_assert_int_eq(run(GUEST(powers_off), "--socket /nowhere/x"), VMM_ERROR);
	ck_output("--socket /nowhere/x");
	ck_assert_int_eq(run(GUEST(powers_off), "--control /etc/passwd"), VMM_ERROR);
	ck_output("something is there already");
}
END_TEST

START_TEST(vmm__a_way_that_this_kvm_cannot_go)
{
	int status;

	NEEDS_KVM();
	status = run(GUEST(powers_off), "--synic kernel");
	if (status == VMM_POWEROFF)
		VMBUS_TEST_SKIP("this KVM has Hyper-V emulation");
	ck_assert_int_eq(status, VMM_ERROR);
	ck_output("use --synic user");
}
END_TEST

/* What other vCPUs asked for on their way to the stop was of the machine before. */
START_TEST(bus_reset__forgets_what_the_old_machine_asked_for)
{
	static struct vmm m;

	NEEDS_KVM();
	m.opts = (struct vmm_opts){ .kernel = GUEST(powers_off),
				    .append = "",
				    .cpus = 1,
				    .node = -1,
				    .no_ic = true,
				    .memory_bytes = 32 * MIB };
	m.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m.image.kernel_fd = m.image.initrd_fd = m.out_fd = m.serial_fd = -1;
	vmm_platform_init(&m.platform);
	pthread_mutex_init(&m.lock, NULL);
	ck_assert_int_eq(vmm_image_open(&m.image, &m.opts), 0);
	ck_assert_int_eq(vmm_memory_create(&m.memory, &m.opts), 0);
	ck_assert_int_eq(vmm_partition_create(&m), 0);
	m.asked_shutdown = m.sent_shutdown = true;
	m.asks = VMM_ASK_RESET | VMM_ASK_OFF | VMM_ASK_OUTPUT;
	listen_to_us();
	vmm_bus_reset(&m);
	ck_said("the guest resets itself, number 1");
	ck_assert_uint_eq(m.asks, VMM_ASK_OUTPUT);
	ck_assert(!m.ended && m.asked_shutdown && !m.sent_shutdown);
	vmm_partition_destroy(&m);
	vmm_memory_destroy(&m.memory);
	vmm_image_close(&m.image);
	unlink(m.opts.kernel);
	close(m.event_fd);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "vmm", 20);

	tcase_add_test(tc, vmm__usage_and_version);
	tcase_add_test(tc, vmm__a_bad_image_or_too_little_memory);
	tcase_add_test(tc, vmm__without_kvm_says_what_to_do);
	tcase_add_test(tc, vmm__a_forbidden_kvm_names_the_group);
	tcase_add_test(tc, vmm_send__says_that_nobody_listens);
	tc = vmbus_test_case(suite, "guests", 20);
	tcase_add_test(tc, vmm__a_guest_that_powers_off);
	tcase_add_test(tc, vmm__quiet_leaves_the_guests_words);
	tcase_add_test(tc, vmm__no_reboot_ends_at_a_reset);
	tcase_add_test(tc, vmm__the_reset_register_is_the_last_that_it_does);
	tcase_add_test(tc, bus_reset__forgets_what_the_old_machine_asked_for);
	tcase_add_test(tc, vmm__two_hundred_processors);
	tcase_add_test(tc, vmm__pasted_input_arrives);
	tcase_add_test(tc, vmm__a_triple_fault_is_a_reset);
	tcase_add_test(tc, vmm__a_reset_begins_with_empty_memory);
	tcase_add_test(tc, vmm__a_guest_that_hangs_ends_by_timeout);
	tcase_add_test(tc, vmm__a_crash_is_told_with_its_text);
	tcase_add_test(tc, vmm__where_nothing_is_reads_are_ones);
	tcase_add_test(tc, vmm__reports);
	tcase_add_test(tc, vmm__copies_the_console_to_a_file);
	tcase_add_test(tc, vmm__files_that_cannot_be_made);
	tcase_add_test(tc, vmm__a_way_that_this_kvm_cannot_go);
}

VMBUS_TEST_MAIN("vmm.vmm", tests)

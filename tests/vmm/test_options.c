/* SPDX-License-Identifier: MIT */
/* The command line: what is accepted, and what each wrong word is told. */
#define _GNU_SOURCE
#include "vmm_test.h"

static struct vmm_opts opts;

static int parse(const char *line)
{
	static char copy[512];
	char *argv[64], *save, *word;
	int argc = 0;

	(void)snprintf(copy, sizeof(copy), "vmbus-vmm %s", line);
	for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	return vmm_options(&opts, argc, argv);
}

START_TEST(options__defaults)
{
	ck_assert_int_eq(parse("--kernel k"), 0);
	ck_assert_str_eq(opts.kernel, "k");
	ck_assert_uint_eq(opts.memory_bytes, 512 * MIB);
	ck_assert_uint_eq(opts.cpus, 1);
	ck_assert_int_eq(opts.way, VMBUS_KVM_AUTO);
	ck_assert_int_eq(opts.node, -1);
	ck_assert(!opts.no_sandbox && !opts.no_ic && !opts.no_reboot && !opts.huge_pages);
	ck_assert_str_eq(opts.append, "");
}
END_TEST

START_TEST(options__takes_them_all)
{
	ck_assert_int_eq(parse("--kernel k --initrd i --append a --mem 2G --cpus 4 --synic user "
			       "--device echo --device echo,monitor=100,count=3 --no-ic "
			       "--no-reboot --serial s --socket so --control c --report r "
			       "--timeout 1.5 --numa-node 1 --huge-pages --sandbox off --verbose"),
			 0);
	ck_assert_uint_eq(opts.memory_bytes, 2 * GIB);
	ck_assert_uint_eq(opts.cpus, 4);
	ck_assert_int_eq(opts.way, VMBUS_KVM_USER);
	ck_assert_uint_eq(opts.device_count, 2);
	ck_assert_uint_eq(opts.devices[0].count, 1);
	ck_assert_uint_eq(opts.devices[1].count, 3);
	ck_assert_uint_eq(opts.devices[1].monitor_us, 100);
	ck_assert_uint_eq(opts.timeout_ns, 1500000000u);
	ck_assert_int_eq(opts.node, 1);
	ck_assert(opts.no_sandbox && opts.no_ic && opts.no_reboot && opts.huge_pages);
}
END_TEST

START_TEST(options__sends_a_line)
{
	ck_assert_int_eq(parse("--send path status"), 0);
	ck_assert_str_eq(opts.send, "path");
	ck_assert_str_eq(opts.send_line, "status");
}
END_TEST

static const struct {
	const char *line, *said;
} wrong[] = {
	{ "", "no kernel: name one with --kernel" },
	{ "--kernel", "--kernel needs a value" },
	{ "--kernel k --frob", "--frob: no such option" },
	{ "--kernel k word", "word: options begin with --" },
	{ "--kernel k --mem x", "--mem x: a size is a number with M or G" },
	{ "--kernel k --mem -1M", "--mem -1M" },
	{ "--kernel k --mem 7M", "--mem 7M" },
	{ "--kernel k --mem 1025G", "--mem 1025G" },
	{ "--kernel k --mem 1Gi", "--mem 1Gi" },
	{ "--kernel k --mem 99999999999999999999G", "--mem 9999" },
	{ "--kernel k --cpus 0", "--cpus 0: it takes a number, 1 to 254" },
	{ "--kernel k --cpus 255", "--cpus 255" },
	{ "--kernel k --cpus two", "--cpus two" },
	{ "--kernel k --synic both", "--synic both: it is kernel, user or auto" },
	{ "--kernel k --device disk", "--device disk: no such device; there are echo and" },
	{ "--kernel k --device provider=", "a socket's path has 1 to 96" },
	{ "--kernel k --device provider=a --device provider=b --device provider=c "
	  "--device provider=d --device provider=e",
	  "4 sockets are the most" },
	{ "--restore d --cpus 2", "leave out --mem, --cpus" },
	{ "--kernel k --device echo,speed=1", "no such option: speed=1" },
	{ "--kernel k --device echo,count=0", "count= takes 1 to 2047" },
	{ "--kernel k --device echo,count=2048", "count= takes 1 to 2047" },
	{ "--kernel k --device echo,monitor=0", "monitor= takes microseconds" },
	{ "--kernel k --device echo,count=2045", "2045 channels in all; 2047 are the most" },
	{ "--kernel k --timeout soon", "--timeout soon: seconds are" },
	{ "--kernel k --timeout 0", "--timeout 0" },
	{ "--kernel k --numa-node x", "--numa-node x: it takes a number" },
	{ "--kernel k --sandbox maybe", "--sandbox maybe: it is on or off" },
	{ "--send path", "--send PATH takes one LINE" },
	{ "--send path add echo", "--send PATH takes one LINE" },
};

START_TEST(options__names_what_is_wrong)
{
	listen_to_us();
	ck_assert_int_eq(parse(wrong[_i].line), -1);
	ck_said(wrong[_i].said);
}
END_TEST

START_TEST(options__too_many_devices)
{
	char *argv[200] = { "vmbus-vmm" };
	int i, argc = 1;

	for (i = 0; i < 65; i++) {
		argv[argc++] = "--device";
		argv[argc++] = "echo";
	}
	listen_to_us();
	ck_assert_int_eq(vmm_options(&opts, argc, argv), -1);
	ck_said("64 of them are the most");
}
END_TEST

/* A guest that crashes is quoted. */
START_TEST(say__has_no_characters_that_control_a_terminal)
{
	listen_to_us();
	vmm_warn("it says \033]0;x\a\r\nvmbus-vmm: \303\244 \177");
	ck_said("vmbus-vmm: it says ?]0;x???vmbus-vmm: \303\244 ?\n");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "options", 10);

	tcase_add_test(tc, options__defaults);
	tcase_add_test(tc, options__takes_them_all);
	tcase_add_test(tc, options__sends_a_line);
	tcase_add_loop_test(tc, options__names_what_is_wrong, 0,
			    (int)(sizeof(wrong) / sizeof(wrong[0])));
	tcase_add_test(tc, options__too_many_devices);
	tcase_add_test(tc, say__has_no_characters_that_control_a_terminal);
}

VMBUS_TEST_MAIN("vmm.options", tests)

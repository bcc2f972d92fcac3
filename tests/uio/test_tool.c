/* SPDX-License-Identifier: MIT */
/* vmbus-uio as people run it, on a folder that looks like /sys; the library does the rest. */
#include "uio/kernel.h"

#include <sys/wait.h>

static struct kernel k;
static char text[1 << 16];

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
	const char *build = getenv("VMBUS_BUILD_DIR");
	char args[512], command[1024];
	size_t len;
	FILE *pipe;
	va_list list;
	int status;

	va_start(list, format);
	(void)vsnprintf(args, sizeof(args), format, list);
	va_end(list);
	(void)snprintf(command, sizeof(command), "%s/tools/vmbus-uio %s 2>&1", build ? build : ".",
		       args);
	pipe = popen(command, "re");
	must(pipe != NULL);
	len = fread(text, 1, sizeof(text) - 1, pipe);
	text[len] = '\0';
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void says(const char *part)
{
	if (!strstr(text, part))
		ck_abort_msg("no '%s' in: %s", part, text);
}

static void two_devices(void)
{
	kernel_folder(&k);
	kernel_device(&k, KERNEL_OTHER, KERNEL_SHUTDOWN, 2, -1);
	kernel_set_driver(&k, KERNEL_OTHER, "hv_utils");
	kernel_device(&k, KERNEL_GUID, "f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8", 1, 5);
	kernel_bound(&k, KERNEL_GUID);
}

START_TEST(vmbus_uio__lists)
{
	two_devices();
	must_eq(run("list --sysfs %s", k.sys), 0);
	says(KERNEL_GUID);
	says("uio0          64  f2a3b1c4-");
	says("shutdown");
	says("hv_utils");
	must_eq(run("list --json --sysfs %s", k.sys), 0);
	says("\"schema\": \"vmbus-uio-list/1\"");
	says("\"monitor_id\": null, \"driver\": \"hv_utils\", \"uio\": \"\"");
	says("\"monitor_id\": 5, \"driver\": \"uio_hv_generic\", \"uio\": \"uio0\"");
	says("\"complete\": true}");
	must_eq(run("list --json --sysfs %s | python3 -m json.tool", k.sys), 0);
	kernel_rm(&k, "sys/bus/vmbus/devices/" KERNEL_GUID);
	kernel_rm(&k, "sys/bus/vmbus/devices/" KERNEL_OTHER);
	must_eq(run("list --sysfs %s", k.sys), 0);
	says("no device is on the bus");
	must_eq(run("list --json --sysfs /nonexistent"), 1);
	says("\"complete\": false}");
	says("hv_vmbus");
	kernel_folder_end(&k);
}
END_TEST

START_TEST(vmbus_uio__says_what_is_wrong)
{
	two_devices();
	must_eq(run("bind --sysfs %s " KERNEL_OTHER, k.sys), 1);
	says("the driver hv_utils holds it; --force");
	must_eq(run("unbind --sysfs %s " KERNEL_OTHER, k.sys), 1);
	says("the driver hv_utils holds it, not uio_hv_generic");
	must_eq(run("bind --sysfs %s " KERNEL_GUID, k.sys), 0);
	says("1 device bound");
	must_eq(run("echo --sysfs %s --dev %s " KERNEL_OTHER, k.sys, k.dev), 1);
	says("vmbus-uio bind --force " KERNEL_OTHER);
	/* The file is there, and is none of a device. */
	must_eq(run("echo --sysfs %s --dev %s uio0", k.sys, k.dev), 1);
	says("errno 19");
	says("could not be opened");
	must_eq(run("unbind --sysfs /nonexistent uio0"), 1);
	says("no VMBus");
	kernel_folder_end(&k);
}
END_TEST

START_TEST(vmbus_uio__refuses_wrong_words)
{
	static const char *const wrong[] = { "",
					     "frob",
					     "list x",
					     "list --force",
					     "bind",
					     "bind a b",
					     "bind --json x",
					     "unbind",
					     "unbind --packets 1 uio0",
					     "echo",
					     "echo --packets 0 uio0",
					     "echo --packets 1x uio0",
					     "echo --packets -1 uio0",
					     "echo --payload 4097 uio0",
					     "echo --window 70000 uio0",
					     "echo --timeout 100000 uio0",
					     "echo --opens uio0",
					     "echo --nonsense uio0" };
	uint32_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		vmbus_test_at("%s", wrong[i]);
		must_eq(run("%s", wrong[i]), 2);
	}
	must_eq(run("--help"), 0);
	says("usage: vmbus-uio list");
	must_eq(run("--version"), 0);
	says("vmbus-uio ");
	must_eq(run("bind nonsense"), 1);
	says("nonsense: neither a GUID");
	must_eq(run("bind uio0"), 1);
	says("named by its GUID");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tool", 10);

	tcase_add_test(tc, vmbus_uio__lists);
	tcase_add_test(tc, vmbus_uio__says_what_is_wrong);
	tcase_add_test(tc, vmbus_uio__refuses_wrong_words);
}
VMBUS_TEST_MAIN("uio.tool", tests)

/* SPDX-License-Identifier: MIT */
/* backends/uio/sysfs.c and bind.c: what is read, what is written, and what is said. */
#include "uio/kernel.h"

static struct kernel k;

struct seen {
	uint32_t n;
	struct vmbus_uio_info info[8];
};

static void see(void *ctx, const struct vmbus_uio_info *info)
{
	struct seen *seen = ctx;

	must(seen->n < 8);
	seen->info[seen->n++] = *info;
}

static struct seen list(void)
{
	const struct vmbus_uio_opts opts = kernel_opts(&k, NULL);
	struct seen seen = { 0 };

	must_eq(vmbus_uio_list(&opts, see, &seen), seen.n);
	return seen;
}

static void three_devices(void)
{
	kernel_folder(&k);
	kernel_device(&k, KERNEL_OTHER, KERNEL_SHUTDOWN, 2, -1);
	kernel_set_driver(&k, KERNEL_OTHER, "hv_utils");
	kernel_device(&k, KERNEL_GUID, "f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8", 1, 5);
	kernel_bound(&k, KERNEL_GUID);
	kernel_device(&k, "cccccccc-0001-4000-8000-000000000003",
		      "f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8", 2047, 127);
}

START_TEST(uio_list__tells_of_each_device)
{
	const struct vmbus_guid echo = VMBUS_ECHO_CLASS;
	struct seen seen;

	three_devices();
	seen = list();
	must_eq(seen.n, 3);
	must(vmbus_guid_equal(&seen.info[0].class_id, &echo));
	must_eq(seen.info[0].relid, 1);
	must_eq(seen.info[0].monitor_id, 5);
	must_eq(seen.info[0].ring_bytes, 16 * 4096);
	ck_assert_str_eq(seen.info[0].driver, UIO_DRIVER);
	ck_assert_str_eq(seen.info[0].uio, "uio0");
	must_eq(seen.info[1].monitor_id, VMBUS_MONITOR_NONE);
	must_eq(seen.info[1].ring_bytes, 0);
	ck_assert_str_eq(seen.info[1].driver, "hv_utils");
	ck_assert_str_eq(seen.info[1].uio, "");
	must_eq(seen.info[2].relid, 2047);
	must_eq(seen.info[2].monitor_id, 127);
	ck_assert_str_eq(seen.info[2].driver, "");
	kernel_folder_end(&k);
}
END_TEST

START_TEST(uio_list__passes_over_what_makes_no_sense)
{
	static const struct {
		const char *file, *text;
		bool is_device;
	} rows[] = {
		{ "class_id", "{f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8}", true },
		{ "class_id", "", false },
		{ "class_id", "{f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8", false },
		{ "device_id", "aaaa\n", false },
		{ "id", "0\n", false },
		{ "id", "2048\n", false },
		{ "id", "-1\n", false },
		{ "id", " 1\n", false },
		{ "id", "1 2\n", false },
		{ "id", "99999999999999999999999\n", false },
		{ "id", "1\n", true },
		{ "monitor_id", "128\n", true },
		{ "uio/uio0/maps/map0/size", "0x3001\n", true },
		{ "uio/uio0/maps/map0/size", "0x2000\n", true },
		{ "uio/uio0/maps/map0/size", "0\n", true },
		{ "uio/uio0/maps/map0/size", "0xfffffffffffff000\n", true },
		{ "uio/uio0/maps/map0/size", "x\n", true },
		{ "uio/uio0/maps/map0/name", "rings\n", true },
	};
	char long_text[600];
	uint32_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct seen seen;

		vmbus_test_at("row %u", i);
		three_devices();
		kernel_attr(&k, KERNEL_GUID, rows[i].file, rows[i].text);
		seen = list();
		must_eq(seen.n, rows[i].is_device ? 3 : 2);
		if (strncmp(rows[i].file, "uio/", 4) == 0)
			must_eq(seen.info[0].ring_bytes, 0);
		if (strcmp(rows[i].file, "monitor_id") == 0)
			must_eq(seen.info[0].monitor_id, VMBUS_MONITOR_NONE);
		kernel_folder_end(&k);
	}
	three_devices();
	memset(long_text, '1', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	kernel_attr(&k, KERNEL_GUID, "id", long_text);
	must_eq(list().n, 2);
	kernel_mkdir("%s/bus/vmbus/devices/%s", k.sys,
		     "a-name-that-is-longer-than-that-of-any-device-and-so-none");
	must_eq(list().n, 2);
	kernel_folder_end(&k);
}
END_TEST

START_TEST(uio_list__without_a_bus)
{
	struct vmbus_uio_opts opts;
	char longest[500];

	kernel_folder(&k);
	opts = kernel_opts(&k, NULL);
	must_eq(vmbus_uio_list(&opts, NULL, NULL), 0);
	opts.struct_bytes--;
	must_eq(vmbus_uio_list(&opts, NULL, NULL), VMBUS_E_INVAL);
	opts = kernel_opts(&k, NULL);
	opts.sysfs = "/nonexistent";
	must_eq(vmbus_uio_list(&opts, NULL, NULL), VMBUS_E_NOTSUP);
	must(strstr(k.why, "hv_vmbus") != NULL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	opts.sysfs = longest;
	must_eq(vmbus_uio_list(&opts, NULL, NULL), VMBUS_E_SYSTEM);
	opts.why = NULL;
	must_eq(vmbus_uio_list(&opts, NULL, NULL), VMBUS_E_SYSTEM);
	kernel_folder_end(&k);
}
END_TEST

static int bind_to(const char *device, bool force)
{
	struct vmbus_uio_opts opts = kernel_opts(&k, device);

	opts.force = force;
	return vmbus_uio_bind(&opts);
}

static int unbind(const char *device)
{
	const struct vmbus_uio_opts opts = kernel_opts(&k, device);

	return vmbus_uio_unbind(&opts);
}

START_TEST(uio_bind__one_and_all_of_a_class)
{
	struct seen seen;

	three_devices();
	must_eq(bind_to(KERNEL_GUID, false), 1); /* it was bound */
	must_eq(k.puts, 0);
	must_eq(bind_to("{F2A3B1C4-5d6e-4f70-8192-a3b4c5d6e7f8}", false), 2);
	must(strstr(k.last_put, "drivers/" UIO_DRIVER "/bind cccccccc-") != NULL);
	must(!k.class_given);
	seen = list();
	ck_assert_str_eq(seen.info[2].driver, UIO_DRIVER);
	ck_assert_str_eq(seen.info[1].driver, "hv_utils");
	kernel_folder_end(&k);
}
END_TEST

START_TEST(uio_bind__says_who_holds_it)
{
	three_devices();
	must_eq(bind_to(KERNEL_OTHER, false), VMBUS_E_STATE);
	must(strstr(k.why, "hv_utils") != NULL && strstr(k.why, "--force") != NULL);
	must_eq(k.puts, 0);
	must_eq(bind_to(KERNEL_OTHER, true), 1);
	ck_assert_str_eq(list().info[1].driver, UIO_DRIVER);
	kernel_folder_end(&k);
}
END_TEST

START_TEST(uio_bind__by_class_where_there_is_no_override)
{
	kernel_folder(&k);
	k.no_override = true;
	kernel_device(&k, KERNEL_GUID, KERNEL_SHUTDOWN, 1, 5);
	must_eq(bind_to(KERNEL_GUID, false), 1);
	must(k.class_given);
	must_eq(unbind(KERNEL_GUID), 1);
	must(!k.class_given); /* else it had been bound again */
	ck_assert_str_eq(list().info[0].driver, "hv_own");
	/* A class that is known already is no error. */
	kernel_set_driver(&k, KERNEL_GUID, "");
	k.put_fails = "/new_id";
	k.put_errno = EEXIST;
	must_eq(bind_to(KERNEL_GUID, false), 1);
	kernel_unbound(&k, KERNEL_GUID);
	k.put_errno = EACCES;
	must_eq(bind_to(KERNEL_GUID, false), VMBUS_E_PERM);
	kernel_folder_end(&k);
}
END_TEST

/* A program that opens the device whenever it can. */
static uint32_t tries;

static void open_it(const char *path)
{
	const struct vmbus_uio_opts opts = kernel_opts(&k, KERNEL_GUID);
	struct vmbus_uio *uio;

	if (!kernel_ends(path, "/remove_id"))
		return;
	tries++;
	must_eq(vmbus_uio_open(&opts, &uio), VMBUS_E_AGAIN);
}

START_TEST(uio_unbind__of_a_class_is_for_good)
{
	kernel_folder(&k);
	k.no_override = true;
	kernel_device(&k, KERNEL_GUID, KERNEL_SHUTDOWN, 1, 5);
	must_eq(bind_to(KERNEL_GUID, false), 1);
	k.put_fails = "/remove_id";
	k.put_errno = EACCES;
	must_eq(unbind(KERNEL_GUID), VMBUS_E_PERM);
	must(strstr(k.why, "cannot take its class from " UIO_DRIVER) != NULL);
	ck_assert_str_eq(list().info[0].driver, UIO_DRIVER); /* as it says */
	k.put_fails = NULL;
	tries = 0;
	k.on_put = open_it;
	must_eq(unbind(KERNEL_GUID), 1);
	must_eq(tries, 1);
	ck_assert_str_eq(list().info[0].driver, "hv_own");
	kernel_folder_end(&k);
}
END_TEST

START_TEST(uio_bind__tells_the_reason)
{
	static const struct {
		const char *file;
		int no, err;
		const char *text;
	} rows[] = {
		{ "/bind", 524, VMBUS_E_NOTSUP, "monitor" },
		{ "/bind", EOPNOTSUPP, VMBUS_E_NOTSUP, "monitor" },
		{ "/bind", ENOMEM, VMBUS_E_NOMEM, "memory" },
		{ "/bind", EACCES, VMBUS_E_PERM, "root" },
		{ "/bind", EROFS, VMBUS_E_PERM, "read-only" },
		{ "/bind", EIO, VMBUS_E_SYSTEM, "errno 5" },
		{ "/driver_override", EPERM, VMBUS_E_PERM, "root" },
		{ "/hv_utils/unbind", EACCES, VMBUS_E_PERM, "root" },
	};
	uint32_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		vmbus_test_at("row %u", i);
		three_devices();
		k.put_fails = rows[i].file;
		k.put_errno = rows[i].no;
		must_eq(bind_to(KERNEL_OTHER, true), rows[i].err);
		must_eq(errno, rows[i].no);
		if (!strstr(k.why, rows[i].text) || !strstr(k.why, KERNEL_OTHER))
			ck_abort_msg("row %u: %s", i, k.why);
		/* Its own driver gets it back. */
		k.put_fails = NULL;
		ck_assert_str_eq(list().info[1].driver,
				 strcmp(rows[i].file, "/hv_utils/unbind") == 0 ? "hv_utils"
									       : "hv_own");
		kernel_folder_end(&k);
	}
}
END_TEST

START_TEST(uio_bind__refuses_what_is_no_device)
{
	struct vmbus_uio_opts opts;

	three_devices();
	opts = kernel_opts(&k, KERNEL_GUID);
	opts.struct_bytes = 8;
	must_eq(vmbus_uio_bind(&opts), VMBUS_E_INVAL);
	must_eq(vmbus_uio_unbind(&opts), VMBUS_E_INVAL);
	must_eq(bind_to(NULL, false), VMBUS_E_INVAL);
	must_eq(bind_to("", false), VMBUS_E_INVAL);
	must_eq(bind_to("uio0", false), VMBUS_E_INVAL);
	must_eq(bind_to("uio", false), VMBUS_E_INVAL);
	must_eq(bind_to("/dev/uio0x", false), VMBUS_E_INVAL);
	must_eq(bind_to("11111111-2222-3333-4444-555555555555", false), VMBUS_E_RANGE);
	must(strstr(k.why, "vmbus-uio list") != NULL);
	kernel_rm(&k, "sys/bus/vmbus/drivers/" UIO_DRIVER "/bind");
	must_eq(bind_to(KERNEL_GUID, false), VMBUS_E_NOTSUP);
	must(strstr(k.why, "modprobe " UIO_DRIVER) != NULL);
	kernel_rm(&k, "sys/bus/vmbus/devices");
	must_eq(bind_to(KERNEL_GUID, false), VMBUS_E_NOTSUP);
	must(strstr(k.why, "no VMBus") != NULL);
	kernel_folder_end(&k);
}
END_TEST

START_TEST(uio_unbind__gives_it_back)
{
	three_devices();
	must_eq(unbind("uio7"), VMBUS_E_RANGE);
	must_eq(unbind(KERNEL_OTHER), VMBUS_E_STATE);
	must(strstr(k.why, "hv_utils") != NULL);
	must_eq(unbind("/dev/uio0"), 1);
	ck_assert_str_eq(list().info[0].driver, "hv_own");
	must_eq(unbind(KERNEL_GUID), VMBUS_E_STATE);
	must_eq(bind_to(KERNEL_GUID, true), 1);
	k.put_fails = "/unbind";
	k.put_errno = EACCES;
	must_eq(unbind(KERNEL_GUID), VMBUS_E_PERM);
	must(strstr(k.why, "root") != NULL);
	kernel_folder_end(&k);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "sysfs", 10);

	tcase_add_test(tc, uio_list__tells_of_each_device);
	tcase_add_test(tc, uio_list__passes_over_what_makes_no_sense);
	tcase_add_test(tc, uio_list__without_a_bus);
	tcase_add_test(tc, uio_bind__one_and_all_of_a_class);
	tcase_add_test(tc, uio_bind__says_who_holds_it);
	tcase_add_test(tc, uio_bind__by_class_where_there_is_no_override);
	tcase_add_test(tc, uio_unbind__of_a_class_is_for_good);
	tcase_add_test(tc, uio_bind__tells_the_reason);
	tcase_add_test(tc, uio_bind__refuses_what_is_no_device);
	tcase_add_test(tc, uio_unbind__gives_it_back);
}
VMBUS_TEST_MAIN("uio.sysfs", tests)

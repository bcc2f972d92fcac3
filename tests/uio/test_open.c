/* SPDX-License-Identifier: MIT */
/* vmbus_uio_open() by each name, and what it says: backends/uio/uio.c. */
#include "uio/kernel.h"

static struct kernel k;

static int try_open(const char *device)
{
	const struct vmbus_uio_opts opts = kernel_opts(&k, device);
	struct vmbus_uio *uio = (struct vmbus_uio *)&k;
	const int err = vmbus_uio_open(&opts, &uio);

	if (err == 0)
		vmbus_uio_close(uio);
	else
		must(uio == NULL);
	return err;
}

START_TEST(uio_open__by_each_name)
{
	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	must_eq(try_open("uio0"), 0);
	must_eq(try_open("/dev/uio0"), 0);
	must_eq(try_open(KERNEL_GUID), 0);
	must_eq(try_open("{" KERNEL_GUID "}"), 0);
	must_eq(try_open("f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8"), 0);
	must_eq(k.opens, 0);
	kernel_end(&k);
}
END_TEST

static void no_refusal(void *ctx, const struct vmbus_ctl_tl *tl, uint32_t status)
{
	(void)ctx, (void)tl, (void)status;
}

static void no_news(void *ctx, int err)
{
	(void)ctx, (void)err;
}

/* Each by itself says that options were meant. */
START_TEST(uio_open__refuses_options_of_the_guest_without_their_size)
{
	struct vmbus_uio_opts opts;
	struct vmbus_uio *uio;
	uint32_t n;

	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	for (n = 0; n < 4; n++) {
		vmbus_test_at("row %u", n);
		opts = kernel_opts(&k, "uio0");
		memset(&opts.guest, 0, sizeof(opts.guest));
		opts.guest.tl_refused = n == 1 ? no_refusal : NULL;
		opts.guest.paused = n == 2 ? no_news : NULL;
		opts.guest.monitor_set = n == 3 ? no_news : NULL;
		must_eq(vmbus_uio_open(&opts, &uio), n ? VMBUS_E_INVAL : 0);
		if (!n)
			vmbus_uio_close(uio);
	}
	kernel_end(&k);
}
END_TEST

START_TEST(uio_open__says_what_is_wrong)
{
	struct vmbus_uio_opts opts;
	struct vmbus_uio *first, *second;

	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	must_eq(try_open("uio1"), VMBUS_E_RANGE);
	must_eq(try_open("nonsense"), VMBUS_E_INVAL);
	must_eq(try_open(KERNEL_OTHER), VMBUS_E_RANGE);
	kernel_device(&k, KERNEL_OTHER, KERNEL_SHUTDOWN, 9, -1);
	must_eq(try_open(KERNEL_OTHER), VMBUS_E_STATE);
	must(strstr(k.why, "no driver") && strstr(k.why, "vmbus-uio bind " KERNEL_OTHER));
	kernel_set_driver(&k, KERNEL_OTHER, "hv_utils");
	must_eq(try_open(KERNEL_OTHER), VMBUS_E_STATE);
	must(strstr(k.why, "hv_utils") && strstr(k.why, "bind --force"));
	opts = kernel_opts(&k, "uio0");
	opts.struct_bytes = 1;
	must_eq(vmbus_uio_open(&opts, &first), VMBUS_E_INVAL);
	opts = kernel_opts(&k, "uio0");
	opts.guest.struct_bytes = 0; /* its callbacks would be lost */
	must_eq(vmbus_uio_open(&opts, &first), VMBUS_E_INVAL);
	opts = kernel_opts(&k, "uio0");
	opts.guest.limits.chans_max = 5; /* without its struct_bytes */
	must_eq(vmbus_uio_open(&opts, &first), VMBUS_E_INVAL);
	must(strstr(k.why, "options") != NULL);
	/* One program at a time, and nobody unbinds it below that. */
	opts = kernel_opts(&k, "uio0");
	must_eq(vmbus_uio_open(&opts, &first), 0);
	must_eq(vmbus_uio_open(&opts, &second), VMBUS_E_AGAIN);
	must(strstr(k.why, "a program has opened it") != NULL);
	must_eq(vmbus_uio_unbind(&opts), VMBUS_E_AGAIN);
	must_eq(k.puts, 0);
	vmbus_uio_close(first);
	must_eq(vmbus_uio_open(&opts, &second), 0);
	vmbus_uio_close(second);
	kernel_attr(&k, KERNEL_GUID, "uio/uio0/maps/map2/name", "page\n");
	must_eq(try_open("uio0"), VMBUS_E_PEER);
	must(strstr(k.why, "monitor page") != NULL);
	kernel_attr(&k, KERNEL_GUID, "uio/uio0/maps/map0/size", "0x7000\n");
	must_eq(try_open("uio0"), VMBUS_E_PEER);
	kernel_rm(&k, "dev/uio0");
	kernel_bound(&k, KERNEL_GUID);
	kernel_rm(&k, "dev/uio0");
	must_eq(try_open("uio0"), VMBUS_E_SYSTEM);
	must(strstr(k.why, "devtmpfs") != NULL);
	kernel_end(&k);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "open", 10);

	tcase_add_test(tc, uio_open__by_each_name);
	tcase_add_test(tc, uio_open__refuses_options_of_the_guest_without_their_size);
	tcase_add_test(tc, uio_open__says_what_is_wrong);
}
VMBUS_TEST_MAIN("uio.open", tests)

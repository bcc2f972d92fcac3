/* SPDX-License-Identifier: MIT */
/* A device from its opening to its end: backends/uio/device.c, backend.c, over a real bus. */
#include "uio/drive.h"

#include <signal.h>
#include <sys/time.h>

static void run_echo(struct vmbus_uio *uio, struct vmbus_echo *echo,
		     const struct vmbus_echo_opts *opts)
{
	must_eq(vmbus_echo_start(echo, k.vsc, opts), 0);
	drive(uio, echo->done);
	must_eq(echo->err, 0);
	must_eq(echo->received, opts->packets);
	must_eq(echo->wrong, 0);
}

static void echo_with(uint32_t ring_pages, uint32_t monitor_us, bool masks, bool completions)
{
	struct vmbus_echo *const echo = calloc(1, sizeof(*echo));
	struct vmbus_echo_opts opts;
	struct vmbus_uio *uio;

	kernel_init(&k, vmbus_echo_vsp(), NULL, ring_pages, monitor_us);
	k.masks = masks;
	uio = kernel_connect_uio(&k);
	must_eq(vmbus_uio_ring_bytes(uio), (ring_pages - 1) * VMBUS_PAGE_BYTES);
	opts = echo_opts(uio, 5000, 64);
	opts.completions = completions;
	run_echo(uio, echo, &opts);
	opts = echo_opts(uio, 300, 1);
	opts.completions = completions;
	must_eq(vmbus_echo_again(echo, &opts), 0);
	drive(uio, echo->done);
	must_eq(echo->received, 300);
	must_eq(k.enables > 0, monitor_us == 0);
	close_channel(uio);
	must_eq(k.opens, 1);
	must_eq(k.closes, 1);
	vmbus_uio_close(uio);
	kernel_end(&k);
	free(echo);
}

START_TEST(uio__echo_through_the_monitor_page)
{
	echo_with(KERNEL_RING_PAGES, KERNEL_MONITOR_US, false, false);
}
END_TEST

START_TEST(uio__echo_with_completions)
{
	echo_with(KERNEL_RING_PAGES, KERNEL_MONITOR_US, false, true);
}
END_TEST

START_TEST(uio__echo_where_the_handler_masks)
{
	echo_with(KERNEL_RING_PAGES, KERNEL_MONITOR_US, true, false);
}
END_TEST

START_TEST(uio__echo_without_a_monitor)
{
	echo_with(KERNEL_RING_PAGES, 0, false, false);
}
END_TEST

START_TEST(uio__echo_over_512_pages)
{
	echo_with(512, KERNEL_MONITOR_US, false, false);
}
END_TEST

START_TEST(uio__echo_over_the_smallest_rings)
{
	echo_with(2, KERNEL_MONITOR_US, false, false);
}
END_TEST

START_TEST(uio_signal__sets_both_bits_and_no_other)
{
	static const uint8_t zeroes[VMBUS_PAGE_BYTES];
	struct vmbus_echo *const echo = calloc(1, sizeof(*echo));
	uint8_t page[VMBUS_PAGE_BYTES];
	struct vmbus_echo_opts opts;
	struct vmbus_uio *uio;

	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = echo_opts(uio, 1, 1);
	/* What a sender that waited leaves behind, and the kernel does not clear. */
	*kernel_word(&k, k.own.first, 12) = 4096;
	must_eq(vmbus_echo_start(echo, k.vsc, &opts), 0);
	open_alone(uio);
	must_eq(*kernel_word(&k, k.own.first, 12), 0);
	/* opened() has sent one packet; the bus has not looked since. */
	memcpy(page, kernel_page(&k, k.c2p), sizeof(page));
	must_eq(page[8 + k.monitor_id / 32 * 8 + k.monitor_id % 32 / 8], 1u << k.monitor_id % 8);
	page[8 + k.monitor_id / 32 * 8 + k.monitor_id % 32 / 8] = 0;
	must(memcmp(page, zeroes, sizeof(page)) == 0);
	memcpy(page, kernel_page(&k, k.int_page), sizeof(page));
	must_eq(page[2048 + k.own.relid / 8], 1u << k.own.relid % 8);
	page[2048 + k.own.relid / 8] = 0;
	must(memcmp(page, zeroes, sizeof(page)) == 0);
	must(memcmp(kernel_page(&k, k.p2c), zeroes, sizeof(page)) == 0);
	drive(uio, echo->done);
	must_eq(echo->received, 1);
	vmbus_uio_close(uio); /* closes the channel, too */
	must(!k.open);
	kernel_end(&k);
	free(echo);
}
END_TEST

START_TEST(uio__opened_and_closed_again_and_again)
{
	struct vmbus_echo *const echo = calloc(1, sizeof(*echo));
	struct vmbus_echo_opts opts;
	struct vmbus_uio *uio;
	uint32_t i;

	kernel_init(&k, vmbus_echo_vsp(), NULL, 4, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	for (i = 0; i < 20; i++) {
		opts = echo_opts(uio, 200 + i, 50);
		run_echo(uio, echo, &opts);
		must_eq(k.opens, i + 1);
		close_channel(uio);
		must_eq(k.closes, i + 1);
	}
	must_eq(k.line_count, 0);
	/* And a second connection of the same guest. */
	must_eq(vmbus_guest_disconnect(vmbus_uio_guest(uio)), 0);
	drive(uio, vmbus_guest_state(vmbus_uio_guest(uio)) == VMBUS_GUEST_IDLE);
	must_eq(k.gone_calls, 1);
	must_eq(vmbus_guest_connect(vmbus_uio_guest(uio)), 0);
	drive(uio, vmbus_guest_state(vmbus_uio_guest(uio)) == VMBUS_GUEST_CONNECTED);
	opts = echo_opts(uio, 100, 10);
	run_echo(uio, echo, &opts);
	vmbus_uio_close(uio);
	must_eq(k.gone_calls, 2);
	kernel_end(&k);
	free(echo);
}
END_TEST

/* The interrupt for these comes while the kernel opens, before it masks, or not at all. */
START_TEST(lesson_04_packets_before_the_open_result_are_kept)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;

	heard = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 5);
	close_channel(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 10);
	vmbus_uio_close(uio);
	must_eq(closed_calls, 2);
	kernel_end(&k);
}
END_TEST

/*
 * CVE-2025-40048: the handler masks after the program has unmasked, and before it waits.  Here the
 * handler comes between any two steps of the program: after its look at the ring, before its sleep.
 */
START_TEST(lesson_03_a_handler_that_masks_late_is_undone)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	uint32_t i;

	heard = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	k.masks = true;
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 5);
	for (i = 0; i < 100; i++) {
		const struct vmbus_msg msg = { .data = early, .len = 8, .type = VMBUS_PKT_INBAND };
		const uint64_t end = fake_now_ns() + DEADLINE_NS;

		while (vmbus_uio_dispatch(uio, 64) > 0)
			;
		/* A handler of an earlier packet, late: everything is consumed and armed. */
		*kernel_word(&k, k.own.first + k.ring_pages, 8) = 1;
		must(eventfd_write(k.event_fd, 1) == 0);
		/* While it is masked, the parent sends and does not signal. */
		must_eq(vmbus_chan_send(k.chan, &msg, 1), 1);
		while (heard < 6 + i) {
			must(vmbus_uio_wait(uio, SECOND) >= 0);
			must(fake_now_ns() < end);
		}
		while (vmbus_uio_dispatch(uio, 64) > 0)
			;
		must_eq(*kernel_word(&k, k.own.first + k.ring_pages, 8), 0);
	}
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

/* ---- what can go wrong at open ---- */

static int refuse(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	return VMBUS_E_NOMEM;
}

static void open_fails(struct vmbus_uio *uio, const struct vmbus_vsc_opts *opts, const char *line)
{
	opened_calls = 0;
	k.line_count = 0;
	must_eq(vmbus_vsc_open(k.vsc, opts), 0);
	drive(uio, opened_calls == 1 && vmbus_vsc_state(k.vsc) == VMBUS_VSC_OFFERED);
	must_eq(opened_err, VMBUS_E_PEER);
	must(!k.open);
	must_eq(kernel_maps(), 1);
	if (!kernel_logged(&k, line))
		ck_abort_msg("%s: %s", line, k.lines[0]);
}

START_TEST(uio__an_open_that_the_parent_refuses)
{
	struct vmbus_vsp vsp = early_vsp;
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;

	vsp.open = refuse;
	kernel_init(&k, &vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	open_fails(uio, &opts, "the parent refused");
	open_fails(uio, &opts, "the parent refused");
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio__an_open_that_fails_here)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	uint32_t i;

	heard = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	k.open_errno = EACCES;
	open_fails(uio, &opts, "errno 13");
	k.open_errno = 0;
	k.map_errno = ENOMEM;
	for (i = 1; i <= 3; i++) {
		k.map_fails_at = i;
		open_fails(uio, &opts, "cannot be mapped");
	}
	k.map_fails_at = 0;
	opts.user[119] = 1;
	open_fails(uio, &opts, "no user data");
	opts.user[119] = 0;
	opts.send_bytes -= VMBUS_PAGE_BYTES; /* the same together */
	opts.recv_bytes += VMBUS_PAGE_BYTES;
	open_fails(uio, &opts, "vmbus_uio_ring_bytes");
	k.line_count = 0;
	opts.recv_bytes -= VMBUS_PAGE_BYTES;
	must_eq(vmbus_vsc_open(k.vsc, &opts), VMBUS_E_NOMEM);
	must(kernel_logged(&k, "must be 65536 each"));
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 5);
	close_channel(uio);
	/* Unbound meanwhile, or its number given to another device. */
	kernel_rm(&k, "sys/bus/vmbus/devices/" KERNEL_GUID "/uio");
	i = k.opens;
	open_fails(uio, &opts, "unbound or withdrawn");
	must_eq(k.opens, i);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

static int dirty_open(const char *path)
{
	const int fd = kernel_sys_open(path);

	*kernel_word(&k, k.own.first, 0) = 64;
	return fd;
}

START_TEST(uio__rings_that_another_program_uses)
{
	struct vmbus__uio_sys sys = kernel_sys;
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;

	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	sys.open = dirty_open;
	vmbus__uio_sys = &sys;
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	open_fails(uio, &opts, "another program");
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio__nothing_else_can_be_shared)
{
	struct vmbus_guest *guest;
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;

	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	guest = vmbus_uio_guest(uio);
	must(vmbus_guest_pages(guest, 1) == NULL);
	must(kernel_logged(&k, "no shared memory but the rings"));
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard >= 5);
	must(vmbus_guest_pages(guest, 2 * KERNEL_RING_PAGES) == NULL); /* taken */
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

/* ---- the end ---- */

START_TEST(uio__a_device_that_is_withdrawn)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	int err = 0;

	heard = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 5);
	must_eq(vmbus_bus_revoke(k.chan), 0);
	kernel_withdraw(&k);
	while (err >= 0)
		err = vmbus_uio_wait(uio, DEADLINE_NS);
	must_eq(err, VMBUS_E_PEER);
	must_eq(closed_calls, 1);
	must_eq(k.gone_calls, 1);
	must(!k.open);
	must(!kernel_logged(&k, "lost"));
	must_eq(vmbus_uio_wait(uio, 0), VMBUS_E_PEER);
	must(!fake_readable(vmbus_uio_fd(uio)));
	/* Nothing is offered any more. */
	must_eq(vmbus_guest_disconnect(vmbus_uio_guest(uio)), 0);
	while (vmbus_guest_state(vmbus_uio_guest(uio)) != VMBUS_GUEST_IDLE)
		(void)vmbus_uio_wait(uio, SECOND);
	must_eq(vmbus_guest_connect(vmbus_uio_guest(uio)), 0);
	while (vmbus_guest_state(vmbus_uio_guest(uio)) != VMBUS_GUEST_CONNECTED)
		(void)vmbus_uio_wait(uio, SECOND);
	must_eq(k.offered, 1);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio__an_error_of_read_is_a_withdrawal)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	int err = 0;

	heard = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 5);
	k.event_errno = EINVAL;
	must(eventfd_write(k.event_fd, 1) == 0);
	while (err >= 0)
		err = vmbus_uio_wait(uio, DEADLINE_NS);
	must_eq(err, VMBUS_E_PEER);
	must(kernel_logged(&k, "taken for a withdrawal"));
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

/* Whatever the parent writes to the rings ends the opening and nothing else. */
START_TEST(uio__a_parent_that_breaks_the_rings)
{
	static const uint32_t words[] = { 1, 4, 0x7fffffffu, 0xffffffffu, 65536, 65544, 4 };
	struct vmbus_vsc_opts opts;
	struct vmbus_vsc_info info;
	struct vmbus_uio *uio;
	uint32_t i;

	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		heard = closed_calls = 0;
		must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
		drive(uio, heard == 5);
		*kernel_word(&k, k.own.first + k.ring_pages, 0) = words[i];
		must(eventfd_write(k.event_fd, 1) == 0);
		drive(uio, closed_calls == 1 && vmbus_vsc_state(k.vsc) == VMBUS_VSC_OFFERED);
		vmbus_vsc_info(k.vsc, &info);
		must(info.fault.field != VMBUS_FAULT_NONE);
		must(!k.open);
	}
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

static struct vmbus_uio *calling;

static void call_all(struct vmbus_vsc *vsc, int err)
{
	(void)vsc;
	must_eq(err, 0);
	vmbus_uio_close(calling);
	vmbus_uio_close(NULL);
	vmbus_guest_destroy(vmbus_uio_guest(calling));
	must_eq(vmbus_uio_dispatch(calling, 1), VMBUS_E_STATE);
	must_eq(vmbus_uio_wait(calling, SECOND), VMBUS_E_STATE);
	opened_calls++;
}

START_TEST(uio_dispatch__refuses_callbacks_and_budgets)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	uint32_t tries = 0;

	opened_calls = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	vmbus_guest_destroy(vmbus_uio_guest(uio)); /* the backend keeps it */
	must_eq(vmbus_uio_dispatch(uio, 0), VMBUS_E_RANGE);
	must_eq(vmbus_uio_dispatch(uio, 0x80000000u), VMBUS_E_RANGE);
	while (vmbus_uio_wait(uio, 0) == 0) /* what the connecting left */
		must(tries++ < 10);
	must_eq(vmbus_uio_wait(uio, 0), VMBUS_E_AGAIN);
	must_eq(vmbus_uio_wait(uio, 1000000), VMBUS_E_AGAIN);
	calling = uio;
	opts = plain_opts(uio);
	opts.opened = call_all;
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	must(fake_readable(vmbus_uio_fd(uio)));
	drive(uio, opened_calls == 1);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

static void on_alarm(int number)
{
	(void)number;
}

/* Many times, since the first may come before the wait. */
static void alarms(bool on)
{
	const struct itimerval when = { { 0, on ? 5000 : 0 }, { 0, on ? 5000 : 0 } };

	must(signal(SIGALRM, on_alarm) != SIG_ERR);
	must_eq(setitimer(ITIMER_REAL, &when, NULL), 0);
}

START_TEST(uio_wait__without_end_ends_with_a_signal_handler)
{
	struct vmbus_uio *uio;
	uint32_t tries = 0;

	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	while (vmbus_uio_wait(uio, 0) == 0) /* what the connecting left */
		must(tries++ < 10);
	must_eq(vmbus_guest_timeout(vmbus_uio_guest(uio)), UINT64_MAX);
	alarms(true);
	must_eq(vmbus_uio_wait(uio, UINT64_MAX), VMBUS_E_AGAIN);
	alarms(false);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

/* A program that dispatches one thing at a time, and only when the descriptor is readable. */
START_TEST(uio_fd__is_readable_while_there_is_work)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	uint32_t turns;

	opened_calls = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_open_uio(&k);
	must_eq(vmbus_guest_connect(vmbus_uio_guest(uio)), 0);
	opts = plain_opts(uio);
	for (turns = 0; opened_calls == 0; turns++) {
		struct pollfd p = { .fd = vmbus_uio_fd(uio), .events = POLLIN };

		must(turns < 1000);
		must_eq(poll(&p, 1, 5000), 1);
		must(vmbus_uio_dispatch(uio, 1) >= 0);
		if (k.vsc && vmbus_vsc_state(k.vsc) == VMBUS_VSC_OFFERED &&
		    vmbus_guest_state(vmbus_uio_guest(uio)) == VMBUS_GUEST_CONNECTED)
			must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	}
	must_eq(opened_err, 0);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(vsc_set_vp__moves_interrupts_by_sysfs)
{
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	char right[300];

	heard = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 5);
	must_eq(vmbus_vsc_set_vp(k.vsc, 3), 0);
	drive(uio, k.puts == 1);
	(void)snprintf(right, sizeof(right), "%s/bus/vmbus/devices/%s/channels/%u/cpu 3", k.sys,
		       KERNEL_GUID, k.own.relid);
	ck_assert_str_eq(k.last_put, right);
	drive(uio, vmbus_vsc_set_vp(k.vsc, 1) == 0); /* the answer came */
	drive(uio, k.puts == 2);
	k.put_fails = "/cpu";
	k.put_errno = EINVAL;
	drive(uio, vmbus_vsc_set_vp(k.vsc, 99) == 0);
	drive(uio, kernel_logged(&k, "processor 99"));
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "device", 30);

	tcase_add_test(tc, uio__echo_through_the_monitor_page);
	tcase_add_test(tc, uio__echo_with_completions);
	tcase_add_test(tc, uio__echo_where_the_handler_masks);
	tcase_add_test(tc, uio__echo_without_a_monitor);
	tcase_add_test(tc, uio__echo_over_512_pages);
	tcase_add_test(tc, uio__echo_over_the_smallest_rings);
	tcase_add_test(tc, uio_signal__sets_both_bits_and_no_other);
	tcase_add_test(tc, uio__opened_and_closed_again_and_again);
	tcase_add_test(tc, lesson_04_packets_before_the_open_result_are_kept);
	tcase_add_test(tc, lesson_03_a_handler_that_masks_late_is_undone);
	tcase_add_test(tc, uio__an_open_that_the_parent_refuses);
	tcase_add_test(tc, uio__an_open_that_fails_here);
	tcase_add_test(tc, uio__rings_that_another_program_uses);
	tcase_add_test(tc, uio__nothing_else_can_be_shared);
	tcase_add_test(tc, uio__a_device_that_is_withdrawn);
	tcase_add_test(tc, uio__an_error_of_read_is_a_withdrawal);
	tcase_add_test(tc, uio__a_parent_that_breaks_the_rings);
	tcase_add_test(tc, uio_dispatch__refuses_callbacks_and_budgets);
	tcase_add_test(tc, uio_wait__without_end_ends_with_a_signal_handler);
	tcase_add_test(tc, uio_fd__is_readable_while_there_is_work);
	tcase_add_test(tc, vsc_set_vp__moves_interrupts_by_sysfs);
}
VMBUS_TEST_MAIN("uio.device", tests)

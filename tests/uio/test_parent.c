/* SPDX-License-Identifier: MIT */
/*
 * The parent of one channel, message by message: backends/uio/parent.c.  What a guest runtime would
 * never say is said here, by hand, to the backend's table.
 */
#include "uio/kernel.h"

extern const struct vmbus_guest_backend vmbus__uio_guest_backend;
#define BE (&vmbus__uio_guest_backend)

static struct kernel k;
static uint32_t version;

static void start(struct vmbus_uio **uio)
{
	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	*uio = kernel_open_uio(&k);
	version = VMBUS_PROTO_5_3;
}

static int post(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX] = { 0 };
	const int len = vmbus_ctl_encode(ctl, version, 0, bytes, sizeof(bytes));

	must(len > 0);
	return BE->post(uio, VMBUS_CONN_MESSAGE, VMBUS_MSG_TYPE_CTL, bytes, (uint32_t)len);
}

static uint32_t take(struct vmbus_uio *uio, struct vmbus_ctl *ctl)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	uint32_t type, len;

	if (BE->receive(uio, &type, bytes, &len) != 1)
		return 0;
	must_eq(type, VMBUS_MSG_TYPE_CTL);
	must_eq(vmbus_ctl_decode(bytes, len, version, 0, ctl), 0);
	return ctl->type;
}

static void contact(struct vmbus_uio *uio, uint32_t v, uint32_t supported)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };

	version = v;
	ctl.u.contact.version = v;
	must_eq(post(uio, &ctl), 0);
	must_eq(take(uio, &ctl), VMBUS_CTL_VERSION_RESPONSE);
	must_eq(ctl.u.version.supported, supported);
	if (supported && v >= VMBUS_PROTO_5_0)
		must_eq(ctl.u.version.conn_id, VMBUS_CONN_MESSAGE);
	must_eq(take(uio, &ctl), 0);
}

static uint32_t offers(struct vmbus_uio *uio)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	uint32_t n = 0;

	must_eq(post(uio, &ctl), 0);
	while (take(uio, &ctl) == VMBUS_CTL_OFFER) {
		must_eq(ctl.u.offer.relid, k.own.relid);
		must_eq(ctl.u.offer.monitor_id, k.monitor_id);
		must_eq(ctl.u.offer.monitored, 1);
		n++;
	}
	must_eq(ctl.type, VMBUS_CTL_ALL_OFFERS);
	return n;
}

/* Describe the first pages of the rings; change: which number is wrong, -1 none.  The status. */
static int64_t describe(struct vmbus_uio *uio, uint32_t gpadl, uint32_t pages, int change)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_HEADER };
	uint32_t done = 0;

	ctl.u.gpadl.relid = k.own.relid;
	ctl.u.gpadl.gpadl = gpadl;
	ctl.u.gpadl.range_bytes = 8 + 8 * pages;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.qwords[ctl.u.gpadl.count++] = (uint64_t)pages * 4096 + (change == 0);
	while (done < pages) {
		while (done < pages && ctl.u.gpadl.count < 27) {
			done++;
			ctl.u.gpadl.qwords[ctl.u.gpadl.count++] = done + (change == (int)done);
		}
		must_eq(post(uio, &ctl), 0);
		ctl.type = VMBUS_CTL_GPADL_BODY;
		ctl.u.gpadl.count = 0;
		if (done < pages && take(uio, &ctl))
			break;
	}
	if (ctl.type != VMBUS_CTL_GPADL_CREATED && take(uio, &ctl) != VMBUS_CTL_GPADL_CREATED)
		return -1;
	must_eq(ctl.u.created.gpadl, gpadl);
	return ctl.u.created.status;
}

static uint32_t open_it(struct vmbus_uio *uio, uint32_t relid, uint32_t gpadl, uint32_t page)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OPEN };

	ctl.u.open.relid = relid;
	ctl.u.open.open_id = 77;
	ctl.u.open.gpadl = gpadl;
	ctl.u.open.downstream_page = page;
	must_eq(post(uio, &ctl), 0);
	must_eq(take(uio, &ctl), VMBUS_CTL_OPEN_RESULT);
	must_eq(ctl.u.result.relid, relid);
	must_eq(ctl.u.result.open_id, 77);
	return ctl.u.result.status;
}

static void teardown(struct vmbus_uio *uio, uint32_t gpadl)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_TEARDOWN };

	ctl.u.created.relid = k.own.relid;
	ctl.u.created.gpadl = gpadl;
	must_eq(post(uio, &ctl), 0);
	must_eq(take(uio, &ctl), VMBUS_CTL_GPADL_TORNDOWN);
	must_eq(ctl.u.created.gpadl, gpadl);
}

START_TEST(uio_parent__every_version_that_it_can_keep)
{
	static const uint32_t good[] = { VMBUS_PROTO_2_4, VMBUS_PROTO_3_0, VMBUS_PROTO_4_0,
					 VMBUS_PROTO_4_1, VMBUS_PROTO_5_0, VMBUS_PROTO_5_1,
					 VMBUS_PROTO_5_2, VMBUS_PROTO_5_3 };
	struct vmbus_uio *uio;
	uint32_t i;

	start(&uio);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		contact(uio, good[i], 1);
		must_eq(offers(uio), 1);
		must_eq(offers(uio), 0); /* it is offered */
	}
	contact(uio, VMBUS_PROTO_6_0, 0);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio_parent__lists_other_than_the_rings)
{
	const uint32_t pages = 2 * KERNEL_RING_PAGES;
	struct vmbus_uio *uio;
	struct vmbus_ctl ctl;
	int i;

	start(&uio);
	contact(uio, VMBUS_PROTO_5_3, 1);
	must_eq(offers(uio), 1);
	must_eq(describe(uio, 5, pages - 1, -1), VMBUS_STATUS_FAILED);
	must_eq(describe(uio, 5, 1, -1), VMBUS_STATUS_FAILED);
	must(kernel_logged(&k, "cannot be shared"));
	for (i = 0; i <= (int)pages; i++)
		must_eq(describe(uio, 5, pages, i), VMBUS_STATUS_FAILED);
	must_eq(describe(uio, 5, pages, -1), VMBUS_STATUS_OK);
	must_eq(describe(uio, 6, pages, -1), VMBUS_STATUS_FAILED); /* once */
	must_eq(open_it(uio, k.own.relid, 6, KERNEL_RING_PAGES), VMBUS_STATUS_FAILED);
	must_eq(open_it(uio, k.own.relid + 1, 5, KERNEL_RING_PAGES), VMBUS_STATUS_FAILED);
	must_eq(open_it(uio, k.own.relid, 5, KERNEL_RING_PAGES + 1), VMBUS_STATUS_FAILED);
	must_eq(k.opens, 0);
	must_eq(open_it(uio, k.own.relid, 5, KERNEL_RING_PAGES), VMBUS_STATUS_OK);
	must_eq(open_it(uio, k.own.relid, 5, KERNEL_RING_PAGES), VMBUS_STATUS_FAILED);
	must_eq(k.opens, 1);
	/* A body of no list, a close of another channel, an event without meaning. */
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_GPADL_BODY };
	ctl.u.gpadl.gpadl = 5;
	ctl.u.gpadl.count = 3;
	must_eq(post(uio, &ctl), 0);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_CLOSE };
	ctl.u.chan.relid = k.own.relid + 1;
	must_eq(post(uio, &ctl), 0);
	must(k.open);
	ctl.u.chan.relid = k.own.relid;
	must_eq(post(uio, &ctl), 0);
	must(!k.open);
	must_eq(post(uio, &ctl), 0);
	must_eq(take(uio, &ctl), 0);
	teardown(uio, 5);
	must_eq(open_it(uio, k.own.relid, 5, KERNEL_RING_PAGES), VMBUS_STATUS_FAILED);
	/* A new connection, or an unload, closes what is open. */
	must_eq(describe(uio, 7, pages, -1), VMBUS_STATUS_OK);
	must_eq(open_it(uio, k.own.relid, 7, KERNEL_RING_PAGES), VMBUS_STATUS_OK);
	contact(uio, VMBUS_PROTO_4_0, 1);
	must(!k.open);
	must_eq(describe(uio, 7, pages, -1), VMBUS_STATUS_OK);
	must_eq(open_it(uio, k.own.relid, 7, KERNEL_RING_PAGES), VMBUS_STATUS_OK);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_UNLOAD };
	must_eq(post(uio, &ctl), 0);
	must_eq(take(uio, &ctl), VMBUS_CTL_UNLOAD_RESPONSE);
	must(!k.open);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio_parent__answers_are_bounded)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	struct vmbus_uio *uio;
	uint32_t i, posted = 0, got = 0;

	start(&uio);
	contact(uio, VMBUS_PROTO_5_3, 1);
	for (i = 0; i < 100; i++)
		posted += post(uio, &ctl) == VMBUS_HC_OK;
	must_eq(post(uio, &ctl), VMBUS_HC_NO_BUFFERS);
	while (take(uio, &ctl))
		got++;
	must(posted < 8 && got == posted + 1);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio_parent__messages_that_are_none)
{
	uint8_t bytes[240];
	uint32_t type, len, seed = 1, i, j;
	struct vmbus_uio *uio;

	start(&uio);
	contact(uio, VMBUS_PROTO_5_3, 1);
	must_eq(BE->post(uio, 1, 1, bytes, 0), VMBUS_HC_PARAMETER);
	memset(bytes, 0xff, sizeof(bytes));
	must_eq(BE->post(uio, 1, 1, bytes, sizeof(bytes)), VMBUS_HC_PARAMETER);
	for (i = 0; i < 20000; i++) {
		for (j = 0; j < sizeof(bytes); j++) {
			seed = seed * 1664525u + 1013904223u;
			bytes[j] = (uint8_t)(seed >> 24);
		}
		memset(bytes, 0, 8);
		bytes[0] = (uint8_t)(i % 32);
		if (i % 3 == 0) {
			memset(bytes + 8, 0, 4);
			bytes[8] = (uint8_t)k.own.relid;
		}
		(void)BE->post(uio, 1, 1, bytes, seed % (sizeof(bytes) + 1));
		while (i % 5 == 0 && BE->receive(uio, &type, bytes, &len) == 1)
			must(len <= sizeof(bytes));
		must(!k.open);
	}
	must(BE->pfn(uio, bytes) == UINT64_MAX);
	must(BE->alloc(uio, 0, true) == NULL);
	must(BE->alloc(uio, 4096, true) == NULL);
	must(BE->alloc(uio, SIZE_MAX, false) == NULL);
	must_eq(BE->signal(uio, 1, 0), 0); /* nothing is open: it reaches nobody */
	must_eq(BE->flags(uio, 0), 0);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio_parent__a_withdrawn_device)
{
	const uint32_t pages = 2 * KERNEL_RING_PAGES;
	struct vmbus_uio *uio;
	struct vmbus_ctl ctl;

	start(&uio);
	contact(uio, VMBUS_PROTO_5_3, 1);
	must_eq(offers(uio), 1);
	must_eq(describe(uio, 5, pages, -1), VMBUS_STATUS_OK);
	must_eq(open_it(uio, k.own.relid, 5, KERNEL_RING_PAGES), VMBUS_STATUS_OK);
	must_eq(BE->flags(uio, 31), 0);
	must_eq(vmbus_bus_revoke(k.chan), 0);
	kernel_withdraw(&k);
	must_eq(BE->flags(uio, k.own.relid / 64), 1ull << k.own.relid % 64);
	must_eq(take(uio, &ctl), VMBUS_CTL_RESCIND);
	must_eq(ctl.u.chan.relid, k.own.relid);
	must_eq(take(uio, &ctl), 0);
	must_eq(BE->flags(uio, k.own.relid / 64), 0);
	/* [CTL-RELEASE]: lists are taken without a look, and nothing opens any more. */
	must_eq(describe(uio, 9, 1, -1), VMBUS_STATUS_OK);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_CLOSE };
	ctl.u.chan.relid = k.own.relid;
	must_eq(post(uio, &ctl), 0);
	must(!k.open);
	must_eq(open_it(uio, k.own.relid, 5, KERNEL_RING_PAGES), VMBUS_STATUS_FAILED);
	teardown(uio, 5);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_RELID_RELEASED };
	ctl.u.chan.relid = k.own.relid;
	must_eq(post(uio, &ctl), 0);
	must_eq(offers(uio), 0);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio_signal__without_a_monitor_tells_failures)
{
	const uint32_t pages = 2 * KERNEL_RING_PAGES;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	struct vmbus_uio *uio;

	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, 0);
	uio = kernel_open_uio(&k);
	contact(uio, VMBUS_PROTO_5_3, 1);
	must_eq(post(uio, &ctl), 0);
	must_eq(take(uio, &ctl), VMBUS_CTL_OFFER);
	must_eq(ctl.u.offer.monitor_id, VMBUS_MONITOR_NONE);
	must_eq(ctl.u.offer.monitored, 0);
	must_eq(take(uio, &ctl), VMBUS_CTL_ALL_OFFERS);
	must_eq(describe(uio, 5, pages, -1), VMBUS_STATUS_OK);
	must_eq(open_it(uio, k.own.relid, 5, KERNEL_RING_PAGES), VMBUS_STATUS_OK);
	must_eq(BE->signal(uio, 1, 0), 0);
	must_eq(k.enables, 1);
	k.enable_errno = EIO;
	must_eq(BE->signal(uio, 1, 0), VMBUS_E_SYSTEM);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

START_TEST(uio_parent__hv_sock_is_refused)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_TL_CONNECT };
	struct vmbus_uio *uio;

	start(&uio);
	contact(uio, VMBUS_PROTO_5_3, 1);
	ctl.u.tl.endpoint_id.b[3] = 9;
	must_eq(post(uio, &ctl), 0);
	must_eq(take(uio, &ctl), VMBUS_CTL_TL_RESULT);
	must_eq(ctl.u.tl.endpoint_id.b[3], 9);
	must_eq(ctl.u.tl.status, VMBUS_STATUS_REFUSED);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "parent", 10);

	tcase_add_test(tc, uio_parent__every_version_that_it_can_keep);
	tcase_add_test(tc, uio_parent__lists_other_than_the_rings);
	tcase_add_test(tc, uio_parent__answers_are_bounded);
	tcase_add_test(tc, uio_parent__messages_that_are_none);
	tcase_add_test(tc, uio_parent__a_withdrawn_device);
	tcase_add_test(tc, uio_signal__without_a_monitor_tells_failures);
	tcase_add_test(tc, uio_parent__hv_sock_is_refused);
}
VMBUS_TEST_MAIN("uio.parent", tests)

/* SPDX-License-Identifier: MIT */
/*
 * What a guest asks of its connection: hv_sock channels, a pause, monitor pages; with a real bus on
 * the other side.
 */
#include "loop.h"

#include <poll.h>
#include <time.h>

#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0x7e57c1a5, 0x0003, 0x4000, 0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07)
static const struct vmbus_guid echo_class = ECHO_CLASS;
#define FEATURES (VMBUS_FEATURE_PAUSE | VMBUS_FEATURE_MODIFY_CONNECTION)

static unsigned long packets, completions, opened_now, closed_now;

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	packets += n;
	for (i = 0; i < n; i++)
		(void)vmbus_chan_complete(chan, pkt[i].id, pkt[i].payload, pkt[i].len);
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "echo",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
};

static void opened(struct vmbus_vsc *vsc, int err)
{
	(void)vsc;
	must_eq(err, 0);
	opened_now++;
}

static void closed(struct vmbus_vsc *vsc)
{
	(void)vsc;
	closed_now++;
}

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc, (void)cookie;
	completions += pkt != NULL;
}

static int open_it(struct vmbus_vsc *vsc)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
					     .send_bytes = 4096,
					     .recv_bytes = 4096,
					     .opened = opened,
					     .closed = closed,
					     .completed = completed };

	return vmbus_vsc_open(vsc, &opts);
}

static void ask(struct vmbus_vsc *vsc)
{
	const uint64_t data = 42;
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = &data, .len = 8 };

	must_eq(vmbus_vsc_request(vsc, &msg, NULL), 0);
}

/* Both ends at 6.0 with pauses and monitor pages. */
static struct loop *new_loop(void)
{
	const struct vmbus_srv_opts srv = { .struct_bytes = sizeof(srv),
					    .version_max = VMBUS_PROTO_6_0,
					    .features = FEATURES };
	const struct vmbus_cli_opts cli = { .struct_bytes = sizeof(cli),
					    .version_max = VMBUS_PROTO_6_0,
					    .features = FEATURES };

	packets = completions = opened_now = closed_now = 0;
	return loop_new(&srv, &cli);
}

/* One echo channel, open. */
static struct vmbus_vsc *begin(struct loop *l)
{
	struct vmbus_vsc *vsc;

	must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	vsc = vmbus_vsc_find(l->guest, &echo_class, 0);
	must(vsc != NULL);
	must_eq(open_it(vsc), 0);
	loop_settle(l);
	must_eq(opened_now, 1);
	return vsc;
}

/* ---- hv_sock ---- */

static const struct vmbus_ctl_tl request = { .endpoint_id = { .b = { 1, 2, 3 } },
					     .service_id = ECHO_CLASS };

START_TEST(guest_tl_connect__accepted_by_an_offer)
{
	struct loop *l = new_loop();
	struct vmbus_vsp vsp = echo_vsp;
	const struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer),
						.instance_id = request.endpoint_id };
	struct vmbus_vsc_info info;
	struct vmbus_vsc *vsc;

	must_eq(vmbus_guest_tl_connect(l->guest, &request), VMBUS_E_STATE);
	loop_connect(l);
	must_eq(vmbus_guest_tl_connect(l->guest, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_guest_tl_connect(l->guest, &request), 0);
	must_eq(vmbus_guest_timeout(l->guest), 0);
	must_eq(vmbus_guest_tl_connect(l->guest, &request), VMBUS_E_AGAIN);
	loop_settle(l);
	must_eq(l->tl_asked, 1);
	must(vmbus_guid_equal(&l->tl.service_id, &request.service_id));
	vsp.offer_flags = VMBUS_OFFER_TLNPI | VMBUS_OFFER_PIPE;
	must_eq(vmbus_bus_offer(l->bus, &vsp, NULL, &offer, NULL), 0);
	loop_settle(l);
	must_eq(l->offered, 1);
	must_eq(l->tl_refused, 0);
	vsc = vmbus_vsc_find(l->guest, &echo_class, 0);
	must(vsc != NULL);
	vmbus_vsc_info(vsc, &info);
	must(info.offer.flags & VMBUS_OFFER_TLNPI);
	must(vmbus_guid_equal(&info.offer.instance_id, &request.endpoint_id));
	must_eq(open_it(vsc), 0);
	loop_settle(l);
	ask(vsc);
	loop_settle(l);
	must_eq(completions, 1);
	must_eq(vmbus_vsc_close(vsc), 0);
	loop_settle(l);
	must_eq(l->gone, 1); /* a socket is used once */
	loop_free(l);
}
END_TEST

START_TEST(guest_tl_connect__refused)
{
	struct loop *l = new_loop();
	struct vmbus_ctl_tl other = request;

	l->tl_answer = VMBUS_E_PERM;
	loop_connect(l);
	must_eq(vmbus_guest_tl_connect(l->guest, &request), 0);
	loop_settle(l);
	must_eq(l->tl_refused, 1);
	must(l->tl_status != 0);
	must(vmbus_guid_equal(&l->tl.endpoint_id, &request.endpoint_id));
	must_eq(vmbus_guest_tl_connect(l->guest, &request), 0); /* again */
	loop_settle(l);
	must_eq(l->tl_refused, 2);
	/* The parent goes before it has answered. */
	l->tl_answer = 0;
	other.endpoint_id.b[0] = 9;
	must_eq(vmbus_guest_tl_connect(l->guest, &other), 0);
	loop_settle(l);
	must_eq(l->tl_refused, 2);
	vmbus_guest_parent_gone(l->guest);
	loop_settle(l);
	must_eq(l->tl_refused, 3);
	must(vmbus_guid_equal(&l->tl.endpoint_id, &other.endpoint_id));
	must_eq(vmbus_guest_tl_connect(l->guest, &request), VMBUS_E_STATE);
	loop_free(l);
}
END_TEST

/* ---- pause ---- */

START_TEST(guest_pause__nothing_is_told_before_resume)
{
	struct loop *l = new_loop();
	struct vmbus_vsc *vsc = begin(l), *second;
	unsigned long messages;

	must_eq(vmbus_guest_resume(l->guest), VMBUS_E_STATE);
	must_eq(vmbus_guest_pause(l->guest), 0);
	must_eq(vmbus_guest_pause(l->guest), VMBUS_E_STATE);
	must_eq(vmbus_guest_resume(l->guest), VMBUS_E_STATE); /* not answered yet */
	loop_settle(l);
	must_eq(l->paused, 1);
	must_eq(l->paused_err, 0);
	messages = l->messages;
	must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, NULL), 0);
	must_eq(vmbus_vsc_set_vp(vsc, 1), VMBUS_E_STATE);
	must_eq(vmbus_guest_tl_connect(l->guest, &request), VMBUS_E_STATE);
	must_eq(vmbus_guest_set_monitor(l->guest, NULL, NULL), VMBUS_E_STATE);
	ask(vsc); /* packets go on */
	loop_settle(l);
	must_eq(completions, 1);
	must_eq(l->messages, messages);
	must_eq(l->offered, 1);
	/* What is asked of channels waits. */
	must_eq(vmbus_vsc_close(vsc), 0);
	loop_settle(l);
	must_eq(closed_now, 0);
	must_eq(vmbus_guest_timeout(l->guest), UINT64_MAX); /* and is no reason to run */
	must_eq(vmbus_guest_resume(l->guest), 0);
	loop_settle(l);
	must_eq(closed_now, 1);
	must_eq(l->offered, 2);
	second = vmbus_vsc_find(l->guest, &echo_class, 1);
	must(second != NULL);
	must_eq(open_it(second), 0);
	loop_settle(l);
	must_eq(opened_now, 2);
	loop_free(l);
}
END_TEST

START_TEST(guest_pause__an_open_waits_too)
{
	struct loop *l = new_loop();
	struct vmbus_vsc *vsc;

	must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	vsc = vmbus_vsc_find(l->guest, &echo_class, 0);
	must_eq(vmbus_guest_pause(l->guest), 0);
	must_eq(open_it(vsc), 0);
	loop_settle(l);
	must_eq(vmbus_vsc_state(vsc), VMBUS_VSC_OPENING);
	must_eq(vmbus_guest_resume(l->guest), 0);
	loop_settle(l);
	must_eq(vmbus_vsc_state(vsc), VMBUS_VSC_OPEN);
	loop_free(l);
}
END_TEST

START_TEST(guest_pause__disconnect_resumes)
{
	struct loop *l = new_loop();
	int settled;

	for (settled = 0; settled < 2; settled++) {
		if (settled == 0)
			(void)begin(l);
		else
			loop_connect(l);
		must_eq(vmbus_guest_pause(l->guest), 0);
		if (settled)
			loop_settle(l);
		must_eq(vmbus_guest_disconnect(l->guest), 0);
		must_eq(vmbus_guest_wait(l->guest, VMBUS_GUEST_IDLE, LOOP_SECOND), 0);
		must_eq(l->paused, 1 + settled);
		must_eq(closed_now, 1);
		must_eq(l->gone, l->offered);
	}
	loop_free(l);
}
END_TEST

START_TEST(guest_pause__the_parent_goes)
{
	struct loop *l = new_loop();
	struct vmbus_vsc *vsc = begin(l);

	(void)vsc;
	must_eq(vmbus_guest_pause(l->guest), 0);
	if (_i)
		loop_settle(l);
	vmbus_guest_parent_gone(l->guest);
	loop_settle(l);
	must_eq(l->paused, 1);
	must_eq(l->paused_err, _i ? 0 : VMBUS_E_PEER);
	must_eq(closed_now, 1);
	must_eq(l->gone, 1);
	must_eq(vmbus_guest_resume(l->guest), VMBUS_E_STATE);
	loop_free(l);
}
END_TEST

START_TEST(guest_pause__needs_the_feature)
{
	struct loop *l = loop_new(NULL, NULL);

	must_eq(vmbus_guest_pause(l->guest), VMBUS_E_STATE);
	loop_connect(l);
	must_eq(vmbus_guest_pause(l->guest), VMBUS_E_NOTSUP);
	must_eq(vmbus_guest_set_monitor(l->guest, NULL, NULL), VMBUS_E_NOTSUP);
	loop_free(l);
}
END_TEST

/* ---- monitor pages ---- */

/* Pages whose address is not 0, which would mean none. */
static uint8_t *pages_of(struct loop *l, uint32_t count)
{
	(void)vmbus_guest_pages(l->guest, 1);
	return vmbus_guest_pages(l->guest, count);
}

static int no_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	(void)ctx, (void)conn_id, (void)flag;
	return 0;
}

/* The channel's bit in the page, [MONITOR-PAGE]. */
static void trigger(uint8_t *c2p, uint32_t id)
{
	uint32_t *const pending = (uint32_t *)(void *)(c2p + 8 + 8 * (id / 32));

	__atomic_fetch_or(pending, 1u << id % 32, __ATOMIC_SEQ_CST);
}

/* Dispatch the bus while its descriptor says so, until n packets came, or for some time. */
static void run_bus(struct loop *l, unsigned long n, int ms)
{
	struct pollfd p = { .fd = vmbus_bus_fd(l->bus), .events = POLLIN };
	int i;

	for (i = 0; i < ms && packets < n; i++)
		if (poll(&p, 1, 1) == 1)
			must(vmbus_bus_dispatch(l->bus, 64) >= 0);
}

START_TEST(guest_set_monitor__bits_of_the_page_are_signals)
{
	const struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer), .monitor_us = 200 };
	struct loop *l = new_loop();
	struct vmbus_vsc_info info;
	struct vmbus_vsc *vsc;
	uint8_t *pages;

	l->backend.signal = no_signal; /* only the page counts */
	must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, &offer, NULL), 0);
	loop_connect(l);
	pages = pages_of(l, 4);
	must_eq(vmbus_guest_set_monitor(l->guest, pages, pages + 4096), 0);
	must_eq(vmbus_guest_set_monitor(l->guest, pages + 8192, pages + 12288), VMBUS_E_AGAIN);
	loop_settle(l);
	must_eq(l->monitor_set, 1);
	must_eq(l->monitor_err, 0);
	vsc = vmbus_vsc_find(l->guest, &echo_class, 0);
	must_eq(open_it(vsc), 0);
	loop_settle(l);
	vmbus_vsc_info(vsc, &info);
	must(info.offer.monitored);
	ask(vsc);
	run_bus(l, 1, 50);
	must_eq(packets, 0);
	trigger(pages + 4096, info.offer.monitor_id);
	run_bus(l, 1, 5000);
	must_eq(packets, 1);
	/* Other pages: the old ones say nothing any more. */
	must_eq(vmbus_guest_set_monitor(l->guest, pages + 8192, pages + 12288), 0);
	loop_settle(l);
	ask(vsc);
	trigger(pages + 4096, info.offer.monitor_id);
	run_bus(l, 2, 50);
	must_eq(packets, 1);
	trigger(pages + 12288, info.offer.monitor_id);
	run_bus(l, 2, 5000);
	must_eq(packets, 2);
	loop_free(l);
}
END_TEST

START_TEST(guest_set_monitor__pages_are_held_while_the_parent_has_them)
{
	struct loop *l = new_loop();
	unsigned long lines;
	uint8_t *pages;

	pages = pages_of(l, 4);
	must_eq(vmbus_guest_set_monitor(l->guest, pages, pages + 4096), VMBUS_E_STATE);
	loop_connect(l);
	must_eq(vmbus_guest_set_monitor(l->guest, pages, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_guest_set_monitor(l->guest, NULL, pages), VMBUS_E_INVAL);
	must_eq(vmbus_guest_set_monitor(l->guest, pages, pages), VMBUS_E_INVAL);
	must_eq(vmbus_guest_set_monitor(l->guest, pages + 8, pages + 4096), VMBUS_E_INVAL);
	must_eq(vmbus_guest_set_monitor(l->guest, pages, pages + 4096), 0);
	lines = l->lines;
	vmbus_guest_pages_free(l->guest, pages, 4); /* asked for, not answered */
	must_eq(l->lines, lines + 1);
	loop_settle(l);
	vmbus_guest_pages_free(l->guest, pages + 4096, 1);
	must_eq(l->lines, lines + 2);
	must_eq(vmbus_guest_set_monitor(l->guest, pages, pages + 8192), VMBUS_E_INVAL);
	must_eq(vmbus_guest_set_monitor(l->guest, NULL, NULL), 0);
	vmbus_guest_pages_free(l->guest, pages, 1); /* the parent has them until it has answered */
	must_eq(l->lines, lines + 3);
	loop_settle(l);
	must_eq(l->monitor_set, 2);
	must_eq(l->monitor_err, 0);
	/* Given again; UNLOAD frees them, too. */
	must_eq(vmbus_guest_set_monitor(l->guest, pages, pages + 4096), 0);
	loop_settle(l);
	must_eq(vmbus_guest_disconnect(l->guest), 0);
	must_eq(vmbus_guest_wait(l->guest, VMBUS_GUEST_IDLE, LOOP_SECOND), 0);
	vmbus_guest_pages_free(l->guest, pages, 4);
	must_eq(l->mem.shared_pages, 1);
	loop_free(l);
}
END_TEST

START_TEST(guest_set_monitor__lost_with_the_parent)
{
	struct loop *l = new_loop();
	uint8_t *pages;

	loop_connect(l);
	pages = pages_of(l, 4);
	must_eq(vmbus_guest_set_monitor(l->guest, pages, pages + 4096), 0);
	loop_settle(l);
	must_eq(vmbus_guest_set_monitor(l->guest, pages + 8192, pages + 12288), 0);
	vmbus_guest_parent_gone(l->guest);
	loop_settle(l);
	must_eq(l->monitor_set, 2);
	must_eq(l->monitor_err, VMBUS_E_FAULT);
	must(strstr(l->last_line, "monitor pages, pages lost: 4") != NULL);
	loop_free(l);
}
END_TEST

/* An offer that came just before the parent went is nobody's any more. */
START_TEST(guest_parent_gone__no_offer_is_told_after_it)
{
	struct loop *l = new_loop();
	int i;

	loop_connect(l);
	must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, NULL), 0);
	while (!l->slot_full)
		(void)loop_bus_turn(l);
	for (i = 0; i < 8 && l->slot_full; i++)
		must(vmbus_guest_dispatch(l->guest, 1) >= 0);
	must(!l->slot_full);
	must_eq(l->offered, 0); /* the machine has it, and has not been asked */
	vmbus_guest_parent_gone(l->guest);
	loop_settle(l);
	must_eq(l->offered, 0);
	must_eq(l->gone, 0);
	loop_free(l);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "conn", 4);

	tcase_add_test(tc, guest_tl_connect__accepted_by_an_offer);
	tcase_add_test(tc, guest_tl_connect__refused);
	tcase_add_test(tc, guest_pause__nothing_is_told_before_resume);
	tcase_add_test(tc, guest_pause__an_open_waits_too);
	tcase_add_test(tc, guest_pause__disconnect_resumes);
	tcase_add_loop_test(tc, guest_pause__the_parent_goes, 0, 2);
	tcase_add_test(tc, guest_pause__needs_the_feature);
	tcase_add_test(tc, guest_set_monitor__bits_of_the_page_are_signals);
	tcase_add_test(tc, guest_set_monitor__pages_are_held_while_the_parent_has_them);
	tcase_add_test(tc, guest_set_monitor__lost_with_the_parent);
	tcase_add_test(tc, guest_parent_gone__no_offer_is_told_after_it);
}

VMBUS_TEST_MAIN("loop.conn", tests)

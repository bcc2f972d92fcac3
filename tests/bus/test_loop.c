/* SPDX-License-Identifier: MIT */
/*
 * The bus with the real other side: the guest runtime, in one thread.
 */
#include "loop.h"

#define ECHO_CLASS VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 9)

struct side {
	uint32_t opens, closes, opened, closed, requests, completed;
	bool fail;
	struct loop *l;
};

static int vsp_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	((struct side *)ctx)->opens++;
	return 0;
}

static void vsp_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct side *s = vmbus_chan_ctx(chan);

	s->requests++;
	if (s->fail)
		vmbus_chan_fail(chan, "wanted");
	else
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static void vsp_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, vsp_packet);
}

static int vsp_close(struct vmbus_chan *chan)
{
	((struct side *)vmbus_chan_ctx(chan))->closes++;
	return 0;
}

static const struct vmbus_vsp vsp = { .struct_bytes = sizeof(vsp),
				      .name = "echo",
				      .class_id = ECHO_CLASS,
				      .open = vsp_open,
				      .packets = vsp_packets,
				      .close = vsp_close };

static void vsc_opened(struct vmbus_vsc *vsc, int err)
{
	struct side *s = vmbus_vsc_priv(vsc);

	must_eq(err, 0);
	s->opened++;
}

static void vsc_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)vsc;
	(void)pkt;
	(void)n;
}

static void vsc_completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct side *s = vmbus_vsc_priv(vsc);
	uint64_t v;

	if (!pkt)
		return;
	memcpy(&v, pkt->payload, 8);
	must_eq(v, (uintptr_t)cookie);
	s->completed++;
}

static void vsc_closed(struct vmbus_vsc *vsc)
{
	((struct side *)vmbus_vsc_priv(vsc))->closed++;
}

static void open_one(struct vmbus_vsc *vsc, struct side *s)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = 16384,
				       .recv_bytes = 8192,
				       .opened = vsc_opened,
				       .packets = vsc_packets,
				       .completed = vsc_completed,
				       .closed = vsc_closed,
				       .priv = s };

	must(vsc != NULL);
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, LOOP_SECOND), 0);
}

static void request(struct vmbus_vsc *vsc, uint64_t v)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = &v, .len = 8 };

	must_eq(vmbus_vsc_request(vsc, &msg, (void *)(uintptr_t)v), 0);
}

START_TEST(loop__connect_open_echo_close)
{
	struct loop *l = loop_new(NULL, NULL);
	struct side s = { .l = l };
	const struct vmbus_guid class_id = ECHO_CLASS;
	struct vmbus_vsc *vsc;
	uint64_t i;

	must_eq(vmbus_bus_offer(l->bus, &vsp, &s, NULL, NULL), 0);
	loop_connect(l);
	vsc = vmbus_vsc_find(l->guest, &class_id, 0);
	open_one(vsc, &s);
	must_eq(s.opens, 1);
	for (i = 1; i <= 5000; i++) {
		request(vsc, i);
		if (i % 50 == 0)
			loop_settle(l);
	}
	loop_settle(l);
	must_eq(s.requests, 5000);
	must_eq(s.completed, 5000);
	must_eq(vmbus_vsc_close(vsc), 0);
	loop_settle(l);
	must_eq(s.closed, 1);
	must_eq(s.closes, 1);
	loop_free(l);
}
END_TEST

/* A device gives the child up; it sees a rescind, lets go, and is offered the device again. */
START_TEST(loop__fault_rescind_offer_again)
{
	struct loop *l = loop_new(NULL, NULL);
	struct side s = { .l = l };
	const struct vmbus_guid class_id = ECHO_CLASS;
	uint32_t round;

	must_eq(vmbus_bus_offer(l->bus, &vsp, &s, NULL, NULL), 0);
	loop_connect(l);
	for (round = 1; round <= 20; round++) {
		struct vmbus_vsc *vsc = vmbus_vsc_find(l->guest, &class_id, 0);

		open_one(vsc, &s);
		s.fail = false;
		request(vsc, 1);
		loop_settle(l);
		must_eq(s.completed, round);
		s.fail = true;
		request(vsc, 2);
		loop_settle(l);
		must_eq(s.closes, round);
		must_eq(s.closed, round);
		must_eq(l->gone, round);
		must_eq(l->offered, round + 1);
	}
	loop_free(l);
}
END_TEST

START_TEST(loop__revoke_while_open)
{
	struct loop *l = loop_new(NULL, NULL);
	struct side s = { .l = l };
	const struct vmbus_guid class_id = ECHO_CLASS;
	struct vmbus_chan *chan;
	uint32_t round;

	loop_connect(l);
	for (round = 1; round <= 50; round++) {
		must_eq(vmbus_bus_offer(l->bus, &vsp, &s, NULL, &chan), 0);
		loop_settle(l);
		open_one(vmbus_vsc_find(l->guest, &class_id, 0), &s);
		must_eq(vmbus_bus_revoke(chan), 0);
		loop_settle(l);
		must_eq(s.closes, round);
		must_eq(s.closed, round);
		must(vmbus_vsc_find(l->guest, &class_id, 0) == NULL);
	}
	loop_free(l);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "loop", 20);

	tcase_add_test(tc, loop__connect_open_echo_close);
	tcase_add_test(tc, loop__fault_rescind_offer_again);
	tcase_add_test(tc, loop__revoke_while_open);
}

VMBUS_TEST_MAIN("bus.loop", tests)

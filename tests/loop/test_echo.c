/* SPDX-License-Identifier: MIT */
/* A guest and a bus together: every version, an echo device, many channels, ends of all kinds. */
#include "loop.h"

#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0x7e57c1a5, 0x0002, 0x4000, 0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07)
static const struct vmbus_guid echo_class = ECHO_CLASS;

#define CHANS 2047u

struct client {
	struct vmbus_vsc *vsc;
	unsigned long opened, failed, closed, asked, completed, ended, wrong, writable;
};
static struct client clients[CHANS];

/* ---- the device ---- */

static struct {
	uint64_t id[512];
	uint64_t data[512];
	uint32_t count;
} held[CHANS]; /* completions that found the ring full, by relid */

static uint32_t relid_of(const struct vmbus_chan *chan)
{
	struct vmbus_chan_info info;

	vmbus_chan_info(chan, &info);
	return info.relid % CHANS;
}

static void echo_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	const uint32_t n = relid_of(chan);
	int err;

	if (!(pkt->flags & VMBUS_PKT_FLAG_COMPLETE))
		return;
	err = vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
	if (err == VMBUS_E_FULL) {
		must(held[n].count < 512);
		held[n].id[held[n].count] = pkt->id;
		memcpy(&held[n].data[held[n].count++], pkt->payload, 8);
		return;
	}
	must_eq(err, 0);
}

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, echo_one);
}

static void echo_writable(struct vmbus_chan *chan)
{
	const uint32_t n = relid_of(chan);
	uint32_t i;

	for (i = 0; i < held[n].count; i++)
		if (vmbus_chan_complete(chan, held[n].id[i], &held[n].data[i], 8))
			break;
	memmove(held[n].id, &held[n].id[i], (held[n].count - i) * sizeof(uint64_t));
	memmove(held[n].data, &held[n].data[i], (held[n].count - i) * sizeof(uint64_t));
	held[n].count -= i;
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "echo",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
	.writable = echo_writable,
};

/* ---- the client ---- */

static void opened(struct vmbus_vsc *vsc, int err)
{
	struct client *c = vmbus_vsc_priv(vsc);

	if (err)
		c->failed++;
	else
		c->opened++;
}

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct client *c = vmbus_vsc_priv(vsc);
	const uint64_t n = (uint64_t)(uintptr_t)cookie;

	if (!pkt) {
		c->ended++;
		return;
	}
	c->completed++;
	c->wrong += pkt->len < 8 || memcmp(pkt->payload, &n, 8) != 0;
}

static void closed(struct vmbus_vsc *vsc)
{
	((struct client *)vmbus_vsc_priv(vsc))->closed++;
}

static void writable(struct vmbus_vsc *vsc)
{
	((struct client *)vmbus_vsc_priv(vsc))->writable++;
}

static void client_begin(struct loop *l, uint32_t i, uint32_t ring_bytes)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };

	opts.send_bytes = ring_bytes;
	opts.recv_bytes = ring_bytes;
	opts.opened = opened;
	opts.completed = completed;
	opts.closed = closed;
	opts.writable = writable;
	opts.priv = &clients[i];
	clients[i].vsc = vmbus_vsc_find(l->guest, &echo_class, i);
	must(clients[i].vsc != NULL);
	must_eq(vmbus_vsc_open(clients[i].vsc, &opts), 0);
}

/* n requests, as many at once as there is room for. */
static void ask(struct loop *l, struct client *c, uint64_t n)
{
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	uint64_t i = c->asked;
	const uint64_t end = i + n;
	uint64_t data[4] = { 0 };
	int err;

	msg.data = data;
	msg.len = sizeof(data);
	while (c->completed < end) {
		while (i < end) {
			data[0] = i;
			err = vmbus_vsc_request(c->vsc, &msg, (void *)(uintptr_t)i);
			if (err == VMBUS_E_FULL)
				break;
			must_eq(err, 0);
			i++;
			c->asked++;
		}
		if (vmbus_guest_dispatch(l->guest, LOOP_BUDGET) == 0 && loop_bus_turn(l) == 0)
			must(c->completed == end);
	}
	must_eq(c->wrong, 0);
}

static void offer(struct loop *l, uint32_t count)
{
	while (count--)
		must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, NULL), 0);
}

static const uint32_t versions[] = { VMBUS_PROTO_2_4, VMBUS_PROTO_3_0, VMBUS_PROTO_4_0,
				     VMBUS_PROTO_4_1, VMBUS_PROTO_5_0, VMBUS_PROTO_5_1,
				     VMBUS_PROTO_5_2, VMBUS_PROTO_5_3, VMBUS_PROTO_6_0 };

START_TEST(loop__echo_in_every_version)
{
	struct vmbus_srv_opts srv = { .struct_bytes = sizeof(srv) };
	struct vmbus_cli_opts cli = { .struct_bytes = sizeof(cli) };
	struct loop *l;

	srv.version_max = VMBUS_PROTO_6_0;
	cli.version_max = versions[_i];
	l = loop_new(&srv, &cli);
	offer(l, 1);
	loop_connect(l);
	must_eq(vmbus_guest_version(l->guest), versions[_i]);
	client_begin(l, 0, 0);
	must_eq(vmbus_vsc_wait(clients[0].vsc, VMBUS_VSC_OPEN, LOOP_SECOND), 0);
	ask(l, &clients[0], 5000);
	must_eq(vmbus_vsc_close(clients[0].vsc), 0);
	must_eq(vmbus_vsc_wait(clients[0].vsc, VMBUS_VSC_OFFERED, LOOP_SECOND), 0);
	must_eq(l->mem.shared_pages, 0);
	must_eq(vmbus_guest_disconnect(l->guest), 0);
	must_eq(vmbus_guest_wait(l->guest, VMBUS_GUEST_IDLE, LOOP_SECOND), 0);
	loop_free(l);
}
END_TEST

START_TEST(loop__many_channels_open_move_data_and_close)
{
	struct loop *l = loop_new(NULL, NULL);
	uint32_t i, round;

	offer(l, CHANS);
	loop_connect(l);
	must_eq(l->offered, CHANS);
	for (round = 1; round <= 2; round++) {
		for (i = 0; i < CHANS; i++)
			client_begin(l, i, 4096);
		loop_settle(l);
		for (i = 0; i < CHANS; i++)
			must_eq(clients[i].opened, round);
		for (i = 0; i < CHANS; i++)
			ask(l, &clients[i], 20);
		for (i = 0; i < CHANS; i++)
			must_eq(vmbus_vsc_close(clients[i].vsc), 0);
		loop_settle(l);
		for (i = 0; i < CHANS; i++)
			must_eq(clients[i].closed, round);
		must_eq(l->mem.shared_pages, 0);
	}
	loop_free(l);
}
END_TEST

START_TEST(loop__slots_and_posts_are_busy)
{
	struct loop *l = loop_new(NULL, NULL);
	uint32_t i;

	l->slot_busy = 3;
	l->post_again = 5;
	l->post_status = 0x13;
	l->post_status_times = 4;
	offer(l, 5);
	loop_connect(l);
	for (i = 0; i < 5; i++) {
		l->slot_busy = 2;
		l->post_again = 2;
		l->post_status_times = 2;
		client_begin(l, i, 0);
		must_eq(vmbus_vsc_wait(clients[i].vsc, VMBUS_VSC_OPEN, LOOP_SECOND), 0);
		ask(l, &clients[i], 100);
	}
	loop_free(l);
}
END_TEST

START_TEST(loop__revoke_and_offer_again)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_chan *chan;
	size_t private_pages = 0;
	uint32_t i;

	loop_connect(l);
	for (i = 0; i < 300; i++) {
		must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, &chan), 0);
		loop_settle(l);
		memset(&clients[0], 0, sizeof(clients[0]));
		client_begin(l, 0, 4096);
		if (i % 3) {
			must_eq(vmbus_vsc_wait(clients[0].vsc, VMBUS_VSC_OPEN, LOOP_SECOND), 0);
			ask(l, &clients[0], 10);
		}
		must_eq(vmbus_bus_revoke(chan), 0);
		loop_settle(l);
		must_eq(l->gone, i + 1);
		must_eq(clients[0].opened + clients[0].failed, 1);
		must_eq(clients[0].closed, clients[0].opened);
		must_eq(l->mem.shared_pages, 0);
		if (i == 0)
			private_pages = l->mem.private_pages;
		must_eq(l->mem.private_pages, private_pages);
	}
	loop_free(l);
}
END_TEST

START_TEST(loop__a_child_comes_back)
{
	struct loop *l = loop_new(NULL, NULL);
	uint32_t i;

	offer(l, 3);
	for (i = 0; i < 20; i++) {
		loop_connect(l);
		client_begin(l, 0, 0);
		client_begin(l, 1, 0);
		must_eq(vmbus_vsc_wait(clients[1].vsc, VMBUS_VSC_OPEN, LOOP_SECOND), 0);
		memset(clients, 0, 2 * sizeof(clients[0]));
		clients[0].vsc = vmbus_vsc_find(l->guest, &echo_class, 0);
		ask(l, &clients[0], 100);
		if (i % 2) { /* without a word */
			loop_end_guest(l);
			memset(l->mem.used, 0, l->mem.pages);
			l->mem.shared_pages = 0;
			l->offered = l->gone = 0;
			loop_new_guest(l, NULL);
		} else {
			must_eq(vmbus_guest_disconnect(l->guest), 0);
			must_eq(vmbus_guest_wait(l->guest, VMBUS_GUEST_IDLE, LOOP_SECOND), 0);
			must_eq(l->mem.shared_pages, 0);
		}
	}
	loop_free(l);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "echo", 20);

	tcase_add_loop_test(tc, loop__echo_in_every_version, 0, 9);
	tcase_add_test(tc, loop__many_channels_open_move_data_and_close);
	tcase_add_test(tc, loop__slots_and_posts_are_busy);
	tcase_add_test(tc, loop__revoke_and_offer_again);
	tcase_add_test(tc, loop__a_child_comes_back);
}
VMBUS_TEST_MAIN("loop.echo", tests)

/* SPDX-License-Identifier: MIT */
/*
 * A device that lets go of the child's pages long after its channel has ended, and one that speaks
 * between two dispatches.
 */
#include "play.h"

#include <poll.h>

#include <vmbus/mem.h>

#include "../../backends/shm/provider_client.h"

#define SUB_FIRST 16u /* pages of the sub-channel's rings */
#define SHARED 40u    /* a page that the child shares */

static struct vmbus_chan *late; /* its close() has said AGAIN */
static struct vmbus_piece pieces[4];
static struct vmbus_sgl view = { .pieces = pieces, .room = 4 };

static int late_close(struct vmbus_chan *chan)
{
	closes++;
	late = chan;
	return VMBUS_E_AGAIN;
}

/* The first packet: view the page that the child shares; the next one: end. */
static void late_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	packets += n;
	if (packets == 1)
		must_eq(vmbus_chan_gpadl(chan, 6, VMBUS_READ_WRITE, &view), 0);
	else
		vmbus_chan_fail(chan, "wanted");
}

static int subs_open(struct vmbus_chan *chan, void *ctx)
{
	struct vmbus_chan_info info;

	(void)ctx;
	vmbus_chan_info(chan, &info);
	opens++;
	return info.sub_index ? 0 : vmbus_chan_offer_subchannels(chan, 1);
}

/* Only the sub-channel's is late. */
static int subs_close(struct vmbus_chan *chan)
{
	struct vmbus_chan_info info;

	vmbus_chan_info(chan, &info);
	return info.sub_index ? late_close(chan) : 0;
}

static void late_start(struct play *p)
{
	play_prepare(p);
	late = NULL;
	p->vsp.close = late_close;
	p->vsp.packets = late_packets;
	must_eq(attach(p, NULL), 0);
	bring_bus(p);
}

/* Nothing but what a bus does by itself once in a while: a signal that may not have been seen. */
static void expect_none(struct play *p)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;

	must_eq(run(p), 0);
	while (script_take(p->sock, &record, &msg))
		must_eq(msg.type, VMBUS_PV_SIGNAL);
}

/* The same, and the provider may have to wait for what brings it there. */
static struct vmbus__pv_msg expect_soon(struct play *p, uint32_t type)
{
	struct pollfd said = { .fd = p->sock, .events = POLLIN };
	uint32_t i;

	for (i = 0; i < 100 && poll(&said, 1, 0) == 0; i++)
		must((vmbus_provider_wait(p->provider, 20 * MS), true));
	return expect(p, type);
}

static void gone(struct play *p, uint32_t sub, uint32_t gpadl)
{
	const struct vmbus__pv_msg msg = {
		.type = VMBUS_PV_GPADL_GONE, .bus = 1, .sub = sub, .gpadl = gpadl
	};

	script_send(p->sock, &msg);
}

static void say_close(struct play *p, uint32_t sub, uint32_t open)
{
	const struct vmbus__pv_msg msg = {
		.type = VMBUS_PV_CLOSE, .bus = 1, .sub = sub, .open = open
	};

	script_send(p->sock, &msg);
}

static void send_packet(struct play *p)
{
	const uint64_t data = 1;
	const struct vmbus_msg msg = { .data = &data,
				       .len = sizeof(data),
				       .type = VMBUS_PKT_INBAND };

	must_eq(vmbus_ring_tx_put(&p->tx, &msg, 1), 1);
	must_eq(run(p), 0);
}

static void share_page(struct play *p)
{
	const struct vmbus__pv_msg list = { .type = VMBUS_PV_GPADL,
					    .bus = 1,
					    .gpadl = 6,
					    .count = 2,
					    .ranges = 1,
					    .qwords = { PAGE, SHARED } };

	script_send(p->sock, &list);
	must_eq(expect(p, VMBUS_PV_GPADL_KNOWN).gpadl, 6);
}

/* The pages are the child's own again when nobody here writes to them any more, and not before. */
START_TEST(provider_dispatch__tells_of_an_end_when_the_device_has_let_go)
{
	struct play p;

	late_start(&p);
	open_chan(&p);
	share_page(&p);
	send_packet(&p);
	send_packet(&p);
	must_eq(expect(&p, VMBUS_PV_FAULT).open, 3);
	must(late);
	gone(&p, 0, 6);
	say_close(&p, 0, 3);
	gone(&p, 0, 5);
	expect_none(&p);
	vmbus_chan_close_done(late);
	expect_none(&p); /* it has a view still */
	vmbus_sgl_release(&view);
	must_eq(expect_soon(&p, VMBUS_PV_CLOSED).open, 3);
	(void)expect(&p, VMBUS_PV_GPADL_DONE);
	(void)expect(&p, VMBUS_PV_GPADL_DONE);
	/* Offered again, under a number that is free again. */
	p.vsp.close = on_close;
	opens = 0;
	make_rings(&p);
	open_chan(&p);
	play_fini(&p);
}
END_TEST

static void open_sub(struct play *p)
{
	struct vmbus__pv_msg list = list_msg(), msg = open_msg();
	struct vmbus_ring_mem mem;
	uint32_t i;

	ring_mem(&mem, p->mem + SUB_FIRST * PAGE);
	ring_mem(&mem, p->mem + (SUB_FIRST + 4) * PAGE);
	list.sub = msg.sub = 1;
	list.gpadl = msg.gpadl = 7;
	msg.open = 4;
	for (i = 0; i < 8; i++)
		list.qwords[1 + i] = SUB_FIRST + i;
	script_send(p->sock, &list);
	p->listener = epoll_create1(EPOLL_CLOEXEC); /* one of its own */
	send_open(p, msg);
	must_eq(expect(p, VMBUS_PV_OPENED).open, 4);
}

/* The bus withdraws sub-channels with their primary, whatever their devices still do. */
START_TEST(provider_dispatch__closes_a_sub_channel_when_its_device_has_let_go)
{
	const struct vmbus__pv_msg list = list_msg();
	struct play p;
	int first;

	play_prepare(&p);
	late = NULL;
	p.vsp.open = subs_open;
	p.vsp.close = subs_close;
	must_eq(attach(&p, NULL), 0);
	bring_bus(&p);
	script_send(p.sock, &list);
	send_open(&p, open_msg());
	must_eq(expect(&p, VMBUS_PV_SUBS).count, 1);
	must_eq(expect(&p, VMBUS_PV_OPENED).err, 0);
	first = p.listener;
	open_sub(&p);
	say_close(&p, 1, 4);
	gone(&p, 1, 7);
	expect_none(&p);
	must(late);
	say_close(&p, 0, 3);
	must_eq(expect(&p, VMBUS_PV_CLOSED).open, 3);
	expect_none(&p);
	vmbus_chan_close_done(late);
	must_eq(expect_soon(&p, VMBUS_PV_CLOSED).open, 4);
	must_eq(expect(&p, VMBUS_PV_GPADL_DONE).gpadl, 7);
	expect_none(&p);
	close(first);
	play_fini(&p);
}
END_TEST

static struct vmbus_chan *kept;
static uint64_t kept_id;

static void keep_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	kept = chan;
	kept_id = pkt->id;
}

static void keep_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, keep_one);
}

/* A child that the parent signals has sent a request, and the device keeps it. */
static void keep_request(struct play *p)
{
	const struct vmbus__pv_msg list = list_msg();
	struct vmbus__pv_msg msg = open_msg();
	const uint64_t data = 7;
	const struct vmbus_msg request = { .id = data,
					   .data = &data,
					   .len = sizeof(data),
					   .type = VMBUS_PKT_INBAND,
					   .flags = VMBUS_PKT_FLAG_COMPLETE };

	play_prepare(p);
	p->vsp.packets = keep_packets;
	must_eq(attach(p, NULL), 0);
	bring_bus(p);
	script_send(p->sock, &list);
	msg.flags = VMBUS_PV_LISTENER;
	send_open(p, msg);
	must_eq(expect(p, VMBUS_PV_OPENED).err, 0);
	must_eq(vmbus_ring_tx_put(&p->tx, &request, 1), 1);
	while (vmbus_provider_wait(p->provider, 20 * MS) != VMBUS_E_AGAIN)
		continue;
	expect_none(p);
}

START_TEST(provider_dispatch__signals_what_is_completed_between_two)
{
	struct play p;

	keep_request(&p);
	must_eq(vmbus_chan_complete(kept, kept_id, &kept_id, sizeof(kept_id)), 0);
	while (vmbus_provider_wait(p.provider, 20 * MS) > 0)
		continue;
	must_eq(expect(&p, VMBUS_PV_SIGNAL).open, 3);
	play_fini(&p);
}
END_TEST

/* The socket has no room just then; when it has, nothing else brings a dispatch. */
START_TEST(provider_dispatch__signals_when_the_socket_has_room)
{
	const struct vmbus__pv_msg fill = { .type = VMBUS_PV_BUS_READY, .bus = 1 };
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	uint32_t sent = 0, i;
	struct play p;

	keep_request(&p);
	while (vmbus__pv_send(p.provider->sock, &fill, NULL, 0) == 0)
		sent++;
	must_eq(vmbus_chan_complete(kept, kept_id, &kept_id, sizeof(kept_id)), 0);
	for (i = 0; i < sent; i++)
		must(script_take(p.sock, &record, &msg));
	must_eq(vmbus__shm_recv(p.sock, &record), 0);
	must(vmbus_provider_wait(p.provider, 0) != VMBUS_E_AGAIN);
	must_eq(expect(&p, VMBUS_PV_SIGNAL).open, 3);
	play_fini(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "late", 30);

	tcase_add_test(tc, provider_dispatch__tells_of_an_end_when_the_device_has_let_go);
	tcase_add_test(tc, provider_dispatch__closes_a_sub_channel_when_its_device_has_let_go);
	tcase_add_test(tc, provider_dispatch__signals_what_is_completed_between_two);
	tcase_add_test(tc, provider_dispatch__signals_when_the_socket_has_room);
}

VMBUS_TEST_MAIN("provider.late", tests)

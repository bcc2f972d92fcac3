/* SPDX-License-Identifier: MIT */
/*
 * A provider whose device answers when a descriptor of its own says so, and takes its time to close.
 */
#include "play.h"

#include <poll.h>

#include <vmbus/watch.h>

static struct {
	int fd;
	uint64_t owed[64];
	uint32_t count, readies, closes;
} dev;

static int dev_open(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	opens++;
	dev.count = 0;
	return vmbus_chan_watch(chan, dev.fd);
}

static void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	(void)chan;
	for (i = 0; i < n; i++)
		dev.owed[dev.count++] = pkt[i].id;
}

static void dev_ready(struct vmbus_chan *chan)
{
	eventfd_t ignored;
	uint32_t i;

	dev.readies++;
	(void)eventfd_read(dev.fd, &ignored);
	for (i = 0; i < dev.count; i++)
		must_eq(vmbus_chan_complete(chan, dev.owed[i], "late", 4),
			dev.closes ? VMBUS_E_STATE : 0);
	dev.count = 0;
	if (dev.closes)
		vmbus_chan_close_done(chan);
}

static int dev_close(struct vmbus_chan *chan)
{
	(void)chan;
	dev.closes++;
	return dev.count ? VMBUS_E_AGAIN : 0;
}

static void start(struct play *p)
{
	memset(&dev, 0, sizeof(dev));
	dev.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	play_prepare(p);
	p->vsp.open = dev_open;
	p->vsp.packets = dev_packets;
	p->vsp.ready = dev_ready;
	p->vsp.close = dev_close;
	must_eq(attach(p, NULL), 0);
	bring_bus(p);
	open_chan(p);
}

static void finish(struct play *p)
{
	play_fini(p);
	close(dev.fd);
}

static void ask(struct play *p, uint64_t id)
{
	const struct vmbus_msg msg = { .id = id,
				       .data = &id,
				       .len = sizeof(id),
				       .type = VMBUS_PKT_INBAND,
				       .flags = VMBUS_PKT_FLAG_COMPLETE };

	must_eq(vmbus_ring_tx_put(&p->tx, &msg, 1), 1);
	must_eq(run(p), 0);
}

static void *ring_later(void *arg)
{
	(void)arg;
	usleep(50000);
	must_eq(eventfd_write(dev.fd, 1), 0);
	return NULL;
}

START_TEST(provider_dispatch__looks_after_the_descriptor_of_a_device)
{
	struct play p;
	struct vmbus_packet pkt;
	uint64_t id;

	start(&p);
	for (id = 1; id <= 20; id++) {
		struct pollfd at = { .fd = vmbus_provider_fd(p.provider), .events = POLLIN };

		ask(&p, id);
		must_eq(vmbus_ring_rx_get(&p.rx, &pkt, 1), 0);
		must(vmbus_ring_rx_arm(&p.rx) >= 0);
		must_eq(poll(&at, 1, 0), 0);
		must_eq(eventfd_write(dev.fd, 1), 0);
		must_eq(poll(&at, 1, 0), 1);
		must_eq(run(&p), 0);
		must_eq(dev.readies, id);
		must_eq(vmbus_ring_rx_get(&p.rx, &pkt, 1), 1);
		must_eq(pkt.id, id);
	}
	finish(&p);
}
END_TEST

/* CLOSED, and YIELDED, come when the device is through, and not before. */
START_TEST(provider_dispatch__closed_when_the_device_is_through)
{
	const struct vmbus__pv_msg close_it = { .type = VMBUS_PV_CLOSE, .bus = 1, .open = 3 };
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	struct play p;

	start(&p);
	ask(&p, 1);
	script_send(p.sock, &close_it);
	must_eq(run(&p), 0);
	must_eq(dev.closes, 1);
	must(!script_take(p.sock, &record, &msg));
	must_eq(eventfd_write(dev.fd, 1), 0);
	must_eq(expect(&p, VMBUS_PV_CLOSED).open, 3);
	must_eq(dev.readies, 1);
	must_eq(eventfd_write(dev.fd, 1), 0); /* it is forgotten */
	must_eq(run(&p), 0);
	must_eq(dev.readies, 1);
	finish(&p);
}
END_TEST

START_TEST(provider_dispatch__gives_way_when_the_device_is_through)
{
	const struct vmbus__pv_msg yield = { .type = VMBUS_PV_YIELD };
	const uint64_t before = vmbus__shm_now_ns();
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	pthread_t thread;
	struct play p;

	start(&p);
	ask(&p, 1);
	script_send(p.sock, &yield);
	must_eq(pthread_create(&thread, NULL, ring_later, NULL), 0);
	must_eq(run(&p), VMBUS_E_PEER);
	must_eq(pthread_join(thread, NULL), 0);
	must(vmbus__shm_now_ns() - before >= 50 * MS);
	must_eq(dev.closes, 1);
	must_eq(dev.readies, 1);
	must(script_take(p.sock, &record, &msg));
	must_eq(msg.type, VMBUS_PV_YIELDED);
	finish(&p);
}
END_TEST

/* The parent is gone, or we leave: what the device has begun is waited for. */
START_TEST(provider_detach__waits_for_the_device)
{
	pthread_t thread;
	struct play p;

	start(&p);
	ask(&p, 1);
	must_eq(pthread_create(&thread, NULL, ring_later, NULL), 0);
	if (_i) {
		close(p.sock);
		p.sock = -1;
		must_eq(run(&p), VMBUS_E_PEER);
		must_eq(dev.readies, 1);
	}
	finish(&p);
	must_eq(pthread_join(thread, NULL), 0);
	must_eq(dev.closes, 1);
	must_eq(dev.readies, 1);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "watched", 30);

	tcase_add_test(tc, provider_dispatch__looks_after_the_descriptor_of_a_device);
	tcase_add_test(tc, provider_dispatch__closed_when_the_device_is_through);
	tcase_add_test(tc, provider_dispatch__gives_way_when_the_device_is_through);
	tcase_add_loop_test(tc, provider_detach__waits_for_the_device, 0, 2);
}

VMBUS_TEST_MAIN("provider.watched", tests)
